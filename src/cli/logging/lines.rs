//! Lines of the log on their way to whoever reads it: a thread of its own writes them, so that nobody waits for a terminal.
//!
//! A worker leaves its line in its own ring ([`rings`](crate::cli::logging::rings)); the thread takes what came while it rested and writes it as
//! one, so that a line costs neither a lock nor an allocation nor a system call. Only the first after a quiet time wakes the thread.
//! Invariant: what waits is bounded; what is over the bound is lost and counted, line by line.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, Thread};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use crate::cli::logging::rings::{Rings, Taken, Taker};
use crate::cli::output::plain;

/// Where lines are left.
#[derive(Clone, Debug)]
pub struct Lines {
    shared: Arc<Shared>,
    thread: Thread,
}

/// The thread that writes them. Dropping it writes out what waits, for a second at most.
#[derive(Debug)]
pub struct Writing {
    lines: Lines,
    /// Told when the thread is gone, by its other end's being so.
    gone: Receiver<()>,
}

/// What those who leave lines and the thread share.
#[derive(Debug, Default)]
struct Shared {
    rings: Arc<Rings>,
    lost: AtomicU64,
    /// The thread has nothing to do until a line comes; whoever takes that back wakes it.
    waits: AtomicBool,
    /// It is to write what waits, and to go.
    ends: AtomicBool,
    gone: AtomicBool,
}

impl Lines {
    /// Starts the thread; it writes through `write`, whole lines at a time.
    pub fn start(write: impl FnMut(&[u8]) + Send + 'static) -> io::Result<(Self, Writing)> {
        let shared = Arc::<Shared>::default();
        let (held, gone) = channel();
        let tended = Tended { shared: shared.clone(), _held: held };
        let thread = thread::Builder::new().name("log".to_owned()).spawn(move || tended.tend(write))?;
        let lines = Self { shared, thread: thread.thread().clone() };
        Ok((lines.clone(), Writing { lines, gone }))
    }

    /// How many were lost since the start.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    fn leave(&self, line: &[u8]) {
        let Shared { rings, lost, waits, gone, .. } = &*self.shared;
        if gone.load(Ordering::Relaxed) || !rings.leave(line) {
            lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // The line comes first, here; there, that it waits comes before the last look for lines: one of the two sees the other.
        fence(Ordering::SeqCst);
        if waits.load(Ordering::Relaxed) && waits.swap(false, Ordering::Relaxed) {
            self.thread.unpark();
        }
    }
}

/// How long the thread rests after it wrote: nobody who reads a log notices, and meanwhile a line wakes nobody.
const REST: Duration = Duration::from_millis(20);

/// For the last lines to be written: a terminal may have been stopped for good.
const LAST_TIMEOUT: Duration = Duration::from_secs(1);

/// What the thread holds: that it is gone shows however it goes.
struct Tended {
    shared: Arc<Shared>,
    _held: Sender<()>,
}

impl Tended {
    /// Writes what comes until the end.
    fn tend(&self, mut write: impl FnMut(&[u8])) {
        let mut taker = Taker::of(self.shared.rings.clone());
        let (mut taken, mut text) = (Taken::default(), Vec::new());
        loop {
            // Whether it is to end comes first: what was left before that is taken.
            let ends = self.shared.ends.load(Ordering::Acquire);
            taker.take(&mut taken);
            match (taken.is_empty(), ends) {
                (true, true) => return,
                (true, false) => self.wait(&taker),
                (false, _) => {
                    for line in taken.lines() {
                        show(line, &mut text);
                        if text.len() >= WRITE_BYTES {
                            write(&text);
                            text.clear();
                        }
                    }
                    taken.clear();
                    write(&text);
                    text.clear();
                    if !ends {
                        thread::park_timeout(REST);
                    }
                }
            }
        }
    }

    /// Waits until there is something to do.
    fn wait(&self, taker: &Taker) {
        let Shared { waits, ends, .. } = &*self.shared;
        waits.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        while waits.load(Ordering::Relaxed) && taker.is_empty() && !ends.load(Ordering::Relaxed) {
            thread::park();
        }
        waits.store(false, Ordering::Relaxed);
    }
}

impl Drop for Tended {
    fn drop(&mut self) {
        self.shared.gone.store(true, Ordering::Relaxed);
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
        self.lines.shared.ends.store(true, Ordering::Release);
        self.lines.thread.unpark();
        // When it is late, nothing more can be done for what waits.
        let _ = self.gone.recv_timeout(timeout);
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
    use std::sync::Mutex;
    use std::time::Instant;

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
        const LINES: u64 = 10_000;
        let (begun, began) = channel();
        let (gate, opened) = channel::<()>();
        let (kept, mut write) = kept();
        let (lines, writing) = Lines::start(move |text| {
            let _ = begun.send(());
            let _ = opened.recv();
            write(text);
        })
        .unwrap();
        (&lines).write_all(b"first\n").unwrap();
        began.recv().unwrap();
        let line = [b"x".repeat(999), b"\n".to_vec()].concat();
        for _ in 0..LINES {
            (&lines).write_all(&line).unwrap();
        }
        let left = LINES - lines.lost();
        assert!((1000..1200).contains(&left), "{left}");
        drop(gate);
        writing.end(Duration::from_mins(1));
        assert_eq!(kept.lock().unwrap().concat().lines().count() as u64, left + 1);
    }

    #[test]
    fn a_line_after_a_quiet_time_wakes_the_thread() {
        let (written, seen) = channel();
        let (lines, writing) = Lines::start(move |text| written.send(text.to_vec()).unwrap()).unwrap();
        for number in 0..20 {
            let deadline = Instant::now() + Duration::from_mins(1);
            while !lines.shared.waits.load(Ordering::Relaxed) {
                assert!(Instant::now() < deadline, "the thread does not come to rest");
                thread::yield_now();
            }
            let line = format!("{number}\n");
            (&lines).write_all(line.as_bytes()).unwrap();
            assert_eq!(seen.recv_timeout(Duration::from_mins(1)).unwrap(), line.as_bytes());
        }
        drop(writing);
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
