//! The fleet as a whole: its threads, how far it is, and what it has seen in the end.
//!
//! Owns the threads: they end with the plan, with its time, or when the fleet is stopped. Invariant: the threads' connections are
//! together as many as the plan has.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use crate::base::clock::Clock;
use crate::load::budget::End;
use crate::load::figures::Figures;
use crate::load::known::Known;
use crate::load::menu::Menus;
use crate::load::plan::Plan;
use crate::load::schedule::{Left, Part};
use crate::load::target::Target;
use crate::load::thread::{Played, play};
use crate::load::told::tokens::Tokens;

/// A fleet that plays.
#[derive(Debug)]
pub struct Fleet {
    ground: Arc<Ground>,
    stop: CancellationToken,
    threads: Vec<JoinHandle<io::Result<Played>>>,
}

/// What all its threads share.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) plan: Plan,
    pub(super) target: Target,
    pub(super) known: Known,
    pub(super) menus: Menus,
    pub(super) tokens: Tokens,
    pub(super) live: Live,
    clock: Arc<dyn Clock>,
    started: Duration,
}

/// Counts that can be read at any moment.
#[derive(Debug, Default)]
pub(super) struct Live {
    streams: AtomicU64,
    arrived: AtomicU64,
    done: AtomicU64,
    requests: AtomicU64,
    errors: AtomicU64,
    bytes: AtomicU64,
}

/// How far a fleet is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Streams that are held.
    pub streams: u64,
    /// Agents that have begun.
    pub arrived: u64,
    /// Agents that are done.
    pub done: u64,
    /// Requests that have ended.
    pub requests: u64,
    /// Errors among them.
    pub errors: u64,
    /// Bytes of bodies.
    pub bytes: u64,
}

/// A run that is over.
#[derive(Debug)]
pub struct Run {
    /// What was seen.
    pub figures: Figures,
    /// Who was left, where it ended early.
    pub left: Left,
    /// How it ended.
    pub end: End,
    /// How long it took.
    pub took: Duration,
}

impl Fleet {
    /// Starts to play; agents show these tokens, where there are any. Its threads are ended by [`Self::stopper`], or by themselves.
    pub fn start(
        plan: Plan,
        target: Target,
        known: Known,
        tokens: Tokens,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let started = clock.monotonic();
        let (menus, live) = (Menus::new(), Live::default());
        let ground = Arc::new(Ground { plan, target, known, menus, tokens, live, clock, started });
        let mut fleet = Self { ground, stop: CancellationToken::new(), threads: Vec::new() };
        let connections = fleet.ground.plan.connections.max(1);
        let threads = fleet.ground.plan.threads.clamp(1, connections);
        for index in 0..threads {
            let part = Part { index: number(index), of: number(threads) };
            let own = connections / threads + usize::from(index < connections % threads);
            let (ground, stop) = (fleet.ground.clone(), fleet.stop.clone());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let builder = std::thread::Builder::new().name(format!("fleet-{index}"));
            fleet.threads.push(builder.spawn(move || runtime.block_on(play(ground, part, own, stop)))?);
        }
        Ok(fleet)
    }

    /// How far it is.
    pub fn progress(&self) -> impl Fn() -> Progress + Send + use<> {
        let ground = self.ground.clone();
        move || {
            let Live { streams, arrived, done, requests, errors, bytes } = &ground.live;
            let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
            Progress {
                streams: read(streams),
                arrived: read(arrived),
                done: read(done),
                requests: read(requests),
                errors: read(errors),
                bytes: read(bytes),
            }
        }
    }

    /// Ends it early.
    pub fn stopper(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Waits for its end; blocks.
    pub fn wait(mut self) -> io::Result<Run> {
        let mut run = Run {
            figures: Figures::default(),
            left: Left::default(),
            end: End::Played,
            took: Duration::ZERO,
        };
        for thread in std::mem::take(&mut self.threads) {
            let played = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            run.figures.add(&played.figures);
            run.left = run.left.and(played.left);
            run.took = run.took.max(played.until);
            if played.end != End::Played {
                run.end = played.end;
            }
        }
        Ok(run)
    }
}

impl Drop for Fleet {
    /// A fleet that nobody waits for any more stops; its threads end by themselves.
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Ground {
    /// The time since the start.
    pub(super) fn now(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.started)
    }

    /// The wall clock, for dates that a server names.
    pub(super) fn wall(&self) -> SystemTime {
        self.clock.wall().into()
    }
}

impl Live {
    /// A stream is held, or is not any more.
    pub(super) fn holds(&self, holds: bool) {
        if holds {
            self.streams.fetch_add(1, Ordering::Relaxed);
        } else {
            self.streams.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(super) fn arrived(&self) {
        self.arrived.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn done(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn ended(&self, is_error: bool) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.errors.fetch_add(u64::from(is_error), Ordering::Relaxed);
    }

    pub(super) fn bytes(&self, count: usize) {
        self.bytes.fetch_add(count as u64, Ordering::Relaxed);
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).expect("there are no more threads than a u32 counts")
}
