//! Agents are let in, each by the token of one enrolment, before the run begins.
//!
//! Never keeps a token: whoever enrols agents does. Invariant: each token that was given out is handed on to be kept.

use std::cell::{Cell, RefCell};
use std::io;
use std::time::Duration;

use futures_util::future::join_all;
use http_body_util::{BodyExt as _, Limited};
use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::time::timeout;

use crate::load::answer::{broken, serves_on};
use crate::load::connection::Connection;
use crate::load::fault::{Failure, Fault};
use crate::load::request::{ANSWER_BYTES_MAX, ENROL, request};
use crate::load::target::Target;

/// Agents that are to be let in.
#[derive(Clone, Copy, Debug)]
pub struct Newcomers<'a> {
    /// What their ids begin with; a number follows.
    pub named: &'a str,
    /// How many they are.
    pub count: usize,
    /// How many of them enrol at once.
    pub at_once: usize,
    /// How long an answer may take.
    pub silence: Duration,
}

/// Why an agent was not let in.
#[derive(Debug, Error)]
pub enum EnrolError {
    /// There was no answer.
    #[error("no agent could be enrolled: {0}")]
    Ask(String),
    /// The relay says no.
    #[error("the relay let no agent in ({}): {detail}", .status.as_u16())]
    Refused {
        /// The status.
        status: StatusCode,
        /// What it says.
        detail: String,
    },
    /// The answer has no token.
    #[error("the relay let an agent in, and its answer has no token")]
    Token,
    /// The token could not be kept.
    #[error("an agent was enrolled, and its token could not be kept: {0}")]
    Keep(#[from] io::Error),
}

#[derive(Deserialize)]
struct Enrolled {
    token: Option<String>,
}

/// Has agents let in by an enrolment's token; each is given a token of its own, which `keep` keeps. The first error ends it, once those
/// who were being let in by then are.
pub async fn enrol(
    target: &Target,
    enrolment: &str,
    newcomers: Newcomers<'_>,
    keep: impl FnMut(&str) -> io::Result<()>,
) -> Result<(), EnrolError> {
    let (next, failed, keep) = (Cell::new(0), RefCell::new(None), RefCell::new(keep));
    let some = || async {
        let mut kept = None;
        while next.get() < newcomers.count && failed.borrow().is_none() {
            let number = next.replace(next.get() + 1);
            let let_in = enrol_one(target, enrolment, newcomers, number, &mut kept).await;
            let done = let_in.and_then(|token| Ok((keep.borrow_mut())(&token)?));
            if let Err(error) = done {
                failed.borrow_mut().get_or_insert(error);
            }
        }
    };
    join_all((0..newcomers.at_once.min(newcomers.count)).map(|_| some())).await;
    failed.into_inner().map_or(Ok(()), Err)
}

async fn enrol_one(
    target: &Target,
    enrolment: &str,
    newcomers: Newcomers<'_>,
    number: usize,
    kept: &mut Option<Connection>,
) -> Result<String, EnrolError> {
    let silence = newcomers.silence;
    let silent = |_| Failure::new(Fault::Silence, format!("{ENROL}: no answer within {silence:?}"));
    let says = json!({ "token": enrolment, "agent": format!("{}-{number}", newcomers.named) }).to_string();
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => {
            let agent = u32::try_from(number).unwrap_or(u32::MAX);
            let (to, from) = target.line(target.place(agent), agent);
            Connection::open(target, to, from, silence).await?
        }
    };
    let answer = timeout(silence, connection.send(request(target, None::<HeaderValue>, ENROL, says.into())));
    let answer = answer.await.map_err(silent)?.map_err(|error| broken(&error, ENROL))?;
    let (status, serves_on) = (answer.status(), serves_on(&answer));
    let body = timeout(silence, Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect());
    let body = body.await.map_err(silent)?.map_err(|error| EnrolError::Ask(error.to_string()))?.to_bytes();
    if status != StatusCode::CREATED {
        let problem: Option<Value> = serde_json::from_slice(&body).ok();
        let detail =
            problem.as_ref().and_then(|problem| problem["detail"].as_str()).unwrap_or("it does not say why");
        return Err(EnrolError::Refused { status, detail: detail.chars().take(SHOWN_CHARS_MAX).collect() });
    }
    *kept = serves_on.then_some(connection);
    let enrolled: Option<Enrolled> = serde_json::from_slice(&body).ok();
    enrolled.and_then(|enrolled| enrolled.token).ok_or(EnrolError::Token)
}

impl From<Failure> for EnrolError {
    fn from(failure: Failure) -> Self {
        Self::Ask(failure.what)
    }
}

/// Characters of what a relay says that are shown.
const SHOWN_CHARS_MAX: usize = 200;
