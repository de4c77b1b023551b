//! `forebay update`: has agents update, and says how far they are (R9.1d).
//!
//! Who is told when is the relay's to say. Invariant: all agents are had to update only where somebody has agreed to it.

use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use hyper::Method;
use indicatif::{HumanCount, MultiProgress};
use serde_json::Value;

use crate::admin::model::agents::AgentsAsked;
use crate::admin::model::page::Page;
use crate::admin::model::updates::{self, NewUpdate, Updates};
use crate::cli::Failed;
use crate::cli::agree::Agreement;
use crate::cli::api::call::{Api, asking};
use crate::cli::api::{Asking, place};
use crate::cli::output::print;
use crate::cli::progress::{Lines, Unit, Work};
use crate::cli::table::{Column, Table};
use crate::policy::outline::path::DomainPath;
use crate::policy::tree::id::AgentId;
use crate::policy::tree::keys::Standing;

/// What is done.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLE)]
pub enum Update {
    /// Have agents update, each once: now, or when it comes online within a day.
    ///
    /// Whatever their settings and privileges are: they take components and settings files.
    #[command(after_help = EXAMPLE)]
    Start(Start),
    /// List the updates that were started, the newest first.
    List(Asking),
    /// Show how far an update is.
    Show(Show),
    /// Cancel an update: who was not told yet is not; who was told goes on.
    Cancel(Cancel),
}

const EXAMPLE: &str =
    "Example:\n  forebay update start --domain Branches/North --out-of-date --wait\n  forebay update show 7";

/// Starts an update.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("whom").required(true).multiple(true).args(["domain", "agent", "out_of_date", "all"])))]
pub struct Start {
    /// All agents of this domain, and of those within; several times for several.
    #[arg(long, value_name = "PATH", value_parser = DomainPath::parse)]
    domain: Vec<DomainPath>,
    /// This agent; several times for several.
    #[arg(long, value_name = "AGENT", value_parser = AgentId::parse)]
    agent: Vec<AgentId>,
    /// Of those, or of all, only agents that have told of something that is not current.
    #[arg(long)]
    out_of_date: bool,
    /// Every agent; asks first.
    #[arg(long, conflicts_with_all = ["domain", "agent"])]
    all: bool,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    agreement: Agreement,
    #[command(flatten)]
    asking: Asking,
}

/// Shows an update.
#[derive(Debug, Args)]
pub struct Show {
    /// Its number.
    #[arg(value_name = "NUMBER")]
    id: u64,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    asking: Asking,
}

/// Cancels an update.
#[derive(Debug, Args)]
pub struct Cancel {
    /// Its number.
    #[arg(value_name = "NUMBER")]
    id: u64,
    #[command(flatten)]
    asking: Asking,
}

/// Whether an update's end is waited for.
#[derive(Clone, Copy, Debug, Args)]
struct Waiting {
    /// Wait until all of them have reported or were given up: for those that are offline, a day. Ends with 1 where one was given up.
    #[arg(long)]
    wait: bool,
}

const COLUMNS: [Column; 9] = [
    Column::Numbers("number"),
    Column::Words("started"),
    Column::Words("state"),
    Column::Numbers("done"),
    Column::Numbers("under way"),
    Column::Numbers("waiting"),
    Column::Numbers("offline"),
    Column::Numbers("gave up"),
    Column::Numbers("cancelled"),
];

/// Between two looks at an update.
const LOOK_EVERY: Duration = Duration::from_millis(500);

impl Update {
    /// Does it.
    pub fn run(self) -> Result<(), Failed> {
        match self {
            Self::Start(command) => command.run(),
            Self::List(asking) => {
                let updates: Updates = asking.api()?.get(UPDATES)?;
                asking.print(&updates, |updates| {
                    print_updates(&updates.items);
                    Ok(())
                })
            }
            Self::Show(Show { id, waiting, asking }) => {
                let api = asking.api()?;
                told(&api, &asking, waiting, api.get(&one(id))?)
            }
            Self::Cancel(Cancel { id, asking }) => {
                let update = asking.api()?.delete(&one(id), None)?;
                asking.print(&update, |update: &updates::Update| {
                    print_updates(std::slice::from_ref(update));
                    Ok(())
                })
            }
        }
    }
}

