//! What can be wrong with the text of an outline, and how it is said.
//!
//! Invariants: no message shows what could be a secret; however much is wrong, so many lines say it.

use std::fmt;

use thiserror::Error;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {key}{}: {reason}", equals(value.as_deref()))]
pub struct OutlineError {
    /// The line, counted from 1.
    pub line: usize,
    /// The key with its table, such as `agent.values.scope`; of text that is not TOML, `not valid TOML`.
    pub key: String,
    /// The value as it is written, shortened; none where that says nothing or could be a secret.
    pub value: Option<String>,
    /// Why it is refused, and what is allowed.
    pub reason: String,
}

/// What is wrong, in the order of the text: at least one thing, and no more than so many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlineErrors(Vec<OutlineError>);

/// Errors that are told: who has more than these changes the file before reading on.
pub const ERRORS_MAX: usize = 50;

/// Characters of a value that are shown.
const VALUE_CHARS_MAX: usize = 60;

impl OutlineErrors {
    /// `None` where nothing is wrong.
    pub(super) fn new(mut errors: Vec<OutlineError>) -> Option<Self> {
        errors.sort_by_key(|error| error.line);
        (!errors.is_empty()).then_some(Self(errors))
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &OutlineError> {
        self.0.iter()
    }
}

impl std::error::Error for OutlineErrors {}

/// A line for each.
impl fmt::Display for OutlineErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if at == 0 { "" } else { "\n" })?;
        }
        if self.0.len() >= ERRORS_MAX {
            write!(f, "\nand maybe more: reading ended here")?;
        }
        Ok(())
    }
}

/// A value as it is written, shortened.
pub(super) fn excerpt(text: &str) -> String {
    let mut letters = text.chars();
    let begin: String = letters
        .by_ref()
        .take(VALUE_CHARS_MAX)
        .flat_map(|letter| {
            let escaped = letter.is_control().then(|| letter.escape_default());
            let plain = escaped.is_none().then_some(letter);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect();
    if letters.next().is_none() { begin } else { begin + "..." }
}

fn equals(value: Option<&str>) -> String {
    value.map_or_else(String::new, |value| format!(" = {value}"))
}
