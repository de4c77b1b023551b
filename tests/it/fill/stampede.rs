//! 500 agents ask for a package that is not there, and the upstream sends each byte once (R2.1).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::Barrier;

use super::crowd::Agent;
use super::ground::{Ground, PATH};
use crate::origin::fault::{Fault, Gate};

const SIZE: usize = 8 << 20;

/// What both kernels hold of a connection on the loopback interface: their largest buffers, as Linux sets them.
const ON_ITS_WAY: usize = (4 << 20) + (6 << 20);

#[test]
fn five_hundred_agents_cost_the_upstream_each_byte_once_r2_1() {
    let mut ground = stampede(500, 0, vec![]);
    assert_eq!(ground.gets(PATH), 1);
    assert_eq!(ground.origin.seen().body_bytes(PATH), SIZE as u64, "1.00 of the unique bytes");
    assert_eq!((ground.fills(), ground.staged()), ([1, 1, 0], 0));
    assert!(ground.get(PATH).whole(200) == ground.files[0]);
    assert_eq!(ground.gets(PATH), 1);
    ground.relay.stop();
}

#[test]
fn a_fill_gives_way_to_a_crowd_that_has_its_first_bytes_for_so_long_in_all_r2_3() {
    let mut ground = Ground::new(&[1 << 20]);
    let (crowd, since) = (ground.crowds().begin(), Instant::now());
    assert!(ground.get(PATH).whole(200) == ground.files[0]);
    assert!(since.elapsed() >= Duration::from_millis(100), "it took {:?}", since.elapsed());
    drop(crowd);
    ground.relay.stop();
}

#[test]
fn a_reset_half_way_costs_a_crowd_the_lost_tail_and_no_more_r2_3() {
    let mut ground = stampede(500, 0, vec![Fault::ResetAfter(SIZE / 2)]);
    let ranges = ground.ranges(PATH);
    assert_eq!(ranges.len(), 2);
    let resumed = ranges[1].as_deref().and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
    // The crowd had read the first megabyte, so it was staged before the reset came.
    let resumed: usize = resumed.unwrap().parse().unwrap();
    assert!((1 << 20..=SIZE / 2).contains(&resumed));
    let bytes = ground.origin.seen().body_bytes(PATH);
    assert_eq!(bytes, (SIZE + SIZE / 2 - resumed) as u64, "1.00 and the lost tail");
    assert_eq!((ground.fills(), ground.staged()), ([1, 1, 0], 0));
    ground.relay.stop();
}

#[test]
fn far_lanes_cost_a_crowds_upstream_what_was_on_its_way_when_they_met_and_no_more_r2_1() {
    let mut ground = stampede(500, 4, vec![]);
    let seen = ground.origin.seen();
    let gets: Vec<_> = seen.of(PATH).filter(|request| request.method == "GET").collect();
    assert!((2..=65).contains(&gets.len()), "{} requests", gets.len());
    // Each may have sent what the kernels hold beyond where another began, also where that was all it had.
    let over = seen.body_bytes(PATH) - SIZE as u64;
    assert!(over <= (gets.len() * ON_ITS_WAY) as u64, "{over} bytes twice, {} requests", gets.len());
    assert_eq!((ground.fills(), ground.staged()), ([1, 1, 0], 0));
    assert!(ground.get(PATH).whole(200) == ground.files[0]);
    ground.relay.stop();
}

/// So many agents ask while the upstream holds back after the first megabyte; then it goes on, with these faults.
fn stampede(agents: usize, far_lanes: usize, mut faults: Vec<Fault>) -> Ground {
    allow_sockets();
    let mut ground = Ground::with(&[SIZE], |settings| settings.fill.far_lanes = far_lanes);
    let gate = Gate::default();
    faults.push(Fault::StallAfter(1 << 20, gate.clone()));
    ground.origin.script_together(PATH, faults);
    let whole = Arc::new(ground.files[0].clone());
    let all_asked = Arc::new(Barrier::new(agents + 1));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let agents: Vec<_> = (0..agents)
            .map(|number| {
                let address = if number % 2 == 0 { ground.relay.v4() } else { ground.relay.v6() };
                tokio::spawn(act(number, address, whole.clone(), all_asked.clone()))
            })
            .collect();
        all_asked.wait().await;
        gate.open();
        for agent in agents {
            agent.await.unwrap();
        }
    });
    assert!(ground.settle(PATH));
    ground
}

/// A third leaves half way, a third asks for ranges, a tenth of the rest for the head, the others for all.
async fn act(number: usize, address: SocketAddr, whole: Arc<Vec<u8>>, all_asked: Arc<Barrier>) {
    let get = format!("GET {PATH}");
    match number % 3 {
        0 => {
            let mut agent = Agent::ask(address, &get, "").await;
            agent.read(&whole, 0..1 << 20).await;
            all_asked.wait().await;
            let until = [1 << 20, 2 << 20, SIZE / 4, SIZE / 2, SIZE - 1][number / 3 % 5];
            agent.read(&whole, 1 << 20..until).await;
            agent.leave(number.is_multiple_of(2));
        }
        1 => {
            let start = number * 15_013 % SIZE;
            let (header, range) = match number / 3 % 4 {
                0 => (format!("{start}-"), start..SIZE),
                1 => (format!("-{}", number + 1), SIZE - number - 1..SIZE),
                2 => (format!("0-{number}"), 0..number + 1),
                _ => {
                    let end = (start + 300_000).min(SIZE);
                    (format!("{start}-{}", end - 1), start..end)
                }
            };
            let agent = Agent::ask(address, &get, &format!("Range: bytes={header}\r\n")).await;
            all_asked.wait().await;
            assert_eq!(agent.status, 206);
            agent.finish(&whole, range).await;
        }
        _ if (number / 3).is_multiple_of(10) => {
            let agent = Agent::ask(address, &format!("HEAD {PATH}"), "").await;
            all_asked.wait().await;
            assert_eq!(agent.status, 200);
        }
        _ => {
            let agent = Agent::ask(address, &get, "").await;
            all_asked.wait().await;
            assert_eq!(agent.status, 200);
            agent.finish(&whole, 0..SIZE).await;
        }
    }
}

/// Both ends of each connection are in this process.
fn allow_sockets() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
}
