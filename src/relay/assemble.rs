//! A candidate: what a manifest names is fetched, or asked for, as the prefetch rule says (R1.4, R1.5).
//!
//! signatures -> entries, taken over from older generations where they may be -> folder and journal -> packages and
//! increments. Never makes anything visible: that is `refresh`'s last step. Invariant: a file that the upstream does not
//! have is an error, unless it is a signature, an increment or a guess; then the candidate says so, and no older generation
//! does.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use tracing::warn;

use crate::base::path::TreePath;
use crate::base::validator::Validator;
use crate::config::settings::Prefetch;
use crate::manifest::catalogue::Catalogue;
use crate::manifest::server_ini::Manifest;
use crate::relay::entry::{Entry, Filling, Prior, Role, State};
use crate::relay::fill::FillError;
use crate::relay::generation::{Files, Generation};
use crate::relay::load::shared;
use crate::relay::refresh::RefreshError;
use crate::relay::tree::Tree;
use crate::store::generations::{Head, Held, Record};
use crate::upstream::{Answer, Head as OriginHead, Part, Request, Upstream, UpstreamError};

/// The pause before a head is asked for again; it doubles.
const PROBE_PAUSE: Duration = Duration::from_millis(200);

/// Fetches what a manifest names and gives the generation, ready to be published.
pub(super) async fn assemble(
    tree: &Arc<Tree>,
    head: Head,
    (manifest, catalogue): (Manifest, Catalogue),
) -> Result<Arc<Generation>, RefreshError> {
    let signatures = signatures(tree, &head, &manifest).await?;
    let begun = {
        let tree = tree.clone();
        tokio::task::spawn_blocking(move || begin(&tree, head, (manifest, catalogue), &signatures)).await
    };
    let generation = begun.map_err(|error| std::io::Error::other(error.to_string()))??;
    let absent = fetch_payloads(tree, &generation).await?;
    if absent.is_empty() {
        return Ok(generation);
    }
    let generation = Arc::new(generation.withholding(&absent));
    tree.work().candidate = Some(generation.clone());
    Ok(generation)
}

/// Begins the generation's folder and makes it the candidate. Blocks on the disk.
fn begin(
    tree: &Tree,
    head: Head,
    (manifest, catalogue): (Manifest, Catalogue),
    signatures: &Files,
) -> std::io::Result<Arc<Generation>> {
    let files = {
        // What is shared may be of a generation that is dropped next: a sweep finds these files' names before or after.
        let _naming = tree.resources.naming.read().unwrap_or_else(PoisonError::into_inner);
        let files = name_files(tree, &manifest, signatures);
        tree.work().pending = Some(Arc::new(files.clone()));
        files
    };
    let known = records(&files);
    let folder = tree.resources.store.begin_generation(&tree.name, head.clone(), manifest.bytes(), &known)?;
    let generation = Arc::new(Generation::new(tree.name.clone(), head, manifest, catalogue, files, folder));
    let mut work = tree.work();
    work.candidate = Some(generation.clone());
    work.pending = None;
    drop(work);
    Ok(generation)
}

/// The entries of a manifest's files, those of older generations where they may be.
fn name_files(tree: &Tree, manifest: &Manifest, signatures: &Files) -> Files {
    let older = older(tree);
    let mut files = Files::default();
    files.add_all(signatures);
    files.add_listings(&tree.name, manifest, |identity| match shared(&older, &identity) {
        Some(entry) if same_signature(&older, signatures, entry.path()) => entry,
        Some(entry) => Arc::new(Entry::new(identity, prior_of(&entry))),
        None => Arc::new(Entry::new(identity, None)),
    });
    files
}

/// Generations that entries may come from, the oldest first: the kept ones, then the one that was being fetched.
fn older(tree: &Tree) -> Vec<Arc<Generation>> {
    let snapshot = tree.snapshot();
    let published = snapshot.iter().flat_map(|snapshot| snapshot.published().iter().rev());
    published.map(|published| published.generation.clone()).chain(tree.work().candidate.clone()).collect()
}

fn prior_of(entry: &Entry) -> Option<Prior> {
    match &**entry.state() {
        State::Held(blob, stamp) => Some(Prior { blob: *blob, validator: stamp.validator.clone() }),
        _ => entry.prior().cloned(),
    }
}

/// Whether the newest older generation that names a file has the same signature for it: where it has not, the file was
/// published anew under its old name, and the upstream is asked whether it changed.
fn same_signature(older: &[Arc<Generation>], signatures: &Files, path: &TreePath) -> bool {
    let Some(signature) = path.signature() else { return true };
    let before = older.iter().rev().find(|generation| generation.listed(path).is_some());
    let before =
        before.and_then(|generation| generation.listed(&signature)).and_then(|listed| listed.entry.held());
    let now = signatures.listed(&signature).and_then(|listed| listed.entry.held());
    before.map(|blob| blob.id) == now.map(|blob| blob.id)
}

