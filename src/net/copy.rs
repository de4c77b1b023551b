//! A tunnel's bytes: both ways at once, through buffers that do not grow, until both sides have ended or a bound is reached.
//!
//! Never looks at a byte. Invariant: one side is read only while the other takes what was read; the end of one side is passed on
//! and leaves the other direction as it is; whatever else ends a tunnel shows as a reset, never as an end in order.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};
use tokio::sync::Notify;
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, sleep_until};

use crate::base::tally::Tally;
use crate::net::idle::Place;

/// What is read of one side before the other has taken it: tunnels by the ten thousand fit in memory.
pub const BUFFER_BYTES: usize = 8 << 10;

/// A tunnel without a byte for so long is not at work: it may be told to go when room is wanted, or when the relay stops.
/// Servers begin to answer within it, and who stops a relay waits for it.
const AT_WORK: Duration = Duration::from_secs(5);

/// How long a tunnel may be without a byte, and open at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Without a byte in either direction.
    pub idle: Duration,
    /// In all.
    pub total: Duration,
}

/// Why a tunnel ended.
#[derive(Debug, Error)]
pub enum End {
    /// Both sides have ended what they send.
    #[error("both sides ended")]
    Closed,
    /// Nothing passed for too long.
    #[error("no byte passed within {} s", .0.as_secs_f32())]
    Idle(Duration),
    /// It was open for too long.
    #[error("it was open for {} s", .0.as_secs_f32())]
    Total(Duration),
    /// Somebody else needs its place.
    #[error("it made room")]
    Room,
    /// The relay stops.
    #[error("the relay stops")]
    Stop,
    /// The agent's connection broke, or the agent took nothing for too long.
    #[error("the agent's connection broke: {0}")]
    Agent(io::Error),
    /// The other server's did.
    #[error("the server's connection broke: {0}")]
    Server(io::Error),
}

/// What has passed through a tunnel so far.
#[derive(Debug)]
pub struct Passed {
    tally: Arc<Tally>,
    up_bytes: Cell<u64>,
    down_bytes: Cell<u64>,
    last: Cell<Instant>,
    /// Bytes that there may be wait for the relay to let them pass.
    slowed: Cell<bool>,
    /// Somebody waits for the next byte.
    awaited: Cell<bool>,
    moved: Notify,
    broken: Cell<Option<Side>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Agent,
    Server,
}

impl Passed {
    /// Nothing yet.
    pub fn new(tally: Arc<Tally>) -> Self {
        Self {
            tally,
            up_bytes: Cell::default(),
            down_bytes: Cell::default(),
            last: Cell::new(Instant::now()),
            slowed: Cell::default(),
            awaited: Cell::default(),
            moved: Notify::new(),
            broken: Cell::default(),
        }
    }

    /// Bytes that the server took.
    pub fn up_bytes(&self) -> u64 {
        self.up_bytes.get()
    }

    /// Bytes that the agent took.
    pub fn down_bytes(&self) -> u64 {
        self.down_bytes.get()
    }

    /// Notes whether it is the relay that lets nothing pass: the tunnel is not idle then.
    pub fn slowed(&self, slowed: bool) {
        if self.slowed.replace(slowed) {
            self.last.set(Instant::now());
        }
    }

    fn moved(&self) {
        self.last.set(Instant::now());
        if self.awaited.replace(false) {
            self.moved.notify_one();
        }
    }

    fn took(&self, side: Side, count: usize) {
        let count = count as u64;
        match side {
            Side::Agent => {
                self.down_bytes.set(self.down_bytes.get() + count);
                self.tally.tunnel_down_bytes.add(count);
            }
            Side::Server => {
                self.up_bytes.set(self.up_bytes.get() + count);
                self.tally.tunnel_up_bytes.add(count);
            }
        }
        self.moved();
    }
}

/// Copies between an agent and a server until the end. The tunnel is idle in the eyes of its `place` while nothing passes; once
/// the relay stops it ends when it is.
pub async fn copy<A, S>(
    agent: &mut A,
    server: &mut S,
    passed: &Passed,
    place: &Rc<Place>,
    bounds: Bounds,
) -> End
where
    A: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    // Bytes alone begin no request.
    place.speaks_frames();
    let mut agent = Watched { stream: agent, side: Side::Agent, passed };
    let mut server = Watched { stream: server, side: Side::Server, passed };
    let copied = copy_bidirectional_with_sizes(&mut agent, &mut server, BUFFER_BYTES, BUFFER_BYTES);
    let end = tokio::select! {
        biased;
        copied = copied => match (copied, passed.broken.get()) {
            (Ok(_), _) => End::Closed,
            (Err(error), Some(Side::Server)) => End::Server(error),
            (Err(error), _) => End::Agent(error),
        },
        // However much there is to copy, the time comes.
        end = unconstrained(bound(passed, place, bounds)) => end,
    };
    if !matches!(end, End::Closed) {
        place.cut();
    }
    end
}

/// Waits until a tunnel must end, whatever passes through it.
async fn bound(passed: &Passed, place: &Rc<Place>, bounds: Bounds) -> End {
    let end = Instant::now() + bounds.total;
    let mut busy = Some(place.begin());
    loop {
        let now = Instant::now();
        let last = if passed.slowed.get() { now } else { passed.last.get() };
        let (idle, rests) = (last + bounds.idle, last + AT_WORK);
        if now >= end {
            return End::Total(bounds.total);
        }
        if now >= idle {
            return End::Idle(bounds.idle);
        }
        if now < rests {
            busy.get_or_insert_with(|| place.begin());
            sleep_until(rests.min(idle).min(end)).await;
            continue;
        }
        busy = None;
        passed.awaited.set(true);
        tokio::select! {
            () = passed.moved.notified() => {}
            () = sleep_until(idle.min(end)) => {}
            () = place.stopped() => return End::Stop,
            () = place.dismissed() => return End::Room,
        }
    }
}

