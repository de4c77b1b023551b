//! Transfers that limits slow: none is cut, by whatever deadline, and a limit that changes holds for them at once.

use std::time::{Duration, Instant};

use bytes::Bytes;
use forebay::policy::tree::setting::Values;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::client::conn::http2::handshake;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpSocket;

use super::{BIG, Ground, rate};
use crate::raw::Client;
use crate::raw::answer::End;
use crate::served::WITHIN;

/// Deadlines that are shorter than the pauses of who has 2 KiB a second, which come as two pieces.
const SOON: Duration = Duration::from_millis(200);

const RANGE: &str = "bytes=0-5999";

/// What 6,000 bytes take by that, but for the first piece and the last.
const LONG: Duration = Duration::from_millis(1800);

#[test]
fn a_transfer_longer_than_every_deadline_is_not_cut_r10_1() {
    let mut ground = Ground::with(|settings| {
        settings.limits.stall_timeout = SOON;
        settings.limits.head_timeout = 2 * SOON;
    });
    // Each address has its own.
    ground.limit(Values { bytes_per_sec: rate(2048), ..Values::default() });
    let (address, part) = (ground.relay.v4(), ground.big[..6000].to_vec());
    let began = Instant::now();
    let plain = [false, true].map(|ends_its_side| {
        let part = part.clone();
        std::thread::spawn(move || {
            let mut client = Client::connect_from([127, 1, 0, 1 + u8::from(ends_its_side)].into(), address);
            client.ask("GET", BIG, &[("Range", RANGE)]).unwrap();
            if ends_its_side {
                client.shut_write();
            }
            assert!(client.answer("GET").unwrap().whole(206) == part);
        })
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let framed = async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 1, 0, 9], 0).into()).unwrap();
        let stream = TokioIo::new(socket.connect(address).await.unwrap());
        let (mut sender, connection) = handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get(format!("http://relay.test{BIG}")).header("range", RANGE);
        let answer = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        assert!(answer.into_body().collect().await.unwrap().to_bytes() == part);
    };
    runtime.block_on(async { tokio::time::timeout(WITHIN, framed).await.expect("it took too long") });
    for thread in plain {
        thread.join().unwrap();
    }
    assert!(began.elapsed() >= LONG, "{:?}", began.elapsed());
    ground.relay.stop();
}

#[test]
fn a_limit_that_changes_holds_for_what_is_under_way_within_a_second_r10_1() {
    let mut ground = Ground::new();
    let mut client = Client::connect_narrow(ground.relay.v4());
    client.ask("GET", BIG, &[("Authorization", &super::bearer("a"))]).unwrap();
    client.read_head("GET").unwrap();
    let mut got = client.read(100_000).0;
    let mut narrowed = |ground: &mut Ground, client: &mut Client, values: Values| {
        ground.limit(values);
        // What the sockets hold comes, and then next to nothing.
        client.set_patience(Duration::from_secs(1));
        let mut last = usize::MAX;
        while last > 8 << 10 {
            let (bytes, end) = client.read(usize::MAX);
            assert_eq!(end, Some(End::TimedOut), "after {} bytes", got.len());
            last = bytes.len();
            got.extend(bytes);
        }
        assert!(got.len() < ground.big.len());
    };
    // From none to one, of each kind, and from one to another.
    narrowed(&mut ground, &mut client, Values { bytes_per_sec: rate(1000), ..Values::default() });
    narrowed(&mut ground, &mut client, Values { domain_bytes_per_sec: rate(1000), ..Values::default() });
    // And to none: what waits for its turn, which would come in a second, goes on at once.
    ground.limit(Values { domain_bytes_per_sec: rate(1), ..Values::default() });
    ground.limit(Values::default());
    let changed = Instant::now();
    client.set_patience(crate::raw::PATIENCE);
    let (bytes, end) = client.read(64 << 10);
    assert!(changed.elapsed() < Duration::from_secs(1), "{:?}", changed.elapsed());
    assert_eq!((bytes.len(), end), (64 << 10, None));
    got.extend(bytes);
    let (rest, end) = client.read(usize::MAX);
    got.extend(rest);
    assert!(end == Some(End::Complete) && got == ground.big, "{end:?} after {} bytes", got.len());
    ground.relay.stop();
}

#[test]
fn who_leaves_while_slowed_takes_nothing_with_him_r10_1() {
    let mut ground = Ground::new();
    ground.limit(Values { domain_bytes_per_sec: rate(400_000), ..Values::default() });
    let crowd: Vec<_> = (1..50)
        .map(|address| {
            let mut client = ground.client(1, address);
            client.ask("GET", BIG, &[]).unwrap();
            client.read_head("GET").unwrap();
            client
        })
        .collect();
    crowd.into_iter().for_each(Client::reset);
    crate::tunnel::until("all have left", || ground.tally.connections_now.value() == 0);
    let began = Instant::now();
    let mut client = ground.client(1, 100);
    let part = client.exchange("GET", BIG, &[("Range", "bytes=0-399999")]).unwrap().whole(206);
    let took = began.elapsed();
    assert!(part == ground.big[..400_000]);
    assert!(took < Duration::from_millis(1500), "all of it is for who is left: {took:?}");
    ground.relay.stop();
}
