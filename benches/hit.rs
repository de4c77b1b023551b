//! The hit path: one connection that is kept, over loopback, against a bare hyper loop that answers from memory.
//!
//! `taskset -c 1 cargo bench --bench hit`. Client, relay and bare loop are threads of one process: the relay with one data
//! worker and no access log, the loop with the same runtime. They take turns, so one core is enough; over two cores an idle
//! one has to wake up for each answer, and that takes longer than the answer. Besides criterion's figures it prints, taken in
//! turns, the ratios of the time for an answer as the client sees it, and of the processor time that the serving thread spends
//! on it. Then parts of a hit alone: the look-up and the decision.

#![allow(missing_docs, reason = "criterion's macros make public items without any")]
#![allow(clippy::unwrap_used, reason = "a bench may stop like a test")]

mod pairs;

use std::convert::Infallible;
use std::fmt::Write as _;
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use forebay::app::Relay;
use forebay::app::handle::RelayHandle;
use forebay::base::path::TreePath;
use forebay::config::settings::{AccessLog, Listen, Sendfile, Settings};
use forebay::manifest::catalogue::Class;
use forebay::policy::caller::Shown;
use forebay::policy::decide::{Ask, Permission, Policy, Unknown};
use forebay::policy::scope::Scope;
use forebay::policy::tree::compiled::Compiled;
use forebay::relay::tree::Tree;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use pairs::Compared;

/// What is asked for: its name, the file, the range, how many bytes come, how the relay sends them, answers in one turn, turns.
const ASKED: [Asked; 6] = [
    Asked {
        name: "2 KiB",
        file: "small.zip",
        range: None,
        bytes: 2 << 10,
        sendfile: Sendfile::Auto,
        answers: 2_000,
        turns: 40,
    },
    Asked {
        name: "64 KiB",
        file: "medium.zip",
        range: None,
        bytes: 64 << 10,
        sendfile: Sendfile::Auto,
        answers: 1_000,
        turns: 40,
    },
    Asked {
        name: "1 MiB range",
        file: "large.zip",
        range: Some((1 << 20, 2 << 20)),
        bytes: 1 << 20,
        sendfile: Sendfile::Off,
        answers: 200,
        turns: 40,
    },
    Asked {
        name: "1 MiB range, sendfile",
        file: "large.zip",
        range: Some((1 << 20, 2 << 20)),
        bytes: 1 << 20,
        sendfile: Sendfile::On,
        answers: 200,
        turns: 40,
    },
    Asked {
        name: "64 MiB",
        file: "huge.zip",
        range: None,
        bytes: 64 << 20,
        sendfile: Sendfile::Off,
        answers: 4,
        turns: 20,
    },
    Asked {
        name: "64 MiB, sendfile",
        file: "huge.zip",
        range: None,
        bytes: 64 << 20,
        sendfile: Sendfile::On,
        answers: 4,
        turns: 20,
    },
];

const FILES: [(&str, usize); 4] =
    [("small.zip", 2 << 10), ("medium.zip", 64 << 10), ("large.zip", 4 << 20), ("huge.zip", 64 << 20)];

struct Asked {
    name: &'static str,
    file: &'static str,
    range: Option<(usize, usize)>,
    bytes: usize,
    sendfile: Sendfile,
    answers: u32,
    turns: usize,
}

/// A tree with one pattern of each size, without signatures.
fn write_tree(folder: &Path) {
    std::fs::create_dir(folder.join("pattern")).unwrap();
    let mut manifest = String::from("[PATTERN]\r\n");
    for (id, (name, size)) in FILES.iter().enumerate() {
        write!(manifest, "P.{id}=pattern/{name},1668300,{size}\r\n").unwrap();
        std::fs::write(folder.join("pattern").join(name), contents(*size)).unwrap();
    }
    std::fs::write(folder.join("server.ini"), manifest).unwrap();
}