/// One side of a tunnel, whose bytes are counted.
struct Watched<'t, S> {
    stream: &'t mut S,
    side: Side,
    passed: &'t Passed,
}

impl<S> Watched<'_, S> {
    fn checked<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(_)) = &polled
            && self.passed.broken.get().is_none()
        {
            self.passed.broken.set(Some(self.side));
        }
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut *self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.passed.moved();
        }
        self.checked(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut *self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = written {
            self.passed.took(self.side, count);
        }
        self.checked(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut *self.stream).poll_flush(cx);
        self.checked(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut *self.stream).poll_shutdown(cx);
        self.checked(shut)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::task::JoinHandle;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::base::clock::SystemClock;
    use crate::net::idle::Idle;
    use crate::net::places::Places;

    const BOUNDS: Bounds = Bounds { idle: Duration::from_mins(5), total: Duration::from_hours(12) };

    struct Tunnel {
        agent: DuplexStream,
        server: DuplexStream,
        drain: CancellationToken,
        ended: JoinHandle<(End, u64, u64)>,
    }

    /// A tunnel between two streams of 64 bytes.
    fn tunnel(bounds: Bounds) -> Tunnel {
        let ((agent, mut near), (server, mut far)) = (duplex(64), duplex(64));
        let drain = CancellationToken::new();
        let token = drain.clone();
        let ended = tokio::task::spawn_local(async move {
            let places = Places::new(9, 1, Arc::default(), Arc::new(SystemClock::default()));
            let idle = Idle::new(Arc::new(places), 0, token);
            tokio::task::spawn_local(idle.clone().tend());
            let place = idle.enter();
            let passed = Passed::new(Arc::default());
            let end = copy(&mut near, &mut far, &passed, &place, bounds).await;
            (end, passed.up_bytes(), passed.down_bytes())
        });
        Tunnel { agent, server, drain, ended }
    }

    async fn local(test: impl Future<Output = ()>) {
        tokio::task::LocalSet::new().run_until(test).await;
    }

    async fn takes(stream: &mut DuplexStream, expected: &[u8]) {
        let mut bytes = vec![0; expected.len()];
        stream.read_exact(&mut bytes).await.unwrap();
        assert_eq!(bytes, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_one_side_is_passed_on_and_the_other_goes_on_r4_2() {
        local(async {
            for agent_first in [true, false] {
                let mut tunnel = tunnel(BOUNDS);
                let (first, second) = (&mut tunnel.agent, &mut tunnel.server);
                let (first, second) = if agent_first { (first, second) } else { (second, first) };
                first.write_all(b"question").await.unwrap();
                first.shutdown().await.unwrap();
                let mut all = Vec::new();
                second.read_to_end(&mut all).await.unwrap();
                assert_eq!(all, b"question");
                for _ in 0..100 {
                    second.write_all(b"answer").await.unwrap();
                    takes(first, b"answer").await;
                }
                second.shutdown().await.unwrap();
                assert_eq!(first.read(&mut [0; 9]).await.unwrap(), 0);
                let (end, up, down) = tunnel.ended.await.unwrap();
                assert!(matches!(end, End::Closed), "{end}");
                let expected = if agent_first { (8, 600) } else { (600, 8) };
                assert_eq!((up, down), expected);
            }
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_either_way_keeps_a_tunnel_until_its_total_is_over_r4_2() {
        local(async {
            let bounds = Bounds { idle: Duration::from_secs(20), total: Duration::from_mins(2) };
            let mut quiet = tunnel(bounds);
            let began = Instant::now();
            for secs in [15, 19, 2] {
                tokio::time::sleep(Duration::from_secs(secs)).await;
                quiet.server.write_all(b"x").await.unwrap();
                takes(&mut quiet.agent, b"x").await;
            }
            let (end, ..) = quiet.ended.await.unwrap();
            assert!(matches!(end, End::Idle(_)), "{end}");
            assert_eq!(began.elapsed().as_secs(), 36 + 20);

            let mut steady = tunnel(bounds);
            let began = Instant::now();
            while steady.agent.write_all(b"x").await.is_ok() {
                takes(&mut steady.server, b"x").await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            let (end, ..) = steady.ended.await.unwrap();
            assert!(matches!(end, End::Total(_)), "{end}");
            assert!((120..=121).contains(&began.elapsed().as_secs()));
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_side_that_takes_nothing_stops_the_other_after_one_buffer_r4_2() {
        local(async {
            let mut tunnel = tunnel(BOUNDS);
            let sent = Cell::new(0);
            let sending = async {
                loop {
                    sent.set(sent.get() + tunnel.server.write(&[7; 64]).await.unwrap());
                }
            };
            let sending: Result<(), _> = tokio::time::timeout(Duration::from_mins(1), sending).await;
            assert!(sending.is_err());
            let sent = sent.get();
            assert!((64..=BUFFER_BYTES + 2 * 64).contains(&sent), "{sent} bytes");
            takes(&mut tunnel.agent, &vec![7; sent]).await;
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn once_the_relay_stops_a_tunnel_ends_when_nothing_passes() {
        local(async {
            let mut tunnel = tunnel(BOUNDS);
            let began = Instant::now();
            tunnel.drain.cancel();
            for _ in 0..30 {
                tokio::time::sleep(AT_WORK / 2).await;
                tunnel.agent.write_all(b"x").await.unwrap();
                takes(&mut tunnel.server, b"x").await;
            }
            let (end, ..) = tunnel.ended.await.unwrap();
            assert!(matches!(end, End::Stop), "{end}");
            assert_eq!(began.elapsed(), AT_WORK * 16);
        })
        .await;
    }
}
