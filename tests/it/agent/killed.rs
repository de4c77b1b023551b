//! Ends at the worst moments, and disks that say no: what products read is a whole set all along, and the next update ends right.
//!
//! The agent that is killed is this test program once more, told by its environment where to end. A bounded number of moments by default;
//! `FOREBAY_CRASHES=all` takes every one.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use forebay::agent::folder::Place;
use forebay::agent::relay::Went;
use forebay::agent::{Asked, Outcome, Updater};
use forebay::base::clock::SystemClock;
use forebay::config::agent::{KnownBy, Program, Settings};
use forebay::disk::{Disk, Step, Verdict, When};
use forebay::policy::check_in::Why;
use rustix::io::Errno;
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::machine::{Ahead, Machine};
use crate::authority::Authority;
use crate::process::{Ended, Process};
use crate::served::WITHIN;
use crate::site::{self, increment};

const LIFE: &str = "FOREBAY_TEST_AGENT_LIFE";

/// Moments that are tried by default.
const MOMENTS: usize = 40;

/// What a child does: one update.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Life {
    folder: PathBuf,
    relay: String,
    merge: Option<PathBuf>,
    /// What the relay's certificate is believed by, where the agent has one of its own too.
    ca_file: Option<PathBuf>,
    /// Its clock is so far ahead.
    days: i64,
    end: End,
}

/// Where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum End {
    /// Not before the update has.
    Itself,
    /// Before or after the step of this number, counted from 0.
    Step { number: usize, after: bool },
    /// Once so many bytes of packages were written.
    Bytes(u64),
}

impl Life {
    fn play(&self) -> Ended {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["agent::killed::leads_the_life_that_its_environment_names", "--exact", "--nocapture"]);
        Process::start(command.env(LIFE, serde_json::to_string(self).unwrap())).wait_exit(WITHIN)
    }

    fn lead(self) {
        let relay = Settings::for_relay(&self.relay).unwrap();
        let merge = self.merge.map(|path| Program {
            path: "/bin/sh".into(),
            arguments: vec![path.to_str().unwrap().to_owned()],
        });
        let known_by = if self.ca_file.is_some() { KnownBy::OwnCertificate } else { KnownBy::Token };
        let (folder, ca_file) = (Some(self.folder.clone()), self.ca_file);
        let settings = Settings { folder, merge, ca_file, known_by, ..relay };
        let (steps, bytes) = (AtomicUsize::new(0), AtomicU64::new(0));
        let end = self.end;
        let disk = Disk::with_seam(move |when, step| {
            let after = when == When::After;
            let number =
                if after { steps.load(Ordering::SeqCst) - 1 } else { steps.fetch_add(1, Ordering::SeqCst) };
            if !after {
                println!("STEP {}", step.name());
            }
            let written = match step {
                Step::Write(file, written, _) if after && is_part(file) => {
                    bytes.fetch_add(written.len() as u64, Ordering::SeqCst) + written.len() as u64
                }
                _ => 0,
            };
            let ends = match end {
                End::Itself => false,
                End::Step { number: at, after: is_after } => at == number && is_after == after,
                End::Bytes(count) => written >= count,
            };
            if ends {
                kill_process(getpid(), Signal::KILL).unwrap();
            }
            Verdict::Done
        });
        let place = Place::new(self.folder, disk);
        let updater = Updater::open_on(settings, place, Ahead::by_days(self.days)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(updater.update(Asked::everything(Why::Start), &mut |_| {})).unwrap();
        println!("ENDED");
    }
}

fn is_part(file: &fs::File) -> bool {
    let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
    path.extension().is_some_and(|extension| extension == "part")
}

#[test]
fn leads_the_life_that_its_environment_names() {
    if let Ok(life) = env::var(LIFE) {
        serde_json::from_str::<Life>(&life).unwrap().lead();
    }
}

/// Some of many, evenly.
fn some(count: usize) -> Vec<usize> {
    if env::var("FOREBAY_CRASHES").is_ok_and(|which| which == "all") || count <= MOMENTS {
        return (0..count).collect();
    }
    (0..MOMENTS).map(|at| at * count / MOMENTS).collect()
}

/// A machine with release 1, where release 2 is to be taken as an increment; and its folder as it is then.
fn before() -> (Machine, PathBuf, TempDir) {
    let machine = Machine::enrolled();
    machine.script("merge", "cat \"$1\" \"$2\" > \"$3\"");
    machine.update(Why::Start).ended();
    machine.publish(2, &[1]);
    let kept = tempfile::tempdir().unwrap();
    copy(machine.folder(), kept.path());
    let merge = machine.folder().join("merge");
    (machine, merge, kept)
}

/// The content of one folder in the place of another's, links kept.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(to).unwrap() {
        let path = entry.unwrap().path();
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        }
        .unwrap();
    }
    let copied = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap();
    assert!(copied.success());
}

/// What release 2 is where it was merged.
fn merged() -> Vec<u8> {
    [site::bytes("pattern/a1.zip", 1), site::bytes(&increment(1, 2), 2)].concat()
}

