//! What the relay tells the agent of its own accord: that it is to update, or that its settings changed.
//!
//! One held stream of server-sent events, gone on with behind the last notice (`Last-Event-ID`); long polls where
//! something on the way cuts or holds back streams. Never updates. Invariant: what is held of a stream is bounded.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::{Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep};
use tracing::{debug, info};

use crate::agent::backoff::Backoff;
use crate::agent::ground::Ground;
use crate::agent::relay::CallError;
use crate::client::{AskError, piece};
use crate::config::agent::Events;

/// What was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The relay can be heard.
    Relay,
    /// The agent is to update.
    Update(Notice),
    /// What holds for it has changed.
    Settings,
}

/// That the agent is to update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Notice {
    /// Its number.
    #[serde(rename = "notice")]
    pub(super) number: u64,
    /// Why.
    pub(super) reason: Reason,
    /// Whether components are to be taken.
    #[serde(default = "yes")]
    pub(super) components: bool,
    /// Whether settings files are.
    #[serde(default = "yes")]
    pub(super) agent_settings: bool,
}

/// Why the agent is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reason {
    /// Its schedule.
    Schedule,
    /// An administrator.
    Administrator,
    /// A new generation, or what newer relays may say.
    #[serde(other)]
    Generation,
}

/// Why nothing more is heard.
#[derive(Debug, Error)]
enum Ended {
    #[error("the relay has no events")]
    Absent,
    #[error("the stream is cut: {0}")]
    Cut(AskError),
    #[error("the stream says what is none: {0}")]
    Speech(&'static str),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("nobody listens")]
    Deaf,
}

const CALL: &str = "api/v1/agent/events";

/// A stream that is silent for so long is cut: the relay sends a comment each minute.
const SILENCE: Duration = Duration::from_secs(150);

/// How long a stream may take to its first event, which the relay sends at once: what holds it back holds back the others.
const HELLO: Duration = Duration::from_secs(30);

/// Streams that were cut before their first event, before long polls are tried.
const CUT_MAX: u32 = 3;

/// How long a poll waits at most, in seconds.
const POLL_SECS: u64 = 30;

/// When a relay without events is asked again: it may be a newer one then.
const ABSENT: Duration = Duration::from_mins(10);

/// Bytes of one line, and of one event.
const EVENT_BYTES_MAX: usize = 64 << 10;

fn yes() -> bool {
    true
}

/// Hears the relay for ever, and hands on what it says.
pub(super) async fn follow(ground: Arc<Ground>, to: Sender<Heard>) {
    let heard = ground.state().last_notice;
    let mut listener = Listener { ground, to, heard, backoff: Backoff::default(), cut: 0 };
    loop {
        let ended = match listener.way() {
            Events::Off => return,
            Events::Poll => listener.poll().await,
            Events::Auto | Events::Stream => listener.stream().await,
        };
        let wait = match &ended {
            Ok(()) => continue,
            Err(Ended::Deaf) => return,
            Err(Ended::Absent) => ABSENT,
            Err(_) => listener.backoff.wait(),
        };
        if let Err(ended) = ended {
            debug!(%ended, wait_ms = wait.as_millis(), "no events from the relay for now");
        }
        sleep(wait).await;
    }
}

struct Listener {
    ground: Arc<Ground>,
    to: Sender<Heard>,
    /// The last notice that was handed on. One that was not carried out is told again only when the agent starts anew.
    heard: Option<u64>,
    backoff: Backoff,
    /// Streams in a row that brought nothing.
    cut: u32,
}

impl Listener {
    fn way(&self) -> Events {
        match self.ground.settings.events {
            Events::Auto if self.cut >= CUT_MAX => Events::Poll,
            events => events,
        }
    }

    async fn stream(&mut self) -> Result<(), Ended> {
        let answer = self.ground.relay().get_since(CALL, self.heard).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(CallError::Ask { source: source @ AskError::Silence { .. }, .. }) => {
                return Err(self.was_cut(source));
            }
            Err(error) => return Err(error.into()),
        };
        let mut body = self.checked(answer, "text/event-stream").await?.into_body();
        let (mut lines, mut silence) = (Lines::default(), HELLO);
        loop {
            let piece = match piece(&mut body, silence).await {
                Ok(Some(piece)) => piece,
                Ok(None) if silence == SILENCE => {
                    return Err(Ended::Cut(AskError::Broken("it ended".into())));
                }
                Ok(None) => return Err(self.was_cut(AskError::Broken("it ended".into()))),
                Err(error) if silence == SILENCE => return Err(Ended::Cut(error)),
                Err(error) => return Err(self.was_cut(error)),
            };
            let events = lines.push(&piece)?;
            if let Some(retry) = lines.retry.take() {
                self.backoff.begin_with(retry);
            }
            for event in events {
                if silence == HELLO {
                    (silence, self.cut) = (SILENCE, 0);
                    self.backoff.reset();
                    self.hand_on(Heard::Relay).await?;
                }
                self.hear(&event.name, &event.data).await?;
            }
        }
    }

