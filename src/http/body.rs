//! The bytes of an answer as hyper takes them: text, a run of a blob, a run of what arrives, or what another server sends.
//!
//! Bytes that are in memory are read on the worker; what the disk must bring is read elsewhere. Invariant: the body ends
//! cleanly only after every byte that its head promised; else it ends in an error, which hyper shows as a broken transfer.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use hyper::header::HeaderMap;
use tokio::task::coop;
use tokio_util::task::AbortOnDropHandle;

use crate::base::limits::{BODY_CHUNK_BYTES, BODY_TURN_BYTES};
use crate::base::range::ByteRange;
use crate::http::passing::Passing;
use crate::http::record::Record;
use crate::http::streams::{Stream, Turn};
use crate::net::idle::Busy;
use crate::net::spans::{By, Spans};
use crate::relay::cache::arrival::{Arriving, Next};
use crate::relay::content::Content;
use crate::relay::follow::Follower;
use crate::store::blobs::{OpenBlob, read_cached, read_exact};

/// An answer's body.
#[derive(Debug)]
pub struct Body {
    pieces: VecDeque<Piece>,
    content: Option<Content>,
    reading: Option<Reading>,
    passing: Option<Passing>,
    /// `None` while nobody knows.
    left: Option<u64>,
    record: Option<Record>,
    stream: Option<Stream>,
    busy: Option<Busy>,
    outlet: Option<Outlet>,
    ended_by: EndedBy,
    /// Why it broke off, until what came before is sent.
    broken: Option<io::Error>,
}

/// A socket that sends files.
#[derive(Clone, Debug)]
pub struct Outlet {
    /// Where it learns what is of them.
    pub spans: Rc<Spans>,
    /// How it sends them.
    pub by: By,
}

/// What shows an agent the end of a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndedBy {
    /// A length, chunks or a frame.
    #[default]
    Framing,
    /// The connection's close, where no length is known: HTTP/1.0.
    Close,
}

/// What a body is made of, in order.
#[derive(Debug)]
enum Piece {
    Text(Bytes),
    Run(ByteRange),
    /// All of the content from an offset on, however much that is.
    Rest(u64),
}

/// What a read gives.
enum Read {
    Bytes(Bytes),
    /// The end of a content of unknown length, and what came after it.
    End(Option<Arc<HeaderMap>>),
}

/// A read that waits for the disk or for the upstream; it gives the bytes at the start of the run it was begun for.
struct Reading(Pin<Box<dyn Future<Output = io::Result<Read>>>>);

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reading")
    }
}

impl Default for Body {
    fn default() -> Self {
        Self {
            pieces: VecDeque::new(),
            content: None,
            reading: None,
            passing: None,
            left: Some(0),
            record: None,
            stream: None,
            busy: None,
            outlet: None,
            ended_by: EndedBy::default(),
            broken: None,
        }
    }
}

impl Body {
    /// A short text.
    pub fn text(text: String) -> Self {
        Self::bytes(text.into())
    }

    /// Bytes that are there.
    pub fn bytes(bytes: Bytes) -> Self {
        Self { left: Some(bytes.len() as u64), pieces: [Piece::Text(bytes)].into(), ..Self::default() }
    }

    /// One run of a content.
    pub fn run(content: Content, range: ByteRange) -> Self {
        Self {
            left: Some(range.len()),
            pieces: [Piece::Run(range)].into(),
            content: Some(content),
            ..Self::default()
        }
    }

    /// All of a content that arrives, however much that is.
    pub fn whole(content: Content) -> Self {
        Self { left: None, pieces: [Piece::Rest(0)].into(), content: Some(content), ..Self::default() }
    }

    /// What another server sends, as it comes.
    pub fn passing(passing: Passing) -> Self {
        Self { left: passing.size(), passing: Some(passing), ..Self::default() }
    }

    /// Several runs of a content, a head before each and a tail after the last.
    pub fn runs(content: Content, ranges: &[ByteRange], heads: Vec<Bytes>, tail: Bytes) -> Self {
        let mut pieces = VecDeque::with_capacity(2 * ranges.len() + 1);
        for (head, range) in heads.into_iter().zip(ranges) {
            pieces.extend([Piece::Text(head), Piece::Run(*range)]);
        }
        pieces.push_back(Piece::Text(tail));
        let left = Some(pieces.iter().map(Piece::len).sum());
        Self { left, pieces, content: Some(content), ..Self::default() }
    }

    /// Has the request's record told when the body ends, however it ends.
    #[must_use]
    pub fn recorded(mut self, record: Record) -> Self {
        self.record = Some(record);
        self
    }

    /// Keeps the connection from counting as idle until the body ends, however it ends.
    #[must_use]
    pub fn busy(mut self, busy: Busy) -> Self {
        self.busy = Some(busy);
        self
    }

    /// Has what is in memory of a blob sent from its file.
    #[must_use]
    pub fn sent_by(self, outlet: Option<Outlet>) -> Self {
        Self { outlet, ..self }
    }

    /// Says what shows the agent its end.
    #[must_use]
    pub fn ended_by(self, ended_by: EndedBy) -> Self {
        Self { ended_by, ..self }
    }

