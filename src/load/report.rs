//! A run in words: its verdict, one JSON object for programs, a table for people (`table`).
//!
//! Never prints. Invariant: both say the same figures, and each sum stands beside its parts.

use std::time::Duration;

use indicatif::HumanCount;
use serde_json::{Map, Value, json};

use crate::load::arrival::Arrival;
use crate::load::budget::{Budget, End, Verdict};
use crate::load::fault::Fault;
use crate::load::figures::Kind;
use crate::load::fleet::Run;
use crate::load::latency::Latency;
use crate::load::plan::Plan;
use crate::load::table::{shown, table};
use crate::load::told::figures::Told;

/// What is reported.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// The base URL.
    pub url: &'a str,
    /// What was played.
    pub plan: &'a Plan,
    /// How many errors it might have.
    pub budget: Budget,
    /// What came of it.
    pub run: &'a Run,
    /// What the relay took over its upstream line meanwhile, where it was asked.
    pub upstream: Option<UpstreamLine>,
    /// The most memory that this process had, in bytes, where the system tells.
    pub memory_peak_bytes: Option<u64>,
}

/// What a relay took from its upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamLine {
    /// Bytes of bodies.
    pub bytes: u64,
    /// Requests.
    pub requests: u64,
}

impl UpstreamLine {
    /// What came after an earlier moment.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(before.bytes),
            requests: self.requests.saturating_sub(before.requests),
        }
    }
}

impl Report<'_> {
    /// The verdict.
    pub fn verdict(&self) -> Verdict {
        let Run { figures, end, .. } = self.run;
        self.budget.judge(figures.errors(), figures.requests(), figures.whole(), *end)
    }

    /// Why the run did not pass; `None` where it did.
    pub fn reason(&self) -> Option<String> {
        let Run { figures, left, .. } = self.run;
        match self.verdict() {
            Verdict::Passed => None,
            Verdict::Errors => Some(format!(
                "{} errors in {} requests are more than the error budget of {}",
                HumanCount(figures.errors()),
                HumanCount(figures.requests()),
                self.budget
            )),
            Verdict::Nothing => Some("no request had a whole answer".into()),
            Verdict::Early(end) => Some(format!(
                "{}: {} agents were left, {} of them waiting, the longest for {}{}",
                if end == End::TimeOver { "the time was over" } else { "stopped" },
                HumanCount(left.agents),
                HumanCount(left.due),
                shown(left.longest),
                self.told().map_or_else(String::new, |told| {
                    format!(", and {} were never told", HumanCount(told.never(self.plan)))
                }),
            )),
        }
    }

    /// What was seen of being told, where agents were to be.
    pub(super) fn told(&self) -> Option<&Told> {
        (self.plan.arrival == Arrival::Told).then_some(&self.run.figures.told)
    }

    /// The table.
    pub fn table(&self) -> String {
        table(self)
    }

    /// The JSON object. Times are in seconds.
    pub fn value(&self) -> Value {
        let Run { figures, left, end, took } = self.run;
        let kinds = Kind::ALL.iter().zip(&figures.kinds).map(|(kind, of_kind)| {
            let value = json!({
                "whole": of_kind.whole,
                "dropped": of_kind.dropped,
                "failed": of_kind.failed,
                "bytes": of_kind.bytes,
            });
            (kind.name().to_owned(), value)
        });
        let by_kind =
            Fault::ALL.map(|fault| (fault.name().to_owned(), figures.faults[fault as usize].into()));
        let firsts = Fault::ALL.into_iter().filter_map(|fault| {
            let first = figures.first_faults[fault as usize].as_deref()?;
            Some((fault.name().to_owned(), first.into()))
        });
        let statuses = figures.statuses.iter().map(|(status, count)| (status.to_string(), (*count).into()));
        let latencies = self.latencies().into_iter().map(|(name, latency)| (name, latency_value(&latency)));
        json!({
            "url": self.url,
            "seed": self.plan.seed,
            "end": end.name(),
            "passed": self.verdict() == Verdict::Passed,
            "reason": self.reason(),
            "took_secs": took.as_secs_f64(),
            "agents": {
                "planned": self.plan.agents,
                "updated": figures.agents.updated,
                "gave_up": figures.agents.gave_up,
                "failed": figures.agents.failed,
                "left": left.agents,
                "left_waiting": left.due,
                "left_longest_secs": left.longest.as_secs_f64(),
            },
            "told": self.told().map(|told| told.notices_value(self.plan)),
            "streams": self.told().map(|told| told.streams_value(self.plan)),
            "requests": {
                "total": figures.requests(),
                "per_sec": rate(figures.requests(), *took),
                "whole": figures.whole(),
                "cut": figures.cut,
                "ipv4": figures.families[0],
                "ipv6": figures.families[1],
                "by_kind": kinds.collect::<Map<_, _>>(),
            },
            "bytes": { "total": figures.bytes(), "per_sec": rate(figures.bytes(), *took) },
            "connections": {
                "at_most": self.plan.connections,
                "made": figures.connections,
                "lost": figures.connections_lost,
            },
            "latency_secs": latencies.collect::<Map<_, _>>(),
            "errors": {
                "total": figures.errors(),
                "at_most": self.budget.to_string(),
                "by_kind": by_kind.into_iter().collect::<Map<_, _>>(),
                "by_status": statuses.collect::<Map<_, _>>(),
                "first": firsts.collect::<Map<_, _>>(),
            },
            "upstream": self.upstream.map(|line| json!({ "bytes": line.bytes, "requests": line.requests })),
            "uncompared": figures.uncompared,
            "memory_peak_bytes": self.memory_peak_bytes,
        })
    }

    /// The histograms by their names, in the order in which they are shown.
    pub(super) fn latencies(&self) -> Vec<(String, Latency)> {
        let figures = &self.run.figures;
        let mut all = vec![
            ("first_byte".to_owned(), figures.over_kinds(|of_kind| &of_kind.first_byte)),
            ("last_byte".to_owned(), figures.over_kinds(|of_kind| &of_kind.last_byte)),
            ("last_byte_from_send".to_owned(), figures.from_send.clone()),
        ];
        for (kind, of_kind) in Kind::ALL.iter().zip(&figures.kinds) {
            all.push((format!("{}_first_byte", kind.name()), of_kind.first_byte.clone()));
            all.push((format!("{}_last_byte", kind.name()), of_kind.last_byte.clone()));
        }
        all.push(("whole_update".to_owned(), figures.updates.clone()));
        all
    }
}

