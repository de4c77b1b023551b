//! Each fault of an origin as a client sees it: a fault that could not be seen would test nothing.

use std::fs;
use std::time::Duration;

use tempfile::TempDir;

use super::answer::Validators;
use super::fault::{Fault, Gate};
use super::seen::Ending;
use super::{Origin, process};
use crate::raw::answer::{Answer, End, content_range};
use crate::raw::{Client, PATIENCE, fetch};

const PATH: &str = "/activeupdate/pattern/a%20b.zip";
const LENGTH: usize = 300_000;

struct Ground {
    origin: Origin,
    dir: TempDir,
    bytes: Vec<u8>,
}

/// An origin with one file longer than what sockets hold.
fn ground() -> Ground {
    let (dir, bytes) = folder();
    Ground { origin: Origin::start(dir.path()), dir, bytes }
}

fn folder() -> (TempDir, Vec<u8>) {
    let dir = TempDir::new().unwrap();
    let bytes: Vec<u8> = (0_u32..).flat_map(u32::to_le_bytes).take(LENGTH).collect();
    fs::create_dir_all(dir.path().join("activeupdate/pattern")).unwrap();
    fs::write(dir.path().join("activeupdate/pattern/a b.zip"), &bytes).unwrap();
    (dir, bytes)
}

impl Ground {
    /// A GET of the file after this fault was scripted, on a connection of its own.
    fn with(&self, fault: Fault, headers: &[(&str, &str)]) -> Answer {
        self.origin.script(PATH, fault);
        self.plain(headers)
    }

    fn plain(&self, headers: &[(&str, &str)]) -> Answer {
        fetch(self.origin.address(), PATH, headers)
    }

    fn written(&self) -> u64 {
        self.origin.seen().body_bytes(PATH)
    }
}

#[test]
fn without_faults_it_serves_whole_files_ranges_and_conditions() {
    let ground = ground();
    let mut client = Client::connect(ground.origin.address());
    let whole = client.exchange("GET", PATH, &[]).unwrap();
    let etag = whole.head.header("etag").unwrap().to_owned();
    let date = whole.head.header("last-modified").unwrap().to_owned();
    assert!(whole.whole(200) == ground.bytes);
    let head = client.exchange("HEAD", PATH, &[]).unwrap();
    assert_eq!(head.head.header("content-length"), Some(LENGTH.to_string().as_str()));
    assert_eq!(head.whole(200), b"");
    for (range, span) in
        [("0-0", 0..1), ("299990-", 299_990..LENGTH), ("-7", LENGTH - 7..LENGTH), ("5-999999", 5..LENGTH)]
    {
        let part = client.exchange("GET", PATH, &[("Range", &format!("bytes={range}"))]).unwrap();
        let place = content_range(part.head.header("content-range").unwrap());
        assert_eq!(place, Some((span.start, span.end, LENGTH)));
        assert!(part.whole(206) == ground.bytes[span]);
    }
    let beyond = client.exchange("GET", PATH, &[("Range", "bytes=300000-")]).unwrap();
    assert_eq!(beyond.head.header("content-range"), Some("bytes */300000"));
    beyond.whole(416);
    for (header, value) in [("If-None-Match", etag.as_str()), ("If-Modified-Since", &date)] {
        client.exchange("GET", PATH, &[(header, value)]).unwrap().whole(304);
    }
    for (validator, status) in [(etag.as_str(), 206), (&date, 206), ("\"other\"", 200)] {
        client
            .exchange("GET", PATH, &[("Range", "bytes=1-2"), ("If-Range", validator)])
            .unwrap()
            .whole(status);
    }
    client.exchange("GET", "/activeupdate/../secret", &[]).unwrap().whole(404);
    client.exchange("GET", "/none", &[]).unwrap().whole(404);
    let seen = ground.origin.seen();
    assert_eq!((seen.connections, seen.requests.len()), (1, 14));
    assert!(seen.requests.iter().all(|request| request.connection == 1));
    ground
        .origin
        .wait_for("all sent", |seen| seen.requests.iter().all(|request| request.end == Ending::Sent));
    assert_eq!(seen.requests[1].method, "HEAD");
    assert_eq!(seen.requests[2].range(), Some("bytes=0-0"));
    assert_eq!((seen.requests[2].status, seen.requests[2].body_bytes), (206, 1));
    assert_eq!(seen.body_bytes(PATH), (2 * LENGTH + 1 + 10 + 7 + LENGTH - 5 + 2 + 2) as u64);
    assert!(seen.body_bytes_total() > seen.body_bytes(PATH), "the 404s have bodies too");
}

#[test]
fn validators_are_those_asked_for() {
    let ground = ground();
    for (validators, etag, date) in [
        (Validators::Strong, Some('"'), true),
        (Validators::Weak, Some('W'), false),
        (Validators::Date, None, true),
        (Validators::None, None, false),
    ] {
        ground.origin.set_validators(validators);
        let head = ground.plain(&[]).head;
        assert_eq!(head.header("etag").and_then(|etag| etag.chars().next()), etag);
        assert_eq!(head.header("last-modified").is_some(), date);
        if let Some(etag) = head.header("etag") {
            let status = if validators == Validators::Strong { 206 } else { 200 };
            ground.plain(&[("Range", "bytes=0-1"), ("If-Range", etag)]).whole(status);
        }
    }
}

