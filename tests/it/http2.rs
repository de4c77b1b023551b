//! HTTP/2 by ALPN and by prior knowledge: the same answers, and ends that are as clear (R1.1, R2.3, R3.1).

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use forebay::base::tally::Outcome;
use forebay::config::settings::{Prefetch, Settings};
use forebay::policy::decide::Unknown;
use forebay::policy::scope::Scope;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::authority::Authority;
use crate::origin::Origin;
use crate::origin::fault::{Fault, Gate};
use crate::process::{run, tool};
use crate::raw;
use crate::relay::{Running, settings};
use crate::served::WITHIN;

const FIXTURE: &str = "fixtures/activeupdate";
const MANIFEST: &str = "/activeupdate/server.ini";
const PACKAGE: &str = "/activeupdate/pattern/vsapi329.zip";

type Sender = SendRequest<Full<Bytes>>;
type Connected = tokio::task::JoinHandle<hyper::Result<()>>;

async fn connect(address: SocketAddr) -> (Sender, Connected) {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    (sender, tokio::spawn(connection))
}

fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(format!("http://relay.test{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::default()).unwrap()
}

async fn ask(sender: &mut Sender, request: Request<Full<Bytes>>) -> (Response<()>, Bytes) {
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    (Response::from_parts(head, ()), body.collect().await.unwrap().to_bytes())
}

fn within<F: Future>(client: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(WITHIN, client).await.expect("it took too long") })
}

#[test]
fn answers_are_those_of_http_1_ranges_head_conditions_and_failures_alike_r3_1() {
    let relay = Running::refreshed(settings(FIXTURE));
    let whole = raw::fetch(relay.v4(), PACKAGE, &[]);
    let etag = whole.head.header("etag").unwrap().to_owned();
    let whole = whole.whole(200);
    let size = whole.len().to_string();
    within(async {
        let (mut sender, connection) = connect(relay.v4()).await;
        let sent = |headers: &[(&str, &str)]| request("GET", PACKAGE, headers);
        let (head, body) = ask(&mut sender, sent(&[])).await;
        assert_eq!((head.status(), &body[..]), (StatusCode::OK, &whole[..]));
        assert_eq!(head.headers()["etag"], etag);
        let (head, body) = ask(&mut sender, sent(&[("range", "bytes=5-9")])).await;
        assert_eq!((head.status(), &body[..]), (StatusCode::PARTIAL_CONTENT, &whole[5..10]));
        let (head, body) = ask(&mut sender, sent(&[("range", "bytes=0-1,4-5")])).await;
        assert_eq!(head.headers()["content-length"], body.len().to_string());
        let (head, body) = ask(&mut sender, sent(&[("if-none-match", &etag)])).await;
        assert_eq!((head.status(), body.len()), (StatusCode::NOT_MODIFIED, 0));
        let (head, body) = ask(&mut sender, request("HEAD", PACKAGE, &[])).await;
        assert_eq!((head.headers()["content-length"].to_str().unwrap(), body.len()), (size.as_str(), 0));
        let (head, body) = ask(&mut sender, request("HEAD", "/activeupdate/none", &[])).await;
        assert_eq!((head.status(), body.len()), (StatusCode::NOT_FOUND, 0));
        for (refused, status) in [
            (request("GET", "/activeupdate/none", &[]), 404),
            (request("GET", "/activeupdate/a%2Fb", &[]), 400),
            (request("DELETE", PACKAGE, &[]), 405),
            (sent(&[("host", "other.test")]), 400),
            (sent(&[("range", "bytes=999999999-")]), 416),
            (request("GET", PACKAGE, &[]).map(|_| Full::from("a body")), 400),
        ] {
            let (head, _) = ask(&mut sender, refused).await;
            assert_eq!(head.status(), status);
            assert!(!head.headers().contains_key("connection"));
        }
        let (head, _) = ask(&mut sender, sent(&[("host", "RELAY.test")])).await;
        assert_eq!(head.status(), StatusCode::OK);
        drop(sender);
        connection.await.unwrap().unwrap();
    });
    relay.stop();
}

#[test]
fn a_hundred_requests_at_once_on_one_connection_get_whole_files_r2_1() {
    let relay = Running::refreshed(settings(FIXTURE));
    let whole = raw::fetch(relay.v6(), PACKAGE, &[]).whole(200);
    within(async {
        let (sender, _connection) = connect(relay.v6()).await;
        let asked = (0..100).map(|_| {
            let mut sender = sender.clone();
            tokio::spawn(async move { ask(&mut sender, request("GET", PACKAGE, &[])).await })
        });
        for asked in asked.collect::<Vec<_>>() {
            let (head, body) = asked.await.unwrap();
            assert!(head.status() == StatusCode::OK && body == whole);
        }
    });
    relay.stop();
}