fn latency_value(latency: &Latency) -> Value {
    let percentiles = PERCENTS.map(|(name, percent)| (name, latency.at_percent(percent)));
    let times = percentiles.into_iter().chain([("max", latency.max())]);
    let mut value: Map<_, _> =
        times.map(|(name, time)| (name.to_owned(), time.as_secs_f64().into())).collect();
    value.insert("count".into(), latency.count().into());
    value.into()
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run stay far below 2^52")]
pub(super) fn rate(count: u64, took: Duration) -> f64 {
    if took.is_zero() { 0.0 } else { count as f64 / took.as_secs_f64() }
}

/// The percentiles that are told.
pub(super) const PERCENTS: [(&str, f64); 4] = [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99_9", 99.9)];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::fault::Failure;
    use crate::load::figures::{Figures, Sample};
    use crate::load::plan::samples::plan;
    use crate::load::schedule::Left;
    use crate::load::wanted::Outcome;

    fn run(errors: u64, end: End) -> Run {
        let mut figures = Figures::default();
        let sample = |kind| Sample {
            kind,
            due: Duration::ZERO,
            begun: Duration::from_millis(1),
            first_byte: Some(Duration::from_millis(2)),
            ended: Duration::from_millis(3),
            bytes: 1000,
            is_ipv6: true,
        };
        for kind in Kind::ALL {
            figures.note_whole(&sample(kind));
        }
        for _ in 0..errors {
            figures.note_failed(&sample(Kind::Package), &Failure::new(Fault::Bytes, "p/a.zip: \u{1b}[31m"));
        }
        figures.note_update(Outcome::Updated, Duration::from_secs(3));
        Run { figures, left: Left::default(), end, took: Duration::from_secs(2) }
    }

    #[test]
    fn the_json_adds_up_and_says_the_verdict_r12_1() {
        let (plan, run) = (plan("full"), run(2, End::Played));
        let report = Report {
            url: "http://x/",
            plan: &plan,
            budget: Budget::Count(1),
            run: &run,
            upstream: None,
            memory_peak_bytes: None,
        };
        let value = report.value();
        assert_eq!((&value["requests"]["total"], &value["bytes"]["total"]), (&json!(9), &json!(9000)));
        assert_eq!(value["requests"]["by_kind"]["package"]["failed"], 2);
        assert_eq!(value["errors"]["by_kind"]["wrong-bytes"], 2);
        assert_eq!((&value["passed"], &value["requests"]["ipv6"]), (&json!(false), &json!(9)));
        assert_eq!(value["requests"]["per_sec"], 4.5);
        assert_eq!(value["latency_secs"]["last_byte"]["count"], 6, "events are apart");
        assert_eq!((&value["told"], &value["streams"]), (&json!(null), &json!(null)));
        let p50 = value["latency_secs"]["last_byte_from_send"]["p50"].as_f64().unwrap();
        assert!((p50 - 0.002).abs() < 1e-5, "{p50}");
        assert_eq!(report.reason().unwrap(), "2 errors in 9 requests are more than the error budget of 1");
    }

    #[test]
    fn the_table_has_a_row_for_each_kind_of_answer_and_of_error() {
        let (plan, run) = (plan("full"), run(3, End::Stopped));
        let report = Report {
            url: "http://x/",
            plan: &plan,
            budget: Budget::Count(9),
            run: &run,
            upstream: Some(UpstreamLine { bytes: 1024, requests: 2 }),
            memory_peak_bytes: None,
        };
        let table = report.table();
        for words in [
            "  manifest ",
            "  signature ",
            "  whole update ",
            "upstream     1.00 KiB in 2 requests",
            "  wrong-bytes           3  first: p/a.zip",
        ] {
            assert!(table.contains(words), "{words}: {table}");
        }
        assert!(!table.contains("refused") && !table.contains("streams"), "{table}");
        assert!(report.reason().unwrap().starts_with("stopped: "), "{:?}", report.reason());
        let plan = Plan { arrival: Arrival::Told, ..plan.clone() };
        let report = Report { plan: &plan, ..report };
        assert!(report.reason().unwrap().ends_with(", and 10 were never told"), "{:?}", report.reason());
        assert!(report.table().contains("streams      0 over http1"), "{}", report.table());
    }
}
