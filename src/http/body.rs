//! The bytes of an answer as hyper takes them: text, a run of a blob, a run of what arrives, what another server sends, or events.
//!
//! Bytes that are in memory are read on the worker; what the disk must bring is read elsewhere. Invariant: the body ends
//! cleanly only after every byte that its head promised; else it ends in an error, which hyper shows as a broken transfer.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio_util::sync::CancellationToken;

use crate::base::limits::BODY_CHUNK_BYTES;
use crate::base::range::ByteRange;
use crate::http::events::{Events, EventsBody};
use crate::http::outlet::Outlet;
use crate::http::passing::Passing;
use crate::http::reading::{Read, Reader};
use crate::http::record::Record;
use crate::http::streams::{Stream, Turn};
use crate::net::idle::Busy;
use crate::policy::sources::Kind;
use crate::relay::content::Content;
use crate::relay::limits::gate::Gate;

/// An answer's body. In a place of its own: an answer is moved a dozen times on its way to hyper, and hyper keeps the room of a body for
/// the next one.
#[derive(Debug, Default)]
pub struct Body(Box<Inner>);

#[derive(Debug)]
struct Inner {
    /// What comes now.
    piece: Option<Piece>,
    /// What comes after it.
    pieces: VecDeque<Piece>,
    reader: Option<Reader>,
    passing: Option<Passing>,
    told: Option<Told>,
    /// `None` while nobody knows.
    left: Option<u64>,
    record: Option<Record>,
    stream: Option<Stream>,
    busy: Option<Busy>,
    /// In a box: few have one.
    gate: Option<Box<Gate>>,
    kind: Kind,
    ended_by: EndedBy,
    /// Why it broke off, until what came before is sent.
    broken: Option<io::Error>,
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

/// What an agent is told as it happens.
#[derive(Debug)]
enum Told {
    /// Whoever writes it, it is not begun.
    Whole(Box<Events>),
    /// hyper writes it.
    Begun(EventsBody),
}

/// What a body is made of, in order.
#[derive(Debug)]
enum Piece {
    Text(Bytes),
    Run(ByteRange),
    /// All of the content from an offset on, however much that is.
    Rest(u64),
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            piece: None,
            pieces: VecDeque::new(),
            reader: None,
            passing: None,
            told: None,
            left: Some(0),
            record: None,
            stream: None,
            busy: None,
            gate: None,
            kind: Kind::Components,
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
        Self::of(Inner {
            left: Some(bytes.len() as u64),
            piece: Some(Piece::Text(bytes)),
            ..Inner::default()
        })
    }

    fn of(inner: Inner) -> Self {
        Self(inner.into())
    }

    /// One run of a content.
    pub fn run(content: Content, range: ByteRange) -> Self {
        Self::of(Inner {
            left: Some(range.len()),
            piece: Some(Piece::Run(range)),
            reader: Some(Reader::new(content)),
            ..Inner::default()
        })
    }

    /// All of a content that arrives, however much that is.
    pub fn whole(content: Content) -> Self {
        Self::of(Inner {
            left: None,
            piece: Some(Piece::Rest(0)),
            reader: Some(Reader::new(content)),
            ..Inner::default()
        })
    }

    /// What another server sends, as it comes.
    pub fn passing(passing: Passing) -> Self {
        Self::of(Inner { left: passing.size(), passing: Some(passing), ..Inner::default() })
    }

    /// What an agent is told, as it happens.
    pub fn events(events: Events) -> Self {
        Self::of(Inner { left: None, told: Some(Told::Whole(events.into())), ..Inner::default() })
    }

    /// Takes out what an agent is to be told, where somebody else writes it; nothing is left then.
    pub fn take_events(&mut self) -> Option<Events> {
        match self.0.told.take() {
            Some(Told::Whole(events)) => {
                self.0.left = Some(0);
                Some(*events)
            }
            told => {
                self.0.told = told;
                None
            }
        }
    }

