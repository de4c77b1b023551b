//! `[notices]`: how agents are told to update (R9.4).

use std::time::Duration;

use crate::config::reader::Section;

/// `[notices]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoticeSettings {
    /// `under_way_max`: agents that were told and have not reported. Default 250 (R9.4): so many take packages at once.
    pub under_way_max: u32,
    /// `per_sec`: agents told in a second. Default 50: 250 are told within five seconds, and no line is filled within one.
    pub per_sec: u32,
    /// `repeat_secs`: after how long an agent that has not reported is told again. Default 15 minutes (R9.4).
    pub repeat: Duration,
    /// `repeats_max`: how often. Default 5 (R9.4).
    pub repeats_max: u8,
}

impl Default for NoticeSettings {
    fn default() -> Self {
        Self { under_way_max: 250, per_sec: 50, repeat: Duration::from_mins(15), repeats_max: 5 }
    }
}

/// Reads `[notices]`.
pub(super) fn notices(mut section: Section<'_>) -> NoticeSettings {
    let default = NoticeSettings::default();
    NoticeSettings {
        under_way_max: section.number("under_way_max").unwrap_or(default.under_way_max),
        per_sec: section.number("per_sec").unwrap_or(default.per_sec),
        repeat: section.seconds("repeat_secs").unwrap_or(default.repeat),
        repeats_max: section.number("repeats_max").unwrap_or(default.repeats_max),
    }
}
