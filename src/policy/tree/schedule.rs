//! When agents with scheduled updates update (R9.2), as values. Never says which moment is next: that needs a clock.
//!
//! Invariant: an interval, a window and a day's minute are within their bounds, and a weekly schedule has a day.

use jiff::civil::Time;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// When an agent updates by itself or is told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// Every so many minutes; the agent acts by itself.
    Interval {
        /// How many.
        every_mins: IntervalMins,
        /// When it takes agent settings.
        #[serde(default)]
        agent_settings: AgentSettingsTaken,
    },
    /// Each day, at a random moment of a window.
    Daily {
        /// When the window begins.
        at: StartTime,
        /// How long it is.
        window_mins: WindowMins,
    },
    /// On some days of the week, at a random moment of a window.
    Weekly {
        /// Which days.
        days: Weekdays,
        /// When the window begins.
        at: StartTime,
        /// How long it is.
        window_mins: WindowMins,
    },
}

/// Each hour, everything.
impl Default for Schedule {
    fn default() -> Self {
        Self::Interval { every_mins: IntervalMins(60), agent_settings: AgentSettingsTaken::EachTime }
    }
}

/// When an agent that updates by interval takes agent settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentSettingsTaken {
    /// With the components.
    #[default]
    EachTime,
    /// Once a day.
    OnceADay,
}

/// Minutes from one update to the next: 1 to 10,080, which is a week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct IntervalMins(u16);

/// Minutes of a window: 1 to 1,440, so that it ends before the next day's begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct WindowMins(u16);

/// A minute of the day, by the clock of the domain's time zone; in files `"02:30"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StartTime(u16);

/// Some days of the week, at least one; in files `["mon", "thu"]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Weekdays(u8);

/// A part of a schedule is out of its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ScheduleError {
    /// An interval.
    #[error("an interval is 1 to {WEEK_MINS} minutes")]
    Interval,
    /// A window.
    #[error("a window is 1 to {DAY_MINS} minutes")]
    Window,
    /// A minute of the day.
    #[error("a start time is written as hours and minutes, 00:00 to 23:59")]
    StartTime,
    /// Days of the week.
    #[error("days are one or more of mon, tue, wed, thu, fri, sat, sun, each once")]
    Weekdays,
}

const DAY_MINS: u16 = 24 * 60;

const WEEK_MINS: u16 = 7 * DAY_MINS;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl IntervalMins {
    /// How many minutes.
    pub fn mins(self) -> u16 {
        self.0
    }
}

impl WindowMins {
    /// How many minutes.
    pub fn mins(self) -> u16 {
        self.0
    }
}

impl StartTime {
    /// The time of the day.
    pub fn time(self) -> Time {
        let part = |number: u16| i8::try_from(number).expect("hours and minutes are below 60");
        Time::constant(part(self.0 / 60), part(self.0 % 60), 0, 0)
    }
}

impl Weekdays {
    /// Whether a day belongs; Monday is 0.
    pub fn holds(self, days_from_monday: u8) -> bool {
        days_from_monday < 7 && self.0 & (1 << days_from_monday) != 0
    }
}

impl TryFrom<u16> for IntervalMins {
    type Error = ScheduleError;

    fn try_from(mins: u16) -> Result<Self, ScheduleError> {
        if (1..=WEEK_MINS).contains(&mins) { Ok(Self(mins)) } else { Err(ScheduleError::Interval) }
    }
}

impl From<IntervalMins> for u16 {
    fn from(interval: IntervalMins) -> Self {
        interval.0
    }
}

impl TryFrom<u16> for WindowMins {
    type Error = ScheduleError;

    fn try_from(mins: u16) -> Result<Self, ScheduleError> {
        if (1..=DAY_MINS).contains(&mins) { Ok(Self(mins)) } else { Err(ScheduleError::Window) }
    }
}

impl From<WindowMins> for u16 {
    fn from(window: WindowMins) -> Self {
        window.0
    }
}

impl TryFrom<String> for StartTime {
    type Error = ScheduleError;

    fn try_from(text: String) -> Result<Self, ScheduleError> {
        let two = |text: &str, below: u16| {
            let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u16>().ok().filter(|number| digits && *number < below)
        };
        let (hours, mins) = text.split_once(':').ok_or(ScheduleError::StartTime)?;
        match (two(hours, 24), two(mins, 60)) {
            (Some(hours), Some(mins)) => Ok(Self(hours * 60 + mins)),
            _ => Err(ScheduleError::StartTime),
        }
    }
}

impl From<StartTime> for String {
    fn from(start: StartTime) -> Self {
        format!("{:02}:{:02}", start.0 / 60, start.0 % 60)
    }
}

impl TryFrom<Vec<String>> for Weekdays {
    type Error = ScheduleError;

    fn try_from(names: Vec<String>) -> Result<Self, ScheduleError> {
        let mut days = 0;
        for name in names {
            let at = DAYS.iter().position(|day| *day == name).ok_or(ScheduleError::Weekdays)?;
            if days & (1 << at) != 0 {
                return Err(ScheduleError::Weekdays);
            }
            days |= 1 << at;
        }
        if days == 0 { Err(ScheduleError::Weekdays) } else { Ok(Self(days)) }
    }
}

impl From<Weekdays> for Vec<String> {
    fn from(days: Weekdays) -> Self {
        let named = (0..7).zip(DAYS).filter(|(at, _)| days.holds(*at));
        named.map(|(_, name)| name.to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_read_back_and_those_out_of_bounds_are_refused_r9_2() {
        for text in [
            r#"{"kind":"interval","every_mins":60,"agent_settings":"once_a_day"}"#,
            r#"{"kind":"daily","at":"02:05","window_mins":1440}"#,
            r#"{"kind":"weekly","days":["mon","sun"],"at":"23:59","window_mins":1}"#,
        ] {
            let schedule: Schedule = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&schedule).unwrap(), text);
        }
        for text in [
            r#"{"kind":"interval","every_mins":0}"#,
            r#"{"kind":"interval","every_mins":10081}"#,
            r#"{"kind":"interval","every_mins":5,"window_mins":5}"#,
            r#"{"kind":"daily","at":"24:00","window_mins":60}"#,
            r#"{"kind":"daily","at":"2:30","window_mins":60}"#,
            r#"{"kind":"daily","at":"+2:30","window_mins":60}"#,
            r#"{"kind":"daily","at":"02:30","window_mins":1441}"#,
            r#"{"kind":"daily","at":"02:30"}"#,
            r#"{"kind":"weekly","days":[],"at":"02:30","window_mins":60}"#,
            r#"{"kind":"weekly","days":["mon","mon"],"at":"02:30","window_mins":60}"#,
            r#"{"kind":"weekly","days":["Monday"],"at":"02:30","window_mins":60}"#,
        ] {
            assert!(serde_json::from_str::<Schedule>(text).is_err(), "{text}");
        }
        let time = StartTime::try_from("23:59".to_owned()).unwrap().time();
        assert_eq!((time.hour(), time.minute()), (23, 59));
    }
}
