//! The moment that a line of the log begins with: RFC 3339, in UTC, to the microsecond.
//!
//! Lines come many in a second: what they share of it is made once for each, on each thread.

use std::cell::RefCell;
use std::fmt;

use jiff::Timestamp;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

/// Now.
#[derive(Clone, Copy, Debug)]
pub struct Moment;

impl FormatTime for Moment {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let mut text = String::new();
        push_now(&mut text);
        writer.write_str(&text)
    }
}

/// Adds the moment that it is.
pub fn push_now(to: &mut String) {
    push(Timestamp::now(), to);
}

/// The last second that was written, and how.
#[derive(Debug, Default)]
struct Second {
    number: Option<i64>,
    text: String,
}

thread_local! {
    static SECOND: RefCell<Second> = RefCell::default();
}

fn push(now: Timestamp, to: &mut String) {
    SECOND.with_borrow_mut(|second| {
        if second.number != Some(now.as_second()) {
            second.number = Some(now.as_second());
            second.text = now.strftime("%Y-%m-%dT%H:%M:%S.").to_string();
        }
        to.push_str(&second.text);
    });
    // The leading one keeps the zeros behind it, and is left out.
    let micros = 1_000_000 + now.subsec_microsecond().unsigned_abs();
    to.push_str(&itoa::Buffer::new().format(micros)[1..]);
    to.push('Z');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_moment_is_as_jiff_writes_it(nanos in 0_i64..4_000_000_000_000_000_000, near in prop::collection::vec(0_i64..2_000_000_000, 0..4)) {
            for later in std::iter::once(0).chain(near) {
                let moment = Timestamp::from_nanosecond(i128::from(nanos + later)).unwrap();
                let mut text = String::new();
                push(moment, &mut text);
                prop_assert_eq!(text, moment.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string());
            }
        }
    }
}
