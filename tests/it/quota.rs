//! The data folder stays within its quota, whatever is published and asked for, and says so when that is not enough (R1.8).

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use forebay::base::blob::BlobId;
use forebay::base::path::TreePath;
use forebay::base::validator::Validator;
use forebay::config::settings::{Prefetch, Settings};
use forebay::disk::{Disk, Step, Verdict, When};
use forebay::policy::tree::change::Action;
use forebay::policy::tree::id::{DomainId, DomainName};
use forebay::policy::tree::setting::Values;
use forebay::relay::refresh::Last;
use forebay::state::record::Author;
use forebay::store::Store;
use forebay::store::room::on_disk;
use forebay::store::staging::CommitError;
use forebay::store::unfinished::Voucher;
use jiff::Timestamp;

use crate::raw;
use crate::relay::{Running, settings};
use crate::site::{self, Site};

const MIB: u64 = 1 << 20;
const QUOTA: u64 = 64 * MIB;

/// Puts a release of some packages there; their bytes follow from number and version.
fn publish(site: &Site, version: u32, sizes: &[u64]) {
    let mut manifest = String::from("[PATTERN]\r\n");
    for (number, size) in sizes.iter().enumerate() {
        site.put(&path(number, version), &bytes(number, version, *size));
        write!(manifest, "P.{number}={},{version},{size}\r\n", path(number, version)).unwrap();
    }
    site.put("server.ini", manifest.as_bytes());
}

fn path(number: usize, version: u32) -> String {
    format!("pattern/p{number}v{version}.zip")
}

fn bytes(number: usize, version: u32, size: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(size).unwrap()];
    blake3::Hasher::new().update(path(number, version).as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn limited(site: &Site, keep: usize) -> Settings {
    let mut settings = settings(site.text());
    settings.quota_bytes = Some(QUOTA);
    settings.trees[0].keep_generations = keep;
    settings
}

/// What `du` says of a folder, in bytes. What vanishes meanwhile is not counted.
fn du(folder: &Path) -> u64 {
    let own = fs::metadata(folder).map_or(0, |folder| folder.blocks() * 512);
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let below = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => du(&entry.path()),
        Ok(found) => found.blocks() * 512,
        Err(_) => 0,
    });
    own + below.sum::<u64>()
}

/// Looks at a folder again and again until it is dropped; the most that was seen.
struct Watch {
    most: Arc<AtomicU64>,
    looks: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Watch {
    fn start(folder: &Path) -> Self {
        let (most, looks, over) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default(), Arc::default());
        let watch = Self { most: most.clone(), looks: looks.clone(), over: Arc::clone(&over), thread: None };
        let folder = folder.to_owned();
        let thread = thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                most.fetch_max(du(&folder), Ordering::Relaxed);
                looks.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { thread: Some(thread), ..watch }
    }

    /// The most that was seen, and in how many looks.
    fn end(mut self) -> (u64, u64) {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        (self.most.load(Ordering::Relaxed), self.looks.load(Ordering::Relaxed))
    }
}

fn get(relay: &Running, path: &str) -> raw::answer::Answer {
    raw::fetch(relay.v4(), &format!("/activeupdate/{path}"), &[])
}

#[test]
fn du_never_sees_more_than_the_quota_while_releases_roll_and_agents_fetch_r1_8() {
    let (site, sizes) = (Site::new(), [5 * MIB, 3 * MIB + 1, 700, 2 * MIB]);
    publish(&site, 1, &sizes);
    let relay = Running::refreshed(limited(&site, 9));
    let watch = Watch::start(relay.data());
    for version in 2..=12 {
        publish(&site, version, &sizes);
        let address = relay.v4();
        let agents: Vec<_> = (0..4)
            .map(|number| {
                let path = format!("/activeupdate/{}", path(number, version - 1));
                thread::spawn(move || raw::fetch(address, &path, &[]))
            })
            .collect();
        assert!(matches!(relay.refresh(), Last::New(_)), "release {version}");
        for (number, agent) in agents.into_iter().enumerate() {
            // The release before the newest is kept or was dropped for room: right bytes, or none.
            let answer = agent.join().unwrap();
            assert!([200, 404].contains(&answer.head.status), "{}", answer.head.status);
            assert!(answer.head.status == 404 || answer.body == bytes(number, version - 1, sizes[number]));
        }
    }
    for (number, size) in sizes.iter().enumerate() {
        assert_eq!(get(&relay, &path(number, 12)).body, bytes(number, 12, *size));
    }
    let (most, looks) = watch.end();
    assert!(most <= QUOTA, "{most} bytes were seen of {QUOTA}, in {looks} looks");
    assert!(most > 3 * sizes.iter().sum::<u64>(), "the quota was not put to use: {most} bytes at most");
    assert!(looks > 10, "only {looks} looks");
    let kept = site::generations(relay.data(), "activeupdate").len();
    assert!((3..9).contains(&kept), "{kept} generations are kept");
}

