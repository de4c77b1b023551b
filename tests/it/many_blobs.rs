//! Data folders of very many blobs, as years leave them: the start, whatever became of the index, and the stop (issue 6, point 5).
//!
//! `FOREBAY_BLOBS` says how many blobs; the ordinary run has some thousands. Where it says so, the bounds on time are checked too, which
//! are those of a release build on a quiet machine: `FOREBAY_BLOBS=1000000 FOREBAY_BINARY=target/release/forebay cargo test --test it
//! many_blobs -- --nocapture`. A million files need 4 GB and a million inodes where temporary files lie (`TMPDIR`), and as root each start
//! is measured without the kernel's caches too.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use forebay::base::blob::BlobId;
use forebay::disk::{Disk, Step, Verdict, When};
use forebay::store::Store;
use jiff::Timestamp;
use rustix::process::Signal;

use crate::raw;
use crate::served::{FIXTURE, Place, Served};

/// The requirement's bounds for a million, with a whole index.
const READY_MAX: Duration = Duration::from_secs(2);
const MEMORY_MAX: u64 = 400 << 20;

/// Not to keep a service manager waiting, which gives 30 s beyond the drain.
const STOP_MAX: Duration = Duration::from_secs(5);

/// What a blob of these holds: its number.
const BLOB_BYTES: u64 = 8;

fn wanted() -> Option<u64> {
    let count = std::env::var("FOREBAY_BLOBS").ok()?;
    Some(count.parse().expect("FOREBAY_BLOBS is a number"))
}

fn count() -> u64 {
    wanted().unwrap_or(3000)
}

fn id(number: u64) -> BlobId {
    BlobId::of(&number.to_le_bytes())
}

/// When a blob was made: one a minute, up to now.
fn made(number: u64, count: u64) -> SystemTime {
    SystemTime::now() - Duration::from_mins(count - number)
}

/// Puts blobs into a data folder, as commits left them.
fn put_blobs(data: &Path, count: u64) {
    let threads = 4;
    std::thread::scope(|scope| {
        for first in 0..threads {
            scope.spawn(move || {
                for number in (first..count).step_by(4) {
                    let id = id(number).to_string();
                    let path = data.join("blobs").join(&id[..2]).join(format!("{id}.{BLOB_BYTES}"));
                    fs::write(&path, number.to_le_bytes()).unwrap();
                    let file = fs::File::options().write(true).open(&path).unwrap();
                    file.set_modified(made(number, count)).unwrap();
                }
            });
        }
    });
}

/// Has the index learn of them, and of what agents used since, in an order of their own.
fn age_index(data: &Path, count: u64) {
    fs::remove_dir_all(data.join("index")).unwrap();
    let store = Store::open(data, Disk::default()).unwrap();
    for number in (0..count).step_by(3) {
        store.index().note_use(id(number), Timestamp::now());
    }
    store.close();
}

/// A settings file and a data folder with a generation, and so many blobs that no generation names.
fn old_place(count: u64) -> Place {
    let place = Place::new();
    // Without a quota what nothing names is removed at once.
    place.configure("quota_bytes = 1_000_000_000_000", FIXTURE, "");
    place.serve_ready().stop();
    let began = Instant::now();
    put_blobs(&place.data(), count);
    println!("{count} blobs put in {:?}", began.elapsed());
    let began = Instant::now();
    age_index(&place.data(), count);
    println!("indexed in {:?}", began.elapsed());
    place
}

