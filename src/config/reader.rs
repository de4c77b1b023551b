//! The text of a file as sections that are asked for their keys by name.
//!
//! A [`Section`] gives each value checked against its row in [`table`](crate::config::table); what is wrong
//! is noted in the [`Document`] with its line, and reading goes on, so that one run finds all errors. A
//! section that is dropped reports the keys that nobody asked for. Knows TOML, not what settings mean.

use std::cell::RefCell;
use std::collections::HashSet;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use crate::config::error::{ConfigError, ConfigErrors, shown};
use crate::config::table::{Allowed, Row, nearest_key, row_of};
use crate::config::value::byte_count;

/// One file being read.
pub(super) struct Document<'t> {
    text: &'t str,
    /// The keys that such a file has.
    rows: &'static [Row],
    errors: RefCell<Vec<ConfigError>>,
}

/// One table of the file, or an empty one where the file has none.
pub(super) struct Section<'d> {
    document: &'d Document<'d>,
    /// The table's full key with a dot at its end; empty for the top level.
    prefix: String,
    /// The byte where the table begins.
    start: usize,
    left: DeTable<'d>,
    /// What was asked for, and where it stands if it does.
    asked: Vec<(&'static str, Option<Place>)>,
}

/// Where a value stands, for messages about it.
#[derive(Clone)]
struct Place {
    start: usize,
    /// The value as it is written; none for tables, which have many places.
    value: Option<String>,
}

impl<'t> Document<'t> {
    pub(super) fn new(text: &'t str, rows: &'static [Row]) -> Self {
        Self { text, rows, errors: RefCell::default() }
    }

    /// The top level; `None` where the text is not TOML, which is noted.
    pub(super) fn root(&self) -> Option<Section<'_>> {
        let (table, broken) = DeTable::parse_recoverable(self.text);
        let mut told = HashSet::new();
        for error in &broken {
            let at = error.span().map_or(0, |span| span.start);
            let line = self.line(at);
            // What a line breaks further on is mostly the same mistake once more.
            if !told.insert(line) {
                continue;
            }
            let before = self.text.get(..at).unwrap_or_default();
            let column = before.chars().rev().take_while(|char| *char != '\n').count() + 1;
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            self.note(ConfigError::Syntax { line, column, message });
        }
        broken.is_empty().then(|| Section::new(self, String::new(), table))
    }

    /// The settings where nothing is wrong, else all that is.
    pub(super) fn close<T>(self, settings: Option<T>) -> Result<T, ConfigErrors> {
        match (ConfigErrors::new(self.errors.into_inner()), settings) {
            (None, Some(settings)) => Ok(settings),
            (Some(errors), _) => Err(errors),
            (None, None) => unreachable!("a text without a top level has a syntax error"),
        }
    }

    fn note(&self, error: ConfigError) {
        self.errors.borrow_mut().push(error);
    }

    fn line(&self, at: usize) -> usize {
        self.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
    }

    fn place(&self, value: &Spanned<DeValue<'_>>) -> Place {
        let tables = match value.get_ref() {
            DeValue::Array(items) => items.iter().any(|item| item.get_ref().is_table()),
            other => other.is_table(),
        };
        let source = self.text.get(value.span()).filter(|_| !tables);
        Place { start: value.span().start, value: source.map(shown) }
    }

    fn refuse(&self, key: String, place: Place, reason: String, allowed: String) {
        let line = Some(self.line(place.start));
        self.note(ConfigError::Refused { line, key, value: place.value, reason, allowed });
    }
}

impl<'d> Section<'d> {
    fn new(document: &'d Document<'d>, prefix: String, table: Spanned<DeTable<'d>>) -> Self {
        let start = table.span().start;
        Self { document, prefix, start, left: table.into_inner(), asked: Vec::new() }
    }

    /// A whole number within the row's bounds.
    pub(super) fn number<T: TryFrom<u64>>(&mut self, key: &'static str) -> Option<T> {
        self.value(key, |value| match value {
            DeValue::Integer(digits) => whole(digits),
            other => Err(found(other)),
        })
        .and_then(|number| self.bounded(key, number))
    }

    /// A time in whole seconds within the row's bounds.
    pub(super) fn seconds(&mut self, key: &'static str) -> Option<Duration> {
        self.number(key).map(Duration::from_secs)
    }

