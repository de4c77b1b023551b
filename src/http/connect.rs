//! CONNECT: a request that makes a tunnel of its connection (RFC 9110 section 9.3.6).
//!
//! Over HTTP/2 there is none: what hyper gives of such a stream ends it in order when it is dropped, and takes the agent's reset
//! for an end in order, so that bytes which broke off would pass for all of them on either side (`net/copy.rs`).
//!
//! Invariant: where there is no tunnel, what follows on the connection is not read, since it was not meant as requests; but a
//! client that gave no credentials may give them next.

use hyper::header::{CONNECTION, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode, Version};

use crate::http::body::Body;
use crate::http::caller::caller;
use crate::http::onward::{Becomes, Onward};
use crate::http::respond::{Failure, failure};
use crate::http::route::{Route, route};
use crate::http::speak::Agent;
use crate::http::tunnel::{Far, Opened, Tunnel, open};
use crate::http::tunnel_record::{By, TunnelRecord};
use crate::net::idle::Busy;
use crate::relay::live::Live;

/// Answers a CONNECT. `onward` is where its connection becomes a tunnel; one of HTTP/2 cannot.
pub async fn answer(
    agent: &Agent,
    request: &Parts,
    live: &Live,
    busy: &Busy,
    onward: Option<&Onward>,
) -> Response<Body> {
    // What may stand before the host is no part of a destination, and may be a secret.
    let named = request.uri.authority().and_then(|authority| authority.as_str().rsplit('@').next());
    let mut record = TunnelRecord::begin(&agent.worker, agent.address, By::Connect, named.unwrap_or(""));
    match opened(agent, request, live, busy, onward).await {
        Ok((far, opened, onward)) => {
            let response = Response::new(Body::default());
            record.opened(response.status().as_u16());
            onward.set(Becomes::Tunnel(Tunnel { far, opened, record }.into()));
            response
        }
        Err(failed) => {
            let mut response = failure(&failed);
            record.failed(&failed, response.status().as_u16());
            let may_try_again = response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED;
            if !may_try_again && request.version != Version::HTTP_2 {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response
        }
    }
}

async fn opened<'o>(
    agent: &Agent,
    request: &Parts,
    live: &Live,
    busy: &Busy,
    onward: Option<&'o Onward>,
) -> Result<(Far, Opened, &'o Onward), Failure> {
    let routed = route(request, live, agent.asked())?;
    let caller = caller(agent, request, &routed, live)?;
    let Route::Tunnel(to) = routed.route else { return Err(Failure::Target) };
    let onward = onward.ok_or(Failure::TunnelVersion)?;
    // An agent that leaves gives up its place.
    busy.waits(true);
    let far = open(live, agent, &caller, &to).await;
    busy.waits(false);
    Ok((far?, Opened { who: caller.who(), to }, onward))
}