/// Checks that `current` leads to release 1 or 2, whole; says which.
#[track_caller]
fn check_whole(machine: &Machine) -> u32 {
    if fs::exists(machine.current("pattern/a1.zip")).unwrap() {
        machine.check_has(1);
        assert!(!fs::exists(machine.current("pattern/a2.zip")).unwrap(), "two releases in one set");
        return 1;
    }
    // Where the increment could not be applied, the package was taken.
    let pattern = fs::read(machine.current("pattern/a2.zip")).unwrap();
    assert!(pattern == merged() || pattern == site::bytes("pattern/a2.zip", 2), "bytes of no release");
    assert!(fs::read(machine.current(site::ENGINE)).unwrap() == site::bytes(site::ENGINE, 2));
    2
}

/// Updates once more, and checks that all is as if nothing had happened.
#[track_caller]
fn check_next(machine: &Machine, merge: &Path, what: &str) {
    let merge = Some(Program { path: "/bin/sh".into(), arguments: vec![merge.to_str().unwrap().to_owned()] });
    let told = machine.update_with(Settings { merge, ..machine.settings() }, Why::Start);
    assert_ne!(told.ended().result, Went::Failed, "{what}: {}", told.ended().detail);
    assert_eq!(check_whole(machine), 2, "{what}");
    let names = |folder: &str| fs::read_dir(machine.folder().join(folder)).unwrap().count();
    assert_eq!((names("staging"), names("versions")), (0, 2), "{what}: remains");
}

#[test]
fn killed_at_any_step_an_agent_has_a_whole_set_and_the_next_update_ends_right() {
    let (machine, merge, kept) = before();
    let life = |end| Life {
        folder: machine.folder().to_owned(),
        relay: format!("http://{}/", machine.relay.v4()),
        merge: Some(merge.clone()),
        ca_file: None,
        days: 0,
        end,
    };
    let whole = life(End::Itself).play();
    assert!(whole.stdout.contains("\nENDED\n"), "{whole:?}");
    let steps: Vec<_> =
        whole.stdout.lines().filter_map(|line| line.strip_prefix("STEP ")).map(str::to_owned).collect();
    assert!(steps.len() > 30, "{steps:?}");
    let mut found = HashMap::new();
    for number in some(steps.len()) {
        // What names are given counts on both sides.
        let both = matches!(steps[number].as_str(), "rename" | "point" | "link");
        for after in [false, true].into_iter().take(if both { 2 } else { 1 }) {
            copy(kept.path(), machine.folder());
            let end = End::Step { number, after };
            let ended = life(end).play();
            assert_eq!(ended.status.signal(), Some(Signal::KILL.as_raw()), "{end:?}: {ended:?}");
            *found.entry(check_whole(&machine)).or_insert(0) += 1;
            check_next(&machine, &merge, &format!("{end:?} {}", steps[number]));
        }
    }
    assert!(found.values().sum::<usize>() >= 20 && found.len() == 2, "{found:?}");
}

#[test]
fn a_step_that_fails_leaves_a_whole_set_and_the_next_update_ends_right() {
    let (machine, merge, kept) = before();
    let program = Program { path: "/bin/sh".into(), arguments: vec![merge.to_str().unwrap().to_owned()] };
    let settings = || Settings { merge: Some(program.clone()), ..machine.settings() };
    let run = |fails: Option<usize>| {
        let steps = Arc::new(Mutex::new(Vec::new()));
        let seen = steps.clone();
        let disk = Disk::with_seam(move |when, step| {
            let mut seen = seen.lock().unwrap();
            if when == When::After {
                return Verdict::Done;
            }
            seen.push(step.name());
            if fails == Some(seen.len() - 1) { Verdict::Failed(Errno::IO.into()) } else { Verdict::Done }
        });
        let place = Place::new(machine.folder().to_owned(), disk);
        let opened = Updater::open_on(settings(), place, Arc::new(SystemClock::default()));
        let went = opened.ok().map(|updater| machine.update_by(&updater, Asked::everything(Why::Start)));
        let steps = steps.lock().unwrap().clone();
        (steps, went)
    };
    let (steps, went) = run(None);
    assert_eq!(went.unwrap().ended().result, Went::Updated);
    for number in some(steps.len()) {
        copy(kept.path(), machine.folder());
        run(Some(number));
        check_whole(&machine);
        check_next(&machine, &merge, &format!("step {number}, {}", steps[number]));
    }
}

