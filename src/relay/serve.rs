//! From a permit to bytes: the stored blob on a hit, the fill's staged file on a miss.
//!
//! [`manifest()`] and [`file()`] spend a permit and give a [`Representation`]: what the answer's head needs. A file's
//! [`Unopened::open`] gives the bytes; a HEAD never calls it, and so starts no fill where the head is known. What is at hand comes with
//! its bytes ([`file_at_hand()`]).

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::header::HeaderValue;
use thiserror::Error;
use tokio::sync::OwnedSemaphorePermit;
use tracing::warn;

use crate::base::limits::SMALL_BLOB_BYTES_MAX;
use crate::base::tally::Outcome;
use crate::policy::decide::{Ask, Permit};
use crate::relay::content::Content;
use crate::relay::entry::{Entry, Stamp, State};
use crate::relay::fill::FillError;
use crate::relay::follow::Follower;
use crate::relay::generation::Listed;
use crate::relay::shelf::Shelf;
use crate::relay::snapshot::Published;
use crate::relay::tree::Tree;
use crate::store::Store;
use crate::store::blobs::BlobName;

/// What an agent may have, without its bytes.
#[derive(Clone, Debug)]
pub struct Representation {
    /// How many bytes it has.
    pub size: u64,
    /// The same as a header has it.
    pub length: HeaderValue,
    /// Its strong entity tag.
    pub etag: HeaderValue,
    /// When it changed at the upstream, where that is known.
    pub last_modified: Option<(HeaderValue, SystemTime)>,
    /// Whether it comes from the store or from a fill.
    pub outcome: Outcome,
}

/// A file whose bytes are not opened yet.
#[derive(Debug)]
pub struct Unopened<'t> {
    /// What it is.
    pub representation: Representation,
    tree: &'t Arc<Tree>,
    entry: &'t Arc<Entry>,
}

/// Why there are no bytes.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The upstream has no such file, and the manifest lives with that.
    #[error("the upstream has no such file")]
    Absent,
    /// The file changed at the upstream since its head was described: describe it again.
    #[error("the file changed at the upstream")]
    Moved,
    /// The permit was given for something else.
    #[error("the permit was given for something else")]
    Permit,
    /// The fill has no first byte yet; it goes on.
    #[error("the file is being fetched, and no byte of it came in time")]
    Late,
    /// The fill failed before its first byte.
    #[error("{0}")]
    Fill(Arc<FillError>),
    /// The store could not read.
    #[error("store: {0}")]
    Store(#[from] io::Error),
}

/// The manifest that the permit's scope sees.
pub fn manifest(permit: Permit, published: &Published) -> Result<(Representation, Content), ServeError> {
    let scope = permit.spend(Ask::Manifest).ok_or(ServeError::Permit)?;
    let view = published.view(scope);
    let representation = Representation {
        size: view.bytes.len() as u64,
        length: view.bytes.len().into(),
        etag: view.etag.clone(),
        last_modified: None,
        outcome: Outcome::Hit,
    };
    Ok((representation, Content::Bytes(view.bytes.clone())))
}

/// A package, increment or signature. Waits for the upstream's head where it is not known yet.
pub async fn file<'t>(
    permit: Permit,
    tree: &'t Arc<Tree>,
    Listed { class, entry }: &'t Listed,
) -> Result<Unopened<'t>, ServeError> {
    permit.spend(Ask::Component(*class)).ok_or(ServeError::Permit)?;
    tree.note_used(entry, tree.resources.clock.monotonic());
    loop {
        let known = match &**entry.state() {
            State::Held(blob, stamp) => Some(described(blob.size, stamp, Outcome::Hit)),
            State::Seen(stamp) => entry.size().map(|size| described(size, stamp, Outcome::Miss)),
            State::Absent => return Err(ServeError::Absent),
            State::Listed => None,
        };
        if let Some(representation) = known {
            return Ok(Unopened { representation, tree, entry });
        }
        let Some(fill) = tree.fill(entry) else { continue };
        match entry.size() {
            Some(_) => in_time(tree, fill.begun()).await?,
            // A signature whose blob was lost: how long it is shows at the end.
            None => in_time(tree, fill.finished()).await.map(|_| ())?,
        }
    }
}

