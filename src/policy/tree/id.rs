//! What names an agent, an enrolment, a domain.
//!
//! Never says who is calling: credentials lead to an [`AgentId`] elsewhere. Invariant: an id or a name has one spelling.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

/// The name of an agent, which it keeps from enrolment to removal.
///
/// Its bytes lie within, and not behind a pointer: looking one up among 100,000 is a matter of how many places in memory are
/// looked at, and copying the tables that hold them is no more than moving bytes.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct AgentId {
    len: u8,
    /// Zero behind `len`.
    bytes: [u8; ID_BYTES_MAX],
}

/// The text is no agent's id.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "'{0}' is no agent: 1 to {ID_BYTES_MAX} of a-z, 0-9, '.', '-', '_' and ':', beginning with a letter or digit"
)]
pub struct AgentIdError(String);

/// The name of an enrolment, spelled as agents' ids are. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct EnrolmentId(Arc<str>);

/// The text is no enrolment's id.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "'{0}' is no enrolment: 1 to {ID_BYTES_MAX} of a-z, 0-9, '.', '-', '_' and ':', beginning with a letter or digit"
)]
pub struct EnrolmentIdError(String);

/// The number of a domain, counted from 1; never used twice, so that a name may change.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32")]
pub struct DomainId(u32);

/// 0 numbers no domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("domains are numbered from 1")]
pub struct DomainIdError;

/// What people call a domain. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct DomainName(Arc<str>);

/// The text is no domain's name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "'{0}' is no domain's name: 1 to {NAME_CHARS_MAX} characters, no '/', no control characters, no space at an end"
)]
pub struct DomainNameError(String);

/// Bytes of an agent's id: those of a label of a host's name (RFC 1035 section 2.3.4); a UUID as a URN has 45.
pub const ID_BYTES_MAX: usize = 63;

/// Characters of a domain's name: lists and paths of names stay readable.
pub const NAME_CHARS_MAX: usize = 64;

/// What is quoted of a text that is refused, in characters.
const QUOTED_CHARS_MAX: usize = 80;

impl AgentId {
    /// Reads an id.
    pub fn parse(text: &str) -> Result<Self, AgentIdError> {
        let Some(len) = u8::try_from(text.len()).ok().filter(|_| is_id(text)) else {
            return Err(AgentIdError(quoted(text)));
        };
        let mut bytes = [0; ID_BYTES_MAX];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self { len, bytes })
    }

    /// The id's text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(self.as_bytes()).expect("an id is ASCII")
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len.into()]
    }
}

impl Hash for AgentId {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write(self.as_bytes());
        hasher.write_u8(0xff);
    }
}

impl Ord for AgentId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl PartialOrd for AgentId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Serialize for AgentId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl DomainId {
    /// The domain of this number, which is not 0.
    pub(super) fn numbered(number: u32) -> Self {
        debug_assert!(number > 0, "domains are numbered from 1");
        Self(number)
    }

    /// The id after it.
    #[must_use]
    pub fn after(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The id's number.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl EnrolmentId {
    /// Reads an id.
    pub fn parse(text: &str) -> Result<Self, EnrolmentIdError> {
        if is_id(text) { Ok(Self(text.into())) } else { Err(EnrolmentIdError(quoted(text))) }
    }

    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl DomainName {
    /// Reads a name.
    pub fn parse(text: &str) -> Result<Self, DomainNameError> {
        let valid = !text.is_empty()
            && text.chars().count() <= NAME_CHARS_MAX
            && text.trim() == text
            && !text.chars().any(|letter| letter.is_control() || letter == '/');
        if valid { Ok(Self(text.into())) } else { Err(DomainNameError(quoted(text))) }
    }

    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before every name; no domain has it.
    pub(super) fn first() -> Self {
        Self("".into())
    }
}

/// Whether a text is spelled as ids are.
pub(in crate::policy) fn is_id(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=ID_BYTES_MAX).contains(&text.len())
        && plain(text.as_bytes()[0])
        && text.bytes().all(|byte| plain(byte) || b".-_:".contains(&byte))
}

fn quoted(text: &str) -> String {
    text.chars().take(QUOTED_CHARS_MAX).flat_map(char::escape_debug).collect()
}

impl TryFrom<String> for AgentId {
    type Error = AgentIdError;

    fn try_from(text: String) -> Result<Self, AgentIdError> {
        Self::parse(&text)
    }
}

impl TryFrom<String> for EnrolmentId {
    type Error = EnrolmentIdError;

    fn try_from(text: String) -> Result<Self, EnrolmentIdError> {
        Self::parse(&text)
    }
}

impl TryFrom<u32> for DomainId {
    type Error = DomainIdError;

    fn try_from(number: u32) -> Result<Self, DomainIdError> {
        if number == 0 { Err(DomainIdError) } else { Ok(Self(number)) }
    }
}

impl TryFrom<String> for DomainName {
    type Error = DomainNameError;

    fn try_from(text: String) -> Result<Self, DomainNameError> {
        Self::parse(&text)
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for EnrolmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EnrolmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for DomainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for DomainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "domain {}", self.0)
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_have_one_spelling_and_a_bound_r5_1() {
        for text in ["pc-0421.branch.example", "urn:uuid:0b7a", "7"] {
            assert_eq!(AgentId::parse(text).unwrap().as_str(), text);
        }
        let longest = "a".repeat(63);
        assert_eq!(AgentId::parse(&longest).unwrap().as_str(), longest);
        assert!(
            AgentId::parse("a10").unwrap() < AgentId::parse("a2").unwrap(),
            "in the order of the alphabet"
        );
        for text in ["", "PC-1", "-a", "a b", "a/b", "a\n", "\u{fc}", &"a".repeat(64)] {
            assert!(AgentId::parse(text).is_err(), "{text:?}");
        }
        for text in ["Z\u{fc}rich", "Branch offices, south", "1", &"\u{fc}".repeat(64)] {
            assert_eq!(DomainName::parse(text).unwrap().as_str(), text);
        }
        for text in ["", " a", "a ", "a/b", "a\tb", &"a".repeat(65)] {
            assert!(DomainName::parse(text).is_err(), "{text:?}");
        }
        assert!(serde_json::from_str::<DomainId>("0").is_err());
        assert!(serde_json::from_str::<AgentId>("\"A\"").is_err());
        assert!(AgentId::parse(&"\n".repeat(1000)).unwrap_err().to_string().len() < 400);
    }
}
