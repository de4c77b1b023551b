//! `forebay reports`: what agents reported of their updates.

use clap::{Args, ValueEnum};
use indicatif::HumanBytes;
use serde_json::Value;

use crate::admin::model::page::Page;
use crate::admin::model::reports::{AgentReport, ReportsAsked};
use crate::base::tally::Went;
use crate::cli::Failed;
use crate::cli::api::Asking;
use crate::cli::api::call::{asking, items};
use crate::cli::output::print_error;
use crate::cli::table::{Column, Table};
use crate::policy::tree::id::AgentId;

/// Lists the last updates that agents reported, the last one first. A thousand are kept, in memory alone.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  forebay reports --result failed --limit 20")]
pub struct Reports {
    /// Only this agent's.
    #[arg(long, value_name = "AGENT", value_parser = AgentId::parse)]
    agent: Option<AgentId>,
    /// Only those of updates that went so.
    #[arg(long, value_enum)]
    result: Option<WantedResult>,
    /// How many at most.
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    #[command(flatten)]
    asking: Asking,
}

/// A result, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WantedResult {
    /// The agent has something new.
    Updated,
    /// There was nothing new.
    UpToDate,
    /// It failed.
    Failed,
}

const COLUMNS: [Column; 7] = [
    Column::Words("at"),
    Column::Words("agent"),
    Column::Words("result"),
    Column::Numbers("size"),
    Column::Numbers("seconds"),
    Column::Words("source"),
    Column::Words("detail"),
];

impl Reports {
    /// Asks and shows.
    pub fn run(self) -> Result<(), Failed> {
        let agent = self.agent.map(|agent| agent.to_string());
        let asked = ReportsAsked { agent, result: self.result.map(Went::from), ..ReportsAsked::default() };
        let listed = self.asking.api()?.list(&asking("reports", &asked)?, "before", self.limit.into())?;
        self.asking.print(&listed, |listed: &Page<Value>| {
            let mut table =
                Table::new(&COLUMNS, "No agent has reported such an update since the relay started.");
            for one in items::<AgentReport>(listed.items.clone())? {
                table.row(&[
                    format!("{:.0}", one.at),
                    one.agent.to_string(),
                    one.result.name().to_owned(),
                    one.bytes.map_or_else(unsaid, |bytes| HumanBytes(bytes).to_string()),
                    one.secs.map_or_else(unsaid, |secs| secs.to_string()),
                    one.source.unwrap_or_else(unsaid),
                    one.detail,
                ]);
            }
            table.print();
            if listed.next.is_some() {
                print_error("forebay: there are more: --limit shows them");
            }
            Ok(())
        })
    }
}

fn unsaid() -> String {
    "-".to_owned()
}

impl From<WantedResult> for Went {
    fn from(wanted: WantedResult) -> Self {
        match wanted {
            WantedResult::Updated => Self::Updated,
            WantedResult::UpToDate => Self::UpToDate,
            WantedResult::Failed => Self::Failed,
        }
    }
}
