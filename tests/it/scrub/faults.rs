//! A disk that says no, or nothing any more, while a damaged file is taken out.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use forebay::disk::{Disk, Step, Verdict, When};
use rustix::io::Errno;

use super::{BIG, Ground, SMALL, bytes, flip, get, quarantined, scrub};
use crate::origin::fault::Fault;
use crate::relay::Running;
use crate::site;

/// Steps of taking a file out.
fn takes_out(step: &Step<'_>) -> bool {
    let within = |path: &std::path::Path, folder: &str| path.to_string_lossy().contains(folder);
    match step {
        Step::CreateFolder(path) | Step::List(path) => path.ends_with("quarantine"),
        Step::Rename(_, to) => within(to, "/quarantine/"),
        Step::SyncFolder(path) => !within(path, "/trees"),
        Step::Remove(path) => within(path, "/blobs/"),
        Step::Index(what) => *what == "index remove",
        _ => false,
    }
}

fn io_error() -> Verdict {
    Verdict::Failed(io::Error::from(Errno::IO))
}

/// The ground's data and settings under a relay that meets a disk of this kind.
fn on(ground: Ground, seam: impl Fn(When, &Step<'_>) -> Verdict + Send + Sync + 'static) -> Ground {
    let (settings, data) = ground.relay.stop();
    let started = Running::try_start(settings, data, &Disk::with_seam(seam));
    let relay = started.unwrap_or_else(|(error, _)| panic!("{error}"));
    relay.wait_refreshes(1);
    Ground { relay, ..ground }
}

#[test]
fn whatever_step_of_taking_a_file_out_fails_its_bytes_are_not_served_r1_5() {
    // One step more each time, until none of them fails.
    for failing in 0.. {
        let (armed, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let seam = {
            let (armed, count) = (armed.clone(), count.clone());
            move |when, step: &Step<'_>| {
                let counts = when == When::Before && armed.load(Ordering::SeqCst) && takes_out(step);
                if counts && count.fetch_add(1, Ordering::SeqCst) == failing {
                    return io_error();
                }
                Verdict::Done
            }
        };
        let ground = on(Ground::new(), seam);
        ground.warm();
        flip(&ground.file(SMALL), 3);
        ground.origin.always("*", Fault::Status(503));
        armed.store(true, Ordering::SeqCst);
        assert_eq!(scrub(&ground.relay).bad, 1, "step {failing}");
        armed.store(false, Ordering::SeqCst);
        for _ in 0..4 {
            assert_eq!(ground.get(SMALL).head.status, 502, "step {failing}");
        }
        let (settings, data) = ground.relay.stop();
        let relay = Running::start_on(settings, data);
        assert_eq!(get(&relay, SMALL).head.status, 502, "step {failing}, after a restart");
        ground.origin.behave();
        assert!(get(&relay, SMALL).whole(200) == bytes(SMALL));
        assert!(get(&relay, BIG).whole(200) == bytes(BIG));
        relay.stop();
        if count.load(Ordering::SeqCst) <= failing {
            assert!(failing >= 6, "only {failing} steps were seen");
            return;
        }
    }
}

#[test]
fn a_disk_that_lets_nothing_go_has_the_file_served_no_more_and_replaced_r1_5() {
    let armed = Arc::new(AtomicBool::new(false));
    let seam = {
        let armed = armed.clone();
        move |when, step: &Step<'_>| match step {
            Step::Rename(_, to) if to.to_string_lossy().contains("/quarantine/") => io_error(),
            Step::Remove(path) if path.to_string_lossy().contains("/blobs/") => io_error(),
            Step::Index("index remove") if when == When::Before && armed.load(Ordering::SeqCst) => io_error(),
            _ => Verdict::Done,
        }
    };
    let ground = on(Ground::new(), seam);
    ground.warm();
    flip(&ground.file(BIG), 3);
    ground.origin.always("*", Fault::Status(503));
    armed.store(true, Ordering::SeqCst);
    assert_eq!(scrub(&ground.relay).bad, 1);
    for _ in 0..4 {
        assert_eq!(ground.get(BIG).head.status, 502);
    }
    ground.origin.behave();
    ground.warm();
    assert!(std::fs::read(ground.file(BIG)).unwrap() == bytes(BIG), "the commit put it there");
    assert_eq!(scrub(&ground.relay).bad, 0);
    ground.relay.stop();
}

