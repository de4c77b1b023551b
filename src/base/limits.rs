//! Bounds that are not settings, each with its reason. Bounds that an administrator may want to move are settings.

/// A manifest's size in bytes: the largest known stay under 2 MB; more is held in memory only to be refused.
pub const MANIFEST_BYTES_MAX: usize = 64 << 20;

/// A signature's size in bytes: they are a few hundred; larger is not a signature.
pub const SIGNATURE_BYTES_MAX: u64 = 1 << 20;

/// Redirects followed for one upstream request; browsers stop at 20, mirrors need one or two.
pub const REDIRECTS_MAX: usize = 5;

/// How often a refresh starts over because the manifest changed under it, before it waits for the next turn.
pub const REFRESH_RESTARTS_MAX: usize = 5;

/// Bytes that a fill gathers before it hands them to the disk: large enough to be cheap, small enough to follow closely.
pub const FILL_BATCH_BYTES: usize = 256 << 10;

/// Bytes read from a blob for one write to a socket.
pub const BODY_CHUNK_BYTES: usize = 128 << 10;

/// Bytes that a body gives in one turn of its task, of what is in memory: one agent that takes all at once leaves others theirs.
pub const BODY_TURN_BYTES: u64 = 2 << 20;

/// Bytes that the first turns of all bodies under way on one worker give together, while they are no crowd: some milliseconds of
/// copying, after which each has begun. Later turns double.
pub const BODY_ROUND_BYTES: u64 = 16 << 20;

/// How many of the bodies that want another turn are woken for it at a time: whoever asks next waits for these turns alone.
pub const BODY_TURNS_AT_ONCE: usize = 8;

/// What a worker's heap grows to as it begins, and gives back: most of what glibc lets a thread's heap have in one piece (64 MiB), in
/// which some 2,500 wait for an answer.
pub const WORKER_HEAP_BYTES: usize = 60 << 20;

/// More bodies under way on one worker are a crowd.
pub const CROWD_BODIES: u64 = 128;

/// What a first turn has in a crowd: more may be about to ask than are known.
pub const CROWD_FIRST_TURN_BYTES: u64 = 4 << 10;

/// So many first turns go before each later one in a crowd, as long as first turns are had.
pub const CROWD_FIRST_TURNS: usize = 32;

/// What a turn has at most in a crowd: below it what the turn itself costs shows, above it agents wait for their next one.
pub const CROWD_TURN_BYTES: u64 = 512 << 10;

/// Blobs up to this size are kept in memory by each worker, in bytes. Of larger ones it costs the kernel less to send pages than to
/// copy them (benches/RESULTS.md).
pub const SMALL_BLOB_BYTES_MAX: u64 = 48 << 10;

/// Small blobs that one worker keeps in memory, in bytes.
pub const SMALL_BLOBS_BYTES: usize = 64 << 20;

/// Threads of one worker that open or read the same blob at once. A worker has 512 such threads: a blob whose disk stalls
/// must not take them all, however many agents ask for it.
pub const COLD_READS_MAX: usize = 16;

/// Blobs that one worker keeps open.
pub const OPEN_BLOBS_MAX: usize = 512;

/// Agents whose generation is remembered (R1.4); 8 bytes each.
pub const PINS_MAX: usize = 1 << 18;

/// How long an agent stays on the generation of the manifest it last took (R1.4), in seconds.
pub const PIN_SECS: u64 = 3600;

/// The least quota of a data folder, in bytes: below it the index and the margin for journals would be most of it.
pub const QUOTA_BYTES_MIN: u64 = 64 << 20;