#[test]
fn the_oldest_generation_goes_where_the_kept_ones_exceed_the_quota_r1_8() {
    let site = Site::new();
    publish(&site, 1, &[20 * MIB]);
    let relay = Running::refreshed(limited(&site, 5));
    publish(&site, 2, &[20 * MIB]);
    assert_eq!(relay.refresh(), Last::New(relay.tree(0).snapshot().unwrap().current().generation.number()));
    assert_eq!(site::generations(relay.data(), "activeupdate"), ["1", "2"]);
    publish(&site, 3, &[20 * MIB]);
    assert!(matches!(relay.refresh(), Last::New(_)));
    assert_eq!(site::generations(relay.data(), "activeupdate"), ["2", "3"]);
    assert_eq!(get(&relay, &path(0, 3)).body, bytes(0, 3, 20 * MIB));
    assert_eq!(get(&relay, &path(0, 2)).body, bytes(0, 2, 20 * MIB));
    assert_eq!(get(&relay, &path(0, 1)).head.status, 404);
    assert!(!site::blobs(relay.data()).contains(&site::blob(&bytes(0, 1, 20 * MIB))));
}

#[test]
fn the_current_generation_stays_where_the_next_does_not_fit_and_it_is_said_how_much_is_missing_r1_8() {
    let site = Site::new();
    publish(&site, 1, &[20 * MIB]);
    let mut relay = Running::refreshed(limited(&site, 2));
    publish(&site, 2, &[20 * MIB, 30 * MIB]);
    let Last::Failed(reason) = relay.refresh() else { panic!("it cannot fit") };
    let missing = relay.tree(0).standing.missing_bytes();
    assert!(missing > 5 * MIB && missing < 20 * MIB, "{missing}");
    assert!(reason.contains(&missing.to_string()), "{reason}");
    assert_eq!((relay.generation(), get(&relay, &path(0, 1)).body), (1, bytes(0, 1, 20 * MIB)));
    let status = relay.ask("/api/v1/status");
    let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
    assert_eq!(status["trees"][0]["missing_bytes"], missing);
    assert_eq!(status["quota_bytes"], QUOTA);
    let metrics = String::from_utf8(raw::fetch(relay.admin(), "/metrics", &[]).body).unwrap();
    assert!(
        metrics.contains(&format!("forebay_missing_bytes{{tree=\"activeupdate\"}} {missing}")),
        "{metrics}"
    );

    // What was said to be missing is what it takes, but for what the index and journals grow by, and needs no restart.
    let mut more = limited(&site, 2);
    more.quota_bytes = Some(QUOTA + missing + MIB);
    more.data = relay.data().to_owned();
    assert_eq!(relay.handle().reload(more).unwrap(), Vec::<&str>::new());
    let last = relay.refresh();
    assert!(matches!(last, Last::New(_) | Last::Same), "{last:?}");
    assert_eq!((relay.generation(), relay.tree(0).standing.missing_bytes()), (2, 0));
    assert_eq!(get(&relay, &path(1, 2)).body, bytes(1, 2, 30 * MIB));
}

#[test]
fn a_file_that_finds_no_room_is_an_error_for_its_request_alone_r1_8() {
    let site = Site::new();
    publish(&site, 1, &[30 * MIB, 40 * MIB, 5000]);
    let mut settings = limited(&site, 2);
    settings.trees[0].prefetch = Prefetch::None;
    let relay = Running::refreshed(settings);
    assert_eq!(get(&relay, &path(0, 1)).body, bytes(0, 1, 30 * MIB));
    let refused = get(&relay, &path(1, 1));
    assert_eq!(refused.head.status, 507, "{}", String::from_utf8_lossy(&refused.body));
    assert_eq!(get(&relay, &path(2, 1)).body, bytes(2, 1, 5000));
    assert_eq!(get(&relay, &path(0, 1)).body, bytes(0, 1, 30 * MIB), "what is held stays");
    assert!(du(relay.data()) <= QUOTA);
}

