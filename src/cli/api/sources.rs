//! `forebay sources`: the customised list, where agents update from before they ask the relay (R7.1).
//!
//! The API replaces the list whole: what is added or removed here is so of the list that was just read, or it is read once more.

use clap::{Args, Subcommand, ValueEnum};
use hyper::Method;
use url::Url;

use crate::admin::model::admission::Sources as List;
use crate::admin::model::change::Made;
use crate::cli::Failed;
use crate::cli::api::Asking;
use crate::cli::table::{Column, Table};
use crate::policy::sources::{Entry, Families, Range, Source};

/// What is done.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Example:\n  forebay sources add 10.1.0.0-10.1.255.255 http://mirror.example/activeupdate/"
)]
pub enum Sources {
    /// List the entries.
    List(Asking),
    /// Add an entry: agents with these addresses update from there.
    #[command(
        after_help = "Example:\n  forebay sources add 10.1.0.0-10.1.255.255 http://mirror.example/activeupdate/\n  \
        forebay sources add 2001:db8:20::/48 http://mirror.example/activeupdate/ --families ipv6"
    )]
    Add(Add),
    /// Remove an entry.
    Remove(Remove),
}

/// Adds an entry.
#[derive(Debug, Args)]
pub struct Add {
    /// The agents' addresses: an IPv4 range such as 10.1.0.0-10.1.255.255, or an IPv6 prefix.
    #[arg(value_name = "RANGE")]
    range: Range,
    /// Where they update from.
    #[arg(value_name = "URL")]
    url: Url,
    /// The address families by which it is reached; where its host is an address, that says it.
    #[arg(long, value_enum, default_value_t = By::Both)]
    families: By,
    #[command(flatten)]
    asking: Asking,
}

/// Removes an entry.
#[derive(Debug, Args)]
pub struct Remove {
    /// The agents' addresses, as the list has them.
    #[arg(value_name = "RANGE")]
    range: Range,
    #[command(flatten)]
    asking: Asking,
}

/// Address families, as they are typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// IPv4 alone.
    Ipv4,
    /// IPv6 alone.
    Ipv6,
    /// Either.
    Both,
}

const COLUMNS: [Column; 3] =
    [Column::Words("agents"), Column::Words("update from"), Column::Words("families")];

/// The list.
const PATH: &str = "sources";

/// How often a list is read anew that somebody else changed meanwhile.
const TRIES_MAX: usize = 5;

impl Sources {
    /// Does it.
    pub fn run(self) -> Result<(), Failed> {
        match self {
            Self::List(asking) => {
                let list: List = asking.api()?.get(PATH)?;
                asking.print(&list, |list| {
                    let mut table = Table::new(&COLUMNS, "The list is empty: agents update from the relay.");
                    for Entry { range, source } in &list.entries {
                        let families = match source.families() {
                            Families::V4 => "ipv4",
                            Families::V6 => "ipv6",
                            Families::Both => "both",
                        };
                        table.row(&[range.to_string(), source.url().to_string(), families.to_owned()]);
                    }
                    table.print();
                    Ok(())
                })
            }
            Self::Add(Add { range, url, families, asking }) => {
                let families = match families {
                    By::Ipv4 => Families::V4,
                    By::Ipv6 => Families::V6,
                    By::Both => Families::Both,
                };
                let entry = Entry { range, source: Source::new(url, families)? };
                replaced(&asking, |entries| {
                    entries.push(entry.clone());
                    Ok(())
                })
            }
            Self::Remove(Remove { range, asking }) => replaced(&asking, |entries| {
                let before = entries.len();
                entries.retain(|entry| entry.range != range);
                if entries.len() < before {
                    return Ok(());
                }
                Err(Failed::new(format!("no entry is of {range}: 'forebay sources list' shows all")))
            }),
        }
    }
}

/// Replaces the list by what `edit` makes of it.
fn replaced(asking: &Asking, edit: impl Fn(&mut Vec<Entry>) -> Result<(), Failed>) -> Result<(), Failed> {
    let api = asking.api()?;
    for _ in 0..TRIES_MAX {
        let (mut list, tag): (List, _) = api.tagged(PATH)?;
        edit(&mut list.entries)?;
        match api.send::<Made>(Method::PUT, PATH, Some(&tag), &list) {
            Err(error) if error.is_outrun() => {}
            made => return asking.print_made(&made?),
        }
    }
    Err(Failed::new("nothing was changed: others change the list all the time"))
}
