//! `forebay generations|components|fills|traffic|refusals`: what the relay holds and does.

use clap::Args;
use indicatif::{HumanBytes, HumanCount};
use serde_json::Value;

use crate::admin::model::page::Page;
use crate::admin::model::watch::{
    Component, Fill, Generation, Minute, Refusal, RefusalsAsked, TrafficAsked, TreeAsked,
};
use crate::cli::Failed;
use crate::cli::api::Asking;
use crate::cli::api::call::{asking, items};
use crate::cli::output::print_error;
use crate::cli::table::{Column, Table};
use crate::policy::tree::id::AgentId;

/// Lists the generations that are kept of each tree, the newest first.
#[derive(Debug, Args)]
pub struct Generations {
    /// Only this tree's.
    #[arg(long, value_name = "NAME")]
    tree: Option<String>,
    #[command(flatten)]
    asking: Asking,
}

/// Lists the components of the current generations, with their versions.
#[derive(Debug, Args)]
pub struct Components {
    /// Only this tree's.
    #[arg(long, value_name = "NAME")]
    tree: Option<String>,
    #[command(flatten)]
    asking: Asking,
}

/// Lists the fetches from upstreams that are under way.
#[derive(Debug, Args)]
pub struct Fills {
    #[command(flatten)]
    asking: Asking,
}

/// Shows what passed in the last minutes. A day is kept, in memory alone.
#[derive(Debug, Args)]
pub struct Traffic {
    /// How many minutes.
    #[arg(long, value_name = "NUMBER", default_value_t = 60, value_parser = clap::value_parser!(u16).range(1..=1440))]
    minutes: u16,
    #[command(flatten)]
    asking: Asking,
}

/// Lists the last requests of agents that were refused, the last one first. A thousand are kept, in memory alone; the access log has
/// all.
#[derive(Debug, Args)]
pub struct Refusals {
    /// Only this agent's.
    #[arg(long, value_name = "AGENT", value_parser = AgentId::parse)]
    agent: Option<AgentId>,
    /// How many at most.
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    #[command(flatten)]
    asking: Asking,
}

const GENERATIONS: [Column; 6] = [
    Column::Words("tree"),
    Column::Numbers("generation"),
    Column::Words("taken"),
    Column::Words("current"),
    Column::Words("files in the store"),
    Column::Words("bytes in the store"),
];

const COMPONENTS: [Column; 6] = [
    Column::Words("component"),
    Column::Words("class"),
    Column::Words("version"),
    Column::Words("in the store"),
    Column::Numbers("size"),
    Column::Words("path"),
];

const FILLS: [Column; 4] =
    [Column::Words("tree"), Column::Words("path"), Column::Words("bytes"), Column::Numbers("seconds")];

const TRAFFIC: [Column; 7] = [
    Column::Words("minute"),
    Column::Numbers("to agents"),
    Column::Numbers("upstream"),
    Column::Numbers("requests"),
    Column::Numbers("refused"),
    Column::Numbers("failed"),
    Column::Numbers("connections"),
];

const REFUSALS: [Column; 5] = [
    Column::Words("at"),
    Column::Words("agent"),
    Column::Words("from"),
    Column::Words("request"),
    Column::Words("reason"),
];

impl Generations {
    /// Asks and shows.
    pub fn run(self) -> Result<(), Failed> {
        let page: Page<Generation> =
            self.asking.api()?.get(&asking("generations", &TreeAsked { tree: self.tree })?)?;
        self.asking.print(&page, |page| {
            let mut table =
                Table::new(&GENERATIONS, "No tree has a generation yet: 'forebay status' says why.");
            for one in &page.items {
                table.row(&[
                    one.tree.clone(),
                    one.number.to_string(),
                    format!("{:.0}", one.taken),
                    yes(one.current),
                    format!("{} of {}", HumanCount(one.files_held), HumanCount(one.files)),
                    format!("{} of {}", HumanBytes(one.bytes_held), HumanBytes(one.bytes)),
                ]);
            }
            table.print();
            Ok(())
        })
    }
}

impl Components {
    /// Asks and shows.
    pub fn run(self) -> Result<(), Failed> {
        let page: Page<Component> =
            self.asking.api()?.get(&asking("components", &TreeAsked { tree: self.tree })?)?;
        self.asking.print(&page, |page| {
            let mut table =
                Table::new(&COMPONENTS, "No tree has a generation yet: 'forebay status' says why.");
            for one in &page.items {
                table.row(&[
                    one.component.clone(),
                    one.class.name().to_owned(),
                    one.version.clone(),
                    yes(one.held),
                    HumanBytes(one.bytes).to_string(),
                    one.path.clone(),
                ]);
            }
            table.print();
            Ok(())
        })
    }
}

impl Fills {
    /// Asks and shows.
    pub fn run(self) -> Result<(), Failed> {
        let page: Page<Fill> = self.asking.api()?.get("fills")?;
        self.asking.print(&page, |page| {
            let mut table = Table::new(&FILLS, "Nothing is being fetched.");
            for one in &page.items {
                let of = one.bytes.map(|bytes| format!(" of {}", HumanBytes(bytes))).unwrap_or_default();
                let done = format!("{}{of}", HumanBytes(one.bytes_done));
                table.row(&[one.tree.clone(), one.path.clone(), done, one.secs.to_string()]);
            }
            table.print();
            Ok(())
        })
    }
}

impl Traffic {
    /// Asks and shows.
    pub fn run(self) -> Result<(), Failed> {
        let asked = TrafficAsked { minutes: Some(self.minutes) };
        let page: Page<Minute> = self.asking.api()?.get(&asking("traffic", &asked)?)?;
        self.asking.print(&page, |page| {
            let mut table = Table::new(&TRAFFIC, "The relay has not run for a minute yet.");
            for one in &page.items {
                table.row(&[
                    format!("{:.0}", one.at),
                    HumanBytes(one.sent_bytes).to_string(),
                    HumanBytes(one.upstream_bytes).to_string(),
                    HumanCount(one.requests).to_string(),
                    HumanCount(one.refused).to_string(),
                    HumanCount(one.failed).to_string(),
                    HumanCount(one.connections).to_string(),
                ]);
            }
            table.print();
            Ok(())
        })
    }
}

impl Refusals {
    /// Asks and shows.
    pub fn run(self) -> Result<(), Failed> {
        let agent = self.agent.map(|agent| agent.to_string());
        let asked = RefusalsAsked { agent, ..RefusalsAsked::default() };
        let listed = self.asking.api()?.list(&asking("refusals", &asked)?, "before", self.limit.into())?;
        self.asking.print(&listed, |listed: &Page<Value>| {
            print_refusals(&items(listed.items.clone())?, "No request was refused since the relay started.");
            if listed.next.is_some() {
                print_error("forebay: there are more: --limit shows them");
            }
            Ok(())
        })
    }
}

/// A table of refusals.
pub(super) fn print_refusals(refusals: &[Refusal], empty: &'static str) {
    let mut table = Table::new(&REFUSALS, empty);
    for one in refusals {
        table.row(&[
            format!("{:.0}", one.at),
            one.agent.map_or_else(|| "-".to_owned(), |agent| agent.to_string()),
            one.from.ip().to_string(),
            format!("{} {}", one.method, one.path),
            one.reason.clone(),
        ]);
    }
    table.print();
}

fn yes(so: bool) -> String {
    if so { "yes" } else { "no" }.to_owned()
}
