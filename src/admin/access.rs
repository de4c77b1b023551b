//! Who is asking, and whether their role is enough: the one place where a request of an administrator is let in.
//!
//! By a bearer token (RFC 6750), or by a client certificate whose name the settings know. Invariants: a handler behind [`needs`] is asked
//! only by somebody of at least that role; what was shown is in no log and no answer.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{self, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::info;

use crate::admin::State;
use crate::admin::model::access::KnownBy;
use crate::admin::problem::Problem;
use crate::policy::administrator::Role;
use crate::policy::secret::Token;
use crate::state::record::Author;

/// What a connection says of whoever is at its other end.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// What is spoken under its requests.
    pub transport: Wire,
    /// The names in its certificate that an authority vouches for.
    pub names: Arc<[Box<str>]>,
}

/// What is spoken under requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Nothing.
    Clear,
    /// TLS.
    Tls,
}

/// Who is asking.
#[derive(Clone, Debug)]
pub struct Administrator {
    /// The token's name, or the name in the certificate.
    pub name: Box<str>,
    /// What they may do.
    pub role: Role,
    /// What they are known by.
    pub known_by: KnownBy,
    from: IpAddr,
}

impl Administrator {
    /// Who makes a change, as the audit log names them.
    pub fn author(&self) -> Author {
        self.author_for(None).unwrap_or_else(|_| unnamed())
    }

    /// The same, with whom they say that it is for.
    pub fn author_for(&self, by: Option<&str>) -> Result<Author, Problem> {
        let by = by.map_or_else(String::new, |by| format!("{by}, as "));
        Author::parse(&format!("{by}{}, from {}", self.name, self.from)).map_err(|_| {
            Problem::new(StatusCode::BAD_REQUEST, "by must be a short name without control characters")
        })
    }
}

/// A certificate's name may be longer than what an audit log holds.
fn unnamed() -> Author {
    Author::parse("an administrator with a long name").expect("it is short")
}

/// Lets in who has at least this role; everybody else hears why not.
pub async fn needs(
    extract::State((state, role)): extract::State<(State, Role)>,
    mut request: Request,
    next: Next,
) -> Response {
    match admit(&state, &request, role) {
        Ok(administrator) => {
            request.extensions_mut().insert(administrator);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// The same for what scrapers ask: on this machine they need no token, since they had none before and learn nothing of anybody.
pub async fn needs_unless_local(
    extract::State((state, role)): extract::State<(State, Role)>,
    request: Request,
    next: Next,
) -> Response {
    let local = request.extensions().get::<Peer>().is_some_and(|peer| peer.address.is_loopback());
    if local {
        return next.run(request).await;
    }
    needs(extract::State((state, role)), request, next).await
}

fn admit(state: &State, request: &Request, role: Role) -> Result<Administrator, Problem> {
    let Some(peer) = request.extensions().get::<Peer>() else {
        return Err(Problem::failed("the relay does not know where this request came from"));
    };
    let administrator = known(state, peer, request.headers())?;
    if administrator.role < role {
        let path = request.uri().path();
        info!(name = %administrator.name, role = %administrator.role, path, "an administrator's role is not enough");
        state.tally().admin_refused.one();
        let detail = format!(
            "this takes the role {role}; '{}' has the role {}",
            administrator.name, administrator.role
        );
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    Ok(administrator)
}

fn known(state: &State, peer: &Peer, headers: &HeaderMap) -> Result<Administrator, Problem> {
    let mut shown = headers.get_all(header::AUTHORIZATION).iter();
    let (first, more) = (shown.next(), shown.next());
    let Some(first) = first else {
        return by_certificate(state, peer).ok_or_else(|| {
            Problem::new(StatusCode::UNAUTHORIZED, "this takes a token: Authorization: Bearer NAME~SECRET")
        });
    };
    let clock = &state.resources.clock;
    let now = clock.monotonic();
    if let Some(wait) = state.failures.wait(peer.address, now) {
        let detail = "too many logins from this address failed: the next one is heard after a while";
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(wait));
    }
    let token = first.to_str().ok().filter(|_| more.is_none()).and_then(bearer).and_then(Token::parse);
    let role = token.and_then(|token| state.tokens.role_of(token, clock.wall()));
    let Some((name, role)) = role else {
        state.failures.note(peer.address, now);
        state.tally().admin_refused.one();
        info!(address = %peer.address, "an administrator's login failed");
        let detail = "what is shown is no token of this relay's, or counts no more";
        return Err(Problem::new(StatusCode::UNAUTHORIZED, detail));
    };
    Ok(Administrator { name: name.as_str().into(), role, known_by: KnownBy::Token, from: peer.address })
}

fn by_certificate(state: &State, peer: &Peer) -> Option<Administrator> {
    let live = state.live.load();
    let mut clients = live.admin_clients.iter();
    let client = clients.find(|client| peer.names.contains(&client.name))?;
    let (name, role) = (client.name.clone(), client.role);
    Some(Administrator { name, role, known_by: KnownBy::Certificate, from: peer.address })
}

/// What follows `Bearer`, in whatever case (RFC 9110 section 11.1).
fn bearer(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| rest.trim_matches(' '))
}
