//! `GET /api/v1/agent/files` and `GET /api/v1/agent/files/NAME`: the settings files that hold for an agent (R5.6).
//!
//! Apart from components, and counted apart. Invariant: an agent is given the files of its own domain and those above alone.

use hyper::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderValue};
use hyper::{Method, Response, StatusCode};
use serde::Serialize;
use tracing::error;

use crate::base::blob::BlobId;
use crate::base::tally::Outcome;
use crate::http::agents::answer::json;
use crate::http::agents::{Calling, Served};
use crate::http::body::Body;
use crate::http::conditional::{Verdict, evaluate};
use crate::http::respond::Failure;
use crate::policy::caller::Who;
use crate::policy::decide::Refusal;
use crate::policy::sources::Kind;
use crate::policy::tree::Tree;
use crate::policy::tree::file::{FileName, SettingsFile};
use crate::policy::tree::id::DomainId;

/// A file, as it is told.
#[derive(Serialize)]
pub(super) struct Told {
    name: FileName,
    version: u32,
    bytes: u64,
    hash: BlobId,
}

/// The files that hold in a domain, as they are told.
pub(super) fn told(tree: &Tree, domain: Option<DomainId>) -> Vec<Told> {
    let told = |(name, file): (&FileName, &SettingsFile)| Told {
        name: name.clone(),
        version: file.version,
        bytes: file.content.bytes,
        hash: file.content.hash,
    };
    tree.files_for(domain).into_iter().map(told).collect()
}

impl Calling<'_> {
    pub(super) fn files(&self) -> Served {
        let domain = self.domain()?;
        self.agent.worker.tally.settings_files.one();
        Ok(json(StatusCode::OK, &told(self.live.agents.tree().tree(), domain)))
    }

    pub(super) async fn file(&self, name: &FileName) -> Served {
        let domain = self.domain()?;
        let file = self.live.agents.tree().tree().file(domain, name).copied().ok_or(Failure::NotFound)?;
        let etag = HeaderValue::from_str(&format!("\"{}\"", file.content.hash))
            .expect("digits are a header's value");
        self.agent.worker.tally.settings_files.one();
        let mut response = Response::new(Body::default());
        let verdict = evaluate(&self.request.headers, &etag, None);
        let headers = response.headers_mut();
        headers.insert(ETAG, etag);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        match verdict {
            Verdict::Failed => return Err(Failure::Precondition),
            Verdict::NotModified => {
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                return Ok((response, Outcome::NotModified));
            }
            Verdict::Proceed => {}
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(CONTENT_LENGTH, file.content.bytes.into());
        if self.request.method == Method::GET {
            let bytes = self.live.agents.content(file.content).await.map_err(|failed| {
                error!(%name, error = %failed, "a settings file cannot be read");
                Failure::SettingsFile
            })?;
            *response.body_mut() = Body::bytes(bytes.into());
        }
        Ok((response, Outcome::Hit))
    }

    /// The domain of whoever calls; `None` where the root alone holds for it.
    pub(super) fn domain(&self) -> Result<Option<DomainId>, Failure> {
        let Some(caller) = self.caller else { return Err(Refusal::Unnamed.into()) };
        if !caller.is_served(Kind::AgentSettings) {
            return Err(Refusal::NotServed(Kind::AgentSettings).into());
        }
        Ok(match caller.who() {
            Who::Agent(id) => self.live.agents.tree().tree().agent(&id).map(|agent| agent.domain),
            Who::Domain(domain) => Some(domain),
            Who::Address => None,
        })
    }
}