#[test]
fn a_crash_between_any_steps_leaves_the_file_out_or_to_be_found_again_r1_5() {
    for last in 0.. {
        let (armed, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let seam = {
            let (armed, count) = (armed.clone(), count.clone());
            move |when, step: &Step<'_>| {
                if !armed.load(Ordering::SeqCst) || when == When::After {
                    return Verdict::Done;
                }
                if takes_out(step) {
                    count.fetch_add(1, Ordering::SeqCst);
                }
                // From that step on nothing reaches the disk any more; what is there can be read.
                let reads = matches!(
                    step,
                    Step::OpenToRead(_) | Step::ReadSome(..) | Step::ReadCached(_) | Step::ReadAt(..)
                );
                if !reads && count.load(Ordering::SeqCst) > last { io_error() } else { Verdict::Done }
            }
        };
        let ground = on(Ground::new(), seam);
        flip(&ground.file(SMALL), 3);
        ground.origin.always("*", Fault::Status(503));
        armed.store(true, Ordering::SeqCst);
        assert_eq!(scrub(&ground.relay).bad, 1, "step {last}");
        let (settings, data) = ground.relay.stop();
        ground.origin.behave();
        let relay = Running::start_on(settings, data);
        let out = !site::blob_file(relay.data(), &bytes(SMALL)).exists();
        if !out {
            assert_eq!(scrub(&relay).bad, 1, "step {last}");
        }
        assert!(get(&relay, SMALL).whole(200) == bytes(SMALL), "step {last}");
        assert_eq!(quarantined(relay.data()), [site::blob(&bytes(SMALL))], "step {last}");
        relay.stop();
        if count.load(Ordering::SeqCst) <= last {
            assert!(out && last >= 6, "only {last} steps were seen");
            return;
        }
    }
}

#[test]
fn a_file_that_the_disk_cannot_read_is_damaged_and_one_it_cannot_open_now_is_not_r1_5() {
    for (error, bad, skipped) in
        [(Errno::IO, 1, 0), (Errno::UCLEAN, 1, 0), (Errno::MFILE, 0, 1), (Errno::NOMEM, 0, 1)]
    {
        let armed = Arc::new(AtomicBool::new(false));
        let seam = {
            let armed = armed.clone();
            move |when, step: &Step<'_>| {
                let hit = match step {
                    Step::ReadSome(file, _) => file.metadata().is_ok_and(|file| file.len() == 5000),
                    Step::OpenToRead(path) if error == Errno::MFILE => {
                        path.to_string_lossy().ends_with(".5000")
                    }
                    _ => false,
                };
                if hit && when == When::Before && armed.load(Ordering::SeqCst) {
                    return Verdict::Failed(error.into());
                }
                Verdict::Done
            }
        };
        let ground = on(Ground::new(), seam);
        armed.store(true, Ordering::SeqCst);
        let pass = scrub(&ground.relay);
        assert_eq!((pass.bad, pass.skipped), (bad, skipped), "{error}");
        armed.store(false, Ordering::SeqCst);
        assert_eq!(quarantined(ground.relay.data()).len() as u64, bad);
        ground.gets_right();
        assert_eq!(ground.sent(SMALL), 5000 * (1 + bad));
        ground.relay.stop();
    }
}

#[test]
fn a_disk_that_stumbles_once_or_reads_only_through_its_cache_damages_nothing_r1_5() {
    for error in [Errno::IO, Errno::INVAL] {
        let left = Arc::new(AtomicUsize::new(0));
        let seam = {
            let left = left.clone();
            move |when, step: &Step<'_>| {
                let hit = matches!(step, Step::ReadSome(..)) && when == When::Before;
                if hit
                    && left
                        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                        .is_ok()
                {
                    return Verdict::Failed(error.into());
                }
                Verdict::Done
            }
        };
        let ground = on(Ground::new(), seam);
        left.store(1, Ordering::SeqCst);
        let pass = scrub(&ground.relay);
        assert_eq!((pass.blobs, pass.bad, pass.skipped), (2, 0, 0), "{error}");
        ground.relay.stop();
    }
}