    /// A number of bytes within the row's bounds, as a number or as text with a unit.
    pub(super) fn bytes<T: TryFrom<u64>>(&mut self, key: &'static str) -> Option<T> {
        self.value(key, |value| match value {
            DeValue::Integer(digits) => whole(digits),
            DeValue::String(text) => byte_count(text),
            other => Err(found(other)),
        })
        .and_then(|number| self.bounded(key, number))
    }

    /// One of the row's words, as what `all` calls by that name.
    pub(super) fn word<T: Copy>(&mut self, key: &'static str, all: &[(&str, T)]) -> Option<T> {
        self.text(key, |text| {
            let named = all.iter().find(|(name, _)| *name == text);
            named.map(|(_, value)| *value).ok_or_else(|| "no such word".into())
        })
    }

    /// Text that `read` takes; its error is the reason for refusing.
    pub(super) fn text<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.value(key, |value| match value {
            DeValue::String(text) => read(text),
            other => Err(found(other)),
        })
    }

    /// Text, or a list of 1 to `count_max` of them, each taken by `read`.
    pub(super) fn texts<T>(
        &mut self,
        key: &'static str,
        count_max: usize,
        mut read: impl FnMut(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        self.list(key, count_max, |value| text_of(value).and_then(&mut read))
    }

    /// A whole number, or a list of 1 to `count_max` of them, each taken by `read`.
    pub(super) fn numbers<T>(
        &mut self,
        key: &'static str,
        count_max: usize,
        mut read: impl FnMut(u64) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        self.list(key, count_max, |value| match value {
            DeValue::Integer(digits) => whole(digits).and_then(&mut read),
            other => Err(found(other)),
        })
    }

    fn list<T>(
        &mut self,
        key: &'static str,
        count_max: usize,
        mut read: impl FnMut(&DeValue<'d>) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let value = self.take(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            return self.read(key, &value, read).map(|only| vec![only]);
        };
        if !(1..=count_max).contains(&items.len()) {
            self.refuse(key, format!("a list of {}", items.len()));
            return None;
        }
        let mut all = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match read(item.get_ref()) {
                Ok(value) => all.push(value),
                Err(reason) => {
                    let path = format!("{}{key}[{index}]", self.prefix);
                    let place = self.document.place(item);
                    self.document.refuse(path, place, reason, self.row(key).allowed.to_string());
                }
            }
        }
        Some(all)
    }

    /// The table under `key`; an empty one where there is none.
    pub(super) fn section(&mut self, key: &'static str) -> Self {
        let prefix = format!("{}{key}.", self.prefix);
        let empty =
            |start| Section::new(self.document, prefix.clone(), Spanned::new(start..start, DeTable::new()));
        let start = self.start;
        let Some(value) = self.take(key) else { return empty(start) };
        let span = value.span();
        match value.into_inner() {
            DeValue::Table(table) => Section::new(self.document, prefix, Spanned::new(span, table)),
            other => {
                let section = empty(span.start);
                self.refuse_as(key, found(&other), format!("a table, [{}{key}]", self.prefix));
                section
            }
        }
    }

    /// The tables `[[key]]`, at most `count_max`, in the order of the file; `None` where it has something
    /// else.
    pub(super) fn sections(&mut self, key: &'static str, count_max: usize) -> Option<Vec<Self>> {
        let path = format!("{}{key}", self.prefix);
        let Some(value) = self.take(key) else { return Some(Vec::new()) };
        let tables = match value.into_inner() {
            DeValue::Array(items) if items.len() <= count_max => items
                .into_iter()
                .enumerate()
                .map(|(index, item)| {
                    let span = item.span();
                    match item.into_inner() {
                        DeValue::Table(table) => Ok((format!("{path}[{index}]."), Spanned::new(span, table))),
                        other => Err(format!("a list with something {} in it", found(&other))),
                    }
                })
                .collect::<Result<Vec<_>, _>>(),
            DeValue::Array(items) => Err(format!("a list of {}", items.len())),
            other => Err(found(&other)),
        };
        let refuse = |reason| {
            let allowed = format!("up to {count_max} tables, each as [[{}]]", without_indices(&path));
            self.refuse_as(key, reason, allowed);
        };
        let sections = |tables: Vec<_>| {
            tables.into_iter().map(|(prefix, table)| Section::new(self.document, prefix, table)).collect()
        };
        tables.map_err(refuse).map(sections).ok()
    }

    /// The table's full key with a dot at its end; empty for the top level.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether the file has this key, which was asked for before.
    pub(super) fn has(&self, key: &str) -> bool {
        self.place(key).is_some()
    }

    /// Notes that a key which was asked for is missing, if it is.
    pub(super) fn require(&self, key: &'static str) {
        if !self.has(key) {
            self.missing(key, self.row(key).allowed.to_string());
        }
    }

    /// Notes that a key is missing.
    pub(super) fn missing(&self, key: &'static str, allowed: String) {
        let line = Some(self.document.line(self.start));
        let key = format!("{}{key}", self.prefix);
        self.document.note(ConfigError::Missing { line, key, allowed });
    }

    /// Notes what is wrong with the value of a key which was asked for, or with its default.
    pub(super) fn refuse(&self, key: &'static str, reason: String) {
        self.refuse_as(key, reason, self.row(key).allowed.to_string());
    }

    fn row(&self, key: &str) -> &'static Row {
        row_of(self.document.rows, &without_indices(&format!("{}{key}", self.prefix)))
    }

    fn refuse_as(&self, key: &'static str, reason: String, allowed: String) {
        let path = format!("{}{key}", self.prefix);
        let place = self.place(key).unwrap_or(Place { start: self.start, value: None });
        self.document.refuse(path, place, reason, allowed);
    }

    fn place(&self, key: &str) -> Option<Place> {
        self.asked.iter().find(|(asked, _)| *asked == key).and_then(|(_, place)| place.clone())
    }

    fn take(&mut self, key: &'static str) -> Option<Spanned<DeValue<'d>>> {
        let value = self.left.remove(key);
        self.asked.push((key, value.as_ref().map(|value| self.document.place(value))));
        value
    }

    fn value<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&DeValue<'d>) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.take(key)?;
        self.read(key, &value, read)
    }

    fn read<T>(
        &self,
        key: &'static str,
        value: &Spanned<DeValue<'d>>,
        read: impl FnOnce(&DeValue<'d>) -> Result<T, String>,
    ) -> Option<T> {
        read(value.get_ref()).map_err(|reason| self.refuse(key, reason)).ok()
    }

    fn bounded<T: TryFrom<u64>>(&self, key: &'static str, number: u64) -> Option<T> {
        let (Allowed::Number(least, most) | Allowed::Bytes(least, most)) = self.row(key).allowed else {
            unreachable!("the row of a number has bounds")
        };
        let bounded = (least..=most).contains(&number).then(|| T::try_from(number).ok()).flatten();
        if bounded.is_none() {
            self.refuse(key, OUT_OF_BOUNDS.into());
        }
        bounded
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        let known: Vec<&str> = self.asked.iter().map(|(key, _)| *key).collect();
        let path = without_indices(self.prefix.trim_end_matches('.'));
        let table = match self.prefix.as_str() {
            "" => "the top level".to_owned(),
            list if list.ends_with("].") => format!("[[{path}]]"),
            _ => format!("[{path}]"),
        };
        for key in self.left.keys() {
            let name = key.get_ref();
            let plain =
                name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') && !name.is_empty();
            let name_shown = if plain { shown(name) } else { shown(&format!("{name:?}")) };
            self.document.note(ConfigError::UnknownKey {
                line: self.document.line(key.span().start),
                key: format!("{}{name_shown}", self.prefix),
                table: table.clone(),
                nearest: nearest_key(name, &known, self.document.rows),
                allowed: known.join(", "),
            });
        }
    }
}

fn whole(digits: &DeInteger<'_>) -> Result<u64, String> {
    u64::from_str_radix(digits.as_str(), digits.radix()).map_err(|_| OUT_OF_BOUNDS.into())
}

fn text_of<'v>(value: &'v DeValue<'_>) -> Result<&'v str, String> {
    value.as_str().ok_or_else(|| found(value))
}

fn found(value: &DeValue<'_>) -> String {
    format!("of type {}", value.type_str())
}

/// `tree[1].catalogue[0].label` -> `tree.catalogue.label`.
fn without_indices(path: &str) -> String {
    path.split('.').map(|part| part.split('[').next().unwrap_or(part)).collect::<Vec<_>>().join(".")
}

const OUT_OF_BOUNDS: &str = "out of bounds";
