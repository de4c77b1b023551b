//! The manifest of a tree, from the first source that gives one that can be read.
//!
//! The last one is kept, so that the same source is asked whether it changed. Invariant: a kept manifest that is not the one of its note
//! is taken anew.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::agent::fetch::{self, Manifest as Answer};
use crate::agent::folder::{Folder, FolderError, named};
use crate::agent::progress::{Progress, Tell};
use crate::agent::sources::Source;
use crate::base::blob::BlobId;
use crate::base::tree::TreeName;
use crate::client::Client;
use crate::manifest::catalogue::Catalogue;
use crate::manifest::server_ini::Manifest;

/// A manifest, and which of the sources gave it.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) manifest: Manifest,
    pub(super) source: usize,
}

/// Where a kept manifest came from.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    url: Url,
    etag: Option<String>,
    hash: BlobId,
}

/// Takes a tree's manifest, or says what each source said.
pub(super) async fn take(
    client: &Client,
    folder: &Folder,
    tree: &TreeName,
    sources: &[Source],
    tell: &mut Tell<'_>,
) -> Result<Given, String> {
    let mut tried = Vec::new();
    for (source, from) in sources.iter().enumerate() {
        match take_from(client, folder, tree, from, tell).await {
            Ok(manifest) => return Ok(Given { manifest, source }),
            Err(reason) => {
                let url = from.url("server.ini");
                tell(Progress::SourceFailed { url: url.clone(), reason: reason.clone() });
                tried.push(format!("{url}: {reason}"));
            }
        }
    }
    Err(tried.join("; "))
}

async fn take_from(
    client: &Client,
    folder: &Folder,
    tree: &TreeName,
    source: &Source,
    tell: &mut Tell<'_>,
) -> Result<Manifest, String> {
    let url = source.url("server.ini");
    let kept = kept(folder, tree, &url).map_err(|error| error.to_string())?;
    let tag = kept.as_ref().and_then(|(note, _)| note.etag.as_deref());
    let (bytes, new) = match (fetch::manifest(client, source, tag).await?, kept) {
        (Answer::Unchanged, Some((_, bytes))) => (bytes, None),
        (Answer::Unchanged, None) => return Err("it says that nothing changed, which was not asked".into()),
        (Answer::New(bytes, etag), kept) => {
            let hash = BlobId::of(&bytes);
            let new = kept.is_none_or(|(note, _)| note.hash != hash);
            (bytes, Some((Note { url: url.clone(), etag, hash }, new)))
        }
    };
    let manifest = Manifest::read(bytes, &Catalogue::builtin()).map_err(|error| error.to_string())?;
    if let Some((note, _)) = &new {
        keep(folder, tree, note, manifest.bytes()).map_err(|error| error.to_string())?;
    }
    tell(Progress::Manifest { tree: tree.clone(), url, new: new.is_some_and(|(_, new)| new) });
    Ok(manifest)
}

fn kept(folder: &Folder, tree: &TreeName, url: &Url) -> Result<Option<(Note, Bytes)>, FolderError> {
    let place = folder.place();
    let Some(note) = place.json::<Note>(&place.manifests().join(format!("{tree}.json")))? else {
        return Ok(None);
    };
    let path = place.manifests().join(format!("{tree}.ini"));
    let bytes = place.disk().read(&path).map_err(named(&path))?;
    let right = bytes.filter(|bytes| note.url == *url && BlobId::of(bytes) == note.hash);
    Ok(right.map(|bytes| (note, bytes.into())))
}

fn keep(folder: &Folder, tree: &TreeName, note: &Note, bytes: &[u8]) -> Result<(), FolderError> {
    let path = folder.place().manifests().join(format!("{tree}.ini"));
    folder.place().disk().write_whole(&path, bytes).map_err(named(&path))?;
    folder.write(&folder.place().manifests().join(format!("{tree}.json")), note)
}
