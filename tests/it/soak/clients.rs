//! Clients of every kind over HTTP/1, and what each holds its answers to.
//!
//! Invariant: an answer that ended as its framing announced has the bytes of a release; one that did not has the first of them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::authority::Authority;
use crate::raw::answer::{Answer, End, content_range};
use crate::raw::{self, PATIENCE};
use crate::soak::dice::Dice;
use crate::soak::releases::{BASE, Releases};

/// Agents that the clients pass for: addresses of 127.0.1.0/24.
const AGENTS: usize = 200;

/// How long a slow client takes at most before it leaves.
const SLOW: Duration = Duration::from_secs(4);

/// Connections that were quiet for so long may be closed: a little less than the relay's `head_timeout_secs` here, 3.
const LATE: Duration = Duration::from_millis(2800);

/// What clients did and met.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// Guards how often each thing was done or met.
    counts: Mutex<BTreeMap<String, u64>>,
    requests: AtomicU64,
    bytes: AtomicU64,
}

impl Book {
    /// How many things clients did.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Counts something.
    pub(super) fn count(&self, what: impl Into<String>) {
        *self.counts.lock().unwrap().entry(what.into()).or_default() += 1;
    }

    /// Counts body bytes that came.
    pub(super) fn add_bytes(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl fmt::Display for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} clients, {} body bytes", self.requests(), self.bytes.load(Ordering::Relaxed))?;
        let counts = self.counts.lock().unwrap();
        let of = |prefix: &str| {
            let those = counts.iter().filter_map(|(what, count)| Some((what.strip_prefix(prefix)?, count)));
            those.map(|(what, count)| format!("{what} {count}")).collect::<Vec<_>>().join(", ")
        };
        writeln!(f, "clients: {}\nanswers: {}", of("client "), of("answer "))
    }
}

/// One client after the other.
pub(super) struct Client {
    pub(super) agents: SocketAddr,
    pub(super) tls: SocketAddr,
    pub(super) admin: SocketAddr,
    /// What its administrator shows.
    pub(super) bearer: String,
    pub(super) releases: Arc<Releases>,
    pub(super) authority: Arc<Authority>,
    pub(super) book: Arc<Book>,
    pub(super) dice: Dice,
}

