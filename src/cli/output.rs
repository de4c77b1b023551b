//! What the commands print. What comes from elsewhere, an upstream's manifest or a request, cannot act on the terminal or
//! forge a line: control characters are shown as escapes.
//!
//! Invariant: a reader that left is no error; `forebay status | head` ends quietly, and `forebay serve | head` runs on.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write as _};

/// Prints lines on standard output.
pub fn print(lines: &str) {
    for line in lines.lines() {
        // The reader may have left.
        let _ = writeln!(io::stdout().lock(), "{}", plain(line));
    }
}

/// Prints lines on standard error.
pub fn print_error(lines: &str) {
    for line in lines.lines() {
        // The reader may have left.
        let _ = writeln!(io::stderr().lock(), "{}", plain(line));
    }
}

/// A line with its control characters as escapes, which are right within a JSON string too.
pub fn plain(line: &str) -> Cow<'_, str> {
    if !line.contains(acts) {
        return Cow::Borrowed(line);
    }
    let mut shown = String::with_capacity(line.len() + 16);
    for char in line.chars() {
        if acts(char) {
            // Writing into a string does not fail.
            let _ = write!(shown, "\\u{:04x}", u32::from(char));
        } else {
            shown.push(char);
        }
    }
    Cow::Owned(shown)
}

/// Whether a character does something other than being shown: control characters, line ends of Unicode, and those that turn
/// the direction of text.
fn acts(char: char) -> bool {
    char.is_control() || matches!(char, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_become_escapes_and_all_else_stays() {
        assert_eq!(plain("übung [1m \u{1f600}"), "übung [1m \u{1f600}");
        assert_eq!(plain("a\x1b[31m\r\n\u{9b}\x7f\0b"), "a\\u001b[31m\\u000d\\u000a\\u009b\\u007f\\u0000b");
        assert_eq!(plain("a\u{2028}\u{202e}b"), "a\\u2028\\u202eb");
        let json = plain("\"\u{9b}\"").into_owned();
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), "\u{9b}");
    }
}
