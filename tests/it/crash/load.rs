//! Agents that ask without a pause and compare all they get, whole answers and ranges, until they are stopped or nobody listens.
//!
//! Invariant: a wrong byte fails the test, also one before a transfer broke off.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;

use super::ground::{Bytes, Dice, Release};
use crate::raw::Client;
use crate::raw::answer::{Answer, End, content_range};
use crate::site;

/// The releases that agents may meet: from the first up to the newest that was begun to be put there.
#[derive(Clone, Debug)]
pub(super) struct Releases {
    pub(super) first: Release,
    pub(super) newest: Arc<AtomicU32>,
}

/// Agents at work.
pub(super) struct Load {
    stopped: Arc<AtomicBool>,
    agents: Vec<JoinHandle<Seen>>,
}

/// What agents saw.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Answers that came whole.
    pub(super) whole: usize,
    /// Answers that broke off.
    pub(super) broken: usize,
    /// Answers without the file.
    pub(super) refused: usize,
    /// The newest release whose manifest came whole.
    pub(super) newest: u32,
}

impl Releases {
    /// From a first release up to this version.
    pub(super) fn between(first: Release, newest: u32) -> Self {
        Self { newest: Arc::new(AtomicU32::new(newest)), first }
    }

    /// The newest.
    pub(super) fn newest(&self) -> Release {
        self.release(self.newest.load(Ordering::SeqCst))
    }

    /// Counts the next one; from here on agents may meet it.
    pub(super) fn next(&self) -> Release {
        self.release(self.newest.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn release(&self, version: u32) -> Release {
        Release { version, ..self.first }
    }

    fn all(&self) -> impl Iterator<Item = Release> {
        (self.first.version..=self.newest().version).rev().map(|version| self.release(version))
    }

    /// The release that has this view.
    pub(super) fn of_view(&self, view: &[u8]) -> Option<u32> {
        self.all().find(|release| release.view().as_bytes() == view).map(|release| release.version)
    }

    /// What a path of a release may hold: an increment's signature has its name in other releases too.
    pub(super) fn states(&self, release: Release, path: &str) -> Vec<Bytes> {
        if path.ends_with("server.ini") {
            return self.all().map(|release| Arc::new(release.view().into_bytes())).collect();
        }
        if site::is_signature(path) {
            return self.all().map(|release| release.bytes(path)).collect();
        }
        vec![release.bytes(path)]
    }
}

impl Load {
    /// Starts so many agents.
    pub(super) fn start(address: SocketAddr, agents: u64, releases: &Releases, seed: u64) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let agents = (0..agents).map(|number| {
            let (releases, stopped) = (releases.clone(), stopped.clone());
            let mut dice = Dice(seed * 1000 + number);
            std::thread::spawn(move || {
                let mut seen = Seen::default();
                while !stopped.load(Ordering::Relaxed)
                    && let Some(mut client) = Client::attempt(address)
                {
                    while !stopped.load(Ordering::Relaxed)
                        && ask(&mut client, &releases, &mut dice, &mut seen)
                    {}
                }
                seen
            })
        });
        Self { agents: agents.collect(), stopped }
    }

    /// Waits until the agents are done; panics where one got a wrong byte.
    pub(super) fn stop(self) -> Seen {
        self.stopped.store(true, Ordering::Relaxed);
        self.agents.into_iter().map(|agent| agent.join().expect("an agent got what is wrong")).fold(
            Seen::default(),
            |sum, seen| Seen {
                whole: sum.whole + seen.whole,
                broken: sum.broken + seen.broken,
                refused: sum.refused + seen.refused,
                newest: sum.newest.max(seen.newest),
            },
        )
    }
}

/// One request; false where the connection is of no more use.
fn ask(client: &mut Client, releases: &Releases, dice: &mut Dice, seen: &mut Seen) -> bool {
    let back = u32::try_from(dice.below(3)).unwrap();
    let newest = releases.newest().version;
    let release = releases.release(newest.saturating_sub(back).max(releases.first.version));
    let mut paths = release.paths();
    paths.push("server.ini".to_owned());
    let path = paths.swap_remove(dice.below(paths.len()));
    // Views differ in length, so that a range of them may be none.
    let len = releases.states(release, &path)[0].len();
    let start = dice.below(len);
    let span = start..start + 1 + dice.below(len - start);
    let range = format!("bytes={}-{}", span.start, span.end - 1);
    let ranged = path != "server.ini" && dice.below(2) == 0;
    let headers = [("Range", range.as_str())];
    let Ok(answer) =
        client.exchange("GET", &format!("/activeupdate/{path}"), &headers[..usize::from(ranged)])
    else {
        seen.broken += 1;
        return false;
    };
    // Releases may have come meanwhile.
    let states = releases.states(release, &path);
    let states = states.iter().map(|state| if ranged { &state[span.clone()] } else { &state[..] });
    judge(&answer, &path, states);
    match (answer.head.status, answer.end) {
        (200 | 206, End::Complete) => {
            if ranged {
                let place = answer.head.header("content-range").and_then(content_range);
                assert_eq!(place, Some((span.start, span.end, len)), "{path}");
            }
            if path == "server.ini" {
                seen.newest = seen.newest.max(releases.of_view(&answer.body).unwrap());
            }
            seen.whole += 1;
        }
        (200 | 206, _) => seen.broken += 1,
        _ => seen.refused += 1,
    }
    answer.end == End::Complete
}

/// Panics where an answer has bytes that the file never had.
fn judge<'a>(answer: &Answer, path: &str, mut states: impl Iterator<Item = &'a [u8]>) {
    let status = answer.head.status;
    let right = match (status, answer.end) {
        (200 | 206, End::Complete) => states.any(|state| answer.body == state),
        (200 | 206, End::Short | End::Reset) => states.any(|state| state.starts_with(&answer.body)),
        (404 | 502..=504, End::Complete | End::Short | End::Reset) => true,
        _ => false,
    };
    assert!(right, "{path}: wrong: {status}, {} bytes, {:?}", answer.body.len(), answer.end);
}
