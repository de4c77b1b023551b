//! A connection of HTTP/1 that an agent holds to be told: hyper is gone, and what is left costs little more than its socket.
//!
//! The answer ends with the connection, so that what is told needs no frames. Invariant: a connection is held until its agent leaves or
//! says anything more, does not take what it is told, gives its place to others, or the relay stops.

use std::io::{self, Write as _};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hyper::Response;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tracing::debug;

use crate::http::events::Events;
use crate::http::speak::{Agent, PARTING};
use crate::net::ahead::Ahead;

/// What a connection is held for.
#[derive(Debug)]
pub struct Held {
    /// The answer's head.
    pub head: Response<()>,
    /// What is told.
    pub events: Events,
}

/// Holds a connection to its end.
pub async fn hold<S>(agent: &Agent, mut stream: Ahead<S>, held: Held)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let stall = agent.worker.live.load().limits.stall_timeout;
    let _now = agent.worker.tally.streams_now.hold();
    let Held { head, mut events } = held;
    let mut next = Some(text_of(&head));
    while let Some(text) = next {
        if let Err(error) = say(&mut stream, &text, stall).await {
            debug!(agent = %agent.address, %error, "an agent is not told any more");
            return;
        }
        next = tokio::select! {
            biased;
            () = agent.place.stopped() => None,
            next = events.next() => next,
            // It has left, or says what nobody asked it.
            _ = stream.look() => None,
            () = agent.place.dismissed() => {
                debug!(agent = %agent.address, "an agent that is told makes room");
                None
            }
        };
    }
    // Who does not take even this is not waited for.
    let _ = timeout(PARTING, stream.shutdown()).await;
}

async fn say<S: AsyncWrite + Unpin>(stream: &mut Ahead<S>, text: &[u8], stall: Duration) -> io::Result<()> {
    let said = async {
        stream.write_all(text).await?;
        stream.flush().await
    };
    timeout(stall, said).await.map_err(|_| io::ErrorKind::TimedOut)?
}

/// An answer's head as it is sent: it says that the connection ends with it.
fn text_of(head: &Response<()>) -> Bytes {
    let mut text = Vec::with_capacity(256);
    let date = httpdate::fmt_http_date(SystemTime::now());
    // Writing to memory does not fail.
    let _ = write!(text, "HTTP/1.1 {}\r\ndate: {date}\r\nconnection: close\r\n", head.status());
    for (name, value) in head.headers() {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            text.extend_from_slice(part);
        }
    }
    text.extend_from_slice(b"\r\n");
    text.into()
}
