//! How a body's bytes are read: what is in memory on the worker, in bounded turns; what the disk or the upstream must bring elsewhere.
//!
//! Never keeps a read that nobody waits for but one of the disk's, which holds its turn to its end. Invariant: what is read is the
//! start of the run that was asked for.

use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::header::HeaderMap;
use tokio::task::coop;
use tokio_util::task::AbortOnDropHandle;

use crate::base::limits::{BODY_CHUNK_BYTES, BODY_TURN_BYTES};
use crate::base::range::ByteRange;
use crate::http::buffers::Buffers;
use crate::http::outlet::{Files, Outlet};
use crate::http::turn::Share;
use crate::relay::cache::arrival::{Arriving, Next};
use crate::relay::content::Content;
use crate::relay::follow::There;
use crate::store::blobs::{OpenBlob, read_cached, read_exact};

/// A content that is read, and what its connection has for that.
#[derive(Debug)]
pub struct Reader {
    content: Content,
    files: Option<Files>,
    buffers: Option<Buffers>,
    share: Option<Share>,
    waiting: Option<Waiting>,
    /// What was waited for and waits for its turn.
    come: Option<Read>,
}

/// What a read gives.
#[derive(Debug)]
pub enum Read {
    /// Some of them.
    Bytes(Bytes),
    /// The end of a content of unknown length, and what came after it.
    End(Option<Arc<HeaderMap>>),
}

/// A read that waits for the disk or for the upstream; it gives the bytes at the start of the run it was begun for, or nothing
/// where they can be read now.
struct Waiting(Pin<Box<dyn Future<Output = io::Result<Option<Read>>>>>);

impl Reader {
    /// A reader of a content.
    pub fn new(content: Content) -> Self {
        Self { content, files: None, buffers: None, share: None, waiting: None, come: None }
    }

    /// Has what is read leave by an outlet.
    pub fn leave_by(&mut self, outlet: Outlet) {
        (self.files, self.buffers) = (outlet.files, Some(outlet.buffers));
        // What one chunk holds is given at once.
        let takes_turns = !matches!(&self.content, Content::Bytes(bytes) if bytes.len() <= BODY_CHUNK_BYTES);
        self.share = outlet.turn.filter(|_| takes_turns).map(Share::of);
    }

    /// Whether it has turns with others of its worker.
    pub fn takes_turns(&self) -> bool {
        self.share.is_some()
    }

    /// Whether it waits for what the upstream must bring, as far as anybody here knows: not for its turn.
    pub fn awaits_upstream(&self) -> bool {
        self.waiting.is_some() && matches!(self.content, Content::Fill(_) | Content::Arriving(_))
    }

    /// Reads from the start of a run, which is not empty; gives at least one byte of it, and, where it is read into memory, no more
    /// than `most`.
    pub fn poll(&mut self, run: ByteRange, most: usize, cx: &mut Context<'_>) -> Poll<io::Result<Read>> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                let read = ready!(waiting.0.as_mut().poll(cx));
                self.waiting = None;
                self.come = read?;
            }
            let left = ready!(self.poll_left(cx));
            if let Some(read) = self.come.take() {
                return Poll::Ready(Ok(self.given(read)));
            }
            match self.at_once(run.first(left), most) {
                Ok(Now::Read(read)) => return Poll::Ready(Ok(self.given(read))),
                Ok(Now::Waits(waiting)) => self.waiting = Some(waiting),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// How many bytes may be given in this turn.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<u64> {
        match &mut self.share {
            Some(share) => share.poll_left(cx),
            // Given back at once: it is taken by what is given.
            None => coop::poll_proceed(cx).map(|_| BODY_TURN_BYTES),
        }
    }

    /// Takes what is given from the turn.
    fn given(&mut self, read: Read) -> Read {
        let Read::Bytes(bytes) = &read else { return read };
        match &mut self.share {
            Some(share) => share.gave(bytes.len() as u64),
            None => spend(bytes.len() as u64),
        }
        read
    }

    fn at_once(&mut self, run: ByteRange, most: usize) -> io::Result<Now> {
        let chunk = run.first(most.min(BODY_CHUNK_BYTES) as u64);
        let buffers = self.buffers.get_or_insert_default();
        match &mut self.content {
            Content::Bytes(bytes) => Ok(bytes.slice(at(chunk.start())..at(chunk.end())).into()),
            Content::Blob(blob) => {
                if blob.is_condemned() {
                    return Err(io::Error::other("the file turned out to be damaged in the store"));
                }
                if let (Some(files), Some(mapping)) = (&self.files, blob.mapping())
                    && let Some(bytes) = files.hand(mapping, blob.turns(), files.by, run)
                {
                    return Ok(bytes.into());
                }
                if let Some(bytes) =
                    cached(buffers, chunk, |buffer, offset| blob.read_cached(buffer, offset))?
                {
                    return Ok(bytes.into());
                }
                Ok(wait(read_blob(blob.clone(), chunk)))
            }
            Content::Fill(follower) => {
                let found = follower.there(run).map_err(|error| io::Error::other(error.to_string()))?;
                let Some(There { run, shown, is_blob }) = found else {
                    let waited = follower.clone().wait(run.start());
                    return Ok(wait(async move {
                        waited.await;
                        Ok(None)
                    }));
                };
                if let (Some(files), Some(mapping)) = (&self.files, &shown.mapping)
                    && let Some(bytes) = files.hand(mapping, &shown.turns, files.by_now(is_blob), run)
                {
                    return Ok(bytes.into());
                }
                let (file, chunk) = (&shown.file, run.first(chunk.len()));
                if let Some(bytes) =
                    cached(buffers, chunk, |buffer, offset| read_cached(file, buffer, offset))?
                {
                    return Ok(bytes.into());
                }
                Ok(wait(read_file(file.clone(), chunk)))
            }
            Content::Arriving(arriving) => Ok(wait(arrived(arriving.clone(), chunk, buffers.clone()))),
        }
    }
}

