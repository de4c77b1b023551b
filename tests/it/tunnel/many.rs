//! A thousand tunnels at once: all are open, each has its own bytes, and when they are closed nothing is left of them.

use std::io::{Read as _, Write as _};

use super::{By, Far, ask, leading_to, until};
use crate::raw::Client;
use crate::relay::Running;

const TUNNELS: usize = 1000;

/// Threads that open them.
const THREADS: usize = 4;

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_thousand_tunnels_are_open_at_once_and_leave_nothing_behind_r4_2() {
    // Each takes six files of this process: both ends of two connections, and twins.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    let far = Far::start();
    let mut relay = Running::start(leading_to(far.port()));
    let tally = relay.handle().tally().unwrap();
    let tasks = |relay: &Running| {
        let page = String::from_utf8(crate::raw::fetch(relay.admin(), "/metrics", &[]).whole(200)).unwrap();
        [0, 1].map(|at| crate::served::metric(&page, &format!("forebay_tasks{{runtime=\"data-{at}\"}}")))
    };
    let before = tasks(&relay);
    let to = far.address().to_string();
    // Each names itself, and is answered by that name.
    let serving = std::thread::spawn(move || {
        let servers: Vec<_> = (0..TUNNELS).map(|_| far.accept()).collect();
        for mut server in &servers {
            let mut name = [0; 8];
            server.read_exact(&mut name).unwrap();
            server.write_all(&name).unwrap();
        }
        (far, servers)
    });
    let doors = [(By::Connect, relay.v4()), (By::Socks, relay.socks()[0])];
    let opening: Vec<_> = (0..THREADS)
        .map(|thread| {
            let to = to.clone();
            std::thread::spawn(move || {
                let mine = (0..TUNNELS).filter(|at| at % THREADS == thread);
                let open = |at: usize| {
                    let (by, door) = doors[at / THREADS % 2];
                    let mut client = Client::connect(door);
                    assert!(matches!(ask(&mut client, by, &to), 0 | 200));
                    client.send(format!("{at:8}").as_bytes()).unwrap();
                    (at, client)
                };
                mine.map(open).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut clients: Vec<_> = opening.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    for (at, client) in &mut clients {
        assert_eq!(client.take(8), format!("{at:8}").as_bytes());
    }
    let servers = serving.join().unwrap();
    assert_eq!(tally.tunnels_now.value(), TUNNELS as u64);
    let open = open_files();
    drop((clients, servers));
    until("all tunnels end", || tally.tunnels_now.value() == 0 && tally.connections_now.value() == 0);
    until("their sockets are closed", || open_files() + 3 * TUNNELS < open);
    // A worker may still have been starting its own when they were counted first.
    let few: u64 = before.iter().sum::<u64>() + 10;
    until("their tasks are gone", || tasks(&relay).iter().sum::<u64>() < few);
    relay.stop();
}
