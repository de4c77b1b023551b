//! `forebay agents`: the agents of the agent tree, what was heard of them, and whether they may come in.
//!
//! Several agents are changed in one transaction: all of them, or none.

use clap::{Args, Subcommand, ValueEnum};
use hyper::Method;
use jiff::{Span, SpanRelativeTo, Timestamp};

use crate::admin::model::agents::{Agent, AgentWhole, AgentsAsked, KeyKind, Sort};
use crate::admin::model::change::{Act, Made, Transaction};
use crate::cli::Failed;
use crate::cli::agree::Agreement;
use crate::cli::api::call::{CURSOR, asking, items};
use crate::cli::api::values::{Assigned, assigned, values};
use crate::cli::api::{Asking, place};
use crate::cli::output::{print, print_error};
use crate::cli::table::{Column, Table};
use crate::policy::outline::path::DomainPath;
use crate::policy::scope::Scope;
use crate::policy::tree::id::AgentId;
use crate::policy::tree::keys::Standing;

/// What is done.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Agents come in by enrolment ('forebay enrol'), by a file ('forebay tree'), or one by one with 'add'.\n\n\
    Example:\n  forebay agents list --within Branches --stale --sort out-of-date\n  forebay agents revoke pc-0421"
)]
pub enum Agents {
    /// List agents: those of a domain, those out of date, those not seen lately, and so on.
    #[command(after_help = "Example:\n  forebay agents list --within Branches --unseen-for 30d\n  \
        forebay agents list --component P.4 --version 1.234.00 --limit 1000")]
    List(Box<List>),
    /// Show one agent, with the versions that it has told of.
    Show(Show),
    /// Bring agents into the tree; they then show a certificate with their name, or are enrolled.
    #[command(after_help = "Example:\n  forebay agents add pc-0421 pc-0422 --domain Branches/North")]
    Add(Add),
    /// Move agents to another domain; what is set at them stays with them.
    #[command(after_help = "Example:\n  forebay agents move pc-0421 --to Branches/Tills")]
    Move(Move),
    /// Take agents out of the tree.
    Remove(Remove),
    /// Shut agents out: nothing that they have shows who they are any more.
    Revoke(Named),
    /// Let agents that were shut out enrol again.
    Readmit(Named),
}

/// Lists agents.
#[derive(Debug, Args)]
pub struct List {
    /// Those of this domain itself.
    #[arg(long, value_name = "PATH", value_parser = DomainPath::parse, conflicts_with = "within")]
    domain: Option<DomainPath>,
    /// Those of this domain and the domains within it.
    #[arg(long, value_name = "PATH", value_parser = DomainPath::parse)]
    within: Option<DomainPath>,
    /// Those with this scope.
    #[arg(long, value_enum)]
    scope: Option<WantedScope>,
    /// Those that may come in, or those that were shut out.
    #[arg(long, value_enum)]
    standing: Option<WantedStanding>,
    /// Those with this in their id.
    #[arg(long)]
    text: Option<String>,
    /// Those that have told of this component, as the manifest names it.
    #[arg(long, value_name = "NAME")]
    component: Option<String>,
    /// Those that have this version: of the component, or of any.
    #[arg(long)]
    version: Option<String>,
    /// Those that are out of date.
    #[arg(long, conflicts_with = "current")]
    stale: bool,
    /// Those that have told of their versions and are not out of date.
    #[arg(long)]
    current: bool,
    /// Those that checked in within this time, such as 2h or 7d.
    #[arg(long, value_name = "TIME", value_parser = ago)]
    seen_within: Option<Timestamp>,
    /// Those that did not check in for this time; also those that never did.
    #[arg(long, value_name = "TIME", value_parser = ago)]
    unseen_for: Option<Timestamp>,
    /// In which order.
    #[arg(long, value_enum, default_value_t = Order::Id)]
    sort: Order,
    /// How many at most.
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(flatten)]
    asking: Asking,
}

/// Shows an agent.
#[derive(Debug, Args)]
pub struct Show {
    /// Its id.
    #[arg(value_name = "AGENT", value_parser = AgentId::parse)]
    agent: AgentId,
    #[command(flatten)]
    asking: Asking,
}

/// Adds agents.
#[derive(Debug, Args)]
pub struct Add {
    /// Their ids.
    #[arg(value_name = "AGENT", required = true, value_parser = AgentId::parse)]
    agents: Vec<AgentId>,
    /// The domain that they belong to.
    #[arg(long, value_name = "PATH", value_parser = DomainPath::parse)]
    domain: DomainPath,
    /// A setting of their own; several times for several.
    #[arg(long, value_name = "NAME=VALUE", value_parser = assigned)]
    set: Vec<Assigned>,
    #[command(flatten)]
    asking: Asking,
}

