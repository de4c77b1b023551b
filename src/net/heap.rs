//! The heap of a data worker's thread, grown once before anybody asks.
//!
//! glibc has the kernel open a thread's heap for writing as it grows: a system call (`mprotect`) for each buffer of a crowd, just when it
//! asks. What was open once stays so when the heap shrinks, though its memory goes back to the system. Another allocator loses a moment
//! by it, and gains nothing. Never keeps memory.

use std::hint::black_box;
use std::iter::repeat_with;

use crate::base::limits::WORKER_HEAP_BYTES;

/// Below what glibc takes from the system by itself, which is no part of the heap (`M_MMAP_THRESHOLD`).
const BLOCK_BYTES: usize = 120 << 10;

/// Grows the heap of this thread, as far as the system lets it, and lets it shrink again.
pub(super) fn grow_once() {
    let blocks: Vec<_> =
        repeat_with(block).take(WORKER_HEAP_BYTES / BLOCK_BYTES).map_while(|block| block).collect();
    // What nobody looks at would not be allocated.
    black_box(&blocks);
}

fn block() -> Option<Vec<u8>> {
    let mut block = Vec::new();
    block.try_reserve_exact(BLOCK_BYTES).ok().map(|()| block)
}
