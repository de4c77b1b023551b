//! Bytes: as much as the limit says, in equal shares, of those who share it and of nobody else.

use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::spawn;
use std::time::{Duration, Instant};

use bytes::Bytes;
use forebay::policy::tree::change::{Action, Patch, Reach};
use forebay::policy::tree::setting::Values;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::client::conn::http2::handshake;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpSocket;

use super::{BIG, Ground, PROGRAM, agent, bearer, rate};
use crate::raw::Client;
use crate::served::WITHIN;
use crate::tunnel::until;

/// What connections have got so far.
struct Got {
    bytes: Vec<AtomicU64>,
    stop: AtomicBool,
}

impl Got {
    fn new(count: usize) -> Arc<Self> {
        Self { bytes: (0..count).map(|_| AtomicU64::default()).collect(), stop: AtomicBool::default() }.into()
    }

    fn now(&self) -> Vec<u64> {
        self.bytes.iter().map(|bytes| bytes.load(Ordering::Relaxed)).collect()
    }

    /// Takes whatever comes on a connection until it is told to stop.
    fn take(&self, at: usize, client: &mut Client, headers: &[(&str, &str)]) {
        client.ask("GET", BIG, headers).unwrap();
        let mut stream = client.stream();
        let mut piece = [0; 16 << 10];
        while !self.stop.load(Ordering::Relaxed) {
            match stream.read(&mut piece) {
                Ok(0) | Err(_) => break,
                Ok(count) => self.bytes[at].fetch_add(count as u64, Ordering::Relaxed),
            };
        }
    }

    /// What each gets while all of them get so much, once each has got its first bytes; and how long that takes.
    fn among(&self, all: u64) -> (Vec<u64>, Duration) {
        until("each has its first bytes", || self.now().iter().all(|bytes| *bytes > 2 << 10));
        let (before, began) = (self.now(), Instant::now());
        let sum: u64 = before.iter().sum();
        until("the bytes come", || self.now().iter().sum::<u64>() >= sum + all);
        let parts = self.now().iter().zip(&before).map(|(now, before)| now - before).collect();
        (parts, began.elapsed())
    }
}

#[test]
fn two_hundred_connections_of_a_domain_have_equal_shares_and_another_domain_is_not_slowed_r10_1() {
    const PER_SEC: u64 = 10_000_000;
    let mut ground = Ground::new();
    ground.limit(Values { domain_bytes_per_sec: rate(PER_SEC), ..Values::default() });
    let mut other = ground.client(2, 1);
    let alone = (0..20).map(|_| ground.took(&mut other, BIG, &[])).min().unwrap();
    let got = Got::new(200);
    let taking: Vec<_> = (0..200)
        .map(|at| {
            let (got, mut client) = (got.clone(), ground.client(1, u8::try_from(at + 1).unwrap()));
            spawn(move || got.take(at, &mut client, &[]))
        })
        .collect();
    let watching = {
        let got = got.clone();
        spawn(move || got.among(3 * PER_SEC))
    };
    let mut beside = Duration::MAX;
    while !watching.is_finished() {
        beside = beside.min(ground.took(&mut other, BIG, &[]));
    }
    let (parts, took) = watching.join().unwrap();
    got.stop.store(true, Ordering::Relaxed);
    let (least, most) = (*parts.iter().min().unwrap(), *parts.iter().max().unwrap());
    let all: u64 = parts.iter().sum();
    println!(
        "of {all} bytes in {took:?}: {least} to {most} each; 8 MiB of another domain: {alone:?} alone, {beside:?} beside"
    );
    for part in [least, most] {
        assert!(
            (all / 200).abs_diff(part) <= all / 200 / 10,
            "{least} to {most}, and {} is equal",
            all / 200
        );
    }
    let least_ms = u128::from(all * 1000 / PER_SEC) * 10 / 11;
    assert!(took.as_millis() >= least_ms, "{all} bytes in {took:?}");
    // The best of many, each a few milliseconds: what else the machine does counts little.
    assert!(beside <= 2 * alone, "{alone:?} alone, {beside:?} beside");
    assert!(ground.tally.slowed_bytes.value() > 0);
    for thread in taking {
        thread.join().unwrap();
    }
    ground.relay.stop();
}

#[test]
fn an_agent_has_its_own_limit_on_all_its_connections_and_another_one_its_own_r10_1() {
    let mut ground = Ground::new();
    let own = Patch::set(Values { bytes_per_sec: rate(2_000_000), ..Values::default() });
    ground.change(vec![Action::Set { domains: vec![], agents: vec![agent("a")], patch: own }]);
    let (a, b) = (bearer("a"), bearer("b"));
    let (address, whole) = (ground.relay.v4(), ground.program.clone());
    let began = Instant::now();
    let both = [(); 2].map(|()| {
        let (a, whole) = (a.clone(), whole.clone());
        spawn(move || {
            let answer = Client::connect(address).exchange("GET", PROGRAM, &[("Authorization", &a)]);
            assert!(answer.unwrap().whole(200) == whole);
        })
    });
    let free = ground.took(&mut Client::connect(address), BIG, &[("Authorization", &b)]);
    for thread in both {
        thread.join().unwrap();
    }
    let took = began.elapsed();
    // Two files of 2 MB: two seconds, but for what is kept of a limit.
    assert!(took >= Duration::from_millis(1700) && free < took / 2, "{took:?}, {free:?}");
    ground.relay.stop();
}

