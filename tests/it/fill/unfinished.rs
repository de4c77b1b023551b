//! Fills that the relay's end cut short: the next relay goes on where they were, or not at all (R2.1).

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use forebay::base::blob::BlobId;
use forebay::base::range::ByteRange;
use forebay::base::validator::Validator;
use forebay::disk::Disk;
use forebay::store::Store;
use forebay::store::unfinished::Voucher;
use jiff::Timestamp;
use rustix::process::Signal;
use tempfile::TempDir;

use super::ground::{Ground, PATH, bytes, changed, write_tree};
use crate::origin::Origin;
use crate::origin::fault::{Fault, Gate};
use crate::origin::seen::Request;
use crate::raw::{self, Client};
use crate::relay::Running;
use crate::served::Place;

const SIZE: usize = 20_000_000;

/// Where the upstream stalls when the relay ends.
const STALL: usize = 18_000_000;

/// Past this, a checkpoint lies behind.
const READ: usize = 17_500_000;

/// Follows a fill until a checkpoint lies behind it, and leaves.
fn follow(address: std::net::SocketAddr) {
    let mut reader = Client::connect(address);
    reader.ask("GET", PATH, &[]).unwrap();
    assert_eq!(reader.read_head("GET").unwrap().status, 200);
    let mut left = READ;
    while left > 0 {
        let (bytes, end) = reader.read(left);
        assert!(end.is_none(), "{end:?}");
        left -= bytes.len();
    }
    reader.reset();
}

/// A relay in this process that was stopped in the middle of a fill: the origin, and what the relay was.
fn stopped() -> (Origin, forebay::config::settings::Settings, TempDir, Vec<u8>, TempDir) {
    let Ground { origin, relay, mut files, dir, .. } = Ground::new(&[SIZE]);
    let gate = Gate::default();
    origin.script(PATH, Fault::StallAfter(STALL, gate.clone()));
    follow(relay.v4());
    let (settings, data) = relay.stop();
    gate.open();
    (origin, settings, data, files.remove(0), dir)
}

/// What is asked for after the first time, and where that begins.
fn resumed_at(origin: &Origin) -> Option<usize> {
    let seen = origin.seen();
    let asked = seen.of(PATH).filter(|request| request.method == "GET").nth(1)?.range()?.to_owned();
    Some(asked.strip_prefix("bytes=")?.strip_suffix('-')?.parse().unwrap())
}

fn staged(data: &Path, extension: &str) -> Option<PathBuf> {
    let files = fs::read_dir(data.join("staging")).unwrap().map(|file| file.unwrap().path());
    files.into_iter().find(|path| path.extension().is_some_and(|its| its == extension))
}

#[test]
fn a_fill_that_a_stop_cut_goes_on_from_its_last_checkpoint_r2_1() {
    let (origin, settings, data, file, _dir) = stopped();
    let relay = Running::start_on(settings, data);
    relay.wait_refreshes(1);
    assert!(raw::fetch(relay.v4(), PATH, &[]).whole(200) == file);
    let at = resumed_at(&origin).expect("it is resumed");
    assert!((8 << 20..=STALL).contains(&at), "{at}");
    // The gate that opens lets one more piece of the first answer go.
    let bytes = usize::try_from(origin.seen().body_bytes(PATH)).unwrap();
    assert!((STALL + SIZE - at..STALL + SIZE - at + 100_000).contains(&bytes), "{bytes}");
    let (_, data) = relay.stop();
    assert_eq!(fs::read_dir(data.path().join("staging")).unwrap().count(), 0);
}

#[test]
fn a_fill_that_sigkill_cut_goes_on_r2_1() {
    let dir = TempDir::new().unwrap();
    let file = bytes(0, SIZE);
    write_tree(dir.path(), std::slice::from_ref(&file));
    let origin = Origin::start(dir.path());
    let place = Place::new();
    place.configure("", &origin.url("/activeupdate/"), "prefetch = \"none\"");
    let relay = place.serve_ready();
    let gate = Gate::default();
    origin.script(PATH, Fault::StallAfter(STALL, gate.clone()));
    follow(relay.agents[0]);
    relay.signal(Signal::KILL);
    relay.wait_exit();
    gate.open();
    let relay = place.serve(&[]);
    assert!(raw::fetch(relay.agents[0], PATH, &[]).whole(200) == file);
    assert!(resumed_at(&origin).expect("it is resumed") >= 8 << 20);
    relay.stop();
}

#[test]
fn staged_bytes_that_were_changed_on_the_disk_are_not_gone_on_with_r1_5() {
    let (origin, settings, data, file, _dir) = stopped();
    let part = File::options().write(true).open(staged(data.path(), "part").unwrap()).unwrap();
    part.write_all_at(b"other bytes", 1_000_000).unwrap();
    let relay = Running::start_on(settings, data);
    relay.wait_refreshes(1);
    assert!(raw::fetch(relay.v4(), PATH, &[]).whole(200) == file);
    assert_eq!(resumed_at(&origin), None);
    relay.stop();
}

#[test]
fn a_file_that_changed_meanwhile_is_not_joined_with_what_was_staged_r2_3() {
    let (origin, settings, data, file, _dir) = stopped();
    origin.script(PATH, Fault::ChangedFrom(10_000_000));
    let relay = Running::start_on(settings, data);
    relay.wait_refreshes(1);
    // The first reader may meet the change; nobody gets a mixture.
    let first = raw::fetch(relay.v4(), PATH, &[]);
    let new = changed(&file, 10_000_000);
    let body = if first.head.status == 200 && first.body.len() == SIZE { first.body } else { new.clone() };
    assert!(body == new);
    assert!(raw::fetch(relay.v4(), PATH, &[]).whole(200) == new);
    relay.stop();
}

