//! Connections by the thousand that ask for nothing: an agent gets its file all the while, and what they took comes back.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::{PACKAGE, open_files, resident_bytes, serve, served_in, wait_quiet};
use crate::raw::answer::End;
use crate::raw::{self, Client};
use crate::served::Served;

/// The relay's places.
const PLACES: usize = 300;

/// How many each thread of attackers holds open: more than the relay has places for, all together.
const HELD: usize = 250;

const ATTACKERS: u8 = 4;

/// The longest that an agent may wait for its file, on a machine that is busy with the attack itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many connections come in total.
fn total() -> usize {
    let all = std::env::var("FOREBAY_CONNECTIONS").ok();
    all.map_or(10_000, |count| count.parse().expect("FOREBAY_CONNECTIONS is a number"))
}

#[test]
fn connections_by_the_thousand_delay_no_agent_for_long_and_leave_nothing_behind() {
    let tail = format!("[limits]\nconnections_max = {PLACES}\nhead_timeout_secs = 5");
    let (_place, relay) = serve("workers = 2\n[log]\naccess = \"off\"", &tail);
    let expected = raw::fetch(relay.agents[0], PACKAGE, &[]).whole(200);
    let (files, memory) = (open_files(&relay), resident_bytes(&relay));
    let (over, opened) = (AtomicBool::new(false), AtomicUsize::new(0));
    let began = Instant::now();
    let ((waits, again), most_files, most_memory) = thread::scope(|scope| {
        let agent = scope.spawn(|| agent(&relay, &expected, &over));
        let watch = scope.spawn(|| watch(&relay, &over));
        let attackers: Vec<_> = (0..ATTACKERS)
            .map(|number| {
                scope.spawn({
                    let opened = &opened;
                    let relay = &relay;
                    move || attack(relay.agents[0], number, opened)
                })
            })
            .collect();
        for attacker in attackers {
            attacker.join().unwrap();
        }
        over.store(true, Ordering::Relaxed);
        let (most_files, most_memory) = watch.join().unwrap();
        (agent.join().unwrap(), most_files, most_memory)
    });
    let took = began.elapsed();
    let count = opened.load(Ordering::Relaxed);
    let mut sorted = waits.clone();
    sorted.sort_unstable();
    let (middle, longest) = (sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
    let page = relay.ask("/metrics");
    let dismissed = crate::served::metric(&page, "forebay_connections_dismissed_total");
    println!(
        "{count} connections in {took:?}; {} files in between, the middle one in {middle:?}, the slowest in {longest:?}, \
         {again} after another connection; {dismissed} made room; open files {files} -> {most_files}; memory {} -> {} MiB",
        waits.len(),
        memory >> 20,
        most_memory >> 20
    );
    assert!(count >= total());
    assert!(waits.len() >= 10 && longest < PATIENCE, "{} files, the slowest in {longest:?}", waits.len());
    assert!(
        again <= 1 + waits.len() / 20,
        "{again} connections of an agent were closed for {} files",
        waits.len()
    );
    // All but those that were given up at their deadlines.
    assert!(dismissed >= (count / 2) as u64, "{dismissed} of {count} made room");
    // One more of each listening socket waits accepted.
    assert!(most_files <= files + PLACES + 8, "{most_files} files, {files} before");
    assert!(most_memory < memory + (64 << 20), "{} MiB", most_memory >> 20);
    served_in(&relay);
    wait_quiet(&relay);
    // What the agent's file is read from stays open.
    assert!(open_files(&relay) <= files + 8, "{} files stay open, {files} before", open_files(&relay));
    let lines = relay.output().lines().filter(|line| line.contains("all places are taken")).count();
    let most = usize::try_from(took.as_secs() / 10).unwrap() + 2;
    assert!((1..=most).contains(&lines), "{lines} lines in {took:?}");
    relay.stop();
}

/// An agent that takes its file again and again, each time on a connection of its own; gives how long each took, and how often
/// it had to connect again: places that change hands faster than an agent that connected gets to send its request.
fn agent(relay: &Served, expected: &[u8], over: &AtomicBool) -> (Vec<Duration>, usize) {
    let (mut waits, mut again) = (Vec::new(), 0);
    // The attackers' own socket, and another one.
    for address in relay.agents.iter().cycle() {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let began = Instant::now();
        let answer = loop {
            match Client::connect(*address).exchange("GET", PACKAGE, &[]) {
                Ok(answer) => break answer,
                Err(End::Closed | End::Reset) => again += 1,
                Err(end) => panic!("{end:?}"),
            }
        };
        assert!(answer.whole(200) == expected);
        waits.push(began.elapsed());
    }
    (waits, again)
}

/// The most files and the most memory of the relay.
fn watch(relay: &Served, over: &AtomicBool) -> (usize, u64) {
    let mut most = (0, 0);
    while !over.load(Ordering::Relaxed) {
        most = (most.0.max(open_files(relay)), most.1.max(resident_bytes(relay)));
        thread::sleep(Duration::from_millis(5));
    }
    most
}

/// Opens connections from an address of its own, keeps the last of them, and says nothing, half a head, or half a handshake.
fn attack(address: SocketAddr, number: u8, opened: &AtomicUsize) {
    let source: IpAddr = [127, 0, 1, number + 1].into();
    let (mut silent, mut speaking) = (VecDeque::new(), VecDeque::new());
    let total = total();
    for round in (0..).take_while(|_| opened.fetch_add(1, Ordering::Relaxed) < total) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        // Ports are chosen when it connects, and given back at once: the machine's are few.
        socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
        socket.set_linger(Some(Duration::ZERO)).unwrap();
        socket.connect_timeout(&address.into(), raw::PATIENCE).unwrap();
        // Heads that have only begun have a second to go on, whoever waits: there are few, or all would wait for them.
        let held = if round % 32 == 0 {
            let _ = socket.send(b"GET /activeupdate/server.ini HTTP/1.1\r\nHo");
            &mut speaking
        } else {
            if round % 4 == 0 {
                let _ = socket.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
            }
            &mut silent
        };
        held.push_back(socket);
        if held.len() > HELD {
            held.pop_front().into_iter().for_each(wait_closed);
        }
    }
    silent.into_iter().chain(speaking).for_each(wait_closed);
}

/// Reads until the relay has closed; whatever it says.
fn wait_closed(mut socket: Socket) {
    socket.set_read_timeout(Some(raw::PATIENCE)).unwrap();
    let mut scrap = [0; 1024];
    loop {
        match socket.read(&mut scrap) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
            Err(error) => panic!("a connection that asked for nothing stays open: {error}"),
        }
    }
}
