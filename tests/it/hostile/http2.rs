//! HTTP/2 clients that flood, lie about lengths, take single bytes, or speak nonsense (CVE-2019-9511 to 9518, CVE-2023-44487).

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::frames::{
    ACK, CONTINUATION, Came, DATA, END_HEADERS, END_STREAM, Framed, GOAWAY, HEADERS, PING, PREFACE, PRIORITY,
    PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, head, length, reason, request, setting,
};
use super::{MANIFEST, PACKAGE, resident_bytes, serve, served_in, wait_quiet};
use crate::authority::{Authority, shake_hands};
use crate::raw;
use crate::served::Served;

/// More than any bound, and still sent in a moment.
const FLOOD: usize = 200_000;

/// What a client may make the relay hold for a while, in bytes.
const MEMORY: u64 = 96 << 20;

/// Settings' numbers (RFC 9113 section 6.5.2).
const INITIAL_WINDOW: u16 = 4;

const DEADLINES: &str = "[limits]\nhead_timeout_secs = 2\nstall_timeout_secs = 2";

fn odd(round: u32) -> u32 {
    2 * round + 1
}

fn status(frames: &[Came], stream: u32) -> Option<u8> {
    // An indexed status of the static table, or a literal one: its first byte tells them apart well enough.
    let head = frames.iter().find(|frame| frame.kind == HEADERS && frame.stream == stream)?;
    Some(head.payload[0])
}

/// The static table's `:status 200`.
const OK: u8 = 0x88;

/// Bytes of one round of a flood, by its number.
type Round = Box<dyn Fn(u32) -> Vec<u8>>;

/// Every flood: its name, and its rounds.
fn floods() -> Vec<(&'static str, Round)> {
    let same = |bytes: Vec<u8>| -> Round { Box::new(move |_| bytes.clone()) };
    vec![
        ("settings", same(frame(SETTINGS, 0, 0, &[]))),
        ("settings that change", Box::new(|round| frame(SETTINGS, 0, 0, &setting(INITIAL_WINDOW, round)))),
        ("pings", same(frame(PING, 0, 0, &[7; 8]))),
        ("answers to no ping", same(frame(PING, ACK, 0, &[7; 8]))),
        ("priorities", Box::new(|round| frame(PRIORITY, 0, odd(round), &[0, 0, 0, 0, 9]))),
        ("window updates", same(frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes()))),
        ("frames of no type", same(frame(0x77, 0, 0, &[1; 100]))),
        (
            "resets before requests",
            Box::new(|round| {
                [request(odd(round), MANIFEST), frame(RST_STREAM, 0, odd(round), &8u32.to_be_bytes())]
                    .concat()
            }),
        ),
        (
            "empty data",
            Box::new(|round| match round {
                0 => frame(HEADERS, END_HEADERS, 1, &head(MANIFEST)),
                _ => frame(DATA, 0, 1, &[]),
            }),
        ),
        (
            "continuations",
            Box::new(|round| match round {
                0 => frame(HEADERS, END_STREAM, 1, &head(MANIFEST)),
                _ => frame(CONTINUATION, 0, 1, &[]),
            }),
        ),
        (
            "continuations with fields",
            Box::new(|round| match round {
                0 => frame(HEADERS, END_STREAM, 1, &head(MANIFEST)),
                _ => frame(CONTINUATION, 0, 1, &[&[0, 1, b'a'][..], &length(8000), &[b'v'; 8000]].concat()),
            }),
        ),
    ]
}

/// The relay is as it was: nobody is connected, agents are served, and little is held.
fn is_well(relay: &Served, before: u64, what: &str) {
    served_in(relay);
    wait_quiet(relay);
    let held = resident_bytes(relay).saturating_sub(before);
    assert!(held < MEMORY, "{what}: {} MiB more than before", held >> 20);
}