fn contents(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

fn start_relay(folder: &Path) -> (RelayHandle, Settings) {
    let tree = folder.join("tree");
    std::fs::create_dir(&tree).unwrap();
    write_tree(&tree);
    let mut settings = Settings::for_upstream(tree.to_str().unwrap()).unwrap();
    settings.data = folder.join("data");
    settings.workers = Some(1);
    settings.listen = Listen::Configured(vec!["127.0.0.1:0".parse().unwrap()]);
    settings.admin = Listen::Configured(vec!["127.0.0.1:0".parse().unwrap()]);
    settings.socks.listen = Listen::Configured(vec!["127.0.0.1:0".parse().unwrap()]);
    settings.log.access = AccessLog::Off;
    let relay = Relay::start(settings.clone()).unwrap();
    let waited = Instant::now();
    while relay.trees()[0].snapshot().is_none() {
        assert!(waited.elapsed() < Duration::from_mins(1), "the relay took no generation");
        std::thread::sleep(Duration::from_millis(10));
    }
    (relay, settings)
}

/// The least that hyper can do: the path is a file's name, the body a slice of memory.
fn start_bare() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let files =
        FILES.map(|(name, size)| (format!("/activeupdate/pattern/{name}"), Bytes::from(contents(size))));
    std::thread::Builder::new().name("bare".into()).spawn(move || run_bare(listener, &files)).unwrap();
    address
}

fn run_bare(listener: TcpListener, files: &[(String, Bytes)]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let service =
                service_fn(|request| async move { Ok::<_, Infallible>(bare_answer(&request, files)) });
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(15));
            // One connection at a time is all that this bench has; an error is its end.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        }
    });
}

fn bare_answer(request: &Request<hyper::body::Incoming>, files: &[(String, Bytes)]) -> Response<Full<Bytes>> {
    let (_, bytes) = files.iter().find(|(path, _)| path == request.uri().path()).unwrap();
    let answer = Response::builder().header(header::CONTENT_TYPE, "application/octet-stream");
    match request.headers().get(header::RANGE) {
        None => answer.body(Full::new(bytes.clone())).unwrap(),
        Some(range) => {
            let range = range.to_str().unwrap().strip_prefix("bytes=").unwrap();
            let (first, last) = range.split_once('-').unwrap();
            let (first, end): (usize, usize) = (first.parse().unwrap(), last.parse::<usize>().unwrap() + 1);
            let answer = answer.status(StatusCode::PARTIAL_CONTENT);
            answer.body(Full::new(bytes.slice(first..end))).unwrap()
        }
    }
}

/// A connection that is kept, with the request that it makes.
struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    buffer: Vec<u8>,
    bytes: usize,
}

impl Client {
    fn connect(address: SocketAddr, asked: &Asked) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let range = asked.range.map(|(start, end)| format!("Range: bytes={start}-{}\r\n", end - 1));
        let range = range.unwrap_or_default();
        let request = format!("GET /activeupdate/pattern/{} HTTP/1.1\r\nHost: a\r\n{range}\r\n", asked.file);
        let request = request.into_bytes();
        Self { stream, request, buffer: vec![0; 256 << 10], bytes: asked.bytes }
    }

    /// Asks once and reads the answer to its end.
    fn ask(&mut self) {
        self.stream.write_all(&self.request).unwrap();
        let mut filled = 0;
        let head = loop {
            let read = self.stream.read(&mut self.buffer[filled..]).unwrap();
            assert!(read > 0, "the connection was closed");
            filled += read;
            if let Some(end) = self.buffer[..filled].windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
        };
        assert!(self.buffer.starts_with(b"HTTP/1.1 20"), "{}", String::from_utf8_lossy(&self.buffer[..head]));
        let mut left = self.bytes - (filled - head);
        while left > 0 {
            let read = self.stream.read(&mut self.buffer).unwrap();
            assert!(read > 0, "the connection was closed");
            left = left.checked_sub(read).expect("no more than the body comes");
        }
    }

    fn ask_often(&mut self, count: u64) -> Duration {
        let started = Instant::now();
        for _ in 0..count {
            self.ask();
        }
        started.elapsed()
    }
}

/// The processor time that a thread of this process has spent, as Linux counts it.
struct ThreadTime(PathBuf);