#[test]
fn a_smaller_quota_is_kept_from_the_next_start_on_r1_8() {
    let site = Site::new();
    publish(&site, 1, &[20 * MIB]);
    let mut settings = settings(site.text());
    settings.trees[0].keep_generations = 3;
    let relay = Running::refreshed(settings);
    for version in 2..=3 {
        publish(&site, version, &[20 * MIB]);
        relay.refresh();
    }
    assert!(du(relay.data()) > 60 * MIB);
    let (_, data) = relay.stop();
    let relay = Running::start_on(limited(&site, 3), data);
    relay.wait_refreshes(1);
    assert_eq!(relay.refresh(), Last::Same);
    assert!(du(relay.data()) <= QUOTA, "{}", du(relay.data()));
    assert_eq!(site::generations(relay.data(), "activeupdate"), ["2", "3"]);
    assert_eq!(get(&relay, &path(0, 3)).body, bytes(0, 3, 20 * MIB));
}

#[test]
fn what_was_used_longest_ago_goes_first_also_after_a_lost_index_r1_8() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let store = Store::open(&data, Disk::default()).unwrap();
    let commit = |number: usize, used: i64| {
        let bytes = bytes(number, 1, MIB);
        let mut staged = store.stage(MIB).unwrap();
        staged.append(&bytes).unwrap();
        store.commit(staged, Some(MIB), Timestamp::new(used, 0).unwrap()).unwrap()
    };
    let names: Vec<_> =
        [300, 100, 200, 50].into_iter().enumerate().map(|(n, used)| commit(n, used)).collect();
    store.index().note_use(names[3].id, Timestamp::new(400, 0).unwrap());
    let named = |id: &_| *id == names[1].id;
    assert_eq!(store.evict(named, MIB), on_disk(MIB));
    let there = |store: &Store| names.iter().map(|name| store.holds(*name)).collect::<Vec<_>>();
    assert_eq!(
        there(&store),
        [true, true, false, true],
        "the third was used before the first, the second is named"
    );
    let taken = store.room().taken();
    drop(store);

    // Without the index a file's time of change stands for its last use.
    fs::remove_dir_all(data.join("index")).unwrap();
    let changed = |number: usize, secs: u64| {
        let file =
            fs::File::options().write(true).open(site::blob_file(&data, &bytes(number, 1, MIB))).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(secs)).unwrap();
    };
    changed(0, 500);
    changed(3, 600);
    let store = Store::open(&data, Disk::default()).unwrap();
    let index = store.index().on_disk();
    assert!(store.room().taken().abs_diff(taken) <= index.max(MIB), "{} and {taken}", store.room().taken());
    store.evict(named, 1);
    assert_eq!(there(&store), [false, true, false, true]);
}

#[test]
fn a_blob_that_the_disk_does_not_let_go_stays_and_others_go_in_its_place_r1_8() {
    let folder = tempfile::tempdir().unwrap();
    let stuck: Arc<Mutex<Vec<String>>> = Arc::default();
    let disk = {
        let stuck = stuck.clone();
        Disk::with_seam(move |_, step| match step {
            Step::Remove(path) if stuck.lock().unwrap().iter().any(|name| path.ends_with(name)) => {
                Verdict::Failed(std::io::Error::other("a fault of the test"))
            }
            _ => Verdict::Done,
        })
    };
    let store = Store::open(&folder.path().join("data"), disk).unwrap();
    let names: Vec<_> = (0..4)
        .zip(100..)
        .map(|(number, used)| {
            let mut staged = store.stage(MIB).unwrap();
            staged.append(&bytes(number, 1, MIB)).unwrap();
            store.commit(staged, None, Timestamp::new(used, 0).unwrap()).unwrap()
        })
        .collect();
    let before = store.room().taken();
    stuck.lock().unwrap().push(format!("{}.{}", names[0].id, names[0].size));
    assert_eq!(store.evict(|_| false, 2 * MIB), 2 * on_disk(MIB));
    let there: Vec<_> = names.iter().map(|name| store.holds(*name)).collect();
    assert_eq!(there, [true, false, false, true], "the first is used longest ago, and cannot go");
    assert!(store.room().taken() <= before - 2 * MIB);
    assert_eq!(store.evict(|_| false, u64::MAX), on_disk(MIB), "as much as goes");
}