/// Moves agents.
#[derive(Debug, Args)]
pub struct Move {
    /// Their ids.
    #[arg(value_name = "AGENT", required = true, value_parser = AgentId::parse)]
    agents: Vec<AgentId>,
    /// The domain that they are to belong to.
    #[arg(long, value_name = "PATH", value_parser = DomainPath::parse)]
    to: DomainPath,
    #[command(flatten)]
    agreement: Agreement,
    #[command(flatten)]
    asking: Asking,
}

/// Removes agents.
#[derive(Debug, Args)]
pub struct Remove {
    /// Their ids.
    #[arg(value_name = "AGENT", required = true, value_parser = AgentId::parse)]
    agents: Vec<AgentId>,
    #[command(flatten)]
    asking: Asking,
}

/// Revokes or readmits agents.
#[derive(Debug, Args)]
pub struct Named {
    /// Their ids.
    #[arg(value_name = "AGENT", required = true, value_parser = AgentId::parse)]
    agents: Vec<AgentId>,
    #[command(flatten)]
    asking: Asking,
}

/// A scope, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WantedScope {
    /// Patterns alone.
    Patterns,
    /// Patterns, engines and drivers.
    PatternsEnginesDrivers,
    /// Everything.
    All,
}

/// A standing, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WantedStanding {
    /// May come in.
    Admitted,
    /// Was shut out.
    Revoked,
}

/// An order, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Order {
    /// By id.
    Id,
    /// The one seen longest ago first.
    Seen,
    /// The one seen last first.
    SeenLast,
    /// By domain.
    Domain,
    /// The one with the most components out of date first.
    OutOfDate,
}

const COLUMNS: [Column; 7] = [
    Column::Words("id"),
    Column::Words("domain"),
    Column::Words("scope"),
    Column::Words("standing"),
    Column::Words("known by"),
    Column::Words("last check-in"),
    Column::Numbers("out of date"),
];

const VERSIONS: [Column; 4] =
    [Column::Words("component"), Column::Words("has"), Column::Words("since"), Column::Words("current")];

impl Agents {
    /// Does it.
    pub fn run(self) -> Result<(), Failed> {
        match self {
            Self::List(command) => command.run(),
            Self::Show(command) => command.run(),
            Self::Add(command) => command.run(),
            Self::Move(command) => command.run(),
            Self::Remove(Remove { agents, asking }) => changed(&asking, Act::RemoveAgents { agents }),
            Self::Revoke(Named { agents, asking }) => changed(&asking, Act::Revoke { agents }),
            Self::Readmit(Named { agents, asking }) => changed(&asking, Act::Readmit { agents }),
        }
    }
}

/// So long ago.
fn ago(text: &str) -> Result<Timestamp, String> {
    let span: Span = text.parse().map_err(|_| "it is a time such as 30min, 2h or 7d".to_owned())?;
    let duration =
        span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|error| error.to_string())?;
    Timestamp::now().checked_sub(duration.abs()).map_err(|error| error.to_string())
}

impl List {
    fn run(self) -> Result<(), Failed> {
        let api = self.asking.api()?;
        let number = |path: &Option<DomainPath>| {
            let domain = path.as_ref().map(|path| place::domain(&api, path)).transpose()?;
            Ok::<_, Failed>(domain.map(|domain| domain.id.number()))
        };
        let asked = AgentsAsked {
            domain: number(&self.domain)?,
            within: number(&self.within)?,
            scope: self.scope.map(Scope::from),
            standing: self.standing.map(Standing::from),
            text: self.text,
            component: self.component,
            version: self.version,
            out_of_date: (self.stale || self.current).then_some(self.stale),
            seen_after: self.seen_within,
            seen_before: self.unseen_for,
            sort: Some(self.sort.into()),
            limit: None,
            cursor: None,
        };
        let listed = api.list(&asking("agents", &asked)?, CURSOR, self.limit as usize)?;
        self.asking.print(&listed, |listed| {
            let agents: Vec<Agent> = items(listed.items.clone())?;
            let (shown, total) = (agents.len() as u64, listed.total.unwrap_or(0));
            let mut table = Table::new(&COLUMNS, "There is no such agent.");
            for agent in agents {
                let seen = agent.seen.as_ref();
                table.row(&[
                    agent.id.to_string(),
                    agent.path.clone(),
                    agent.scope.to_string(),
                    standing(agent.standing).to_owned(),
                    known_by(&agent.keys),
                    seen.map_or_else(|| "-".to_owned(), |seen| format!("{:.0}", seen.at)),
                    agent.out_of_date.map_or_else(|| "-".to_owned(), |count| count.to_string()),
                ]);
            }
            table.print();
            if shown < total {
                print_error(&format!("forebay: {shown} of {total} are shown: --limit shows more"));
            }
            Ok(())
        })
    }
}

