//! Kept answers whose files go, rot or cannot be opened, before their server is asked and while it is (R1.5, R3.2).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use forebay::disk::{Disk, Step, Verdict};
use rustix::io::Errno;

use crate::cache::server::{Act, Gate, Server, answer, chunked};
use crate::cache::{get, proxy, settings};
use crate::raw::Client;
use crate::relay::Running;
use crate::scrub::{flip, scrub};
use crate::site::{self, Site};

const KEPT: &str = "Cache-Control: max-age=600\nETag: \"x\"";

/// A body that is read into memory, and one that is opened.
const TIMES: [usize; 2] = [10, 200_000];

/// A server with a body that is its path so many times; whether it is still the same, it says when the gate is opened.
fn gated(times: usize, gate: &Gate) -> Server {
    let gate = gate.clone();
    Server::start(move |asked, _| match asked.header("if-none-match") {
        Some(_) => [vec![Act::Wait(gate.clone())], answer(304, "Cache-Control: private", "")].concat(),
        None => chunked(200, KEPT, &asked.target.repeat(times)),
    })
}

/// Keeps an answer, and has an agent ask about it.
fn asking(relay: &Running, server: &Server, body: &[u8]) -> Client {
    let url = server.url("/file");
    assert!(get(relay.v4(), &url, &[]).whole(200) == body);
    let mut asking = Client::connect(relay.v4());
    asking.ask("GET", &url, &[("Cache-Control", "no-cache")]).unwrap();
    server.wait_for("/file", 2);
    asking
}

#[test]
fn what_is_asked_about_can_be_given_though_its_file_goes_meanwhile_r3_2() {
    for times in TIMES {
        let gate = Gate::default();
        let server = gated(times, &gate);
        let relay = proxy(&[server.port()]);
        let (url, body) = (server.url("/file"), b"/file".repeat(times));
        let mut asking = asking(&relay, &server, &body);
        let file = site::blob_file(relay.data(), &body);
        assert!(file.exists());
        let mut sweeps = relay.tree(0).resources.swept.subscribe();
        // It is changed, so it is kept no more; what is kept next has the store swept.
        Client::connect(relay.v4()).exchange("POST", &url, &[]).unwrap();
        get(relay.v4(), &server.url("/other"), &[]).whole(200);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            tokio::time::timeout(crate::served::WITHIN, async {
                while file.exists() {
                    sweeps.changed().await.unwrap();
                }
            })
            .await
            .expect("the file is not swept");
        });
        gate.open();
        assert!(asking.answer("GET").unwrap().whole(200) == body);
        let asked: Vec<_> = server.asked_for("/file").into_iter().map(|asked| asked.method).collect();
        assert_eq!(asked, ["GET", "GET", "POST"]);
        relay.stop();
    }
}

#[test]
fn what_turns_out_to_be_damaged_while_it_is_asked_about_is_not_given_r1_5() {
    for times in TIMES {
        let gate = Gate::default();
        let server = gated(times, &gate);
        let relay = proxy(&[server.port()]);
        let body = b"/file".repeat(times);
        let mut asking = asking(&relay, &server, &body);
        flip(&site::blob_file(relay.data(), &body), 3);
        assert_eq!(scrub(&relay).bad, 1);
        gate.open();
        assert!(asking.answer("GET").unwrap().whole(200) == body);
        let whole =
            server.asked_for("/file").iter().filter(|asked| asked.header("if-none-match").is_none()).count();
        assert_eq!(whole, 2, "it was asked for anew");
        relay.stop();
    }
}

#[test]
fn what_cannot_be_opened_is_asked_for_r1_5() {
    let refusing = Arc::new(AtomicBool::new(false));
    let seam = {
        let refusing = refusing.clone();
        move |_, step: &Step<'_>| match step {
            Step::OpenToRead(path)
                if refusing.load(Ordering::SeqCst) && path.to_string_lossy().contains("/blobs/") =>
            {
                Verdict::Failed(io::Error::from(Errno::IO))
            }
            _ => Verdict::Done,
        }
    };
    let server = Server::start(|_, before| chunked(200, KEPT, &format!("body {before}")));
    let site = Site::with(5, &[4]);
    let data = tempfile::tempdir().unwrap();
    let started = Running::try_start(settings(&site, &[server.port()]), data, &Disk::with_seam(seam));
    let relay = started.unwrap_or_else(|(error, _)| panic!("{error}"));
    relay.wait_refreshes(1);
    let url = server.url("/file");
    assert_eq!(get(relay.v4(), &url, &[]).whole(200), b"body 0");
    refusing.store(true, Ordering::SeqCst);
    // Who asks for no bytes need not notice.
    let head = Client::connect(relay.v4()).exchange("HEAD", &url, &[]).unwrap();
    assert_eq!(head.head.status, 200);
    get(relay.v4(), &url, &[("If-None-Match", "\"x\"")]).whole(304);
    assert_eq!(server.asked_for("/file").len(), 1);
    for (number, headers) in [&[][..], &[("Cache-Control", "no-cache")]].into_iter().enumerate() {
        let got = get(relay.v4(), &url, headers).whole(200);
        assert_eq!(got, format!("body {}", number + 1).into_bytes());
        assert_eq!(server.asked_for("/file")[number + 1].header("if-none-match"), None);
    }
    refusing.store(false, Ordering::SeqCst);
    assert_eq!(get(relay.v4(), &url, &[]).whole(200), b"body 2", "what came last is kept");
    relay.stop();
}
