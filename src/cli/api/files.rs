//! `forebay files`: the settings files that agents are handed, at the root and at domains (R5.6).

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use indicatif::HumanBytes;

use crate::admin::model::admission::File;
use crate::cli::Failed;
use crate::cli::api::call::{Api, CURSOR, escaped, items};
use crate::cli::api::place::Paths;
use crate::cli::api::{Asking, place};
use crate::cli::table::{Column, Table};
use crate::cli::which::Which;
use crate::disk::Disk;
use crate::policy::outline::path::DomainPath;
use crate::policy::tree::file::{FILE_BYTES_MAX, FileName};

/// What is done.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  forebay files put agent.ini --domain Branches\n  forebay files list")]
pub enum Files {
    /// List the files, with where each stands.
    List(Asking),
    /// Print a file, or write it somewhere.
    Show(Show),
    /// Put a file there, in place of the one of its name.
    #[command(
        after_help = "Example:\n  forebay files put agent.ini --domain Branches\n  forebay files put - --name agent.ini < other.ini"
    )]
    Put(Put),
    /// Take a file away.
    Remove(Remove),
}

/// Shows a file.
#[derive(Debug, Args)]
pub struct Show {
    /// Its name.
    #[arg(value_name = "NAME", value_parser = FileName::parse)]
    name: FileName,
    #[command(flatten)]
    at: At,
    /// Where to write it, as its owner's alone; '-' is standard output.
    #[arg(long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    #[command(flatten)]
    which: Which,
}

/// Puts a file.
#[derive(Debug, Args)]
pub struct Put {
    /// The file to read; '-' is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What agents are to know it by; its own name where nothing is said.
    #[arg(long, value_name = "NAME", value_parser = FileName::parse)]
    name: Option<FileName>,
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    asking: Asking,
}

/// Removes a file.
#[derive(Debug, Args)]
pub struct Remove {
    /// Its name.
    #[arg(value_name = "NAME", value_parser = FileName::parse)]
    name: FileName,
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    asking: Asking,
}

/// Where a file stands.
#[derive(Debug, Args)]
pub struct At {
    /// The domain that it stands at; the root where nothing is said.
    #[arg(long, value_name = "PATH", value_parser = DomainPath::parse)]
    domain: Option<DomainPath>,
}

const COLUMNS: [Column; 4] =
    [Column::Words("name"), Column::Words("at"), Column::Numbers("version"), Column::Numbers("size")];

impl At {
    fn path(&self, api: &Api, name: &FileName) -> Result<String, Failed> {
        let domain = self.domain.as_ref().map(|path| place::domain(api, path)).transpose()?;
        let domain = domain.map(|domain| format!("?domain={}", domain.id)).unwrap_or_default();
        Ok(format!("files/{}{domain}", escaped(name.as_str())))
    }
}

impl Files {
    /// Does it.
    pub fn run(self) -> Result<(), Failed> {
        match self {
            Self::List(asking) => {
                let api = asking.api()?;
                let listed = api.list("files", CURSOR, usize::MAX)?;
                asking.print(&listed, |listed| {
                    let paths = Paths::all(&api)?;
                    let mut table = Table::new(&COLUMNS, "There is no settings file.");
                    for File { domain, name, version, bytes, .. } in items(listed.items.clone())? {
                        let at = domain.map_or_else(|| "the root".to_owned(), |domain| paths.of(domain));
                        let size = HumanBytes(bytes).to_string();
                        table.row(&[name.as_str().to_owned(), at, version.to_string(), size]);
                    }
                    table.print();
                    Ok(())
                })
            }
            Self::Show(command) => command.run(),
            Self::Put(command) => command.run(),
            Self::Remove(Remove { name, at, asking }) => {
                let api = asking.api()?;
                let made = api.delete(&at.path(&api, &name)?, None)?;
                asking.print_made(&made)
            }
        }
    }
}

impl Show {
    fn run(self) -> Result<(), Failed> {
        let api = Api::find(&self.which)?;
        let bytes = api.bytes(&self.at.path(&api, &self.name)?)?;
        if self.output == Path::new("-") {
            // The reader may have left.
            let _ = io::stdout().lock().write_all(&bytes);
            return Ok(());
        }
        let path = std::path::absolute(&self.output)?;
        let written = Disk::default().write_whole_private(&path, &bytes);
        written.map_err(|error| Failed::new(format!("{}: {error}", self.output.display())))
    }
}

impl Put {
    fn run(self) -> Result<(), Failed> {
        let own = || {
            let name = self.file.file_name().and_then(|name| name.to_str()).filter(|name| *name != "-");
            name.ok_or_else(|| Failed::new("say what the file is to be called: --name NAME"))
        };
        let name = match &self.name {
            Some(name) => name.clone(),
            None => FileName::parse(own()?)?,
        };
        let bytes =
            read(&self.file).map_err(|error| Failed::new(format!("{}: {error}", self.file.display())))?;
        let api = self.asking.api()?;
        let made = api.put(&self.at.path(&api, &name)?, bytes)?;
        self.asking.print_made(&made)
    }
}

/// One byte more than there may be is enough to be refused.
fn read(file: &Path) -> io::Result<Vec<u8>> {
    let (mut bytes, most) = (Vec::new(), FILE_BYTES_MAX + 1);
    if file == Path::new("-") {
        io::stdin().lock().take(most).read_to_end(&mut bytes)?;
    } else {
        std::fs::File::open(file)?.take(most).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}
