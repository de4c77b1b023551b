//! How far a fleet is, as a person sees it: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

use crate::cli::output::print_error;
use crate::load::fleet::Progress;

/// Between two looks.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

const BAR: &str = "load [{bar:20}] {human_pos}/{human_len} agents {wide_msg}";

/// What is shown. Dropping it takes the bar away.
#[derive(Debug)]
pub(super) struct Shown {
    bar: Option<ProgressBar>,
    agents: u64,
    /// Whether it is still to be said that all agents hold their streams.
    awaits_streams: bool,
    before: Progress,
    looked: Instant,
    line_at: Instant,
}

impl Shown {
    /// Begins to show so many agents, and whether they hold streams.
    pub(super) fn begin(agents: u64, are_told: bool) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(agents).with_style(style)
        });
        let now = Instant::now();
        Self {
            bar,
            agents,
            awaits_streams: are_told,
            before: Progress::default(),
            looked: now,
            line_at: now + LINE_EVERY,
        }
    }

    /// Shows how far it is: rates since the last look.
    pub(super) fn show(&mut self, now: Progress) {
        if self.awaits_streams && now.streams >= self.agents {
            self.awaits_streams = false;
            // Whoever tells the agents waits for this.
            let line = format!("load: all {} agents hold their streams", HumanCount(self.agents));
            match &self.bar {
                Some(bar) => bar.suspend(|| print_error(&line)),
                None => print_error(&line),
            }
        }
        let since = self.looked.elapsed();
        if let Some(bar) = &self.bar {
            bar.set_position(now.done);
            bar.set_message(words(self.before, now, since));
        } else if Instant::now() >= self.line_at {
            let [done, agents] = [now.done, self.agents].map(HumanCount);
            print_error(&format!("load: {done} of {agents} agents, {}", words(self.before, now, since)));
            self.line_at += LINE_EVERY;
        } else {
            return;
        }
        self.before = now;
        self.looked = Instant::now();
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn words(before: Progress, now: Progress, since: Duration) -> String {
    let per_sec = |count: u64| {
        let micros = u64::try_from(since.as_micros()).unwrap_or(u64::MAX).max(1);
        count.saturating_mul(1_000_000) / micros
    };
    let streams = match now.streams {
        0 => String::new(),
        streams => format!("{} streams, ", HumanCount(streams)),
    };
    format!(
        "{streams}{} under way, {} requests/s, {}/s, {} errors",
        HumanCount(now.arrived.saturating_sub(now.done)),
        HumanCount(per_sec(now.requests - before.requests)),
        HumanBytes(per_sec(now.bytes - before.bytes)),
        HumanCount(now.errors),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_since_the_last_look() {
        let before = Progress { streams: 0, arrived: 5, done: 0, requests: 10, errors: 0, bytes: 1024 };
        let now = Progress { streams: 0, arrived: 9, done: 2, requests: 20, errors: 1, bytes: 3 * 1024 };
        let said = words(before, now, Duration::from_millis(500));
        assert_eq!(said, "7 under way, 20 requests/s, 4.00 KiB/s, 1 errors");
        let said = words(before, Progress { streams: 1200, ..now }, Duration::from_millis(500));
        assert!(said.starts_with("1,200 streams, 7 under way, "), "{said}");
    }
}
