//! The log: text or JSON on standard error, written by a thread of its own so that no worker waits for a terminal.

pub mod lines;
pub mod moment;
pub mod rings;
pub mod shape;

use std::io::{self, Write};
use std::sync::Arc;

use indicatif::MultiProgress;
use tracing::warn;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use crate::base::tally::Tally;
use crate::cli::logging::lines::{Lines, Writing};
use crate::cli::logging::moment::Moment;
use crate::cli::logging::shape::{ACCESS, Text};
use crate::config::settings::{LogFormat, LogLevel, LogSettings};

/// The log of this process. Dropping it writes out what waits.
#[derive(Debug)]
pub struct Logging {
    level: reload::Handle<Targets, Registry>,
    lines: Lines,
    _writing: Writing,
}

impl Logging {
    /// Sets up the log; progress bars and lines do not disturb each other.
    pub fn start(settings: &LogSettings, bars: &Arc<MultiProgress>) -> io::Result<Self> {
        let bars = bars.clone();
        let (lines, writing) = Lines::start(move |text| {
            // Whoever read it may have left.
            let _ = bars.suspend(|| io::stderr().write_all(text));
        })?;
        let (filter, level) = reload::Layer::new(filter(settings.level));
        let written = tracing_subscriber::fmt::layer().with_writer(lines.clone());
        let written = match settings.format {
            LogFormat::Text => written.event_format(Text::default()).boxed(),
            LogFormat::Json => written.with_timer(Moment).json().flatten_event(true).boxed(),
        };
        tracing_subscriber::registry().with(written.with_filter(filter)).init();
        Ok(Self { level, lines, _writing: writing })
    }

    /// Takes another level from here on.
    pub fn set_level(&self, level: LogLevel) {
        // It fails only when the subscriber is gone, and with it the log.
        let _ = self.level.reload(filter(level));
    }

    /// Takes the lines that were lost into the relay's counts. Nothing else counts them there.
    pub fn count_lost(&self, tally: &Tally) {
        let lines = self.lines.lost().saturating_sub(tally.log_lines_lost.value());
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
        .with_target(ACCESS, LevelFilter::INFO)
}
