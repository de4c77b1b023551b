//! The agents' API: enrol, check in, report, be told, fetch settings files (R5.5, R5.6, R7 to R9).
//!
//! Bodies are JSON, bounded, and read with fields that nobody here knows passed over, so that newer agents can speak to older relays;
//! what goes wrong is told as a problem (RFC 9457). Never decides: that is the policy's.

mod answer;
mod check_in;
mod enrol;
mod events;
mod files;
mod report;

use std::net::IpAddr;

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Method, Response};
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use tokio::time::timeout;

use crate::base::tally::Outcome;
use crate::http::body::Body;
use crate::http::caller::Door;
use crate::http::forward::check_framing;
use crate::http::respond::Failure;
use crate::http::speak::Agent;
use crate::policy::caller::Caller;
use crate::policy::decide::Refusal;
use crate::policy::tree::file::FileName;
use crate::policy::tree::id::AgentId;
use crate::relay::agents::check_in::Moment;
use crate::relay::live::Live;

/// What of the API a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `POST /api/v1/enrol`
    Enrol,
    /// `POST /api/v1/agent/check-in`
    CheckIn,
    /// `POST /api/v1/agent/report`
    Report,
    /// `POST /api/v1/agent/key`
    Renew,
    /// `GET /api/v1/agent/events`
    Events,
    /// `GET /api/v1/agent/settings`
    Settings,
    /// `GET /api/v1/agent/files`
    Files,
    /// `GET /api/v1/agent/files/NAME`
    File(FileName),
}

/// Where the API is.
pub const BASE: &str = "/api/v1/";

/// Bytes of a request's body: versions of some hundred components, or a signing request.
pub const BODY_BYTES_MAX: usize = 64 << 10;

impl Call {
    /// What a path of the relay is for; `None` where it is nothing of the API's.
    pub fn of(method: &Method, path: &str) -> Option<Result<Self, Failure>> {
        let rest = path.strip_prefix(BASE)?;
        let call = match rest {
            "enrol" => Self::Enrol,
            "agent/check-in" => Self::CheckIn,
            "agent/report" => Self::Report,
            "agent/key" => Self::Renew,
            "agent/events" => Self::Events,
            "agent/settings" => Self::Settings,
            "agent/files" => Self::Files,
            _ => match rest.strip_prefix("agent/files/").map(FileName::parse) {
                Some(Ok(name)) => Self::File(name),
                _ => return Some(Err(Failure::NotFound)),
            },
        };
        Some(if call.takes(method) { Ok(call) } else { Err(Failure::CallMethod(call.methods())) })
    }

    fn takes(&self, method: &Method) -> bool {
        match self {
            Self::Events | Self::Settings => *method == Method::GET,
            Self::Files | Self::File(_) => matches!(*method, Method::GET | Method::HEAD),
            Self::Enrol | Self::CheckIn | Self::Report | Self::Renew => *method == Method::POST,
        }
    }

    fn methods(&self) -> &'static str {
        match self {
            Self::Events | Self::Settings => "GET",
            Self::Files | Self::File(_) => "GET, HEAD",
            Self::Enrol | Self::CheckIn | Self::Report | Self::Renew => "POST",
        }
    }
}

/// An answer, and how it is counted.
type Served = Result<(Response<Body>, Outcome), Failure>;

/// A call on its way.
struct Calling<'c> {
    agent: &'c Agent,
    request: &'c Parts,
    caller: Option<&'c Caller>,
    live: &'c Live,
}

/// Serves a call. Who enrols is nobody yet; everybody else is known.
pub async fn serve(
    agent: &Agent,
    caller: Option<&Caller>,
    request: &Parts,
    body: Incoming,
    call: &Call,
    live: &Live,
) -> Served {
    check_framing(request, &body)?;
    let calling = Calling { agent, request, caller, live };
    match call {
        Call::Enrol => calling.enrol(body).await,
        Call::CheckIn => calling.check_in(body).await,
        Call::Report => calling.report(body).await,
        Call::Renew => calling.renew(body).await,
        Call::Events => calling.events().await,
        Call::Settings => calling.settings(),
        Call::Files => calling.files(),
        Call::File(name) => calling.file(name).await,
    }
}

impl Calling<'_> {
    /// The agent, of which calls want to know which one it is.
    fn known(&self) -> Result<AgentId, Failure> {
        let agent = self.caller.and_then(Caller::agent).copied();
        agent.ok_or(Failure::Stranger(Refusal::Unnamed, Door::Own))
    }

    fn moment(&self) -> Moment {
        let clock = &self.agent.worker.clock;
        Moment { at: clock.wall(), secs: clock.monotonic().as_secs(), from: self.from() }
    }

    fn from(&self) -> IpAddr {
        self.agent.address.ip()
    }

    /// Reads a body, which has as long as a head has.
    async fn read<T: DeserializeOwned>(&self, body: Incoming) -> Result<T, Failure> {
        let whole = Limited::new(body, BODY_BYTES_MAX).collect();
        let whole = timeout(self.live.limits.head_timeout, whole).await.map_err(|_| Failure::BodyLate)?;
        let bytes = whole.map_err(|error| {
            if error.is::<LengthLimitError>() { Failure::BodyLength } else { Failure::BodyEnd }
        })?;
        serde_json::from_slice(&bytes.to_bytes()).map_err(|error| wrong(&error))
    }
}

/// What is wrong with a body, without anything that stands in it: that may be a secret in the wrong place.
fn wrong(error: &serde_json::Error) -> Failure {
    let said = error.to_string();
    let names_a_field = ["missing field", "duplicate field"].iter().any(|what| said.starts_with(what));
    if error.classify() != Category::Data || names_a_field {
        return Failure::Body(said);
    }
    let (line, column) = (error.line(), error.column());
    Failure::Body(format!(
        "it has a value that is none of those allowed there at line {line} column {column}"
    ))
}
