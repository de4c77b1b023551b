//! What the general cache keeps on the disk: restarts, equal bytes, bounds; and what it never keeps (R1.3, R1.5, R1.6, R1.8, R3.2).

use std::fs;

use crate::cache::server::{Act, Gate, Server, answer, chunked, lines};
use crate::cache::{cache_status, get, proxy, settings};
use crate::raw::Client;
use crate::raw::answer::End;
use crate::relay::Running;
use crate::site::{self, Site};

const FRESH: &str = "Cache-Control: max-age=600";

fn kept(relay: &Running) -> (u64, u64) {
    relay.tree(0).resources.answers.size()
}

#[test]
fn what_is_kept_outlives_a_restart_and_its_server_r1_6() {
    let server =
        Server::start(|_, _| chunked(200, "Cache-Control: max-age=600\nX-A: \u{e9}\nETag: \"x\"", "body"));
    let relay = proxy(&[server.port()]);
    let url = server.url("/file");
    assert_eq!(get(relay.v4(), &url, &[]).whole(200), b"body");
    drop(server);
    let relay = relay.restart();
    let again = get(relay.v4(), &url, &[]);
    assert!(cache_status(&again).starts_with("forebay; hit"), "{again:?}");
    assert_eq!(again.head.header("etag"), Some("\"x\""));
    assert_eq!(again.head.header("x-a"), Some("\u{e9}"));
    assert_eq!(again.whole(200), b"body");
    relay.stop();
}

#[test]
fn a_blob_that_is_lost_is_fetched_again_r1_5() {
    let server = Server::start(|_, _| chunked(200, FRESH, "body"));
    let relay = proxy(&[server.port()]);
    let url = server.url("/file");
    get(relay.v4(), &url, &[]).whole(200);
    let (settings, data) = relay.stop();
    fs::remove_file(site::blob_file(data.path(), b"body")).unwrap();
    let relay = Running::start_on(settings, data);
    assert_eq!(get(relay.v4(), &url, &[]).whole(200), b"body");
    assert_eq!(server.asked_for("/file").len(), 2);
    relay.stop();
}

#[test]
fn two_urls_with_the_same_bytes_are_one_file_r1_3() {
    let server = Server::start(|_, _| chunked(200, FRESH, "the same bytes"));
    let relay = proxy(&[server.port()]);
    let before = site::blobs(relay.data()).len();
    for path in ["/one", "/two", "/three?x"] {
        assert_eq!(get(relay.v4(), &server.url(path), &[]).whole(200), b"the same bytes");
    }
    assert_eq!(site::blobs(relay.data()).len(), before + 1);
    assert_eq!(kept(&relay), (3, 14));
    relay.stop();
}

