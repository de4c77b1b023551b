//! Who sends a request, of what it says: the one place where HTTP's credentials are looked at (RFC 9110 section 11).
//!
//! To the relay itself an agent shows a token in `Authorization`, as a bearer's or as the password of `Basic`, or in the path
//! `/t/TOKEN/`; to the relay as its proxy in `Proxy-Authorization`, where users of the proxy are named, too. What the relay has
//! itself is nobody's proxying, whichever way it was named. Never logs or keeps a secret. Invariant: of credentials that can be
//! read in two ways none counts, and the request is refused.

use std::net::{IpAddr, Ipv6Addr};

use headers::authorization::{Basic, Bearer};
use headers::{Authorization, Header as _};
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue, PROXY_AUTHORIZATION};
use hyper::http::request::Parts;
use hyper::{Method, Version};

use crate::http::respond::Failure;
use crate::http::route::{Elsewhere, Leave, Route, Routed, Toward};
use crate::http::speak::Agent;
use crate::policy::caller::{Caller, Said, Shown};
use crate::policy::secret::Token;
use crate::relay::live::Live;

/// Whom a request believes to speak to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The relay, or another server that it stands in for.
    Own,
    /// The relay, as a proxy.
    Proxy,
}

impl Door {
    /// By which one a request comes. Every request of HTTP/2 names its scheme; where that is all, the relay itself is meant.
    pub fn of(request: &Parts) -> Self {
        let url = request.uri.scheme().is_some() && request.version != Version::HTTP_2;
        if request.method == Method::CONNECT || url { Self::Proxy } else { Self::Own }
    }

    fn header(self) -> HeaderName {
        match self {
            Self::Own => AUTHORIZATION,
            Self::Proxy => PROXY_AUTHORIZATION,
        }
    }
}

/// Who sends a request. Elsewhere by the proxy, or into a tunnel, go agents that show who they are and the proxy's users alone,
/// where there are users. Within a tunnel, who opened it is who sends.
pub fn caller(
    agent: &Agent,
    request: &Parts,
    Routed { route, token: of_path, toward }: &Routed,
    live: &Live,
) -> Result<Caller, Failure> {
    let door = Door::of(request);
    let given = Given::of(request, door);
    let (certificate, address) = (agent.certificate.as_deref(), agent.address.ip());
    let said = match (&agent.toward, &given) {
        (Some(toward), _) => Said::Before(toward.who),
        (None, Given::Nothing) => of_path.as_deref().map_or(Said::Nothing, token),
        (None, given) => match (given.said(), route, door) {
            // What a mount's server is to know, or the proxy of its users, shows nothing of an agent: the path may.
            (Said::Other, Route::Elsewhere(Elsewhere { leave: Leave::Mount(_), .. }), _) => {
                of_path.as_deref().map_or(Said::Nothing, token)
            }
            (Said::Other, _, Door::Proxy) if !live.users.is_empty() => Said::Nothing,
            (said, ..) => said,
        },
    };
    let shown = Shown { certificate, said, address };
    let caller = live.policy.caller(&live.agents.tree(), &shown);
    let caller = caller.map_err(|refusal| Failure::Stranger(refusal, door))?;
    let proxied = matches!(route, Route::Tunnel(_) | Route::Elsewhere(Elsewhere { leave: Leave::Proxy, .. }));
    if proxied && agent.toward.is_none() && caller.agent().is_none() {
        let user = match &given {
            Given::Basic(basic) => Some((basic.username(), basic.password().as_bytes())),
            _ => None,
        };
        live.users.admit(user)?;
    }
    Ok(if *toward == Toward::Other { caller.toward_upstream() } else { caller })
}

/// Whether a line of `Authorization` holds an agent's token, which is nobody else's to see. To a mount, who speaks to the relay
/// itself, it is one in any case; on its way to another server a token may be for that, which may be a relay too, unless an agent
/// of this one has it.
pub fn holds_token(line: &HeaderValue, leave: Leave, live: &Live) -> bool {
    let given = Given::read(line);
    let said = given.said();
    let Said::Token(_) = said else { return false };
    let shown = Shown { said, ..Shown::from(IpAddr::from(Ipv6Addr::UNSPECIFIED)) };
    let ours =
        || live.policy.caller(&live.agents.tree(), &shown).is_ok_and(|caller| caller.agent().is_some());
    leave != Leave::Proxy || ours()
}

/// What a text says that is to be a token.
fn token(text: &str) -> Said<'_> {
    Token::parse(text).map_or(Said::Other, Said::Token)
}

/// What a request gives to be known by.
enum Given {
    Nothing,
    Bearer(Bearer),
    Basic(Basic),
    Unreadable,
}

impl Given {
    fn of(request: &Parts, door: Door) -> Self {
        let mut values = request.headers.get_all(door.header()).iter();
        let Some(value) = values.next() else { return Self::Nothing };
        if values.next().is_some() { Self::Unreadable } else { Self::read(value) }
    }

    fn read(value: &HeaderValue) -> Self {
        let basic = Authorization::<Basic>::decode(&mut [value].into_iter());
        let bearer = || Authorization::<Bearer>::decode(&mut [value].into_iter());
        let read = basic
            .map(|basic| Self::Basic(basic.0))
            .or_else(|_| bearer().map(|bearer| Self::Bearer(bearer.0)));
        read.unwrap_or(Self::Unreadable)
    }

    fn said(&self) -> Said<'_> {
        match self {
            Self::Nothing => Said::Nothing,
            Self::Bearer(bearer) => token(bearer.token()),
            Self::Basic(basic) => token(basic.password()),
            Self::Unreadable => Said::Other,
        }
    }
}
