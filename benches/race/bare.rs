//! A bare hyper loop: the least that an HTTP server on hyper does, so that the race shows what is left to gain above it.
//!
//! `bare FOLDER` keeps the folder's files in memory and answers GET with them and single ranges of them, with one header of its own; it
//! decides, logs and counts nothing.

#![allow(clippy::unwrap_used, reason = "what the race starts may stop like a test")]

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};

/// Files by the path of a request.
type Files = HashMap<String, Bytes>;

fn main() {
    let folder = PathBuf::from(std::env::args_os().nth(1).expect("bare FOLDER"));
    let mut files = Files::new();
    read(&folder, "", &mut files);
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
    runtime.block_on(serve(Rc::new(files)));
}

fn read(folder: &Path, path: &str, files: &mut Files) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{path}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            read(&entry.path(), &path, files);
        } else {
            files.insert(path, std::fs::read(entry.path()).unwrap().into());
        }
    }
}

async fn serve(files: Rc<Files>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("listening on {}", listener.local_addr().unwrap().port());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let files = files.clone();
        tokio::task::spawn_local(async move {
            let service =
                service_fn(|request| std::future::ready(Ok::<_, Infallible>(answer(&request, &files))));
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(Duration::from_mins(10));
            // An error is a connection's end.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn answer(request: &Request<Incoming>, files: &Files) -> Response<Full<Bytes>> {
    let answer = Response::builder().header(header::CONTENT_TYPE, "application/octet-stream");
    let Some(bytes) = files.get(request.uri().path()) else {
        return answer.status(StatusCode::NOT_FOUND).body(Full::default()).unwrap();
    };
    let Some(range) = request.headers().get(header::RANGE) else {
        return answer.body(Full::new(bytes.clone())).unwrap();
    };
    let (first, last) = range.to_str().unwrap().strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let (first, end) = (first.parse().unwrap(), last.parse::<usize>().unwrap() + 1);
    let said = format!("bytes {first}-{last}/{}", bytes.len());
    let answer = answer.status(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, said);
    answer.body(Full::new(bytes.slice(first..end))).unwrap()
}