#[test]
fn a_body_that_breaks_ends_in_a_reset_of_its_stream_alone_r2_3() {
    let origin = Origin::start(FIXTURE.as_ref());
    let mut settings = settings(&origin.url("/"));
    settings.trees[0].prefetch = Prefetch::None;
    settings.fill.attempts = 1;
    settings.fill.silence = Duration::from_millis(300);
    let relay = Running::refreshed(settings);
    origin.always("/pattern/vsapi329.zip", Fault::StallAfter(1000, Gate::default()));
    within(async {
        let (mut sender, _connection) = connect(relay.v4()).await;
        let response = sender.send_request(request("GET", PACKAGE, &[])).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let mut body = response.into_body();
        let error = loop {
            match body.frame().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => break error,
                None => panic!("a clean end"),
            }
        };
        assert!(format!("{error:?}").contains("Reset"), "{error:?}");
        let (head, _) = ask(&mut sender, request("GET", MANIFEST, &[])).await;
        assert_eq!(head.status(), StatusCode::OK);
    });
    relay.stop();
}

#[test]
fn a_scope_refuses_as_it_does_over_http_1_r6_2() {
    let mut settings = settings(FIXTURE);
    settings.agents.unknown = Unknown::Scope(Scope::Patterns);
    let mut relay = Running::refreshed(settings);
    let tally = relay.handle().tally().unwrap();
    let address = relay.v4();
    let refused = "/activeupdate/program/none.zip";
    assert_eq!(raw::fetch(address, refused, &[]).head.status, 403);
    within(async {
        let (mut sender, _connection) = connect(address).await;
        for method in ["GET", "HEAD"] {
            assert_eq!(
                ask(&mut sender, request(method, refused, &[])).await.0.status(),
                StatusCode::FORBIDDEN
            );
        }
        let (head, body) = ask(&mut sender, request("GET", MANIFEST, &[])).await;
        assert_eq!(head.status(), StatusCode::OK);
        assert_eq!(body, raw::fetch(address, MANIFEST, &[]).whole(200));
    });
    relay.stop();
    assert_eq!(tally.requests(Outcome::Refused), 3);
}

fn soon() -> Settings {
    let mut settings = settings(FIXTURE);
    settings.limits.head_timeout = Duration::from_millis(400);
    settings.limits.stall_timeout = Duration::from_millis(400);
    settings
}

#[test]
fn a_connection_that_asks_for_nothing_or_takes_nothing_is_ended() {
    let relay = Running::refreshed(soon());
    within(async {
        let (mut idle, connection) = connect(relay.v4()).await;
        ask(&mut idle, request("GET", MANIFEST, &[])).await;
        connection.await.unwrap().unwrap();

        let stream = tokio::net::TcpStream::connect(relay.v4()).await.unwrap();
        let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(10);
        let (mut narrow, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let request =
            Request::get(format!("http://relay.test{PACKAGE}")).body(Empty::<Bytes>::new()).unwrap();
        let response = narrow.send_request(request).await.unwrap();
        // Nothing of the body is taken, and pings are answered all the while.
        let _ = connection.await.unwrap();
        assert!(response.into_body().collect().await.is_err());
    });
    relay.stop();
}

#[test]
fn a_relay_that_stops_lets_streams_end() {
    let relay = Running::refreshed(settings(FIXTURE));
    let expected = raw::fetch(relay.v4(), PACKAGE, &[]).whole(200);
    let address = relay.v4();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut sender = runtime.block_on(connect(address)).0;
    let response = runtime.block_on(sender.send_request(request("GET", PACKAGE, &[]))).unwrap();
    let body = runtime.spawn(response.into_body().collect());
    relay.stop();
    assert_eq!(runtime.block_on(body).unwrap().unwrap().to_bytes(), expected);
}

#[test]
fn curl_speaks_it_by_prior_knowledge_and_by_alpn() {
    let Some(curl) = tool("curl") else { return };
    let authority = Authority::new();
    let mut settings = settings(FIXTURE);
    settings.tls.listen = vec!["127.0.0.1:0".parse().unwrap()];
    settings.tls.certificates = vec![authority.sign("relay", &["127.0.0.1"]).0];
    let mut relay = Running::refreshed(settings);
    let secure = relay.handle().running().tls[0];
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let expected = fs::read(PACKAGE.replace("/activeupdate", FIXTURE)).unwrap();
    for (how, url) in [
        ("--http2-prior-knowledge", format!("http://{}{PACKAGE}", relay.v4())),
        ("--http2", format!("https://{secure}{PACKAGE}")),
    ] {
        let mut command = Command::new(&curl);
        command.args(["-sS", "--fail", "--noproxy", "*", how, "-w", "%{http_version}"]);
        command.arg("--cacert").arg(authority.file()).arg("-o").arg(&out).arg(url);
        assert_eq!(run(&mut command, WITHIN).succeeded().stdout.trim(), "2");
        assert!(fs::read(&out).unwrap() == expected);
    }
    relay.stop();
}
