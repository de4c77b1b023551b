//! Many streams at once: what they cost, and how soon all are told (issue 8, point 3).
//!
//! `FOREBAY_STREAMS` says how many; 50,000 are to take less than 1 GB, and to be told within 10 s.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use forebay::policy::secret::SecretHash;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use socket2::{Domain, Socket, Type};

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

#[test]
fn many_streams_take_little_and_all_are_told_soon_when_pacing_allows_r9_4() {
    let count: usize = std::env::var("FOREBAY_STREAMS").map_or(2000, |count| count.parse().unwrap());
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let place = Place::new();
    let limits =
        format!("[limits]\nconnections_max = {}\nconnections_per_address_max = {count}\n", count + 100);
    let notices = "[notices]\nunder_way_max = 1000000\nper_sec = 100000\n";
    place.configure("log.access = \"off\"", FIXTURE, &format!("{limits}{notices}"));
    let relay = place.serve_ready();
    let admin = relay.bearer().strip_prefix("Bearer ").unwrap().to_owned();
    fill_tree(&relay, &admin, count);

    let before = resident_bytes(&relay);
    let mut streams: Vec<_> = (0..count).map(|number| listen(relay.agents[0], number)).collect();
    let took = (resident_bytes(&relay) - before).saturating_sub(BESIDES_BYTES) / count as u64;
    println!("{count} streams: {took} bytes each, and {BESIDES_BYTES} besides");
    assert!(took <= STREAM_BYTES_MAX, "a stream takes {took} bytes");

    let begun = Instant::now();
    let (status, update) = post(relay.admin, "/api/v1/updates", &admin, &json!({ "all": true }));
    assert_eq!(status, 201, "{update}");
    for stream in &mut streams {
        hear(stream, "event: update\n");
    }
    let took = begun.elapsed();
    println!("{count} agents told in {took:?}");
    assert!(took < if cfg!(debug_assertions) { WITHIN_UNOPTIMISED } else { WITHIN }, "{took:?}");
    relay.stop();
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

fn resident_bytes(relay: &Served) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", relay.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}
