//! `forebay check upstream`: asks an upstream as the relay would, and shows what happens.
//!
//! Never keeps what it fetched. Invariant: names, routes, races and TLS are the relay's own; here is only what it looks like.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use clap::Args;
use hyper::StatusCode;
use serde_json::{Value, json};
use url::Url;

use crate::app::clients;
use crate::base::clock::SystemClock;
use crate::base::limits::MANIFEST_BYTES_MAX;
use crate::base::tally::Tally;
use crate::cli::check::told::{Form, Told};
use crate::cli::output::print;
use crate::cli::{Failed, settings};
use crate::config::settings::{Nat64, ReachSettings, Settings, Upstream as TreeUpstream};
use crate::config::value::upstream_url;
use crate::manifest::catalogue::Catalogue;
use crate::manifest::server_ini::Manifest;
use crate::upstream::watch::Watcher;
use crate::upstream::{Answer, Deadlines, Head, Origin, Part, Request, Upstream as Asked, UpstreamError};

/// Asks an upstream.
#[derive(Debug, Args)]
pub struct Upstream {
    /// The upstream's base, as the settings have it, or the URL of its server.ini.
    #[arg(value_name = "URL")]
    url: String,
    /// The settings by which it is asked; without it, the defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one JSON object for programs, at the end.
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Debug, Default)]
struct Found {
    /// Why there was no answer.
    unanswered: Option<String>,
    /// What it says of the manifest, or why it is none.
    tree: Option<Result<Tree, String>>,
    ranges: Option<Ranges>,
}

/// A manifest in figures.
#[derive(Debug)]
struct Tree {
    bytes: usize,
    files: usize,
    /// How many of each class.
    components: BTreeMap<String, usize>,
    unknown: usize,
    /// A file that it lists.
    listed: Option<String>,
}

/// Whether a transfer that broke off can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ranges {
    /// It can.
    Resume,
    /// Parts come, but nothing says of which state of a file.
    WithoutTag,
    /// The whole file comes.
    Ignored,
    /// The question had no answer.
    Unknown,
}

