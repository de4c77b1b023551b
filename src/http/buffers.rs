//! Buffers that a worker reads files into, again and again: what goes out in TLS or over HTTP/2 is read, not sent from its file.
//!
//! A buffer comes back when its bytes are gone, from whichever thread. Invariant: those that wait to be used again take no more than
//! [`FREE_BYTES_MAX`]; how many are in use is bounded by those who read.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::base::limits::BODY_CHUNK_BYTES;

/// A worker's buffers. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Buffers(Arc<Mutex<Free>>);

/// The buffers that nobody uses.
#[derive(Debug, Default)]
struct Free {
    /// By size: of the smallest first, each twice the one before.
    sizes: [Vec<Box<[u8]>>; SIZES],
    bytes: usize,
}

/// A buffer that is in use.
struct Lent {
    buffer: Box<[u8]>,
    len: usize,
    buffers: Buffers,
}

impl Buffers {
    /// Has up to so many bytes read, no more than a chunk; `None` where none were.
    pub fn read(
        &self,
        len: usize,
        read: impl FnOnce(&mut [u8]) -> io::Result<Option<usize>>,
    ) -> io::Result<Option<Bytes>> {
        if len <= SMALL_BYTES {
            let mut bytes = vec![0; len];
            return Ok(read(&mut bytes)?.map(|count| {
                bytes.truncate(count);
                bytes.into()
            }));
        }
        let mut lent = Lent { buffer: self.take(len), len: 0, buffers: self.clone() };
        let Some(count) = read(&mut lent.buffer[..len])? else { return Ok(None) };
        if count <= SMALL_BYTES {
            // Little must not keep much from being used.
            return Ok(Some(Bytes::copy_from_slice(&lent.buffer[..count])));
        }
        lent.len = count;
        Ok(Some(Bytes::from_owner(lent)))
    }

    fn take(&self, len: usize) -> Box<[u8]> {
        let size = size_of(len);
        let mut free = self.free();
        if let Some(buffer) = free.sizes[size].pop() {
            free.bytes -= buffer.len();
            return buffer;
        }
        drop(free);
        vec![0; (2 * SMALL_BYTES) << size].into()
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        let mut free = self.buffers.free();
        if free.bytes + buffer.len() <= FREE_BYTES_MAX {
            free.bytes += buffer.len();
            free.sizes[size_of(buffer.len())].push(buffer);
        }
    }
}

/// Which size so many bytes fit into.
fn size_of(len: usize) -> usize {
    (0..SIZES).find(|size| len <= (2 * SMALL_BYTES) << size).expect("no more than a chunk is read at once")
}

/// Up to so many bytes have memory of their own: it costs less than to keep it.
const SMALL_BYTES: usize = 16 << 10;

/// The sizes of buffers, up to a chunk.
const SIZES: usize = (BODY_CHUNK_BYTES / SMALL_BYTES).ilog2() as usize;

/// What waits to be used again: 64 chunks, more than one worker reads between two turns of its sockets.
pub const FREE_BYTES_MAX: usize = 64 * BODY_CHUNK_BYTES;

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads so many bytes of one value, of which so many come.
    fn read(buffers: &Buffers, len: usize, count: usize, value: u8) -> Bytes {
        let fill = |buffer: &mut [u8]| {
            assert_eq!(buffer.len(), len);
            buffer[..count].fill(value);
            Ok(Some(count))
        };
        buffers.read(len, fill).unwrap().unwrap()
    }

    #[test]
    fn a_buffer_is_used_again_only_when_nobody_has_its_bytes() {
        let buffers = Buffers::default();
        let first = read(&buffers, BODY_CHUNK_BYTES, BODY_CHUNK_BYTES, 1);
        let (at, part) = (first.as_ptr(), first.slice(70_000..70_010));
        drop(first);
        let second = read(&buffers, BODY_CHUNK_BYTES, BODY_CHUNK_BYTES, 2);
        assert!(second.as_ptr() != at && part[..] == [1; 10], "a part of it is in use");
        drop(part);
        let third = read(&buffers, BODY_CHUNK_BYTES - 5, 100_000, 3);
        assert_eq!((third.as_ptr(), third.len()), (at, 100_000));
        assert!(second.iter().all(|byte| *byte == 2) && third.iter().all(|byte| *byte == 3));
    }

    #[test]
    fn what_waits_is_bounded_and_little_keeps_no_buffer() {
        let buffers = Buffers::default();
        let many: Vec<_> = (0..100).map(|_| read(&buffers, BODY_CHUNK_BYTES, BODY_CHUNK_BYTES, 7)).collect();
        drop(many);
        assert_eq!(buffers.free().bytes, FREE_BYTES_MAX);
        let little = read(&buffers, BODY_CHUNK_BYTES, 100, 7);
        assert_eq!((little.len(), buffers.free().bytes), (100, FREE_BYTES_MAX), "it is back");
        for len in [1, SMALL_BYTES, SMALL_BYTES + 1, 40_000, 64 << 10, BODY_CHUNK_BYTES] {
            assert!(read(&buffers, len, len, 9).iter().all(|byte| *byte == 9), "{len}");
        }
        assert!(buffers.read(50_000, |_| Ok(None)).unwrap().is_none());
        assert!(buffers.read(50_000, |_| Err(io::ErrorKind::UnexpectedEof.into())).is_err());
        assert!(buffers.free().bytes <= FREE_BYTES_MAX);
    }
}
