//! Bytes of an answer, gathered for one write to the disk, and how it ended.
//!
//! Invariant: an end is one that its server marked; whatever else ends a body is a reason.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::HeaderMap;

use crate::base::limits::FILL_BATCH_BYTES;
use crate::relay::cache::hops::stripped;

/// What came after the last byte.
pub(super) type Trailers = Option<Arc<HeaderMap>>;

/// Bytes that came together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// In their order.
    pub(super) pieces: Vec<Bytes>,
    /// How the body ended after them, if it did.
    pub(super) ended: Option<Result<Trailers, String>>,
}

impl Batch {
    /// How many bytes.
    pub(super) fn len(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len() as u64).sum()
    }
}

/// Gathers what is there without waiting, up to the batch's size; waits only for the first of it, and no longer than a silence.
pub(super) async fn gather(body: &mut Incoming, silence: Duration) -> Batch {
    gather_within(body, Some(silence)).await
}

/// The same without any waiting: there may be nothing.
pub(super) async fn at_hand(body: &mut Incoming) -> Batch {
    gather_within(body, None).await
}

async fn gather_within(body: &mut Incoming, silence: Option<Duration>) -> Batch {
    let (mut batch, mut trailers) = (Batch::default(), None);
    let (waits, silence) = (silence.is_some(), silence.unwrap_or(Duration::MAX));
    loop {
        let frame = tokio::select! {
            biased;
            frame = tokio::time::timeout(silence, body.frame()) => frame,
            () = std::future::ready(()), if !waits || !batch.pieces.is_empty() => return batch,
        };
        match frame {
            Err(_) => batch.ended = Some(Err(format!("no byte came for {} s", silence.as_secs_f32()))),
            Ok(Some(Err(error))) => batch.ended = Some(Err(error.to_string())),
            Ok(None) => batch.ended = Some(Ok(trailers.take())),
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => batch.pieces.push(bytes),
                Err(frame) => trailers = frame.into_trailers().ok().map(|fields| Arc::new(stripped(&fields))),
            },
        }
        // Trailers are the last frame.
        if trailers.is_some() {
            batch.ended = Some(Ok(trailers.take()));
        }
        if batch.ended.is_some() || batch.len() >= FILL_BATCH_BYTES as u64 {
            return batch;
        }
    }
}
