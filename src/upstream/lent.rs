//! A request's body that can be sent by another way, as long as nobody began to send it.
//!
//! Invariant: it comes back whole, or not at all.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};

/// A body that comes back where nobody began to send it.
#[derive(Debug)]
pub(super) struct Lent<B> {
    /// Gone only while it is dropped.
    body: Option<B>,
    begun: bool,
    back: Back<B>,
}

/// Where a body comes back to.
#[derive(Debug)]
pub(super) struct Back<B>(Arc<Mutex<Option<B>>>);

impl<B> Lent<B> {
    /// A body to be sent, and where it comes back to.
    pub(super) fn new(body: B) -> (Self, Back<B>) {
        let back = Arc::default();
        (Self { body: Some(body), begun: false, back: Back(Arc::clone(&back)) }, Back(back))
    }
}

impl<B> Back<B> {
    /// The body, where it came back.
    pub(super) fn take(self) -> Option<B> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<B> Drop for Lent<B> {
    fn drop(&mut self) {
        if !self.begun {
            *self.back.0.lock().unwrap_or_else(PoisonError::into_inner) = self.body.take();
        }
    }
}

impl<B: Body + Unpin> Body for Lent<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.begun = true;
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}
