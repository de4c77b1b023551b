//! The values that settings have, apart from schedules: switches, rates, time zones, roaming, enforcement.
//!
//! Invariant: a value of these types is within its bounds, wherever it was read from.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Whether something is done; in files `true` or `false`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "bool", into = "bool")]
pub enum Switch {
    /// It is not.
    Off,
    /// It is.
    On,
}

impl Switch {
    /// Whether it is on.
    pub fn is_on(self) -> bool {
        self == Self::On
    }
}

impl From<bool> for Switch {
    fn from(on: bool) -> Self {
        if on { Self::On } else { Self::Off }
    }
}

impl From<Switch> for bool {
    fn from(switch: Switch) -> Self {
        switch.is_on()
    }
}

/// How much an agent or a domain may have in a second (R10.1); in files a number or `"unlimited"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "RateText", into = "RateText")]
pub enum Rate {
    /// As much as comes.
    Unlimited,
    /// So much.
    PerSec(NonZeroU64),
}

/// The number is no rate.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a rate is 1 to {RATE_MAX} per second, or \"unlimited\"")]
pub struct RateError;

/// A rate's greatest number: more bytes per second than any line carries, and no sum of a million of them overflows.
pub const RATE_MAX: u64 = 1 << 40;

impl Rate {
    /// So much in a second.
    pub fn per_sec(number: u64) -> Result<Self, RateError> {
        NonZeroU64::new(number).filter(|number| number.get() <= RATE_MAX).map(Self::PerSec).ok_or(RateError)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum RateText {
    Number(u64),
    Word(String),
}

const UNLIMITED: &str = "unlimited";

impl TryFrom<RateText> for Rate {
    type Error = RateError;

    fn try_from(text: RateText) -> Result<Self, RateError> {
        match text {
            RateText::Number(number) => Self::per_sec(number),
            RateText::Word(word) if word == UNLIMITED => Ok(Self::Unlimited),
            RateText::Word(_) => Err(RateError),
        }
    }
}

impl From<Rate> for RateText {
    fn from(rate: Rate) -> Self {
        match rate {
            Rate::Unlimited => Self::Word(UNLIMITED.to_owned()),
            Rate::PerSec(number) => Self::Number(number.get()),
        }
    }
}

/// Whether agents get packages only while a check-in has opened a permission (R8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enforce {
    /// They do.
    Strict,
    /// They get them in any case, and it is recorded.
    Report,
}

/// Who says that an agent is roaming (R9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Roaming {
    /// The agent does.
    AsDeclared,
    /// It is roaming, whatever the agent says.
    Always,
    /// It is not, whatever the agent says.
    Never,
}

/// The name of a time zone, as the time zone database has it: `Europe/Berlin`. Whether there is one of this name is for
/// whoever reads the database to say. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct ZoneName(Arc<str>);

/// The text is no time zone's name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a time zone is named as in the time zone database, such as 'Europe/Berlin' or 'UTC'")]
pub struct ZoneNameError;

/// The longest name in the database has 32.
const ZONE_BYTES_MAX: usize = 64;

impl ZoneName {
    /// Reads a name.
    pub fn parse(text: &str) -> Result<Self, ZoneNameError> {
        let segment = |segment: &str| {
            segment.starts_with(|first: char| first.is_ascii_alphabetic())
                && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-_".contains(&byte))
        };
        let valid = text.len() <= ZONE_BYTES_MAX && text.split('/').all(segment);
        if valid { Ok(Self(text.into())) } else { Err(ZoneNameError) }
    }

    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Coordinated universal time.
    pub(super) fn utc() -> Self {
        Self("UTC".into())
    }
}

impl TryFrom<String> for ZoneName {
    type Error = ZoneNameError;

    fn try_from(text: String) -> Result<Self, ZoneNameError> {
        Self::parse(&text)
    }
}

impl fmt::Debug for ZoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_back_and_those_out_of_bounds_are_refused_r5_2() {
        for text in ["\"unlimited\"", "1", "1099511627776"] {
            let rate: Rate = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&rate).unwrap(), text);
        }
        for text in ["0", "1099511627777", "\"often\"", "-1", "true"] {
            assert!(serde_json::from_str::<Rate>(text).is_err(), "{text}");
        }
        for text in ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5"] {
            assert!(ZoneName::parse(text).is_ok(), "{text}");
        }
        for text in ["", "/etc/passwd", "../UTC", "Europe//Berlin", "a b", &"a".repeat(65)] {
            assert!(ZoneName::parse(text).is_err(), "{text}");
        }
        assert_eq!(serde_json::to_string(&Switch::On).unwrap(), "true");
        assert_eq!(serde_json::from_str::<Switch>("false").unwrap(), Switch::Off);
    }
}
