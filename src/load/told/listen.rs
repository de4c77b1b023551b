//! One agent's stream, from the start of the run to its end: opened, heard, and opened again.
//!
//! Never updates. Invariant: an agent has one stream at a time; what it was told is said to its thread with the moment at which it came.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName};
use hyper::{Response, StatusCode};
use rand::RngExt as _;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};

use crate::load::answer::{broken, refused};
use crate::load::connection::Connection;
use crate::load::draw::{Purpose, draw};
use crate::load::fault::{Failure, Fault};
use crate::load::figures::{Kind, Sample};
use crate::load::fleet::Ground;
use crate::load::request::{EVENTS, over_http2, request};
use crate::load::told::events::{Event, Lines, Notice};
use crate::load::told::shared::Shared;
use crate::load::told::{Heard, What};

/// An agent that listens.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) ground: Arc<Ground>,
    pub(super) number: u32,
    pub(super) to: mpsc::Sender<Heard>,
    /// So many streams may be opened at a time.
    pub(super) opening: Arc<Semaphore>,
    /// The last notice that was heard.
    pub(super) heard: u64,
    waits: Waits,
}

/// What a stream is held on.
#[derive(Debug)]
pub(super) enum Line {
    /// A connection of its own.
    Own,
    /// One that others have streams on too.
    Shared(Shared),
    /// None: it polls.
    Polls,
}

/// How long an agent waits before it asks again: longer each time, and never as long as another.
#[derive(Debug)]
struct Waits {
    first: Duration,
    tries: u32,
    drawn: u32,
}

/// A stream that is open; the connection that is its own closes with it.
struct Open {
    body: Incoming,
    lines: Lines,
    _connection: Option<Connection>,
}

/// Why nothing more is heard for now.
pub(super) enum Ended {
    /// Nothing was opened.
    Unopened { asked: Asked, failure: Failure },
    /// It ended.
    Lost,
    /// It says what is none.
    Wrong(Failure),
    /// The thread is gone.
    Deaf,
}

/// When a request for events was due and begun, and the connections that were made for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) due: Duration,
    pub(super) begun: Duration,
    pub(super) connections: u64,
}

impl Listener {
    /// An agent that has heard nothing yet.
    pub(super) fn new(
        ground: Arc<Ground>,
        number: u32,
        to: mpsc::Sender<Heard>,
        opening: Arc<Semaphore>,
    ) -> Self {
        Self { ground, number, to, opening, heard: 0, waits: Waits { first: FIRST_WAIT, tries: 0, drawn: 0 } }
    }

    /// Listens until it is stopped.
    pub(super) async fn listen(mut self, line: Line) {
        loop {
            let ended = match &line {
                Line::Own => self.stream(None).await,
                Line::Shared(shared) => self.stream(Some(shared)).await,
                Line::Polls => self.poll().await,
            };
            let mut told_to_wait = None;
            let said = match ended {
                Ended::Deaf => return,
                Ended::Lost => What::Lost,
                Ended::Wrong(failure) => What::Wrong(failure),
                Ended::Unopened { asked, failure } => {
                    told_to_wait = failure.retry_after;
                    What::Failed { sample: self.sample(asked, None), failure }
                }
            };
            if self.say(said).await.is_err() {
                return;
            }
            sleep(told_to_wait.unwrap_or_else(|| self.wait())).await;
        }
    }

    /// Holds a stream until it ends.
    async fn stream(&mut self, shared: Option<&Shared>) -> Ended {
        let mut asked = Asked { due: self.ground.now(), begun: Duration::ZERO, connections: 0 };
        let opening = self.opening.clone();
        // Nobody closes it.
        let permit = opening.acquire().await.ok();
        asked.begun = self.ground.now();
        let mut open = match self.open(shared, &mut asked).await {
            Ok(open) => open,
            Err(failure) => return Ended::Unopened { asked, failure },
        };
        drop(permit);
        self.waits.tries = 0;
        let sample = self.sample(asked, Some(self.ground.now()));
        if self.say(What::Opened { sample, connections: asked.connections }).await.is_err() {
            return Ended::Deaf;
        }
        loop {
            if let Some(what) = open.lines.wrong() {
                return Ended::Wrong(wrong(what));
            }
            let piece = match timeout(SILENCE, open.body.frame()).await {
                Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
                Err(_) | Ok(None | Some(Err(_))) => return Ended::Lost,
            };
            let events = open.lines.push(&piece);
            self.waits.told(&mut open.lines);
            for event in events {
                if self.hear(event).await.is_err() {
                    return Ended::Deaf;
                }
            }
        }
    }

