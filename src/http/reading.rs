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

use crate::base::limits::BODY_TURN_BYTES;
use crate::base::range::ByteRange;
use crate::relay::cache::arrival::{Arriving, Next};
use crate::relay::content::Content;
use crate::relay::follow::Follower;
use crate::store::blobs::{OpenBlob, read_cached, read_exact};

/// What a read gives.
#[derive(Debug)]
pub enum Read {
    /// Some of them.
    Bytes(Bytes),
    /// The end of a content of unknown length, and what came after it.
    End(Option<Arc<HeaderMap>>),
}

/// A read that waits for the disk or for the upstream; it gives the bytes at the start of the run it was begun for.
pub struct Reading(Pin<Box<dyn Future<Output = io::Result<Read>>>>);

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reading")
    }
}

/// Reads from the start of a run, which is not empty and no longer than a chunk; gives at least one byte of it.
pub fn poll_read(
    content: Option<&mut Content>,
    reading: &mut Option<Reading>,
    range: ByteRange,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Read>> {
    let content = content.ok_or_else(|| io::Error::other("a run without a content"))?;
    let current = match (reading.as_mut(), content) {
        (Some(current), _) => current,
        (None, Content::Bytes(bytes)) => {
            let (start, end) = (at(range.start()), at(range.end()));
            return Poll::Ready(Ok(Read::Bytes(bytes.slice(start..end))));
        }
        (None, Content::Blob(blob)) => {
            if blob.is_condemned() {
                return Poll::Ready(Err(io::Error::other("the file turned out to be damaged in the store")));
            }
            if let Some(bytes) = cached(range, |buffer, offset| blob.read_cached(buffer, offset))? {
                return Poll::Ready(Ok(Read::Bytes(bytes)));
            }
            let blob = blob.clone();
            reading.insert(Reading(Box::pin(async move { read_blob(blob, range).await.map(Read::Bytes) })))
        }
        (None, Content::Fill(follower)) => {
            let follower = follower.clone();
            reading.insert(Reading(Box::pin(async move { follow(follower, range).await.map(Read::Bytes) })))
        }
        (None, Content::Arriving(arriving)) => {
            reading.insert(Reading(Box::pin(arrived(arriving.clone(), range))))
        }
    };
    let read = ready!(current.0.as_mut().poll(cx));
    *reading = None;
    Poll::Ready(read)
}

async fn follow(mut follower: Follower, range: ByteRange) -> io::Result<Bytes> {
    let (file, run) = follower.available(range).await.map_err(|error| io::Error::other(error.to_string()))?;
    read_run(file, run).await
}

async fn arrived(mut arriving: Arriving, range: ByteRange) -> io::Result<Read> {
    match arriving.next(range.start(), range.len()).await? {
        Next::File(file, run) => read_run(file, run).await.map(Read::Bytes),
        Next::Bytes(bytes) => Ok(Read::Bytes(bytes)),
        Next::End(trailers) => Ok(Read::End(trailers)),
    }
}

async fn read_run(file: Arc<File>, run: ByteRange) -> io::Result<Bytes> {
    match cached(run, |buffer, offset| read_cached(&file, buffer, offset))? {
        Some(bytes) => Ok(bytes),
        None => read(move || read_exact(&file, at(run.len()), run.start())).await,
    }
}

/// What of a run is in memory from its start on.
fn cached(
    run: ByteRange,
    read: impl FnOnce(&mut [u8], u64) -> io::Result<Option<usize>>,
) -> io::Result<Option<Bytes>> {
    let mut buffer = vec![0; at(run.len())];
    Ok(read(&mut buffer, run.start())?.map(|count| {
        buffer.truncate(count);
        buffer.into()
    }))
}

/// Reads a run of a blob from the disk, once it has a turn; the turn ends with the thread, also where the agent has left.
async fn read_blob(blob: OpenBlob, run: ByteRange) -> io::Result<Bytes> {
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
    task.await.map_err(|error| io::Error::other(error.to_string()))?
}

async fn read(read: impl FnOnce() -> io::Result<Vec<u8>> + Send + 'static) -> io::Result<Bytes> {
    let read = tokio::task::spawn_blocking(read);
    read.await.map_err(|error| io::Error::other(error.to_string()))?.map(Bytes::from)
}

/// Takes so many bytes' part of the task's turn: of the runtime's budget for one, which has 128 parts.
pub fn poll_turn(bytes: u64, cx: &mut Context<'_>) -> Poll<()> {
    for _ in 0..bytes / (BODY_TURN_BYTES / 128) {
        ready!(coop::poll_proceed(cx)).made_progress();
    }
    Poll::Ready(())
}

fn at(offset: u64) -> usize {
    usize::try_from(offset).expect("what is in memory is addressable")
}
