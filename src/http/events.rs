//! What an agent is told as it happens, as text: server-sent events (HTML Living Standard, section 9.2).
//!
//! ```text
//! retry: 5000
//! event: hello
//! data: {}
//!
//! id: 42
//! event: update
//! data: {"notice":42,"reason":"generation","components":true,"agent_settings":true}
//! ```
//!
//! Never says who is told. Invariant: something comes at least every minute, so that neither side takes the other for gone.

use std::fmt;
use std::future::pending;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::schedule::notices::notice::{Notice, Reason};
use crate::schedule::streams::{Event, Listening};

/// Between two signs of life: what keeps tables of translated addresses (RFC 4787) and proxies from forgetting a connection.
const SIGN_OF_LIFE: Duration = Duration::from_mins(1);

/// After so many milliseconds an agent whose stream broke comes back.
const RETRY_MS: u32 = 5000;

/// The events of one agent, as text.
#[derive(Debug)]
pub struct Events {
    listening: Listening,
    greeted: bool,
    /// Ends it; `None` where whoever writes it hears of that itself.
    stop: Option<CancellationToken>,
}

impl Events {
    /// What this agent hears.
    pub fn new(listening: Listening) -> Self {
        Self { listening, greeted: false, stop: None }
    }

    /// Has it end with this token, too.
    pub fn end_by(&mut self, stop: CancellationToken) {
        self.stop = Some(stop);
    }

    /// Waits for what there is to say next; `None` at the stream's end.
    pub async fn next(&mut self) -> Option<Bytes> {
        if !std::mem::replace(&mut self.greeted, true) {
            return Some(format!("retry: {RETRY_MS}\nevent: hello\ndata: {{}}\n\n").into());
        }
        let stopped = async {
            match &self.stop {
                Some(stop) => stop.cancelled().await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            next = timeout(SIGN_OF_LIFE, self.listening.next()) => match next {
                Err(_) => Some(Bytes::from_static(b":\n\n")),
                Ok(Event::End(_)) => None,
                Ok(event) => Some(Told::of(event)?.text().into()),
            },
            () = stopped => None,
        }
    }
}

/// An event as an agent is told it, in a stream or in an answer to a poll.
#[derive(Debug, Serialize)]
pub struct Told {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    event: &'static str,
    data: serde_json::Value,
}

/// A notice as an agent is told it.
#[derive(Serialize)]
struct ToldNotice {
    notice: u64,
    reason: &'static str,
    components: bool,
    agent_settings: bool,
}

impl Told {
    /// What is told of an event; nothing of a stream's end.
    pub fn of(event: Event) -> Option<Self> {
        Some(match event {
            Event::Update(Notice { number, reason, components, agent_settings }) => {
                let reason = match reason {
                    Reason::Generation { .. } => "generation",
                    Reason::Schedule { .. } => "schedule",
                    Reason::Administrator { .. } => "administrator",
                };
                let told = ToldNotice { notice: number, reason, components, agent_settings };
                let data = serde_json::to_value(told).expect("its keys are names");
                Self { id: Some(number), event: "update", data }
            }
            Event::Settings => Self { id: None, event: "settings", data: serde_json::json!({}) },
            Event::End(_) => return None,
        })
    }

    fn text(&self) -> String {
        let id = self.id.map(|id| format!("id: {id}\n")).unwrap_or_default();
        format!("{id}event: {}\ndata: {}\n\n", self.event, self.data)
    }
}

/// The same as a body's pieces, for a stream that hyper writes.
pub struct EventsBody(Pin<Box<dyn Future<Output = (Events, Option<Bytes>)>>>);

impl EventsBody {
    /// Waits for the first piece.
    pub fn new(events: Events) -> Self {
        Self(Box::pin(next(events)))
    }

    /// The next piece, or the end.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let (events, piece) = ready!(self.0.as_mut().poll(cx));
        self.0 = Box::pin(next(events));
        Poll::Ready(piece)
    }
}

async fn next(mut events: Events) -> (Events, Option<Bytes>) {
    let piece = events.next().await;
    (events, piece)
}

impl fmt::Debug for EventsBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("events")
    }
}
