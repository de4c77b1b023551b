//! `POST /api/v1/enrol` and `POST /api/v1/agent/key`: what an agent is known by from now on.
//!
//! Never told in clear text, unless the settings allow it or nobody is in between. Invariant: a secret is told once, and not logged.

use hyper::body::Incoming;
use hyper::{Response, StatusCode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::tally::Outcome;
use crate::config::settings::ClearText;
use crate::http::agents::answer::json;
use crate::http::agents::{Calling, Served};
use crate::http::body::Body;
use crate::http::respond::Failure;
use crate::net::listen::Transport;
use crate::policy::secret::Token;
use crate::policy::tree::id::AgentId;
use crate::relay::agents::enrol::{Given, Wanted};
use crate::state::record::Author;

/// What an agent says that enrols.
#[derive(Deserialize)]
struct Enrols {
    /// Of the enrolment.
    token: String,
    /// Its id; one is made for it where it has none.
    agent: Option<AgentId>,
    /// A signing request in PEM, where it wants a certificate.
    certificate_request: Option<String>,
}

/// What an agent says that wants to be known by something else.
#[derive(Deserialize)]
struct Renews {
    certificate_request: Option<String>,
}

/// What an agent is told, once.
#[derive(Serialize)]
struct Told<'t> {
    agent: &'t AgentId,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_until: Option<Timestamp>,
}

impl Calling<'_> {
    pub(super) async fn enrol(&self, body: Incoming) -> Served {
        self.check_transport()?;
        let says: Enrols = self.read(body).await?;
        let token = Token::parse(&says.token).ok_or(Failure::EnrolmentToken)?;
        let agent = says.agent.map_or_else(made_up, Ok)?;
        let author = self.author(&format!("enrolment {}", token.id))?;
        let now = self.moment().at;
        let given = self.live.agents.enrol(token, agent, wanted(says.certificate_request), author, now);
        Ok(told(StatusCode::CREATED, &agent, given.await?))
    }

    pub(super) async fn renew(&self, body: Incoming) -> Served {
        self.check_transport()?;
        let agent = self.known()?;
        let says: Renews = self.read(body).await?;
        let author = self.author(&format!("agent {}", agent.as_str()))?;
        let given = self.live.agents.renew(agent, wanted(says.certificate_request), author, self.moment().at);
        Ok(told(StatusCode::OK, &agent, given.await?))
    }

    fn check_transport(&self) -> Result<(), Failure> {
        let safe = self.agent.transport == Transport::Tls
            || self.from().is_loopback()
            || self.live.clear_text_enrolment == ClearText::Allow;
        if safe { Ok(()) } else { Err(Failure::ClearText) }
    }

    /// Who makes the change, as the audit log names it.
    fn author(&self, who: &str) -> Result<Author, Failure> {
        Author::parse(&format!("{who}, from {}", self.from())).map_err(|_| Failure::EnrolmentToken)
    }
}

fn wanted(request: Option<String>) -> Wanted {
    request.map_or(Wanted::Secret, Wanted::Certificate)
}

/// An id for an agent that has none.
fn made_up() -> Result<AgentId, Failure> {
    let id = format!("agent-{:032x}", rand::random::<u128>());
    AgentId::parse(&id).map_err(|error| Failure::Body(error.to_string()))
}

fn told(status: StatusCode, agent: &AgentId, given: Given) -> (Response<Body>, Outcome) {
    let (token, certificate, valid_until) = match given {
        Given::Token(token) => (Some(token), None, None),
        Given::Certificate(certificate, until) => (None, Some(certificate), Some(until)),
    };
    json(status, &Told { agent, token, certificate, valid_until })
}