impl Start {
    fn run(self) -> Result<(), Failed> {
        let api = self.asking.api()?;
        if self.all {
            self.agree_to_all(&api)?;
        }
        let ids = self.domain.iter().map(|path| Ok(place::domain(&api, path)?.id));
        let domains = ids.collect::<Result<_, Failed>>()?;
        let Self { agent: agents, out_of_date, all, .. } = self;
        let new = NewUpdate { domains, agents, out_of_date, all };
        let update = api.send(Method::POST, UPDATES, None, &new)?;
        told(&api, &self.asking, self.waiting, update)
    }

    fn agree_to_all(&self, api: &Api) -> Result<(), Failed> {
        let asked =
            AgentsAsked { standing: Some(Standing::Admitted), limit: Some(1), ..AgentsAsked::default() };
        let page: Page<Value> = api.get(&asking("agents", &asked)?)?;
        let of = if self.out_of_date { ", those that are out of date," } else { "" };
        let agents = HumanCount(page.total.unwrap_or_default());
        let what = format!("every agent{of} would update, of {agents}, whatever is set for it");
        self.agreement.to(&what, "Have them update?")
    }
}

const UPDATES: &str = "updates";

fn one(id: u64) -> String {
    format!("{UPDATES}/{id}")
}

/// Shows an update, once it is over where that is waited for.
fn told(api: &Api, asking: &Asking, waiting: Waiting, mut update: updates::Update) -> Result<(), Failed> {
    if waiting.wait {
        update = over(api, update)?;
    }
    asking.print(&update, |update| {
        print_updates(std::slice::from_ref(update));
        if open(update) > 0 {
            print(&format!("\n'forebay update show {} --wait' waits for its end.", update.id));
        }
        Ok(())
    })?;
    if waiting.wait && update.gave_up > 0 {
        let (gave_up, all) = (HumanCount(update.gave_up.into()), HumanCount(all(&update)));
        return Err(Failed::new(format!("update {}: {gave_up} of {all} agents gave up", update.id)));
    }
    Ok(())
}

/// Waits until nobody is left who may yet report, and shows how far it is.
fn over(api: &Api, mut update: updates::Update) -> Result<updates::Update, Failed> {
    let name = format!("update {}", update.id);
    let mut work = Work::begin(&Arc::new(MultiProgress::new()), &name, Unit::Agents, Lines::Printed);
    while open(&update) > 0 {
        let updates::Update { waiting, under_way, offline, .. } = &update;
        let what = format!("{under_way} under way, {waiting} waiting, {offline} offline");
        work.show(all(&update) - open(&update), all(&update), &what);
        sleep(LOOK_EVERY);
        update = api.get(&one(update.id))?;
    }
    Ok(update)
}

/// The agents that may yet report.
fn open(update: &updates::Update) -> u64 {
    u64::from(update.waiting) + u64::from(update.under_way) + u64::from(update.offline)
}

fn all(update: &updates::Update) -> u64 {
    open(update) + u64::from(update.done) + u64::from(update.gave_up) + u64::from(update.cancelled)
}

fn print_updates(updates: &[updates::Update]) {
    let mut table = Table::new(&COLUMNS, "No update was started, or all were forgotten.");
    for update in updates {
        let state = if open(update) == 0 {
            "ended"
        } else if update.over {
            "ending"
        } else {
            "running"
        };
        let counts =
            [update.done, update.under_way, update.waiting, update.offline, update.gave_up, update.cancelled];
        let [done, under_way, waiting, offline, gave_up, cancelled] =
            counts.map(|count| HumanCount(count.into()).to_string());
        table.row(&[
            update.id.to_string(),
            format!("{:.0}", update.at),
            state.to_owned(),
            done,
            under_way,
            waiting,
            offline,
            gave_up,
            cancelled,
        ]);
    }
    table.print();
}
