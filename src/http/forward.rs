//! The forward proxy and mounts: requests for other servers, answered by what the general cache keeps or by those servers (R3.2,
//! R4.2, R4.4).
//!
//! What may be kept and given is decided in `relay::cache`; here a request finds its way through it. Invariant: nothing is
//! answered, from the cache or otherwise, before the policy gave a passage for this agent and this place.

mod kept;
mod lookup;
mod pass;
mod status;

use std::sync::Arc;

use hyper::body::{Body as _, Incoming};
use hyper::header::{
    ALLOW, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_LOCATION, EXPECT, HOST, HeaderMap, HeaderValue,
    LOCATION, TE, TRANSFER_ENCODING,
};
use hyper::http::request::Parts;
use hyper::{Method, Response, Uri, Version};
use percent_encoding::{percent_decode_str, utf8_percent_encode};
use url::Url;

use crate::base::destination::Destination;
use crate::base::path::PATH_ESCAPED;
use crate::base::tally::Outcome;
use crate::http::body::Body;
use crate::http::caller::holds_token;
use crate::http::forward::status::Way as Answered;
use crate::http::interim::passing_on;
use crate::http::respond::{FORWARDED, Failure};
use crate::http::route::{Elsewhere, Leave};
use crate::net::idle::Busy;
use crate::net::inserts::Inserts;
use crate::policy::caller::Caller;
use crate::policy::reach::{Passage, Reach, Way};
use crate::relay::cache::directives::Directives;
use crate::relay::cache::hops::{lowered, stripped, takes_trailers};
use crate::relay::cache::interim::{Interim, Interims, interims};
use crate::relay::cache::shared::key;
use crate::relay::live::Live;
use crate::relay::shelf::Shelf;

/// An answer, and how it is counted.
type Served = Result<(Response<Body>, Outcome), Failure>;

/// A request for another server, on its way.
struct Forward<'f> {
    shelf: &'f Shelf,
    request: &'f Parts,
    live: &'f Live,
    url: &'f Url,
    passage: Passage,
    key: Arc<str>,
    uri: Uri,
    /// The request's headers, as that server is to have them.
    headers: HeaderMap,
    /// What the agent says to caches.
    wants: Directives,
    /// Where what that server says before its answer is told, where the agent can be told of it.
    interims: Option<Interims>,
}

/// What an agent's connection is told while an answer is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Meanwhile<'m> {
    /// Who waits.
    pub busy: &'m Busy,
    /// Where interim answers are put in, where the connection takes them.
    pub inserts: Option<&'m Inserts>,
}

/// Serves a request for what another server has.
pub async fn serve(
    shelf: &Shelf,
    caller: &Caller,
    request: &Parts,
    body: Incoming,
    Elsewhere { url, leave }: &Elsewhere,
    live: &Live,
    meanwhile: Meanwhile<'_>,
) -> Served {
    let passage = passage(caller, url, *leave, live)?;
    check_framing(request, &body)?;
    if request.method == Method::TRACE {
        return Err(Failure::Trace);
    }
    let mut headers = headers(request, *leave, live);
    if request.method == Method::OPTIONS && lowered(&mut headers).is_none() {
        return Ok(options());
    }
    live.cache.pseudonym().mark(&mut headers, request.version);
    let key = key(url);
    let uri = key.parse().map_err(|_| Failure::Target)?;
    let wants = Directives::of_request(&request.headers);
    let inserts = meanwhile.inserts.filter(|_| request.version == Version::HTTP_11);
    let (interims, heard) = interims();
    let interims = inserts.map(|_| interims);
    let forward = Forward { shelf, request, live, url, passage, key, uri, headers, wants, interims };
    meanwhile.busy.waits(true);
    let served = async {
        match request.method {
            Method::GET => forward.get().await,
            Method::HEAD => forward.head().await,
            _ => forward.pass(Some(body), Answered::Method).await,
        }
    };
    let staying = |headers: &mut HeaderMap| {
        if let Leave::Mount(_) = *leave {
            stay(headers, url, live);
        }
    };
    let passed = |mut interim: Interim| {
        staying(&mut interim.headers);
        live.cache.pseudonym().mark(&mut interim.headers, Version::HTTP_11);
        interim
    };
    let served = match inserts {
        Some(inserts) => passing_on(served, heard, inserts, passed).await,
        None => served.await,
    };
    served.map(|(mut response, outcome)| {
        staying(response.headers_mut());
        (response, outcome)
    })
}

