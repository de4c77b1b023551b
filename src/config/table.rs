//! A key's default, bounds and reason: what error messages say is allowed, and the README's table. All keys stand in `rows`.
//!
//! The reader takes bounds and words from here, and a test compares the defaults with those of
//! [`settings`](crate::config::settings), so that neither can say what is not so.

use std::fmt::{self, Write as _};

use crate::config::rows::TABLE;

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The full key without indices: `tree.refresh_secs`.
    pub key: &'static str,
    /// What counts where the key is not there.
    pub default: Preset,
    /// What may stand there.
    pub allowed: Allowed,
    /// Why the default is what it is, or what the setting is for.
    pub reason: &'static str,
}

/// A setting's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// This, written as in a file.
    Toml(&'static str),
    /// Not one value; this says what.
    Otherwise(&'static str),
    /// None: the key must be there.
    Required,
}

/// The values of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// A whole number from the first to the second.
    Number(u64, u64),
    /// Bytes from the first to the second, as a number or as text with a unit.
    Bytes(u64, u64),
    /// One of these words.
    Words(&'static [&'static str]),
    /// What this says.
    Text(&'static str),
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Toml(value) => write!(f, "`{value}`"),
            Self::Otherwise(text) => f.write_str(text),
            Self::Required => f.write_str("required"),
        }
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(least, most) => write!(f, "a whole number from {least} to {most}"),
            Self::Bytes(least, most) => {
                write!(f, "a number of bytes from {least} to {most}, or text such as \"16 KiB\"")
            }
            Self::Words(words) => {
                for (index, word) in words.iter().enumerate() {
                    let separator = match index {
                        0 => "",
                        last if last + 1 == words.len() => " or ",
                        _ => ", ",
                    };
                    write!(f, "{separator}\"{word}\"")?;
                }
                Ok(())
            }
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// The row of a key that the parser reads.
pub(super) fn row(key: &str) -> &'static Row {
    row_of(TABLE, key)
}

/// The row of a key in the table of a file of another kind.
pub(super) fn row_of(rows: &'static [Row], key: &str) -> &'static Row {
    rows.iter().find(|row| row.key == key).expect("every key that is read has a row in the table")
}

/// The table as the README shows it.
pub fn markdown() -> String {
    markdown_of(TABLE)
}

/// The same of the table of a file of another kind.
pub fn markdown_of(rows: &[Row]) -> String {
    let mut text = String::from("| key | default | allowed | reason |\n|---|---|---|---|\n");
    for Row { key, default, allowed, reason } in rows {
        writeln!(text, "| `{key}` | {default} | {allowed} | {reason} |")
            .expect("a String takes what is written");
    }
    text
}

/// The key that was probably meant by one that is not among `known`: one that is spelt much like it, else one
/// of the same name in another table.
pub(super) fn nearest_key(unknown: &str, known: &[&str], rows: &[Row]) -> Option<String> {
    if unknown.len() > KEY_BYTES_MAX {
        return None;
    }
    let close = known
        .iter()
        .map(|key| (distance(unknown, key), *key))
        .filter(|(distance, key)| *distance <= key.len() / 3)
        .min();
    let elsewhere = || rows.iter().find(|row| row.key.rsplit('.').next() == Some(unknown)).map(|row| row.key);
    close.map(|(_, key)| key).or_else(elsewhere).map(Into::into)
}

/// How many bytes to insert, remove or change to make `to` of `from` (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let mut costs: Vec<usize> = (0..=to.len()).collect();
    for (row, from_byte) in from.bytes().enumerate() {
        let mut diagonal = costs[0];
        costs[0] = row + 1;
        for (column, to_byte) in to.bytes().enumerate() {
            let changed = diagonal + usize::from(from_byte != to_byte);
            diagonal = costs[column + 1];
            costs[column + 1] = changed.min(diagonal + 1).min(costs[column] + 1);
        }
    }
    costs[to.len()]
}

/// Longer keys are not compared with known ones, in bytes.
const KEY_BYTES_MAX: usize = 64;
