//! Interim answers on their way to an agent of HTTP/1.1 (RFC 9110 section 15.2).
//!
//! hyper's server knows none: they are put in on the stream below it. Why they come where they belong, whatever is pipelined:
//!
//! - One enters the queue only while its request's service is polled. hyper polls a service when the answer before is wholly in
//!   its buffer, and nothing of this one's is (`Dispatcher::poll_write` asks for `Writing::Init` and no body left).
//! - The queue goes out where hyper flushes its stream, which it does with an empty buffer alone (`Buffered::poll_flush`), and
//!   each time after it polled the service (`Dispatcher::poll_loop`): the answer before is out by then.
//! - The service gives its answer only when the queue is out. In between hyper writes at most its own `100 Continue`, whole, and
//!   the stream ends the head that was begun before it.
//!
//! Invariant: a head that was begun is ended before a byte of anything else. Agents of HTTP/1.0 know no interim answers, and in
//! HTTP/2 hyper has nowhere to put them: those get none.

use std::pin::pin;

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::net::inserts::Inserts;
use crate::relay::cache::interim::Interim;

/// Waits for an answer, and passes on what is heard before it, as `passed` has it.
pub async fn passing_on<T>(
    answering: impl Future<Output = T>,
    mut heard: UnboundedReceiver<Interim>,
    inserts: &Inserts,
    passed: impl Fn(Interim) -> Interim,
) -> T {
    let mut answering = pin!(answering);
    let answer = loop {
        tokio::select! {
            biased;
            Some(interim) = heard.recv() => inserts.put(head(&passed(interim))),
            answer = answering.as_mut() => break answer,
        }
    };
    // What was said before the answer may be heard together with it.
    while let Ok(interim) = heard.try_recv() {
        inserts.put(head(&passed(interim)));
    }
    inserts.out().await;
    answer
}

/// A head as HTTP/1.1 writes it. Names and values are valid: no line ends within them.
fn head(Interim { status, headers }: &Interim) -> Bytes {
    let reason = status.canonical_reason().unwrap_or_default();
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).into_bytes();
    for (name, value) in headers {
        head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    head.extend(b"\r\n");
    head.into()
}
