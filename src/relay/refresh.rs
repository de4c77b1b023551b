//! How a tree gets a new generation (R1.4 to R1.7).
//!
//! manifest (conditional) -> parse -> signatures -> packages and increments, as the prefetch rule asks -> manifest again
//! -> publish. If the manifest changed meanwhile, it starts over with what is there already.
//!
//! Invariant: a generation is published whole or not at all; when anything is missing or malformed, the current one stays.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use serde::Serialize;
use thiserror::Error;
use tracing::{debug, error, info, warn};

use crate::base::blob::BlobId;
use crate::base::limits::{MANIFEST_BYTES_MAX, REFRESH_RESTARTS_MAX};
use crate::base::path::TreePath;
use crate::base::tree::GenerationNumber;
use crate::base::validator::Validator;
use crate::manifest::catalogue::Catalogue;
use crate::manifest::server_ini::{Manifest, ManifestError};
use crate::relay::assemble::{anything_appeared, assemble, record};
use crate::relay::entry::{Role, State};
use crate::relay::fill::FillError;
use crate::relay::generation::{Generation, Listed};
use crate::relay::tree::Tree;
use crate::store::generations::Head;
use crate::store::room::NoRoom;
use crate::upstream::{Answer, Part, Request, Upstream, UpstreamError};

/// The manifest's name in every tree.
pub const MANIFEST: &str = "server.ini";

/// Between two refreshes, whoever asks for them.
const GAP: Duration = Duration::from_secs(1);

/// The first pause after a refresh that failed; it doubles up to the tree's interval.
const RETRY: Duration = Duration::from_secs(5);

/// How old a date must be to tell two states of a manifest apart.
const DATE_AGE: Duration = Duration::from_mins(1);

/// How far a refresh is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Whether one is under way.
    pub running: bool,
    /// How many have ended since the start.
    pub ended: u64,
    /// Files of the new generation that are there.
    pub files_done: u64,
    /// Files that it needs.
    pub files: u64,
    /// Their bytes that are there.
    pub bytes_done: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How the last one ended; `None` before the first.
    pub last: Option<Last>,
}

/// How a refresh ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Last {
    /// The current generation is the upstream's.
    Same,
    /// A new generation was published.
    New(GenerationNumber),
    /// It failed; the current generation stays.
    Failed(String),
}

