//! Lines of the log on their way to whoever reads it: a thread of its own writes them, so that nobody waits for a terminal.
//!
//! A worker copies its line behind those that wait; the thread takes what came while it rested and writes it as one, so that a line costs
//! neither an allocation nor a system call. Invariant: what waits is bounded; what is over the bound is lost and counted, line by line.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use crate::cli::output::plain;

/// Where lines are left.
#[derive(Clone, Debug)]
pub struct Lines(Arc<Shared>);

/// The thread that writes them. Dropping it writes out what waits, for a second at most.
#[derive(Debug)]
pub struct Writing(Arc<Shared>);

/// What those who leave lines and the thread share.
#[derive(Debug, Default)]
struct Shared {
    /// The lines that wait, and how the thread is. Held for as long as a line takes to be copied.
    state: Mutex<State>,
    /// Told when the thread has something to do.
    left: Condvar,
    /// Told when the thread is gone.
    gone: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Waiting,
    /// The bytes that wait, with those that the thread took and did not come to yet.
    waiting_bytes: usize,
    lost: u64,
    stage: Stage,
}

/// Lines one after the other, and where each ends.
#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

/// What the thread does.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Stage {
    /// It writes, or rests until it does.
    #[default]
    Works,
    /// It has nothing to do until a line comes.
    Waits,
    /// It writes what waits, and goes.
    Ends,
    Gone,
}

impl Lines {
    /// Starts the thread; it writes through `write`, whole lines at a time.
    pub fn start(write: impl FnMut(&[u8]) + Send + 'static) -> io::Result<(Self, Writing)> {
        let shared = Arc::<Shared>::default();
        let thread = std::thread::Builder::new().name("log".to_owned());
        let tended = Tended(shared.clone());
        thread.spawn(move || tended.tend(write))?;
        Ok((Self(shared.clone()), Writing(shared)))
    }

    /// How many were lost since the start.
    pub fn lost(&self) -> u64 {
        self.0.state().lost
    }

    fn leave(&self, line: &[u8]) {
        let mut state = self.0.state();
        if state.waiting_bytes + line.len() > WAITING_BYTES_MAX || state.stage == Stage::Gone {
            state.lost += 1;
            return;
        }
        state.waiting_bytes += line.len();
        state.waiting.push(line);
        if state.stage == Stage::Waits {
            state.stage = Stage::Works;
            drop(state);
            self.0.left.notify_one();
        }
    }
}

/// Bytes that wait to be written at most: tens of thousands of lines, a second of a busy relay's.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// How long the thread rests after it wrote: nobody who reads a log notices, and meanwhile a line wakes nobody.
const REST: Duration = Duration::from_millis(20);

/// For the last lines to be written: a terminal may have been stopped for good.
const LAST_TIMEOUT: Duration = Duration::from_secs(1);

impl Waiting {
    fn push(&mut self, line: &[u8]) {
        self.bytes.extend_from_slice(line);
        self.ends.push(self.bytes.len());
    }

    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |&end| &self.bytes[mem::replace(&mut start, end)..end])
    }

    /// Forgets the lines, and keeps room for those of a busy moment, not for those of a stopped terminal.
    fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.ends.clear();
        self.ends.shrink_to(KEPT_BYTES / LINE_BYTES);
    }
}

/// Room for lines that is kept: more than comes in a rest.
const KEPT_BYTES: usize = 1 << 20;

/// A short line.
const LINE_BYTES: usize = 100;

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the thread holds: that it is gone shows however it goes.
struct Tended(Arc<Shared>);

impl Tended {
    /// Writes what comes until the end.
    fn tend(&self, mut write: impl FnMut(&[u8])) {
        let (mut taken, mut text) = (Waiting::default(), Vec::new());
        while self.take(&mut taken) {
            let mut bytes = 0;
            for line in taken.lines() {
                show(line, &mut text);
                bytes += line.len();
                if text.len() >= WRITE_BYTES {
                    self.0.state().waiting_bytes -= mem::take(&mut bytes);
                    write(&text);
                    text.clear();
                }
            }
            self.0.state().waiting_bytes -= bytes;
            taken.clear();
            write(&text);
            text.clear();
            self.rest();
        }
    }

    /// Waits for lines and takes them all; there is none when it is time to go.
    fn take(&self, taken: &mut Waiting) -> bool {
        let mut state = self.0.state();
        while state.waiting.ends.is_empty() {
            if state.stage == Stage::Ends {
                return false;
            }
            state.stage = Stage::Waits;
            state = self.0.left.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        mem::swap(&mut state.waiting, taken);
        true
    }

    fn rest(&self) {
        let works = |state: &mut State| state.stage == Stage::Works;
        // Whether it was cut short shows in the stage.
        let _ = self.0.left.wait_timeout_while(self.0.state(), REST, works);
    }
}

impl Drop for Tended {
    fn drop(&mut self) {
        self.0.state().stage = Stage::Gone;
        self.0.gone.notify_all();
    }
}

/// Lines are written once they are so many bytes together.
const WRITE_BYTES: usize = 64 << 10;

/// Adds a line so that it can neither act on a terminal nor be taken for two, whatever a request or an upstream sent.
fn show(line: &[u8], text: &mut Vec<u8>) {
    // Nearly all lines are so.
    if let Some((b'\n', shown)) = line.split_last()
        && is_printable(shown)
    {
        text.extend_from_slice(line);
    } else {
        show_carefully(line, text);
    }
}

/// Whether there is nothing but printable ASCII. It looks at all bytes always, since it then looks at many at a time.
fn is_printable(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |printable, byte| printable & (b' '..=b'~').contains(byte))
}