impl ThreadTime {
    fn of(name: &str) -> Self {
        let threads = std::fs::read_dir("/proc/self/task").unwrap().map(|thread| thread.unwrap().path());
        let named = |thread: &PathBuf| {
            std::fs::read_to_string(thread.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
        };
        Self(threads.into_iter().find(named).unwrap().join("schedstat"))
    }

    fn nanos(&self) -> f64 {
        let text = std::fs::read_to_string(&self.0).unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    }
}

fn end_to_end(criterion: &mut Criterion) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (mut relay, settings) = start_relay(folder.path());
    let bare = start_bare();
    // A thread has its name for certain once it has answered.
    for address in [bare, relay.running().listen[0]] {
        Client::connect(address, &ASKED[0]).ask();
    }
    let (relay_time, bare_time) = (ThreadTime::of("data-0"), ThreadTime::of("bare"));
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1) {
        println!("hit: not on one core: the figures depend on where the scheduler puts client and server");
    }
    let mut group = criterion.benchmark_group("hit");
    for asked in &ASKED {
        relay.reload(Settings { sendfile: asked.sendfile, ..settings.clone() }).unwrap();
        group.throughput(Throughput::Bytes(asked.bytes as u64));
        for (name, address) in [("bare", bare), ("relay", relay.running().listen[0])] {
            let mut client = Client::connect(address, asked);
            group.bench_function(format!("{name}/{}", asked.name), |bencher| bencher.iter(|| client.ask()));
        }
        compare(asked, relay.running().listen[0], bare, &relay_time, &bare_time);
    }
    group.finish();
}

/// Prints the ratios; each turn is so many answers of the one, then of the other.
fn compare(
    asked: &Asked,
    relay: SocketAddr,
    bare: SocketAddr,
    relay_time: &ThreadTime,
    bare_time: &ThreadTime,
) {
    let measure = |address, thread: &ThreadTime| {
        let mut client = Client::connect(address, asked);
        client.ask();
        let before = thread.nanos();
        let took = client.ask_often(asked.answers.into()).as_secs_f64() * 1e9;
        let count = f64::from(asked.answers);
        (took / count, (thread.nanos() - before) / count)
    };
    let turn = |_| (measure(bare, bare_time), measure(relay, relay_time));
    let turns: Vec<_> = (0..pairs::turns(asked.turns)).map(turn).collect();
    let seen: Vec<_> = turns.iter().map(|(bare, relay)| (bare.0, relay.0)).collect();
    let spent: Vec<_> = turns.iter().map(|(bare, relay)| (bare.1, relay.1)).collect();
    if let (Some(seen), Some(spent)) = (Compared::of(&seen), Compared::of(&spent)) {
        println!("hit, {}, as the client sees it, in turns: {seen}", asked.name);
        println!("hit, {}, processor time of the server, in turns: {spent}", asked.name);
    }
}

fn parts(criterion: &mut Criterion) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (relay, _) = start_relay(folder.path());
    let tree = &relay.trees()[0];
    let mut group = criterion.benchmark_group("parts of a hit");
    group.bench_function("look-up: path, snapshot, entry, state", |bencher| {
        bencher.iter(|| look_up(tree, black_box(b"pattern/large.zip")));
    });
    let policy = policy();
    let agents: [IpAddr; 2] = ["10.3.200.7".parse().unwrap(), "2001:db8:0:7::9".parse().unwrap()];
    for agent in agents {
        let family = if agent.is_ipv4() { "IPv4" } else { "IPv6" };
        group.bench_function(format!("decision: {family}, 1,024 ranges"), |bencher| {
            let ask = Ask::Component(Class::Pattern);
            let tree = Compiled::default();
            bencher.iter(|| {
                let caller = policy.caller(&tree, &Shown::from(black_box(agent))).unwrap();
                policy.decide(&caller, ask, Permission::Open).unwrap().spend(ask)
            });
        });
    }
    group.finish();
}

fn look_up(tree: &Tree, path: &[u8]) -> u64 {
    let path = TreePath::parse(path).unwrap();
    let snapshot = tree.snapshot().unwrap();
    snapshot.find(&path, |_| false).unwrap().entry.held().unwrap().size
}

/// A range for each of 512 IPv4 and 512 IPv6 networks.
fn policy() -> Policy {
    let ranges = (0..512).flat_map(|number| {
        let v4 = format!("10.{}.{}.0/24", number / 128, number * 2 % 256);
        [v4, format!("2001:db8:0:{number:x}::/64")].map(|range| (range.parse().unwrap(), Scope::All))
    });
    Policy::new(ranges, Unknown::Refuse)
}

criterion_group!(hit_benches, end_to_end, parts);
criterion_main!(hit_benches);