#[test]
fn a_reset_comes_after_exactly_so_many_bytes_have_arrived() {
    let ground = ground();
    for count in [0, 1, 100_000, 250_000] {
        let before = ground.written();
        let answer = ground.with(Fault::ResetAfter(count), &[]);
        assert_eq!((answer.end, answer.body.len()), (End::Reset, count));
        assert!(answer.body == ground.bytes[..count]);
        assert_eq!(ground.written() - before, count as u64);
    }
    ground.origin.wait_for("all broken off", |seen| {
        seen.requests.iter().all(|request| request.end == Ending::BrokenOff)
    });
    assert!(ground.plain(&[]).whole(200) == ground.bytes, "a scripted fault is spent by one request");
}

#[test]
fn a_close_comes_after_exactly_so_many_bytes() {
    let ground = ground();
    let answer = ground.with(Fault::CloseAfter(100_000), &[]);
    assert_eq!((answer.end, answer.body.len()), (End::Short, 100_000));
    assert_eq!(ground.written(), 100_000);
}

#[test]
fn a_stall_holds_until_its_gate_opens() {
    let ground = ground();
    let (head_gate, body_gate) = (Gate::default(), Gate::default());
    let faults = vec![Fault::StallBeforeHead(head_gate.clone()), Fault::StallAfter(1000, body_gate.clone())];
    ground.origin.script_together(PATH, faults);
    let mut client = Client::connect(ground.origin.address());
    client.ask("GET", PATH, &[]).unwrap();
    head_gate.wait_reached();
    assert_eq!(ground.origin.wait_for_requests(PATH, 1).requests[0].status, 0);
    client.set_patience(Duration::from_millis(20));
    assert_eq!(client.read_head("GET").unwrap_err(), End::TimedOut);
    head_gate.open();
    client.set_patience(PATIENCE);
    client.read_head("GET").unwrap();
    assert_eq!(client.read(1000).0.len(), 1000);
    body_gate.wait_reached();
    assert_eq!(ground.origin.wait_for_bytes(PATH, 1000).body_bytes(PATH), 1000);
    client.set_patience(Duration::from_millis(20));
    assert_eq!(client.read(1), (vec![], Some(End::TimedOut)));
    body_gate.open();
    client.set_patience(PATIENCE);
    let (rest, end) = client.read(usize::MAX);
    assert_eq!((rest.len(), end), (LENGTH - 1000, Some(End::Complete)));
}

