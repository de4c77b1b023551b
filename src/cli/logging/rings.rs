//! Where threads leave their lines: each in a ring of its own, so that a line takes no lock and no thread waits for another.
//!
//! A thread's first line makes it a small ring; one that fills it is given a large one. Each line has a number, drawn from one counter
//! for all, by which whoever takes them puts them into the order in which they were left. Invariant: a ring is written by its thread
//! alone and read by one taker alone; what is over its bound is not left at all.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rtrb::{Consumer, Producer, RingBuffer};

/// The rings of all threads that leave lines in one place.
#[derive(Debug, Default)]
pub struct Rings {
    /// The number of the next line.
    next: AtomicU64,
    /// Guards the ends of rings that were made since the taker last looked.
    fresh: Mutex<Vec<Consumer<u8>>>,
}

/// Whoever takes the lines.
#[derive(Debug)]
pub struct Taker {
    rings: Arc<Rings>,
    ends: Vec<Consumer<u8>>,
}

/// Lines that were taken.
#[derive(Debug, Default)]
pub struct Taken {
    bytes: Vec<u8>,
    /// Where each is, by its number.
    lines: Vec<(u64, Range<usize>)>,
}

/// A thread's ring.
#[derive(Debug)]
struct Ring {
    of: Arc<Rings>,
    begin: Producer<u8>,
}

/// What a thread has to leave lines with.
#[derive(Debug, Default)]
struct Own {
    ring: Option<Ring>,
    /// The room in which a line gets its head.
    record: Vec<u8>,
}

thread_local! {
    static OWN: RefCell<Own> = RefCell::default();
}

/// A small ring: hundreds of lines, for threads that say little.
const RING_BYTES: usize = 64 << 10;

/// A large one: nearly a tenth of a second of all that a core can serve.
const RING_BYTES_MAX: usize = 1 << 20;

/// A line's head within a ring: its number and its length.
const HEAD_BYTES: usize = size_of::<u64>() + size_of::<u32>();

/// Room that is kept for lines to be taken into: more than come in a rest.
const KEPT_BYTES: usize = 1 << 20;

/// A short line.
const LINE_BYTES: usize = 100;

impl Rings {
    /// Leaves a line; `false` where there is no room, or where the thread is about to end.
    pub fn leave(self: &Arc<Self>, line: &[u8]) -> bool {
        OWN.try_with(|own| own.borrow_mut().leave(self, line)).unwrap_or(false)
    }

    fn fresh(&self) -> MutexGuard<'_, Vec<Consumer<u8>>> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Own {
    fn leave(&mut self, rings: &Arc<Rings>, line: &[u8]) -> bool {
        let Ok(len) = u32::try_from(line.len()) else { return false };
        let number = rings.next.fetch_add(1, Ordering::Relaxed);
        self.record.clear();
        self.record.extend_from_slice(&number.to_le_bytes());
        self.record.extend_from_slice(&len.to_le_bytes());
        self.record.extend_from_slice(line);
        let ring = match &mut self.ring {
            Some(ring) if Arc::ptr_eq(&ring.of, rings) => ring,
            none => none.insert(Ring::new(rings, RING_BYTES)),
        };
        if ring.begin.push_entire_slice(&self.record).is_ok() {
            return true;
        }
        if ring.begin.buffer().capacity() < RING_BYTES_MAX {
            // What is in the small one is taken from there.
            *ring = Ring::new(rings, RING_BYTES_MAX);
        }
        ring.begin.push_entire_slice(&self.record).is_ok()
    }
}

impl Ring {
    fn new(of: &Arc<Rings>, bytes: usize) -> Self {
        let (begin, end) = RingBuffer::new(bytes);
        of.fresh().push(end);
        Self { of: of.clone(), begin }
    }
}

impl Taker {
    /// Takes from these rings. There is one taker for them.
    pub fn of(rings: Arc<Rings>) -> Self {
        Self { rings, ends: Vec::new() }
    }

    /// Adds all lines that were left.
    pub fn take(&mut self, taken: &mut Taken) {
        self.ends.append(&mut self.rings.fresh());
        self.ends.retain_mut(|end| {
            // Whether its thread left it comes first: nothing is added after that.
            let is_left = end.is_abandoned();
            taken.add(end);
            !is_left
        });
        taken.lines.sort_unstable_by_key(|&(number, _)| number);
    }

    /// Whether there is nothing to take.
    pub fn is_empty(&self) -> bool {
        self.ends.iter().all(Consumer::is_empty) && self.rings.fresh().is_empty()
    }
}

