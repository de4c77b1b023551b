//! `POST /api/v1/agent/report`: how an update went.

use hyper::body::Incoming;
use serde::Deserialize;

use crate::base::tally::Went;
use crate::http::agents::answer::nothing;
use crate::http::agents::check_in::checked;
use crate::http::agents::{Calling, Served};
use crate::http::respond::Failure;
use crate::relay::agents::check_in::{Since, Versions};
use crate::relay::agents::reports::{Report, UsedSource};

/// What an agent says that reports.
#[derive(Deserialize)]
struct Reports {
    /// How its update went.
    result: Went,
    /// In words, for administrators.
    #[serde(default)]
    detail: String,
    /// The URL that it updated from.
    source: Option<String>,
    /// The bytes that it took.
    bytes: Option<u64>,
    /// How long it took.
    secs: Option<u64>,
    /// What it has now, where that changed.
    versions: Option<Versions>,
    /// Since when, of as many of them as it knows.
    #[serde(default)]
    since: Since,
}

/// Characters of a report's words.
const DETAIL_CHARS_MAX: usize = 256;

/// Bytes of a source's URL.
const SOURCE_BYTES_MAX: usize = 1024;

/// Bytes of an update: more than any tree holds.
const BYTES_MAX: u64 = 1 << 40;

/// The longest update: a week.
const SECS_MAX: u64 = 7 * 24 * 60 * 60;

impl Calling<'_> {
    pub(super) async fn report(&self, body: Incoming) -> Served {
        let agent = self.known()?;
        let says: Reports = self.read(body).await?;
        // Who names no versions has since when for none.
        let names_versions = says.versions.is_some();
        let has = checked(says.versions.unwrap_or_default(), says.since)?;
        if says.detail.chars().count() > DETAIL_CHARS_MAX || says.detail.chars().any(char::is_control) {
            let reason =
                format!("detail: at most {DETAIL_CHARS_MAX} characters, none of them a control character");
            return Err(Failure::Body(reason));
        }
        let source = says.source.as_deref().map(source).transpose()?;
        bounded("bytes", says.bytes, BYTES_MAX)?;
        bounded("secs", says.secs, SECS_MAX)?;
        let moment = self.moment();
        let report = Report {
            number: 0,
            at: moment.at,
            from: moment.from,
            agent,
            went: says.result,
            detail: says.detail.into(),
            source,
            bytes: says.bytes,
            secs: says.secs,
        };
        self.live.agents.report(report, names_versions.then_some(has)).ok_or(Failure::NotCheckedIn)?;
        self.agent.worker.streams.reported(agent);
        self.agent.worker.tally.reported(says.result);
        Ok(nothing())
    }
}

fn source(text: &str) -> Result<UsedSource, Failure> {
    let source = Some(text).filter(|text| text.len() <= SOURCE_BYTES_MAX).and_then(UsedSource::parse);
    let reason = || format!("source: a URL of http or https, of at most {SOURCE_BYTES_MAX} bytes");
    source.ok_or_else(|| Failure::Body(reason()))
}

fn bounded(name: &str, value: Option<u64>, max: u64) -> Result<(), Failure> {
    match value {
        Some(value) if value > max => Err(Failure::Body(format!("{name}: at most {max}"))),
        _ => Ok(()),
    }
}
