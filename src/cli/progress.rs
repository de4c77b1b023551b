//! Long work as a person sees it: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, MultiProgress, ProgressBar, ProgressStyle};
use tracing::info;

use crate::cli::output::print_error;

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// One piece of long work. Dropping it takes the bar away.
#[derive(Debug)]
pub struct Work {
    name: String,
    unit: Unit,
    shown: Shown,
}

/// What work is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Agents.
    Agents,
}

/// Where lines go when there is no terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// To standard error, for the person who typed the command. Short work has none.
    Printed,
    /// To the log, in its format, for a tree. Short work has one, when it begins.
    Logged,
}

#[derive(Debug)]
enum Shown {
    Bar(ProgressBar),
    Lines(Lines, Pace),
}

impl Work {
    /// Begins to show work.
    pub fn begin(bars: &Arc<MultiProgress>, name: &str, unit: Unit, lines: Lines) -> Self {
        let shown = if std::io::stderr().is_terminal() {
            let style =
                ProgressStyle::with_template(unit.bar()).unwrap_or_else(|_| ProgressStyle::default_bar());
            Shown::Bar(bars.add(ProgressBar::new(0)).with_style(style).with_prefix(name.to_owned()))
        } else {
            Shown::Lines(lines, Pace::begin(lines, Instant::now()))
        };
        Self { name: name.to_owned(), unit, shown }
    }

    /// Shows how far it is; `what` is under way.
    pub fn show(&mut self, done: u64, total: u64, what: &str) {
        match &mut self.shown {
            Shown::Bar(bar) => {
                bar.set_length(total);
                bar.set_position(done);
                bar.set_message(what.to_owned());
            }
            Shown::Lines(lines, pace) => {
                if pace.is_due(Instant::now()) {
                    match lines {
                        Lines::Printed => print_error(&line(&self.name, self.unit, done, total, what)),
                        Lines::Logged => {
                            info!(tree = %self.name, bytes_done = done, bytes = total, "fetching: {what}");
                        }
                    }
                }
            }
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

impl Unit {
    fn bar(self) -> &'static str {
        match self {
            Self::Bytes => "{prefix} [{bar:20}] {bytes}/{total_bytes} {bytes_per_sec} {eta} {wide_msg}",
            Self::Agents => "{prefix} [{bar:20}] {human_pos}/{human_len} agents {wide_msg}",
        }
    }
}

fn line(name: &str, unit: Unit, done: u64, total: u64, what: &str) -> String {
    match unit {
        Unit::Bytes => format!("{name}: {} of {}, {what}", HumanBytes(done), HumanBytes(total)),
        Unit::Agents => format!("{name}: {} of {} agents, {what}", HumanCount(done), HumanCount(total)),
    }
}

/// When the next line is due.
#[derive(Debug)]
struct Pace {
    next: Instant,
}

impl Pace {
    fn begin(lines: Lines, now: Instant) -> Self {
        match lines {
            Lines::Printed => Self { next: now + LINE_EVERY },
            Lines::Logged => Self { next: now },
        }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let due = now >= self.next;
        if due {
            self.next = now + LINE_EVERY;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_lines_wait_and_logged_ones_begin_at_once() {
        let now = Instant::now();
        let mut printed = Pace::begin(Lines::Printed, now);
        assert!(!printed.is_due(now));
        assert!(!printed.is_due(now + LINE_EVERY / 2));
        assert!(printed.is_due(now + LINE_EVERY * 3 / 2));
        assert!(!printed.is_due(now + LINE_EVERY * 2));
        assert!(printed.is_due(now + LINE_EVERY * 5 / 2));
        let mut logged = Pace::begin(Lines::Logged, now);
        assert!(logged.is_due(now));
        assert!(!logged.is_due(now));
    }

    #[test]
    fn a_line_says_what_how_far_and_of_how_much() {
        let bytes = line("main", Unit::Bytes, 1 << 20, 3 << 20, "file 2 of 7");
        assert_eq!(bytes, "main: 1.00 MiB of 3.00 MiB, file 2 of 7");
        let agents = line("update 7", Unit::Agents, 80, 1200, "250 under way");
        assert_eq!(agents, "update 7: 80 of 1,200 agents, 250 under way");
    }
}
