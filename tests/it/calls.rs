//! What a hit costs of the kernel: the system calls of a data worker, counted by `strace`, of which none waits for another thread
//! (issue 6, point 6); and that whoever fetches does not push it aside, and wakes whom it serves together (point 4).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::origin::Origin;
use crate::origin::fault::{Fault, Gate};
use crate::process::{Process, missing, tool};
use crate::raw::Client;
use crate::served::{Place, Served, WITHIN};

const REQUESTS: usize = 100;

/// Calls beside those of the requests: the wait that the trace finds the worker in, and a timer's turn or two.
const OTHERS_MAX: usize = 5;

/// How often a line of the access log wakes whoever writes it at most: that thread rests so long each time.
const LOG_RESTS: Duration = Duration::from_millis(20);

const SMALL: &str = "/activeupdate/pattern/small.zip";

const MEDIUM: &str = "/activeupdate/pattern/medium.zip";

/// The size of the large file.
const BIG_BYTES: usize = 4 << 20;

/// System calls, by name.
type Calls = BTreeMap<String, usize>;

/// A relay's place with files of each size, and these settings.
fn place(top: &str) -> Place {
    let place = Place::new();
    place.big_tree(BIG_BYTES);
    let mut manifest = fs::read_to_string(place.path("tree/server.ini")).unwrap();
    for (number, name, len) in [(5, "small", 2048), (6, "medium", 64 << 10)] {
        fs::write(place.path(&format!("tree/pattern/{name}.zip")), vec![7; len]).unwrap();
        writeln!(manifest, "P.{number}=pattern/{name}.zip,1000,{len}").unwrap();
    }
    fs::write(place.path("tree/server.ini"), manifest).unwrap();
    place.configure(top, place.path("tree").to_str().unwrap(), "");
    place
}

/// The system calls that the relay's one worker makes for some requests on a connection that is warm.
fn calls(sendfile: &str, target: &str, headers: &[(&str, &str)]) -> Option<Calls> {
    timed_calls(sendfile, target, headers).map(|(counts, _)| counts)
}

/// The same, and in which time.
fn timed_calls(sendfile: &str, target: &str, headers: &[(&str, &str)]) -> Option<(Calls, Duration)> {
    let mut client = None;
    calls_while(sendfile, |relay| {
        let client = client.get_or_insert_with(|| Client::connect(relay.agents[0]));
        assert!(client.exchange("GET", target, headers).unwrap().head.status < 300);
    })
}

/// Those of something that is done so many times, once it was done a few times before.
fn calls_while(sendfile: &str, mut done: impl FnMut(&Served)) -> Option<(Calls, Duration)> {
    let place = place(&format!("workers = 1\nsendfile = \"{sendfile}\"\n"));
    let relay = place.serve_ready();
    (0..10).for_each(|_| done(&relay));
    let mut took = Duration::ZERO;
    let worker = workers(&relay).pop().unwrap();
    let lines = traced(&["-p", &worker], &place, || {
        let begun = Instant::now();
        (0..REQUESTS).for_each(|_| done(&relay));
        took = begun.elapsed();
    })?;
    relay.stop();
    let mut counts = BTreeMap::new();
    for line in lines.lines() {
        let name = line.split('(').next().filter(|name| !name.contains(' '));
        *counts.entry(name.unwrap_or("other").to_owned()).or_default() += 1;
    }
    println!("{REQUESTS} requests, sendfile {sendfile}: {counts:?} in {took:?}");
    Some((counts, took))
}

/// Calls without those by which a line of the access log wakes whoever writes it: that is bounded by time, not by lines.
fn but_for_the_log((mut calls, took): (Calls, Duration)) -> Calls {
    let wakes = calls.remove("futex").unwrap_or(0) as u128;
    assert!(wakes <= took.as_millis() / LOG_RESTS.as_millis() + 2, "{wakes} in {took:?}");
    calls
}

/// A line for each system call while something is done, of whom `strace` is told to follow.
fn traced(follow: &[&str], place: &Place, done: impl FnOnce()) -> Option<String> {
    let (strace, file) = (tool("strace")?, place.path("calls"));
    let mut command = Command::new(strace);
    command.arg("-o").arg(&file).args(follow);
    let tracing = Process::start(&mut command);
    tracing.wait_line(WITHIN, |line| line.contains("attached") || line.contains("ptrace"));
    if !tracing.output().contains("attached") {
        return missing("the right to trace a process");
    }
    done();
    tracing.signal(Signal::INT);
    tracing.wait_exit(WITHIN);
    Some(fs::read_to_string(&file).unwrap())
}

