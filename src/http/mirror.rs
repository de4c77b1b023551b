//! The mirror: manifests, packages, increments and signatures of the trees (R1, R3.1, R6).

use std::sync::Arc;

use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};

use crate::base::path::TreePath;
use crate::base::range::ByteRange;
use crate::base::tally::Outcome;
use crate::http::body::Body;
use crate::http::conditional::{Verdict, evaluate, range_holds};
use crate::http::ranges::{self, Multipart, Wanted, content_range};
use crate::http::respond::Failure;
use crate::net::idle::Busy;
use crate::policy::caller::Caller;
use crate::policy::decide::Permission;
use crate::policy::sources::Kind;
use crate::relay::decision::{self, Decision};
use crate::relay::live::Live;
use crate::relay::serve::{self, Representation, ServeError};
use crate::relay::shelf::Shelf;
use crate::relay::tree::Tree;

/// Names like `ioth_1668100.1668300` have no type of their own: everything but the manifest is bytes
/// (activeupdate.md, Tree).
const PACKAGE_TYPE: &str = "application/octet-stream";
const MANIFEST_TYPE: &str = "text/plain";

/// What an agent gets depends on who it is: no shared cache may keep it. Manifests and signatures are asked for anew each
/// time, packages never change under their name and version.
const FOR_THIS_AGENT: HeaderValue = HeaderValue::from_static("private");
const FOR_THIS_MOMENT: HeaderValue = HeaderValue::from_static("private, no-cache");

/// How often a file may change at the upstream between its head and its bytes, within one request.
const MOVES_MAX: usize = 3;

/// Serves a tree's manifest.
pub async fn manifest(
    request: &Parts,
    tree: &Arc<Tree>,
    caller: &Caller,
    live: &Live,
    shelf: &Shelf,
) -> Result<(Response<Body>, Outcome), Failure> {
    let permit = decision::of_manifest(live, caller)?;
    let snapshot = tree.snapshot().ok_or(Failure::NotReady)?;
    let current = snapshot.current();
    if request.method == Method::GET {
        tree.pins.set(caller.pinned(), current.generation.number(), now_secs(tree));
    }
    let representation = serve::manifest(permit, current)?;
    let (mut response, outcome) = answer(request, tree, representation, MANIFEST_TYPE, live, shelf).await?;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, FOR_THIS_MOMENT);
    headers.insert(header::AGE, tree.standing.unconfirmed_secs().into());
    Ok((response, outcome))
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
) -> Result<(Response<Body>, Outcome), Failure> {
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
) -> Result<(Response<Body>, Outcome), Failure> {
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
    let representation = serve::file(permit, tree, listed).await?;
    let of_a_generation = listed.entry.identity().generation.is_some();
    let (mut response, outcome) = answer(request, tree, representation, PACKAGE_TYPE, live, shelf).await?;
    let kept = if of_a_generation { FOR_THIS_MOMENT } else { FOR_THIS_AGENT };
    response.headers_mut().insert(header::CACHE_CONTROL, kept);
    response.body_mut().is_of(Kind::of(listed.class));
    Ok((response, outcome))
}

fn now_secs(tree: &Tree) -> u64 {
    tree.resources.clock.monotonic().as_secs()
}

/// Answers with the part of a representation that the request asks for.
async fn answer(
    request: &Parts,
    tree: &Tree,
    representation: Representation,
    content_type: &'static str,
    live: &Live,
    shelf: &Shelf,
) -> Result<(Response<Body>, Outcome), Failure> {
    let headers = &request.headers;
    let modified = representation.last_modified.as_ref().map(|(_, time)| *time);
    match evaluate(headers, &representation.etag, modified) {
        Verdict::Failed => return Err(Failure::Precondition),
        Verdict::NotModified => {
            let mut response = Response::new(Body::default());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            describe(&mut response, &representation);
            return Ok((response, Outcome::NotModified));
        }
        Verdict::Proceed => {}
    }
    let (size, outcome) = (representation.size, representation.outcome);
    let wanted = match range(request) {
        Some(range)
            if range_holds(
                headers,
                Some(&representation.etag),
                modified,
                tree.resources.clock.wall().into(),
            ) =>
        {
            ranges::wanted(range, size, live.limits.ranges_max)
        }
        _ => Wanted::Whole,
    };
    let mut response = Response::new(Body::default());
    describe(&mut response, &representation);
    let parts = match wanted {
        Wanted::Unsatisfiable => return Err(Failure::Range(size)),
        Wanted::Whole => {
            let head = response.headers_mut();
            head.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
            head.insert(header::CONTENT_LENGTH, representation.length.clone());
            if request.method == Method::GET {
                *response.body_mut() = Body::run(representation.open(shelf).await?, ByteRange::whole(size));
            }
            return Ok((response, outcome));
        }
        Wanted::Ranges(parts) => parts,
    };
    let content = representation.open(shelf).await?;
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    let head = response.headers_mut();
    if let [range] = parts[..] {
        head.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        head.insert(header::CONTENT_LENGTH, range.len().into());
        let value = HeaderValue::from_str(&content_range(range, size)).expect("digits are a header's value");
        head.insert(header::CONTENT_RANGE, value);
        *response.body_mut() = Body::run(content, range);
    } else {
        let multipart = Multipart::new(&parts, size, content_type, rand::random());
        head.insert(header::CONTENT_TYPE, multipart.content_type);
        head.insert(header::CONTENT_LENGTH, multipart.len.into());
        *response.body_mut() = Body::runs(content, &parts, multipart.heads, multipart.tail);
    }
    Ok((response, outcome))
}

/// The request's `Range`, for GET alone (RFC 9110 section 14.2). Of several none counts: the field is no list.
pub fn range(request: &Parts) -> Option<&HeaderValue> {
    let mut ranges = request.headers.get_all(header::RANGE).iter();
    let only = ranges.next().filter(|_| ranges.next().is_none());
    only.filter(|_| request.method == Method::GET)
}

/// The headers that every answer about a representation has.
fn describe(response: &mut Response<Body>, representation: &Representation) {
    let headers = response.headers_mut();
    headers.insert(header::ETAG, representation.etag.clone());
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some((value, _)) = &representation.last_modified {
        headers.insert(header::LAST_MODIFIED, value.clone());
    }
}
