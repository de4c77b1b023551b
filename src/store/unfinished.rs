//! Fills that did not end: what was staged of them and what vouches for it, so that the next one goes on (R2.1).
//!
//! ```text
//! data/staging/KEY.part      the bytes; KEY is the hash of what tells the file from others
//! data/staging/KEY.journal   what vouches for them, then checkpoints: a length, and the hash of all bytes up to there
//! ```
//!
//! A checkpoint is written after its bytes were synced. What readers of an earlier fill may still send, beyond the checkpoint too, stays
//! as it is: while its file is open anywhere in this process, the next fill goes on in a copy. Invariant: what is resumed are the bytes of
//! the last checkpoint, and they have its hash; anything else is thrown away.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

use crate::base::blob::BlobId;
use crate::base::validator::Validator;
use crate::disk::Disk;
use crate::disk::journal::Journal;
use crate::store::blobs::read_exact;
use crate::store::room::{NoRoom, Room, Taken, on_disk};

/// Bytes between two checkpoints: a sync each, and what a crash costs at most of a fill under way.
pub const CHECKPOINT_BYTES: u64 = 8 << 20;

/// How long bytes wait to be resumed: upstreams keep a release for a day or a week.
const KEPT: Duration = Duration::from_hours(7 * 24);

/// What a journal takes at most before its checkpoints, and each of those, in bytes.
const JOURNAL_BYTES: u64 = 8 << 10;
const CHECKPOINT_LINE_BYTES: u64 = 160;

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

/// The files of the staging folder that have a key: each is one fill's, or what one left.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    disk: Disk,
    room: Room,
    folder: PathBuf,
    /// Held only for look-ups and while what is left is removed.
    keys: Arc<Mutex<HashMap<BlobId, Owner>>>,
}

/// Whose the files of a key are.
#[derive(Debug)]
enum Owner {
    /// A fill's.
    Fill,
    /// Nobody's: they wait for the next fill, in this much room. The file may be open still.
    Nobody(Taken, Weak<File>),
}

/// One fill's hold on a key, and the files of that key.
#[derive(Debug)]
pub(super) struct Claim {
    parts: Parts,
    key: BlobId,
    taken: Taken,
    part: PathBuf,
    journal_path: PathBuf,
    journal: Option<(Voucher, Journal<Line>)>,
    /// The file that the last fill wrote to.
    file: Weak<File>,
    checked: u64,
    /// Whether files may be there that a later fill can go on from.
    left: bool,
}

/// How many bytes on the disk a fill of so many bytes takes, with its checkpoints.
pub(super) fn room_for_part(size_max: u64) -> u64 {
    let journal = JOURNAL_BYTES + size_max / CHECKPOINT_BYTES * CHECKPOINT_LINE_BYTES;
    on_disk(size_max).saturating_add(on_disk(journal))
}

/// Bytes that were found and hold.
pub(super) struct Resumed {
    pub(super) file: File,
    pub(super) hasher: blake3::Hasher,
    pub(super) voucher: Voucher,
}

impl Parts {
    /// Tidies the staging folder and counts what is left in it.
    pub(super) fn open(disk: &Disk, room: &Room, staging: &Path) -> io::Result<Self> {
        tidy(disk, staging)?;
        let parts =
            Self { disk: disk.clone(), room: room.clone(), folder: staging.to_owned(), keys: Arc::default() };
        for entry in disk.list(staging)? {
            let key =
                entry?.path().file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
            if let Some(key) = key {
                let taken = room.note(parts.on_disk(key));
                parts.keys().insert(key, Owner::Nobody(taken, Weak::new()));
            }
        }
        Ok(parts)
    }

    /// Takes a key, with room for so many bytes and their checkpoints; `None` where another fill has it.
    pub(super) fn claim(&self, key: BlobId, size_max: u64) -> Result<Option<Claim>, NoRoom> {
        let mut keys = self.keys();
        let mut left = match keys.remove(&key) {
            Some(Owner::Fill) => {
                keys.insert(key, Owner::Fill);
                return Ok(None);
            }
            Some(Owner::Nobody(taken, file)) => Some((taken, file)),
            None => None,
        };
        let mut taken = left.as_mut().map_or_else(|| self.room.note(0), |(taken, _)| taken.take());
        if let Err(no_room) = taken.grow(room_for_part(size_max)) {
            if let Some((_, file)) = left {
                keys.insert(key, Owner::Nobody(taken, file));
            }
            return Err(no_room);
        }
        keys.insert(key, Owner::Fill);
        drop(keys);
        let path = |extension| self.folder.join(format!("{key}.{extension}"));
        Ok(Some(Claim {
            parts: self.clone(),
            key,
            taken,
            part: path("part"),
            journal_path: path("journal"),
            journal: None,
            checked: 0,
            left: left.is_some(),
            file: left.map(|(_, file)| file).unwrap_or_default(),
        }))
    }

    /// How many bytes more a fill of a key takes than it has, or its files have, already.
    pub(super) fn room_for(&self, key: BlobId, size_max: u64) -> u64 {
        match self.keys().get(&key) {
            Some(Owner::Fill) => 0,
            Some(Owner::Nobody(taken, _)) => room_for_part(size_max).saturating_sub(taken.bytes()),
            None => room_for_part(size_max),
        }
    }

    /// How many bytes on the disk are left of fills that ended.
    pub(super) fn left_on_disk(&self) -> u64 {
        let keys = self.keys();
        let left = keys.values().map(|owner| match owner {
            Owner::Nobody(taken, _) => taken.bytes(),
            Owner::Fill => 0,
        });
        left.sum()
    }

