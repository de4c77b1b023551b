//! One table of an outline's text, asked for its keys by name, and the notes of what is wrong.
//!
//! Never knows which keys there are. Invariant: a value that is not given was noted, or is not there.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use crate::policy::outline::error::{ERRORS_MAX, OutlineError, OutlineErrors, excerpt};
use crate::policy::outline::pieces::Piece;
use crate::policy::secret::SecretHashError;
use crate::policy::tree::setting::{Setting, Values};

/// What is wrong so far, and what stood where.
#[derive(Default)]
pub(super) struct Notes {
    errors: RefCell<Vec<OutlineError>>,
    /// The line of each thing that may stand once: by its key, and what is in it.
    lines: RefCell<HashMap<(&'static str, String), usize>>,
}

/// One table.
pub(super) struct Section<'d> {
    notes: &'d Notes,
    piece: &'d Piece<'d>,
    /// What it is called in messages.
    name: String,
    /// Where it begins.
    pub(super) line: usize,
    left: DeTable<'d>,
}

impl Notes {
    /// Notes what is wrong with a key.
    pub(super) fn refuse(&self, line: usize, key: &str, value: Option<&str>, reason: impl Into<String>) {
        let (key, value) = (key.to_owned(), value.map(str::to_owned));
        self.errors.borrow_mut().push(OutlineError { line, key, value, reason: reason.into() });
    }

    /// Notes that something stands where something else is to stand.
    pub(super) fn refuse_type(&self, line: usize, key: &str, found: &DeValue<'_>, allowed: &str) {
        self.refuse(line, key, None, format!("of type {}; allowed: {allowed}", found.type_str()));
    }

    /// Whether so much is wrong that nothing more is told.
    pub(super) fn is_full(&self) -> bool {
        self.errors.borrow().len() >= ERRORS_MAX
    }

    /// Whether this thing stands in the text for the first time; else that is noted.
    pub(super) fn is_first(&self, key: &'static str, what: String, line: usize) -> bool {
        match self.lines.borrow_mut().entry((key, what)) {
            Entry::Vacant(place) => {
                place.insert(line);
                true
            }
            Entry::Occupied(first) => {
                let what = excerpt(&first.key().1);
                let what = (!what.is_empty()).then_some(&*what);
                self.refuse(line, key, what, format!("stands in line {} already", first.get()));
                false
            }
        }
    }

    /// What was noted; `None` where nothing is wrong.
    pub(super) fn close(self) -> Option<OutlineErrors> {
        let mut errors = self.errors.into_inner();
        errors.truncate(ERRORS_MAX);
        OutlineErrors::new(errors)
    }
}

impl<'d> Section<'d> {
    pub(super) fn new(
        notes: &'d Notes,
        piece: &'d Piece<'d>,
        name: impl Into<String>,
        at: usize,
        table: DeTable<'d>,
    ) -> Self {
        Self { notes, piece, name: name.into(), line: piece.line_of(at), left: table }
    }

    /// The value of a key, which must be there.
    pub(super) fn need<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        if !self.left.contains_key(key) {
            self.refuse(key, None, "missing");
        }
        self.may(key)
    }

    /// The value of a key that may be there.
    pub(super) fn may<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        let value = self.left.remove(key)?;
        self.read(key, value)
    }

    /// The text of a key that is there, if it is text, unread.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.left.get(key)?.get_ref().as_str()
    }

    /// Passes over a key.
    pub(super) fn pass_over(&mut self, key: &str) {
        self.left.remove(key);
    }

    /// The settings in the table under `values`.
    pub(super) fn values(&mut self) -> Values {
        let Some(value) = self.left.remove("values") else { return Values::default() };
        let (at, name) = (value.span().start, format!("{}.values", self.name));
        match value.into_inner() {
            DeValue::Table(table) => Self::new(self.notes, self.piece, name, at, table).settings(),
            other => {
                let line = self.piece.line_of(at);
                self.notes.refuse_type(line, &name, &other, "a table of settings");
                Values::default()
            }
        }
    }

    /// The table's keys as settings, one by one, so that each that is wrong is told.
    pub(super) fn settings(mut self) -> Values {
        let mut values = Values::default();
        for setting in Setting::ALL {
            let Some((key, value)) = self.left.remove_entry(setting.name()) else { continue };
            let span = value.span();
            let named = Spanned::new(span, DeValue::Table(DeTable::from_iter([(key, value)])));
            if let Some(one) = self.read::<Values>(setting.name(), named) {
                values.copy(setting, &one);
            }
        }
        self.end(&Setting::ALL.map(Setting::name));
        values
    }

    /// Notes the keys that nobody asked for.
    pub(super) fn end(&self, known: &[&str]) {
        for key in self.left.keys().take_while(|_| !self.notes.is_full()) {
            let line = self.piece.line_of(key.span().start);
            let name = format!("{}.{}", self.name, excerpt(key.get_ref()));
            self.notes.refuse(line, &name, None, format!("unknown; allowed: {}", known.join(", ")));
        }
    }

    /// Notes what is wrong with a key of the table, in the line in which that begins.
    pub(super) fn refuse(&self, key: &str, value: Option<&str>, reason: impl Into<String>) {
        self.notes.refuse(self.line, &format!("{}.{key}", self.name), value, reason);
    }

    fn read<T: DeserializeOwned>(&self, key: &str, value: Spanned<DeValue<'_>>) -> Option<T> {
        let span = value.span();
        let refuse = |error: toml::de::Error| {
            let line = self.piece.line_of(span.start);
            let shown = self.piece.text.get(span.clone()).filter(|_| !UNSHOWN.contains(&key)).map(excerpt);
            let reason = match key {
                SECRET_HASH => SecretHashError.to_string(),
                _ => error.message().lines().collect::<Vec<_>>().join(", "),
            };
            self.notes.refuse(line, &format!("{}.{key}", self.name), shown.as_deref(), reason);
        };
        T::deserialize(ValueDeserializer::from(value)).map_err(refuse).ok()
    }
}

/// Whoever puts the secret itself there must not find it in a log.
pub(super) const SECRET_HASH: &str = "secret_hash";

/// Keys whose values are long, or could hold a secret.
const UNSHOWN: [&str; 4] = [SECRET_HASH, "url", "text", "base64"];