impl Upstream {
    /// Asks and shows.
    pub fn run(self) -> Result<(), Failed> {
        let base = base(&self.url)?;
        let settings = match &self.config {
            Some(file) => settings::read(file)?,
            None => Settings::for_upstream(base.as_str())?,
        };
        let told = Arc::new(Told::new(if self.json { Form::Json } else { Form::Lines }));
        if let Nat64::Prefix(prefix) = settings.upstream.nat64 {
            told.say(&format!("NAT64 prefix of the settings: {prefix}"));
        }
        let watcher = {
            let told = told.clone();
            Watcher::new(move |step| told.note(&step))
        };
        let (reach, catalogue) = ways_of(&settings, &base);
        let deadlines = Deadlines { first_byte: settings.fill.first_byte, silence: settings.fill.silence };
        let clients = clients::watched(settings, Arc::new(SystemClock::default()), watcher)?;
        let origin = Origin::Url(base.clone(), Box::new(clients.client(reach)));
        let asked = Asked::new(vec![origin], deadlines, Arc::new(Tally::default()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let found = runtime.block_on(find(&asked, &catalogue, &told));
        told.say(&found.words());
        if self.json {
            let mut value = found.value();
            value["url"] = base.as_str().into();
            value["steps"] = told.steps().into();
            print(&serde_json::to_string_pretty(&value)?);
        }
        found.unanswered.map_or(Ok(()), |reason| Err(Failed::new(reason)))
    }
}

/// The base that is meant.
fn base(text: &str) -> Result<Url, Failed> {
    let text = text.strip_suffix(MANIFEST).unwrap_or(text);
    let wrong = |reason: String| {
        Failed::new(format!(
            "{text}: {reason}; an upstream to ask is an http or https URL without credentials"
        ))
    };
    if !text.contains("://") {
        return Err(wrong("no URL".into()));
    }
    // What is wrong with a URL that holds credentials is said without them.
    upstream_url(text).map_err(|reason| {
        if text.contains('@') { Failed::new(format!("the URL: {reason}")) } else { wrong(reason) }
    })
}

/// How the settings reach a URL, and by which catalogue they read what is there: as the tree or mount that has it.
fn ways_of(settings: &Settings, base: &Url) -> (ReachSettings, Catalogue) {
    let tree = settings
        .trees
        .iter()
        .find(|tree| matches!(&tree.upstream, TreeUpstream::Urls(urls) if urls.contains(base)));
    if let Some(tree) = tree {
        return (tree.reach, tree.catalogue());
    }
    let mount = settings.mounts.iter().find(|mount| mount.upstream == *base);
    (mount.map_or_else(ReachSettings::default, |mount| mount.reach), Catalogue::builtin())
}

async fn find(asked: &Asked, catalogue: &Catalogue, told: &Told) -> Found {
    let manifest = match manifest(asked).await {
        Ok(bytes) => Manifest::read(bytes, catalogue).map_err(|error| error.to_string()),
        Err(error @ (UpstreamError::NotFound | UpstreamError::Status(_) | UpstreamError::Head(_))) => {
            Err(error.to_string())
        }
        Err(error) => return Found { unanswered: Some(error.to_string()), ..Found::default() },
    };
    let tree = manifest.map(|manifest| Tree::of(&manifest));
    let path = match &tree {
        Ok(tree) => tree.listed.as_deref().unwrap_or(MANIFEST),
        Err(_) => return Found { tree: Some(tree), ..Found::default() },
    };
    let part = asked.fetch(0, Request { path, part: Part::First }).await;
    let ranges = match (part, told.status()) {
        (Ok(Answer::Head(Head { validator, .. })), Some(StatusCode::PARTIAL_CONTENT)) => {
            if validator.strong().is_some() { Ranges::Resume } else { Ranges::WithoutTag }
        }
        (Ok(_), _) => Ranges::Ignored,
        (Err(_), _) => Ranges::Unknown,
    };
    Found { tree: Some(tree), ranges: Some(ranges), unanswered: None }
}

async fn manifest(asked: &Asked) -> Result<Bytes, UpstreamError> {
    let answer = asked.fetch(0, Request { path: MANIFEST, part: Part::Whole }).await?;
    let Answer::Found(mut transfer) = answer else { return Err(UpstreamError::Head("it has no bytes")) };
    let mut bytes = BytesMut::new();
    while let Some(chunk) = transfer.chunk().await? {
        if bytes.len() + chunk.len() > MANIFEST_BYTES_MAX {
            return Err(UpstreamError::Head("it is too long for a manifest"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

impl Tree {
    fn of(manifest: &Manifest) -> Self {
        let known: BTreeSet<_> =
            manifest.listings().iter().map(|listing| (&listing.component, listing.class)).collect();
        let mut components = BTreeMap::new();
        for (_, class) in known {
            *components.entry(format!("{class:?}").to_lowercase()).or_default() += 1;
        }
        Self {
            bytes: manifest.bytes().len(),
            files: manifest.listings().len(),
            components,
            unknown: manifest.unknown().len(),
            listed: manifest.listings().first().map(|listing| listing.path.to_string()),
        }
    }
}

impl Found {
    fn words(&self) -> String {
        let tree = self.tree.as_ref().map(|tree| match tree {
            Ok(tree) => {
                let classes = tree.components.iter().map(|(class, count)| format!("{class} {count}"));
                let classes = classes.collect::<Vec<_>>().join(", ");
                format!(
                    "an ActiveUpdate tree: server.ini has {} bytes; {} components ({classes}), {} files, {} unknown lines",
                    tree.bytes,
                    tree.components.values().sum::<usize>(),
                    tree.files,
                    tree.unknown
                )
            }
            Err(reason) => format!("no ActiveUpdate tree: server.ini: {reason}"),
        });
        let ranges = self.ranges.map(|ranges| format!("ranges: {}", ranges.words()));
        ranges.into_iter().chain(tree).collect::<Vec<_>>().join("\n")
    }

    fn value(&self) -> Value {
        let tree = self.tree.as_ref();
        let figures = tree.and_then(|tree| tree.as_ref().ok()).map(|tree| {
            json!({
                "bytes": tree.bytes,
                "files": tree.files,
                "components": tree.components,
                "unknown_lines": tree.unknown,
            })
        });
        json!({
            "answered": self.unanswered.is_none(),
            "reason": self.unanswered,
            "ranges": self.ranges.map(Ranges::words),
            "tree": figures,
            "no_tree_because": tree.and_then(|tree| tree.as_ref().err()),
        })
    }
}

impl Ranges {
    fn words(self) -> &'static str {
        match self {
            Self::Resume => "work, and what broke off resumes",
            Self::WithoutTag => "work, but without a strong entity tag: what broke off starts over",
            Self::Ignored => "are ignored: what broke off starts over",
            Self::Unknown => "could not be asked for",
        }
    }
}

/// The file that makes a tree.
const MANIFEST: &str = "server.ini";