#[test]
fn a_flood_of_any_frames_is_ended_soon_and_costs_little_while_agents_are_served() {
    let (_place, relay) = serve("", DEADLINES);
    served_in(&relay);
    let before = resident_bytes(&relay);
    for (what, round) in floods() {
        let began = Instant::now();
        let mut client = Framed::connect(relay.agents[0], &[]);
        let sent = client.flood(FLOOD, round);
        assert!(sent < FLOOD, "{what}: all were taken");
        client.rest();
        is_well(&relay, before, what);
        assert!(began.elapsed() < Duration::from_secs(20), "{what}: {:?}", began.elapsed());
    }
    assert!(relay.metric("forebay_http2_floods_total") >= 6);
    relay.stop();
}

#[test]
fn requests_taken_back_once_they_are_begun_are_a_flood_too() {
    let (_place, relay) = serve("", DEADLINES);
    let mut client = Framed::connect(relay.agents[0], &setting(INITIAL_WINDOW, 0));
    let mut taken_back = 0;
    let ended = (0..20_000).map(odd).any(|stream| {
        taken_back += 1;
        let begun = client.send(&request(stream, MANIFEST)).is_ok()
            && loop {
                // The answer's head shows that the request was begun.
                match client.next() {
                    Some(frame) if frame.kind == HEADERS => break true,
                    Some(_) => {}
                    None => break false,
                }
            };
        !begun || client.send(&frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())).is_err()
    });
    // On a machine so slow that a thousand take a second, it is no flood.
    assert!(ended || relay.metric("forebay_http2_floods_total") == 0, "{taken_back}");
    drop(client);
    wait_quiet(&relay);
    relay.stop();
}

#[test]
fn floods_within_tls_are_ended_alike() {
    let authority = Authority::new();
    let (files, _) = authority.sign("relay", &["relay.test"]);
    let tls = format!(
        "{DEADLINES}\n[tls]\nlisten = \"127.0.0.1:0\"\n[[tls.certificate]]\nchain = {:?}\nkey = {:?}\n",
        files.chain, files.key
    );
    let (_place, relay) = serve("", &tls);
    let line = relay.wait_line("agents, TLS");
    let port: u16 = line.split("127.0.0.1:").nth(1).unwrap().split('/').next().unwrap().parse().unwrap();
    let mut config = authority.client(rustls::DEFAULT_VERSIONS);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let config = Arc::new(config);
    for (what, round) in floods() {
        let stream = shake_hands(config.clone(), ([127, 0, 0, 1], port).into(), "relay.test").unwrap();
        let mut client = Framed::over(stream);
        client.begin(&[]);
        assert!(client.flood(FLOOD, round) < FLOOD, "{what}");
        drop(client);
        wait_quiet(&relay);
    }
    assert_eq!(relay.metric("forebay_tls_completed_total"), floods().len() as u64);
    served_in(&relay);
    relay.stop();
}

#[test]
fn more_streams_than_allowed_are_refused_and_a_client_that_insists_is_ended() {
    let (_place, relay) = serve("", "[http2]\nstreams_max = 10\nresets_max = 5");
    let mut client = Framed::connect(relay.agents[0], &setting(INITIAL_WINDOW, 0));
    let requests: Vec<u8> = (0..12).flat_map(|round| request(odd(round), PACKAGE)).collect();
    client.send(&requests).unwrap();
    let (mut begun, mut refused) = (0, 0);
    while begun + refused < 12 {
        match client.next().expect("two too many are no reason to end it").kind {
            HEADERS => begun += 1,
            RST_STREAM => refused += 1,
            _ => {}
        }
    }
    assert_eq!((begun, refused), (10, 2));
    let sent = client.flood(1000, |round| request(odd(round + 12), PACKAGE));
    let frames = client.rest();
    assert!(sent < 1000 || reason(&frames).is_some(), "{sent}");
    assert!(frames.iter().filter(|frame| frame.kind == RST_STREAM).count() <= 5, "{frames:?}");
    wait_quiet(&relay);
    relay.stop();
}