    /// Has an HTTP/2 connection told how the body gets on.
    #[must_use]
    pub fn streamed(mut self, mut stream: Stream) -> Self {
        stream.moved(Turn::Client);
        self.stream = Some(stream);
        self
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(passing) = &mut self.passing {
            return passing.poll(cx);
        }
        loop {
            match self.pieces.front_mut() {
                None => return Poll::Ready(None),
                Some(Piece::Text(text)) => {
                    let text = std::mem::take(text);
                    self.pieces.pop_front();
                    return Poll::Ready(Some(Ok(Frame::data(text))));
                }
                Some(Piece::Run(range)) if range.is_empty() => {
                    self.pieces.pop_front();
                }
                Some(Piece::Run(range)) => {
                    // Over HTTP/2 what is read waits for the client's window; over HTTP/1 the socket takes much of it.
                    let most = self.stream.as_ref().map_or(BODY_CHUNK_BYTES, Stream::share_bytes);
                    let run = chunk(*range, most.min(BODY_CHUNK_BYTES));
                    if self.reading.is_none() {
                        if let (Some(Content::Blob(blob)), Some(outlet)) = (&self.content, &self.outlet)
                            && let Some(bytes) = ready!(outlet.poll_span(blob, *range, cx))
                        {
                            *range = range.advanced(bytes.len() as u64);
                            return Poll::Ready(Some(Ok(Frame::data(bytes))));
                        }
                        ready!(poll_turn(run.len(), cx));
                    }
                    let read = match ready!(poll_read(self.content.as_mut(), &mut self.reading, run, cx)) {
                        Ok(Read::Bytes(bytes)) if bytes.len() as u64 <= range.len() => {
                            *range = range.advanced(bytes.len() as u64);
                            Ok(Frame::data(bytes))
                        }
                        Ok(_) => Err(io::Error::other("what arrives is not as long as was said")),
                        Err(error) => Err(error),
                    };
                    return Poll::Ready(Some(read));
                }
                Some(Piece::Rest(at)) => {
                    let most = self.stream.as_ref().map_or(BODY_CHUNK_BYTES, Stream::share_bytes);
                    let most = most.min(BODY_CHUNK_BYTES) as u64;
                    let run = ByteRange::new(*at, at.saturating_add(most));
                    match ready!(poll_read(self.content.as_mut(), &mut self.reading, run, cx)) {
                        Ok(Read::Bytes(bytes)) => {
                            *at += bytes.len() as u64;
                            return Poll::Ready(Some(Ok(Frame::data(bytes))));
                        }
                        Ok(Read::End(trailers)) => {
                            self.pieces.pop_front();
                            if let Some(trailers) = trailers {
                                return Poll::Ready(Some(Ok(Frame::trailers((*trailers).clone()))));
                            }
                        }
                        Err(error) => return Poll::Ready(Some(Err(error))),
                    }
                }
            }
        }
    }
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Run(range) => range.len(),
            Self::Rest(_) => 0,
        }
    }
}

impl Outlet {
    /// Hands over what is in memory from the start of a run on; nothing where its first byte is not.
    fn poll_span(&self, blob: &OpenBlob, run: ByteRange, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(mapping) = blob.mapping().filter(|_| !blob.is_condemned()) else { return Poll::Ready(None) };
        let there = mapping.resident_bytes(run);
        if there == 0 {
            return Poll::Ready(None);
        }
        ready!(poll_turn(there, cx));
        let run = ByteRange::new(run.start(), run.start() + there);
        Poll::Ready(Some(self.spans.hand(mapping, blob.turns(), self.by, run)))
    }
}

/// Takes so many bytes' part of the task's turn: of the runtime's budget for one, which has 128 parts.
fn poll_turn(bytes: u64, cx: &mut Context<'_>) -> Poll<()> {
    for _ in 0..bytes / (BODY_TURN_BYTES / 128) {
        ready!(coop::poll_proceed(cx)).made_progress();
    }
    Poll::Ready(())
}

/// Reads from the start of a run, which is not empty and no longer than a chunk; gives at least one byte of it.
fn poll_read(
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

fn chunk(range: ByteRange, most: usize) -> ByteRange {
    ByteRange::new(range.start(), range.end().min(range.start() + most as u64))
}

fn at(offset: u64) -> usize {
    usize::try_from(offset).expect("what is in memory is addressable")
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        let held = this.broken.take();
        let was_held = held.is_some();
        let piece = match held {
            Some(error) => Poll::Ready(Some(Err(error))),
            None => this.poll_piece(cx),
        };
        if let Some(stream) = &mut this.stream {
            stream.moved(if piece.is_pending() { Turn::Relay } else { Turn::Client });
        }
        if let Some(busy) = &this.busy {
            let arrives = matches!(this.content, Some(Content::Fill(_) | Content::Arriving(_)));
            busy.waits(piece.is_pending() && (arrives || this.passing.is_some()));
        }
        let piece = match ready!(piece) {
            Some(Err(error)) if !was_held => {
                // hyper drops what it has not sent when it gets an error, be it the head: it sends that first.
                this.broken = Some(error);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            piece => piece,
        };
        match &piece {
            Some(Ok(frame)) => {
                let len = frame.data_ref().map_or(0, Bytes::len) as u64;
                this.left = this.left.map(|left| left.saturating_sub(len));
                if let Some(record) = &mut this.record {
                    record.sent(len);
                    if frame.is_trailers() {
                        record.ended();
                    }
                }
            }
            Some(Err(error)) => {
                let hidden = this.left.is_none() && this.ended_by == EndedBy::Close;
                if let Some(busy) = this.busy.as_ref().filter(|_| hidden) {
                    busy.cut();
                }
                if let Some(record) = &mut this.record {
                    record.broken(error);
                }
            }
            None => {
                if let Some(record) = &mut this.record {
                    record.ended();
                }
            }
        }
        Poll::Ready(piece)
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
