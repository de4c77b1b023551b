//! Interim answers: what a server says before its answer (RFC 9110 section 15.2), heard for the one agent that waits for it.
//!
//! Never speaks to agents. Invariant: those of one question are bounded, in number and in bytes, whoever reads them or does not.

use std::sync::{Arc, Mutex, PoisonError};

use hyper::StatusCode;
use hyper::header::HeaderMap;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::relay::cache::hops::stripped;

/// How many are passed on for one request: servers send one or two, and one that counts its progress by them is not lost.
const COUNT_MAX: usize = 32;

/// How long they may be in all, in bytes.
const BYTES_MAX: usize = 32 << 10;

/// An interim answer, without what concerns its connection alone.
#[derive(Debug)]
pub struct Interim {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
}

/// Where a question's interim answers are told.
#[derive(Clone, Debug)]
pub struct Interims {
    heard: UnboundedSender<Interim>,
    left: Arc<Mutex<Left>>,
}

/// How much may still come.
#[derive(Debug)]
struct Left {
    count: usize,
    bytes: usize,
}

/// Where they are told, and where they are heard.
pub fn interims() -> (Interims, UnboundedReceiver<Interim>) {
    let (heard, hears) = unbounded_channel();
    let left = Left { count: COUNT_MAX, bytes: BYTES_MAX };
    (Interims { heard, left: Arc::new(Mutex::new(left)) }, hears)
}

impl Interims {
    /// Tells one. A 100 is about the request's body, which each side of the relay has its own word for; a 101 is none.
    pub fn tell(&self, status: StatusCode, headers: &HeaderMap) {
        if matches!(status, StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS) {
            return;
        }
        let bytes = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>();
        {
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            if left.count == 0 || left.bytes < bytes {
                return;
            }
            (left.count, left.bytes) = (left.count - 1, left.bytes - bytes);
        }
        // Who asked may have left.
        let _ = self.heard.send(Interim { status, headers: stripped(headers) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HINTS: StatusCode = StatusCode::EARLY_HINTS;

    fn link(bytes: usize) -> HeaderMap {
        HeaderMap::from_iter([(hyper::header::LINK, "x".repeat(bytes).parse().unwrap())])
    }

    #[test]
    fn what_is_heard_is_bounded_in_number_and_in_bytes_r3_2() {
        let (interims, mut hears) = interims();
        for _ in 0..10_000 {
            interims.tell(HINTS, &link(1));
        }
        let count = std::iter::from_fn(|| hears.try_recv().ok()).count();
        assert_eq!(count, COUNT_MAX);

        let (interims, mut hears) = super::interims();
        interims.tell(HINTS, &link(BYTES_MAX));
        interims.tell(HINTS, &link(BYTES_MAX / 2));
        interims.tell(HINTS, &link(BYTES_MAX / 2));
        interims.tell(HINTS, &link(9));
        let all: Vec<_> = std::iter::from_fn(|| hears.try_recv().ok()).collect();
        assert_eq!(all.len(), 2, "one that is too long leaves room for those after it");
    }

    #[test]
    fn words_about_bodies_and_protocols_are_not_passed_on_nor_fields_of_the_connection_r3_2() {
        let (interims, mut hears) = interims();
        for status in [StatusCode::CONTINUE, StatusCode::SWITCHING_PROTOCOLS] {
            interims.tell(status, &HeaderMap::new());
        }
        let mut headers = link(3);
        headers.insert("connection", "x-own".parse().unwrap());
        headers.insert("x-own", "1".parse().unwrap());
        interims.tell(HINTS, &headers);
        let heard = hears.try_recv().unwrap();
        assert_eq!((heard.status, heard.headers), (HINTS, link(3)));
    }
}