    /// Several runs of a content, a head before each and a tail after the last.
    pub fn runs(content: Content, ranges: &[ByteRange], heads: Vec<Bytes>, tail: Bytes) -> Self {
        let mut pieces = VecDeque::with_capacity(2 * ranges.len() + 1);
        for (head, range) in heads.into_iter().zip(ranges) {
            pieces.extend([Piece::Text(head), Piece::Run(*range)]);
        }
        pieces.push_back(Piece::Text(tail));
        let left = Some(pieces.iter().map(Piece::len).sum());
        Self::of(Inner { left, pieces, reader: Some(Reader::new(content)), ..Inner::default() })
    }

    /// Has the request's record told when the body ends, however it ends.
    #[must_use]
    pub fn recorded(mut self, record: Record) -> Self {
        self.0.record = Some(record);
        self
    }

    /// Keeps the connection from counting as idle until the body ends, however it ends.
    #[must_use]
    pub fn busy(mut self, busy: Busy) -> Self {
        self.0.busy = Some(busy);
        self
    }

    /// Says what it is of.
    pub fn is_of(&mut self, kind: Kind) {
        self.0.kind = kind;
    }

    /// What it is of.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Whether it is not sent in one piece, as far as anybody knows.
    pub fn is_long(&self) -> bool {
        self.0.left.is_none_or(|left| left > BODY_CHUNK_BYTES as u64)
    }

    /// Has it ask for each piece.
    #[must_use]
    pub fn gated(mut self, gate: Gate) -> Self {
        self.0.gate = Some(gate.into());
        self
    }

    /// Has its bytes leave by its connection's outlet.
    #[must_use]
    pub fn sent_by(mut self, outlet: Outlet) -> Self {
        if let Some(reader) = &mut self.0.reader {
            reader.leave_by(outlet);
        }
        self
    }

    /// Whether it has turns with others of its worker.
    pub fn takes_turns(&self) -> bool {
        self.0.reader.as_ref().is_some_and(Reader::takes_turns)
    }

    /// Says what shows the agent its end.
    #[must_use]
    pub fn ended_by(mut self, ended_by: EndedBy) -> Self {
        self.0.ended_by = ended_by;
        self
    }

    /// Has what an agent is told end when the relay stops, which its connection waits for.
    #[must_use]
    pub fn ended_by_stop(mut self, stop: CancellationToken) -> Self {
        if let Some(Told::Whole(events)) = &mut self.0.told {
            events.end_by(stop);
        }
        self
    }

    /// Has an HTTP/2 connection told how the body gets on.
    #[must_use]
    pub fn streamed(mut self, mut stream: Stream) -> Self {
        stream.moved(Turn::Client);
        self.0.stream = Some(stream);
        self
    }
}

impl Inner {
    /// How many bytes may pass now.
    fn poll_granted(&mut self, cx: &Context<'_>) -> Poll<u64> {
        match &mut self.gate {
            // What an agent is told is not worth counting.
            Some(gate) if self.left != Some(0) && self.told.is_none() => {
                gate.poll(cx, self.left.unwrap_or(UNKNOWN_BYTES))
            }
            _ => Poll::Ready(u64::MAX),
        }
    }

