//! An outline as text: TOML, one thing a line, so that a comparison of two versions shows what somebody changed.
//!
//! Invariants: the same tree gives the same text; no character in it acts on a terminal.

use std::fmt::{Display, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use thiserror::Error;

use crate::policy::outline::Outline;
use crate::policy::sources::Families;
use crate::policy::tree::file::{Content, FileName};
use crate::policy::tree::keys::Standing;
use crate::policy::tree::setting::{Setting, Values};

/// The bytes of a settings file are not to be had.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the bytes of settings file '{0}' cannot be read: {1}")]
pub struct Missing(FileName, String);

/// Stands at the top of each text.
const HEAD: &str = "\
# The agent tree of a Forebay relay. 'forebay tree apply' makes the tree what stands here, and removes what does not.
# A domain with the id that it has is renamed or moved where its path changed; without, it is another domain.
";

/// Digits of a line in base64.
const BASE64_LINE: usize = 100;

impl Outline {
    /// As text; `bytes` gives those of a settings file, or the reason why it does not.
    pub fn text(
        &self,
        mut bytes: impl FnMut(&Content) -> Result<Vec<u8>, String>,
    ) -> Result<String, Missing> {
        let mut text = Text(HEAD.to_owned());
        for (name, values) in [("root", &self.root), ("future", &self.future)] {
            if !values.is_empty() {
                text.header(&format!("[{name}]"));
                text.values("", values);
            }
        }
        for (path, domain) in &self.domains {
            text.header("[[domain]]");
            text.string("path", path);
            if let Some(id) = domain.id {
                text.line("id", &id);
            }
            if !domain.started_with.is_empty() {
                text.line("started_with", &inline(&domain.started_with));
            }
            text.values("values.", &domain.values);
        }
        for (id, agent) in &self.agents {
            text.header("[[agent]]");
            text.string("id", id);
            text.string("domain", &agent.domain);
            if let Some(values) = &agent.values {
                text.values("values.", values);
            }
            if let Some(keys) = &agent.keys {
                keys.secret.iter().for_each(|hash| text.string("secret_hash", hash));
                keys.certificate.iter().for_each(|fingerprint| text.string("certificate", fingerprint));
                if keys.standing == Standing::Revoked {
                    text.line("revoked", &true);
                }
            }
        }
        for (id, enrolment) in &self.enrolments {
            text.header("[[enrolment]]");
            text.string("id", id);
            text.string("domain", &enrolment.domain);
            text.string("secret_hash", &enrolment.secret);
            text.line("left", &enrolment.left);
            text.string("until", &enrolment.until);
        }
        for (from, domain) in &self.ranges {
            text.header("[[range]]");
            text.string("from", from);
            text.string("domain", domain);
        }
        for entry in &self.customised {
            text.header("[[source]]");
            text.string("range", &entry.range);
            text.string("url", entry.source.url());
            if entry.source.families() != Families::Both {
                text.line("families", &inline(&entry.source.families()));
            }
        }
        for ((domain, name), content) in &self.files {
            let bytes = bytes(content).map_err(|reason| Missing(name.clone(), reason))?;
            text.header("[[file]]");
            if let Some(domain) = domain {
                text.string("domain", domain);
            }
            text.string("name", name);
            text.content(&bytes);
        }
        Ok(text.0)
    }
}

struct Text(String);

impl Text {
    fn header(&mut self, header: &str) {
        let _ = write!(self.0, "\n{header}\n");
    }

    fn line(&mut self, key: &str, value: &dyn Display) {
        let _ = writeln!(self.0, "{key} = {value}");
    }

    fn string(&mut self, key: &str, value: &dyn Display) {
        self.line(key, &quoted(&value.to_string()));
    }

    fn values(&mut self, prefix: &str, values: &Values) {
        for setting in values.settings() {
            self.line(&format!("{prefix}{setting}"), &value(values, setting));
        }
    }

    /// As the lines that they are, where they are text that people read; else in base64.
    fn content(&mut self, bytes: &[u8]) {
        let text = str::from_utf8(bytes).ok().map(|text| text.split('\n').map(escaped).collect::<Vec<_>>());
        match text.map(|lines| lines.join("\n")) {
            Some(text) if text.len() <= bytes.len() + bytes.len() / 4 + 16 => {
                let _ = writeln!(self.0, "text = \"\"\"\n{text}\"\"\"");
            }
            _ => {
                let digits = STANDARD.encode(bytes);
                self.0.push_str("base64 = \"\"\"\n");
                for line in digits.as_bytes().chunks(BASE64_LINE) {
                    self.0.extend(line.iter().map(|digit| char::from(*digit)));
                    self.0.push('\n');
                }
                self.0.push_str("\"\"\"\n");
            }
        }
    }
}

/// A setting's value, as it stands in a line.
pub(super) fn value(values: &Values, setting: Setting) -> String {
    let mut one = Values::default();
    one.copy(setting, values);
    match toml::Value::try_from(&one) {
        Ok(toml::Value::Table(mut table)) => {
            table.remove(setting.name()).map_or_else(String::new, |value| shown(&value))
        }
        // Values are tables of what TOML has.
        _ => String::new(),
    }
}

fn inline(value: &impl Serialize) -> String {
    toml::Value::try_from(value).map_or_else(|_| String::new(), |value| shown(&value))
}

fn shown(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => quoted(text),
        toml::Value::Array(items) => {
            format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", "))
        }
        toml::Value::Table(table) => {
            let entries = table.iter().map(|(key, value)| format!("{key} = {}", shown(value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

/// A text within quotes: what would end them, and what does something other than being shown, is escaped.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            '\t' => escaped.push_str("\\t"),
            '\r' => escaped.push_str("\\r"),
            _ if acts(letter) => {
                let _ = write!(escaped, "\\u{:04X}", u32::from(letter));
            }
            _ => escaped.push(letter),
        }
    }
    escaped
}

/// Control characters, line ends of Unicode, and what turns the direction of text.
fn acts(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}
