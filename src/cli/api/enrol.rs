//! `forebay enrol`: what lets agents join a domain by themselves.
//!
//! Invariant: an enrolment's token is printed once, and kept by nobody here.

use clap::{Args, Subcommand};
use hyper::Method;
use indicatif::HumanCount;

use crate::admin::model::admission::{Enrolment, MadeEnrolment, NewEnrolment};
use crate::cli::Failed;
use crate::cli::api::call::{Api, CURSOR, escaped, items};
use crate::cli::api::place::Paths;
use crate::cli::api::{Asking, place};
use crate::cli::output::print;
use crate::cli::serve::host;
use crate::cli::table::{Column, Table};
use crate::policy::outline::path::DomainPath;
use crate::policy::tree::id::EnrolmentId;

/// What is done.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  forebay enrol create Branches/North --agents 50 --hours 72")]
pub enum Enrol {
    /// Let agents join a domain, and print once what they enrol with.
    #[command(after_help = "Example:\n  forebay enrol create Branches/North --agents 50 --hours 72")]
    Create(Create),
    /// List the enrolments, without their tokens.
    List(Asking),
    /// End an enrolment: it lets nobody in any more. Who is in stays in.
    Revoke(Revoke),
}

/// Makes an enrolment.
#[derive(Debug, Args)]
pub struct Create {
    /// The domain that agents join.
    #[arg(value_name = "PATH", value_parser = DomainPath::parse)]
    domain: DomainPath,
    /// How many agents it lets in.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    agents: u32,
    /// For how many hours.
    #[arg(long, value_name = "NUMBER", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=87_840))]
    hours: u32,
    /// What it is called; a name is made where nothing is said.
    #[arg(long, value_name = "NAME", value_parser = EnrolmentId::parse)]
    id: Option<EnrolmentId>,
    #[command(flatten)]
    asking: Asking,
}

/// Ends an enrolment.
#[derive(Debug, Args)]
pub struct Revoke {
    /// What it is called.
    #[arg(value_name = "NAME", value_parser = EnrolmentId::parse)]
    id: EnrolmentId,
    #[command(flatten)]
    asking: Asking,
}

const COLUMNS: [Column; 4] =
    [Column::Words("name"), Column::Words("domain"), Column::Numbers("agents left"), Column::Words("until")];

impl Enrol {
    /// Does it.
    pub fn run(self) -> Result<(), Failed> {
        match self {
            Self::Create(command) => command.run(),
            Self::List(asking) => {
                let api = asking.api()?;
                let listed = api.list("enrolments", CURSOR, usize::MAX)?;
                asking.print(&listed, |listed| {
                    let paths = Paths::all(&api)?;
                    let mut table = Table::new(&COLUMNS, "There is no enrolment.");
                    for Enrolment { id, domain, left, until } in items(listed.items.clone())? {
                        table.row(&[
                            id.as_str().to_owned(),
                            paths.of(domain),
                            left.to_string(),
                            format!("{until:.0}"),
                        ]);
                    }
                    table.print();
                    Ok(())
                })
            }
            Self::Revoke(Revoke { id, asking }) => {
                let made = asking.api()?.delete(&format!("enrolments/{}", escaped(id.as_str())), None)?;
                asking.print_made(&made)
            }
        }
    }
}

impl Create {
    fn run(self) -> Result<(), Failed> {
        let api = self.asking.api()?;
        let domain = place::domain(&api, &self.domain)?.id;
        let new = NewEnrolment { id: self.id, domain, agents: self.agents, hours: self.hours };
        let made: MadeEnrolment = api.send(Method::POST, "enrolments", None, &new)?;
        self.asking.print(&made, |MadeEnrolment { enrolment, token }| {
            print(&format!(
                "The enrolment '{}' lets {} agents into {} until {:.0}. Its token, which is shown this once:\n\n{token}\n\n\
                 Agents enrol with it over TLS, or from this machine; each is answered with a token of its own:\n\n\
                 curl {}/api/v1/enrol -d '{{\"token\": \"{token}\", \"agent\": \"pc-1\"}}'",
                enrolment.id.as_str(),
                HumanCount(enrolment.left.into()),
                self.domain,
                enrolment.until,
                reached(&api),
            ));
            Ok(())
        })
    }
}

/// Where agents on this machine reach the relay; in clear text, nobody enrols from elsewhere.
fn reached(api: &Api) -> String {
    let first = api.relay().listen.first();
    first.map_or_else(|| "https://RELAY".to_owned(), |at| format!("http://{}", host(*at)))
}
