//! Speaking to the relay that a command is for: one request, and what comes of it in words for who typed it.
//!
//! Invariant: a token is sent to that relay alone, whatever it answers, and never shown.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::http::response::Parts;
use hyper::{Method, Request, Response, StatusCode};
use rustls::CertificateError;
use serde_json::Value;
use url::Url;

use crate::app::Running;
use crate::cli::Failed;
use crate::client::tls::Trust;
use crate::client::{AskError, Client, Question, Shows};
use crate::config::settings::CertificateFiles;
use crate::net::certificate::Certificate;

/// How long the relay may take to be connected to, and to answer what is small.
const ANSWER: Duration = Duration::from_secs(10);

/// How long the relay may say nothing: as long as the longest call takes.
const SILENCE: Duration = Duration::from_mins(5);

/// The largest answer that is read, in bytes: an agent tree of ten times what one change may name.
const ANSWER_BYTES_MAX: u64 = 512 << 20;

/// Characters of where a redirect leads that are shown.
const SHOWN_CHARS_MAX: usize = 200;

/// How commands name themselves.
const NAME: &str = concat!("forebay/", env!("CARGO_PKG_VERSION"));

/// A relay that runs, to be asked by somebody.
#[derive(Debug)]
pub struct Asked {
    /// The origin of its admin listener.
    url: Url,
    /// Where agents of this machine reach it; nothing where it is elsewhere.
    pub listen: Vec<SocketAddr>,
    client: Client,
    /// What is shown to it; nothing where there is no token.
    token: Option<HeaderValue>,
}

impl Asked {
    /// The relay that says this of itself, on this machine.
    pub(super) fn here(running: &Running, token: Option<HeaderValue>) -> Result<Self, Failed> {
        let address = running.admin.first().ok_or_else(|| {
            Failed::new("the relay has no admin listener in clear text: name the one with TLS with --url")
        })?;
        let url = Url::parse(&format!("http://{address}/"))?;
        Ok(Self { url, listen: running.listen.clone(), client: client(&Trust::Nobody, None)?, token })
    }

    /// The relay whose admin listener has this origin.
    pub(super) fn at(url: Url, client: Client, token: Option<HeaderValue>) -> Self {
        Self { url, listen: Vec::new(), client, token }
    }

    /// The next bytes of an answer; `None` at its end.
    pub async fn piece(&self, body: &mut Incoming) -> Result<Option<Bytes>, Failed> {
        self.client.piece(body).await.map_err(|error| self.unanswered(&error))
    }

    fn failed(&self, what: impl std::fmt::Display) -> Failed {
        Failed::new(format!("the relay at {}: {what}", self.url.origin().ascii_serialization()))
    }

    fn unanswered(&self, error: &AskError) -> Failed {
        match hint(error) {
            Some(hint) => self.failed(format_args!("{error}: {hint}")),
            None => self.failed(error),
        }
    }
}

/// A client of commands.
pub(super) fn client(trust: &Trust, own: Option<&CertificateFiles>) -> Result<Client, Failed> {
    let client = Client::new(NAME, trust, ANSWER, SILENCE)?;
    if let Some(files) = own {
        let own = Certificate::load(files, &rustls::crypto::ring::default_provider())?;
        client.set_certificate((*own.key).clone())?;
    }
    Ok(client)
}

/// Makes one request to the relay's admin listener and reads its JSON.
pub async fn ask(relay: &Asked, method: Method, path: &str) -> Result<Value, Failed> {
    let request = Request::builder().method(method).uri(path).body(Bytes::new())?;
    let (head, body) = send(relay, request, ANSWER).await?;
    let json = json(&body)?;
    if head.status.is_success() { Ok(json) } else { Err(refused(&json)) }
}

/// Where a token comes from.
pub(super) const HOW: &str = "as the first start prints it and 'forebay admin-token make' does; name it with --token-file or FOREBAY_TOKEN";

/// The reason that a problem gives.
pub fn refused(problem: &Value) -> Failed {
    let detail = problem["detail"].as_str().unwrap_or("the relay refused");
    if problem["status"] == StatusCode::UNAUTHORIZED.as_u16() {
        return Failed::new(format!("the relay wants a token, {HOW}: {detail}"));
    }
    Failed::new(detail)
}

/// An answer's body as JSON.
pub fn json(body: &[u8]) -> Result<Value, Failed> {
    serde_json::from_slice(body)
        .map_err(|error| Failed::new(format!("the relay's answer is no JSON: {error}")))
}

/// Sends a request, whose URI is a path, to the relay's admin listener and reads the answer, which is a problem if it is not what was
/// asked for.
pub async fn send(
    relay: &Asked,
    request: Request<Bytes>,
    within: Duration,
) -> Result<(Parts, Bytes), Failed> {
    tokio::time::timeout(within, exchange(relay, request))
        .await
        .map_err(|_| relay.failed(format_args!("no answer within {} s", within.as_secs())))?
}

async fn exchange(relay: &Asked, request: Request<Bytes>) -> Result<(Parts, Bytes), Failed> {
    let (head, body) = open(relay, request).await?.into_parts();
    let body = relay.client.whole(body, ANSWER_BYTES_MAX).await;
    Ok((head, body.map_err(|error| relay.unanswered(&error))?))
}

/// The same, as far as the answer's head: its body comes for as long as both sides want.
pub async fn open(relay: &Asked, request: Request<Bytes>) -> Result<Response<Incoming>, Failed> {
    let (head, body) = request.into_parts();
    let mut url = relay.url.clone();
    url.set_path(head.uri.path());
    url.set_query(head.uri.query());
    let mut headers = head.headers;
    headers.extend(relay.token.clone().map(|token| (header::AUTHORIZATION, token)));
    let question =
        Question { method: head.method, url: &url, through: None, shows: Shows::Certificate, headers, body };
    let answer = relay.client.ask(&question).await;
    let answer = answer.map_err(|error| relay.unanswered(&error))?;
    let status = answer.status();
    let field = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
    if status.is_redirection() {
        let to: String =
            field(header::LOCATION).unwrap_or("elsewhere").chars().take(SHOWN_CHARS_MAX).collect();
        return Err(relay.failed(format_args!(
            "it answers {status} and leads to {to}: that is not followed, for your token is this relay's alone"
        )));
    }
    if !status.is_success() && field(header::CONTENT_TYPE) != Some(PROBLEM) {
        return Err(relay.failed(format_args!(
            "it answers {status} and no problem of a relay's: is that where its administrators connect?"
        )));
    }
    Ok(answer)
}

/// How a relay says what is wrong (RFC 9457).
const PROBLEM: &str = "application/problem+json";

/// What is to be done where TLS failed.
fn hint(error: &AskError) -> Option<&'static str> {
    let AskError::Tls(error) = error else { return None };
    match error.get_ref()?.downcast_ref()? {
        // An authority that is made again under its old name has another key.
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => Some(
            "no authority that is believed here vouches for it; --ca names a file with the one that does",
        ),
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => Some("--url must name the relay as its certificate does"),
        rustls::Error::InvalidMessage(_) => Some("what is there may speak no TLS"),
        _ => None,
    }
}
