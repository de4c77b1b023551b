//! The last reports of agents: how their updates went, from where, how much and how long.
//!
//! In memory alone, and bounded. Never judges what an agent says. Invariant: reports are numbered in the order in which they were heard.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use url::Url;

use crate::base::tally::Went;
use crate::policy::tree::id::AgentId;

/// Reports that are kept: what a fleet of some thousand agents says after a release, at two kilobytes each.
const REPORTS_MAX: usize = 1000;

/// The last reports.
#[derive(Debug, Default)]
pub struct Reports {
    /// Guards the reports, the oldest first, and how many there were.
    kept: Mutex<(u64, VecDeque<Report>)>,
}

/// What an agent said of an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Counted from 1 since the start; 0 until it is kept.
    pub number: u64,
    /// When it was heard.
    pub at: Timestamp,
    /// From where.
    pub from: IpAddr,
    /// Whose it is.
    pub agent: AgentId,
    /// How the update went.
    pub went: Went,
    /// What the agent says of it in words.
    pub detail: Box<str>,
    /// Where it updated from, where it said so.
    pub source: Option<UsedSource>,
    /// The bytes that it took.
    pub bytes: Option<u64>,
    /// How long it took.
    pub secs: Option<u64>,
}

/// A URL that an agent updated from, without what could let anybody in: no user, no query, no token in its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedSource(Box<str>);

/// What a path begins with that holds a token.
const TOKEN: &str = "/t/";

impl Reports {
    /// Keeps a report, and lets the oldest go.
    pub fn note(&self, mut report: Report) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.0 += 1;
        report.number = kept.0;
        if kept.1.len() >= REPORTS_MAX {
            kept.1.pop_front();
        }
        kept.1.push_back(report);
    }

    /// The last ones that are like this, the last one first.
    pub fn last(&self, count_max: usize, is_like: impl Fn(&Report) -> bool) -> Vec<Report> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.1.iter().rev().filter(|report| is_like(report)).take(count_max).cloned().collect()
    }
}

impl UsedSource {
    /// Reads a URL of http or https.
    pub fn parse(text: &str) -> Option<Self> {
        let mut url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
        url.set_username("").and_then(|()| url.set_password(None)).ok()?;
        url.set_query(None);
        url.set_fragment(None);
        if let Some(rest) = url.path().strip_prefix(TOKEN) {
            let path = rest.split_once('/').map_or("", |(_, path)| path);
            let path = format!("{TOKEN}./{path}");
            // A lone dot would be resolved away: the path is told in text.
            url.set_path("");
            return Some(Self(format!("{}{path}", url.as_str().trim_end_matches('/')).into()));
        }
        Some(Self(url.as_str().into()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_reports_are_kept_with_their_numbers_and_no_more() {
        let reports = Reports::default();
        for count in 0..1500 {
            reports.note(Report {
                number: 0,
                at: Timestamp::UNIX_EPOCH,
                from: [192, 0, 2, 1].into(),
                agent: AgentId::parse(if count % 2 == 0 { "even" } else { "odd" }).unwrap(),
                went: Went::Updated,
                detail: "".into(),
                source: None,
                bytes: Some(count),
                secs: None,
            });
        }
        let last = reports.last(usize::MAX, |_| true);
        assert_eq!((last.len(), last[0].number, last[999].number), (REPORTS_MAX, 1500, 501));
        let even = reports.last(2, |report| report.agent.as_str() == "even");
        assert_eq!(even.iter().map(|report| report.number).collect::<Vec<_>>(), [1499, 1497]);
    }

    #[test]
    fn a_used_source_holds_nothing_that_lets_anybody_in() {
        let read = |text: &str| UsedSource::parse(text).map(|source| source.as_str().to_owned());
        for (text, expected) in [
            ("http://relay:8080/activeupdate/", "http://relay:8080/activeupdate/"),
            ("https://me:secret@relay/a?token=secret#secret", "https://relay/a"),
            ("http://relay/t/pc-1~secret/activeupdate/", "http://relay/t/./activeupdate/"),
            ("http://[::1]:80/t/pc-1~secret", "http://[::1]/t/./"),
        ] {
            assert_eq!(read(text).as_deref(), Some(expected));
        }
        for wrong in ["", "relay", "/activeupdate/", "ftp://relay/", "http://", "javascript:alert(1)"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
