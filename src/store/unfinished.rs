//! Fills that did not end: what was staged of them and what vouches for it, so that the next one goes on (R2.1).
//!
//! ```text
//! data/staging/KEY.part      the bytes; KEY is the hash of what tells the file from others
//! data/staging/KEY.journal   what vouches for them, then checkpoints: a length, and the hash of all bytes up to there
//! ```
//!
//! A checkpoint is written after its bytes were synced. Invariant: what is resumed are the bytes of the last checkpoint, and
//! they have its hash; anything else is thrown away.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

use crate::base::blob::BlobId;
use crate::base::validator::Validator;
use crate::store::disk::Disk;
use crate::store::journal::Journal;

/// Bytes between two checkpoints: a sync each, and what a crash costs at most of a fill under way.
pub const CHECKPOINT_BYTES: u64 = 8 << 20;

/// How long bytes wait to be resumed: upstreams keep a release for a day or a week.
const KEPT: Duration = Duration::from_hours(7 * 24);

const READ_BYTES: usize = 1 << 20;

/// What vouches for staged bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voucher {
    /// The origin that sent them: its URL or folder.
    pub origin: String,
    /// What it said of them; its entity tag is strong.
    pub validator: Validator,
}

/// A line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Voucher(Voucher),
    Checkpoint { len: u64, hash: BlobId },
}

/// The keys that are being staged; each by one fill.
pub(super) type Keys = Arc<Mutex<HashSet<BlobId>>>;

/// One fill's hold on a key, and the files of that key.
#[derive(Debug)]
pub(super) struct Claim {
    disk: Disk,
    key: BlobId,
    keys: Keys,
    part: PathBuf,
    journal_path: PathBuf,
    journal: Option<(Voucher, Journal<Line>)>,
    checked: u64,
}

/// Bytes that were found and hold.
pub(super) struct Resumed {
    pub(super) file: File,
    pub(super) hasher: blake3::Hasher,
    pub(super) voucher: Voucher,
}

impl Claim {
    /// Takes a key; `None` where another fill has it.
    pub(super) fn take(disk: &Disk, keys: &Keys, key: BlobId, staging: &Path) -> Option<Self> {
        let new = keys.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
        new.then(|| Self {
            disk: disk.clone(),
            key,
            keys: keys.clone(),
            part: staging.join(format!("{key}.part")),
            journal_path: staging.join(format!("{key}.journal")),
            journal: None,
            checked: 0,
        })
    }

    /// Where the bytes lie.
    pub(super) fn part(&self) -> &Path {
        &self.part
    }

    /// Finds what an earlier fill left, down to its last checkpoint. What does not hold is thrown away.
    pub(super) fn resume(&mut self) -> io::Result<Option<Resumed>> {
        if let Some(resumed) = self.try_resume()? {
            debug!(key = %self.key, bytes = resumed.hasher.count(), "a fill goes on where an earlier one ended");
            return Ok(Some(resumed));
        }
        self.remove()?;
        Ok(None)
    }

    fn try_resume(&mut self) -> io::Result<Option<Resumed>> {
        let Some((journal, recovered)) = Journal::open(&self.disk, &self.journal_path)? else {
            return Ok(None);
        };
        let mut lines = recovered.records.into_iter();
        let (Some(Line::Voucher(voucher)), Some(Line::Checkpoint { len, hash })) =
            (lines.next(), lines.next_back())
        else {
            return Ok(None);
        };
        let Some(file) = self.disk.open(&self.part)? else { return Ok(None) };
        let hasher = hash_first(&file, len)?;
        if hasher.count() != len || BlobId::from(hasher.finalize()) != hash {
            warn!(key = %self.key, len, "what was staged is not what was noted: it is fetched anew");
            return Ok(None);
        }
        self.disk.cut(&file, len)?;
        self.journal = Some((voucher.clone(), journal));
        self.checked = len;
        Ok(Some(Resumed { file, hasher, voucher }))
    }

    /// Makes what is staged outlive a crash, when enough came since the last time. Blocks on the disk.
    pub(super) fn checkpoint(
        &mut self,
        file: &File,
        hasher: &blake3::Hasher,
        voucher: &Voucher,
    ) -> io::Result<()> {
        let len = hasher.count();
        if len < self.checked + CHECKPOINT_BYTES {
            return Ok(());
        }
        self.disk.sync(file)?;
        if self.journal.as_ref().is_none_or(|(noted, _)| noted != voucher) {
            self.disk.remove_if_there(&self.journal_path)?;
            let journal = Journal::create(&self.disk, &self.journal_path, &[Line::Voucher(voucher.clone())])?;
            self.journal = Some((voucher.clone(), journal));
        }
        if let Some((_, journal)) = &mut self.journal {
            journal.append(&[Line::Checkpoint { len, hash: hasher.finalize().into() }])?;
        }
        self.checked = len;
        Ok(())
    }

    /// Whether a later fill can go on from what is there.
    pub(super) fn can_resume(&self) -> bool {
        self.checked > 0
    }

    /// Throws away what is there.
    pub(super) fn remove(&mut self) -> io::Result<()> {
        self.journal = None;
        self.checked = 0;
        self.disk.remove_if_there(&self.journal_path)?;
        self.disk.remove_if_there(&self.part)
    }

    /// Throws away what vouched for bytes that are a blob now.
    pub(super) fn committed(&mut self) {
        self.journal = None;
        // What stays behind is thrown away at the next start, without its bytes.
        let _ = self.disk.remove_if_there(&self.journal_path);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// Removes from the staging folder what no fill can go on from: parts without a journal, journals without a part, and
/// what has waited for too long.
pub(super) fn tidy(disk: &Disk, staging: &Path) -> io::Result<()> {
    for entry in disk.list(staging)? {
        let path = entry?.path();
        let other = match path.extension().and_then(|extension| extension.to_str()) {
            Some("part") => path.with_extension("journal"),
            Some("journal") => path.with_extension("part"),
            _ => {
                disk.remove_if_there(&path)?;
                continue;
            }
        };
        // A clock that jumped back makes files of the future: they are kept.
        let fresh = |path: &Path| {
            let changed = fs::metadata(path).and_then(|metadata| metadata.modified());
            changed.is_ok_and(|changed| changed.elapsed().unwrap_or_default() < KEPT)
        };
        if !(fresh(&path) && fresh(&other)) {
            disk.remove_if_there(&path)?;
        }
    }
    Ok(())
}

fn hash_first(file: &File, len: u64) -> io::Result<blake3::Hasher> {
    let mut hasher = blake3::Hasher::new();
    let mut reader = io::Read::take(file, len);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hasher),
            count => {
                hasher.update(&buffer[..count]);
            }
        }
    }
}
