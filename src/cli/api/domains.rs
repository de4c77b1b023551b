//! `forebay domains`: the domains of the agent tree, by their paths.

use clap::{Args, Subcommand};
use hyper::Method;
use indicatif::HumanCount;

use crate::admin::model::change::Made;
use crate::admin::model::domains::{Domain, DomainChange, MoveDomain, NewDomain};
use crate::cli::Failed;
use crate::cli::agree::Agreement;
use crate::cli::api::call::{CURSOR, items};
use crate::cli::api::values::{Assigned, assigned, values};
use crate::cli::api::{Asking, place};
use crate::cli::output::print;
use crate::cli::table::{Column, Table};
use crate::policy::outline::path::DomainPath;
use crate::policy::tree::id::DomainName;

/// What is done.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Example:\n  forebay domains create Branches --set scope=patterns\n  forebay domains list"
)]
pub enum Domains {
    /// List domains with their agents and scopes.
    List(List),
    /// Show one domain.
    Show(Show),
    /// Make a domain.
    #[command(
        after_help = "Example:\n  forebay domains create Branches\n  forebay domains create Branches/Tills --set scope=patterns"
    )]
    Create(Create),
    /// Give a domain another name; it stays where it is.
    Rename(Rename),
    /// Move a domain with all within it.
    #[command(after_help = "Example:\n  forebay domains move Branches/Tills --to Shops")]
    Move(Move),
    /// Remove a domain.
    Remove(Remove),
}

/// Lists domains.
#[derive(Debug, Args)]
pub struct List {
    /// Only this domain and those within it.
    #[arg(long, value_name = "PATH", value_parser = DomainPath::parse)]
    within: Option<DomainPath>,
    #[command(flatten)]
    asking: Asking,
}

/// Shows a domain.
#[derive(Debug, Args)]
pub struct Show {
    /// Its path, such as Branches/North.
    #[arg(value_name = "PATH", value_parser = DomainPath::parse)]
    path: DomainPath,
    #[command(flatten)]
    asking: Asking,
}

/// Makes a domain.
#[derive(Debug, Args)]
pub struct Create {
    /// Its path, such as Branches/North; what holds it must be there.
    #[arg(value_name = "PATH", value_parser = DomainPath::parse)]
    path: DomainPath,
    /// A setting of its own; several times for several. 'forebay settings names' lists all.
    #[arg(long, value_name = "NAME=VALUE", value_parser = assigned)]
    set: Vec<Assigned>,
    #[command(flatten)]
    asking: Asking,
}

/// Renames a domain.
#[derive(Debug, Args)]
pub struct Rename {
    /// Its path.
    #[arg(value_name = "PATH", value_parser = DomainPath::parse)]
    path: DomainPath,
    /// Its new name, without those of the domains that hold it.
    #[arg(value_name = "NAME", value_parser = DomainName::parse)]
    name: DomainName,
    #[command(flatten)]
    asking: Asking,
}

/// Moves a domain.
#[derive(Debug, Args)]
pub struct Move {
    /// Its path.
    #[arg(value_name = "PATH", value_parser = DomainPath::parse)]
    path: DomainPath,
    #[command(flatten)]
    to: To,
    #[command(flatten)]
    agreement: Agreement,
    #[command(flatten)]
    asking: Asking,
}

/// Where a domain is to stand.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct To {
    /// The domain that is to hold it.
    #[arg(long, value_name = "PATH", value_parser = DomainPath::parse)]
    to: Option<DomainPath>,
    /// Have it stand right below the root.
    #[arg(long)]
    to_root: bool,
}

/// Removes a domain.
#[derive(Debug, Args)]
pub struct Remove {
    /// Its path.
    #[arg(value_name = "PATH", value_parser = DomainPath::parse)]
    path: DomainPath,
    /// Remove the domains and agents within it too.
    #[arg(long)]
    with_all_within: bool,
    #[command(flatten)]
    agreement: Agreement,
    #[command(flatten)]
    asking: Asking,
}

const COLUMNS: [Column; 6] = [
    Column::Words("path"),
    Column::Words("scope"),
    Column::Numbers("domains"),
    Column::Numbers("agents"),
    Column::Numbers("agents within"),
    Column::Numbers("out of date"),
];