impl Taken {
    fn add(&mut self, end: &mut Consumer<u8>) {
        let mut at = self.bytes.len();
        let chunk = end.read_chunk(end.slots()).expect("what is there can be read");
        let (one, two) = chunk.as_slices();
        self.bytes.extend_from_slice(one);
        self.bytes.extend_from_slice(two);
        chunk.commit_all();
        while let Some((head, rest)) = self.bytes[at..].split_first_chunk::<HEAD_BYTES>() {
            let (number, len) = head.split_first_chunk().expect("a head begins with the number");
            let len = u32::from_le_bytes(len.try_into().expect("and ends with the length")) as usize;
            debug_assert!(len <= rest.len(), "a line is left whole");
            let start = at + HEAD_BYTES;
            at = start + len;
            self.lines.push((u64::from_le_bytes(*number), start..at));
        }
    }

    /// The lines, in the order in which they were left.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.lines.iter().map(|(_, line)| &self.bytes[line.clone()])
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Forgets the lines, and keeps room for those of a busy moment, not for those of a stopped terminal.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.lines.clear();
        self.lines.shrink_to(KEPT_BYTES / LINE_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    fn texts(taken: &Taken) -> Vec<String> {
        taken.lines().map(|line| String::from_utf8(line.to_vec()).unwrap()).collect()
    }

    fn rings() -> (Arc<Rings>, Taker) {
        let rings = Arc::<Rings>::default();
        (rings.clone(), Taker::of(rings))
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// A thread leaves a line of so many bytes.
        Leave(usize, usize),
        Take,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let leave = (0..3_usize, prop_oneof![9 => 0..20_000_usize, 1 => 0..RING_BYTES_MAX + 9]);
        let step =
            prop_oneof![8 => leave.prop_map(|(thread, len)| Step::Leave(thread, len)), 1 => Just(Step::Take)];
        prop::collection::vec(step, 0..60)
    }

    /// What a thread's ring has room for.
    #[derive(Clone, Copy)]
    struct Room {
        bytes: usize,
        waiting: usize,
    }

    impl Room {
        fn takes(&mut self, len: usize) -> bool {
            if self.waiting + len > self.bytes && self.bytes < RING_BYTES_MAX {
                *self = Self { bytes: RING_BYTES_MAX, waiting: 0 };
            }
            let fits = self.waiting + len <= self.bytes;
            self.waiting += if fits { len } else { 0 };
            fits
        }
    }

    proptest! {
        #[test]
        fn lines_are_taken_whole_and_in_order_whoever_left_them(steps in steps()) {
            let (rings, mut taker) = rings();
            let mut owns: [Own; 3] = Default::default();
            let mut rooms = [Room { bytes: RING_BYTES, waiting: 0 }; 3];
            let mut left = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Leave(thread, len) => {
                        let line = vec![u8::try_from(number).unwrap(); len];
                        let was_left = owns[thread].leave(&rings, &line);
                        prop_assert_eq!(was_left, rooms[thread].takes(HEAD_BYTES + len));
                        left.extend(was_left.then_some(line));
                    }
                    Step::Take => {
                        let mut taken = Taken::default();
                        taker.take(&mut taken);
                        prop_assert!(taker.is_empty());
                        prop_assert!(taken.lines().eq(left.drain(..)));
                        rooms = rooms.map(|room| Room { waiting: 0, ..room });
                    }
                }
            }
        }
    }

    #[test]
    fn threads_that_come_and_go_lose_nothing_and_leave_no_ring() {
        const LINES: usize = 20_000;
        let (rings, mut taker) = rings();
        let mut taken = Taken::default();
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let rings = rings.clone();
                thread::spawn(move || {
                    for number in 0..LINES {
                        while !rings.leave(format!("{thread} {number}").as_bytes()) {
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        while threads.iter().any(|thread| !thread.is_finished()) {
            taker.take(&mut taken);
        }
        for thread in threads {
            thread.join().unwrap();
        }
        taker.take(&mut taken);
        let texts = texts(&taken);
        assert_eq!(texts.len(), 4 * LINES);
        for thread in 0..4 {
            let own = texts.iter().filter_map(|line| line.strip_prefix(&format!("{thread} ")));
            assert!(own.eq(&(0..LINES).map(|number| number.to_string()).collect::<Vec<_>>()));
        }
        taker.take(&mut taken);
        assert!(taker.ends.is_empty(), "{} rings", taker.ends.len());
    }

    #[test]
    fn a_ring_grows_once_and_is_bounded() {
        let (rings, mut taker) = rings();
        let (mut own, line) = (Own::default(), [b'x'; 1000 - HEAD_BYTES]);
        let left = (0..10_000).filter(|_| own.leave(&rings, &line)).count();
        assert_eq!(left, RING_BYTES / 1000 + RING_BYTES_MAX / 1000);
        let mut taken = Taken::default();
        taker.take(&mut taken);
        assert_eq!((taken.lines().count(), taker.ends.len()), (left, 1));
        assert!(own.leave(&rings, &line), "there is room again");
        taken.clear();
        taker.take(&mut taken);
        assert_eq!(texts(&taken), [String::from_utf8(line.to_vec()).unwrap()]);
    }
}