    async fn poll(&mut self) -> Result<(), Ended> {
        let relay = self.ground.relay();
        let wait = POLL_SECS.min(self.ground.settings.silence.as_secs() / 2);
        let after = self.heard.unwrap_or(0);
        let began = Instant::now();
        let answer = relay.get(&format!("{CALL}?wait={wait}&after={after}")).await?;
        let answer = self.checked(answer, "application/json").await?;
        let says: Polled = relay.read(CALL, answer, &[StatusCode::OK]).await?;
        if says.events.is_empty() && began.elapsed() < Duration::from_secs(wait) / 2 {
            // Something on the way answers in the relay's place, which would have waited.
            sleep(self.backoff.wait()).await;
            return Ok(());
        }
        self.backoff.reset();
        for event in says.events {
            self.hear(&event.event, &event.data.to_string()).await?;
        }
        Ok(())
    }

    async fn checked(&self, answer: Response<Incoming>, kind: &str) -> Result<Response<Incoming>, Ended> {
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(Ended::Absent),
            _ => return Err(self.ground.relay().refused(answer).await.into()),
        }
        let said = answer.headers().get(CONTENT_TYPE).and_then(|said| said.to_str().ok()).unwrap_or_default();
        if said.starts_with(kind) { Ok(answer) } else { Err(Ended::Speech("its type is another")) }
    }

    async fn hear(&mut self, name: &str, data: &str) -> Result<(), Ended> {
        let heard = match name {
            "update" => match serde_json::from_str(data) {
                Ok(notice) => Heard::Update(notice),
                Err(_) => return Err(Ended::Speech("a notice that is none")),
            },
            "settings" => Heard::Settings,
            // What newer relays may say.
            _ => return Ok(()),
        };
        if let Heard::Update(notice) = heard {
            self.heard = self.heard.max(Some(notice.number));
        }
        self.hand_on(heard).await
    }

    async fn hand_on(&self, heard: Heard) -> Result<(), Ended> {
        self.to.send(heard).await.map_err(|_| Ended::Deaf)
    }

    fn was_cut(&mut self, error: AskError) -> Ended {
        self.cut += 1;
        if self.cut == CUT_MAX && self.ground.settings.events == Events::Auto {
            info!(%error, "streams of events are cut on their way: the relay is polled");
        }
        Ended::Cut(error)
    }
}

/// What a poll brings.
#[derive(Deserialize)]
struct Polled {
    events: Vec<PolledEvent>,
}

#[derive(Deserialize)]
struct PolledEvent {
    event: String,
    #[serde(default)]
    data: Value,
}

/// An event of a stream.
#[derive(Debug, PartialEq, Eq)]
struct Event {
    name: String,
    data: String,
}

/// The lines of a stream as they come (WHATWG HTML, section 9.2.6).
#[derive(Debug, Default)]
struct Lines {
    /// What came of a line that has not ended.
    open: Vec<u8>,
    name: String,
    data: Option<String>,
    /// How long to wait before the stream is opened again, as it says itself.
    retry: Option<Duration>,
}

impl Lines {
    /// The events that these bytes end.
    fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, Ended> {
        let mut events = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.open.extend_from_slice(part);
            let data = self.data.as_ref().map_or(0, String::len);
            if self.open.len() + data > EVENT_BYTES_MAX {
                return Err(Ended::Speech("an event without an end"));
            }
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.open);
                let line = String::from_utf8_lossy(&line);
                events.extend(self.line(line.trim_end_matches(['\n', '\r'])));
            }
        }
        Ok(events)
    }

    fn line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let (name, data) = (std::mem::take(&mut self.name), self.data.take());
            return data.map(|data| Event { name, data });
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
            // A comment, an id, which stands in a notice too, or what nobody knows.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "retry: 5000\nevent: hello\ndata: {}\n\n: still here\r\n\nid: 42\r\nevent: update\r\n\
        data: {\"notice\":42,\r\ndata: \"reason\":\"schedule\"}\r\n\r\nevent: settings\ndata\n\n";

    #[test]
    fn events_come_out_the_same_however_their_bytes_come() {
        let whole = Lines::default().push(STREAM.as_bytes()).unwrap();
        let names: Vec<_> = whole.iter().map(|event| event.name.as_str()).collect();
        assert_eq!(names, ["hello", "update", "settings"]);
        let notice: Notice = serde_json::from_str(&whole[1].data).unwrap();
        assert_eq!((notice.number, notice.reason, notice.components), (42, Reason::Schedule, true));
        for size in 1..STREAM.len() {
            let mut lines = Lines::default();
            let pieces = STREAM.as_bytes().chunks(size);
            let events: Vec<Event> = pieces.flat_map(|piece| lines.push(piece).unwrap()).collect();
            assert_eq!(events, whole, "{size}");
            assert_eq!(lines.retry, Some(Duration::from_secs(5)));
        }
    }

    #[test]
    fn a_line_or_an_event_without_an_end_is_not_kept() {
        assert!(Lines::default().push(&vec![b'a'; EVENT_BYTES_MAX + 1]).is_err());
        let mut lines = Lines::default();
        let line = format!("data: {}\n", "a".repeat(1000));
        assert!((0..=EVENT_BYTES_MAX / 1000).any(|_| lines.push(line.as_bytes()).is_err()));
    }

    #[test]
    fn reasons_of_newer_relays_count_as_a_generation() {
        let notice: Notice = serde_json::from_str(r#"{"notice":1,"reason":"moon"}"#).unwrap();
        assert_eq!(notice.reason, Reason::Generation);
    }
}