/// A request's head in as many frames as it takes.
fn in_frames(stream: u32, block: &[u8]) -> Vec<u8> {
    let pieces: Vec<_> = block.chunks(16_000).collect();
    let frames = pieces.iter().enumerate().map(|(at, piece)| {
        let end = if at + 1 == pieces.len() { END_HEADERS } else { 0 };
        let (kind, flags) = if at == 0 { (HEADERS, END_STREAM | end) } else { (CONTINUATION, end) };
        frame(kind, flags, stream, piece)
    });
    frames.collect::<Vec<_>>().concat()
}

#[test]
fn heads_that_are_large_or_become_large_are_refused_without_being_held() {
    let (_place, relay) = serve("", DEADLINES);
    served_in(&relay);
    let before = resident_bytes(&relay);
    let field = |name: u8, size: usize| [&[0, 1, name][..], &length(size), &vec![b'v'; size]].concat();
    let long = [head(MANIFEST), field(b'a', 40 << 10)].concat();
    let many = [head(MANIFEST), [field(b'a', 1), field(b'b', 1)].concat().repeat(1000)].concat();
    // A field that fills the table, then named again by one byte each time.
    let indexed = [&[0x40, 1, b'a'][..], &length(4000), &vec![b'v'; 4000]].concat();
    let bomb = [head(MANIFEST), indexed, vec![0xbe; 12_000]].concat();
    for (what, block) in [("one long field", long), ("many fields", many), ("a field again and again", bomb)]
    {
        for connection in 0..20 {
            let mut client = Framed::connect(relay.agents[0], &[]);
            let _ = client.send(&[in_frames(1, &block), request(3, MANIFEST)].concat());
            let mut frames = Vec::new();
            while let Some(frame) = client.next() {
                let is_end = frame.stream == 3 && frame.flags & END_STREAM != 0 && frame.kind != SETTINGS;
                frames.push(frame);
                if is_end {
                    break;
                }
            }
            assert_ne!(status(&frames, 1), Some(OK), "{what}, {connection}");
        }
        is_well(&relay, before, what);
    }
    relay.stop();
}