/// What there is of a run at this moment.
enum Now {
    Read(Read),
    Waits(Waiting),
}

impl From<Bytes> for Now {
    fn from(bytes: Bytes) -> Self {
        Self::Read(Read::Bytes(bytes))
    }
}

fn wait(read: impl Future<Output = io::Result<Option<Read>>> + 'static) -> Now {
    Now::Waits(Waiting(Box::pin(read)))
}

async fn arrived(mut arriving: Arriving, range: ByteRange, buffers: Buffers) -> io::Result<Option<Read>> {
    match arriving.next(range.start(), range.len()).await? {
        Next::File(file, run) => {
            match cached(&buffers, run, |buffer, offset| read_cached(&file, buffer, offset))? {
                Some(bytes) => Ok(Some(Read::Bytes(bytes))),
                None => read_file(file, run).await,
            }
        }
        Next::Bytes(bytes) => Ok(Some(Read::Bytes(bytes))),
        Next::End(trailers) => Ok(Some(Read::End(trailers))),
    }
}

async fn read_file(file: Arc<File>, run: ByteRange) -> io::Result<Option<Read>> {
    let bytes = read(move || read_exact(&file, at(run.len()), run.start())).await?;
    Ok(Some(Read::Bytes(bytes)))
}

/// What of a run is in memory from its start on.
fn cached(
    buffers: &Buffers,
    run: ByteRange,
    read: impl FnOnce(&mut [u8], u64) -> io::Result<Option<usize>>,
) -> io::Result<Option<Bytes>> {
    buffers.read(at(run.len()), |buffer| read(buffer, run.start()))
}

/// Reads a run of a blob from the disk, once it has a turn; the turn ends with the thread, also where the agent has left.
async fn read_blob(blob: OpenBlob, run: ByteRange) -> io::Result<Option<Read>> {
    // A task of its own: hyper leaves a body alone whose agent takes nothing, and others would wait for a turn that it has
    // got and does not use.
    let task = AbortOnDropHandle::new(tokio::spawn(async move {
        let turn = blob.turns().clone().acquire_owned().await.map_err(io::Error::other)?;
        read(move || {
            let _turn = turn;
            blob.read_exact(at(run.len()), run.start())
        })
        .await
    }));
    let bytes = task.await.map_err(|error| io::Error::other(error.to_string()))??;
    Ok(Some(Read::Bytes(bytes)))
}

async fn read(read: impl FnOnce() -> io::Result<Vec<u8>> + Send + 'static) -> io::Result<Bytes> {
    let read = tokio::task::spawn_blocking(read);
    read.await.map_err(|error| io::Error::other(error.to_string()))?.map(Bytes::from)
}

/// Takes so many bytes' part of the task's turn: of the runtime's budget for one, which has 128 parts.
fn spend(bytes: u64) {
    let mut context = Context::from_waker(std::task::Waker::noop());
    for _ in 0..bytes / (BODY_TURN_BYTES / 128) {
        if let Poll::Ready(part) = coop::poll_proceed(&mut context) {
            part.made_progress();
        }
    }
}

fn at(offset: u64) -> usize {
    usize::try_from(offset).expect("what is in memory is addressable")
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waiting")
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::rc::Rc;

    use super::*;
    use crate::base::limits::BODY_TURNS_AT_ONCE;
    use crate::http::turn::{Turn, Turns};

    #[test]
    fn what_was_waited_for_is_given_in_its_turn() {
        let (turns, mut cx) = (Rc::<Turns>::default(), Context::from_waker(std::task::Waker::noop()));
        let turn = Rc::new(Turn::new(turns.clone()));
        let mut reader = Reader::new(Content::Bytes(vec![1; 2 * BODY_CHUNK_BYTES].into()));
        reader.leave_by(Outlet { turn: Some(turn.clone()), buffers: Buffers::default(), files: None });
        let mut others: Vec<_> =
            (0..BODY_TURNS_AT_ONCE).map(|_| Share::of(Rc::new(Turn::new(turns.clone())))).collect();
        let run = ByteRange::whole(2);
        let mut has_turn =
            |reader: &mut Reader| turn.have(|| reader.poll(run, 2, &mut cx).map(Result::unwrap));
        assert!(has_turn(&mut reader).is_ready());
        // All of them wait for another turn, and are let on.
        for other in &mut others {
            other.gave(BODY_TURN_BYTES);
            assert!(other.poll_left(&Context::from_waker(std::task::Waker::noop())).is_pending());
        }
        let came = Read::Bytes(Bytes::from_static(&[2, 2]));
        reader.waiting = Some(Waiting(Box::pin(ready(Ok(Some(came))))));
        assert!(has_turn(&mut reader).is_pending());
        drop(others);
        let Poll::Ready(Read::Bytes(bytes)) = has_turn(&mut reader) else { panic!("nobody else waits") };
        assert_eq!(bytes[..], [2, 2]);
    }
}