/// The threads of the relay's workers.
fn workers(relay: &Served) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{}/task", relay.id())).unwrap().map(|thread| thread.unwrap());
    let serves = |folder: &fs::DirEntry| {
        fs::read_to_string(folder.path().join("comm")).is_ok_and(|name| name.starts_with("data-"))
    };
    threads.filter(serves).map(|folder| folder.file_name().into_string().unwrap()).collect()
}

#[test]
fn threads_that_fetch_stand_back_for_those_that_serve() {
    let place = Place::new();
    place.big_tree(BIG_BYTES);
    place.configure("workers = 2\n", place.path("tree").to_str().unwrap(), "");
    let relay = place.serve_ready();
    Client::connect(relay.agents[0]).exchange("GET", "/activeupdate/server.ini", &[]).unwrap().whole(200);
    let mut policies = BTreeMap::<_, Vec<_>>::new();
    for thread in fs::read_dir(format!("/proc/{}/task", relay.id())).unwrap() {
        let Ok(stat) = fs::read_to_string(thread.unwrap().path().join("stat")) else { continue };
        let (start, rest) = stat.rsplit_once(')').unwrap();
        let name = start.split_once('(').unwrap().1.trim_end_matches(|last: char| last.is_ascii_digit());
        // Field 41 of proc_pid_stat(5); after the name comes the third.
        policies
            .entry(name.to_owned())
            .or_default()
            .push(rest.split_whitespace().nth(41 - 3).unwrap().to_owned());
    }
    let (batch, other) = (libc::SCHED_BATCH.to_string(), libc::SCHED_OTHER.to_string());
    assert!(policies["control"].iter().all(|policy| *policy == batch), "{policies:?}");
    assert_eq!(policies["data-"], [other.clone(), other], "{policies:?}");
    relay.stop();
}

#[test]
fn a_small_hit_on_a_warm_connection_takes_three_calls_receive_write_and_wait() {
    let Some(timed) = timed_calls("on", SMALL, &[]) else { return };
    let counts = but_for_the_log(timed);
    assert_eq!((counts["recvfrom"], counts["writev"]), (REQUESTS, REQUESTS), "{counts:?}");
    assert!(counts.values().sum::<usize>() <= 3 * REQUESTS + OTHERS_MAX, "{counts:?}");
}

#[test]
fn workers_that_serve_what_they_have_wait_for_no_other_thread() {
    // Enough for each worker to have some.
    const AGENTS: usize = 24;
    let place = place("workers = 2\n");
    let relay = place.serve_ready();
    let mut agents: Vec<_> = (0..AGENTS).map(|_| Client::connect(relay.agents[0])).collect();
    let asks = |agent: &mut Client| agent.exchange("GET", SMALL, &[]).unwrap().whole(200);
    let workers = workers(&relay);
    let all_ask = |times: usize, agents: &mut [Client]| {
        std::thread::scope(|scope| {
            for agent in agents {
                scope.spawn(move || (0..times).for_each(|_| drop(asks(agent))));
            }
        });
    };
    all_ask(10, &mut agents);
    let follow = ["-f", "-e", "trace=futex,recvfrom", "-p", &relay.id().to_string()];
    let Some(lines) = traced(&follow, &place, || all_ask(REQUESTS, &mut agents)) else { return };
    relay.stop();
    assert_eq!(workers.len(), 2);
    for worker in workers {
        let own: Vec<_> = lines.lines().filter(|line| line.split(' ').next() == Some(&worker)).collect();
        assert!(own.iter().any(|line| line.contains("recvfrom")), "a worker has no agent");
        let waits: Vec<_> = own.iter().filter(|line| line.contains("FUTEX_WAIT")).collect();
        assert!(waits.is_empty(), "{waits:?}");
    }
}