fn show_carefully(line: &[u8], text: &mut Vec<u8>) {
    let line = String::from_utf8_lossy(line);
    text.extend_from_slice(plain(line.strip_suffix('\n').unwrap_or(&line)).as_bytes());
    text.push(b'\n');
}

impl Writing {
    /// Has what waits written out; gives up after so long.
    fn end(&self, timeout: Duration) {
        let mut state = self.0.state();
        if state.stage != Stage::Gone {
            state.stage = Stage::Ends;
        }
        self.0.left.notify_one();
        // When it is late, nothing more can be done for what waits.
        let _ = self.0.gone.wait_timeout_while(state, timeout, |state| state.stage != Stage::Gone);
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.end(LAST_TIMEOUT);
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &Lines {
    /// `line` is a whole one: the log hands them over so.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.leave(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use proptest::prelude::*;

    use super::*;

    type Kept = Arc<Mutex<Vec<String>>>;

    fn kept() -> (Kept, impl FnMut(&[u8]) + Send + 'static) {
        let kept = Kept::default();
        let to = kept.clone();
        (kept, move |text: &[u8]| to.lock().unwrap().push(String::from_utf8(text.to_vec()).unwrap()))
    }

    proptest! {
        #[test]
        fn a_line_is_shown_as_the_careful_way_shows_it(
            line in "[ -~]{0,200}\n?|[ -~\n\r\x00\x1b\x7f]{0,9}\n?|\\PC{0,20}\n?".prop_map(String::into_bytes)
                .boxed().prop_union(prop::collection::vec(any::<u8>(), 0..100).boxed()),
            odd in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        ) {
            let mut line = line;
            if let Some((at, byte)) = odd && !line.is_empty() {
                let at = at.index(line.len());
                line[at] = byte;
            }
            let (mut shown, mut careful) = (b"before\n".to_vec(), b"before\n".to_vec());
            show(&line, &mut shown);
            show_carefully(&line, &mut careful);
            prop_assert_eq!(&shown, &careful);
            prop_assert_eq!(shown.split(|&byte| byte == b'\n').count(), 3);
        }
    }

    #[test]
    fn what_waits_is_written_at_the_end_in_order_and_each_line_as_one() {
        let (kept, write) = kept();
        let (lines, writing) = Lines::start(write).unwrap();
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let lines = lines.clone();
                std::thread::spawn(move || {
                    for number in 0..5000 {
                        (&lines).write_all(format!("{thread} {number}\n").as_bytes()).unwrap();
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        (&lines).write_all(b"two\nlines \x1b[1m\n").unwrap();
        writing.end(Duration::from_mins(1));
        let kept = kept.lock().unwrap().concat();
        for thread in 0..4 {
            let own: Vec<_> =
                kept.lines().filter_map(|line| line.strip_prefix(&format!("{thread} "))).collect();
            assert_eq!(own, (0..5000).map(|number| number.to_string()).collect::<Vec<_>>());
        }
        assert_eq!(kept.lines().last(), Some("two\\u000alines \\u001b[1m"));
        assert_eq!((kept.lines().count(), lines.lost()), (20_001, 0));
    }

    #[test]
    fn lines_that_nobody_reads_are_bounded_and_what_is_over_is_counted() {
        let (gate, opened) = channel::<()>();
        let (kept, mut write) = kept();
        let (lines, writing) = Lines::start(move |text| {
            let _ = opened.recv();
            write(text);
        })
        .unwrap();
        let line = [b"x".repeat(999), b"\n".to_vec()].concat();
        let most = (WAITING_BYTES_MAX / line.len()) as u64;
        for _ in 0..most + 5000 {
            (&lines).write_all(&line).unwrap();
        }
        // What the thread has in its hands waits for the gate, and no longer for room.
        let held = WRITE_BYTES.div_ceil(line.len()) as u64;
        let lost = lines.lost();
        assert!((5000 - held..=5000).contains(&lost), "{lost}");
        drop(gate);
        writing.end(Duration::from_mins(1));
        assert_eq!(kept.lock().unwrap().concat().lines().count() as u64, most + 5000 - lost);
    }

    #[test]
    fn lines_are_lost_and_counted_once_the_thread_is_gone_however_it_went() {
        let (kept, write) = kept();
        let (lines, writing) = Lines::start(write).unwrap();
        (&lines).write_all(b"written\n").unwrap();
        writing.end(Duration::from_mins(1));
        (&lines).write_all(b"late\n").unwrap();
        assert_eq!((kept.lock().unwrap().concat().as_str(), lines.lost()), ("written\n", 1));

        let (lines, writing) = Lines::start(|_| panic!("the terminal is gone")).unwrap();
        (&lines).write_all(b"unwritten\n").unwrap();
        writing.end(Duration::from_mins(1));
        (&lines).write_all(b"late\n").unwrap();
        assert_eq!(lines.lost(), 1);
    }
}
