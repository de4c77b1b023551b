//! SIGKILL while answers are kept, renewed and changed: what is kept after it is asked about or missed, and never wrong (R1.5, R1.6).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::cache::server::{Act, Server, chunked};
use crate::raw::{Client, fetch};
use crate::served::{FIXTURE, Place};

const PATHS: usize = 24;

/// What is in the index by then is on the disk, whatever ends the relay: it is written down every 2 s.
const WRITTEN: Duration = Duration::from_secs(3);

/// What a server has at each path: how often it was changed.
type Versions = Arc<Mutex<HashMap<String, u64>>>;

fn body(path: &str, version: u64) -> String {
    format!("{path} {version} ").repeat(200)
}

fn path(number: usize) -> String {
    format!("/file{}", number % PATHS)
}

/// A server whose files are changed by POST; `confirmed` counts those that were asked about and had not changed.
fn changing(versions: &Versions, confirmed: &Arc<AtomicUsize>) -> Server {
    let (versions, confirmed) = (versions.clone(), confirmed.clone());
    Server::start(move |asked, _| -> Vec<Act> {
        let mut versions = versions.lock().unwrap();
        let version = versions.entry(asked.target.clone()).or_default();
        if asked.method == "POST" {
            *version += 1;
            return chunked(200, "", "changed");
        }
        let headers = format!("Cache-Control: max-age=600\nETag: \"{version}\"");
        if asked.header("if-none-match") == Some(format!("\"{version}\"")) {
            confirmed.fetch_add(1, Ordering::Relaxed);
            return chunked(304, &headers, "");
        }
        chunked(200, &headers, &body(&asked.target, *version))
    })
}

#[test]
fn kept_answers_after_sigkill_are_asked_about_or_missed_and_never_wrong_r1_5() {
    const LIVES: usize = 4;
    let (versions, confirmed) = (Versions::default(), Arc::<AtomicUsize>::default());
    let server = changing(&versions, &confirmed);
    let place = Place::new();
    let rule =
        format!("[[proxy.allow]]\nname = \"loopback\"\nto = \"127.0.0.0/8\"\nports = {}\n", server.port());
    place.configure("", FIXTURE, &rule);
    let version = |path: &str| versions.lock().unwrap().get(path).copied().unwrap_or_default();
    for life in 0..LIVES {
        let relay = place.serve(&[]);
        let agents = relay.agents[0];
        // The life before ended out of order: nothing is given unasked.
        for number in 0..PATHS {
            let path = path(number);
            let before = version(&path);
            let got = fetch(agents, &server.url(&path), &[]).whole(200);
            let right = (before..=version(&path)).any(|version| body(&path, version).as_bytes() == got);
            assert!(right, "life {life}, {path}: {}", String::from_utf8_lossy(&got[..40.min(got.len())]));
        }
        let (stopped, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let (stopped, done, url) = (stopped.clone(), done.clone(), server.url(""));
                thread::spawn(move || {
                    let mut turn = client * 7;
                    while !stopped.load(Ordering::Relaxed) {
                        let Some(mut client) = Client::attempt(agents) else { return };
                        // Every other file is never changed.
                        let method = if turn % 10 == 0 { "POST" } else { "GET" };
                        let _ = client.exchange(method, &format!("{url}{}", path(turn * 11)), &[]);
                        turn += 1;
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        // At another moment in each life; every other one is long enough for the index to write down what it has.
        let begun = Instant::now();
        let least = if life % 2 == 1 { WRITTEN } else { Duration::ZERO };
        while done.load(Ordering::Relaxed) < 50 + 37 * life || begun.elapsed() < least {
            thread::yield_now();
        }
        relay.signal(Signal::KILL);
        relay.wait_exit();
        stopped.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().unwrap();
        }
    }
    assert!(confirmed.load(Ordering::Relaxed) > 0, "some were kept, and given once they were confirmed");
    // With nobody to ask they are not given.
    let urls: Vec<_> = (0..PATHS).map(|number| server.url(&path(number))).collect();
    drop(server);
    let relay = place.serve(&[]);
    assert!(relay.metric("forebay_cache_answers") > 0);
    for url in urls {
        let got = fetch(relay.agents[0], &url, &[]);
        assert!(matches!(got.head.status, 502 | 504), "{got:?}");
    }
    relay.stop();
}
