//! An ActiveUpdate origin on real sockets: it serves a folder, and lies, stalls and breaks off as it is told.
//!
//! Written on raw sockets, because it must be able to send what no HTTP library would. Never outlives its value: dropping
//! it closes every socket and joins every thread. Invariant: what it counts are bytes that a socket took (see [`seen`]).

pub(crate) mod answer;
pub(crate) mod fault;
pub(crate) mod seen;
mod serve;
mod shown;

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use answer::Validators;
use fault::{Fault, WAIT_MAX};
use seen::{Request, Seen};

use crate::process;
use crate::raw;

/// A running origin.
#[derive(Debug)]
pub(crate) struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Origin {
    /// Serves the files below `dir` on a free port of 127.0.0.1.
    pub(crate) fn start(dir: &Path) -> Self {
        Self::on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(), dir)
    }

    /// The same where one listened that is gone: an upstream that comes back. `None` while the port is not to be had.
    pub(crate) fn start_again(address: SocketAddr, dir: &Path) -> Option<Self> {
        Some(Self::on(TcpListener::bind(address).ok()?, dir))
    }

    /// The same on `[::1]`; where the machine has no IPv6 the test is skipped, or fails under CI (see [`process::missing`]).
    pub(crate) fn start_v6(dir: &Path) -> Option<Self> {
        match TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
            Ok(listener) => Some(Self::on(listener, dir)),
            Err(_) => process::missing("IPv6 on the loopback interface"),
        }
    }

    /// The same on a socket that listens.
    pub(crate) fn on(listener: TcpListener, dir: &Path) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { dir: dir.to_path_buf(), ..Shared::default() });
        let accepting = {
            let shared = shared.clone();
            std::thread::spawn(move || accept(&listener, &shared))
        };
        Self { address, shared, accepting: Some(accepting) }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path; the path begins with `/`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Which validators answers carry from now on; strong `ETag`s at first.
    pub(crate) fn set_validators(&self, validators: Validators) {
        self.shared.lock().validators = validators;
    }

    /// One more request for `path` (or for any path: `*`) is answered with this fault, after those scripted before.
    pub(crate) fn script(&self, path: &str, fault: Fault) {
        self.script_together(path, vec![fault]);
    }

    /// The same with several faults in one answer.
    pub(crate) fn script_together(&self, path: &str, faults: Vec<Fault>) {
        self.shared.lock().scripts.entry(path.into()).or_default().push_back(faults);
    }

    /// Every request for `path` (or for any path: `*`) is answered with this fault, besides what is scripted.
    pub(crate) fn always(&self, path: &str, fault: Fault) {
        self.shared.lock().always.entry(path.into()).or_default().push(fault);
    }

    /// Forgets all faults, but for changes already made to objects.
    pub(crate) fn behave(&self) {
        let mut state = self.shared.lock();
        state.scripts.clear();
        state.always.clear();
    }

    /// What it has seen so far.
    pub(crate) fn seen(&self) -> Seen {
        self.shared.lock().seen.clone()
    }

    /// The number of the last connection that came from whoever has ended by now.
    pub(crate) fn last_connection(&self) -> usize {
        // Connections are accepted in their order: this one comes after all of theirs.
        raw::fetch(self.address, LAST, &[]);
        self.seen().of(LAST).last().unwrap().connection
    }

    /// Waits until what was seen satisfies `check`; panics after `WAIT_MAX`, naming `what`.
    pub(crate) fn wait_for(&self, what: &str, mut check: impl FnMut(&Seen) -> bool) -> Seen {
        let state = self.shared.lock();
        let (state, waited) =
            self.shared.changed.wait_timeout_while(state, WAIT_MAX, |state| !check(&state.seen)).unwrap();
        let (seen, troubles) = (state.seen.clone(), state.troubles.clone());
        // A panic below must not poison what drop still needs.
        drop(state);
        assert!(!waited.timed_out(), "{what}: not seen in {WAIT_MAX:?}; {troubles:?}; seen: {seen:#?}");
        seen
    }

    /// Waits until `count` requests for `path` were read.
    pub(crate) fn wait_for_requests(&self, path: &str, count: usize) -> Seen {
        self.wait_for(&format!("{count} requests for {path}"), |seen| seen.of(path).count() >= count)
    }

    /// Waits until `count` body bytes were written for `path`.
    pub(crate) fn wait_for_bytes(&self, path: &str, count: u64) -> Seen {
        self.wait_for(&format!("{count} bytes of {path}"), |seen| seen.body_bytes(path) >= count)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let connections = self.shared.stop();
        // The listener sits in accept; a connection wakes it, and it sees that it is to stop.
        drop(TcpStream::connect(self.address));
        let clean = self.accepting.take().is_none_or(|thread| thread.join().is_ok());
        let clean = connections.into_iter().all(|thread| thread.join().is_ok()) && clean;
        let troubles = std::mem::take(&mut self.shared.lock().troubles);
        if !std::thread::panicking() {
            assert!(clean, "a thread of the origin panicked");
            assert!(troubles.is_empty(), "the origin met what its test did not foresee: {troubles:?}");
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept() {
        let stream = Arc::new(stream);
        let mut state = shared.lock();
        if state.stopping {
            return;
        }
        state.seen.connections += 1;
        let number = state.seen.connections;
        state.streams.push(Arc::downgrade(&stream));
        state.streams.retain(|stream| stream.strong_count() > 0);
        let worker = shared.clone();
        state.threads.push(std::thread::spawn(move || serve::connection(&worker, &stream, number)));
        state.threads.retain(|thread| !thread.is_finished());
        shared.changed.notify_all();
    }
}

#[derive(Debug, Default)]
struct Shared {
    dir: PathBuf,
    /// Guards all that scripts and counts; held for moments, never over I/O that may block.
    state: Mutex<State>,
    /// Told of every change to `State::seen`.
    changed: Condvar,
    /// Told when the origin stops.
    stopped: Condvar,
}

#[derive(Debug, Default)]
struct State {
    seen: Seen,
    scripts: HashMap<String, VecDeque<Vec<Fault>>>,
    always: HashMap<String, Vec<Fault>>,
    /// Objects that changed, and from where.
    changes: HashMap<String, usize>,
    validators: Validators,
    gates: Vec<fault::Gate>,
    stopping: bool,
    /// Weak, so that a connection is closed at the moment when its thread lets go of it.
    streams: Vec<Weak<TcpStream>>,
    threads: Vec<JoinHandle<()>>,
    /// What went wrong without having been scripted.
    troubles: Vec<String>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Notes a request and takes the faults that are meant for it; gives its place in the log.
    fn begin(&self, request: Request) -> (usize, Vec<Fault>) {
        let mut state = self.lock();
        let mut faults = Vec::new();
        for path in [request.path.as_str(), "*"] {
            faults.extend(state.always.get(path).into_iter().flatten().cloned());
        }
        let scripted = [request.path.as_str(), "*"]
            .into_iter()
            .find_map(|path| state.scripts.get_mut(path).and_then(VecDeque::pop_front));
        faults.extend(scripted.into_iter().flatten());
        for fault in &faults {
            state.gates.extend(fault.gate().cloned());
            if let Fault::ChangedFrom(offset) = fault {
                state.changes.insert(request.path.clone(), *offset);
            }
        }
        state.seen.requests.push(request);
        self.changed.notify_all();
        (state.seen.requests.len() - 1, faults)
    }

    /// Changes what the log says of a request.
    fn note(&self, index: usize, change: impl FnOnce(&mut Request)) {
        change(&mut self.lock().seen.requests[index]);
        self.changed.notify_all();
    }

    /// Writes down what no test asked for; dropping the origin fails with it.
    fn trouble(&self, what: String) {
        self.lock().troubles.push(what);
    }

    /// Waits for so long, or until the origin stops: then false.
    fn pause(&self, duration: Duration) -> bool {
        let (state, _) =
            self.stopped.wait_timeout_while(self.lock(), duration, |state| !state.stopping).unwrap();
        !state.stopping
    }

    /// Waits at a gate; false when the origin stops meanwhile.
    fn hold(&self, gate: &fault::Gate, path: &str) -> bool {
        // A stop may have run through the gates just before this one was noted.
        if !self.lock().stopping && !gate.pass() {
            self.trouble(format!("{path}: its gate was never opened"));
        }
        !self.lock().stopping
    }

    fn stop(&self) -> Vec<JoinHandle<()>> {
        let mut state = self.lock();
        state.stopping = true;
        state.gates.iter().for_each(fault::Gate::open);
        for stream in state.streams.iter().filter_map(Weak::upgrade) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.stopped.notify_all();
        std::mem::take(&mut state.threads)
    }
}

/// A path that no tree has.
const LAST: &str = "/last";