/// Fetches every signature that a manifest's listings have, whatever else is fetched lazily.
async fn signatures(tree: &Arc<Tree>, head: &Head, manifest: &Manifest) -> Result<Arc<Files>, RefreshError> {
    let older = older(tree);
    let begun = tree.work().pending.clone();
    let prior = |path: &TreePath| {
        let pending = begun.as_ref().and_then(|begun| begun.listed(path));
        // Another origin may give the same tag to other bytes.
        let same = older.iter().rev().filter(|generation| generation.head().origin == head.origin);
        let before = same.filter_map(|generation| generation.listed(path));
        pending.into_iter().chain(before).find_map(|listed| prior_of(&listed.entry))
    };
    // New entries even for a manifest that was tried before: its signatures may have come after it.
    let signatures = Arc::new(Files::signatures(&tree.name, head.number, manifest, prior));
    tree.work().pending = Some(signatures.clone());
    let all: Vec<_> = signatures.iter().map(|listed| listed.entry.clone()).collect();
    tree.progress().send_modify(|progress| {
        let listed = manifest.listings();
        progress.files = (all.len() + listed.len()) as u64;
        // Sizes are what the manifest says: a sum of absurd ones is as absurd.
        progress.bytes = listed.iter().map(|listing| listing.size).fold(0, u64::saturating_add);
        progress.files_done = 0;
        progress.bytes_done = 0;
    });
    each(tree, all, |tree, entry| async move {
        match fetch(&tree, &entry).await {
            Err(error) if matches!(*error, FillError::NotFound) => {
                warn!(tree = %tree.name, path = %entry.path(), "the upstream has no such signature: agents get 404 for it");
                entry.set_absent();
                Ok(())
            }
            fetched => fetched.map_err(|error| RefreshError::Fetch { path: entry.path().clone(), error }),
        }
    })
    .await?;
    Ok(signatures)
}

/// Fetches packages and increments, or asks for their heads alone, as the prefetch rule says. Gives the increments and
/// guesses that the upstream does not have.
async fn fetch_payloads(
    tree: &Arc<Tree>,
    generation: &Arc<Generation>,
) -> Result<HashSet<TreePath>, RefreshError> {
    let payloads = generation.files().filter(|listed| listed.entry.identity().role != Role::Signature);
    let payloads: Vec<_> = payloads.map(|listed| listed.entry.clone()).collect();
    // All of it at once: a generation that cannot be had whole is not begun, and costs no older one its files.
    let fetched = payloads.iter().filter(|entry| entry.held().is_none() && is_fetched(tree, entry));
    let store = &tree.resources.store;
    let bytes = fetched.filter_map(|entry| Some(store.room_for(entry.staging_key(), entry.size()?)));
    tree.resources.make_room(bytes.fold(0, u64::saturating_add)).await?;
    let absent = each(tree, payloads, |tree, entry| async move {
        let fetched = if is_fetched(&tree, &entry) {
            fetch(&tree, &entry).await
        } else {
            probe(&tree, &entry).await
        };
        match (fetched, entry.identity().role) {
            (Err(error), Role::Increment) if matches!(*error, FillError::NotFound) => {
                warn!(tree = %tree.name, path = %entry.path(), "the upstream has no such increment: it is withheld");
                Ok(Some(entry.path().clone()))
            }
            (Err(error), Role::Guess) if error.is_lasting() && error.no_room().is_none() => {
                warn!(tree = %tree.name, path = %entry.path(), %error, "an unknown line seems to name a file, which cannot be had");
                Ok(Some(entry.path().clone()))
            }
            (Err(error), _) if matches!(*error, FillError::NotFound) => {
                Err(RefreshError::Missing(entry.path().clone()))
            }
            (Ok(()), _) => Ok(None),
            (Err(error), _) => Err(RefreshError::Fetch { path: entry.path().clone(), error }),
        }
    })
    .await?;
    Ok(absent.into_iter().flatten().collect())
}

/// Whether the prefetch rule has an entry fetched before it is shown.
fn is_fetched(tree: &Tree, entry: &Entry) -> bool {
    match tree.settings().prefetch {
        Prefetch::All => true,
        Prefetch::Used => tree.resources.store.index().is_used(&tree.name, &entry.usage()),
        Prefetch::None => false,
    }
}

