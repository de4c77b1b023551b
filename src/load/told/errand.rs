//! What an agent that is told does besides its update: it checks in before, and reports after.
//!
//! Invariant: an update that took no file is not reported as one that did, and one in which anything failed never as done.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use crate::load::told::events::Notice;

/// The errand of one update.
#[derive(Clone, Debug)]
pub struct Errand {
    notice: Notice,
    /// Where the agent updates from.
    source: Arc<str>,
    /// Bytes that came so far.
    bytes: u64,
    has_taken: bool,
    ended: Option<Duration>,
}

impl Errand {
    /// What follows from a notice.
    pub fn new(notice: Notice, source: Arc<str>) -> Self {
        Self { notice, source, bytes: 0, has_taken: false, ended: None }
    }

    /// Whether components are to be taken; fleets take no settings files.
    pub fn is_for_components(&self) -> bool {
        self.notice.components
    }

    /// So many bytes came, of a file of a component or of something else.
    pub fn received(&mut self, bytes: u64, is_file: bool) {
        self.bytes += bytes;
        self.has_taken |= is_file;
    }

    /// There is nothing more to take; the first time counts.
    pub fn end(&mut self, now: Duration) {
        self.ended.get_or_insert(now);
    }

    /// When there was nothing more to take.
    pub fn ended(&self) -> Option<Duration> {
        self.ended
    }

    /// What the agent says before it updates.
    pub fn check_in(&self) -> Bytes {
        json!({ "why": self.notice.why }).to_string().into()
    }

    /// What it says of the update that began at this moment.
    pub fn report(&self, has_failed: bool, began: Duration) -> Bytes {
        let result = match (has_failed, self.has_taken) {
            (true, _) => "failed",
            (false, true) => "updated",
            (false, false) => "up_to_date",
        };
        let secs = self.ended.unwrap_or(began).saturating_sub(began).as_secs();
        let report = json!({
            "result": result,
            "detail": "played by forebay load",
            "source": *self.source,
            "bytes": self.bytes,
            "secs": secs,
        });
        report.to_string().into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::load::agent::tests::menu;
    use crate::load::agent::{Agent, TRIES_MAX};
    use crate::load::figures::Kind;
    use crate::load::plan::samples::plan;
    use crate::load::told::events::Why;
    use crate::load::wanted::{Outcome, Taken, Then};

    #[test]
    fn who_is_told_checks_in_before_and_reports_after_also_when_it_failed_r9_4() {
        let plan = plan("full");
        let told = |components| {
            let notice = Notice { number: 4, why: Why::Schedule, components };
            Agent::told(1, notice, Duration::from_secs(5), "http://x/".into(), &plan)
        };
        let failed = || Taken::Failed { retry_after: None, status: Some(404) };
        let mut agent = told(true);
        let mut asked = Vec::new();
        let outcome = loop {
            let wanted = agent.wanted(&plan).unwrap();
            asked.push(wanted.kind);
            assert_eq!(agent.is_at_last(&plan), wanted.kind == Kind::Report);
            let taken = match wanted.kind {
                Kind::CheckIn => {
                    assert_eq!(wanted.says, r#"{"why":"schedule"}"#);
                    Taken::Whole
                }
                Kind::Manifest => Taken::Manifest(menu()),
                // The last of three fails.
                Kind::Package if asked.iter().filter(|kind| **kind == Kind::Package).count() == 3 => failed(),
                Kind::Report => {
                    let report: Value = serde_json::from_slice(&wanted.says).unwrap();
                    let figures = (&report["result"], &report["bytes"], &report["secs"]);
                    assert_eq!(figures, (&json!("failed"), &json!(70), &json!(3)));
                    Taken::Whole
                }
                _ => {
                    agent.received(if wanted.kind == Kind::Package { wanted.size.unwrap() } else { 0 });
                    Taken::Whole
                }
            };
            if let Then::Gone(outcome) = agent.took(taken, Duration::from_secs(8), &plan) {
                break outcome;
            }
        };
        let names = asked.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(" ");
        assert_eq!(names, "check_in manifest package signature package signature package report");
        assert_eq!((outcome, agent.ended()), (Outcome::Failed, Some(Duration::from_secs(8))));

        let mut settings_only = told(false);
        assert_eq!(settings_only.took(Taken::Whole, Duration::ZERO, &plan), Then::On);
        let report = settings_only.wanted(&plan).unwrap();
        assert!(report.kind == Kind::Report && report.says.starts_with(br#"{"bytes":0"#), "{report:?}");
    }

    #[test]
    fn a_relay_that_says_nothing_is_called_again_and_one_that_says_no_is_not() {
        let plan = plan("full");
        let notice = Notice { number: 1, why: Why::Notice, components: true };
        let told = || Agent::told(1, notice, Duration::ZERO, "http://x/".into(), &plan);
        let silent = || Taken::Failed { retry_after: None, status: None };
        let mut agent = told();
        let mut waited = Vec::new();
        while agent.took(silent(), Duration::ZERO, &plan) == Then::Waits {
            assert_eq!(agent.wanted(&plan).unwrap().kind, Kind::CheckIn);
            waited.push(agent.due());
        }
        assert_eq!(waited.len(), usize::from(TRIES_MAX));
        let bounds = waited.iter().zip([1, 2, 4, 8, 16]);
        assert!(
            bounds.into_iter().all(|(due, least)| (least..=2 * least).contains(&due.as_secs())),
            "{waited:?}"
        );
        let refused = Taken::Failed { retry_after: None, status: Some(403) };
        assert_eq!(told().took(refused, Duration::ZERO, &plan), Then::Gone(Outcome::Failed));
    }
}