#[test]
fn a_file_that_no_room_can_be_made_for_costs_nothing_that_is_there_r1_8() {
    let site = Site::new();
    publish(&site, 1, &[9 * MIB]);
    let relay = Running::refreshed(limited(&site, 1));
    publish(&site, 2, &[9 * MIB]);
    assert!(matches!(relay.refresh(), Last::New(_)));
    let before = site::blobs(relay.data());
    assert_eq!(before.len(), 2, "the release before is there still: {before:?}");
    let damaged = relay.data().join("quarantine");
    fs::create_dir(&damaged).unwrap();
    fs::write(damaged.join("damaged"), b"for people to look at").unwrap();
    publish(&site, 3, &[9 * MIB, 50 * MIB]);
    assert!(matches!(relay.refresh(), Last::Failed(_)));
    assert!(site::blobs(relay.data()).is_superset(&before));
    assert!(damaged.join("damaged").exists());
    // Absurd sizes are as hopeless, also where they are added up.
    let mut absurd = String::from("[PATTERN]\r\n");
    for number in 0..3 {
        let path = path(number, 4);
        site.put(&path, b"short");
        write!(absurd, "P.{number}={path},4,{}\r\n", u64::MAX - 2 * number as u64).unwrap();
    }
    site.put("server.ini", absurd.as_bytes());
    assert!(matches!(relay.refresh(), Last::Failed(_)));
    assert!(
        relay.tree(0).standing.missing_bytes() > u64::MAX / 2,
        "{}",
        relay.tree(0).standing.missing_bytes()
    );
    assert!(site::blobs(relay.data()).is_superset(&before));
    assert_eq!(get(&relay, &path(0, 2)).body, bytes(0, 2, 9 * MIB));
}

#[test]
fn what_a_failed_refresh_fetched_gives_way_to_what_agents_ask_for_r1_8() {
    let site = Site::new();
    publish(&site, 1, &[20 * MIB, 30 * MIB]);
    let mut settings = limited(&site, 2);
    settings.trees[0].prefetch = Prefetch::Used;
    let relay = Running::refreshed(settings);
    assert!(get(&relay, &path(0, 1)).body == bytes(0, 1, 20 * MIB));
    // What agents use is fetched for the next release, which is refused: a package is not there.
    let used = relay.tree(0).snapshot().unwrap().current().generation.clone();
    let used = used.listed(&TreePath::parse(path(0, 1).as_bytes()).unwrap()).unwrap().entry.usage();
    while !relay.tree(0).resources.store.index().is_used(&relay.tree(0).name, &used) {
        thread::yield_now();
    }
    publish(&site, 2, &[20 * MIB, 30 * MIB]);
    site.remove(&path(1, 2));
    assert!(matches!(relay.refresh(), Last::Failed(_)));
    while !site::blobs(relay.data()).contains(&site::blob(&bytes(0, 2, 20 * MIB))) {
        thread::yield_now();
    }
    // Its upstream's first word still stands, so that agents are on the first release.
    assert!(get(&relay, &path(1, 1)).body == bytes(1, 1, 30 * MIB));
    assert!(get(&relay, &path(0, 1)).body == bytes(0, 1, 20 * MIB));
    assert!(du(relay.data()) <= QUOTA);
}

#[test]
fn files_shared_with_a_generation_that_is_dropped_meanwhile_stay_r1_4_r1_8() {
    let site = Site::new();
    publish(&site, 1, &[5000]);
    let (begins, begun) = mpsc::channel();
    let (go, goes) = mpsc::channel::<()>();
    let goes = Mutex::new(goes);
    let disk = Disk::with_seam(move |when, step| {
        match step {
            Step::CreateFolder(path) if when == When::Before && path.ends_with("3.new") => {
                begins.send(()).unwrap();
                goes.lock().unwrap().recv_timeout(std::time::Duration::from_mins(1)).unwrap();
            }
            _ => {}
        }
        Verdict::Done
    });
    let mut settings = settings(site.text());
    settings.trees[0].keep_generations = 2;
    let started = Running::try_start(settings.clone(), tempfile::tempdir().unwrap(), &disk);
    let mut relay = started.unwrap_or_else(|(error, _)| panic!("{error}"));
    relay.wait_refreshes(1);
    publish(&site, 2, &[5000]);
    assert!(matches!(relay.refresh(), Last::New(_)));

    // The upstream goes back: the file is shared with the generation before the current one, which goes before its
    // successor has a folder.
    publish(&site, 1, &[5000]);
    let wanted = relay.want_refresh(0);
    begun.recv_timeout(std::time::Duration::from_mins(1)).unwrap();
    let mut swept = relay.tree(0).resources.swept.subscribe();
    settings.trees[0].keep_generations = 1;
    settings.data = relay.data().to_owned();
    relay.handle().reload(settings).unwrap();
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(swept.changed()).unwrap();
    go.send(()).unwrap();
    relay.wait_progress(|progress| progress.ended >= wanted);
    assert_eq!(
        (relay.generation(), site::generations(relay.data(), "activeupdate")),
        (3, vec!["3".to_owned()])
    );
    assert!(
        site::blobs(relay.data()).contains(&site::blob(&bytes(0, 1, 5000))),
        "it was held when it was named"
    );
}

