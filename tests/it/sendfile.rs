//! Large files that the kernel sends by itself: each byte right whichever way it goes, and whatever happens to the file meanwhile
//! (design.md, Bodies without copies; invariants 5 and 9).
//!
//! One worker serves all. Every test goes each way: `on`, `off`, and `auto`, which is `off` here, on loopback.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use forebay::base::tally::Outcome;
use forebay::config::settings::Sendfile;
use forebay::disk::{Disk, Step, Verdict, When};
use tempfile::TempDir;

use crate::origin::fault::Gate;
use crate::raw::Client;
use crate::raw::answer::End;
use crate::relay::{Running, settings};
use crate::site;

const BIG: &str = "/activeupdate/pattern/big.zip";
const SMALL: &str = "/activeupdate/pattern/small.zip";
const SIZES: [(&str, usize); 2] = [(BIG, 6_000_007), (SMALL, 5000)];

const WAYS: [Sendfile; 3] = [Sendfile::On, Sendfile::Off, Sendfile::Auto];

struct Ground {
    relay: Running,
    _tree: TempDir,
}

/// The bytes of a file.
fn bytes(path: &str) -> Vec<u8> {
    let size = SIZES.iter().find(|(named, _)| *named == path).unwrap().1;
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(path.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

impl Ground {
    fn new(sendfile: Sendfile) -> Self {
        Self::on(sendfile, &Disk::default())
    }

    fn on(sendfile: Sendfile, disk: &Disk) -> Self {
        let tree = TempDir::new().unwrap();
        fs::create_dir(tree.path().join("pattern")).unwrap();
        let mut manifest = "[PATTERN]\r\n".to_owned();
        for (number, (path, size)) in SIZES.iter().enumerate() {
            let path = path.strip_prefix("/activeupdate/").unwrap();
            fs::write(tree.path().join(path), bytes(&format!("/activeupdate/{path}"))).unwrap();
            write!(manifest, "P.{number}={path},100,{size}\r\n").unwrap();
        }
        fs::write(tree.path().join("server.ini"), manifest).unwrap();
        let mut settings = settings(tree.path().to_str().unwrap());
        settings.workers = Some(1);
        settings.sendfile = sendfile;
        // On a disk, where what is in memory can be told: a temporary folder may be all memory.
        let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let relay = Running::try_start(settings, data, disk).unwrap_or_else(|(error, _)| panic!("{error}"));
        relay.wait_refreshes(1);
        Self { relay, _tree: tree }
    }

    fn get(&self, path: &str) -> Vec<u8> {
        Client::connect(self.relay.v4()).exchange("GET", path, &[]).unwrap().whole(200)
    }

    fn file(&self) -> PathBuf {
        site::blob_file(self.relay.data(), &bytes(BIG))
    }

    /// A client that was sent the beginning of the large file, and takes nothing more by itself.
    fn begun(&self) -> Client {
        let mut client = Client::connect_narrow(self.relay.v4());
        client.ask("GET", BIG, &[]).unwrap();
        assert_eq!(client.read_head("GET").unwrap().status, 200);
        client
    }

    fn served(&self, outcome: Outcome) -> u64 {
        self.relay.tree(0).resources.tally.requests(outcome)
    }

    /// Waits until so many requests have ended so.
    fn wait_served(&self, outcome: Outcome, count: u64) {
        let begun = std::time::Instant::now();
        while self.served(outcome) < count {
            assert!(begun.elapsed() < crate::raw::PATIENCE, "{outcome:?}: {}", self.served(outcome));
            std::thread::yield_now();
        }
    }
}

#[test]
fn whole_files_ranges_and_parts_are_right_over_both_families_r3_1() {
    let (big, size) = (bytes(BIG), SIZES[0].1);
    for way in WAYS {
        let ground = Ground::new(way);
        for address in [ground.relay.v4(), ground.relay.v6()] {
            let mut client = Client::connect(address);
            for _ in 0..2 {
                assert!(client.exchange("GET", BIG, &[]).unwrap().whole(200) == big, "{way:?}");
                assert!(client.exchange("GET", SMALL, &[]).unwrap().whole(200) == bytes(SMALL));
                assert!(client.exchange("HEAD", BIG, &[]).unwrap().whole(200).is_empty());
            }
            for (start, end) in [(0, 1), (1, size), (4095, 4097), (262_143, 600_001), (size - 1, size)] {
                let range = format!("bytes={start}-{}", end - 1);
                let answer = client.exchange("GET", BIG, &[("Range", &range)]).unwrap();
                assert!(answer.whole(206) == big[start..end], "{way:?}: {range}");
            }
            let ranges = [(5, 10), (300_000, 900_000), (70_000, 70_001), (size - 9, size)];
            let wanted = ranges.map(|(start, end)| format!("{start}-{}", end - 1)).join(",");
            let answer = client.exchange("GET", BIG, &[("Range", &format!("bytes={wanted}"))]).unwrap();
            let parts = answer.parts().unwrap();
            assert_eq!((answer.head.status, answer.end, parts.len()), (206, End::Complete, ranges.len()));
            for (part, (start, end)) in parts.iter().zip(ranges) {
                assert!(part.start == start && part.bytes == big[start..end], "{way:?}: {start}");
            }
            // HTTP/1.0 ends with the close.
            client.send(format!("GET {BIG} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
            assert!(client.answer("GET").unwrap().whole(200) == big);
        }
        ground.relay.stop();
    }
}

#[test]
fn pipelined_requests_of_large_and_small_files_are_answered_in_their_order_r3_1() {
    for way in WAYS {
        let ground = Ground::new(way);
        let mut client = Client::connect_narrow(ground.relay.v4());
        let asked: Vec<_> = (0..24).map(|number: usize| if number % 3 == 1 { BIG } else { SMALL }).collect();
        let range = |number: usize| (number * 100_003, number * 130_007 + 1);
        for (number, path) in asked.iter().enumerate() {
            let (start, end) = range(number);
            let range = format!("bytes={start}-{}", end - 1);
            let headers = [("Range", &*range)];
            client.ask("GET", path, if *path == BIG { &headers } else { &[] }).unwrap();
        }
        for (number, path) in asked.iter().enumerate() {
            let (start, end) = range(number);
            let answer = client.answer("GET").unwrap();
            if *path == BIG {
                assert!(answer.whole(206) == bytes(BIG)[start..end], "{way:?}: {number}");
            } else {
                assert!(answer.whole(200) == bytes(SMALL), "{way:?}: {number}");
            }
        }
        ground.relay.stop();
    }
}

#[test]
fn many_agents_of_which_some_take_little_at_a_time_get_every_byte_r2_3() {
    let big = bytes(BIG);
    for way in WAYS {
        let ground = Ground::new(way);
        let (address, big): (SocketAddr, &[u8]) = (ground.relay.v4(), &big);
        std::thread::scope(|scope| {
            for number in 0..24_usize {
                scope.spawn(move || {
                    let narrow = number % 2 == 0;
                    let connect = if narrow { Client::connect_narrow } else { Client::connect };
                    let mut client = connect(address);
                    let (start, step) = (number * 1001, if narrow { 1 + 997 * number } else { 1 << 20 });
                    let range = format!("bytes={start}-{}", start + 1_500_000 - 1);
                    client.ask("GET", BIG, &[("Range", &range)]).unwrap();
                    assert_eq!(client.read_head("GET").unwrap().status, 206);
                    let mut got = Vec::new();
                    let end = loop {
                        let (bytes, end) = client.read(step);
                        got.extend(bytes);
                        if let Some(end) = end {
                            break end;
                        }
                    };
                    assert_eq!(end, End::Complete);
                    assert!(got == big[start..start + 1_500_000], "{way:?}: {number}");
                });
            }
        });
        ground.relay.stop();
    }
}

#[test]
fn an_agent_that_ends_its_side_and_takes_its_time_gets_all_that_it_asked_for_and_an_end_in_order_r2_3() {
    for way in WAYS {
        let ground = Ground::new(way);
        let mut client = Client::connect_narrow(ground.relay.v4());
        for path in [SMALL, BIG] {
            client.ask("GET", path, &[]).unwrap();
        }
        client.shut_write();
        assert!(client.answer("GET").unwrap().whole(200) == bytes(SMALL), "{way:?}");
        // What the sockets hold is on its way still when the relay closes.
        assert!(client.answer("GET").unwrap().whole(200) == bytes(BIG), "{way:?}");
        assert_eq!(client.read_to_close(), (Vec::new(), End::Closed), "{way:?}");
        ground.relay.stop();
    }
}

/// Whether what an agent was sent, and did not read yet, changes with the file: it is of its pages.
fn is_of_the_file_still(client: &mut Client, file: &File) -> bool {
    const AT: usize = 100;
    client.ask("GET", BIG, &[("Range", "bytes=0-999")]).unwrap();
    let stream: TcpStream = client.stream();
    stream.set_read_timeout(Some(crate::raw::PATIENCE)).unwrap();
    let mut seen = vec![0; 4000];
    while stream.peek(&mut seen).unwrap() < 1000 + AT {
        std::thread::yield_now();
    }
    let change = |byte: u8| file.write_all_at(&[byte], AT as u64).unwrap();
    let truth = bytes(BIG)[AT];
    change(truth ^ 1);
    let answer = client.answer("GET").unwrap().whole(206);
    change(truth);
    answer[AT] != truth
}

#[test]
fn the_setting_says_who_copies_and_a_reload_changes_it_for_the_next_request_r11_3() {
    let mut ground = Ground::new(Sendfile::Auto);
    let mut client = Client::connect(ground.relay.v6());
    let file = File::options().write(true).open(ground.file()).unwrap();
    let settings = ground.relay.settings();
    for (way, by_the_kernel) in [
        (Sendfile::Auto, false),
        (Sendfile::On, true),
        (Sendfile::Off, false),
        (Sendfile::On, true),
        (Sendfile::Auto, false),
    ] {
        let mut new = settings.clone();
        new.sendfile = way;
        assert!(ground.relay.handle().reload(new).unwrap().is_empty(), "no restart is needed");
        assert_eq!(is_of_the_file_still(&mut client, &file), by_the_kernel, "{way:?}");
        assert!(client.exchange("GET", BIG, &[]).unwrap().whole(200) == bytes(BIG), "{way:?}");
    }
    ground.relay.stop();
}

#[test]
fn a_file_that_is_removed_while_it_is_sent_comes_to_its_end_r2_3() {
    for way in WAYS {
        let ground = Ground::new(way);
        let mut client = ground.begun();
        fs::remove_file(ground.file()).unwrap();
        let (got, end) = client.read(usize::MAX);
        assert!(end == Some(End::Complete) && got == bytes(BIG), "{way:?}: {} bytes, {end:?}", got.len());
        // It was lost: the next one has it fetched again.
        assert!(ground.get(BIG) == bytes(BIG));
        ground.relay.stop();
    }
}

#[test]
fn a_file_that_is_cut_while_it_is_sent_breaks_off_and_is_fetched_anew_r1_5_r2_3() {
    for way in WAYS {
        let ground = Ground::new(way);
        let clients: Vec<_> = (0..4).map(|_| ground.begun()).collect();
        File::options().write(true).open(ground.file()).unwrap().set_len(100_000).unwrap();
        for mut client in clients {
            let (got, end) = client.read(usize::MAX);
            assert!(matches!(end, Some(End::Short | End::Reset)), "{way:?}: {end:?}");
            assert!(got.len() < SIZES[0].1);
        }
        ground.wait_served(Outcome::Failed, 4);
        assert!(ground.get(SMALL) == bytes(SMALL));
        assert!(ground.get(BIG) == bytes(BIG), "{way:?}");
        ground.relay.stop();
    }
}

#[test]
fn an_agent_that_leaves_in_the_middle_is_counted_so_and_harms_nobody_r11_2() {
    for way in WAYS {
        let ground = Ground::new(way);
        for leave in [Client::reset, drop] {
            let before = ground.served(Outcome::GivenUp);
            leave(ground.begun());
            ground.wait_served(Outcome::GivenUp, before + 1);
        }
        assert_eq!(ground.served(Outcome::Failed), 0);
        assert!(ground.get(BIG) == bytes(BIG));
        ground.relay.stop();
    }
}

#[test]
fn what_leaves_the_memory_while_an_agent_takes_its_time_is_read_elsewhere() {
    for way in WAYS {
        let (gate, cold) = (Gate::default(), Arc::new(AtomicBool::new(false)));
        let (held, is_cold) = (gate.clone(), cold.clone());
        let disk = Disk::with_seam(move |when, step| match step {
            Step::ReadCached(_) if is_cold.load(Ordering::SeqCst) => Verdict::Lost,
            Step::ReadAt(..) if when == When::Before && is_cold.load(Ordering::SeqCst) => {
                assert!(held.pass());
                Verdict::Done
            }
            _ => Verdict::Done,
        });
        let ground = Ground::on(way, &disk);
        assert!(ground.get(SMALL) == bytes(SMALL));
        let mut client = ground.begun();
        cold.store(true, Ordering::SeqCst);
        let (got, end) = std::thread::scope(|scope| {
            let reading = scope.spawn(|| client.read(usize::MAX));
            // The disk does not answer, and the worker does.
            gate.wait_reached();
            for _ in 0..3 {
                assert!(ground.get(SMALL) == bytes(SMALL));
            }
            gate.open();
            reading.join().unwrap()
        });
        assert!(end == Some(End::Complete) && got == bytes(BIG), "{way:?}: {} bytes, {end:?}", got.len());
        ground.relay.stop();
    }
}