/// Does something for each entry, as many at once as prefetch may, until the first error.
async fn each<T, F>(
    tree: &Arc<Tree>,
    entries: Vec<Arc<Entry>>,
    work: impl Fn(Arc<Tree>, Arc<Entry>) -> F,
) -> Result<Vec<T>, RefreshError>
where
    F: Future<Output = Result<T, RefreshError>>,
{
    let works = stream::iter(entries).map(|entry| {
        let done = work(tree.clone(), entry.clone());
        async move {
            let done = done.await?;
            tree.progress().send_modify(|progress| {
                progress.files_done += 1;
                progress.bytes_done = progress.bytes_done.saturating_add(entry.identity().size.unwrap_or(0));
            });
            Ok(done)
        }
    });
    works.buffer_unordered(tree.resources.prefetch_at_once()).try_collect().await
}

async fn fetch(tree: &Arc<Tree>, entry: &Arc<Entry>) -> Result<(), Arc<FillError>> {
    entry.forget_failure();
    match tree.fill(entry) {
        Some(fill) => fill.finished().await.map(|_| ()),
        None => Ok(()),
    }
}

/// The head of an entry, asked for again where the error may pass, as a fill does.
async fn patient_head(tree: &Arc<Tree>, entry: &Arc<Entry>) -> Result<Validator, Arc<FillError>> {
    let mut tries = 1..tree.resources.fill_attempts();
    let mut pause = PROBE_PAUSE;
    loop {
        match ask_head(tree, entry).await {
            Err(error) if !error.is_lasting() && tries.next().is_some() => {
                tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..=1.0))).await;
                pause *= 2;
            }
            asked => return asked,
        }
    }
}

/// Asks for the head of an entry that is not held: that it is there, how long it is, and what its state is.
async fn probe(tree: &Arc<Tree>, entry: &Arc<Entry>) -> Result<(), Arc<FillError>> {
    if entry.held().is_some() {
        return Ok(());
    }
    let validator = patient_head(tree, entry).await?;
    // What a fill has seen meanwhile is newer.
    let filling = entry.filling();
    if !matches!(*filling, Filling::Running(_)) {
        entry.set_probed(validator);
    }
    Ok(())
}

/// Whether the upstream has now anything that it did not have when the generation was made.
pub(super) async fn anything_appeared(tree: &Arc<Tree>, generation: &Generation) -> bool {
    let absent = generation.files().filter(|listed| matches!(**listed.entry.state(), State::Absent));
    let absent: Vec<_> = absent.map(|listed| listed.entry.clone()).collect();
    let asked = stream::iter(absent).map(|entry| async move { ask_head(tree, &entry).await.is_ok() });
    asked.buffer_unordered(tree.resources.prefetch_at_once()).any(std::future::ready).await
}

/// Asks the origins for an entry's head until one has it, in the length that the manifest says.
async fn ask_head(tree: &Arc<Tree>, entry: &Arc<Entry>) -> Result<Validator, Arc<FillError>> {
    let upstream = tree.upstream();
    let (mut failed, mut missing) = (FillError::NotFound, false);
    for step in 0..upstream.origins() {
        match origin_head(&upstream, tree.preferred_origin() + step, entry.path()).await {
            Ok(head) => match (head.size, entry.identity().size) {
                (Some(size), Some(listed)) if size != listed => {
                    let error = UpstreamError::Head("its length is not the one that the manifest says");
                    failed = FillError::Upstream(error);
                }
                _ => return Ok(head.validator),
            },
            // The origin that gave the manifest has the last word on what is missing.
            Err(UpstreamError::NotFound) if step == 0 => missing = true,
            Err(UpstreamError::NotFound) => {}
            Err(error) => failed = FillError::Upstream(error),
        }
    }
    Err(Arc::new(if missing { FillError::NotFound } else { failed }))
}

/// The head that one origin has for a path. Not every server knows HEAD: then its first byte is asked for.
async fn origin_head(
    upstream: &Upstream,
    origin: usize,
    path: &TreePath,
) -> Result<OriginHead, UpstreamError> {
    let ask = |part| upstream.fetch(origin, Request { path: path.as_str(), part });
    let answer = match ask(Part::Head).await {
        Err(UpstreamError::Status(405 | 501)) => ask(Part::First).await?,
        answer => answer?,
    };
    match answer {
        Answer::Head(head) => Ok(head),
        Answer::Found(_) | Answer::Unchanged => Err(UpstreamError::Head("its answer is not a head")),
    }
}

/// What is known of files by now, as a journal has it.
fn records(files: &Files) -> Vec<Record> {
    files.iter().filter_map(|listed| record(&listed.entry)).collect()
}

pub(super) fn record(entry: &Entry) -> Option<Record> {
    let path = entry.path().clone();
    match &**entry.state() {
        State::Held(blob, stamp) => {
            Some(Record::Held(Held { path, blob: *blob, validator: stamp.validator.clone() }))
        }
        State::Absent => Some(Record::Absent { path }),
        State::Listed | State::Seen(_) => None,
    }
}
