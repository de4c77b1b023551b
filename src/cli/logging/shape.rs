//! How a line of the log looks as text: as `tracing_subscriber` writes it, also where that is too slow.
//!
//! There is a line of the access log for each request, so those are put together here, without the styles that nothing shows. Invariant: a
//! line is what the stock format would make of it.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{Format, FormatEvent, FormatFields, Full, Writer};
use tracing_subscriber::fmt::time::FormatTime as _;
use tracing_subscriber::fmt::{FmtContext, format};
use tracing_subscriber::registry::LookupSpan;

use crate::cli::logging::moment::Moment;

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
        Moment.format_time(&mut writer)?;
        write!(writer, " {:>5} {ACCESS}:", event.metadata().level())?;
        let mut fields = Fields { writer: &mut writer, written: Ok(()) };
        event.record(&mut fields);
        fields.written?;
        writer.write_char('\n')
    }
}

/// The fields of a line, as they come.
struct Fields<'w, 'b> {
    writer: &'w mut Writer<'b>,
    written: fmt::Result,
}

impl Fields<'_, '_> {
    fn write(&mut self, field: &Field, write: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        let name = field.name();
        if self.written.is_ok() {
            self.written = (|| {
                self.writer.write_char(' ')?;
                self.writer.write_str(name)?;
                self.writer.write_char('=')?;
                write(self.writer)
            })();
        }
    }
}

impl Visit for Fields<'_, '_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.write(field, |writer| {
            if value.bytes().all(is_plain) {
                writer.write_char('"')?;
                writer.write_str(value)?;
                writer.write_char('"')
            } else {
                write!(writer, "{value:?}")
            }
        });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.write(field, |writer| write!(writer, "{value:?}"));
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
    use tracing::info;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

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
            path in "\\PC{0,20}|[ -~]{0,20}|[\\x00-\\x7f]{0,9}",
            range in prop::option::of("[ -~]{0,9}"),
            status in prop::option::of(100_u16..600),
            bytes: u64,
        ) {
            let [ours, stock] = shapes(|| {
                let agent = std::net::SocketAddr::from(([192, 0, 2, 1], 80));
                info!(target: ACCESS, %agent, path, range = range.as_deref(), status, outcome = "hit", bytes);
                info!(path, "something else");
            });
            prop_assert_eq!(ours.len(), 2);
            prop_assert_eq!(ours, stock);
        }
    }
}