impl Show {
    fn run(self) -> Result<(), Failed> {
        let api = self.asking.api()?;
        let agent: AgentWhole = api.get(&format!("agents/{}", self.agent))?;
        self.asking.print(&agent, |whole| {
            print(&screen(&whole.agent));
            let mut table = Table::new(&VERSIONS, "It has told of no versions.");
            for (component, has) in &whole.versions {
                let behind = whole.behind.iter().find(|behind| behind.component == *component);
                let current = behind.map_or_else(|| "-".to_owned(), |behind| behind.current.join(", "));
                let since =
                    whole.since.get(component).map_or_else(|| "-".to_owned(), |since| format!("{since:.0}"));
                table.row(&[component.clone(), has.clone(), since, current]);
            }
            table.print();
            Ok(())
        })
    }
}

impl Add {
    fn run(self) -> Result<(), Failed> {
        let api = self.asking.api()?;
        let domain = place::domain(&api, &self.domain)?.id;
        let settings = values(&self.set);
        let act = |agent| Act::AddAgent { agent, domain, settings: settings.clone() };
        let actions = self.agents.into_iter().map(act).collect();
        let made: Made = api.send(Method::POST, CHANGES, None, &Transaction { actions, confirm: None })?;
        self.asking.print_made(&made)
    }
}

impl Move {
    fn run(self) -> Result<(), Failed> {
        let api = self.asking.api()?;
        let to = place::domain(&api, &self.to)?.id;
        let act = Act::MoveAgents { agents: self.agents, to };
        let made = api.change(&Method::POST, CHANGES, self.agreement, |confirm| Transaction {
            actions: vec![act.clone()],
            confirm,
        })?;
        self.asking.print_made(&made)
    }
}

const CHANGES: &str = "agent-tree/changes";

fn changed(asking: &Asking, act: Act) -> Result<(), Failed> {
    let transaction = Transaction { actions: vec![act], confirm: None };
    let made: Made = asking.api()?.send(Method::POST, CHANGES, None, &transaction)?;
    asking.print_made(&made)
}

fn screen(agent: &Agent) -> String {
    let mut lines = vec![
        format!("{} of {}", agent.id, agent.path),
        format!("scope        {}", agent.scope),
        format!("standing     {}, known by {}", standing(agent.standing), known_by(&agent.keys)),
    ];
    if !agent.own.is_empty() {
        let own: Vec<_> = agent.own.iter().map(|setting| setting.name()).collect();
        lines.push(format!("own settings {}", own.join(", ")));
    }
    match &agent.seen {
        None => lines.push("checked in   not since the relay started".to_owned()),
        Some(seen) => {
            let denied =
                seen.denied.as_ref().map(|denied| format!("; not to update: {denied}")).unwrap_or_default();
            lines.push(format!("checked in   {:.0} from {}{denied}", seen.at, seen.from));
            if let Some(report) = &seen.report {
                lines.push(format!("last update  {:.0} {} {}", report.at, report.went.name(), report.detail));
            }
        }
    }
    lines.join("\n") + "\n"
}

fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Admitted => "admitted",
        Standing::Revoked => "revoked",
    }
}

fn known_by(keys: &[KeyKind]) -> String {
    let names = keys.iter().map(|key| match key {
        KeyKind::Secret => "secret",
        KeyKind::Certificate => "certificate",
    });
    let names: Vec<_> = names.collect();
    if names.is_empty() { "nothing yet".to_owned() } else { names.join(", ") }
}

impl From<WantedScope> for Scope {
    fn from(wanted: WantedScope) -> Self {
        match wanted {
            WantedScope::Patterns => Self::Patterns,
            WantedScope::PatternsEnginesDrivers => Self::PatternsEnginesDrivers,
            WantedScope::All => Self::All,
        }
    }
}

impl From<WantedStanding> for Standing {
    fn from(wanted: WantedStanding) -> Self {
        match wanted {
            WantedStanding::Admitted => Self::Admitted,
            WantedStanding::Revoked => Self::Revoked,
        }
    }
}

impl From<Order> for Sort {
    fn from(order: Order) -> Self {
        match order {
            Order::Id => Self::Id,
            Order::Seen => Self::Seen,
            Order::SeenLast => Self::SeenLast,
            Order::Domain => Self::Domain,
            Order::OutOfDate => Self::OutOfDate,
        }
    }
}
