//! How a line of the log looks as text: as `tracing_subscriber` writes it, also where that is too slow.
//!
//! There is a line of the access log for each request, so those are put together here, without the styles that nothing shows. Invariant: a
//! line is what the stock format would make of it.

use std::cell::Cell;
use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, FormatEvent, FormatFields, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, format};
use tracing_subscriber::registry::LookupSpan;

use crate::cli::logging::moment::{self, Moment};

/// The target of lines of the access log.
pub const ACCESS: &str = "access";

/// The shape of lines as text.
#[derive(Debug)]
pub struct Text(Format<Full, Moment>);

impl Default for Text {
    fn default() -> Self {
        Self(format().with_timer(Moment).with_ansi(false))
    }
}

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if event.metadata().target() != ACCESS {
            return self.0.format_event(context, writer, event);
        }
        // Taken, not borrowed: what is logged may log while it is written.
        let mut line = LINE.take();
        line.clear();
        moment::push_now(&mut line);
        line.push_str(head(*event.metadata().level()));
        let mut fields = Fields { line: &mut line, written: Ok(()) };
        event.record(&mut fields);
        fields.written?;
        line.push('\n');
        let written = writer.write_str(&line);
        LINE.set(line);
        written
    }
}

thread_local! {
    /// Where lines of the access log are put together, each in the room of the one before.
    static LINE: Cell<String> = const { Cell::new(String::new()) };
}

/// What stands between the moment and the fields.
fn head(level: Level) -> &'static str {
    match level {
        Level::TRACE => " TRACE access:",
        Level::DEBUG => " DEBUG access:",
        Level::INFO => "  INFO access:",
        Level::WARN => "  WARN access:",
        Level::ERROR => " ERROR access:",
    }
}

/// The fields of a line, as they come.
struct Fields<'l> {
    line: &'l mut String,
    written: fmt::Result,
}

impl Fields<'_> {
    fn name(&mut self, field: &Field) {
        self.line.push(' ');
        self.line.push_str(field.name());
        self.line.push('=');
    }
}

impl Visit for Fields<'_> {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.name(field);
        self.line.push_str(itoa::Buffer::new().format(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if value.bytes().all(is_plain) {
            self.name(field);
            self.line.push('"');
            self.line.push_str(value);
            self.line.push('"');
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.name(field);
        self.written = self.written.and_then(|()| write!(self.line, "{value:?}"));
    }
}

/// Whether a byte stands for itself within quotes.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;
    use tracing::{debug, error, info, trace, warn};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::base::peer::Peer;

    /// What two formats make of the same events, without the moment.
    fn shapes(log: impl Fn()) -> [Vec<String>; 2] {
        #[derive(Clone, Default)]
        struct Kept(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for Kept {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (ours, stock) = (Kept::default(), Kept::default());
        let writer = |kept: &Kept| {
            let kept = kept.clone();
            move || kept.clone()
        };
        let layer = tracing_subscriber::fmt::layer().event_format(Text::default()).with_writer(writer(&ours));
        let other =
            tracing_subscriber::fmt::layer().with_timer(Moment).with_ansi(false).with_writer(writer(&stock));
        let both = tracing_subscriber::registry().with(layer).with(other);
        tracing::subscriber::with_default(both, log);
        [ours, stock].map(|kept| {
            let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
            text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
        })
    }

    proptest! {
        #[test]
        fn a_line_of_the_access_log_is_what_the_stock_format_makes_of_it(
            agent: std::net::SocketAddr,
            id in prop::option::of("[a-z0-9-]{1,36}"),
            method in "[A-Z]{1,9}",
            path in "\\PC{0,20}|[ -~]{0,20}|[\\x00-\\x7f]{0,9}",
            range in prop::option::of("[ -~]{0,9}"),
            status in prop::option::of(100_u16..600),
            reason in prop::option::of("\\PC{0,20}"),
            bytes: u64,
            number: i64,
        ) {
            let method = hyper::Method::from_bytes(method.as_bytes()).unwrap();
            let [ours, stock] = shapes(|| {
                info!(
                    target: ACCESS,
                    agent = %Peer(agent),
                    id = id.as_deref(),
                    %method,
                    path,
                    range = range.as_deref(),
                    status,
                    outcome = "hit",
                    reason = reason.as_deref(),
                    bytes,
                    small = 7_u8,
                    number,
                    yes = true,
                    ?reason,
                );
                info!(path, "something else");
            });
            prop_assert_eq!(ours.len(), 2);
            prop_assert_eq!(ours, stock);
        }
    }

    #[test]
    fn the_level_of_a_line_of_the_access_log_is_as_the_stock_format_shows_it() {
        let [ours, stock] = shapes(|| {
            trace!(target: ACCESS, bytes = 1);
            debug!(target: ACCESS, bytes = 1);
            info!(target: ACCESS, bytes = 1);
            warn!(target: ACCESS, bytes = 1);
            error!(target: ACCESS, bytes = 1);
        });
        assert_eq!(ours.len(), 5);
        assert_eq!(ours, stock);
    }

    #[test]
    fn what_cannot_be_written_is_no_line_and_spoils_no_other() {
        struct Fails;
        impl fmt::Display for Fails {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                Err(fmt::Error)
            }
        }
        let [ours, stock] = shapes(|| {
            info!(target: ACCESS, a = %Fails, b = 3);
            info!(target: ACCESS, b = 4);
        });
        assert_eq!(ours.last().unwrap(), " INFO access: b=4");
        assert_eq!(ours, stock);
    }
}
