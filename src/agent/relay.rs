//! What an agent calls of its relay: enrol, check in, report, settings (README, "What agents call").
//!
//! Invariant: what the agent is known by goes to the relay alone, and is in no error and no debug output.

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Response, StatusCode};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;
use url::Url;

use crate::agent::told::Told;
use crate::client::{AskError, Client, Question, Shows};
use crate::policy::check_in::Why;
use crate::policy::secret::Token;
use crate::policy::tree::id::{AgentId, AgentIdError};
use crate::policy::tree::value::Switch;

/// The relay of an agent.
#[derive(Debug)]
pub(super) struct Relay<'a> {
    pub(super) client: &'a Client,
    pub(super) base: &'a Url,
    pub(super) shows: Shows,
}

/// What the agent shows to the relay.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret {
    agent: AgentId,
    token: String,
}

/// Why a call failed.
#[derive(Debug, Error)]
pub enum CallError {
    /// There was no answer.
    #[error("the relay at {url}: {source}")]
    Ask {
        /// Where it is.
        url: Url,
        /// What went wrong.
        source: AskError,
    },
    /// It says no.
    #[error("the relay answered {}: {detail}", .status.as_u16())]
    Refused {
        /// The status.
        status: StatusCode,
        /// What it says.
        detail: String,
    },
    /// What it says is nothing that an agent knows.
    #[error("the relay's answer to {call} is not understood: {reason}")]
    Answer {
        /// What was called.
        call: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// What it gave to be known by is no token.
    #[error("what was given is no agent's token: one looks like ID~SECRET")]
    Token,
    /// Whose it is.
    #[error(transparent)]
    Agent(#[from] AgentIdError),
}

/// What an agent says when it checks in.
#[derive(Debug, Serialize)]
pub(super) struct ChecksIn<'a> {
    pub(super) why: Why,
    pub(super) roaming: Switch,
    pub(super) schedule_enabled: Switch,
    pub(super) versions: &'a BTreeMap<String, String>,
    pub(super) since: &'a BTreeMap<String, Timestamp>,
    pub(super) addresses: Vec<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) notice: Option<u64>,
}

/// What an agent says of an update.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) result: Went,
    pub(super) detail: String,
    pub(super) versions: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) since: BTreeMap<String, Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) notice: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<Url>,
    pub(super) bytes: u64,
    pub(super) secs: u64,
}

/// How an update went, as the relay is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Went {
    /// The agent has something new.
    Updated,
    /// There was nothing new.
    UpToDate,
    /// It failed.
    Failed,
}

#[derive(Serialize)]
struct Enrols<'a> {
    token: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'a AgentId>,
}

#[derive(Serialize)]
struct Renews<'a> {
    certificate_request: &'a str,
}

#[derive(Deserialize)]
struct Enrolled {
    token: Option<String>,
    certificate: Option<String>,
}

/// Bytes of an answer: sources of some trees, and 10,000 settings files.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// Characters of what a relay says that are shown.
const SHOWN_CHARS_MAX: usize = 200;

/// Addresses of documentation (RFC 5737, RFC 3849): the way to them is the way out.
const OUTSIDE: [&str; 2] = ["192.0.2.1:9", "[2001:db8::1]:9"];

impl Secret {
    /// Reads a token, as the relay gave it.
    pub(super) fn parse(text: &str) -> Result<Self, CallError> {
        let text = text.trim();
        let agent = AgentId::parse(Token::parse(text).ok_or(CallError::Token)?.id)?;
        Ok(Self { agent, token: text.to_owned() })
    }

    /// Whose it is.
    pub(super) fn agent(&self) -> AgentId {
        self.agent
    }

    /// The token's text.
    pub(super) fn text(&self) -> &str {
        &self.token
    }

    /// As headers hold it.
    pub(super) fn bearer(&self) -> HeaderValue {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.token))
            .expect("an id and digits are a header's value");
        value.set_sensitive(true);
        value
    }
}

/// Without the secret.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.agent, f)
    }
}