#[test]
fn an_origin_that_is_dropped_lets_go_of_all_it_holds() {
    let ground = ground();
    let gate = Gate::default();
    ground.origin.script(PATH, Fault::StallBeforeHead(gate.clone()));
    ground.origin.script(PATH, Fault::Drip { every: Duration::from_hours(1) });
    let address = ground.origin.address();
    let mut clients: Vec<_> = (0..3).map(|_| Client::connect(address)).collect();
    clients[0].ask("GET", PATH, &[]).unwrap();
    gate.wait_reached();
    clients[1].ask("GET", PATH, &[]).unwrap();
    ground.origin.wait_for_bytes(PATH, 1);
    ground.origin.wait_for("three connections", |seen| seen.connections == 3);
    drop(ground);
    for mut client in clients {
        let (_, end) = client.read_to_close();
        assert!(matches!(end, End::Closed | End::Reset), "{end:?}");
    }
    assert!(std::net::TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[test]
fn statuses_pages_and_redirects_are_answered_as_told() {
    let ground = ground();
    ground.with(Fault::Status(503), &[]).whole(503);
    ground.with(Fault::Status(304), &[]).whole(304);
    let page = ground.with(Fault::Html, &[("Range", "bytes=5-")]);
    assert_eq!(page.head.header("content-type"), Some("text/html"));
    assert!(page.whole(200).starts_with(b"<!doctype html>"));
    ground.origin.always(PATH, Fault::Redirect(ground.origin.url(PATH)));
    for _ in 0..2 {
        let answer = ground.plain(&[]);
        assert_eq!(answer.head.header("location"), Some(ground.origin.url(PATH).as_str()));
        answer.whole(302);
    }
    ground.origin.behave();
    ground.plain(&[]).whole(200);
    ground.origin.always("*", Fault::Status(500));
    ground.plain(&[]).whole(500);
}

#[test]
fn a_wrong_length_is_too_long_or_too_short() {
    let ground = ground();
    let long = ground.with(Fault::WrongLength { declared: LENGTH + 1 }, &[]);
    assert_eq!((long.end, long.body.len()), (End::Short, LENGTH));
    let short = ground.with(Fault::WrongLength { declared: 10 }, &[]);
    assert_eq!((short.end, short.body.len()), (End::Complete, 10));
    let seen = ground.origin.wait_for("the end of both", |seen| {
        seen.requests.len() == 2 && seen.requests.iter().all(|request| request.end != Ending::Open)
    });
    assert!(seen.requests[1].body_bytes > 10, "more was sent than declared");
}

#[test]
fn ranges_are_ignored_or_misnamed() {
    let ground = ground();
    let answer = ground.with(Fault::NoRange, &[("Range", "bytes=5-9")]);
    assert_eq!(answer.head.header("accept-ranges"), Some("none"));
    assert!(answer.whole(200) == ground.bytes);
    let answer = ground.with(Fault::WrongContentRange, &[("Range", "bytes=5-9")]);
    assert_eq!(answer.head.header("content-range"), Some("bytes 6-10/300000"));
    assert!(answer.whole(206) == ground.bytes[5..10]);
}

#[test]
fn a_change_stays_and_has_a_validator_of_its_own() {
    let ground = ground();
    let first = ground.plain(&[]).head;
    let etag = first.header("etag").unwrap();
    let partial = ground.with(Fault::ChangedFrom(200_000), &[("Range", "bytes=1-2"), ("If-Range", etag)]);
    assert_ne!(partial.head.header("etag").unwrap(), etag);
    assert_ne!(partial.head.header("last-modified"), first.header("last-modified"));
    partial.whole(200);
    let again = ground.plain(&[("If-None-Match", etag)]).whole(200);
    assert!(again[..200_000] == ground.bytes[..200_000]);
    assert!(again[200_000..].iter().zip(&ground.bytes[200_000..]).all(|(new, old)| new != old));
}

#[test]
fn chunks_pace_and_compression_are_seen() {
    let ground = ground();
    let chunked = ground.with(Fault::Chunked, &[]);
    assert_eq!(chunked.head.header("content-length"), None);
    assert!(chunked.whole(200) == ground.bytes);
    assert_eq!(ground.written(), LENGTH as u64, "framing is not counted");
    ground.origin.script_together(PATH, vec![Fault::Chunked, Fault::CloseAfter(70_000)]);
    let broken = ground.plain(&[]);
    assert_eq!((broken.end, broken.body.len()), (End::Short, 70_000));

    let begun = std::time::Instant::now();
    ground.with(Fault::Throttle { bytes_per_sec: 3_000_000 }, &[]).whole(200);
    assert!(begun.elapsed() >= Duration::from_millis(90), "{:?}", begun.elapsed());
    let begun = std::time::Instant::now();
    let every = Duration::from_millis(2);
    ground.with(Fault::Drip { every }, &[("Range", "bytes=0-9")]).whole(206);
    assert!(begun.elapsed() >= every * 9, "{:?}", begun.elapsed());

    let packed = ground.with(Fault::ContentEncodingGzip, &[]);
    assert_eq!(packed.head.header("content-encoding"), Some("gzip"));
    assert!(packed.whole(200).starts_with(&[0x1f, 0x8b]));
}

#[test]
fn curl_reads_what_the_origin_packs() {
    let Some(curl) = process::tool("curl") else { return };
    let ground = ground();
    let target = ground.dir.path().join("got");
    ground.origin.script(PATH, Fault::ContentEncodingGzip);
    let mut command = std::process::Command::new(curl);
    command.args(["-sSf", "--compressed", "-o"]).arg(&target).arg(ground.origin.url(PATH));
    process::run(&mut command, Duration::from_secs(30)).succeeded();
    assert!(fs::read(target).unwrap() == ground.bytes);
    assert!(ground.origin.seen().requests[0].header("user-agent").unwrap().starts_with("curl"));
}

#[test]
fn garbage_is_not_http() {
    let ground = ground();
    ground.origin.script(PATH, Fault::GarbageHead);
    let ended = Client::connect(ground.origin.address()).exchange("GET", PATH, &[]);
    assert!(matches!(ended, Err(End::Malformed(_))), "{ended:?}");
}

#[test]
fn a_client_that_leaves_is_noted() {
    let ground = ground();
    ground.origin.script(PATH, Fault::Throttle { bytes_per_sec: 1_000_000 });
    let mut client = Client::connect(ground.origin.address());
    assert!(client.local_address().ip().is_loopback());
    client.ask("GET", PATH, &[("Connection", "close")]).unwrap();
    client.read_head("GET").unwrap();
    client.read(100);
    client.reset();
    let seen = ground.origin.wait_for("the end", |seen| seen.requests[0].end == Ending::ClientLeft);
    assert!(seen.body_bytes(PATH) < LENGTH as u64);

    let mut client = Client::connect(ground.origin.address());
    client.send(format!("GET {PATH} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
    client.shut_write();
    client.answer("GET").unwrap().whole(200);
    assert_eq!(client.read_to_close(), (vec![], End::Closed), "a client of 1.0 gets one answer");
}

#[test]
fn it_listens_on_ipv6_too() {
    let (dir, bytes) = folder();
    let Some(origin) = Origin::start_v6(dir.path()) else { return };
    assert!(origin.address().is_ipv6());
    assert!(fetch(origin.address(), PATH, &[]).whole(200) == bytes);
    origin.script(PATH, Fault::ResetAfter(200_000));
    assert_eq!(fetch(origin.address(), PATH, &[]).body.len(), 200_000);
}
