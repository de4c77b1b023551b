//! What a stream of events says, as it comes, and what a poll brings.
//!
//! Does no I/O, and shares nothing with who says it. Invariant: what is kept of a stream is at most [`EVENT_BYTES_MAX`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What an agent is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// That it is heard.
    Hello,
    /// To update.
    Update(Notice),
    /// What a fleet does not act on: that settings changed, and what newer relays say.
    Other,
}

/// That an agent is to update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Notice {
    /// Its number; a later notice has a higher one.
    #[serde(rename = "notice")]
    pub number: u64,
    /// Why.
    #[serde(rename = "reason")]
    pub why: Why,
    /// Whether components are to be taken, or settings files alone.
    #[serde(default = "yes")]
    pub components: bool,
}

/// Why an agent updates, as it is told it and as it says it when it checks in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all(deserialize = "snake_case", serialize = "kebab-case"))]
pub enum Why {
    /// Its schedule.
    Schedule,
    /// A new generation, an administrator, or what newer relays may say.
    #[serde(other)]
    Notice,
}

/// The lines of a stream (WHATWG HTML, section 9.2.6).
#[derive(Debug, Default)]
pub struct Lines {
    /// What came of a line that has not ended.
    open: Vec<u8>,
    name: String,
    data: Option<String>,
    retry: Option<Duration>,
    wrong: Option<&'static str>,
}

#[derive(Deserialize)]
struct Polled {
    events: Vec<PolledEvent>,
}

#[derive(Deserialize)]
struct PolledEvent {
    event: String,
    #[serde(default)]
    data: serde_json::Value,
}

fn yes() -> bool {
    true
}

impl Lines {
    /// The events that these bytes end. What follows something that is none is not read.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            match self.part(part) {
                Ok(event) => events.extend(event),
                Err(what) => self.wrong = self.wrong.or(Some(what)),
            }
        }
        events
    }

    /// What it said that is none of an event's.
    pub fn wrong(&self) -> Option<&'static str> {
        self.wrong
    }

    /// How long to wait before a stream is opened again, where it has said so since this was asked last.
    pub fn retry(&mut self) -> Option<Duration> {
        self.retry.take()
    }

    /// A line, or what came of one.
    fn part(&mut self, part: &[u8]) -> Result<Option<Event>, &'static str> {
        if self.wrong.is_some() {
            return Ok(None);
        }
        let held = self.open.len() + self.data.as_ref().map_or(0, String::len);
        if held + part.len() > EVENT_BYTES_MAX {
            return Err("an event without an end");
        }
        self.open.extend_from_slice(part);
        if !part.ends_with(b"\n") {
            return Ok(None);
        }
        let line = std::mem::take(&mut self.open);
        let line = str::from_utf8(&line).map_err(|_| "a line that is no text")?;
        self.line(line.trim_end_matches(['\n', '\r']))
    }

    fn line(&mut self, line: &str) -> Result<Option<Event>, &'static str> {
        if line.is_empty() {
            let (name, data) = (std::mem::take(&mut self.name), self.data.take());
            return data.map(|data| event(&name, &data)).transpose();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            "retry" => self.retry = value.parse().ok().map(Duration::from_millis),
            // A comment, and an id, which a notice has in its data.
            "" | "id" => {}
            _ => return Err("a line that is none of an event's"),
        }
        Ok(None)
    }
}

/// What a poll brings; the error says what is wrong.
pub fn polled(bytes: &[u8]) -> Result<Vec<Event>, &'static str> {
    let polled: Polled = serde_json::from_slice(bytes).map_err(|_| "an answer to a poll that is none")?;
    polled.events.into_iter().map(|told| event(&told.event, &told.data.to_string())).collect()
}

fn event(name: &str, data: &str) -> Result<Event, &'static str> {
    match name {
        "hello" => Ok(Event::Hello),
        "update" => serde_json::from_str(data).map(Event::Update).map_err(|_| "a notice that is none"),
        _ => Ok(Event::Other),
    }
}

/// One event, in bytes: notices have a hundred.
pub const EVENT_BYTES_MAX: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &str = "retry: 5000\nevent: hello\ndata: {}\n\n:\n\nid: 42\r\nevent: update\r\n\
        data: {\"notice\":42,\r\ndata: \"reason\":\"schedule\"}\r\n\r\nevent: settings\ndata\n\n";

    #[test]
    fn events_come_out_the_same_however_their_bytes_come() {
        let notice = Notice { number: 42, why: Why::Schedule, components: true };
        let all = [Event::Hello, Event::Update(notice), Event::Other];
        for size in 1..=STREAM.len() {
            let mut lines = Lines::default();
            let events = STREAM.as_bytes().chunks(size).flat_map(|piece| lines.push(piece));
            assert_eq!(events.collect::<Vec<_>>(), all, "{size}");
            assert_eq!(lines.wrong(), None);
            assert_eq!((lines.retry(), lines.retry()), (Some(Duration::from_secs(5)), None));
            assert_eq!(lines.open.capacity(), 0, "nothing is kept between events");
        }
    }

    #[test]
    fn reasons_are_told_back_as_the_relay_asks_for_them() {
        let notice: Notice =
            serde_json::from_str(r#"{"notice":1,"reason":"moon","components":false,"more":1}"#).unwrap();
        assert_eq!(notice, Notice { number: 1, why: Why::Notice, components: false });
        assert_eq!(serde_json::to_string(&[Why::Schedule, Why::Notice]).unwrap(), r#"["schedule","notice"]"#);
    }

    #[test]
    fn a_poll_brings_what_a_stream_says() {
        let text = r#"{"events":[{"event":"settings","data":{}},{"id":7,"event":"update","data":{"notice":7,"reason":"generation"}}]}"#;
        let notice = Notice { number: 7, why: Why::Notice, components: true };
        assert_eq!(polled(text.as_bytes()), Ok(vec![Event::Other, Event::Update(notice)]));
        assert_eq!(polled(br#"{"events":[]}"#), Ok(vec![]));
        assert!(polled(b"<html>").is_err() && polled(br#"{"events":[{"event":"update"}]}"#).is_err());
    }

    #[test]
    fn what_is_no_event_is_found_and_not_kept() {
        let is_wrong = |bytes: &[u8]| {
            let mut lines = Lines::default();
            let none = lines.push(bytes).is_empty();
            none && lines.wrong().is_some()
        };
        assert!(is_wrong(&vec![b'a'; EVENT_BYTES_MAX + 1]));
        assert!(is_wrong(b"<!doctype html>\n"));
        assert!(is_wrong(b"event: \xff\n"));
        assert!(is_wrong(b"event: update\ndata: soon\n\n"));
        let mut lines = Lines::default();
        let said = lines.push(b"event: hello\ndata: {}\n\nwhat?\nevent: hello\ndata: {}\n\n");
        assert_eq!((said, lines.wrong().is_some()), (vec![Event::Hello], true), "what came before counts");
        let mut lines = Lines::default();
        let line = format!("data: {}\n", "a".repeat(1000));
        (0..=EVENT_BYTES_MAX / 1000).for_each(|_| drop(lines.push(line.as_bytes())));
        assert!(lines.wrong().is_some());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let _ = Lines::default().push(&bytes);
            let _ = polled(&bytes);
        }
    }
}
