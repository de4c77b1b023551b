//! An agent that polls, since something on its way cuts streams: one request after the other, each answered as soon as there is
//! something to tell.
//!
//! Never counts how long a poll waited as how long the relay took. Invariant: polls that are answered with nothing at once do not follow
//! each other without a pause.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::Response;
use hyper::body::Incoming;
use tokio::time::{sleep, timeout};

use crate::load::answer::{broken, serves_on};
use crate::load::connection::Connection;
use crate::load::fault::{Failure, Fault};
use crate::load::request::{EVENTS, request};
use crate::load::told::What;
use crate::load::told::events::{Event, polled};
use crate::load::told::listen::{Asked, Ended, Listener, wrong};

impl Listener {
    /// Polls until it fails.
    pub(super) async fn poll(&mut self) -> Ended {
        let mut kept = None;
        let mut is_first = true;
        loop {
            // The first is answered at once: the agent is there from then on.
            let wait = if is_first { Duration::ZERO } else { POLL };
            let mut asked = Asked { due: self.ground.now(), begun: Duration::ZERO, connections: 0 };
            let opening = self.opening.clone();
            let permit = if is_first { opening.acquire().await.ok() } else { None };
            asked.begun = self.ground.now();
            let events = match self.ask(&mut kept, wait, &mut asked).await {
                Ok(events) => events,
                Err(failure) => return Ended::Unopened { asked, failure },
            };
            drop(permit);
            let said = if is_first {
                let sample = self.sample(asked, Some(self.ground.now()));
                self.say(What::Opened { sample, connections: asked.connections }).await
            } else {
                self.say(What::Polled { connections: asked.connections }).await
            };
            let is_early =
                !is_first && events.is_empty() && self.ground.now().saturating_sub(asked.begun) < wait / 2;
            for event in events {
                if self.hear(event).await.is_err() {
                    return Ended::Deaf;
                }
            }
            if said.is_err() {
                return Ended::Deaf;
            }
            if is_early {
                // Something on the way answers in the relay's place, which would have waited.
                sleep(self.wait()).await;
            } else {
                self.is_heard();
            }
            is_first = false;
        }
    }

    /// Makes one poll, on the connection of the last one where it serves on.
    async fn ask(
        &self,
        kept: &mut Option<Connection>,
        wait: Duration,
        asked: &mut Asked,
    ) -> Result<Vec<Event>, Failure> {
        let silence = wait + self.ground.plan.silence;
        let target = &self.ground.target;
        let path = format!("{EVENTS}?wait={}&after={}", wait.as_secs(), self.heard);
        let poll = || request(target, self.ground.tokens.shown(self.number), &path, Bytes::new());
        let silent = |_| Failure::new(Fault::Silence, format!("{EVENTS}: no answer within {silence:?}"));
        if let Some(mut connection) = kept.take() {
            // The server may have closed it at that moment, which is no error (RFC 9112 section 9.3.1).
            if let Ok(answer) = timeout(silence, connection.send(poll())).await.map_err(silent)? {
                return self.read(answer, connection, kept).await;
            }
        }
        let (to, from) = target.line(target.place(self.number), self.number);
        let mut connection = Connection::open_lean(target, to, from, self.ground.plan.silence).await?;
        asked.connections = 1;
        let answer = timeout(silence, connection.send(poll())).await.map_err(silent)?;
        self.read(answer.map_err(|error| broken(&error, EVENTS))?, connection, kept).await
    }

    async fn read(
        &self,
        answer: Response<Incoming>,
        connection: Connection,
        kept: &mut Option<Connection>,
    ) -> Result<Vec<Event>, Failure> {
        self.check(&answer, "application/json")?;
        let serves_on = serves_on(&answer);
        let body = Limited::new(answer.into_body(), POLL_BYTES_MAX).collect();
        let body = match timeout(self.ground.plan.silence, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) => return Err(Failure::new(Fault::Short, format!("{EVENTS}: {error}"))),
            Err(_) => return Err(Failure::new(Fault::Silence, format!("{EVENTS}: the body stopped"))),
        };
        *kept = serves_on.then_some(connection);
        polled(&body).map_err(wrong)
    }
}

/// How long a poll waits at most: what lies between agent and server may take more for silence.
const POLL: Duration = Duration::from_secs(30);

/// Bytes of a poll's answer: it has the newest notice, and that settings changed.
const POLL_BYTES_MAX: usize = 64 << 10;
