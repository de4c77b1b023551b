//! The log: text or JSON on standard error, written by a thread of its own so that no worker waits for a terminal.

use std::io::{self, Write};
use std::sync::Arc;

use indicatif::MultiProgress;
use tracing::warn;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use crate::base::tally::Tally;
use crate::cli::output::plain;
use crate::config::settings::{LogFormat, LogLevel, LogSettings};

/// Lines that wait for the terminal or the file at most; more are lost and counted.
const LINES_MAX: usize = 65_536;

/// The log of this process. Dropping it writes out what waits.
#[derive(Debug)]
pub struct Logging {
    level: reload::Handle<Targets, Registry>,
    lost: ErrorCounter,
    _guard: WorkerGuard,
}

impl Logging {
    /// Sets up the log; progress bars and lines do not disturb each other.
    pub fn start(settings: &LogSettings, bars: &Arc<MultiProgress>) -> Self {
        let (writer, guard) = NonBlockingBuilder::default()
            .buffered_lines_limit(LINES_MAX)
            .lossy(true)
            .finish(BesideBars(bars.clone()));
        let lost = writer.error_counter();
        let (filter, level) = reload::Layer::new(filter(settings.level));
        let lines = tracing_subscriber::fmt::layer().with_writer(writer);
        let lines = match settings.format {
            LogFormat::Text => lines.with_ansi(false).boxed(),
            LogFormat::Json => lines.json().flatten_event(true).boxed(),
        };
        tracing_subscriber::registry().with(lines.with_filter(filter)).init();
        Self { level, lost, _guard: guard }
    }

    /// Takes another level from here on.
    pub fn set_level(&self, level: LogLevel) {
        // It fails only when the subscriber is gone, and with it the log.
        let _ = self.level.reload(filter(level));
    }

    /// Takes the lines that were lost into the relay's counts. Nothing else counts them there.
    pub fn count_lost(&self, tally: &Tally) {
        let lines = (self.lost.dropped_lines() as u64).saturating_sub(tally.log_lines_lost.value());
        if lines > 0 {
            tally.log_lines_lost.add(lines);
            warn!(lines, "log lines are lost: whoever reads them is too slow");
        }
    }
}

/// The relay's own lines at a level; what libraries say only when it is a warning.
fn filter(level: LogLevel) -> Targets {
    let own = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    Targets::new()
        .with_default(own.min(LevelFilter::WARN))
        .with_target("forebay", own)
        .with_target("access", LevelFilter::INFO)
}

/// Standard error, with bars taken away while a line is written. What a request or an upstream sent cannot end a line.
struct BesideBars(Arc<MultiProgress>);

impl Write for BesideBars {
    /// `line` is a whole one: the log hands them over so.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let text = plain(text.strip_suffix('\n').unwrap_or(&text)).into_owned() + "\n";
        self.0.suspend(|| io::stderr().write_all(text.as_bytes()))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
