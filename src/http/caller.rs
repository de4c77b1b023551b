//! Who uses the relay as a proxy: the one place where HTTP's credentials are looked at (RFC 9110 section 11.7).
//!
//! What the relay has itself is nobody's proxying, whichever way it was named. Never logs or keeps a secret.

use headers::authorization::Basic;
use headers::{Header as _, ProxyAuthorization};
use hyper::header::PROXY_AUTHORIZATION;
use hyper::http::request::Parts;

use crate::http::respond::Failure;
use crate::http::route::{Leave, Route};
use crate::http::speak::Agent;
use crate::relay::live::Live;

/// Gives a request's route back where its agent may use it: elsewhere by the proxy, or into a tunnel, go users alone, where there
/// are users. Within a tunnel, who opened it is the user.
pub fn admitted(route: Route, agent: &Agent, request: &Parts, live: &Live) -> Result<Route, Failure> {
    let proxied = matches!(route, Route::Tunnel(_) | Route::Elsewhere(_, Leave::Proxy));
    if proxied && agent.toward.is_none() && !live.users.is_empty() {
        let given = credentials(request);
        let given = given.as_ref().map(|basic| (basic.username(), basic.password().as_bytes()));
        live.users.admit(given)?;
    }
    Ok(route)
}

/// What a request says of its user; `None` where that is nothing, or can be read in two ways.
fn credentials(request: &Parts) -> Option<Basic> {
    let mut values = request.headers.get_all(PROXY_AUTHORIZATION).iter();
    let ProxyAuthorization(basic) = ProxyAuthorization::<Basic>::decode(&mut values).ok()?;
    values.next().is_none().then_some(basic)
}
