//! The mirror: manifests, packages, increments and signatures of the trees (R1, R3.1, R6).

use std::sync::Arc;
use std::time::Duration;

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response};

use crate::base::path::TreePath;
use crate::base::tally::Outcome;
use crate::http::body::Body;
use crate::http::part::Part;
use crate::http::respond::Failure;
use crate::net::idle::Busy;
use crate::policy::caller::Caller;
use crate::policy::decide::Permission;
use crate::policy::sources::Kind;
use crate::relay::content::Content;
use crate::relay::decision::{self, Decision};
use crate::relay::generation::Listed;
use crate::relay::live::Live;
use crate::relay::serve::{self, Representation, ServeError};
use crate::relay::shelf::Shelf;
use crate::relay::tree::Tree;

/// Names like `ioth_1668100.1668300` have no type of their own: everything but the manifest is bytes
/// (activeupdate.md, Tree).
const PACKAGE_TYPE: HeaderValue = HeaderValue::from_static("application/octet-stream");
const MANIFEST_TYPE: HeaderValue = HeaderValue::from_static("text/plain");

/// What an agent gets depends on who it is: no shared cache may keep it. Manifests and signatures are asked for anew each
/// time, packages never change under their name and version.
const FOR_THIS_AGENT: HeaderValue = HeaderValue::from_static("private");
const FOR_THIS_MOMENT: HeaderValue = HeaderValue::from_static("private, no-cache");

/// How often a file may change at the upstream between its head and its bytes, within one request.
const MOVES_MAX: usize = 3;

/// What a request is served with, and how that is counted; or why not.
pub type Served = Result<(Response<Body>, Outcome), Failure>;

/// Serves a tree's manifest, which is always at hand.
pub fn manifest(request: &mut Parts, tree: &Tree, caller: &Caller, live: &Live) -> Served {
    let permit = decision::of_manifest(live, caller)?;
    let snapshot = tree.snapshot().ok_or(Failure::NotReady)?;
    let current = snapshot.current();
    if request.method == Method::GET {
        tree.pins.set(caller.pinned(), current.generation.number(), now_secs(tree));
    }
    let at_hand = serve::manifest(permit, current)?;
    let (mut response, outcome) = answer_at_once(request, tree, at_hand, &MANIFEST_TYPE, live)?;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, FOR_THIS_MOMENT);
    headers.insert(header::AGE, tree.standing.unconfirmed_secs().into());
    Ok((response, outcome))
}

/// Serves a file of a tree of what is at hand; `None` where anything has to be waited for, and for whatever is rare. `now` is monotonic.
pub fn file_at_hand(
    request: &mut Parts,
    tree: &Tree,
    path: &TreePath,
    caller: &Caller,
    live: &Live,
    shelf: &Shelf,
    now: Duration,
) -> Option<Served> {
    let snapshot = tree.snapshot();
    let decided = decision::of_file(live, tree, snapshot.as_deref(), path, caller, now.as_secs());
    let Decision { listed: Some(listed), permission: Permission::Open, said: Ok(permit) } = decided else {
        return None;
    };
    let at_hand = serve::file_at_hand(permit, tree, listed, shelf, now)?;
    let answered = answer_at_once(request, tree, at_hand, &PACKAGE_TYPE, live);
    Some(answered.map(|(response, outcome)| (of_file(response, listed), outcome)))
}

/// Serves a file of a tree.
pub async fn file(
    request: &Parts,
    tree: &Arc<Tree>,
    path: &TreePath,
    caller: &Caller,
    live: &Live,
    shelf: &Shelf,
    busy: &Busy,
) -> Served {
    for _ in 1..MOVES_MAX {
        match file_as_it_is(request, tree, path, caller, live, shelf, busy).await {
            Err(Failure::Serve(ServeError::Moved)) => {}
            served => return served,
        }
    }
    file_as_it_is(request, tree, path, caller, live, shelf, busy).await
}

async fn file_as_it_is(
    request: &Parts,
    tree: &Arc<Tree>,
    path: &TreePath,
    caller: &Caller,
    live: &Live,
    shelf: &Shelf,
    busy: &Busy,
) -> Served {
    let snapshot = tree.snapshot();
    let now_secs = now_secs(tree);
    let decided = decision::of_file(live, tree, snapshot.as_deref(), path, caller, now_secs);
    let Decision { listed, permission, said } = decided;
    let permit = said?;
    if permission == Permission::Closed {
        tree.resources.tally.unpermitted.one();
    }
    if snapshot.is_none() {
        return Err(Failure::NotReady);
    }
    let listed = listed.ok_or(Failure::NotFound)?;
    busy.waits(listed.entry.held().is_none());
    let unopened = serve::file(permit, tree, listed).await?;
    let representation = &unopened.representation;
    let part = Part::of(request, tree, representation, live)?;
    let outcome = part.outcome(representation);
    let content = if part.has_bytes() { Some(unopened.open(shelf).await?) } else { None };
    let response = part.answer(representation, content, &PACKAGE_TYPE, HeaderMap::new());
    Ok((of_file(response, listed), outcome))
}

/// What is told of a file beside its bytes.
fn of_file(mut response: Response<Body>, listed: &Listed) -> Response<Body> {
    let of_a_generation = listed.entry.identity().generation.is_some();
    let kept = if of_a_generation { FOR_THIS_MOMENT } else { FOR_THIS_AGENT };
    response.headers_mut().insert(header::CACHE_CONTROL, kept);
    response.body_mut().is_of(Kind::of(listed.class));
    response
}

fn now_secs(tree: &Tree) -> u64 {
    tree.resources.clock.monotonic().as_secs()
}

/// Answers with what the request asks for of a representation whose bytes are there. The headers of the answer take the room of the
/// request's, which are done with.
fn answer_at_once(
    request: &mut Parts,
    tree: &Tree,
    (representation, content): (Representation, Content),
    content_type: &HeaderValue,
    live: &Live,
) -> Served {
    let part = Part::of(request, tree, &representation, live)?;
    let outcome = part.outcome(&representation);
    let mut room = std::mem::take(&mut request.headers);
    room.clear();
    let content = part.has_bytes().then_some(content);
    Ok((part.answer(&representation, content, content_type, room), outcome))
}