/// Why there is no new generation.
#[derive(Debug, Error)]
pub enum RefreshError {
    /// No origin gave a manifest.
    #[error("{origin}{MANIFEST}: {error}", origin = with_slash(.origin))]
    Upstream {
        /// The last origin that was asked.
        origin: String,
        /// What it did.
        error: UpstreamError,
    },
    /// What the upstream gave is no manifest.
    #[error("{origin}{MANIFEST}: {error}", origin = with_slash(.origin))]
    Malformed {
        /// Where it came from.
        origin: String,
        /// What is wrong with it.
        error: ManifestError,
    },
    /// An origin has what another gave before.
    #[error("{origin}{MANIFEST}: it is an older one: the origin lags behind", origin = with_slash(.origin))]
    Lagging {
        /// The origin.
        origin: String,
    },
    /// A package that the manifest names is not there: the generation is refused.
    #[error("the manifest names {0}, which the upstream does not have: the generation is refused")]
    Missing(TreePath),
    /// A file could not be fetched.
    #[error("{path}: {error}")]
    Fetch {
        /// The file.
        path: TreePath,
        /// Why not.
        error: Arc<FillError>,
    },
    /// The quota is too small for it, with the current generation beside it.
    #[error("the new generation does not fit: {0}")]
    NoRoom(#[from] NoRoom),
    /// The manifest changed each time while its files were fetched.
    #[error("the manifest changed {REFRESH_RESTARTS_MAX} times while its files were fetched")]
    Restless,
    /// A reload named another upstream; the next refresh asks that.
    #[error("a reload named another upstream while files were fetched from the one before")]
    Reloaded,
    /// The store failed.
    #[error("store: {0}")]
    Store(#[from] std::io::Error),
}

impl RefreshError {
    /// How many bytes are missing, where that is the reason.
    fn missing_bytes(&self) -> u64 {
        match self {
            Self::NoRoom(no_room) => no_room.missing,
            Self::Fetch { error, .. } => error.no_room().map_or(0, |no_room| no_room.missing),
            _ => 0,
        }
    }
}

/// A manifest as an origin offers it.
struct Offered {
    origin: usize,
    bytes: Bytes,
    validator: Validator,
}

/// Refreshes a tree at its interval and whenever it is asked to, until the relay stops.
pub async fn run(tree: Arc<Tree>) {
    let stop = tree.resources.stop.clone();
    let mut retry = RETRY;
    loop {
        tree.progress().send_modify(|progress| {
            *progress = Progress {
                running: true,
                ended: progress.ended,
                last: progress.last.take(),
                ..Progress::default()
            };
        });
        let ended = tokio::select! {
            ended = refresh(&tree) => ended,
            () = stop.cancelled() => return,
        };
        let interval = tree.settings().refresh;
        let pause = if ended.is_ok() { interval } else { retry.min(interval) };
        retry = if ended.is_ok() { RETRY } else { (retry * 2).min(interval) };
        note_end(&tree, ended);
        let pause = jittered(pause, tree.settings().jitter_percent);
        let gap = tokio::time::Instant::now() + GAP;
        let asked = async {
            tree.refresh_asked().await;
            tokio::time::sleep_until(gap).await;
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = asked => {}
            () = stop.cancelled() => return,
        }
    }
}

fn note_end(tree: &Tree, ended: Result<Option<GenerationNumber>, RefreshError>) {
    let tally = &tree.resources.tally;
    tree.standing.note_missing(ended.as_ref().err().map_or(0, RefreshError::missing_bytes));
    let last = match ended {
        Ok(None) => {
            tally.refreshes_same.one();
            debug!(tree = %tree.name, "refresh: nothing new");
            Last::Same
        }
        Ok(Some(number)) => {
            tally.refreshes_new.one();
            Last::New(number)
        }
        Err(reason) => {
            tally.refreshes_failed.one();
            if matches!(reason, RefreshError::Upstream { .. }) {
                tree.standing.note_upstream_down();
            }
            let unconfirmed_secs = tree.standing.unconfirmed_secs();
            match tree.snapshot() {
                Some(snapshot) => {
                    let generation = snapshot.current().generation.number();
                    warn!(tree = %tree.name, %reason, %generation, unconfirmed_secs, "refresh failed: the current generation stays");
                }
                None => error!(tree = %tree.name, %reason, "refresh failed: there is nothing to serve yet"),
            }
            Last::Failed(reason.to_string())
        }
    };
    tree.progress().send_modify(|progress| {
        progress.running = false;
        progress.ended += 1;
        progress.last = Some(last);
    });
}

/// One refresh; the new generation's number, or `None` where there is nothing new.
async fn refresh(tree: &Arc<Tree>) -> Result<Option<GenerationNumber>, RefreshError> {
    let upstream = tree.upstream();
    let current = tree.snapshot().map(|snapshot| snapshot.current().generation.clone());
    let mut taken = take_any(tree, &upstream, current.as_deref()).await?;
    tree.prefer_origin(taken.origin);
    if let Some(current) = current.as_ref().filter(|current| *current.manifest().bytes() == taken.bytes) {
        tree.confirm();
        if tree.standing.is_doubted() {
            warn!(tree = %tree.name, "what the current generation names is not all there: it is made again");
        } else if anything_appeared(tree, current).await {
            info!(tree = %tree.name, "files that were missing at the upstream are there now");
        } else {
            return Ok(None);
        }
    }
    for _ in 0..REFRESH_RESTARTS_MAX {
        let origin = upstream.origin_name(taken.origin);
        let manifest = read(tree, &taken, &origin).await?;
        let number = tree.resources.store.last_number(&tree.name).next();
        let head = Head {
            number,
            manifest: BlobId::of(&taken.bytes),
            taken: tree.resources.clock.wall(),
            origin,
            validator: taken.validator.clone(),
        };
        let candidate = assemble(tree, head.clone(), manifest).await?;
        if current.as_ref().is_some_and(|current| is_same(current, &candidate)) {
            tree.forget_candidate();
            tree.confirm();
            return Ok(None);
        }
        match take(&upstream, taken.origin, Some((&head, &taken.bytes))).await {
            Ok(now) if now.bytes != taken.bytes => {
                info!(tree = %tree.name, "the manifest changed while its files were fetched: starting over");
                taken = now;
            }
            // Fills ask the upstream of the moment: the files may be of both.
            Ok(_) if !Arc::ptr_eq(&upstream, &tree.upstream()) => return Err(RefreshError::Reloaded),
            Ok(_) => {
                publish(tree, candidate).await?;
                tree.confirm();
                return Ok(Some(number));
            }
            Err(error) => {
                return Err(RefreshError::Upstream { origin: upstream.origin_name(taken.origin), error });
            }
        }
    }
    Err(RefreshError::Restless)
}

/// Whether a candidate would show nothing that the current generation does not: packages they share, signatures the
/// current one must know.
fn is_same(current: &Generation, candidate: &Generation) -> bool {
    let known = |listed: &Listed| {
        let entry = &listed.entry;
        entry.identity().role != Role::Signature || matches!(**entry.state(), State::Held(..) | State::Absent)
    };
    current.manifest().bytes() == candidate.manifest().bytes()
        && current.absent() == candidate.absent()
        && current.files().all(known)
}

/// Asks the origins in their order for a manifest that is one.
async fn take_any(
    tree: &Tree,
    upstream: &Upstream,
    current: Option<&Generation>,
) -> Result<Offered, RefreshError> {
    let mut failed = None;
    for origin in 0..upstream.origins() {
        let name = upstream.origin_name(origin);
        let known = current.map(|current| (current.head(), current.manifest().bytes()));
        let error = match patient_take(upstream, origin, known).await {
            // One that lags behind is no news: the fleet would go back and forth.
            Ok(taken) if origin > 0 && tree.showed_before(&taken.bytes) => {
                RefreshError::Lagging { origin: name }
            }
            Ok(taken) if known.is_some_and(|(_, bytes)| *bytes == taken.bytes) => return Ok(taken),
            Ok(taken) => match read(tree, &taken, &name).await {
                Ok(_) => return Ok(taken),
                Err(error) => error,
            },
            Err(error) => RefreshError::Upstream { origin: name, error },
        };
        if upstream.origins() > 1 {
            warn!(tree = %tree.name, %error, "an origin gave no manifest");
        }
        failed = Some(error);
    }
    Err(failed.expect("an upstream has at least one origin"))
}

/// Takes the manifest of one origin, with another try where the error may pass: the next origin may lag behind.
async fn patient_take(
    upstream: &Upstream,
    origin: usize,
    known: Option<(&Head, &Bytes)>,
) -> Result<Offered, UpstreamError> {
    match take(upstream, origin, known).await {
        Err(error) if error.is_passing() && upstream.origins() > 1 => {
            tokio::time::sleep(jittered(GAP, 50)).await;
            take(upstream, origin, known).await
        }
        taken => taken,
    }
}

/// Takes the manifest of one origin, where it is not the known one still.
async fn take(
    upstream: &Upstream,
    origin: usize,
    known: Option<(&Head, &Bytes)>,
) -> Result<Offered, UpstreamError> {
    let known = known.filter(|(head, _)| head.origin == upstream.origin_name(origin) && vouches(head));
    let part = known.map_or(Part::Whole, |(head, _)| Part::UnlessStill(&head.validator));
    let mut transfer = match (upstream.fetch(origin, Request { path: MANIFEST, part }).await?, known) {
        (Answer::Found(transfer), _) => transfer,
        (Answer::Unchanged, Some((head, bytes))) => {
            return Ok(Offered { origin, bytes: bytes.clone(), validator: head.validator.clone() });
        }
        (Answer::Unchanged | Answer::Head(_), _) => {
            return Err(UpstreamError::Head("no bytes where they were asked for"));
        }
    };
    let too_long = || UpstreamError::Head("it is too long for a manifest");
    if transfer.head.size.is_some_and(|size| size > MANIFEST_BYTES_MAX as u64) {
        return Err(too_long());
    }
    let mut bytes = BytesMut::new();
    while let Some(chunk) = transfer.chunk().await? {
        if bytes.len() + chunk.len() > MANIFEST_BYTES_MAX {
            return Err(too_long());
        }
        bytes.extend_from_slice(&chunk);
    }
    if transfer.head.size.is_some_and(|size| size != bytes.len() as u64) {
        return Err(UpstreamError::Broken("the manifest is not as long as its head says".to_owned()));
    }
    Ok(Offered { origin, bytes: bytes.freeze(), validator: transfer.head.validator })
}

/// Whether a 304 to what the upstream said of a manifest means the same bytes. A date has whole seconds: it means
/// something only where it was a minute old when the manifest was taken (RFC 9110 section 8.8.2.2).
fn vouches(head: &Head) -> bool {
    let Validator { etag, last_modified } = &head.validator;
    let date = last_modified.as_deref().and_then(|date| httpdate::parse_http_date(date).ok());
    etag.is_some() || date.is_some_and(|date| date + DATE_AGE <= SystemTime::from(head.taken))
}

/// Reads a manifest by the catalogue of this moment; gives both.
async fn read(tree: &Tree, taken: &Offered, origin: &str) -> Result<(Manifest, Catalogue), RefreshError> {
    let (bytes, catalogue) = (taken.bytes.clone(), tree.settings().catalogue());
    let read = tokio::task::spawn_blocking(move || Ok((Manifest::read(bytes, &catalogue)?, catalogue))).await;
    let read = read.map_err(|error| std::io::Error::other(error.to_string()))?;
    read.map_err(|error| RefreshError::Malformed { origin: origin.to_owned(), error })
}

async fn publish(tree: &Arc<Tree>, candidate: Arc<Generation>) -> Result<(), RefreshError> {
    let unknown = candidate.manifest().unknown();
    tree.resources.tally.unknown_components.add(unknown.len() as u64);
    for line in unknown {
        debug!(tree = %tree.name, line = line.line, section = %line.section, key = %line.key, "unknown in the manifest");
    }
    let (withheld, unknown) = (candidate.withheld(), unknown.len());
    let (number, files) = (candidate.number(), candidate.files().count());
    let published = {
        let tree = tree.clone();
        tokio::task::spawn_blocking(move || {
            // No fill may end between the journal's last records and the moment when fills find the new generation.
            let _naming = tree.resources.naming.write().unwrap_or_else(PoisonError::into_inner);
            // What became held or absent since the journal was begun; a record twice does no harm.
            let records: Vec<_> = candidate.files().filter_map(|listed| record(&listed.entry)).collect();
            candidate.record(&records)?;
            tree.publish(candidate)
        })
        .await
    };
    published.map_err(|error| std::io::Error::other(error.to_string()))??;
    info!(tree = %tree.name, generation = %number, files, withheld, unknown, "a new generation is published");
    Ok(())
}

fn jittered(pause: Duration, percent: u8) -> Duration {
    let spread = f64::from(percent) / 100.0;
    pause.mul_f64(rand::random_range(1.0 - spread..=1.0 + spread))
}

fn with_slash(origin: &str) -> String {
    if origin.ends_with('/') { origin.to_owned() } else { format!("{origin}/") }
}
