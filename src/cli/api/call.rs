//! Calls of the administrators' API as commands make them: the API's own types in and out, problems told as a person reads them.
//!
//! Never decides, and keeps nothing. Invariant: agents get a wider scope by a command only where somebody has agreed to how many bytes
//! that means (R6.5).

use std::time::Duration;

use bytes::Bytes;
use hyper::http::response::Parts;
use hyper::{Method, Request, StatusCode, header};
use indicatif::{HumanBytes, HumanCount};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::admin::model::change::Made;
use crate::admin::model::page::Page;
use crate::admin::model::problem::{ProblemDetails, Widening};
use crate::cli::Failed;
use crate::cli::agree::Agreement;
use crate::cli::client::{Asked, json, refused, send};
use crate::cli::which::Which;

/// How long the relay may take: a transaction of 100,000 agents takes some seconds on a slow machine.
const WITHIN: Duration = Duration::from_mins(2);

/// Where all calls are.
const BASE: &str = "/api/v1/";

/// What of a name is written otherwise in a path.
const NAME_ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The parameter that most lists go on by.
pub const CURSOR: &str = "cursor";

/// Items of a page: as many as the API gives.
const PAGE_ITEMS: usize = 1000;

/// A relay that is asked.
#[derive(Debug)]
pub struct Api {
    relay: Asked,
    runtime: Runtime,
}

/// Why a call gave nothing.
#[derive(Debug)]
pub enum CallError {
    /// The relay says no.
    Problem(Box<ProblemDetails>),
    /// It could not be asked.
    Failed(Failed),
}

/// What is sent.
enum Body<'b, B> {
    Nothing,
    Json(&'b B),
    Bytes(Vec<u8>),
}

/// Nothing, where a body could be.
const NO_BODY: Body<'static, ()> = Body::Nothing;

