//! Many streams at once: what they cost, and how soon all are told (issue 8, point 3).
//!
//! `FOREBAY_STREAMS` says how many; 50,000 are to take less than 1 GB, and to be told within 10 s. Over HTTP/1 each has a connection, so that
//! there are no more of them than a process may open files; over HTTP/2 as many as a relay allows share one.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use forebay::policy::secret::SecretHash;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use socket2::{Domain, Socket, Type};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{SECRET, post, token};
use crate::served::{FIXTURE, Place, Served};

/// For all to be told.
const WITHIN: Duration = Duration::from_secs(10);

/// For all of a relay without optimisation, beside other tests.
const WITHIN_UNOPTIMISED: Duration = Duration::from_mins(1);

/// What a stream may take of the relay's memory: 50,000 in 1 GB.
const STREAM_BYTES_MAX: u64 = 1_000_000_000 / 50_000;

/// What the relay may take besides, with its threads' first buffers.
const BESIDES_BYTES: u64 = 40 << 20;

/// Streams on one connection of HTTP/2, as a relay allows by default.
const SHARING: usize = 100;

/// Files that a process has beside its connections.
const OTHER_FILES: usize = 300;

#[test]
fn many_streams_take_little_and_all_are_told_soon_when_pacing_allows_r9_4() {
    let files = raise_files();
    let count = count().min(files.saturating_sub(OTHER_FILES));
    let crowd = Crowd::start(count);
    let mut streams: Vec<_> = (0..count).map(|number| listen(crowd.relay.agents[0], number)).collect();
    crowd.check("HTTP/1", || {
        for stream in &mut streams {
            hear(stream, "event: update\n");
        }
    });
    drop(streams);
    crowd.relay.stop();
}

#[test]
fn many_streams_that_share_connections_take_little_too_and_are_told_as_soon_r9_4() {
    raise_files();
    let count = count();
    let crowd = Crowd::start(count);
    let address = crowd.relay.agents[0];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut told = runtime.block_on(async {
        let ((to_held, mut held), (to_told, told)) = (unbounded_channel(), unbounded_channel());
        for first in (0..count).step_by(SHARING) {
            let numbers = first..count.min(first + SHARING);
            let (many, sender) = (numbers.len(), connect(address).await);
            for number in numbers {
                tokio::spawn(listen_shared(sender.clone(), number, to_held.clone(), to_told.clone()));
            }
            wait_for(&mut held, many).await;
        }
        told
    });
    crowd.check("HTTP/2", || runtime.block_on(wait_for(&mut told, count)));
    drop(runtime);
    crowd.relay.stop();
}

fn count() -> usize {
    std::env::var("FOREBAY_STREAMS").map_or(2000, |count| count.parse().unwrap())
}

/// Lets this process, and the relay that it starts, open as many files as it may; gives how many.
fn raise_files() -> usize {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    limit.maximum.map_or(usize::MAX, |most| usize::try_from(most).unwrap())
}

/// A relay that knows so many agents and has nobody listening yet.
struct Crowd {
    _place: Place,
    relay: Served,
    admin: String,
    count: usize,
    before_bytes: u64,
}

impl Crowd {
    fn start(count: usize) -> Self {
        let place = Place::new();
        let limits =
            format!("[limits]\nconnections_max = {}\nconnections_per_address_max = {count}\n", count + 100);
        let notices = "[notices]\nunder_way_max = 1000000\nper_sec = 100000\n";
        place.configure("log.access = \"off\"", FIXTURE, &format!("{limits}{notices}"));
        let relay = place.serve_ready();
        let admin = relay.bearer().strip_prefix("Bearer ").unwrap().to_owned();
        fill_tree(&relay, &admin, count);
        let before_bytes = resident_bytes(&relay);
        Self { _place: place, relay, admin, count, before_bytes }
    }