/// A line of what the system says of a process's memory, in bytes.
fn memory(relay: &Served, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", relay.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Starts the relay, prints what it took, and checks that it serves.
fn start(place: &Place, what: &str) -> (Served, Duration) {
    let began = Instant::now();
    let relay = place.serve(&[]);
    let ready = began.elapsed();
    let (peak, now) = (memory(&relay, "VmHWM"), memory(&relay, "VmRSS"));
    println!("{what}: ready in {ready:?}, memory {} MiB, at most {} MiB", now >> 20, peak >> 20);
    assert!(peak < MEMORY_MAX, "{what}: {} MiB", peak >> 20);
    assert_eq!(raw::fetch(relay.agents[0], "/activeupdate/server.ini", &[]).head.status, 200);
    (relay, ready)
}

fn stop(relay: Served) {
    let began = Instant::now();
    relay.stop();
    println!("  stopped in {:?}", began.elapsed());
    assert!(wanted().is_none() || began.elapsed() < STOP_MAX, "{:?}", began.elapsed());
}

/// Has the kernel forget what it knows of the disk; false where that is not to be, or not ours to do.
fn drop_caches() -> bool {
    if wanted().is_none() || !rustix::process::geteuid().is_root() {
        return false;
    }
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

/// Checks that the index has a row for each file, and its sum: what is listed is what was put there, and what the fixture holds.
fn check(data: &Path, count: u64) {
    let store = Store::open(data, Disk::default()).unwrap();
    let sum = |sum: u64, size: u64| sum + size.next_multiple_of(4096);
    let listed =
        store.index().blobs().fold((0, 0), |(blobs, bytes), blob| (blobs + 1, sum(bytes, blob.size)));
    assert_eq!(listed.1, store.index().blobs_on_disk());
    let folders = fs::read_dir(data.join("blobs")).unwrap();
    let files: usize = folders.map(|folder| fs::read_dir(folder.unwrap().path()).unwrap().count()).sum();
    assert_eq!(listed.0, files);
    assert!(files as u64 > count);
}

#[test]
fn a_start_is_ready_soon_whatever_became_of_the_index_and_however_many_blobs_there_are() {
    let count = count();
    let place = old_place(count);
    let index = place.data().join("index");
    let bound = |ready: Duration| assert!(wanted().is_none() || ready < READY_MAX, "{ready:?}");
    for _ in 0..2 {
        let (relay, ready) = start(&place, "a whole index");
        bound(ready);
        stop(relay);
    }
    if drop_caches() {
        let (relay, ready) = start(&place, "a whole index, not in memory");
        bound(ready);
        stop(relay);
    }
    check(&place.data(), count);

    for cold in [false, true] {
        let relay = start(&place, "a whole index").0;
        relay.signal(Signal::KILL);
        relay.wait_exit();
        if cold && !drop_caches() {
            break;
        }
        let relay = start(&place, if cold { "killed, not in memory" } else { "killed" }).0;
        relay.wait_line("the index was not closed: it is compared with the files");
        let made = relay.wait_line("the index is made");
        assert!(made.contains(" new=0 gone=0"), "{made}");
        stop(relay);
    }
    check(&place.data(), count);

    for what in ["no index", "a damaged index"] {
        if what == "no index" {
            fs::remove_dir_all(&index).unwrap();
        } else {
            fs::write(index.join("db"), [0xa5; 5000]).unwrap();
        }
        for cold in [false, true] {
            if cold {
                fs::remove_dir_all(&index).unwrap();
                if !drop_caches() {
                    break;
                }
            }
            let relay = start(&place, &format!("{what}{}", if cold { ", not in memory" } else { "" })).0;
            let lines = relay.output().matches("listing blobs for the index").count() as u64;
            assert!(lines >= count / 100_000, "{lines} lines of how far it is");
            relay.wait_line("the index is made");
            stop(relay);
        }
        check(&place.data(), count);
    }
}

/// What was done below `blobs/`, by kind of step.
fn steps_below_blobs(data: &Path) -> HashMap<&'static str, usize> {
    let steps: std::sync::Arc<Mutex<HashMap<_, _>>> = std::sync::Arc::default();
    let (seen, blobs) = (steps.clone(), data.join("blobs"));
    let disk = Disk::with_seam(move |when, step| {
        let below = match step {
            Step::Create(path)
            | Step::Open(path)
            | Step::OpenToRead(path)
            | Step::Read(path)
            | Step::List(path) => path.starts_with(&blobs),
            // Those of a file that is open already.
            Step::ReadCached(_) | Step::ReadAt(..) | Step::ReadSome(..) => true,
            _ => false,
        };
        if below && when == When::Before {
            *seen.lock().unwrap().entry(step.name()).or_default() += 1;
        }
        Verdict::Done
    });
    drop(Store::open(data, disk).unwrap());
    std::mem::take(&mut steps.lock().unwrap())
}

#[test]
fn an_index_is_made_again_by_listing_folders_and_a_whole_one_needs_not_even_that() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    drop(Store::open(&data, Disk::default()).unwrap());
    put_blobs(&data, 1000);
    fs::remove_dir_all(data.join("index")).unwrap();
    assert_eq!(steps_below_blobs(&data), HashMap::from([("list", 256)]));
    assert_eq!(steps_below_blobs(&data), HashMap::new());
    let store = Store::open(&data, Disk::default()).unwrap();
    assert_eq!((store.index().blobs().count(), store.index().blobs_on_disk()), (1000, 1000 * 4096));
}