impl Relay<'_> {
    /// Joins a domain by the token of an enrolment.
    pub(super) async fn enrol(&self, token: &str, agent: Option<&AgentId>) -> Result<Secret, CallError> {
        const CALL: &str = "api/v1/enrol";
        let answer = self.post(CALL, &Enrols { token, agent }).await?;
        let enrolled: Enrolled = self.read(CALL, answer, &[StatusCode::CREATED]).await?;
        Secret::parse(&enrolled.token.ok_or(CallError::Token)?)
    }

    /// Has a certificate made for the key of a signing request, in the place of the one before; gives it in PEM.
    pub(super) async fn certificate(&self, request: &str) -> Result<String, CallError> {
        const CALL: &str = "api/v1/agent/key";
        let answer = self.post(CALL, &Renews { certificate_request: request }).await?;
        let enrolled: Enrolled = self.read(CALL, answer, &[StatusCode::OK]).await?;
        let missing = || CallError::Answer { call: CALL, reason: "there is no certificate in it".into() };
        enrolled.certificate.ok_or_else(missing)
    }

    /// Says why the agent wants to update. Where it may not, what is told says why.
    pub(super) async fn check_in(&self, says: &ChecksIn<'_>) -> Result<Told, CallError> {
        const CALL: &str = "api/v1/agent/check-in";
        let answer = self.post(CALL, says).await?;
        self.read(CALL, answer, &[StatusCode::OK, StatusCode::FORBIDDEN]).await
    }

    /// What holds now, without wanting to update; `None` where the relay is too old to say.
    pub(super) async fn settings(&self) -> Result<Option<Told>, CallError> {
        const CALL: &str = "api/v1/agent/settings";
        let answer = self.get(CALL).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        self.read(CALL, answer, &[StatusCode::OK]).await.map(Some)
    }

    /// Says how an update went.
    pub(super) async fn report(&self, report: &Report) -> Result<(), CallError> {
        let answer = self.post("api/v1/agent/report", report).await?;
        if answer.status().is_success() { Ok(()) } else { Err(self.refused(answer).await) }
    }

    /// Sends a GET of one of its calls, and waits for the head of the answer.
    pub(super) async fn get(&self, call: &str) -> Result<Response<Incoming>, CallError> {
        self.get_since(call, None).await
    }

    /// The same for events behind this one.
    pub(super) async fn get_since(
        &self,
        call: &str,
        after: Option<u64>,
    ) -> Result<Response<Incoming>, CallError> {
        let url = self.url(call);
        let mut question = Question::get(&url, None).by(&self.shows);
        if let Some(after) = after {
            question.headers.insert("last-event-id", after.into());
        }
        self.client.ask(&question).await.map_err(|source| CallError::Ask { url, source })
    }

    /// What an answer's body says, if its status is one of these.
    pub(super) async fn read<T: DeserializeOwned>(
        &self,
        call: &'static str,
        answer: Response<Incoming>,
        good: &[StatusCode],
    ) -> Result<T, CallError> {
        if !good.contains(&answer.status()) {
            return Err(self.refused(answer).await);
        }
        let status = answer.status();
        let body = self.body(answer).await?;
        serde_json::from_slice(&body).map_err(|error| {
            if status.is_success() {
                CallError::Answer { call, reason: error.to_string() }
            } else {
                refusal(status, &body)
            }
        })
    }

    /// What is said of a call that was refused.
    pub(super) async fn refused(&self, answer: Response<Incoming>) -> CallError {
        let status = answer.status();
        match self.body(answer).await {
            Ok(body) => refusal(status, &body),
            Err(error) => error,
        }
    }

    async fn body(&self, answer: Response<Incoming>) -> Result<Bytes, CallError> {
        let whole = self.client.whole(answer.into_body(), ANSWER_BYTES_MAX).await;
        whole.map_err(|source| CallError::Ask { url: self.base.clone(), source })
    }

    async fn post(&self, call: &str, says: &impl Serialize) -> Result<Response<Incoming>, CallError> {
        let url = self.url(call);
        let body = serde_json::to_vec(says).expect("what is said has names for keys").into();
        let mut question =
            Question { method: Method::POST, body, ..Question::get(&url, None) }.by(&self.shows);
        question.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.client.ask(&question).await.map_err(|source| CallError::Ask { url, source })
    }

    fn url(&self, call: &str) -> Url {
        self.base.join(call).expect("a call's path joins any base")
    }
}

/// This machine's addresses towards the outside, one of each family that it has. Nothing is sent.
pub(super) fn addresses() -> Vec<IpAddr> {
    let toward = |outside: &str| {
        let any = if outside.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect(outside).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    OUTSIDE.into_iter().filter_map(toward).collect()
}

/// A problem's detail (RFC 9457), or the text itself, cut and on one line.
fn refusal(status: StatusCode, body: &[u8]) -> CallError {
    let problem: Option<Value> = serde_json::from_slice(body).ok();
    let detail =
        problem.as_ref().and_then(|problem| problem["detail"].as_str().or(problem["denied"].as_str()));
    let text = detail.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    let plain = text.chars().map(|char| if char.is_control() { ' ' } else { char });
    CallError::Refused { status, detail: plain.take(SHOWN_CHARS_MAX).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_with_its_line_end_and_never_shown() {
        let text = format!("pc-1~{}\n", "0123456789abcdef".repeat(4));
        let secret = Secret::parse(&text).unwrap();
        assert_eq!((secret.agent().as_str(), secret.text()), ("pc-1", text.trim()));
        assert!(!format!("{secret:?} {:?}", secret.bearer()).contains("0123"));
        let said = Secret::parse("pc-1~hush").unwrap_err().to_string();
        assert!(!said.contains("hush"), "{said}");
    }

    #[test]
    fn a_refusal_says_what_the_problem_says_on_one_line() {
        let said = |body: &[u8]| refusal(StatusCode::FORBIDDEN, body).to_string();
        assert_eq!(said(br#"{"detail":"no such agent"}"#), "the relay answered 403: no such agent");
        assert_eq!(said(b"plain\ntext"), "the relay answered 403: plain text");
        assert!(said(&[b'a'; 5000]).len() < 300);
    }
}
