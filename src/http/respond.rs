//! What goes wrong, as agents see it: one match from failures to statuses, a short line of text, the cause in the log.

use std::sync::Arc;

use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, PROXY_AUTHENTICATE,
    RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::{Response, StatusCode};
use thiserror::Error;

use crate::base::path::PathError;
use crate::base::tally::{Outcome, RefusedBy};
use crate::http::agents::BODY_BYTES_MAX;
use crate::http::body::Body;
use crate::http::caller::Door;
use crate::policy::decide::Refusal;
use crate::policy::tree::refused::Refused;
use crate::relay::agents::enrol::EnrolError;
use crate::relay::fill::FillError;
use crate::relay::limits::Exceeded;
use crate::relay::reach::ReachError;
use crate::relay::serve::ServeError;
use crate::state::ChangeError;
use crate::state::authority::SignError;
use crate::upstream::UpstreamError;
use crate::upstream::unreached::Unreached;

/// When an agent may ask again for what is not there yet, in seconds.
const RETRY_SECS: HeaderValue = HeaderValue::from_static("30");

/// What is taken to other servers; others go there too, and mean whatever they mean there.
pub const FORWARDED: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// Why a request gets no representation.
#[derive(Debug, Error)]
pub enum Failure {
    /// The path cannot be one of a tree.
    #[error("bad path: {0}")]
    Path(#[from] PathError),
    /// The path's escapes are ambiguous.
    #[error("bad path: {0}")]
    Escape(&'static str),
    /// The path is longer than the setting allows.
    #[error("the path is too long")]
    PathTooLong,
    /// A GET or HEAD that claims to have a body.
    #[error("a request for a file has no body")]
    RequestBody,
    /// No `Host`, several, or one that is not a host.
    #[error("a request names its host once")]
    Host,
    /// The target is neither a path nor a URL.
    #[error("the request's target is no path")]
    Target,
    /// The target is a URL, as a proxy is asked.
    #[error("this relay answers for no other server: ask for the path alone")]
    OtherServer,
    /// Its framing could be read in two ways.
    #[error("the request says in two ways how long it is")]
    Framing,
    /// TRACE: it would show one agent what a proxy adds for it.
    #[error("TRACE is not answered here")]
    Trace,
    /// What is wanted from the cache alone is not there.
    #[error("the cache has nothing that may be given to this request")]
    NotKept,
    /// Another server is not reached.
    #[error("{0}")]
    Reach(Arc<ReachError>),
    /// Nor is it, and only with its word could be given what is kept.
    #[error("what is kept may not be given unasked: {0}")]
    Unconfirmed(Arc<ReachError>),
    /// CONNECT over HTTP/2, where a connection is many agents' at once.
    #[error("CONNECT is answered over HTTP/1.1 alone")]
    TunnelVersion,
    /// The other end of a tunnel was not reached: how, and what was tried.
    #[error("{0}: {1}")]
    Unreached(Unreached, String),
    /// Neither GET nor HEAD.
    #[error("only GET and HEAD are allowed here")]
    Method,
    /// Nothing there.
    #[error("not found")]
    NotFound,
    /// A method that is none of a call's; those are.
    #[error("only {0} is allowed here")]
    CallMethod(&'static str),
    /// A body that is too long for the API.
    #[error("a body has at most {BODY_BYTES_MAX} bytes here")]
    BodyLength,
    /// A body that broke off.
    #[error("the body broke off")]
    BodyEnd,
    /// A body that did not come.
    #[error("the body did not come in time")]
    BodyLate,
    /// A body that is not what the call takes.
    #[error("the body is not what is taken here: {0}")]
    Body(String),
    /// A query or a number in a header that is not what the call takes.
    #[error("not what is taken here: {0}")]
    Query(String),
    /// What is shown is no enrolment's token.
    #[error("this is no enrolment's token")]
    EnrolmentToken,
    /// A secret is not told in clear text.
    #[error(
        "secrets are not told in clear text: enrol with TLS, or have the relay allow it (agents.clear_text_enrolment)"
    )]
    ClearText,
    /// An agent is not enrolled.
    #[error("{0}")]
    Enrol(#[from] EnrolError),
    /// A report of an agent that did not check in.
    #[error("check in first: the relay has not heard of this agent since it started")]
    NotCheckedIn,
    /// The bytes of a settings file cannot be read.
    #[error("the settings file cannot be read")]
    SettingsFile,
    /// The policy refuses.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// Who is calling is not known, or not let in.
    #[error("refused: {0}")]
    Stranger(Refusal, Door),
    /// A limit is reached.
    #[error("too many requests: {0}")]
    Limited(#[from] Exceeded),
    /// `If-Match` or `If-Unmodified-Since` does not hold.
    #[error("the precondition does not hold")]
    Precondition,
    /// No byte of the requested ranges is there; the number is the size.
    #[error("the range is outside the file's {0} bytes")]
    Range(u64),
    /// The tree has no generation yet.
    #[error("the relay has nothing to serve yet: it is fetching the tree")]
    NotReady,
    /// The bytes cannot be had.
    #[error("{0}")]
    Serve(#[from] ServeError),
}

impl Failure {
    /// The one match.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::PathTooLong | Self::Path(PathError::TooLong) => StatusCode::URI_TOO_LONG,
            Self::Path(_)
            | Self::Escape(_)
            | Self::RequestBody
            | Self::Framing
            | Self::Host
            | Self::Target
            | Self::BodyEnd
            | Self::Body(_)
            | Self::Query(_) => StatusCode::BAD_REQUEST,
            Self::BodyLength => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyLate => StatusCode::REQUEST_TIMEOUT,
            Self::NotCheckedIn => StatusCode::CONFLICT,
            Self::Enrol(error) => enrolment_status(error),
            Self::OtherServer => StatusCode::MISDIRECTED_REQUEST,
            Self::Reach(error) => match **error {
                ReachError::Refused(_) => StatusCode::FORBIDDEN,
                ReachError::FirstByte(_) => StatusCode::GATEWAY_TIMEOUT,
                ReachError::Connect(_) | ReachError::Broken(_) | ReachError::Wrong(_) => {
                    StatusCode::BAD_GATEWAY
                }
            },
            Self::Refused(Refusal::Loop) => StatusCode::LOOP_DETECTED,
            Self::Method | Self::CallMethod(_) | Self::Trace | Self::TunnelVersion => {
                StatusCode::METHOD_NOT_ALLOWED
            }
            Self::NotFound | Self::Serve(ServeError::Absent) => StatusCode::NOT_FOUND,
            Self::Refused(Refusal::Credentials)
            | Self::Stranger(Refusal::Secret | Refusal::Unnamed, Door::Proxy) => {
                StatusCode::PROXY_AUTHENTICATION_REQUIRED
            }
            Self::Stranger(Refusal::Secret | Refusal::Unnamed, Door::Own) => StatusCode::UNAUTHORIZED,
            Self::Refused(_)
            | Self::Stranger(..)
            | Self::EnrolmentToken
            | Self::ClearText
            | Self::Serve(ServeError::Permit) => StatusCode::FORBIDDEN,
            Self::NotKept
            | Self::Unconfirmed(_)
            | Self::Unreached(Unreached::Silent, _)
            | Self::Serve(ServeError::Late) => StatusCode::GATEWAY_TIMEOUT,
            Self::Unreached(..) => StatusCode::BAD_GATEWAY,
            Self::Precondition => StatusCode::PRECONDITION_FAILED,
            Self::Range(_) => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Limited(Exceeded::Agent(_)) => StatusCode::TOO_MANY_REQUESTS,
            Self::Limited(Exceeded::Domain(_)) | Self::NotReady | Self::Serve(ServeError::Moved) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::SettingsFile | Self::Serve(ServeError::Store(_)) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Serve(ServeError::Fill(error)) => match &**error {
                FillError::Upstream(UpstreamError::FirstByte(_) | UpstreamError::Silence(_)) => {
                    StatusCode::GATEWAY_TIMEOUT
                }
                FillError::NotFound | FillError::Upstream(_) | FillError::Changed => StatusCode::BAD_GATEWAY,
                FillError::Store(_) => StatusCode::INSUFFICIENT_STORAGE,
                FillError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            },
        }
    }

    /// What the policy said, where it refuses.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) | Self::Stranger(refusal, _) => Some(refusal),
            _ => None,
        }
    }

