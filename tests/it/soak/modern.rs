//! Clients that speak HTTP/2 by prior knowledge, or HTTP/1 over TLS.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::authority::shake_hands;
use crate::raw;
use crate::served::WITHIN;
use crate::soak::clients::Client;
use crate::soak::releases::BASE;

type Sender = SendRequest<Empty<Bytes>>;

impl Client {
    /// Several requests at once on one connection; some are taken back.
    pub(super) fn http2(&mut self) {
        let count = self.dice.within(1..5);
        let mut paths: Vec<_> = (0..count).map(|_| (self.begin().1, self.dice.once_in(4))).collect();
        paths.push(("server.ini".to_owned(), false));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(self.agents).await.unwrap();
            let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
            let connection = tokio::spawn(connection);
            let asked = paths.iter().map(|(path, taken_back)| self.ask(sender.clone(), path, *taken_back));
            tokio::time::timeout(WITHIN, join_all(asked)).await.expect("streams end");
            connection.abort();
        });
    }

    async fn ask(&self, mut sender: Sender, path: &str, taken_back: bool) {
        let request = Request::get(format!("http://relay.test{BASE}{path}")).body(Empty::new()).unwrap();
        let response = match sender.send_request(request).await {
            Ok(response) => response,
            Err(error) => panic!("{path}: {error:?}"),
        };
        let status = response.status();
        self.book.count(format!("answer {} over http/2", status.as_u16()));
        if taken_back {
            return;
        }
        let mut body = Vec::new();
        let mut stream = response.into_body();
        let whole = loop {
            match stream.frame().await {
                Some(Ok(frame)) => body.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
                Some(Err(_)) => break false,
                None => break true,
            }
        };
        self.book.add_bytes(body.len());
        match (status, whole) {
            (StatusCode::OK, true) => assert!(self.releases.is_whole(path, &body), "{path}: wrong bytes"),
            (StatusCode::OK, false) => {
                self.book.count("answer cut over http/2");
                assert!(self.releases.is_start(path, &body), "{path}: wrong bytes before the cut");
            }
            (status, _) => assert!(
                path != "server.ini" && matches!(status.as_u16(), 404 | 502..=504),
                "{path}: {status}"
            ),
        }
    }

    /// One request, read to the end of the connection, which TLS tells from a cut.
    pub(super) fn over_tls(&mut self) {
        let path = if self.dice.once_in(3) { "server.ini".to_owned() } else { self.begin().1 };
        let config = Arc::new(self.authority.client(rustls::DEFAULT_VERSIONS));
        let mut stream = shake_hands(config, self.tls, "127.0.0.1").unwrap();
        if self.dice.once_in(6) {
            return;
        }
        write!(stream, "GET {BASE}{path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n").unwrap();
        let mut bytes = Vec::new();
        let whole = if self.dice.once_in(6) {
            let mut some = vec![0; self.dice.within(1000..100_000)];
            let count = stream.read(&mut some).unwrap_or(0);
            bytes.extend(&some[..count]);
            false
        } else {
            stream.read_to_end(&mut bytes).is_ok()
        };
        let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            assert!(!whole, "{path}: no head: {}", bytes.escape_ascii());
            return;
        };
        let head = String::from_utf8_lossy(&bytes[..at]).to_ascii_lowercase();
        let body = &bytes[at + 4..];
        self.book.add_bytes(body.len());
        let status = head.get(9..12).unwrap_or_default().to_owned();
        self.book.count(format!("answer {status} over tls"));
        let announced = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        match &*status {
            "200" if whole && announced == Some(body.len()) => {
                assert!(self.releases.is_whole(&path, body), "{path}: wrong bytes");
            }
            "200" => {
                self.book.count("answer cut over tls");
                assert!(self.releases.is_start(&path, body), "{path}: wrong bytes before the cut");
            }
            status => assert!(
                path != "server.ini" && matches!(status, "404" | "502" | "503" | "504"),
                "{path}: {head}"
            ),
        }
    }

    /// No handshake at all, or one that stops.
    pub(super) fn tls_garbage(&mut self) {
        let mut connection = raw::Client::connect(self.tls);
        let hello: &[u8] =
            if self.dice.once_in(2) { b"GET / HTTP/1.1\r\n\r\n" } else { b"\x16\x03\x01\x02\x00\x01" };
        let _ = connection.send(hello);
        connection.set_patience(Duration::from_secs(20));
        let (_, end) = connection.read_to_close();
        assert_ne!(end, raw::answer::End::TimedOut, "a handshake is waited for");
    }
}
