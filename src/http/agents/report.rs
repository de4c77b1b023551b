//! `POST /api/v1/agent/report`: how an update went.

use hyper::body::Incoming;
use serde::Deserialize;

use crate::base::tally::Went;
use crate::http::agents::answer::nothing;
use crate::http::agents::check_in::checked;
use crate::http::agents::{Calling, Served};
use crate::http::respond::Failure;
use crate::relay::agents::check_in::{Reported, Versions};

/// What an agent says that reports.
#[derive(Deserialize)]
struct Reports {
    /// How its update went.
    result: Went,
    /// In words, for administrators.
    #[serde(default)]
    detail: String,
    /// What it has now, where that changed.
    versions: Option<Versions>,
}

/// Characters of a report's words.
const DETAIL_CHARS_MAX: usize = 256;

impl Calling<'_> {
    pub(super) async fn report(&self, body: Incoming) -> Served {
        let agent = self.known()?;
        let says: Reports = self.read(body).await?;
        if let Some(versions) = &says.versions {
            checked(versions)?;
        }
        if says.detail.chars().count() > DETAIL_CHARS_MAX || says.detail.chars().any(char::is_control) {
            let reason =
                format!("detail: at most {DETAIL_CHARS_MAX} characters, none of them a control character");
            return Err(Failure::Body(reason));
        }
        let reported = Reported { at: self.moment().at, went: says.result, detail: says.detail.into() };
        self.live.agents.report(&agent, reported, says.versions).ok_or(Failure::NotCheckedIn)?;
        self.agent.worker.streams.reported(agent);
        self.agent.worker.tally.reported(says.result);
        Ok(nothing())
    }
}