#[test]
fn staged_bytes_count_from_before_the_first_until_they_are_gone_r1_8() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("data"), Disk::default()).unwrap();
    store.room().set_quota(Some(QUOTA));
    let before = store.room().taken();
    let staged = store.stage(40 * MIB).unwrap();
    assert_eq!(store.room().taken(), before + 40 * MIB);
    let CommitError::NoRoom(no_room) = store.stage(30 * MIB).unwrap_err() else {
        panic!("the quota is full")
    };
    assert!(no_room.missing > 0 && no_room.missing <= 30 * MIB);
    drop(staged);
    assert_eq!(store.room().taken(), before);
    let mut staged = store.stage(30 * MIB).unwrap();
    staged.append(b"less than was thought").unwrap();
    store.commit(staged, None, Timestamp::now()).unwrap();
    assert_eq!(store.room().taken(), before + on_disk(1));
    // The same bytes again are the same blob.
    let mut staged = store.stage(30 * MIB).unwrap();
    staged.append(b"less than was thought").unwrap();
    store.commit(staged, None, Timestamp::now()).unwrap();
    assert_eq!(store.room().taken(), before + on_disk(1));
}

#[test]
fn a_path_that_no_kept_generation_names_any_more_is_not_found_r1_8() {
    let site = Site::new();
    publish(&site, 1, &[5000]);
    let relay = Running::refreshed(limited(&site, 1));
    let gone = TreePath::parse(path(0, 1).as_bytes()).unwrap();
    publish(&site, 2, &[5000]);
    relay.refresh();
    assert_eq!(get(&relay, gone.as_str()).head.status, 404);
    // Its bytes stay while there is room for them.
    assert!(site::blobs(relay.data()).contains(&site::blob(&bytes(0, 1, 5000))));
}

#[test]
fn what_is_left_of_a_fill_is_room_that_its_next_one_has_already_r1_8_r2_1() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("data"), Disk::default()).unwrap();
    let (key, size) = (BlobId::of(b"key"), 20 * MIB);
    let whole = store.room_for(Some(key), size);
    assert!(whole >= size);
    let (mut staged, _) = store.stage_as(key, size).unwrap();
    assert_eq!(store.room_for(Some(key), size), 0, "all of it is reserved");
    staged.append(&bytes(0, 1, 9 * MIB)).unwrap();
    let validator = Validator { etag: Some("\"1\"".to_owned()), last_modified: None };
    staged.vouch(&Voucher { origin: "http://up/".to_owned(), validator }).unwrap();
    drop(staged);
    let left = store.room_for(Some(key), size);
    assert!(left < whole - 9 * MIB + MIB && left >= size - 9 * MIB, "{left}");
    assert_eq!(store.room_for(None, size), whole);
}

#[test]
fn the_agent_tree_counts_and_gives_way_to_nothing_r1_8() {
    let site = Site::new();
    publish(&site, 1, &[1 << 20]);
    let mut relay = Running::refreshed(settings(site.text()));
    let taken = |relay: &Running| relay.tree(0).resources.store.room().taken();
    let before = taken(&relay);
    let agents = relay.handle().agents().unwrap();
    let domain = |number: u32| Action::AddDomain {
        domain: DomainId::try_from(number).unwrap(),
        name: DomainName::parse(&format!("d{number}")).unwrap(),
        parent: None,
        values: Values::default(),
    };
    let author = Author::parse("a test").unwrap();
    agents.state().change(author, (1..=100).map(domain).collect()).unwrap().wait().unwrap();
    assert!(agents.state().bytes() > 5_000);
    // A task follows the change.
    let deadline = Instant::now() + Duration::from_secs(30);
    while taken(&relay) < before + 5_000 {
        assert!(Instant::now() < deadline, "{} after {before}", taken(&relay));
        std::thread::yield_now();
    }
}
