//! HTTP/1 on a connection: hyper over its stream, request after request, and nothing of hyper's while none is asked.
//!
//! Never answers. Invariant: a connection that rests holds no buffer, and nothing of what was asked on it; whatever comes then is read
//! as if it had not rested.

use std::convert::Infallible;
use std::future::poll_fn;
use std::ops::ControlFlow::{Break, Continue};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tracing::debug;

use crate::base::tally::Outcome;
use crate::http::body::Body;
use crate::http::exchange::{Own, answer};
use crate::http::onward::{Becomes, Onward};
use crate::http::speak::{Agent, PARTING};
use crate::http::turn::Turn;
use crate::net::ahead::Ahead;
use crate::net::half_open::{Closing, HalfOpen};
use crate::net::inserts::Inserting;

/// hyper's connection over an agent's stream.
type Http1<S, H> = http1::Connection<TokioIo<Inserting<HalfOpen<Ahead<S>>>>, H>;

/// Answers requests of HTTP/1 until the connection ends, or is given back to be something else.
pub async fn requests<S>(agent: &Rc<Agent>, stream: S) -> Option<(Ahead<S>, Becomes)>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let Agent { worker, address, place, .. } = &**agent;
    let limits = worker.live.load().limits;
    let turn = Rc::new(Turn::new(worker.turns.clone()));
    let own = Rc::new(Own { onward: Onward::default(), inserts: Rc::default(), turn });
    let Own { onward, inserts, .. } = &*own;
    let mut service = service_fn(|request| answer(agent, request, place.begin(), Some(&own)));
    // Spans are written straight to a socket.
    let closing = if agent.spans.is_some() { Closing::Drop } else { Closing::Shutdown };
    let mut stream = Ahead::new(stream);
    loop {
        let passed = Inserting::new(HalfOpen::new(stream, place.clone(), closing), inserts.clone());
        // Boxed, so that a connection at rest has no room for it.
        let mut connection = Box::new(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.head_timeout)
                .max_buf_size(limits.head_bytes_max)
                .serve_connection(TokioIo::new(passed), service),
        );
        let left_off = tokio::select! {
            biased;
            served = to_its_end(&mut connection, &own) => Break(served),
            () = place.stopped() => Break(to_an_early_end(&mut connection, &own).await),
            () = place.dismissed() => {
                debug!(agent = %address, "an idle connection makes room");
                let ended = timeout(PARTING, to_an_early_end(&mut connection, &own)).await;
                Break(ended.unwrap_or_else(|_| {
                    onward.take();
                    Ok(())
                }))
            }
            // What was asked is answered and sent: hyper's buffers are not worth keeping.
            idle = place.rests() => Continue(idle),
        };
        let becomes = match &left_off {
            Break(Ok(())) => Some(onward.take()?),
            Break(Err(error)) => {
                if error.is_parse() {
                    // hyper has answered what it could not read; no record was begun for it.
                    worker.tally.request(Outcome::BadRequest);
                }
                debug!(agent = %address, %error, "a connection ended");
                return None;
            }
            Continue(_) => None,
        };
        (stream, service) = taken_apart(connection);
        if let Some(becomes) = becomes {
            return Some((stream, becomes));
        }
        if let Continue(idle) = left_off
            && !rest(&mut stream, agent, limits.head_timeout.saturating_sub(idle)).await
        {
            return None;
        }
    }
}

/// The stream of a connection that is done with, or at rest; whatever else it held is let go.
#[expect(clippy::boxed_local, reason = "its caller would keep an empty box while the connection rests")]
fn taken_apart<S, H>(connection: Box<Http1<S, H>>) -> (Ahead<S>, H)
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: HttpService<Incoming, ResBody = Body, Error = Infallible>,
{
    let parts = connection.into_parts();
    let mut stream = parts.io.into_inner().into_inner().into_inner();
    stream.put_back(&parts.read_buf);
    (stream, parts.service)
}

/// Waits without a buffer until something comes on an idle connection; false where it has ended meanwhile.
async fn rest<S>(stream: &mut Ahead<S>, agent: &Agent, left: Duration) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if !stream.seen().is_empty() {
        return true;
    }
    debug!(agent = %agent.address, "an idle connection rests");
    let came = tokio::select! {
        biased;
        came = timeout(left, stream.look()) => came,
        () = agent.place.stopped() => Ok(Ok(0)),
        () = agent.place.dismissed() => {
            debug!(agent = %agent.address, "an idle connection makes room");
            Ok(Ok(0))
        }
    };
    match came {
        Ok(Ok(1..)) => return true,
        Ok(Ok(0)) => {}
        Ok(Err(error)) => debug!(agent = %agent.address, %error, "a connection ended"),
        Err(_) => debug!(agent = %agent.address, "a connection is ended: nothing was asked for too long"),
    }
    // Who does not take even this is not waited for.
    let _ = timeout(PARTING, stream.shutdown()).await;
    false
}

/// Runs a connection to its end, or to where it becomes something else: then its stream is left open.
async fn to_its_end<I, S>(connection: &mut http1::Connection<I, S>, own: &Own) -> hyper::Result<()>
where
    I: Read + Write + Unpin,
    S: HttpService<Incoming, ResBody = Body, Error = Infallible, Future: Unpin> + Unpin,
{
    let in_turns = poll_fn(|cx| {
        match own.turn.have(|| connection.poll_without_shutdown(cx)) {
            // What was answered before has gone out: the rest is another's to write.
            Poll::Pending if own.onward.is_taken_over() && own.inserts.is_flushed() => Poll::Ready(Ok(())),
            polled => polled,
        }
    });
    in_turns.await?;
    if own.onward.is_set() { Ok(()) } else { connection.await }
}

/// The same once nothing more is to be asked.
async fn to_an_early_end<I, S>(connection: &mut http1::Connection<I, S>, own: &Own) -> hyper::Result<()>
where
    I: Read + Write + Unpin,
    S: HttpService<Incoming, ResBody = Body, Error = Infallible, Future: Unpin> + Unpin,
{
    Pin::new(&mut *connection).graceful_shutdown();
    to_its_end(connection, own).await
}
