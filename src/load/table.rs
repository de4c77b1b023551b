//! A run as a table for people.
//!
//! Never prints, and shows what came from a server as it is: whoever prints it escapes what would act on a terminal. Invariant: what a
//! table shows, the JSON has.

use std::fmt::{self, Write as _};
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount};

use crate::load::fault::Fault;
use crate::load::figures::Kind;
use crate::load::fleet::Run;
use crate::load::report::{PERCENTS, Report, UpstreamLine, rate};

/// The table of a report.
pub(super) fn table(report: &Report<'_>) -> String {
    let mut text = String::new();
    let written = head(&mut text, report)
        .and_then(|()| answers(&mut text, report))
        .and_then(|()| latencies(&mut text, report))
        .and_then(|()| errors(&mut text, report));
    written.expect("writing into a string does not fail");
    text
}

/// What was played, and what came of it.
fn head(text: &mut String, report: &Report<'_>) -> fmt::Result {
    let Run { figures, left, took, .. } = report.run;
    let (count, agents) = (HumanCount, figures.agents);
    let [ipv4, ipv6] = figures.families.map(HumanCount);
    writeln!(
        text,
        "{}: {} agents over at most {} connections, seed {}",
        report.url,
        count(u64::from(report.plan.agents)),
        count(report.plan.connections as u64),
        report.plan.seed,
    )?;
    writeln!(text, "took         {}", shown(*took))?;
    writeln!(
        text,
        "agents       {} updated, {} gave up, {} failed, {} left",
        count(agents.updated),
        count(agents.gave_up),
        count(agents.failed),
        count(left.agents),
    )?;
    if let Some(told) = report.told() {
        told.rows(text, report.plan, shown)?;
    }
    let requests = count(figures.requests());
    let per_sec = count(whole_rate(figures.requests(), *took));
    writeln!(text, "requests     {requests}  {per_sec}/s  {ipv4} over IPv4, {ipv6} over IPv6")?;
    let bytes = HumanBytes(figures.bytes());
    writeln!(text, "received     {bytes}  {}/s", HumanBytes(whole_rate(figures.bytes(), *took)))?;
    if let Some(UpstreamLine { bytes, requests }) = report.upstream {
        writeln!(text, "upstream     {} in {} requests", HumanBytes(bytes), count(requests))?;
    }
    let [made, lost] = [figures.connections, figures.connections_lost].map(HumanCount);
    writeln!(text, "connections  {made} made, {lost} closed by the server between requests")
}

/// Answers by what was asked for.
fn answers(text: &mut String, report: &Report<'_>) -> fmt::Result {
    writeln!(text, "\n{:14}{:>11}{:>9}{:>8}{:>12}", "answers", "whole", "dropped", "failed", "bytes")?;
    for (kind, of_kind) in Kind::ALL.iter().zip(&report.run.figures.kinds) {
        if kind.is_of_told() && report.told().is_none() {
            continue;
        }
        let [whole, dropped, failed] =
            [of_kind.whole, of_kind.dropped, of_kind.failed].map(|number| HumanCount(number).to_string());
        let bytes = HumanBytes(of_kind.bytes).to_string();
        writeln!(
            text,
            "  {:12}{whole:>11}{dropped:>9}{failed:>8}{bytes:>12}",
            kind.name().replace('_', "-")
        )?;
    }
    Ok(())
}

/// Latencies of whole answers, where there were any.
fn latencies(text: &mut String, report: &Report<'_>) -> fmt::Result {
    let [p50, p90, p99, p99_9, max] = ["p50", "p90", "p99", "p99.9", "max"];
    writeln!(text, "\n{:24}{p50:>10}{p90:>10}{p99:>10}{p99_9:>10}{max:>10}", "latency")?;
    for (name, latency) in report.latencies().iter().filter(|(_, latency)| latency.count() > 0) {
        write!(text, "  {:22}", name.replace('_', " "))?;
        for (_, percent) in PERCENTS {
            write!(text, "{:>10}", shown(latency.at_percent(percent)))?;
        }
        writeln!(text, "{:>10}", shown(latency.max()))?;
    }
    Ok(())
}

/// Errors by kind, with the first of each.
fn errors(text: &mut String, report: &Report<'_>) -> fmt::Result {
    let figures = &report.run.figures;
    writeln!(text, "\nerrors       {} of at most {}", HumanCount(figures.errors()), report.budget)?;
    for fault in Fault::ALL {
        if let Some(first) = &figures.first_faults[fault as usize] {
            let number = HumanCount(figures.faults[fault as usize]).to_string();
            writeln!(text, "  {:14}{number:>9}  first: {first}", fault.name())?;
        }
    }
    if figures.uncompared > 0 {
        writeln!(text, "  {} bodies had nothing to be compared with", HumanCount(figures.uncompared))?;
    }
    Ok(())
}

/// A time in the unit that suits it.
pub(super) fn shown(time: Duration) -> String {
    let secs = time.as_secs_f64();
    match secs {
        _ if secs < 0.001 => format!("{:.0} us", secs * 1e6),
        _ if secs < 0.1 => format!("{:.2} ms", secs * 1e3),
        _ if secs < 1.0 => format!("{:.0} ms", secs * 1e3),
        _ if secs < 100.0 => format!("{secs:.2} s"),
        _ => format!("{secs:.0} s"),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is positive and far below 2^64"
)]
fn whole_rate(count: u64, took: Duration) -> u64 {
    rate(count, took).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_the_unit_that_suits_them() {
        let texts =
            [900, 1_500, 150_000, 2_500_000, 250_000_000].map(|micros| shown(Duration::from_micros(micros)));
        assert_eq!(texts, ["900 us", "1.50 ms", "150 ms", "2.50 s", "250 s"]);
    }
}