    /// What it was refused by, as metrics and logs name it, where it was refused.
    pub fn refused_by(&self) -> Option<RefusedBy> {
        match self {
            Self::Limited(Exceeded::Agent(_)) => Some(RefusedBy::AgentLimit),
            Self::Limited(Exceeded::Domain(_)) => Some(RefusedBy::DomainLimit),
            failed => failed.refusal().map(Refusal::by),
        }
    }

    /// How the request is counted.
    pub fn outcome(&self) -> Outcome {
        match self.status() {
            StatusCode::NOT_FOUND => Outcome::NotFound,
            _ if self.refused_by().is_some() => Outcome::Refused,
            StatusCode::FORBIDDEN => Outcome::Refused,
            status if status.is_server_error() => Outcome::Failed,
            _ => Outcome::BadRequest,
        }
    }

    /// What the agent reads: what lies behind the relay stays in its log.
    fn text(&self) -> String {
        match self {
            Self::Serve(ServeError::Store(_)) => "the relay's store failed\n".to_owned(),
            Self::Serve(ServeError::Fill(error)) => match &**error {
                FillError::Store(_) => "the relay's store cannot take the file\n".to_owned(),
                _ => "the relay could not fetch the file from its upstream\n".to_owned(),
            },
            Self::Reach(_) | Self::Unconfirmed(_) => {
                "the relay could not get an answer from the server\n".to_owned()
            }
            // What the authority and the disk say of themselves is not for agents.
            Self::Enrol(_) if self.status() == StatusCode::INTERNAL_SERVER_ERROR => {
                "the relay could not do it: its log says why\n".to_owned()
            }
            Self::Unreached(how, _) => format!("the relay could not connect to it: {how}\n"),
            told => format!("{told}\n"),
        }
    }
}