/// The same with its bytes, where they are at hand or on their way; `None` where anything has to be waited for. `now` is monotonic.
pub fn file_at_hand(
    permit: Permit,
    tree: &Tree,
    Listed { class, entry }: &Listed,
    shelf: &Shelf,
    now: Duration,
) -> Option<(Representation, Content)> {
    permit.spend(Ask::Component(*class))?;
    let state = entry.state();
    let found = match &**state {
        State::Held(blob, stamp) => (described(blob.size, stamp, Outcome::Hit), shelf.find(*blob)?),
        State::Seen(stamp) => {
            let follower = Follower::new(entry.fill_begun()?);
            // The fill may be of another state of the file than the one that was read.
            if entry.etag().is_none_or(|etag| etag != stamp.etag) {
                return None;
            }
            (described(entry.size()?, stamp, Outcome::Miss), Content::Fill(follower))
        }
        State::Listed | State::Absent => return None,
    };
    tree.note_used(entry, now);
    Some(found)
}

fn described(size: u64, stamp: &Stamp, outcome: Outcome) -> Representation {
    let (etag, last_modified) = (stamp.etag.clone(), stamp.last_modified.clone());
    let length = stamp.length.clone().unwrap_or_else(|| size.into());
    Representation { size, length, etag, last_modified, outcome }
}

impl Unopened<'_> {
    /// Opens the bytes. A file that is not held is being filled from here on.
    pub async fn open(&self, shelf: &Shelf) -> Result<Content, ServeError> {
        let Self { representation, tree, entry } = self;
        let content = loop {
            let state = entry.state().clone();
            if let State::Held(blob, _) = *state {
                if let Some(content) = open(&tree.resources.store, shelf, blob).await? {
                    break content;
                }
                warn!(tree = %tree.name, path = %entry.path(), blob = %blob.id, "a blob is lost: it is fetched again");
                entry.set_lost(&state);
            }
            if let Some(fill) = tree.fill(entry) {
                // The head is sent when the upstream's is known, so that an agent gets a status for what fails before.
                in_time(tree, fill.begun()).await?;
                if entry.held().is_none() {
                    break Content::Fill(Follower::new(fill));
                }
            }
        };
        // The fill may have met another state of the file than the one that was described.
        if entry.etag().is_some_and(|etag| etag == representation.etag) {
            Ok(content)
        } else {
            Err(ServeError::Moved)
        }
    }
}

/// Opens a blob: from the shelf, where it is put if it is not there. `None` where it is lost.
pub async fn open(store: &Arc<Store>, shelf: &Shelf, blob: BlobName) -> io::Result<Option<Content>> {
    loop {
        if let Some(content) = shelf.find(blob) {
            return Ok(Some(content));
        }
        let turn = shelf.turns(blob).acquire_owned().await.map_err(io::Error::other)?;
        // Whoever had a turn before may have brought it.
        if let Some(content) = shelf.find(blob) {
            return Ok(Some(content));
        }
        let epoch = shelf.epoch();
        let (content, _turn) = read(store, blob, turn).await?;
        match content {
            Some(content) if shelf.put(blob, &content, epoch) => return Ok(Some(content)),
            // A blob was condemned while this one was read: it is looked for again.
            Some(_) => {}
            None => return Ok(None),
        }
    }
}

/// Waits for a fill as long as an agent does; the fill goes on.
async fn in_time<T>(
    tree: &Tree,
    fill: impl Future<Output = Result<T, Arc<FillError>>>,
) -> Result<T, ServeError> {
    let waited = tokio::time::timeout(tree.resources.fill_wait(), fill).await;
    waited.map_err(|_| ServeError::Late)?.map_err(ServeError::Fill)
}

/// Opens a blob, and reads it where it is small. Elsewhere than on the caller's thread: the disk may be slow. The turn comes
/// back with it; where the caller is gone, it ends with the thread.
async fn read(
    store: &Arc<Store>,
    name: BlobName,
    turn: OwnedSemaphorePermit,
) -> io::Result<(Option<Content>, OwnedSemaphorePermit)> {
    let store = store.clone();
    let read = tokio::task::spawn_blocking(move || {
        let Some(blob) = store.blob(name)? else { return Ok((None, turn)) };
        match usize::try_from(name.size) {
            Ok(size) if name.size <= SMALL_BLOB_BYTES_MAX => {
                Ok((Some(Content::Bytes(blob.read_exact(size, 0)?.into())), turn))
            }
            _ => Ok((Some(Content::Blob(blob)), turn)),
        }
    });
    read.await.map_err(|error| io::Error::other(error.to_string()))?
}