    /// Opens a stream, up to its first event.
    async fn open(&mut self, shared: Option<&Shared>, asked: &mut Asked) -> Result<Open, Failure> {
        let silence = self.ground.plan.silence;
        let silent = || Failure::new(Fault::Silence, format!("{EVENTS}: no answer within {silence:?}"));
        let Ground { target, tokens, .. } = &*self.ground;
        let mut request = request(target, tokens.shown(self.number), EVENTS, Bytes::new());
        if self.heard > 0 {
            request.headers_mut().insert(LAST_EVENT_ID, self.heard.into());
        }
        let (answer, connection) = match shared {
            Some(shared) => {
                let mut given = shared.ask().await?;
                asked.connections = given.made;
                let answer = given.sender.send_request(over_http2(request, target));
                (timeout(silence, answer).await, None)
            }
            None => {
                let (to, from) = target.line(target.place(self.number), self.number);
                let mut connection = Connection::open_lean(target, to, from, silence).await?;
                asked.connections = 1;
                (timeout(silence, connection.send(request)).await, Some(connection))
            }
        };
        let answer = answer.map_err(|_| silent())?.map_err(|error| broken(&error, EVENTS))?;
        self.check(&answer, "text/event-stream")?;
        let mut open = Open { body: answer.into_body(), lines: Lines::default(), _connection: connection };
        loop {
            let piece = match timeout(silence, open.body.frame()).await {
                Err(_) => return Err(silent()),
                Ok(None) => {
                    return Err(Failure::new(
                        Fault::Short,
                        format!("{EVENTS}: it ended before its first event"),
                    ));
                }
                Ok(Some(Err(error))) => return Err(broken(&error, EVENTS)),
                Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
            };
            let events = open.lines.push(&piece);
            self.waits.told(&mut open.lines);
            if let (None, Some(what)) = (events.first(), open.lines.wrong()) {
                return Err(wrong(what));
            }
            if let Some(first) = events.first() {
                if *first != Event::Hello {
                    return Err(wrong("a stream that does not begin with a hello"));
                }
                for event in events {
                    // Who hears nothing any more is found out by what is said next.
                    let _ = self.hear(event).await;
                }
                return Ok(open);
            }
        }
    }

    /// Whether an answer is one to a request for events.
    pub(super) fn check(&self, answer: &Response<Incoming>, kind: &str) -> Result<(), Failure> {
        if answer.status() != StatusCode::OK {
            return Err(refused(answer, EVENTS, self.ground.wall()));
        }
        let said = answer.headers().get(CONTENT_TYPE).and_then(|said| said.to_str().ok()).unwrap_or_default();
        if said.starts_with(kind) { Ok(()) } else { Err(wrong("an answer of another type")) }
    }

    /// An event came.
    pub(super) async fn hear(&mut self, event: Event) -> Result<(), Deaf> {
        match event {
            Event::Hello | Event::Other => Ok(()),
            Event::Update(notice) => {
                let Notice { number, .. } = notice;
                self.heard = self.heard.max(number);
                self.say(What::Told(notice, self.ground.now())).await
            }
        }
    }

    pub(super) async fn say(&self, what: What) -> Result<(), Deaf> {
        self.to.send(Heard { agent: self.number, what }).await.map_err(|_| Deaf)
    }

    /// What is counted of a request for events; `opened` is when its stream was.
    pub(super) fn sample(&self, asked: Asked, opened: Option<Duration>) -> Sample {
        let Ground { target, .. } = &*self.ground;
        let (to, _) = target.line(target.place(self.number), self.number);
        Sample {
            kind: Kind::Events,
            due: asked.due,
            begun: asked.begun,
            first_byte: opened,
            ended: opened.unwrap_or_else(|| self.ground.now()),
            bytes: 0,
            is_ipv6: to.is_ipv6(),
        }
    }

    /// How long it waits now.
    pub(super) fn wait(&mut self) -> Duration {
        self.waits.next(self.ground.plan.seed, self.number)
    }

    /// All is well again.
    pub(super) fn is_heard(&mut self) {
        self.waits.tries = 0;
    }
}

/// What says this is no stream of events, and no poll's answer.
pub(super) fn wrong(what: &str) -> Failure {
    Failure::new(Fault::Events, format!("{EVENTS}: {what}"))
}

/// Nobody hears what a listener says: the run is over.
#[derive(Debug)]
pub(super) struct Deaf;

impl Waits {
    /// Takes in what the stream says of it.
    fn told(&mut self, lines: &mut Lines) {
        if let Some(first) = lines.retry() {
            self.first = first.clamp(Duration::from_millis(1), LONGEST_WAIT);
        }
    }

    /// Half of what has grown so far, and a random part of the other half.
    fn next(&mut self, seed: u64, agent: u32) -> Duration {
        let whole = self.first.saturating_mul(1 << self.tries.min(16)).min(LONGEST_WAIT);
        let part = draw(seed, Purpose::Again, agent, self.drawn).random_range(0.0..=1.0);
        self.tries += 1;
        self.drawn = self.drawn.wrapping_add(1);
        whole / 2 + (whole / 2).mul_f64(part)
    }
}

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The first wait, where the relay does not say another.
const FIRST_WAIT: Duration = Duration::from_secs(2);

/// The longest: a relay that comes back is found soon.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// A stream that is silent for so long is lost: the relay gives a sign of life each minute.
const SILENCE: Duration = Duration::from_secs(150);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_from_what_the_relay_says_and_differ_by_agent() {
        let mut lines = Lines::default();
        lines.push(b"retry: 5000\n\n");
        let mut waits = Waits { first: FIRST_WAIT, tries: 0, drawn: 0 };
        waits.told(&mut lines);
        let first = waits.next(1, 7);
        assert!((2.5..=5.0).contains(&first.as_secs_f64()), "{first:?}");
        for _ in 0..40 {
            assert!(waits.next(1, 7) <= LONGEST_WAIT);
        }
        assert!(waits.next(1, 7) >= LONGEST_WAIT / 2);
        let all: std::collections::HashSet<_> =
            (0..100).map(|agent| Waits { first: FIRST_WAIT, tries: 0, drawn: 0 }.next(1, agent)).collect();
        assert!(all.len() > 95);
    }
}
