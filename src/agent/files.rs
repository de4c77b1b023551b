//! Agent settings files: taken where they differ from what is there, apart from components (R5.6).
//!
//! Invariant: a file is there with the bytes that the relay's hash names, or as it was before.

use bytes::Bytes;
use hyper::StatusCode;

use crate::agent::folder::Folder;
use crate::agent::progress::{Progress, Tell};
use crate::agent::sources::{Asking, Source};
use crate::agent::told::{ToldFile, ToldFiles};
use crate::base::blob::BlobId;
use crate::client::{Client, Question};
use crate::policy::tree::file::{FILE_BYTES_MAX, FileName};

/// A file that is about to have its name.
const STAGED: &str = "settings-file";

/// Takes what is new and removes what is told no longer; gives how many files changed.
pub(super) async fn take(
    client: &Client,
    folder: &Folder,
    told: &ToldFiles,
    asking: Asking<'_>,
    tell: &mut Tell<'_>,
) -> Result<usize, String> {
    if told.sources.is_empty() {
        // The relay serves no settings: what is there stays.
        return Ok(0);
    }
    let sources: Vec<Source> = told.sources.iter().map(|told| asking.source(told)).collect();
    let (place, disk) = (folder.place().files(), folder.place().disk());
    let failed = |name: &FileName, what: &dyn std::fmt::Display| format!("settings file {name}: {what}");
    let mut changed = 0;
    for file in &told.files {
        let path = place.join(file.name.as_str());
        let there = disk.read(&path).map_err(|error| failed(&file.name, &error))?;
        if there.is_some_and(|bytes| BlobId::of(&bytes) == file.hash) {
            continue;
        }
        let bytes = fetch(client, &sources, file).await.map_err(|error| failed(&file.name, &error))?;
        // Not beside the others, where a name of its own might be one of theirs.
        let staged = folder.place().staging().join(STAGED);
        let kept =
            disk.write_whole_private(&staged, &bytes).and_then(|()| disk.rename_synced(&staged, &path));
        kept.map_err(|error| failed(&file.name, &error))?;
        tell(Progress::SettingsFile { name: file.name.clone(), version: Some(file.version) });
        changed += 1;
    }
    let entries = disk.list(&place).map_err(|error| format!("{}: {error}", place.display()))?;
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name().to_str().and_then(|name| FileName::parse(name).ok());
        let Some(name) = name.filter(|name| told.files.iter().all(|file| file.name != *name)) else {
            continue;
        };
        disk.remove_if_there(&entry.path()).map_err(|error| failed(&name, &error))?;
        tell(Progress::SettingsFile { name, version: None });
        changed += 1;
    }
    Ok(changed)
}

/// A file of the first source that gives the right bytes.
async fn fetch(client: &Client, sources: &[Source], file: &ToldFile) -> Result<Bytes, String> {
    let mut tried = Vec::new();
    for source in sources {
        let url = source.url(file.name.as_str());
        match fetch_from(client, source, file).await {
            Ok(bytes) if BlobId::of(&bytes) == file.hash => return Ok(bytes),
            Ok(_) => tried.push(format!("{url}: other bytes than the relay's hash names")),
            Err(error) => tried.push(format!("{url}: {error}")),
        }
    }
    Err(tried.join("; "))
}

async fn fetch_from(client: &Client, source: &Source, file: &ToldFile) -> Result<Bytes, String> {
    let url = source.url(file.name.as_str());
    let question = Question::get(&url, source.through.as_ref()).by(&source.shows);
    let response = client.follow(question).await.map_err(|error| error.to_string())?;
    if response.status() != StatusCode::OK {
        return Err(format!("status {}", response.status().as_u16()));
    }
    client.whole(response.into_body(), FILE_BYTES_MAX).await.map_err(|error| error.to_string())
}
