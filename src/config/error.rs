//! What can be wrong with a settings file, and how it is said.
//!
//! Invariant: no message shows credentials; what stands before an `@` in a URL is masked.

use std::fmt;

use thiserror::Error;

/// One thing that is wrong. Keys are full, with indices counted from 0: `tree[1].upstream`. Lines count from
/// 1; there is none where the value came from the command line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// The text is not TOML, or a key stands in it twice.
    #[error("line {line}, column {column}: not valid TOML: {message}")]
    Syntax {
        /// The line.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
        /// What the TOML parser says.
        message: String,
    },
    /// A key that no setting has.
    #[error("line {line}: {key}: unknown key in {table}{}; allowed: {allowed}", meant(nearest.as_deref()))]
    UnknownKey {
        /// The line of the key.
        line: usize,
        /// The key.
        key: String,
        /// The table that it stands in, as a file has it: `[limits]`.
        table: String,
        /// The key that was probably meant.
        nearest: Option<String>,
        /// The table's keys.
        allowed: String,
    },
    /// A key without which there is no relay.
    #[error("{}{key}: missing; allowed: {allowed}", at(*line))]
    Missing {
        /// The line where its table begins.
        line: Option<usize>,
        /// The key.
        key: String,
        /// What may stand there.
        allowed: String,
    },
    /// A value that the key may not have.
    #[error("{}{key}{}: {reason}; allowed: {allowed}", at(*line), equals(value.as_deref()))]
    Refused {
        /// The line of the value.
        line: Option<usize>,
        /// The key.
        key: String,
        /// The value as it is written, shortened; none where the value is a default that clashes.
        value: Option<String>,
        /// What is wrong with it.
        reason: String,
        /// What may stand there.
        allowed: String,
    },
}

/// All that is wrong with a settings file: at least one error, in the order of the file's lines.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigError {
    /// The line that the error is about, counted from 1.
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::Syntax { line, .. } | Self::UnknownKey { line, .. } => Some(*line),
            Self::Missing { line, .. } | Self::Refused { line, .. } => *line,
        }
    }
}

impl ConfigErrors {
    /// Sorts errors by line; `None` where there are none.
    pub(super) fn new(mut errors: Vec<ConfigError>) -> Option<Self> {
        errors.sort_by_key(ConfigError::line);
        (!errors.is_empty()).then_some(Self(errors))
    }

    /// The errors, in the order of the file's lines.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.0.iter()
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

impl<'a> IntoIterator for &'a ConfigErrors {
    type Item = &'a ConfigError;
    type IntoIter = std::slice::Iter<'a, ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One line for each error.
impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

/// A value as a message shows it: one short line, credentials masked.
pub(super) fn shown(source: &str) -> String {
    let source = source.trim();
    let masked = match (source.find("://"), source.rfind('@')) {
        (Some(scheme_end), Some(at)) if scheme_end < at => {
            format!("{}://***{}", &source[..scheme_end], &source[at..])
        }
        _ => source.to_owned(),
    };
    let mut short: String =
        masked.chars().take(SHOWN_CHARS_MAX).map(|char| if char.is_control() { ' ' } else { char }).collect();
    if masked.chars().nth(SHOWN_CHARS_MAX).is_some() {
        short.push_str("...");
    }
    short
}

fn at(line: Option<usize>) -> String {
    line.map(|line| format!("line {line}: ")).unwrap_or_default()
}

fn equals(value: Option<&str>) -> String {
    value.map(|value| format!(" = {value}")).unwrap_or_default()
}

fn meant(nearest: Option<&str>) -> String {
    nearest.map(|nearest| format!(" (is '{nearest}' meant?)")).unwrap_or_default()
}

/// How much of a value a message shows, in characters: enough to find it again in the file, one line on a
/// terminal.
const SHOWN_CHARS_MAX: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_values_are_short_single_lines_without_credentials() {
        assert_eq!(shown("\"http://user:pa/ss@host/au\""), "\"http://***@host/au\"");
        assert_eq!(shown("[1,\r\n2]"), "[1,  2]");
        assert_eq!(shown("a@b://c"), "a@b://c");
        assert_eq!(shown(&"é".repeat(100)), format!("{}...", "é".repeat(80)));
    }
}