#[test]
fn who_comes_asks_once_and_leaves_costs_what_is_to_be_had_of_nobody_else() {
    let leaves = |relay: &Served| {
        Client::connect(relay.agents[0]).exchange("GET", SMALL, &[]).unwrap().whole(200);
    };
    let Some(timed) = calls_while("on", leaves) else { return };
    let counts = but_for_the_log(timed);
    // What the connection is, and that it sends at once, is known of the listener; it ends by its close.
    for none in ["setsockopt", "getsockopt", "getsockname", "getpeername", "shutdown"] {
        assert!(!counts.contains_key(none), "{none}: {counts:?}");
    }
    // Taken up, asked, answered, found to have left, and let go. Of the next one there may be something before this one has left, and
    // whoever accepts looks whether there are more.
    for (each, times) in [("accept4", 2), ("epoll_ctl", 2), ("recvfrom", 2), ("writev", 1), ("close", 1)] {
        assert!(counts[each] <= times * REQUESTS + 2, "{each}: {counts:?}");
    }
    assert!(counts["close"] >= REQUESTS - 1, "{counts:?}");
    // A debug build looks whether what it closes is open.
    let others = counts.iter().filter(|(name, _)| !["epoll_wait", "fcntl"].contains(&name.as_str()));
    assert!(others.map(|(_, count)| count).sum::<usize>() <= 8 * REQUESTS + OTHERS_MAX, "{counts:?}");
}

#[test]
fn who_comes_takes_memory_without_a_call_for_each() {
    // They stay, and the buffers of what they asked with them.
    let mut stay = Vec::new();
    let comes = |relay: &Served| {
        let mut client = Client::connect(relay.agents[0]);
        assert_eq!(client.exchange("GET", SMALL, &[]).unwrap().head.status, 200);
        stay.push(client);
    };
    let Some(timed) = calls_while("on", comes) else { return };
    let counts = but_for_the_log(timed);
    let taken: usize = ["mprotect", "mmap", "brk"].iter().filter_map(|name| counts.get(*name)).sum();
    assert!(taken <= OTHERS_MAX, "{counts:?}");
}

#[test]
fn who_fetches_wakes_a_crowd_that_waits_by_few_calls() {
    const CROWD: usize = 200;
    const PACKAGE: &str = "/pattern/big.zip";
    let place = Place::new();
    let package = place.big_tree(64 << 10);
    let (origin, gate) = (Origin::start(&place.path("tree")), Gate::default());
    place.configure("workers = 1\n", &origin.url("/"), "prefetch = \"none\"");
    let relay = place.serve_ready();
    origin.script(PACKAGE, Fault::StallBeforeHead(gate.clone()));
    let target = format!("/activeupdate{PACKAGE}");
    let mut crowd: Vec<_> = (0..CROWD).map(|_| Client::connect(relay.agents[0])).collect();
    for agent in &mut crowd {
        agent.ask("GET", &target, &[]).unwrap();
    }
    gate.wait_reached();
    // One worker takes up what it is asked in order: whoever asked before this waits by now.
    Client::connect(relay.agents[0]).exchange("GET", "/activeupdate/server.ini", &[]).unwrap().whole(200);
    let answered = || {
        gate.open();
        for mut agent in crowd {
            assert!(agent.answer("GET").unwrap().whole(200) == package);
        }
    };
    let Some(lines) = traced(&["-f", "-p", &relay.id().to_string()], &place, answered) else { return };
    relay.stop();
    assert!(!lines.contains("GET /activeupdate"), "not all of them waited");
    // A runtime is woken from another thread by a write of this number to its eventfd(2).
    let wakes = lines.lines().filter(|line| line.contains(r#""\1\0\0\0\0\0\0\0", 8"#)).count();
    println!("{wakes} calls wake {CROWD}");
    assert!((1..CROWD / 2).contains(&wakes), "{wakes} calls wake {CROWD}");
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
fn a_file_that_a_worker_has_in_memory_is_written_from_there_and_a_larger_one_is_sent_by_the_kernel() {
    for (target, by, not_by) in [(SMALL, "writev", "sendfile"), (MEDIUM, "sendfile", "writev")] {
        let Some(counts) = calls("on", target, &[]) else { return };
        assert!(counts.get(by).is_some_and(|count| *count >= REQUESTS), "{target}: {counts:?}");
        assert!(!counts.contains_key(not_by), "{target}: {counts:?}");
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