/// A kind of client.
type Kind = (&'static str, fn(&mut Client));

/// Every kind; what agents do most stands several times.
const KINDS: &[Kind] = &[
    ("whole", Client::whole),
    ("whole", Client::whole),
    ("whole", Client::whole),
    ("range", Client::range),
    ("range", Client::range),
    ("suffix", Client::suffix),
    ("several ranges", Client::several),
    ("head", Client::head),
    ("conditional", Client::conditional),
    ("if-range", Client::if_range),
    ("keep-alive", Client::keep_alive),
    ("slow", Client::slow),
    ("takes nothing", Client::takes_nothing),
    ("leaves", Client::leaves),
    ("leaves", Client::leaves),
    ("idle", Client::idle),
    ("half a head", Client::half_head),
    ("garbage", Client::garbage),
    ("oversize head", Client::oversize),
    ("http/2", Client::http2),
    ("http/2", Client::http2),
    ("tls", Client::over_tls),
    ("tls", Client::over_tls),
    ("tls garbage", Client::tls_garbage),
    ("admin", Client::administer),
];

impl Client {
    /// Does one thing.
    pub(super) fn act(&mut self) {
        let (name, act) = *self.dice.one_of(KINDS);
        self.book.requests.fetch_add(1, Ordering::Relaxed);
        self.book.count(format!("client {name}"));
        act(self);
    }

    /// A path of the manifest that this agent is shown, below the base.
    fn some_path(&mut self, connection: &mut raw::Client) -> String {
        let answer = connection.exchange("GET", &format!("{BASE}server.ini"), &[]);
        self.path_of(answer.unwrap_or_else(|end| panic!("no manifest: {end:?}")).whole(200))
    }

    /// A path that a manifest names.
    fn path_of(&mut self, manifest: Vec<u8>) -> String {
        assert!(self.releases.is_whole("server.ini", &manifest), "no release has this manifest");
        let manifest = String::from_utf8(manifest).unwrap();
        let values = manifest.lines().filter_map(|line| line.split_once('='));
        let names = values.flat_map(|(_, value)| value.split(','));
        let mut paths: Vec<String> =
            names.filter(|name| name.contains('/') && !name.contains(':')).map(Into::into).collect();
        paths.extend(paths.clone().iter().map(|path| format!("{}.sig", path.rsplit_once('.').unwrap().0)));
        self.dice.one_of(&paths).clone()
    }

    fn connect(&mut self) -> raw::Client {
        let last = u8::try_from(self.dice.within(1..AGENTS)).unwrap();
        raw::Client::connect_from(IpAddr::V4(Ipv4Addr::new(127, 0, 1, last)), self.agents)
    }

    /// A connection, and a path that was shown on it.
    pub(super) fn begin(&mut self) -> (raw::Client, String) {
        let mut connection = self.connect();
        let path = self.some_path(&mut connection);
        (connection, path)
    }

    fn get(&mut self, headers: &[(&str, &str)]) -> (String, Answer) {
        let (mut connection, path) = self.begin();
        let answer = connection.exchange("GET", &format!("{BASE}{path}"), headers);
        let answer = answer.unwrap_or_else(|end| panic!("{path}: no head: {end:?}"));
        (path, answer)
    }

    fn whole(&mut self) {
        let (path, answer) = self.get(&[]);
        self.check(&path, &answer);
    }

    fn range(&mut self) {
        let start = self.dice.within(0..250_000);
        let end = start + self.dice.within(0..1_200_000);
        let (path, answer) = self.get(&[("Range", &format!("bytes={start}-{end}"))]);
        self.check(&path, &answer);
    }

    fn suffix(&mut self) {
        let count = self.dice.within(0..1_400_000);
        let (path, answer) = self.get(&[("Range", &format!("bytes=-{count}"))]);
        self.check(&path, &answer);
    }

    fn several(&mut self) {
        let mut at = 0;
        let specs: Vec<_> = (0..self.dice.within(2..30))
            .map(|_| {
                let start = at + self.dice.within(0..3000);
                at = start + self.dice.within(1..3000);
                format!("{start}-{}", at - 1)
            })
            .collect();
        let (path, answer) = self.get(&[("Range", &format!("bytes={}", specs.join(", ")))]);
        self.check(&path, &answer);
    }

    fn head(&mut self) {
        let (mut connection, path) = self.begin();
        let answer = connection.exchange("HEAD", &format!("{BASE}{path}"), &[]).unwrap();
        assert!(answer.body.is_empty() && answer.end == End::Complete, "{path}");
        self.book.count(format!("answer {}", answer.head.status));
        if answer.head.status == 200 {
            let size = answer.head.header("content-length").unwrap().parse().unwrap();
            assert!(self.releases.is_size(&path, size), "{path}: {size} bytes");
        }
    }

    fn conditional(&mut self) {
        let (mut connection, path) = self.begin();
        let target = format!("{BASE}{path}");
        let Ok(first) = connection.exchange("HEAD", &target, &[]) else { panic!("{path}: no head") };
        let Some(etag) = first.head.header("etag").map(ToOwned::to_owned) else { return };
        let name = *self.dice.one_of(&["If-None-Match", "If-Match"]);
        let answer = connection.exchange("GET", &target, &[(name, &etag)]);
        self.check(&path, &answer.unwrap_or_else(|end| panic!("{path}: no head: {end:?}")));
    }

    fn if_range(&mut self) {
        let (mut connection, path) = self.begin();
        let target = format!("{BASE}{path}");
        let Ok(first) = connection.exchange("HEAD", &target, &[]) else { panic!("{path}: no head") };
        let Some(etag) = first.head.header("etag").map(ToOwned::to_owned) else { return };
        let range = format!("bytes={}-", self.dice.within(0..9000));
        let answer = connection.exchange("GET", &target, &[("If-Range", &etag), ("Range", &range)]);
        self.check(&path, &answer.unwrap_or_else(|end| panic!("{path}: no head: {end:?}")));
    }

    fn keep_alive(&mut self) {
        let mut quiet = Instant::now();
        let mut connection = self.connect();
        let mut path = self.some_path(&mut connection);
        for _ in 0..self.dice.within(2..12) {
            let Some(answer) = self.kept(&mut connection, &path, quiet) else { return };
            quiet = Instant::now();
            self.check(&path, &answer);
            if answer.end != End::Complete || answer.head.header("connection") == Some("close") {
                return;
            }
            let Some(manifest) = self.kept(&mut connection, "server.ini", quiet) else { return };
            quiet = Instant::now();
            path = self.path_of(manifest.whole(200));
        }
    }

    /// Asks on a connection that was quiet since then. A client that had no turn on a busy machine finds it closed, as one does
    /// that was idle for too long.
    fn kept(&self, connection: &mut raw::Client, path: &str, quiet: Instant) -> Option<Answer> {
        let quiet = quiet.elapsed();
        match connection.exchange("GET", &format!("{BASE}{path}"), &[]) {
            Ok(answer) => Some(answer),
            Err(End::Closed | End::Reset) if quiet >= LATE => {
                self.book.count("client late on a kept connection");
                None
            }
            Err(end) => panic!("{path}: no head: {end:?}; the connection was quiet for {quiet:?}"),
        }
    }

    fn slow(&mut self) {
        let path = self.begin().1;
        let mut connection = raw::Client::connect_narrow(self.agents);
        connection.ask("GET", &format!("{BASE}{path}"), &[]).unwrap();
        let head = connection.read_head("GET").unwrap_or_else(|end| panic!("{path}: no head: {end:?}"));
        let begun = Instant::now();
        let (mut body, mut ended) = (Vec::new(), None);
        while ended.is_none() && begun.elapsed() < SLOW {
            let (more, end) = connection.read(16 << 10);
            body.extend(more);
            ended = end;
            std::thread::sleep(Duration::from_millis(20));
        }
        match ended {
            Some(end) => self.check(&path, &Answer { head, body, end }),
            None => self.check_start(&path, head.status, &body),
        }
    }

    /// Takes no byte of the body until the relay has had enough of it.
    fn takes_nothing(&mut self) {
        let path = self.begin().1;
        let mut connection = raw::Client::connect_narrow(self.agents);
        connection.ask("GET", &format!("{BASE}{path}"), &[]).unwrap();
        std::thread::sleep(Duration::from_millis(3500));
        let answer = connection.answer("GET").unwrap_or_else(|end| panic!("{path}: no head: {end:?}"));
        self.check(&path, &answer);
    }

    fn leaves(&mut self) {
        let (mut connection, path) = self.begin();
        connection.ask("GET", &format!("{BASE}{path}"), &[]).unwrap();
        if self.dice.once_in(4) {
            connection.reset();
            return;
        }
        let head = connection.read_head("GET").unwrap_or_else(|end| panic!("{path}: no head: {end:?}"));
        let (body, _) = connection.read(self.dice.within(1..300_000));
        self.check_start(&path, head.status, &body);
        if self.dice.once_in(2) {
            connection.reset();
        }
    }

    /// Asks for nothing: the relay ends it.
    fn idle(&mut self) {
        let mut connection = self.connect();
        if self.dice.once_in(2) {
            self.some_path(&mut connection);
        }
        let (_, end) = connection.read_to_close();
        assert_ne!(end, End::TimedOut, "an idle connection is not ended in {PATIENCE:?}");
    }

    fn half_head(&mut self) {
        let mut connection = self.connect();
        connection.send(b"GET /activeupdate/server.ini HTTP/1.1\r\nHost: re").unwrap();
        let (_, end) = connection.read_to_close();
        assert_ne!(end, End::TimedOut, "half a head is waited for longer than {PATIENCE:?}");
    }

    fn garbage(&mut self) {
        let mut connection = self.connect();
        let bytes: Vec<u8> =
            (0..self.dice.within(1..3000)).map(|_| self.dice.number().to_le_bytes()[0]).collect();
        // The relay may have ended it in the middle.
        let _ = connection.send(&bytes);
        let (answer, end) = connection.read_to_close();
        assert_ne!(end, End::TimedOut, "garbage is waited for: {}", bytes.escape_ascii());
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{} is answered", bytes.escape_ascii());
    }

    fn oversize(&mut self) {
        let mut connection = self.connect();
        let long = "x".repeat(self.dice.within(17_000..100_000));
        let _ = connection.ask("GET", "/activeupdate/server.ini", &[("X-Long", &long)]);
        let (answer, end) = connection.read_to_close();
        assert_ne!(end, End::TimedOut, "an oversize head is waited for");
        // A reset may overtake the status.
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{}", answer.escape_ascii());
    }

    fn administer(&mut self) {
        let path = *self.dice.one_of(&["/metrics", "/api/v1/status", "/healthz", "/readyz"]);
        raw::fetch(self.admin, path, &[("Authorization", &self.bearer)]).whole(200);
    }

    /// Holds an answer about a file against what was published.
    pub(super) fn check(&self, path: &str, answer: &Answer) {
        let Answer { head, body, end } = answer;
        self.book.add_bytes(body.len());
        self.book.count(format!("answer {}", head.status));
        match end {
            End::Complete => {}
            End::Short | End::Reset => self.book.count("answer cut"),
            other => panic!("{path}: {other:?} after {} bytes of {head:?}", body.len()),
        }
        let whole = *end == End::Complete;
        match head.status {
            200 if whole => assert!(self.releases.is_whole(path, body), "{path}: wrong bytes, {head:?}"),
            200 => {
                assert!(self.releases.is_start(path, body), "{path}: wrong bytes before the cut, {head:?}");
            }
            206 => self.check_ranges(path, answer),
            304 | 404 | 412 | 416 | 502..=504 => {}
            _ => panic!("{path}: {head:?}"),
        }
    }

    fn check_ranges(&self, path: &str, answer: &Answer) {
        let whole = answer.end == End::Complete;
        let Some(range) = answer.head.header("content-range") else {
            let parts = if whole { answer.parts().unwrap() } else { Vec::new() };
            for part in parts {
                let range = part.start..part.start + part.bytes.len();
                assert!(self.releases.is_slice(path, range, part.whole, &part.bytes), "{path}: a wrong part");
            }
            return;
        };
        let (start, end, size) = content_range(range).unwrap();
        let came = start..start + answer.body.len();
        assert!(came.end == end || !whole, "{path}: {range} in {} bytes", answer.body.len());
        assert!(self.releases.is_slice(path, came, size, &answer.body), "{path}: wrong bytes of {range}");
    }

    fn check_start(&self, path: &str, status: u16, body: &[u8]) {
        self.book.add_bytes(body.len());
        self.book.count(format!("answer {status}, left"));
        assert!(status != 200 || self.releases.is_start(path, body), "{path}: wrong bytes at the start");
    }
}
