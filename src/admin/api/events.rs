//! `GET /api/v1/events`: what changes, as it does, as server-sent events.
//!
//! A reader that comes back with the last number it has seen is told what it missed. Invariants: changes are told in their order, none
//! left out unless that is said; a stream ends with the relay.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::future::select_all;
use futures_util::stream::{self, Stream};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;

use crate::admin::State;
use crate::admin::api::blocking;
use crate::admin::document::{Busy, Malformed};
use crate::admin::problem::Problem;
use crate::relay::refresh::Progress;
use crate::state::record::Serial;

/// Streams at a time: each takes one of the listener's connections for as long as it lasts.
pub(in crate::admin) const STREAMS_MAX: usize = 16;

/// Changes that a reader may have missed and is told of.
const MISSED_MAX: usize = 100;

/// Between two signs of life, so that neither side takes the other for gone.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// What changes, as server-sent events: `change` (of the agent tree), `refresh` (of a tree), `missed` (changes that are not told).
#[utoipa::path(get, path = "/api/v1/events", tag = "audit", operation_id = "stream_events",
    params(("Last-Event-ID" = Option<u64>, Header, description = "The last change that was seen.")),
    responses(
        (status = 200, description = "The events, for as long as both sides want.", body = String, content_type = "text/event-stream"),
        Malformed, Busy,
    ))]
pub async fn stream(
    extract::State(state): extract::State<State>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let Ok(slot) = state.streams.clone().try_acquire_owned() else {
        return Err(Problem::busy(format!("{STREAMS_MAX} streams of events are read already")));
    };
    let live = state.live.load_full();
    let changes = live.agents.changes();
    let seen = match headers.get("last-event-id") {
        None => *changes.borrow(),
        Some(seen) => {
            let number = seen.to_str().ok().and_then(|seen| seen.parse().ok()).map(Serial);
            let wrong =
                || Problem::new(StatusCode::BAD_REQUEST, "Last-Event-ID must be the number of a change");
            number.ok_or_else(wrong)?
        }
    };
    let trees = live.trees.iter().map(|(_, tree)| {
        let progress = tree.progress().subscribe();
        let ended = progress.borrow().ended;
        Refreshes { tree: tree.name.to_string(), progress, ended }
    });
    let follower = Follower {
        trees: trees.collect(),
        stop: state.resources.stop.clone(),
        waiting: VecDeque::new(),
        state,
        changes,
        seen,
        _slot: slot,
    };
    let events = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok(event), follower))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(SIGN_OF_LIFE)))
}

/// What one stream has told so far, and waits for.
struct Follower {
    state: State,
    changes: watch::Receiver<Serial>,
    seen: Serial,
    trees: Vec<Refreshes>,
    waiting: VecDeque<Event>,
    stop: CancellationToken,
    _slot: OwnedSemaphorePermit,
}

struct Refreshes {
    tree: String,
    progress: watch::Receiver<Progress>,
    /// How many had ended when it was looked last.
    ended: u64,
}

impl Follower {
    /// The next event; `None` when the relay stops.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            let last = *self.changes.borrow_and_update();
            if last > self.seen {
                self.changed(last).await?;
                continue;
            }
            let Self { changes, trees, stop, .. } = self;
            let progress = trees.iter_mut().map(|tree| Box::pin(tree.progress.changed()));
            let progress: Vec<_> = progress.collect();
            tokio::select! {
                changed = changes.changed() => changed.ok()?,
                (changed, ..) = select_all(progress) => changed.ok()?,
                () = stop.cancelled() => return None,
            }
            self.refreshed();
        }
    }

    /// Tells the changes up to this one.
    async fn changed(&mut self, last: Serial) -> Option<()> {
        let live = self.state.live.load_full();
        let read = blocking(move || live.agents.state().audit(Some(last.next()), MISSED_MAX)).await;
        let mut records = read.ok()?.unwrap_or_default();
        records.retain(|record| record.serial > self.seen);
        records.reverse();
        let first = records.first().map_or(last.next(), |record| record.serial);
        if first > self.seen.next() {
            let missed = json!({ "after": self.seen, "before": first });
            self.waiting.push_back(Event::default().event("missed").data(missed.to_string()));
        }
        for record in records {
            let told = json!({
                "serial": record.serial, "at": record.at, "who": record.who.as_str(), "what": record.what,
                "changed": record.changed.len(),
            });
            let id = record.serial.to_string();
            self.waiting.push_back(Event::default().event("change").id(id).data(told.to_string()));
        }
        self.seen = last;
        Some(())
    }

    /// Tells the refreshes that have ended.
    fn refreshed(&mut self) {
        for tree in &mut self.trees {
            let now = tree.progress.borrow_and_update().clone();
            if now.ended > tree.ended {
                tree.ended = now.ended;
                let told = json!({ "tree": tree.tree, "ended": now.ended, "last": now.last });
                self.waiting.push_back(Event::default().event("refresh").data(told.to_string()));
            }
        }
    }
}