#[test]
fn programs_have_a_pace_of_their_own_beside_what_else_the_domain_gets_r10_1() {
    let mut ground = Ground::new();
    ground.limit(Values { domain_program_bytes_per_sec: rate(1_000_000), ..Values::default() });
    let (address, whole) = (ground.relay.v4(), ground.program.clone());
    let began = Instant::now();
    let program = spawn(move || {
        let mut client = Client::connect_from([127, 1, 0, 1].into(), address);
        assert!(client.exchange("GET", PROGRAM, &[]).unwrap().whole(200) == whole);
    });
    let pattern = ground.took(&mut ground.client(1, 1), BIG, &[]);
    program.join().unwrap();
    let took = began.elapsed();
    // 2 MB, but for what is kept of a limit.
    assert!(took >= Duration::from_millis(1800) && pattern < took / 2, "{took:?}, {pattern:?}");
    assert!(ground.took(&mut ground.client(2, 1), PROGRAM, &[]) < took / 2, "another domain has its own");
    ground.relay.stop();
}

#[test]
fn what_an_agents_own_limit_leaves_of_its_domains_the_others_get_r10_1() {
    let mut ground = Ground::new();
    ground.limit(Values { domain_bytes_per_sec: rate(2_000_000), ..Values::default() });
    let own = Patch::set(Values { bytes_per_sec: rate(400_000), ..Values::default() });
    ground.change(vec![Action::Set { domains: vec![], agents: vec![agent("a")], patch: own }]);
    let got = Got::new(3);
    let taking: Vec<_> = (0..3)
        .map(|at| {
            let (got, mut client) = (got.clone(), ground.client(1, 1));
            let shown = (at == 0).then(|| bearer("a"));
            spawn(move || {
                let headers = shown.as_ref().map(|shown| ("Authorization", &**shown));
                got.take(at, &mut client, headers.as_slice());
            })
        })
        .collect();
    let (parts, took) = got.among(6_000_000);
    got.stop.store(true, Ordering::Relaxed);
    // A fifth of it, and half of the rest for each of the others.
    for (part, whole) in parts.iter().zip([1_200_000, 2_400_000, 2_400_000_u64]) {
        assert!(part.abs_diff(whole) <= whole / 8, "{parts:?} in {took:?}");
    }
    for thread in taking {
        thread.join().unwrap();
    }
    ground.relay.stop();
}

#[test]
fn the_streams_of_one_connection_have_one_share_r10_1() {
    let mut ground = Ground::new();
    ground.limit(Values { domain_bytes_per_sec: rate(2_000_000), ..Values::default() });
    let got = Got::new(2);
    let plain = {
        let (got, mut client) = (got.clone(), ground.client(1, 1));
        spawn(move || got.take(0, &mut client, &[]))
    };
    let framed = {
        let (got, address) = (got.clone(), ground.relay.v4());
        spawn(move || streams(&got, address))
    };
    let (parts, took) = got.among(8_000_000);
    got.stop.store(true, Ordering::Relaxed);
    assert!(parts[0].abs_diff(parts[1]) <= 800_000, "{parts:?} in {took:?}");
    plain.join().unwrap();
    framed.join().unwrap();
    ground.relay.stop();
}

/// Eight bodies at once on one connection of HTTP/2.
fn streams(got: &Got, address: SocketAddr) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let taking = async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 1, 0, 2], 0).into()).unwrap();
        let stream = TokioIo::new(socket.connect(address).await.unwrap());
        let (sender, connection) = handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        let bodies = (0..8).map(|_| {
            let mut sender = sender.clone();
            async move {
                let request = Request::get(format!("http://relay.test{BIG}")).body(Empty::<Bytes>::new());
                let mut body = sender.send_request(request.unwrap()).await.unwrap().into_body();
                while let Some(Ok(frame)) = body.frame().await
                    && !got.stop.load(Ordering::Relaxed)
                {
                    let count = frame.data_ref().map_or(0, Bytes::len);
                    got.bytes[1].fetch_add(count as u64, Ordering::Relaxed);
                }
            }
        });
        futures_util::future::join_all(bodies).await;
    };
    runtime.block_on(async { tokio::time::timeout(WITHIN, taking).await.expect("it took too long") });
}

#[test]
fn each_domain_has_its_own_of_what_it_inherits_r10_1() {
    let mut ground = Ground::new();
    let at_the_root = Patch::set(Values { domain_bytes_per_sec: rate(4_000_000), ..Values::default() });
    ground.change(vec![Action::SetRoot { reach: Reach::AllAgents, patch: at_the_root }]);
    let address = ground.relay.v4();
    let began = Instant::now();
    let both = [1, 2].map(|domain| {
        spawn(move || {
            let mut client = Client::connect_from([127, domain, 0, 1].into(), address);
            client.exchange("GET", PROGRAM, &[]).unwrap().whole(200);
            client.exchange("GET", PROGRAM, &[]).unwrap().whole(200);
        })
    });
    for thread in both {
        thread.join().unwrap();
    }
    let took = began.elapsed();
    // 4 MB each: a second, and not two.
    assert!(took >= Duration::from_millis(850) && took < Duration::from_millis(1800), "{took:?}");
    ground.relay.stop();
}
