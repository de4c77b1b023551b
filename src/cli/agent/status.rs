//! `forebay agent status`: what the agent has, whether it runs or not.

use clap::Args;
use indicatif::HumanBytes;

use crate::agent::status as agent;
use crate::cli::Failed;
use crate::cli::agent::Which;
use crate::cli::output::print;

/// Shows it.
#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    which: Which,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) fn run(self) -> Result<(), Failed> {
        let settings = self.which.settings()?;
        let place = Which::place(&settings);
        if !place.path().is_dir() {
            return Err(Failed::new(format!("{}: there is no such folder", place.path().display())));
        }
        let status = agent::Status::read(&settings, &place, jiff::Timestamp::now())?;
        print(&if self.json { serde_json::to_string_pretty(&status)? } else { words(&status) });
        Ok(())
    }
}

fn words(status: &agent::Status) -> String {
    let id = status.agent.as_ref().map_or("not enrolled", |agent| agent.as_str());
    let mut lines = vec![
        format!("agent      {id}, {}", if status.running { "running" } else { "not running" }),
        format!("relay      {}", status.relay),
    ];
    if let Some(until) = status.certificate_until {
        lines.push(format!("known by   a certificate until {until}"));
    }
    if let Some(told) = &status.told {
        let domain = told.domain.as_deref().unwrap_or("no domain");
        lines.push(format!("holds      scope {}, {domain}", told.scope));
        let may = [
            (told.may.update_now, "update now"),
            (told.may.own_proxy, "own proxy"),
            (told.may.toggle_schedule, "switch the schedule"),
        ];
        let may: Vec<_> = may.into_iter().filter_map(|(may, what)| may.then_some(what)).collect();
        lines.push(format!(
            "may        {}",
            if may.is_empty() { "nothing".to_owned() } else { may.join(", ") }
        ));
        let runs = if told.schedule_runs { "on" } else { "off" };
        let schedule = serde_json::to_string(&told.schedule).unwrap_or_default();
        lines.push(format!("schedule   {runs}, {schedule}"));
    }
    if let Some(next) = status.next {
        lines.push(format!("next       {next}"));
    }
    if let Some(under_way) = &status.under_way {
        lines.push(format!("under way  since {}", under_way.since));
    }
    if let Some(last) = &status.last {
        let detail = if last.detail.is_empty() { String::new() } else { format!(": {}", last.detail) };
        let result = serde_json::to_value(last.result).unwrap_or_default();
        lines.push(format!("last       {} {}{detail}", last.at, result.as_str().unwrap_or_default()));
    }
    lines.push(format!("set        {}, {} components", status.number, status.components.len()));
    lines.extend(status.components.iter().map(|has| {
        let made = if has.merged { ", merged" } else { "" };
        let size = HumanBytes(has.size);
        format!("  {}/{} {} ({size}{made}) since {}", has.tree, has.component, has.version, has.since)
    }));
    lines.join("\n")
}
