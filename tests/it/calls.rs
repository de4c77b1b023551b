//! What a hit costs of the kernel: the system calls of a data worker, counted by `strace` (issue 6, point 6).

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::process::{Process, missing, tool};
use crate::raw::Client;
use crate::served::{Place, Served, WITHIN};

const REQUESTS: usize = 100;

/// Calls beside those of the requests: the wait that the trace finds the worker in, and a timer's turn or two.
const OTHERS_MAX: usize = 5;

/// The size of the large file.
const BIG_BYTES: usize = 4 << 20;

/// The system calls that the relay's one worker makes for some requests on a connection that is warm, by name.
fn calls(sendfile: &str, target: &str, headers: &[(&str, &str)]) -> Option<BTreeMap<String, usize>> {
    timed_calls(sendfile, target, headers).map(|(counts, _)| counts)
}

/// The same, and in which time.
fn timed_calls(
    sendfile: &str,
    target: &str,
    headers: &[(&str, &str)],
) -> Option<(BTreeMap<String, usize>, Duration)> {
    let strace = tool("strace")?;
    let place = Place::new();
    place.big_tree(BIG_BYTES);
    fs::write(place.path("tree/pattern/small.zip"), vec![7; 2048]).unwrap();
    let manifest = fs::read_to_string(place.path("tree/server.ini")).unwrap();
    fs::write(place.path("tree/server.ini"), manifest + "P.5=pattern/small.zip,1000,2048\n").unwrap();
    let top = format!("workers = 1\nlog.access = \"off\"\nsendfile = \"{sendfile}\"\n");
    place.configure(&top, place.path("tree").to_str().unwrap(), "");
    let relay = place.serve_ready();
    let mut client = Client::connect(relay.agents[0]);
    let mut ask = |count| {
        for _ in 0..count {
            assert!(client.exchange("GET", target, headers).unwrap().head.status < 300);
        }
    };
    ask(10);
    let file = place.path("calls");
    let mut command = Command::new(strace);
    command.arg("-o").arg(&file).arg("-p").arg(worker(&relay));
    let tracing = Process::start(&mut command);
    tracing.wait_line(WITHIN, |line| line.contains("attached") || line.contains("ptrace"));
    if !tracing.output().contains("attached") {
        return missing("the right to trace a process");
    }
    let begun = Instant::now();
    ask(REQUESTS);
    let took = begun.elapsed();
    tracing.signal(Signal::INT);
    tracing.wait_exit(WITHIN);
    relay.stop();
    let mut counts = BTreeMap::new();
    for line in fs::read_to_string(&file).unwrap().lines() {
        let name = line.split('(').next().filter(|name| !name.contains(' '));
        *counts.entry(name.unwrap_or("other").to_owned()).or_default() += 1;
    }
    println!("{REQUESTS} requests, sendfile {sendfile}: {counts:?} in {took:?}");
    Some((counts, took))
}

/// The thread of the relay's first worker.
fn worker(relay: &Served) -> String {
    let threads = fs::read_dir(format!("/proc/{}/task", relay.id())).unwrap().map(|thread| thread.unwrap());
    let named = |folder: &fs::DirEntry| {
        fs::read_to_string(folder.path().join("comm")).is_ok_and(|name| name.trim_end() == "data-0")
    };
    threads.into_iter().find(named).unwrap().file_name().into_string().unwrap()
}

#[test]
fn a_small_hit_on_a_warm_connection_takes_three_calls_receive_write_and_wait() {
    let Some(counts) = calls("on", "/activeupdate/pattern/small.zip", &[]) else { return };
    assert_eq!((counts["recvfrom"], counts["writev"]), (REQUESTS, REQUESTS), "{counts:?}");
    assert!(counts.values().sum::<usize>() <= 3 * REQUESTS + OTHERS_MAX, "{counts:?}");
}

#[test]
fn a_range_of_a_large_file_is_read_by_nobody_whichever_way_it_is_sent() {
    let range = [("Range", "bytes=1000-100999")];
    let Some(counts) = calls("on", "/activeupdate/pattern/big.zip", &range) else { return };
    // The client leaves room for all of it: the head and the file are one call each.
    for each in ["recvfrom", "sendmsg", "sendfile"] {
        assert!(counts.get(each).is_some_and(|count| *count >= REQUESTS), "{each}: {counts:?}");
    }
    assert!(!counts.contains_key("writev"), "{counts:?}");
    let Some(counts) = calls("off", "/activeupdate/pattern/big.zip", &range) else { return };
    assert!(counts["writev"] >= REQUESTS, "{counts:?}");
    for none in ["sendfile", "preadv2", "pread64"] {
        assert!(!counts.contains_key(none), "{none}: {counts:?}");
    }
}

#[test]
fn what_was_found_in_memory_is_looked_for_once_in_a_second_whoever_asks() {
    let range = [("Range", "bytes=1000-100999")];
    for sendfile in ["on", "off"] {
        // All of a range lies in one stretch of 256 KiB; each look finds one that no look holds for.
        for (headers, stretches) in [(&range[..], 1), (&[], BIG_BYTES / (256 << 10))] {
            let target = "/activeupdate/pattern/big.zip";
            let Some((counts, took)) = timed_calls(sendfile, target, headers) else { return };
            let seconds = usize::try_from(took.as_secs()).unwrap() + 2;
            let looks = counts.get("mincore").copied().unwrap_or(0);
            assert!(looks <= stretches * seconds, "{sendfile}: {looks} in {took:?}");
        }
    }
}
