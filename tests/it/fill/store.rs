//! The disk under the fill: blobs that go, a staging folder that goes, a disk that is full (R1.5).

use std::fs;
use std::process::Command;

use tempfile::TempDir;

use super::ground::{Ground, PATH, bytes, lazy, path, write_tree};
use crate::origin::Origin;
use crate::process;
use crate::raw::answer::End;
use crate::raw::fetch;
use crate::relay::Running;

const SIZE: usize = 1_000_000;
const NO_ROOM: &[u8] = b"the relay's store cannot take the file\n";

#[test]
fn a_blob_that_is_deleted_or_cut_on_the_disk_is_fetched_again_r1_5() {
    for cut in [None, Some(0), Some(SIZE as u64 - 1)] {
        let mut ground = Ground::new(&[SIZE]);
        assert!(ground.get(PATH).whole(200) == ground.files[0]);
        assert!(ground.settle(PATH));
        // Both workers have it open by now, most likely.
        for _ in 0..8 {
            assert!(ground.get(PATH).whole(200) == ground.files[0]);
        }
        let blob = ground.blobs().pop().unwrap();
        match cut {
            None => fs::remove_file(&blob).unwrap(),
            Some(len) => fs::File::options().write(true).open(&blob).unwrap().set_len(len).unwrap(),
        }
        for _ in 0..8 {
            assert!(ground.get(PATH).whole(200) == ground.files[0], "{cut:?}");
        }
        assert!(ground.settle(PATH));
        assert!(fs::read(&blob).unwrap() == ground.files[0], "{cut:?}");
        assert_eq!(ground.gets(PATH), 2, "{cut:?}");
        ground.relay.stop();
    }
}

#[test]
fn a_staging_folder_that_is_gone_fails_one_request_with_507() {
    let mut ground = Ground::new(&[SIZE, SIZE]);
    assert!(ground.get(&path(1)).whole(200) == ground.files[1]);
    assert!(ground.settle(&path(1)));
    let staging = ground.relay.data().join("staging");
    fs::remove_dir(&staging).unwrap();
    assert_eq!(ground.get(PATH).whole(507), NO_ROOM);
    assert!(ground.get(&path(1)).whole(200) == ground.files[1], "what is stored is still served");
    fs::create_dir(&staging).unwrap();
    assert!(ground.get(PATH).whole(200) == ground.files[0]);
    ground.relay.stop();
}

#[test]
fn a_full_disk_fails_one_request_and_leaves_nothing_behind() {
    let Some(disk) = SmallDisk::mount("12m") else { return };
    let dir = TempDir::new().unwrap();
    let files = [bytes(0, 20_000_000), bytes(1, SIZE)];
    write_tree(dir.path(), &files);
    let origin = Origin::start(dir.path());
    let mut settings = lazy(&origin.url("/activeupdate/"));
    settings.workers = Some(1);
    let relay = Running::start_on(settings, TempDir::new_in(disk.path()).unwrap());
    relay.wait_refreshes(1);
    for _ in 0..2 {
        let answer = fetch(relay.v4(), PATH, &[]);
        assert_eq!(answer.head.status, 200, "the disk fills up after the head");
        assert!(matches!(answer.end, End::Short | End::Reset), "{:?}", answer.end);
        assert!(answer.body[..] == files[0][..answer.body.len()]);
    }
    assert!(fetch(relay.v4(), &path(1), &[]).whole(200) == files[1]);
    relay.stop();
}

#[test]
fn a_lost_blob_that_the_upstream_says_is_unchanged_is_fetched_whole_r1_5() {
    let dir = TempDir::new().unwrap();
    let files = [bytes(0, SIZE)];
    write_tree(dir.path(), &files);
    let root = dir.path().join("activeupdate");
    fs::write(root.join("pattern/p0.sig"), b"one").unwrap();
    let origin = Origin::start(dir.path());
    let mut settings = lazy(&origin.url("/activeupdate/"));
    settings.trees[0].prefetch = forebay::config::settings::Prefetch::All;
    let relay = Running::refreshed(settings);
    // A blob of a megabyte goes; then the same package is published under another signature.
    for folder in fs::read_dir(relay.data().join("blobs")).unwrap() {
        for blob in fs::read_dir(folder.unwrap().path()).unwrap().map(|blob| blob.unwrap()) {
            if blob.metadata().unwrap().len() == SIZE as u64 {
                fs::remove_file(blob.path()).unwrap();
            }
        }
    }
    fs::write(root.join("pattern/p0.sig"), b"two").unwrap();
    let manifest = fs::read_to_string(root.join("server.ini")).unwrap();
    fs::write(root.join("server.ini"), format!("; two\r\n{manifest}")).unwrap();
    relay.refresh();
    assert_eq!(relay.generation(), 2);
    assert!(fetch(relay.v4(), PATH, &[]).whole(200) == files[0]);
    relay.stop();
}

/// A tmpfs of its own; unmounted at the end.
struct SmallDisk(Option<TempDir>);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(Some(folder))),
            _ => process::missing("the right to mount a tmpfs"),
        }
    }

    fn path(&self) -> &std::path::Path {
        self.0.as_ref().unwrap().path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let Some(folder) = self.0.take() else { return };
        // Lazily: what a test that failed left open is no reason to leave the mount behind.
        let unmounted = Command::new("umount").arg("-l").arg(folder.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}
