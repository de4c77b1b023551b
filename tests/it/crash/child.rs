//! The relay that ends: this test program once more, told by its environment what life to lead and where to end it.
//!
//! It says `STEP` for each step on its data folder when nothing is to end it, and `ENDED` after a life without a wrong byte;
//! its log says what it holds complete. Invariant: without a life in the environment it does nothing.

use std::collections::HashMap;
use std::env;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use forebay::app::Relay;
use forebay::app::handle::RelayHandle;
use forebay::config::settings::Prefetch;
use forebay::disk::{Disk, Step, Verdict, When};
use forebay::net::inherited::Inherited;
use forebay::relay::refresh::Last;
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};
use tracing::Level;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::ground::Release;
use crate::process::Process;
use crate::raw;
use crate::relay::settings;

const LIFE: &str = "FOREBAY_TEST_LIFE";

/// What a child does: it takes a release, asks for all of it as an agent, and stops in order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Life {
    pub(super) data: PathBuf,
    pub(super) upstream: String,
    /// Everything ahead, or nothing.
    pub(super) prefetch: bool,
    pub(super) release: Release,
    pub(super) end: Option<Point>,
}

/// Where a life ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Point {
    /// The step and what it is done to, such as `sync staging/KEY.part`.
    pub(super) step: String,
    /// Whether it was done.
    pub(super) after: bool,
    /// Which of those steps, counted from 1.
    pub(super) nth: usize,
}

/// The steps that a life without an end said: what each is called, and where it is.
pub(super) fn steps(output: &str) -> Vec<(String, Point)> {
    let lines = output.lines().filter_map(|line| line.strip_prefix("STEP ")?.split_once(": "));
    lines.map(|(name, point)| (name.to_owned(), serde_json::from_str(point).unwrap())).collect()
}

impl Life {
    /// Begins it in a process of its own.
    pub(super) fn start(&self) -> Process {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["crash::child::leads_the_life_that_its_environment_names", "--exact", "--nocapture"]);
        Process::start(command.env(LIFE, serde_json::to_string(self).unwrap()))
    }

    fn lead(self) {
        log();
        let mut settings = settings(&self.upstream);
        settings.data.clone_from(&self.data);
        settings.trees[0].prefetch = if self.prefetch { Prefetch::All } else { Prefetch::None };
        settings.trees[0].keep_generations = 1;
        let handle = Relay::start_on(settings, &Inherited::default(), &self.disk()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(refreshed(&handle));
        let address = handle.running().listen[0];
        let get = |path: &str| raw::fetch(address, &format!("/activeupdate/{path}"), &[]).whole(200);
        assert_eq!(get("server.ini"), self.release.view().into_bytes());
        for path in self.release.paths() {
            assert!(get(&path) == *self.release.bytes(&path), "{path}");
        }
        runtime.block_on(held(&handle));
        runtime.block_on(handle.shutdown());
        println!("ENDED");
    }

    fn disk(&self) -> Disk {
        let counts = Arc::new(Mutex::new(HashMap::<(String, bool), usize>::new()));
        let (data, end) = (self.data.clone(), self.end.clone());
        Disk::with_seam(move |when, step| {
            let (name, step, after) = (step.name(), label(step, &data), when == When::After);
            // Held until the process is gone, so that no other step goes on meanwhile.
            let mut counts = counts.lock().unwrap();
            let nth = counts.entry((step.clone(), after)).or_default();
            *nth += 1;
            let point = Point { step, after, nth: *nth };
            match &end {
                Some(end) if *end == point => kill_process(getpid(), Signal::KILL).unwrap(),
                Some(_) => {}
                None => println!("STEP {name}: {}", serde_json::to_string(&point).unwrap()),
            }
            Verdict::Done
        })
    }
}

/// What a step does and to what, the names that differ from life to life left out.
fn label(step: &Step<'_>, data: &Path) -> String {
    let place = |path: &Path| shape(path.strip_prefix(data).unwrap_or(path));
    let opened = |file: &File| {
        let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
        place(&path)
    };
    let on = match step {
        Step::CreateFolder(path)
        | Step::Create(path)
        | Step::Open(path)
        | Step::OpenToRead(path)
        | Step::Read(path)
        | Step::List(path)
        | Step::SyncFolder(path)
        | Step::Point(path)
        | Step::Remove(path) => place(path),
        Step::Write(file, ..)
        | Step::Cut(file, _)
        | Step::Sync(file)
        | Step::ReadCached(file)
        | Step::ReadAt(file, ..)
        | Step::ReadSome(file, _) => opened(file),
        Step::Rename(from, to) | Step::Link(from, to) => format!("{} {}", place(from), place(to)),
        Step::Index(_) => String::new(),
    };
    format!("{} {on}", step.name()).trim_end().to_owned()
}

fn shape(path: &Path) -> String {
    let part = |part: &str| match part.split('.').collect::<Vec<_>>()[..] {
        [key, rest] if key.len() == 64 && rest.parse::<u64>().is_ok() => "HASH.SIZE".to_owned(),
        [key, rest] if key.len() == 64 => format!("KEY.{rest}"),
        [key, rest] if key.parse::<u64>().is_ok() => format!("N.{rest}"),
        [key] if key.parse::<u64>().is_ok() && key.len() != 2 => "N".to_owned(),
        [key] if key.len() == 2 && key.bytes().all(|digit| digit.is_ascii_hexdigit()) => "ab".to_owned(),
        _ => part.to_owned(),
    };
    let path = path.to_str().unwrap().trim_end_matches(" (deleted)");
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// Waits until the first refresh has brought the release, or found that it is there.
async fn refreshed(handle: &RelayHandle) {
    let tree = handle.trees().remove(0);
    let mut progress = tree.progress().subscribe();
    let ended = progress.wait_for(|now| now.ended >= 1).await.unwrap().last.clone();
    assert!(matches!(ended, Some(Last::New(_) | Last::Same)), "{ended:?}");
}

/// Waits until every file of the current generation is held.
pub(super) async fn held(handle: &RelayHandle) {
    let tree = handle.trees().remove(0);
    let snapshot = tree.snapshot().unwrap();
    for listed in snapshot.current().generation.files() {
        if let Some(fill) = tree.fill(&listed.entry) {
            fill.finished().await.unwrap();
        }
    }
}

/// The log, without delay: a line is out before what it tells can be built upon.
pub(super) fn log() {
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(std::io::stdout);
    let own = Targets::new().with_target("forebay", Level::DEBUG);
    tracing_subscriber::registry().with(lines.with_filter(own)).init();
}

#[test]
fn leads_the_life_that_its_environment_names() {
    if let Ok(life) = env::var(LIFE) {
        serde_json::from_str::<Life>(&life).unwrap().lead();
    }
}
