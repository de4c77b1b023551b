//! Long work as a person sees it: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

const BAR: &str = "{prefix} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta} {wide_msg}";

/// One piece of long work, counted in bytes.
#[derive(Debug)]
pub struct Work {
    name: String,
    shown: Shown,
}

#[derive(Debug)]
enum Shown {
    Bar(ProgressBar),
    Lines { last: Instant },
}

impl Work {
    /// Begins to show work.
    pub fn begin(bars: &Arc<MultiProgress>, name: &str) -> Self {
        let shown = if std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
            Shown::Bar(bars.add(ProgressBar::new(0)).with_style(style).with_prefix(name.to_owned()))
        } else {
            Shown::Lines { last: Instant::now() }
        };
        Self { name: name.to_owned(), shown }
    }

    /// Shows how far it is; `what` is under way.
    pub fn show(&mut self, done: u64, total: u64, what: &str) {
        match &mut self.shown {
            Shown::Bar(bar) => {
                bar.set_length(total);
                bar.set_position(done);
                bar.set_message(what.to_owned());
            }
            Shown::Lines { last } if last.elapsed() >= LINE_EVERY => {
                *last = Instant::now();
                eprintln!("{}: {done} of {total} bytes, {what}", self.name);
            }
            Shown::Lines { .. } => {}
        }
    }

    /// Takes the bar away.
    pub fn end(self) {
        if let Shown::Bar(bar) = self.shown {
            bar.finish_and_clear();
        }
    }
}
