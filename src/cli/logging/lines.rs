//! Lines of the log on their way to whoever reads it: a thread of its own writes them, so that nobody waits for a terminal.
//!
//! The thread takes what came while it rested and writes it as one, so that a line costs whoever has it no system call. Invariant: what waits
//! is bounded; what is over the bound is lost and counted, line by line.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use crate::cli::output::plain;

/// Where lines are left.
#[derive(Clone, Debug)]
pub struct Lines {
    sender: Sender<Message>,
    count: Arc<Count>,
}

/// The thread that writes them. Dropping it writes out what waits, for a second at most.
#[derive(Debug)]
pub struct Writing(Sender<Message>);

#[derive(Debug, Default)]
struct Count {
    waiting_bytes: AtomicUsize,
    lost: AtomicU64,
}

enum Message {
    Line(Vec<u8>),
    /// The last one; told when all before it is written.
    End(Sender<()>),
}

impl Lines {
    /// Starts the thread; it writes through `write`, whole lines at a time.
    pub fn start(write: impl FnMut(&str) + Send + 'static) -> io::Result<(Self, Writing)> {
        let (sender, receiver) = channel();
        let count = Arc::new(Count::default());
        let thread = std::thread::Builder::new().name("log".to_owned());
        let counted = count.clone();
        thread.spawn(move || tend(&receiver, &counted, write))?;
        Ok((Self { sender: sender.clone(), count }, Writing(sender)))
    }

    /// How many were lost since the start.
    pub fn lost(&self) -> u64 {
        self.count.lost.load(Ordering::Relaxed)
    }

    fn leave(&self, line: &[u8]) {
        let before = self.count.waiting_bytes.fetch_add(line.len(), Ordering::Relaxed);
        if before + line.len() > WAITING_BYTES_MAX || self.sender.send(Message::Line(line.to_vec())).is_err()
        {
            self.count.waiting_bytes.fetch_sub(line.len(), Ordering::Relaxed);
            self.count.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Bytes that wait to be written at most: tens of thousands of lines, a second of a busy relay's.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// How long the thread rests after it wrote: nobody who reads a log notices, and meanwhile a line wakes nobody.
const REST: Duration = Duration::from_millis(20);

/// For the last lines to be written: a terminal may have been stopped for good.
const LAST_TIMEOUT: Duration = Duration::from_secs(1);

/// Writes what comes until the end.
fn tend(receiver: &Receiver<Message>, count: &Count, mut write: impl FnMut(&str)) {
    let mut text = String::new();
    while let Ok(first) = receiver.recv() {
        let mut ended = None;
        for message in std::iter::once(first).chain(receiver.try_iter()) {
            match message {
                Message::Line(line) => {
                    text.push_str(&shown(&line));
                    count.waiting_bytes.fetch_sub(line.len(), Ordering::Relaxed);
                }
                Message::End(told) => {
                    ended = Some(told);
                    break;
                }
            }
            if text.len() >= WRITE_BYTES {
                write(&text);
                text.clear();
            }
        }
        write(&text);
        text.clear();
        if let Some(told) = ended {
            // Whoever waited may have given up.
            let _ = told.send(());
            return;
        }
        std::thread::sleep(REST);
    }
}

/// Lines are written once they are so many bytes together.
const WRITE_BYTES: usize = 64 << 10;

/// A line that can neither act on a terminal nor be taken for two, whatever a request or an upstream sent.
fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut shown = plain(text.strip_suffix('\n').unwrap_or(&text)).into_owned();
    shown.push('\n');
    shown
}

impl Writing {
    /// Has what waits written out; gives up after so long.
    fn end(&self, timeout: Duration) {
        let (told, done) = channel();
        if self.0.send(Message::End(told)).is_ok() {
            // It is late, or the thread is gone: nothing more can be done for what waits.
            let _ = done.recv_timeout(timeout);
        }
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

    use super::*;

    fn kept() -> (Arc<Mutex<Vec<String>>>, impl FnMut(&str) + Send + 'static) {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let to = kept.clone();
        (kept, move |text: &str| to.lock().unwrap().push(text.to_owned()))
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
}