#[test]
fn the_bounds_hold_and_files_that_nothing_names_go_r1_8() {
    let server = Server::start(|asked, _| chunked(200, FRESH, &asked.target.repeat(100)));
    let site = Site::with(5, &[4]);
    let mut settings = settings(&site, &[server.port()]);
    settings.cache.entries_max = 16;
    settings.cache.bytes_max = 10_000;
    settings.cache.file_bytes_max = 5_000;
    let relay = Running::refreshed(settings);
    let before = site::blobs(relay.data()).len();
    let mut swept = relay.tree(0).resources.swept.subscribe();
    for number in 100..140 {
        let path = format!("/{number}");
        assert_eq!(get(relay.v4(), &server.url(&path), &[]).whole(200), path.repeat(100).as_bytes());
        let (count, bytes) = kept(&relay);
        assert!(count <= 16 && bytes <= 10_000, "{count} {bytes}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // 25 files at most, of 40: the sweep that the last one asked for removes the rest.
    runtime.block_on(async {
        tokio::time::timeout(crate::served::WITHIN, async {
            while site::blobs(relay.data()).len() > before + 25 {
                swept.changed().await.unwrap();
            }
        })
        .await
        .expect("no sweep came");
    });
    let large = "/".repeat(60);
    assert_eq!(get(relay.v4(), &server.url(&large), &[]).body.len(), 6000);
    get(relay.v4(), &server.url(&large), &[]).whole(200);
    assert_eq!(server.asked_for(&large).len(), 2, "too large to be kept");
    relay.stop();
}

#[test]
fn what_is_kept_makes_room_for_the_trees_within_the_quota_r1_8() {
    const EACH: usize = 12 << 20;
    let server = Server::start(|asked, _| {
        let byte = asked.target.as_bytes()[1];
        let head = format!("HTTP/1.1 200 OK\r\n{FRESH}\r\nContent-Length: {EACH}\r\n\r\n");
        vec![Act::Send(head.into()), Act::Send(vec![byte; EACH])]
    });
    let site = Site::with(5, &[4]);
    let mut settings = settings(&site, &[server.port()]);
    settings.quota_bytes = Some(64 << 20);
    let relay = Running::refreshed(settings);
    for path in ["/a", "/b", "/c", "/d", "/e", "/f"] {
        let body = get(relay.v4(), &server.url(path), &[]).whole(200);
        assert!(body.len() == EACH && body.iter().all(|byte| *byte == path.as_bytes()[1]));
        assert!(relay.tree(0).resources.store.room().taken() <= 64 << 20);
    }
    let package = format!("/activeupdate/{}", site::package(5));
    get(relay.v4(), &package, &[]).whole(200);
    let (count, _) = kept(&relay);
    assert!((1..=4).contains(&count), "{count}");
    relay.stop();
}

#[test]
fn bytes_that_break_off_are_broken_for_the_agent_and_never_kept_r1_5() {
    let head = |framing: &str| format!("HTTP/1.1 200 OK\r\n{}{framing}\r\n\r\n", lines(FRESH));
    let length = head("Content-Length: 10");
    let chunks = head("Transfer-Encoding: chunked");
    let broken: Vec<(&str, Vec<Act>)> = vec![
        ("closed", vec![Act::Send(format!("{length}01234").into()), Act::Close]),
        ("reset", vec![Act::Send(format!("{length}01234").into()), Act::Reset]),
        ("no last chunk", vec![Act::Send(format!("{chunks}5\r\n01234\r\n").into()), Act::Close]),
        ("half a chunk", vec![Act::Send(format!("{chunks}a\r\n01234").into()), Act::Close]),
        ("no size", vec![Act::Send(format!("{chunks}5\r\n01234\r\nxyz\r\n").into()), Act::Close]),
        (
            "too long a chunk",
            vec![Act::Send(format!("{chunks}5\r\n0123456\r\n0\r\n\r\n").into()), Act::Close],
        ),
        ("no end after the last", vec![Act::Send(format!("{chunks}5\r\n01234\r\n0\r\n").into()), Act::Close]),
    ];
    for (what, acts) in broken {
        let server = Server::start(move |_, before| match before {
            0 => acts.clone(),
            _ => chunked(200, FRESH, "whole"),
        });
        let relay = proxy(&[server.port()]);
        let got = get(relay.v4(), &server.url("/file"), &[]);
        // Where it was known before the head was sent, it is an error.
        if got.head.status != 502 {
            assert!(matches!(got.end, End::Short | End::Reset), "{what}: {:?}", got.end);
            assert!(b"01234".starts_with(&got.body[..]), "{what}: {:?}", got.body);
        }
        assert_eq!(kept(&relay).0, 0, "{what}");
        assert_eq!(get(relay.v4(), &server.url("/file"), &[]).whole(200), b"whole", "{what}");
        let staging = fs::read_dir(relay.data().join("staging")).unwrap().count();
        assert_eq!(staging, 0, "{what}: something is left behind");
        relay.stop();
    }
}

#[test]
fn what_has_no_end_but_the_close_passes_and_is_not_kept_r1_5() {
    let server = Server::start(|_, _| {
        let head = format!("HTTP/1.0 200 OK\r\n{}\r\n", lines(FRESH));
        vec![Act::Send(format!("{head}who knows whether this is all").into()), Act::Close]
    });
    let relay = proxy(&[server.port()]);
    for asked in 1..=2 {
        let got = get(relay.v4(), &server.url("/old"), &[]);
        assert_eq!(got.head.header("via").map(|via| &via[..12]), Some("1.0 forebay-"));
        assert_eq!(got.whole(200), b"who knows whether this is all");
        assert_eq!(server.asked_for("/old").len(), asked);
    }
    relay.stop();
}

#[test]
fn what_is_too_large_streams_through_whole_and_leaves_nothing_r3_2() {
    let bytes: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
    let own = bytes.clone();
    let server = Server::start(move |asked, _| {
        let mut acts = Vec::new();
        if asked.target == "/known" {
            let head = format!("HTTP/1.1 200 OK\r\n{}Content-Length: {}\r\n\r\n", lines(FRESH), own.len());
            return vec![Act::Send(head.into()), Act::Send(own.clone())];
        }
        acts.push(Act::Send(
            format!("HTTP/1.1 200 OK\r\n{}Transfer-Encoding: chunked\r\n\r\n", lines(FRESH)).into(),
        ));
        for chunk in own.chunks(70_001) {
            acts.push(Act::Send([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat()));
        }
        if asked.target == "/broken" {
            acts.push(Act::Close);
        }
        acts.push(Act::Send(b"0\r\n\r\n".to_vec()));
        acts
    });
    let site = Site::with(5, &[4]);
    let mut settings = settings(&site, &[server.port()]);
    settings.cache.file_bytes_max = 400_000;
    let relay = Running::refreshed(settings);
    for path in ["/known", "/chunked", "/chunked"] {
        assert!(get(relay.v4(), &server.url(path), &[]).whole(200) == bytes, "{path}");
    }
    let broken = get(relay.v4(), &server.url("/broken"), &[]);
    assert!(matches!(broken.end, End::Short | End::Reset), "{:?}", broken.end);
    assert_eq!(kept(&relay).0, 0);
    assert_eq!(server.asked_for("/chunked").len(), 2);
    assert_eq!(fs::read_dir(relay.data().join("staging")).unwrap().count(), 0);
    relay.stop();
}

#[test]
fn heads_that_are_too_long_pass_and_are_not_kept_r3_2() {
    let long = format!("{FRESH}\nX-Long: {}", "x".repeat(2_000));
    let server = Server::start(move |_, _| answer(200, &long, "body"));
    let relay = proxy(&[server.port()]);
    for asked in 1..=2 {
        let got = get(relay.v4(), &server.url("/long"), &[]);
        assert_eq!(got.head.header("x-long").map(str::len), Some(2_000));
        assert_eq!(got.whole(200), b"body");
        assert_eq!(server.asked_for("/long").len(), asked);
    }
    relay.stop();
}

#[test]
fn answers_on_their_way_reserve_no_more_than_the_cache_may_have_r1_8() {
    const EACH: usize = 3 << 20;
    const BOUND: u64 = 8 << 20;
    let gate = Gate::default();
    let own = gate.clone();
    let server = Server::start(move |asked, _| {
        let first = format!("100000\r\n{}\r\n", "x".repeat(1 << 20));
        let rest = format!("200000\r\n{}\r\n0\r\n\r\n", "x".repeat(2 << 20));
        let (framing, first, rest) = if asked.target.contains("known") {
            (format!("Content-Length: {EACH}"), "x".repeat(1 << 20), "x".repeat(2 << 20))
        } else {
            ("Transfer-Encoding: chunked".to_owned(), first, rest)
        };
        let head = format!("HTTP/1.1 200 OK\r\n{}{framing}\r\n\r\n", lines(FRESH));
        vec![Act::Send(head.into()), Act::Send(first.into()), Act::Wait(own.clone()), Act::Send(rest.into())]
    });
    let site = Site::with(5, &[4]);
    let mut settings = settings(&site, &[server.port()]);
    settings.cache.bytes_max = BOUND;
    settings.cache.file_bytes_max = BOUND;
    settings.quota_bytes = Some(BOUND * 4);
    let relay = Running::refreshed(settings);
    let taken = || relay.tree(0).resources.store.room().taken();
    let before = taken();
    let clients: Vec<_> = (0..24)
        .map(|number| {
            let path = if number % 2 == 0 { format!("/known{number}") } else { format!("/{number}") };
            let mut client = Client::connect(relay.v4());
            client.ask("GET", &server.url(&path), &[]).unwrap();
            assert_eq!(client.read_head("GET").unwrap().status, 200);
            assert_eq!(client.read(1 << 20).0.len(), 1 << 20);
            client
        })
        .collect();
    assert!(taken() <= before + BOUND + (1 << 20), "{} more", taken() - before);
    let package = format!("/activeupdate/{}", site::package(5));
    get(relay.v4(), &package, &[]).whole(200);
    gate.open();
    for mut client in clients {
        let (rest, end) = client.read(usize::MAX);
        assert_eq!((rest.len(), end), (2 << 20, Some(End::Complete)));
    }
    assert!(kept(&relay).1 <= BOUND);
    relay.stop();
}