#[test]
fn what_no_fill_can_go_on_from_is_removed_at_the_start() {
    let (_origin, settings, data, _, _dir) = stopped();
    fs::remove_file(staged(data.path(), "journal").unwrap()).unwrap();
    fs::write(data.path().join("staging/7.part"), b"left by a crash").unwrap();
    let relay = Running::start_on(settings, data);
    assert_eq!(fs::read_dir(relay.data().join("staging")).unwrap().count(), 0);
    relay.stop();
}

#[test]
fn what_a_reader_of_a_failed_fill_may_still_send_is_not_the_next_fills_to_change_r2_3() {
    const MIB: usize = 1 << 20;
    let folder = TempDir::new().unwrap();
    let store = Store::open(&folder.path().join("data"), Disk::default()).unwrap();
    let (key, size) = (BlobId::of(b"key"), 20 * MIB as u64);
    let validator = Validator { etag: Some("\"1\"".to_owned()), last_modified: None };
    let voucher = Voucher { origin: "http://up/".to_owned(), validator };
    let (first, other) = (bytes(0, 12 * MIB), bytes(1, 12 * MIB));
    let (mut staged, _) = store.stage_as(key, size).unwrap();
    staged.append(&first[..9 * MIB]).unwrap();
    staged.vouch(&voucher).unwrap();
    staged.append(&first[9 * MIB..]).unwrap();
    // A reader has a slice, and nothing else of the fill, which fails.
    let file = File::open(self::staged(folder.path().join("data").as_path(), "part").unwrap()).unwrap();
    let slice = staged.shown(Some(size)).mapping.unwrap().slice(ByteRange::new(0, 12 << 20));
    drop(staged);

    let (mut next, resumed) = store.stage_as(key, size).unwrap();
    assert_eq!((next.len(), resumed), (9 << 20, Some(voucher.clone())));
    next.append(&other[9 * MIB..]).unwrap();
    let mut was = vec![0; 12 * MIB];
    file.read_exact_at(&mut was, 0).unwrap();
    assert!(was == first, "it was cut or written to");
    drop((slice, next));

    // Where nobody has it open any more, it is gone on with as it lies there.
    let path = self::staged(folder.path().join("data").as_path(), "part").unwrap();
    let before = fs::metadata(&path).unwrap().ino();
    let (mut last, resumed) = store.stage_as(key, size).unwrap();
    assert_eq!((last.len(), resumed), (9 << 20, Some(voucher)));
    assert_eq!(fs::metadata(&path).unwrap().ino(), before);
    last.append(&first[9 * MIB..]).unwrap();
    let blob = store.commit(last, None, Timestamp::now()).unwrap();
    assert_eq!(blob.id, BlobId::of(&first));
    assert_eq!(fs::read_dir(folder.path().join("data/staging")).unwrap().count(), 0);
}

/// Follows a fill whose main lane stands at [`STALL`], and a far lane that stands behind it, until bytes of both are there.
fn follow_two(origin: &Origin, address: std::net::SocketAddr, file: &[u8]) -> [Gate; 2] {
    let gates = [Gate::default(), Gate::default()];
    for (at, gate) in [STALL, 300_000].into_iter().zip(&gates) {
        origin.script(PATH, Fault::StallAfter(at, gate.clone()));
    }
    follow(address);
    let mut far = Client::connect(address);
    far.ask("GET", PATH, &[("Range", "bytes=19000000-")]).unwrap();
    far.read_head("GET").unwrap();
    assert!(far.read(300_000).0 == file[19_000_000..19_300_000]);
    far.reset();
    gates
}

/// Sees that a relay that began anew asked but for what came after the main lane's last checkpoint.
fn went_on(origin: &Origin) {
    let seen = origin.seen();
    let asked: Vec<_> = seen.of(PATH).filter(|request| request.method == "GET").map(Request::range).collect();
    assert_eq!((asked.len(), asked[1]), (3, Some("bytes=19000000-19999999")));
    let resumed = asked[2].and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
    let at: usize = resumed.unwrap().parse().unwrap();
    assert!((8 << 20..=STALL).contains(&at), "{at}");
}

#[test]
fn a_stop_while_lanes_run_leaves_what_the_main_one_brought_r2_1() {
    let Ground { origin, relay, files, dir: _dir, .. } = Ground::new(&[SIZE]);
    let gates = follow_two(&origin, relay.v4(), &files[0]);
    let (settings, data) = relay.stop();
    gates.iter().for_each(Gate::open);
    let relay = Running::start_on(settings, data);
    relay.wait_refreshes(1);
    assert!(raw::fetch(relay.v4(), PATH, &[]).whole(200) == files[0]);
    went_on(&origin);
    relay.stop();
}

#[test]
fn sigkill_while_lanes_run_leaves_what_the_main_one_brought_r2_1() {
    let dir = TempDir::new().unwrap();
    let file = bytes(0, SIZE);
    write_tree(dir.path(), std::slice::from_ref(&file));
    let origin = Origin::start(dir.path());
    let place = Place::new();
    place.configure("", &origin.url("/activeupdate/"), "prefetch = \"none\"");
    let relay = place.serve_ready();
    let gates = follow_two(&origin, relay.agents[0], &file);
    relay.signal(Signal::KILL);
    relay.wait_exit();
    gates.iter().for_each(Gate::open);
    let relay = place.serve(&[]);
    assert!(raw::fetch(relay.agents[0], PATH, &[]).whole(200) == file);
    went_on(&origin);
    relay.stop();
}