impl Api {
    /// The relay that runs, here or elsewhere.
    pub fn find(which: &Which) -> Result<Self, Failed> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { relay: which.find()?, runtime })
    }

    /// How it is reached.
    pub fn relay(&self) -> &Asked {
        &self.relay
    }

    /// What waits for it.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Asks for something.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failed> {
        Ok(serde_json::from_value(self.value(path)?)?)
    }

    /// The same, as it was answered.
    pub fn value(&self, path: &str) -> Result<Value, Failed> {
        json(&self.bytes(path)?)
    }

    /// The same, of what is no JSON.
    pub fn bytes(&self, path: &str) -> Result<Bytes, Failed> {
        Ok(self.exchange(Method::GET, path, None, &NO_BODY)?.1)
    }

    /// Asks for something that is to be changed; gives its entity tag too.
    pub fn tagged<T: DeserializeOwned>(&self, path: &str) -> Result<(T, String), Failed> {
        let (head, body) = self.exchange(Method::GET, path, None, &NO_BODY)?;
        let tag = head.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok()).unwrap_or_default();
        Ok((serde_json::from_slice(&body)?, tag.to_owned()))
    }

    /// Asks for a list, page after page, until there are so many items or no more. `go_on` is the parameter that takes what a page says
    /// to go on with.
    pub fn list(&self, path: &str, go_on: &str, items_max: usize) -> Result<Page<Value>, Failed> {
        let mut all: Page<Value> = Page { items: Vec::new(), next: None, total: None };
        let between = if path.contains('?') { '&' } else { '?' };
        loop {
            let limit = PAGE_ITEMS.min(items_max - all.items.len());
            let from = all.next.take().map(|next| format!("&{go_on}={}", escaped(&next))).unwrap_or_default();
            let page: Page<Value> = self.get(&format!("{path}{between}limit={limit}{from}"))?;
            all.items.extend(page.items);
            (all.next, all.total) = (page.next, page.total);
            if all.next.is_none() || all.items.len() >= items_max {
                return Ok(all);
            }
        }
    }

    /// The same, all of it.
    pub fn all<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, Failed> {
        items(self.list(path, CURSOR, usize::MAX)?.items)
    }

    /// Sends something.
    pub fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        tag: Option<&str>,
        body: &impl Serialize,
    ) -> Result<T, CallError> {
        answer(&self.exchange(method, path, tag, &Body::Json(body))?.1)
    }

    /// Sends the bytes of a file.
    pub fn put(&self, path: &str, bytes: Vec<u8>) -> Result<Made, CallError> {
        answer(&self.exchange::<()>(Method::PUT, path, None, &Body::Bytes(bytes))?.1)
    }

    /// Takes something away.
    pub fn delete<T: DeserializeOwned>(&self, path: &str, tag: Option<&str>) -> Result<T, CallError> {
        answer(&self.exchange(Method::DELETE, path, tag, &NO_BODY)?.1)
    }

    /// Sends a change that may widen scopes: where it does, somebody is told what that means and asked, and it is sent again.
    pub fn change<B: Serialize>(
        &self,
        method: &Method,
        path: &str,
        agreement: Agreement,
        body: impl Fn(Option<String>) -> B,
    ) -> Result<Made, Failed> {
        let mut confirm = None;
        loop {
            let problem = match self.send(method.clone(), path, None, &body(confirm.take())) {
                Ok(made) => return Ok(made),
                Err(CallError::Failed(failed)) => return Err(failed),
                Err(CallError::Problem(problem)) => problem,
            };
            let Some(Widening { agents, bytes, total_bytes, confirm: told }) = &problem.because.widening
            else {
                return Err(CallError::Problem(problem).into());
            };
            let what = format!(
                "{} would get the scope 'all': {} of programs and hot fixes each, {} in all",
                if *agents == 1 { "1 agent".to_owned() } else { format!("{} agents", HumanCount(*agents)) },
                HumanBytes(*bytes),
                HumanBytes(*total_bytes)
            );
            // The figures may change between the two: then there is something else to agree to.
            agreement.to(&what, "Have it done?")?;
            confirm = Some(told.clone());
        }
    }

    fn exchange<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        tag: Option<&str>,
        body: &Body<'_, B>,
    ) -> Result<(Parts, Bytes), CallError> {
        let failed = |failed: Failed| CallError::Failed(failed);
        let (kind, bytes) = match body {
            Body::Nothing => (None, Vec::new()),
            Body::Json(body) => {
                (Some("application/json"), serde_json::to_vec(body).map_err(|error| failed(error.into()))?)
            }
            Body::Bytes(bytes) => (Some("application/octet-stream"), bytes.clone()),
        };
        let mut request = Request::builder().method(method).uri(format!("{BASE}{path}"));
        if let Some(kind) = kind {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        if let Some(tag) = tag {
            request = request.header(header::IF_MATCH, tag);
        }
        let request = request.body(Bytes::from(bytes)).map_err(|error| failed(error.into()))?;
        let (head, body) = self.runtime.block_on(send(&self.relay, request, WITHIN)).map_err(failed)?;
        if head.status.is_success() {
            return Ok((head, body));
        }
        match serde_json::from_slice(&body) {
            Ok(problem) => Err(CallError::Problem(Box::new(problem))),
            Err(_) => {
                Err(failed(Failed::new(format!("the relay's answer is {} and no problem", head.status))))
            }
        }
    }
}

impl From<CallError> for Failed {
    fn from(error: CallError) -> Self {
        let problem = match error {
            CallError::Failed(failed) => return failed,
            CallError::Problem(problem) => problem,
        };
        refused(&serde_json::to_value(&*problem).unwrap_or_default())
    }
}

impl CallError {
    /// Whether somebody was quicker.
    pub fn is_outrun(&self) -> bool {
        matches!(self, Self::Problem(problem) if problem.status == StatusCode::PRECONDITION_FAILED)
    }
}

/// A name as it stands in a path or a query.
pub fn escaped(name: &str) -> String {
    utf8_percent_encode(name, NAME_ESCAPED).to_string()
}

/// A path with what is asked.
pub fn asking(path: &str, asked: &impl Serialize) -> Result<String, Failed> {
    let query = serde_urlencoded::to_string(asked)?;
    Ok(if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") })
}

/// The items of a list as what they are.
pub fn items<T: DeserializeOwned>(items: Vec<Value>) -> Result<Vec<T>, Failed> {
    Ok(items.into_iter().map(serde_json::from_value).collect::<Result<_, _>>()?)
}

fn answer<T: DeserializeOwned>(body: &[u8]) -> Result<T, CallError> {
    let body = if body.is_empty() { b"null" } else { body };
    serde_json::from_slice(body).map_err(|error| CallError::Failed(error.into()))
}