    /// Removes what is left of fills that ended, until so many bytes are free; gives how many are.
    pub(super) fn drop_left(&self, missing: u64) -> io::Result<u64> {
        let mut keys = self.keys();
        let left = keys.iter().filter_map(|(key, owner)| match owner {
            Owner::Nobody(taken, _) => Some((*key, taken.bytes())),
            Owner::Fill => None,
        });
        let mut freed = 0;
        for (key, bytes) in left.collect::<Vec<_>>() {
            if freed >= missing {
                break;
            }
            // The journal first: bytes that nothing vouches for are thrown away at the next start.
            self.disk.remove_if_there(&self.folder.join(format!("{key}.journal")))?;
            self.disk.remove_if_there(&self.folder.join(format!("{key}.part")))?;
            keys.remove(&key);
            freed += bytes;
        }
        Ok(freed)
    }

    /// What the files of a key take on the disk.
    fn on_disk(&self, key: BlobId) -> u64 {
        let len = |extension| {
            fs::metadata(self.folder.join(format!("{key}.{extension}"))).map_or(0, |file| file.len())
        };
        on_disk(len("part")) + on_disk(len("journal"))
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<BlobId, Owner>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// Where the bytes lie.
    pub(super) fn part(&self) -> &Path {
        &self.part
    }

    /// Finds what an earlier fill left, down to its last checkpoint. What does not hold is thrown away.
    pub(super) fn resume(&mut self) -> io::Result<Option<Resumed>> {
        // An error of the disk leaves what is there for the next fill.
        if let Some(resumed) = self.try_resume()? {
            debug!(key = %self.key, bytes = resumed.hasher.count(), "a fill goes on where an earlier one ended");
            return Ok(Some(resumed));
        }
        self.remove()?;
        Ok(None)
    }

    fn try_resume(&mut self) -> io::Result<Option<Resumed>> {
        let Some((journal, recovered)) = Journal::open(&self.parts.disk, &self.journal_path)? else {
            return Ok(None);
        };
        let mut lines = recovered.records.into_iter();
        let (Some(Line::Voucher(voucher)), Some(Line::Checkpoint { len, hash })) =
            (lines.next(), lines.next_back())
        else {
            return Ok(None);
        };
        let Some(mut file) = self.parts.disk.open(&self.part)? else { return Ok(None) };
        let hasher = hash_first(&file, len)?;
        if hasher.count() != len || BlobId::from(hasher.finalize()) != hash {
            warn!(key = %self.key, len, "what was staged is not what was noted: it is fetched anew");
            return Ok(None);
        }
        if self.file.upgrade().is_some() {
            file = self.copy_first(&file, len)?;
        } else {
            self.parts.disk.cut(&file, len)?;
        }
        self.journal = Some((voucher.clone(), journal));
        self.checked = len;
        Ok(Some(Resumed { file, hasher, voucher }))
    }

    /// Puts a copy of the first bytes in place of the file.
    fn copy_first(&self, file: &File, len: u64) -> io::Result<File> {
        let path = self.part.with_extension("copy");
        self.parts.disk.remove_if_there(&path)?;
        let copied = self.copy_to(&path, file, len);
        if copied.is_err() {
            // What stays behind all the same is removed at the next start.
            let _ = self.parts.disk.remove_if_there(&path);
        }
        copied
    }

    fn copy_to(&self, path: &Path, file: &File, len: u64) -> io::Result<File> {
        let disk = &self.parts.disk;
        let copy = disk.create_new(path)?;
        let mut at = 0;
        while at < len {
            let piece = usize::try_from(len - at).unwrap_or(usize::MAX).min(READ_BYTES);
            disk.write_all_at(&copy, &read_exact(file, piece, at)?, at)?;
            at += piece as u64;
        }
        // The checkpoint says that its bytes were synced.
        disk.sync(&copy)?;
        disk.rename(path, &self.part)?;
        Ok(copy)
    }

    /// Notes which file the fill writes to.
    pub(super) fn goes_on_in(&mut self, file: &Arc<File>) {
        self.file = Arc::downgrade(file);
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
        self.parts.disk.sync(file)?;
        if self.journal.as_ref().is_none_or(|(noted, _)| noted != voucher) {
            self.parts.disk.remove_if_there(&self.journal_path)?;
            let journal =
                Journal::create(&self.parts.disk, &self.journal_path, &[Line::Voucher(voucher.clone())])?;
            self.journal = Some((voucher.clone(), journal));
        }
        if let Some((_, journal)) = &mut self.journal {
            journal.append(&[Line::Checkpoint { len, hash: hasher.finalize().into() }])?;
        }
        self.checked = len;
        self.left = true;
        Ok(())
    }

    /// Whether a later fill can go on from what is there.
    pub(super) fn can_resume(&self) -> bool {
        self.left
    }

    /// Throws away what is there.
    pub(super) fn remove(&mut self) -> io::Result<()> {
        self.journal = None;
        self.checked = 0;
        self.left = false;
        self.parts.disk.remove_if_there(&self.journal_path)?;
        self.parts.disk.remove_if_there(&self.part)
    }

    /// Throws away what vouched for bytes that are a blob now; gives their room.
    pub(super) fn committed(&mut self) -> Taken {
        self.journal = None;
        self.left = false;
        // What stays behind is thrown away at the next start, without its bytes.
        let _ = self.parts.disk.remove_if_there(&self.journal_path);
        self.taken.take()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut keys = self.parts.keys();
        keys.remove(&self.key);
        if self.left {
            self.taken.set(self.parts.on_disk(self.key));
            keys.insert(self.key, Owner::Nobody(self.taken.take(), std::mem::take(&mut self.file)));
        }
    }
}

/// Removes from the staging folder what no fill can go on from: parts without a journal, journals without a part, and
/// what has waited for too long.
fn tidy(disk: &Disk, staging: &Path) -> io::Result<()> {
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
