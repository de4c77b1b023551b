//! Bytes of a transfer, gathered for one write to the disk: what has come is not held back, and not written piece by piece.
//!
//! Invariant: what is in the file already is never written over; it is compared.

use std::io;

use bytes::Bytes;

use crate::base::intervals::Intervals;
use crate::base::limits::FILL_BATCH_BYTES;
use crate::store::blobs::read_exact;
use crate::store::staging::{Ahead, Staged};
use crate::upstream::{Transfer, UpstreamError};

/// What was gathered.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pieces: Vec<Bytes>,
    /// How the transfer ended after them, if it did.
    pub(super) ended: Option<Result<(), UpstreamError>>,
}

impl Batch {
    /// How many bytes.
    pub(super) fn len(&self) -> u64 {
        self.pieces.iter().map(|bytes| bytes.len() as u64).sum()
    }

    /// The first so many bytes, all when there are not more; they are cheap to clone.
    pub(super) fn first(&self, count: u64) -> Vec<Bytes> {
        let mut left = usize::try_from(count).unwrap_or(usize::MAX);
        let mut first = Vec::with_capacity(self.pieces.len());
        for bytes in &self.pieces {
            let piece = bytes.slice(..left.min(bytes.len()));
            left -= piece.len();
            first.push(piece);
        }
        first
    }
}

/// Gathers what is there without waiting, up to the batch's size; waits only for the first bytes. What was gathered is lost
/// when it is dropped before its end.
pub(super) async fn gather(transfer: &mut Transfer) -> Batch {
    let mut batch = Batch::default();
    loop {
        let chunk = tokio::select! {
            biased;
            chunk = transfer.chunk() => chunk,
            () = std::future::ready(()), if !batch.pieces.is_empty() => return batch,
        };
        match chunk {
            Ok(Some(bytes)) => batch.pieces.push(bytes),
            Ok(None) => batch.ended = Some(Ok(())),
            Err(error) => batch.ended = Some(Err(error)),
        }
        if batch.ended.is_some() || batch.len() >= FILL_BATCH_BYTES as u64 {
            return batch;
        }
    }
}

/// Appends bytes that stand at `at` in the file; what stands below the staged end, or was written ahead, is compared instead.
/// False where it differs. Blocks on the disk.
pub(super) fn append(
    staged: &mut Staged,
    ahead: &Intervals,
    pieces: &[Bytes],
    mut at: u64,
) -> io::Result<bool> {
    for bytes in pieces {
        let mut left = &bytes[..];
        while !left.is_empty() {
            let next = ahead.next(at).filter(|_| at >= staged.len());
            let (known, until) = match next {
                None if at < staged.len() => (true, staged.len()),
                None => (false, u64::MAX),
                Some(run) if run.start() <= at => (true, run.end()),
                Some(run) => (false, run.start()),
            };
            let len = usize::try_from(until - at).unwrap_or(usize::MAX).min(left.len());
            let (piece, rest) = left.split_at(len);
            if !known {
                staged.append(piece)?;
            } else if read_exact(staged.file(), len, at)? != piece {
                return Ok(false);
            } else if next.is_some() {
                staged.adopt(len as u64)?;
            }
            (left, at) = (rest, at + len as u64);
        }
    }
    Ok(true)
}

/// Writes bytes of a far lane; their place is its own. Blocks on the disk.
pub(super) fn write_ahead(ahead: &Ahead, pieces: &[Bytes], mut at: u64) -> io::Result<()> {
    for bytes in pieces {
        ahead.write(bytes, at)?;
        at += bytes.len() as u64;
    }
    Ok(())
}