#[test]
fn a_full_disk_costs_the_update_and_nothing_else() {
    let machine = Machine::enrolled();
    machine.update(Why::Start).ended();
    machine.publish(2, &[]);
    let room = AtomicU64::new(4000);
    let disk = Disk::with_seam(move |when, step| match step {
        Step::Write(file, bytes, _) if when == When::Before && is_part(file) => {
            let left = room.load(Ordering::SeqCst);
            let fits = left.min(bytes.len() as u64);
            room.store(left - fits, Ordering::SeqCst);
            if fits < bytes.len() as u64 {
                Verdict::Torn(usize::try_from(fits).unwrap())
            } else {
                Verdict::Done
            }
        }
        _ => Verdict::Done,
    });
    let updater = machine.updater_on(machine.settings(), disk);
    let told = machine.update_by(&updater, Asked::everything(Why::Start));
    drop(updater);
    assert_eq!(told.ended().result, Went::Failed);
    assert!(told.ended().detail.contains("a2.zip"), "{}", told.ended().detail);
    machine.check_has(1);
    let told = machine.update(Why::Start);
    assert_eq!(told.files(), ["P.4 pattern/a2.zip from 4000"], "what fitted is gone on with");
    machine.check_has(2);
}

#[test]
fn killed_twenty_times_within_one_file_an_agent_goes_on_each_time_where_it_stopped() {
    const SIZE: usize = 4 << 20;
    let machine = Machine::enrolled();
    machine.update(Why::Start).ended();
    let mut bytes = vec![0; SIZE];
    blake3::Hasher::new().update(b"large").finalize_xof().fill(&mut bytes);
    machine.site.put("pattern/large.zip", &bytes);
    machine.site.put("server.ini", format!("[PATTERN]\nP.4=pattern/large.zip,2,{SIZE}\n").as_bytes());
    machine.relay.refresh();
    let relay = format!("http://{}/", machine.relay.v4());
    let part = || {
        let entries = fs::read_dir(machine.folder().join("staging")).unwrap();
        let lens =
            entries.map(|entry| entry.unwrap()).filter(|entry| entry.path().extension().unwrap() == "part");
        lens.map(|entry| entry.metadata().unwrap().len()).max().unwrap_or(0)
    };
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut had = 0;
    for kill in 0..20_u64 {
        // At least a byte, and never all that is left.
        let draw = blake3::hash(format!("{seed} {kill}").as_bytes());
        let count = 1 + u64::from(draw.as_bytes()[0]) * 512;
        let life = Life {
            folder: machine.folder().to_owned(),
            relay: relay.clone(),
            merge: None,
            ca_file: None,
            days: 0,
            end: End::Bytes(count),
        };
        let ended = life.play();
        assert_eq!(ended.status.signal(), Some(Signal::KILL.as_raw()), "{ended:?}");
        machine.check_has(1);
        assert!(part() >= had + count, "kill {kill}: {} after {had}", part());
        had = part();
    }
    let told = machine.update(Why::Start);
    assert_eq!(told.files(), [format!("P.4 pattern/large.zip from {had}")]);
    assert_eq!(told.ended().bytes, SIZE as u64 - had);
    assert!(fs::read(machine.current("pattern/large.zip")).unwrap() == bytes);
}

#[test]
fn killed_at_any_step_of_a_renewal_an_agent_is_known_with_its_next_update_and_renews_then_r5_5() {
    let authority = Authority::new();
    let mut machine = Machine::secure(&authority);
    machine.enrol();
    let settings = machine.known(&authority, KnownBy::OwnCertificate);
    machine.update_with(settings.clone(), Why::Start).ended();
    let first = fs::read(machine.folder().join("certificate.pem")).unwrap();
    let life = |end| Life {
        folder: machine.folder().to_owned(),
        relay: settings.relay.to_string(),
        merge: None,
        ca_file: settings.ca_file.clone(),
        // A year has as many days, of which a third is left.
        days: 300,
        end,
    };
    let whole = life(End::Itself).play();
    assert!(whole.stdout.contains("\nENDED\n"), "{whole:?}");
    let mut last = fs::read(machine.folder().join("certificate.pem")).unwrap();
    assert_ne!(last, first);
    let steps: Vec<_> =
        whole.stdout.lines().filter_map(|line| line.strip_prefix("STEP ")).map(str::to_owned).collect();
    let (mut kills, mut renewed) = (0, 0);
    for number in some(steps.len()) {
        let both = steps[number] == "rename";
        for after in [false, true].into_iter().take(if both { 2 } else { 1 }) {
            let end = End::Step { number, after };
            let ended = life(end).play();
            assert_eq!(ended.status.signal(), Some(Signal::KILL.as_raw()), "{end:?}: {ended:?}");
            let there = fs::read(machine.folder().join("certificate.pem")).unwrap();
            kills += 1;
            renewed += usize::from(there != last);
            let text = String::from_utf8(there).unwrap();
            assert!(text.contains("PRIVATE KEY") && text.contains("BEGIN CERTIFICATE"), "{end:?}");
            let told = machine.update_with(settings.clone(), Why::Start);
            assert!(
                matches!(told.outcome, Ok(Outcome::Ended(_))),
                "{end:?} {}: {:?}",
                steps[number],
                told.outcome
            );
            assert_eq!(told.ended().result, Went::UpToDate, "{end:?}");
            last = fs::read(machine.folder().join("certificate.pem")).unwrap();
        }
    }
    assert!(renewed > 0 && renewed < kills, "{renewed} of {kills} had renewed");
}