    /// All listen: they took little, and are told soon.
    fn check(&self, over: &str, wait_until_told: impl FnOnce()) {
        let Self { relay, count, .. } = self;
        let more = resident_bytes(relay) - self.before_bytes;
        let took = more.saturating_sub(BESIDES_BYTES) / *count as u64;
        println!("{count} streams over {over}: {more} bytes; {took} each, and {BESIDES_BYTES} besides");
        assert!(took <= STREAM_BYTES_MAX, "a stream takes {took} bytes");

        let begun = Instant::now();
        let (status, update) = post(relay.admin, "/api/v1/updates", &self.admin, &json!({ "all": true }));
        assert_eq!(status, 201, "{update}");
        wait_until_told();
        let took = begun.elapsed();
        println!("{count} agents told over {over} in {took:?}");
        assert!(took < if cfg!(debug_assertions) { WITHIN_UNOPTIMISED } else { WITHIN }, "{took:?}");
    }
}

/// Puts so many agents into the agent tree.
fn fill_tree(relay: &Served, admin: &str, count: usize) {
    let hash = SecretHash::of(SECRET.as_bytes()).to_string();
    let mut text = "[[domain]]\npath = \"all\"\n".to_owned();
    for number in 0..count {
        let _ = write!(text, "[[agent]]\nid = \"a{number}\"\ndomain = \"all\"\nsecret_hash = \"{hash}\"\n");
    }
    let head = format!(
        "POST /api/v1/agent-tree HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {admin}\r\nContent-Type: application/toml\r\nIf-Match: \"0\"\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        relay.admin,
        text.len()
    );
    let mut stream = TcpStream::connect(relay.admin).unwrap();
    stream.write_all((head + &text).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// Holds the stream of an agent, and has heard its first event.
fn listen(address: SocketAddr, number: usize) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // An address has some thousand ports to call from.
    let source = Ipv4Addr::new(127, 0, 2, u8::try_from(number / 10_000).unwrap() + 1);
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&address.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(WITHIN_UNOPTIMISED)).unwrap();
    let head = format!(
        "GET /api/v1/agent/events HTTP/1.1\r\nHost: r\r\nAuthorization: Bearer {}\r\n\r\n",
        token(&format!("a{number}"))
    );
    stream.write_all(head.as_bytes()).unwrap();
    hear(&mut stream, "event: hello\n");
    stream
}

/// Reads until these words have come.
fn hear(stream: &mut TcpStream, words: &str) {
    let mut heard = String::new();
    while !heard.contains(words) {
        let mut bytes = [0; 512];
        let count = stream.read(&mut bytes).unwrap();
        assert!(count > 0, "{heard}");
        heard += str::from_utf8(&bytes[..count]).unwrap();
    }
}

/// A connection of HTTP/2.
async fn connect(address: SocketAddr) -> SendRequest<Empty<Bytes>> {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// Holds the stream of an agent on a connection, says that it is held, and that it was told. A stream that ends says nothing more, which
/// whoever waits for it finds out in time.
async fn listen_shared(
    mut sender: SendRequest<Empty<Bytes>>,
    number: usize,
    held: UnboundedSender<()>,
    told: UnboundedSender<()>,
) {
    let request = Request::get("http://r/api/v1/agent/events")
        .header("authorization", format!("Bearer {}", token(&format!("a{number}"))))
        .body(Empty::new())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let (mut body, mut heard) = (response.into_body(), String::new());
    let mut waits_for = [("event: hello\n", held), ("event: update\n", told)].into_iter().peekable();
    while let Some(Ok(frame)) = body.frame().await {
        heard += str::from_utf8(frame.data_ref().unwrap()).unwrap();
        while let Some((_, to)) = waits_for.next_if(|(words, _)| heard.contains(words)) {
            to.send(()).unwrap();
        }
    }
}

/// Waits until so many have said it.
async fn wait_for(said: &mut UnboundedReceiver<()>, count: usize) {
    let all = async {
        for _ in 0..count {
            said.recv().await.unwrap();
        }
    };
    tokio::time::timeout(WITHIN_UNOPTIMISED, all).await.expect("it took too long");
}

fn resident_bytes(relay: &Served) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", relay.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}