    /// The next piece, of at most so many bytes.
    fn poll_piece(&mut self, granted: u64, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(passing) = &mut self.passing {
            return passing.poll(granted, cx);
        }
        if let Some(told) = self.told.take() {
            let mut begun = match told {
                Told::Whole(events) => EventsBody::new(*events),
                Told::Begun(begun) => begun,
            };
            let piece = begun.poll(cx);
            self.told = Some(Told::Begun(begun));
            return piece.map(|piece| piece.map(|text| Ok(Frame::data(text))));
        }
        // Over HTTP/2 what is read waits for the client's window; over HTTP/1 the socket takes much of it.
        let most = self.stream.as_ref().map_or(BODY_CHUNK_BYTES, Stream::share_bytes);
        loop {
            if self.piece.is_none() {
                self.piece = self.pieces.pop_front();
            }
            let Some(piece) = &mut self.piece else { return Poll::Ready(None) };
            let run = match piece {
                Piece::Text(text) => {
                    let first = text.split_to(text.len().min(usize::try_from(granted).unwrap_or(usize::MAX)));
                    if text.is_empty() {
                        self.piece = None;
                    }
                    return Poll::Ready(Some(Ok(Frame::data(first))));
                }
                Piece::Run(range) if range.is_empty() => {
                    self.piece = None;
                    continue;
                }
                Piece::Run(range) => range.first(granted),
                Piece::Rest(at) => ByteRange::new(*at, u64::MAX).first(granted),
            };
            let Some(reader) = &mut self.reader else {
                return Poll::Ready(Some(Err(io::Error::other("a run without a content"))));
            };
            let read = ready!(reader.poll(run, most, cx));
            return Poll::Ready(Some(match (read, piece) {
                (Ok(Read::Bytes(bytes)), Piece::Run(range)) if bytes.len() as u64 <= range.len() => {
                    *range = range.advanced(bytes.len() as u64);
                    Ok(Frame::data(bytes))
                }
                (Ok(Read::Bytes(bytes)), Piece::Rest(at)) => {
                    *at += bytes.len() as u64;
                    Ok(Frame::data(bytes))
                }
                (Ok(Read::End(trailers)), Piece::Rest(_)) => {
                    self.piece = None;
                    match trailers {
                        Some(trailers) => Ok(Frame::trailers((*trailers).clone())),
                        None => continue,
                    }
                }
                (Ok(_), _) => Err(io::Error::other("what arrives is not as long as was said")),
                (Err(error), _) => Err(error),
            }));
        }
    }
}

/// What a body asks for at a time of which nobody knows how long it is.
const UNKNOWN_BYTES: u64 = 1 << 20;

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Run(range) => range.len(),
            Self::Rest(_) => 0,
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self.0;
        let held = this.broken.take();
        let was_held = held.is_some();
        let (piece, slowed) = match held {
            Some(error) => (Poll::Ready(Some(Err(error))), false),
            None => match this.poll_granted(cx) {
                Poll::Ready(granted) => (this.poll_piece(granted, cx), false),
                Poll::Pending => (Poll::Pending, true),
            },
        };
        if let Some(stream) = &mut this.stream {
            stream.moved(if piece.is_pending() { Turn::Relay } else { Turn::Client });
        }
        if let Some(busy) = &this.busy {
            let awaits_upstream = this.reader.as_ref().is_some_and(Reader::awaits_upstream);
            let awaits = awaits_upstream || this.passing.is_some() || this.told.is_some();
            busy.waits(piece.is_pending() && !slowed && awaits);
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
                if let Some(gate) = &mut this.gate {
                    gate.passed(len);
                }
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
        self.0.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use hyper::body::Body as _;

    use super::*;
    use crate::base::limits::BODY_TURN_BYTES;

    #[tokio::test]
    async fn a_body_gives_so_much_in_one_turn_and_then_lets_others_have_theirs() {
        let whole = usize::try_from(BODY_TURN_BYTES).unwrap() * 5 / 2;
        let content = Content::Bytes(vec![7; whole].into());
        let mut body = Body::run(content, ByteRange::whole(whole as u64));
        let (mut turns, mut given) = (Vec::new(), 0);
        while given < whole {
            let before = given;
            // A turn of the task: until nothing comes.
            tokio::task::yield_now().await;
            poll_fn(|cx| {
                loop {
                    match Pin::new(&mut body).poll_frame(cx) {
                        Poll::Ready(Some(frame)) => given += frame.unwrap().into_data().unwrap().len(),
                        Poll::Ready(None) | Poll::Pending => return Poll::Ready(()),
                    }
                }
            })
            .await;
            turns.push(given - before);
        }
        let most = usize::try_from(BODY_TURN_BYTES).unwrap();
        assert!(turns.len() >= 3 && turns.iter().all(|bytes| *bytes <= most), "{turns:?}");
    }
}
