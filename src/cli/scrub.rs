//! `forebay scrub`: has every stored file checked against its hash, by the running relay or, where none runs, here.
//!
//! Exit codes besides those of all commands: 3 when damaged files were found.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use hyper::Method;
use indicatif::{HumanBytes, HumanCount, MultiProgress};
use jiff::Timestamp;

use crate::base::tree::TreeName;
use crate::cli::Failed;
use crate::cli::client::{Asked, ask};
use crate::cli::output::{print, print_error};
use crate::cli::progress::{Lines, Unit, Work};
use crate::cli::which::{FOLDER_HELP, Found as Place, Which};
use crate::config::value::byte_count;
use crate::disk::Disk;
use crate::store::Store;
use crate::store::blobs::BlobName;
use crate::store::eviction::Candidate;
use crate::store::generations::Record;
use crate::store::quarantine::Removal;
use crate::store::scrub::{Bookmark, Found, Look, OPEN_COST_BYTES, Pace, Pass};

/// Between two looks at the relay.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The exit code when damaged files were found.
const DAMAGED: u8 = 3;

/// Checks every stored file against its hash. Damaged ones are put into quarantine: the running relay fetches them anew;
/// without one, the next relay does when an agent asks. Ends with 3 if any was damaged, with 0 if none was.
#[derive(Debug, Args)]
#[command(after_help = FOLDER_HELP)]
pub struct Scrub {
    #[command(flatten)]
    which: Which,
    /// Read no more than this in a second, such as "20 MiB"; as much as the disk gives where nothing is said.
    #[arg(long, value_name = "BYTES", value_parser = rate)]
    rate: Option<u64>,
}

fn rate(text: &str) -> Result<u64, String> {
    match text.parse().or_else(|_| byte_count(text))? {
        0 => Err("at least 1 byte a second".into()),
        rate => Ok(rate),
    }
}

impl Scrub {
    /// Checks, shows progress, and says what was found.
    pub fn run(self) -> Result<(), Failed> {
        let (pass, after) = match self.which.look()? {
            Place::Relay(relay) => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                (runtime.block_on(online(&relay, self.rate))?, "the relay fetches them anew")
            }
            Place::Folder(data) => {
                (offline(&data, self.rate)?, "a relay fetches them anew when an agent asks for them")
            }
        };
        tell(&pass, after)
    }
}

fn tell(pass: &Pass, after: &str) -> Result<(), Failed> {
    print(&format!(
        "{} files checked, {}; {} damaged",
        HumanCount(pass.blobs),
        HumanBytes(pass.bytes),
        HumanCount(pass.bad)
    ));
    for Found { blob, size, flaw, files } in &pass.found {
        let files = if files.is_empty() { "named by no generation".to_owned() } else { files.join(", ") };
        print(&format!("damaged: {files}: {flaw} (blob {blob}, {size} bytes)"));
    }
    let untold = pass.bad - (pass.found.len() as u64).min(pass.bad);
    if untold > 0 {
        print(&format!("and {untold} more"));
    }
    if pass.skipped > 0 {
        print_error(&format!("forebay: {} files could not be checked", HumanCount(pass.skipped)));
    }
    match (pass.bad, pass.skipped) {
        (0, 0) => Ok(()),
        (0, _) => Err(Failed::new("not every file was checked: the log says why")),
        _ => Err(Failed::with_code(
            DAMAGED,
            format!("damaged files are in quarantine and served no more; {after}"),
        )),
    }
}

/// Has the running relay do it.
async fn online(relay: &Asked, rate: Option<u64>) -> Result<Pass, Failed> {
    let query = rate.map_or_else(String::new, |rate| format!("?bytes_per_sec={rate}"));
    let asked = ask(relay, Method::POST, &format!("/api/v1/scrub{query}")).await?;
    let until = asked["until_ended"].as_u64().unwrap_or_default();
    let mut work = Work::begin(&Arc::new(MultiProgress::new()), "scrub", Unit::Bytes, Lines::Printed);
    loop {
        let status = ask(relay, Method::GET, "/api/v1/status").await?;
        let scrub = &status["scrub"];
        if scrub["ended"].as_u64() >= Some(until) {
            return Ok(serde_json::from_value(scrub["last"].clone())?);
        }
        let number = |value: &serde_json::Value| value.as_u64().unwrap_or(0);
        let pass = &scrub["pass"];
        let files = format!("file {} of {}", number(&pass["blobs"]), number(&scrub["blobs"]));
        work.show(number(&pass["bytes"]), number(&scrub["bytes"]), &files);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Does it in this process, which holds the data folder meanwhile.
fn offline(data: &Path, rate: Option<u64>) -> Result<Pass, Failed> {
    if !data.join("FORMAT").is_file() {
        return Err(Failed::new(format!(
            "{} is no data folder of a relay: name one with --data or --config",
            data.display()
        )));
    }
    let store = Store::open(data, Disk::default())?;
    let (blobs, bytes) =
        store.index().blobs().fold((0u64, 0), |(blobs, bytes), name| (blobs + 1, bytes + name.size));
    let mut work = Work::begin(&Arc::new(MultiProgress::new()), "scrub", Unit::Bytes, Lines::Printed);
    let (begun, mut pace) = (Instant::now(), Pace::default());
    let mut rest = |bytes| std::thread::sleep(pace.rest(begun.elapsed(), bytes, rate));
    let mut pass = Pass::begin(Timestamp::now());
    for name in store.index().blobs().map(Candidate::name) {
        work.show(pass.bytes, bytes, &format!("file {} of {blobs}", pass.blobs));
        let mut look = store.look(name);
        rest(OPEN_COST_BYTES);
        while let Ok(Look::More(check)) = look {
            let before = check.done();
            look = check.go_on();
            let done = if let Ok(Look::More(check)) = &look { check.done() } else { name.size };
            work.show(pass.bytes + done, bytes, &format!("file {} of {blobs}", pass.blobs));
            rest(done - before);
        }
        match look {
            Ok(Look::Bad(suspect)) => {
                let flaw = suspect.flaw.to_string();
                match store.quarantine(&suspect) {
                    Removal::Out => {
                        let files = files(&store, name);
                        pass.count(name, Some(Found { blob: name.id, size: name.size, flaw, files }));
                    }
                    // Nobody else may change the folder; whoever did is not to be raced.
                    Removal::Replaced | Removal::Swept => pass.skip(name),
                }
            }
            Ok(_) => pass.count(name, None),
            Err(error) => {
                print_error(&format!("forebay: blob {} could not be checked: {error}", name.id));
                pass.skip(name);
            }
        }
    }
    drop(work);
    pass.ended = Some(Timestamp::now());
    store.keep_bookmark(&Bookmark { pass: None, last: Some(pass.clone()) })?;
    Ok(pass)
}

/// The files that a blob is, as the generations' journals name them.
fn files(store: &Store, name: BlobName) -> Vec<String> {
    let folders = std::fs::read_dir(store.root().join("trees")).into_iter().flatten().flatten();
    let mut files = std::collections::BTreeSet::new();
    for folder in folders {
        let Some(tree) = folder.file_name().to_str().and_then(|name| TreeName::parse(name).ok()) else {
            continue;
        };
        // A tree that cannot be read has files without names here; a relay says what is wrong with it.
        let Ok(stored) = store.stored_tree(&tree) else { continue };
        for record in stored.published.iter().chain(&stored.next).flat_map(|stored| &stored.records) {
            if let Record::Held(held) = record
                && held.blob == name
            {
                files.insert(format!("{tree}/{}", held.path));
            }
        }
    }
    files.into_iter().collect()
}