fn enrolment_status(error: &EnrolError) -> StatusCode {
    match error {
        EnrolError::Token => StatusCode::FORBIDDEN,
        EnrolError::Change(ChangeError::Refused(refused)) => match refused {
            Refused::Enrolled(_) | Refused::AgentExists(_) | Refused::CertificateTaken(_) => {
                StatusCode::CONFLICT
            }
            _ => StatusCode::FORBIDDEN,
        },
        EnrolError::Sign(SignError::Request(_)) => StatusCode::BAD_REQUEST,
        EnrolError::Change(ChangeError::Busy | ChangeError::Outrun(_) | ChangeError::Stopped)
        | EnrolError::Stopped => StatusCode::SERVICE_UNAVAILABLE,
        EnrolError::Change(ChangeError::Disk(_))
        | EnrolError::Sign(_)
        | EnrolError::Authority(_)
        | EnrolError::Random(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The same as a problem, for programs that speak the API (RFC 9457).
pub fn problem(failed: &Failure) -> Response<Body> {
    let response = failure(failed);
    let status = response.status();
    let problem = serde_json::json!({
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": failed.text().trim_end(),
    });
    let mut response = response.map(|_| Body::text(problem.to_string()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}

/// The answer to a request that failed.
pub fn failure(failure: &Failure) -> Response<Body> {
    let status = failure.status();
    let mut response = Response::new(Body::text(failure.text()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let challenge = match status {
        StatusCode::UNAUTHORIZED => Some(WWW_AUTHENTICATE),
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => Some(PROXY_AUTHENTICATE),
        _ => None,
    };
    if let Some(name) = challenge {
        headers.insert(name, HeaderValue::from_static("Basic realm=\"forebay\""));
    }
    match failure {
        Failure::Range(size) => {
            let value =
                HeaderValue::from_str(&format!("bytes */{size}")).expect("digits are a header's value");
            headers.insert(CONTENT_RANGE, value);
        }
        Failure::Method | Failure::TunnelVersion => {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        Failure::CallMethod(methods) => {
            headers.insert(ALLOW, HeaderValue::from_static(methods));
        }
        Failure::Trace => {
            headers.insert(ALLOW, FORWARDED);
        }
        _ => {}
    }
    let later = matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT);
    match failure {
        Failure::Limited(exceeded) => {
            headers.insert(RETRY_AFTER, exceeded.retry_secs().into());
        }
        Failure::NotKept => {}
        _ if later => {
            headers.insert(RETRY_AFTER, RETRY_SECS);
        }
        _ => {}
    }
    let unread = matches!(failure, Failure::RequestBody | Failure::BodyLate);
    if unread || matches!(failure, Failure::Framing | Failure::Host | Failure::Method) {
        // Whatever follows on this connection may be the body: it is not read as a request.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
