//! What a process holds: memory, files, threads, and the tasks that it counts itself.
//!
//! Never asks the process for what the system knows. Invariant: what a figure may differ by has a name and a reason.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

use crate::served::{Served, metric};

/// Pages of memory that an allocator keeps differ from one moment to the next by about so much, in KiB: an arena for each
/// thread, and the buffers of the largest answers under way at once. Measured runs of minutes differ by a third of it.
const RSS_SLACK_KIB: u64 = 24 << 10;

/// A look at the certificates each second has the threads that read from the disk take turns: up to so many of them never have
/// nothing to do for ten seconds.
const THREADS_SLACK: u64 = 10;

/// Tasks of the control runtime that come and go while nobody uses the relay: the one that looks for upstream connections to
/// close, every 45 seconds while there were any, and that of the look before this one.
const CONTROL_SLACK: u64 = 2;

/// Threads that read from the disk end when they had nothing to do for ten seconds (tokio's keep-alive).
const QUIET: Duration = Duration::from_secs(15);

/// Looks at a process follow each other so closely that a low point of its thread count is seen.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The figures of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    rss_kib: u64,
    threads: u64,
    sockets: u64,
    /// Blobs that are open and still have their name.
    blobs: u64,
    /// Files that are open and have none.
    removed: u64,
    /// Journals: one for each generation kept.
    journals: u64,
    others: u64,
    tasks: BTreeMap<String, u64>,
}

impl Figures {
    /// Those of a relay that nobody uses, once the threads that wait for work have ended, or as soon as they are low enough.
    pub(super) fn at_rest(relay: &Served, low_enough: impl Fn(&Self) -> bool) -> Self {
        let begun = Instant::now();
        let mut least = Self::now(relay);
        while begun.elapsed() < QUIET && !low_enough(&least) {
            std::thread::sleep(LOOK_EVERY);
            let now = Self::now(relay);
            least = Self { threads: now.threads.min(least.threads), ..now };
        }
        least
    }

    fn now(relay: &Served) -> Self {
        let process = format!("/proc/{}", relay.id());
        let status = fs::read_to_string(format!("{process}/status")).unwrap();
        let field = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_start_matches(':').split_whitespace().next().unwrap().parse().unwrap()
        };
        let page = relay.ask("/metrics");
        let mut figures = Self { rss_kib: field("VmRSS"), threads: field("Threads"), ..Self::default() };
        let names =
            page.lines().filter_map(|line| line.strip_prefix("forebay_tasks{runtime=\"")?.split_once('"'));
        for (runtime, _) in names {
            let alive = metric(&page, &format!("forebay_tasks{{runtime=\"{runtime}\"}}"));
            figures.tasks.insert(runtime.into(), alive);
        }
        for file in fs::read_dir(format!("{process}/fd")).unwrap() {
            // One that was closed meanwhile is not open.
            let Ok(to) = fs::read_link(file.unwrap().path()) else { continue };
            let to = to.to_string_lossy();
            let count = match &*to {
                to if to.ends_with(" (deleted)") => &mut figures.removed,
                to if to.starts_with("socket:") => &mut figures.sockets,
                to if to.contains("/blobs/") => &mut figures.blobs,
                to if to.ends_with("/journal") => &mut figures.journals,
                _ => &mut figures.others,
            };
            *count += 1;
        }
        figures
    }

    /// What is more than it was before; `workers` and `blobs` bound what may be open in the workers' tables of blobs.
    pub(super) fn more_than(&self, before: &Self, workers: u64, blobs: u64) -> Vec<String> {
        let mut more = Vec::new();
        let mut check = |what: String, now: u64, most: u64| {
            if now > most {
                more.push(format!("{what}: {now}, at most {most}"));
            }
        };
        check("memory in KiB".into(), self.rss_kib, before.rss_kib + before.rss_kib / 4 + RSS_SLACK_KIB);
        check("threads".into(), self.threads, before.threads + THREADS_SLACK);
        check("sockets".into(), self.sockets, before.sockets);
        check("open blobs".into(), self.blobs, workers * blobs);
        check("open files without a name".into(), self.removed, 0);
        check("open journals".into(), self.journals, before.journals);
        check("other open files".into(), self.others, before.others);
        for (runtime, now) in &self.tasks {
            let slack = if runtime == "control" { CONTROL_SLACK } else { 0 };
            check(
                format!("tasks of {runtime}"),
                *now,
                before.tasks.get(runtime).copied().unwrap_or(0) + slack,
            );
        }
        more
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rss_kib, threads, sockets, blobs, removed, journals, others, tasks } = self;
        let tasks: Vec<_> = tasks.iter().map(|(runtime, count)| format!("{runtime} {count}")).collect();
        write!(
            f,
            "{rss_kib} KiB, {threads} threads, {sockets} sockets, {blobs} blobs open, {removed} removed files open, \
             {journals} journals, {others} other files, tasks: {}",
            tasks.join(", ")
        )
    }
}