#[test]
fn what_no_client_may_send_ends_the_stream_or_the_connection() {
    let (_place, relay) = serve("", DEADLINES);
    let ping = |len: usize| frame(PING, 0, 0, &vec![0; len]);
    let update = |stream, by: u32| frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    let too_long = [&20_000u32.to_be_bytes()[1..], &[DATA, 0, 0, 0, 0, 1], &[0; 100]].concat();
    let padded = frame(HEADERS, END_HEADERS | END_STREAM | 8, 1, &[&[200][..], &head(MANIFEST)].concat());
    let promise = [&2u32.to_be_bytes()[..], &head(MANIFEST)].concat();
    let itself = frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 0]);
    for (what, bytes) in [
        ("a promise", [request(1, MANIFEST), frame(PUSH_PROMISE, END_HEADERS, 1, &promise)].concat()),
        ("data of no stream", frame(DATA, 0, 0, b"x")),
        ("data of an idle stream", frame(DATA, 0, 5, b"x")),
        ("a head of no stream", request(0, MANIFEST)),
        ("a head of a server's stream", request(2, MANIFEST)),
        ("a stream before an earlier one", [request(5, MANIFEST), request(3, MANIFEST)].concat()),
        ("a frame that is too long", too_long),
        ("a ping that is too short", ping(7)),
        ("a ping that is too long", ping(9)),
        ("a ping of a stream", frame(PING, 0, 1, &[0; 8])),
        ("half a setting", frame(SETTINGS, 0, 0, &[0; 5])),
        ("settings of a stream", frame(SETTINGS, 0, 1, &[])),
        ("an acknowledgement with settings", frame(SETTINGS, ACK, 0, &[0; 6])),
        ("acknowledgements of nothing", frame(SETTINGS, ACK, 0, &[]).repeat(2)),
        ("a window that is too large", frame(SETTINGS, 0, 0, &setting(INITIAL_WINDOW, u32::MAX))),
        ("frames that are too small", frame(SETTINGS, 0, 0, &setting(5, 1))),
        ("a reset of an idle stream", frame(RST_STREAM, 0, 7, &[0; 4])),
        ("a reset of no stream", frame(RST_STREAM, 0, 0, &[0; 4])),
        ("a window update by nothing", update(0, 0)),
        ("a window that overflows", update(0, 0x7fff_ffff).repeat(2)),
        ("a window update of an idle stream", update(9, 1)),
        ("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, &head(MANIFEST))),
        (
            "a ping between head and continuation",
            [frame(HEADERS, END_STREAM, 1, &head(MANIFEST)), ping(8)].concat(),
        ),
        ("more padding than there is", padded),
        ("a table index that is none", frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff, 0xff, 0x7f])),
        ("half a field", frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x04, 0x7f])),
        ("a stream that depends on itself", [itself, ping(7)].concat()),
    ] {
        let mut client = Framed::connect(relay.agents[0], &[]);
        let _ = client.send(&bytes);
        let frames = client.rest();
        let told =
            frames.iter().any(|frame| matches!(frame.kind, RST_STREAM | GOAWAY) && frame.payload.len() >= 4);
        assert!(told, "{what}: {frames:?}");
        assert_ne!(reason(&frames), Some(0), "{what} was no error");
    }
    // A preface that is none is HTTP/1, and a bad request there.
    for bytes in [&b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"[..], &PREFACE[..20], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"]
    {
        let mut client = raw::Client::connect(relay.agents[0]);
        client.send(bytes).unwrap();
        client.shut_write();
        let (answer, _) = client.read_to_close();
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", answer.escape_ascii());
    }
    served_in(&relay);
    wait_quiet(&relay);
    relay.stop();
}

#[test]
fn a_preface_and_then_silence_is_ended_in_time() {
    let (_place, relay) = serve("", DEADLINES);
    let began = Instant::now();
    let mut bare = Framed::bare(relay.agents[0]);
    bare.send(PREFACE).unwrap();
    let mut settled = Framed::connect(relay.agents[0], &[]);
    let mut pinging = Framed::connect(relay.agents[0], &[]);
    pinging.set_patience(Duration::from_millis(100));
    settled.rest();
    bare.rest();
    // Signs of life are no requests.
    while pinging.send(&frame(PING, 0, 0, &[1; 8])).is_ok() {
        assert!(began.elapsed() < Duration::from_secs(20), "pings keep it open");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(began.elapsed() >= Duration::from_secs(2));
    wait_quiet(&relay);
    relay.stop();
}

#[test]
fn windows_of_one_byte_on_many_streams_hold_little_and_are_cut() {
    let (_place, relay) = serve("", DEADLINES);
    served_in(&relay);
    let before = resident_bytes(&relay);
    let clients: Vec<_> = (0..10)
        .map(|_| {
            let mut client = Framed::connect(relay.agents[0], &setting(INITIAL_WINDOW, 1));
            let requests: Vec<u8> = (0..100).flat_map(|round| request(odd(round), PACKAGE)).collect();
            client.send(&requests).unwrap();
            let mut begun = 0;
            while begun < 100 {
                begun += usize::from(client.next().unwrap().kind == HEADERS);
            }
            client
        })
        .collect();
    let held = resident_bytes(&relay).saturating_sub(before);
    // A frame of 16 KiB for each stream, more for the first few of a connection, and what holds it.
    assert!(held < 1000 * (64 << 10), "{} KiB for 1,000 streams", held >> 10);
    served_in(&relay);
    let began = Instant::now();
    for mut client in clients {
        client.rest();
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    wait_quiet(&relay);
    relay.stop();
}