/// Has an agent of a mount stay on the relay: URLs in an answer's head that the relay stands for become paths of its own.
fn stay(headers: &mut HeaderMap, url: &Url, live: &Live) {
    for name in [LOCATION, CONTENT_LOCATION] {
        let Some(named) = headers.get(&name).and_then(|value| url.join(value.to_str().ok()?).ok()) else {
            continue;
        };
        let path = percent_decode_str(named.path()).decode_utf8().ok();
        let here =
            Destination::of(&named).zip(path).and_then(|(to, path)| live.here(named.scheme(), &to, &path));
        let target = here.map_or_else(
            // What is relative means that server, and not this one.
            || named.to_string(),
            |here| {
                let part = |mark: &str, part: Option<&str>| {
                    part.map_or_else(String::new, |part| format!("{mark}{part}"))
                };
                let path = utf8_percent_encode(&here, PATH_ESCAPED);
                format!("{path}{}{}", part("?", named.query()), part("#", named.fragment()))
            },
        );
        if let Ok(value) = HeaderValue::from_str(&target) {
            headers.insert(name, value);
        }
    }
}

/// Whether the agent may have what is there, by whatever way it came.
fn passage(caller: &Caller, url: &Url, leave: Leave, live: &Live) -> Result<Passage, Failure> {
    let to = Destination::of(url).ok_or(Failure::Target)?;
    match leave {
        Leave::Mount(least) => Ok(live.policy.reach_mount(caller, to, least)?),
        Leave::Proxy => match live.policy.reach(caller, &to, Way::Request)? {
            Reach::There(passage) => Ok(passage),
            // What the relay answers for itself has a route of its own.
            Reach::Here(_) => Err(Failure::OtherServer),
        },
    }
}

/// One length, or one encoding, or nothing (RFC 9112 section 6.3): whatever else could be two requests to the next server.
/// HTTP/1.0 knows no encodings.
pub fn check_framing(request: &Parts, body: &Incoming) -> Result<(), Failure> {
    let headers = &request.headers;
    let lengths = headers.get_all(CONTENT_LENGTH).iter().count();
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
    let chunked = match (encodings.next(), encodings.next()) {
        (None, _) => false,
        (Some(encoding), None) if encoding.as_bytes().eq_ignore_ascii_case(b"chunked") => true,
        _ => return Err(Failure::Framing),
    };
    if lengths > 1 || (chunked && (lengths > 0 || request.version != Version::HTTP_11)) {
        return Err(Failure::Framing);
    }
    if matches!(request.method, Method::GET | Method::HEAD | Method::TRACE) && !body.is_end_stream() {
        return Err(Failure::RequestBody);
    }
    Ok(())
}

/// The headers for the next server. Its host is the URL's, whatever the request calls it (RFC 9112 section 3.2.2).
fn headers(request: &Parts, leave: Leave, live: &Live) -> HeaderMap {
    let mut headers = stripped(&request.headers);
    if request.headers.get_all(AUTHORIZATION).iter().any(|line| holds_token(line, leave, live)) {
        headers.remove(AUTHORIZATION);
    }
    headers.remove(HOST);
    if request.version == Version::HTTP_10 {
        headers.remove(EXPECT);
    }
    if takes_trailers(&request.headers) {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    headers
}

/// The answer to OPTIONS that is to go no further.
fn options() -> (Response<Body>, Outcome) {
    let mut response = Response::new(Body::default());
    response.headers_mut().insert(ALLOW, FORWARDED);
    response.headers_mut().insert(CONTENT_LENGTH, 0.into());
    (response, Outcome::Hit)
}
