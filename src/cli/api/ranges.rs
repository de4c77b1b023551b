//! `forebay ranges`: the domains of agents that are known by their addresses alone.

use clap::{Args, Subcommand};
use hyper::Method;
use ipnet::IpNet;

use crate::admin::model::admission::{Range, WhichRange};
use crate::admin::model::change::Made;
use crate::cli::Failed;
use crate::cli::api::call::{CURSOR, asking, items};
use crate::cli::api::place::Paths;
use crate::cli::api::{Asking, place};
use crate::cli::table::{Column, Table};
use crate::policy::outline::path::DomainPath;

/// What is done.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  forebay ranges set 10.20.7.0/24 Branches/Tills")]
pub enum Ranges {
    /// List the ranges.
    List(Asking),
    /// Say to which domain belongs who calls from these addresses and shows nothing else.
    #[command(
        after_help = "Example:\n  forebay ranges set 10.20.7.0/24 Branches/Tills\n  forebay ranges set 2001:db8:20::/48 Branches"
    )]
    Set(Set),
    /// Say that these addresses are no domain's any more.
    Remove(Remove),
}

/// Sets a range.
#[derive(Debug, Args)]
pub struct Set {
    /// The addresses, as a prefix; of several that hold an address, the longest counts.
    #[arg(value_name = "PREFIX")]
    from: IpNet,
    /// The domain.
    #[arg(value_name = "PATH", value_parser = DomainPath::parse)]
    domain: DomainPath,
    #[command(flatten)]
    asking: Asking,
}

/// Removes a range.
#[derive(Debug, Args)]
pub struct Remove {
    /// The addresses, as the list has them.
    #[arg(value_name = "PREFIX")]
    from: IpNet,
    #[command(flatten)]
    asking: Asking,
}

const COLUMNS: [Column; 2] = [Column::Words("from"), Column::Words("domain")];

impl Ranges {
    /// Does it.
    pub fn run(self) -> Result<(), Failed> {
        match self {
            Self::List(asking) => {
                let api = asking.api()?;
                let listed = api.list("ranges", CURSOR, usize::MAX)?;
                asking.print(&listed, |listed| {
                    let paths = Paths::all(&api)?;
                    let mut table =
                        Table::new(&COLUMNS, "There is no range: agents are known by what they show.");
                    for Range { from, domain } in items(listed.items.clone())? {
                        table.row(&[from.to_string(), paths.of(domain)]);
                    }
                    table.print();
                    Ok(())
                })
            }
            Self::Set(Set { from, domain, asking }) => {
                let api = asking.api()?;
                let domain = place::domain(&api, &domain)?.id;
                let made: Made = api.send(Method::PUT, "ranges", None, &Range { from, domain })?;
                asking.print_made(&made)
            }
            Self::Remove(Remove { from, asking: whom }) => {
                let made = whom.api()?.delete(&asking("ranges", &WhichRange { from })?, None)?;
                whom.print_made(&made)
            }
        }
    }
}