impl Domains {
    /// Does it.
    pub fn run(self) -> Result<(), Failed> {
        match self {
            Self::List(command) => command.run(),
            Self::Show(command) => command.run(),
            Self::Create(command) => command.run(),
            Self::Rename(command) => command.run(),
            Self::Move(command) => command.run(),
            Self::Remove(command) => command.run(),
        }
    }
}

impl List {
    fn run(self) -> Result<(), Failed> {
        let api = self.asking.api()?;
        let within = self.within.as_ref().map(|path| place::domain(&api, path)).transpose()?;
        let path =
            within.map_or_else(|| "domains".to_owned(), |domain| format!("domains?within={}", domain.id));
        let listed = api.list(&path, CURSOR, usize::MAX)?;
        self.asking.print(&listed, |listed| {
            let mut domains: Vec<Domain> = items(listed.items.clone())?;
            domains.sort_by_cached_key(|domain| DomainPath::parse(&domain.path).ok());
            let mut table =
                Table::new(&COLUMNS, "There is no domain yet. 'forebay domains create NAME' makes one.");
            for domain in domains {
                table.row(&[
                    domain.path,
                    domain.scope.to_string(),
                    domain.domains.to_string(),
                    domain.agents.to_string(),
                    domain.agents_within.to_string(),
                    domain.out_of_date.to_string(),
                ]);
            }
            table.print();
            Ok(())
        })
    }
}

impl Show {
    fn run(self) -> Result<(), Failed> {
        let domain = place::domain(&self.asking.api()?, &self.path)?;
        self.asking.print(&domain, |domain| {
            print(&format!(
                "{}\nnumber   {}\nscope    {}\ndomains  {}\nagents   {}, {} with those within, {} out of date\n\n\
                 'forebay settings show domain:{}' says what holds there.",
                domain.path,
                domain.id,
                domain.scope,
                domain.domains,
                domain.agents,
                domain.agents_within,
                domain.out_of_date,
                domain.path
            ));
            Ok(())
        })
    }
}

impl Create {
    fn run(self) -> Result<(), Failed> {
        let api = self.asking.api()?;
        let parent = self.path.parent().map(|path| place::domain(&api, &path)).transpose()?;
        let new = NewDomain {
            name: self.path.name().clone(),
            parent: parent.map(|domain| domain.id),
            settings: values(&self.set),
        };
        let made: Domain = api.send(Method::POST, "domains", None, &new)?;
        self.asking.print(&made, |made| {
            print(&format!("the domain {} is made; its scope is '{}'", made.path, made.scope));
            Ok(())
        })
    }
}

impl Rename {
    fn run(self) -> Result<(), Failed> {
        let api = self.asking.api()?;
        let domain = place::domain(&api, &self.path)?;
        let change = DomainChange { name: self.name };
        let made: Made = api.send(Method::PATCH, &format!("domains/{}", domain.id), None, &change)?;
        self.asking.print_made(&made)
    }
}

impl Move {
    fn run(self) -> Result<(), Failed> {
        let api = self.asking.api()?;
        let domain = place::domain(&api, &self.path)?;
        let to = self.to.to.as_ref().map(|path| place::domain(&api, path)).transpose()?;
        let to = to.map(|domain| domain.id);
        let path = format!("domains/{}/move", domain.id);
        let made = api.change(&Method::POST, &path, self.agreement, |confirm| MoveDomain { to, confirm })?;
        self.asking.print_made(&made)
    }
}

impl Remove {
    fn run(self) -> Result<(), Failed> {
        let api = self.asking.api()?;
        let domain = place::domain(&api, &self.path)?;
        let path = format!("domains/{}", domain.id);
        let (domain, tag): (Domain, _) = api.tagged(&path)?;
        if self.with_all_within && (domain.domains > 0 || domain.agents > 0) {
            let what = format!(
                "{} would be REMOVED with all within it: {} agents, and their keys",
                domain.path,
                HumanCount(domain.agents_within)
            );
            self.agreement.to(&what, "Remove them?")?;
        }
        let query = if self.with_all_within { "?with_all_within=true" } else { "" };
        let made = api.delete(&format!("{path}{query}"), Some(&tag))?;
        self.asking.print_made(&made)
    }
}
