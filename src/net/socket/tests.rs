//! What arrives is what was written, however it was cut into slices; and it comes from the file.

use std::collections::VecDeque;
use std::fs::File;
use std::future::poll_fn;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

use bytes::{Buf, Bytes};
use proptest::prelude::*;
use rustix::fs::{Advice, fadvise};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::*;
use crate::base::clock::Hands;
use crate::disk::mapping::{LOOK_HOLDS, Mapping};
use crate::disk::{Disk, Step, Verdict};

const FILE_BYTES: usize = 700_001;

/// A file of bytes that tell their place, on a disk, where the page cache can be emptied.
fn file() -> Arc<File> {
    let file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    file.write_all_at(&contents(), 0).unwrap();
    file.sync_all().unwrap();
    Arc::new(file)
}

fn contents() -> Vec<u8> {
    let mut bytes = vec![0; FILE_BYTES];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

fn mapping(disk: &Disk) -> Mapping {
    Mapping::of(disk, &file(), FILE_BYTES as u64).unwrap()
}

/// A socket and the other end of it; both hold few bytes where they are narrow.
async fn pair(narrow: bool) -> (Socket, Rc<Spans>, TcpStream) {
    let listener = TcpListener::bind("[::1]:0").await.unwrap();
    let near = tokio::net::TcpSocket::new_v6().unwrap();
    if narrow {
        near.set_send_buffer_size(4096).unwrap();
        socket2::SockRef::from(&listener).set_recv_buffer_size(4096).unwrap();
    }
    let near = near.connect(listener.local_addr().unwrap()).await.unwrap();
    let (far, peer) = listener.accept().await.unwrap();
    let spans = Rc::new(Spans::new(near.local_addr().unwrap(), peer));
    (Socket::new(near, spans.clone()), spans, far)
}

/// What is written next: bytes in memory, or a run of the file.
#[derive(Clone, Debug)]
enum Piece {
    Text(usize),
    Run(u64, u64, By),
    /// A run that is copied on its way.
    Copied(u64, u64),
}

fn piece() -> impl Strategy<Value = Piece> {
    let run = || (0..FILE_BYTES as u64, prop_oneof![1..5u64, 1..9000u64, 1..400_000u64]);
    prop_oneof![
        3 => (1..3000usize).prop_map(Piece::Text),
        3 => run().prop_map(|(start, len)| Piece::Run(start, len, By::File)),
        2 => run().prop_map(|(start, len)| Piece::Run(start, len, By::Copy)),
        1 => run().prop_map(|(start, len)| Piece::Copied(start, len)),
    ]
}

fn run(start: u64, len: u64) -> ByteRange {
    ByteRange::new(start, (start + len).min(FILE_BYTES as u64))
}

fn hand(spans: &Spans, mapping: &Mapping, by: By, run: ByteRange) -> Bytes {
    spans.hand(mapping, &Arc::new(Semaphore::new(1)), by, run)
}

/// Writes pieces as hyper does: some are queued, then the queue is written, of which each write sees the front.
async fn write(
    socket: &mut Socket,
    spans: &Spans,
    mapping: &Mapping,
    pieces: &[Piece],
    seen: &[usize],
) -> io::Result<Vec<u8>> {
    let (whole, mut sent) = (Bytes::from(contents()), Vec::new());
    let mut seen = seen.iter().cycle();
    for group in pieces.chunks(5) {
        let mut queue: VecDeque<Bytes> = VecDeque::new();
        for piece in group {
            let (bytes, truth) = match piece {
                Piece::Text(len) => {
                    let text = Bytes::from(vec![b't'; *len]);
                    (text.clone(), text)
                }
                Piece::Run(start, len, by) => {
                    let run = run(*start, *len);
                    (hand(spans, mapping, *by, run), whole.slice(at(run.start())..at(run.end())))
                }
                Piece::Copied(start, len) => {
                    let run = run(*start, *len);
                    hand(spans, mapping, By::File, run);
                    let copy = Bytes::copy_from_slice(&whole[at(run.start())..at(run.end())]);
                    (copy.clone(), copy)
                }
            };
            sent.extend_from_slice(&truth);
            queue.push_back(bytes);
        }
        while !queue.is_empty() {
            let shown: Vec<_> =
                queue.iter().take(*seen.next().unwrap()).map(|bytes| IoSlice::new(bytes)).collect();
            let mut count = poll_fn(|cx| Pin::new(&mut *socket).poll_write_vectored(cx, &shown)).await?;
            assert!(count > 0);
            while count > 0 {
                let part = queue[0].len().min(count);
                queue[0].advance(part);
                count -= part;
                if queue[0].is_empty() {
                    queue.pop_front();
                }
            }
        }
    }
    Ok(sent)
}

fn at(offset: u64) -> usize {
    len(ByteRange::whole(offset))
}

/// Reads to the end, so many bytes at a time.
async fn read(mut far: TcpStream, sizes: Vec<usize>) -> Vec<u8> {
    let (mut all, mut buffer) = (Vec::new(), vec![0; 100_000]);
    for size in sizes.iter().cycle() {
        match far.read(&mut buffer[..*size]).await.unwrap() {
            0 => break,
            count => all.extend_from_slice(&buffer[..count]),
        }
        tokio::task::yield_now().await;
    }
    all
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn what_arrives_is_what_was_written_however_it_is_cut(
        pieces in prop::collection::vec(piece(), 1..20),
        seen in prop::collection::vec(1..7usize, 1..10),
        sizes in prop::collection::vec(prop_oneof![1000..5000usize, 1..100_000usize], 1..10),
        narrow in any::<bool>(),
        cold in any::<bool>(),
    ) {
        // Where nothing is ever found in memory, all that waits is brought first.
        let lost = |_, step: &Step<'_>| match step {
            Step::ReadCached(_) => Verdict::Lost,
            _ => Verdict::Done,
        };
        let disk = if cold { Disk::with_seam(lost) } else { Disk::default() };
        let mapping = mapping(&disk);
        let (sent, came, nothing_left) = block_on(async {
            let (mut socket, spans, far) = pair(narrow).await;
            let written = async {
                let sent = write(&mut socket, &spans, &mapping, &pieces, &seen).await.unwrap();
                drop(socket);
                (sent, spans)
            };
            let ((sent, spans), came) = tokio::join!(written, read(far, sizes));
            (sent, came, spans.is_empty())
        });
        let copied = pieces.iter().any(|piece| matches!(piece, Piece::Copied(..)));
        prop_assert!(sent == came, "{} bytes were sent and {} came", sent.len(), came.len());
        prop_assert!(nothing_left || copied, "each span is gone once it is sent");
    }
}

/// Sends a run of a file; changes the file before the other side reads. What it then reads tells whose bytes were sent.
fn is_of_the_file_still(by: By) -> bool {
    block_on(async {
        let (mut socket, spans, mut far) = pair(false).await;
        let file = file();
        let mapping = Mapping::of(&Disk::default(), &file, FILE_BYTES as u64).unwrap();
        let head = IoSlice::new(b"head");
        let body = hand(&spans, &mapping, by, ByteRange::new(5, 4000));
        let slices = [head, IoSlice::new(&body)];
        let count = poll_fn(|cx| Pin::new(&mut socket).poll_write_vectored(cx, &slices)).await.unwrap();
        assert_eq!(count, 4 + 3995, "both leave together");
        assert!(spans.is_empty());
        let before = contents();
        file.write_all_at(&vec![b'x'; 5000], 0).unwrap();
        let mut came = vec![0; count];
        far.read_exact(&mut came).await.unwrap();
        assert_eq!(&came[..4], b"head");
        assert!(came[4..] == before[5..4000] || came[4..].iter().all(|byte| *byte == b'x'));
        came[4] == b'x'
    })
}

#[test]
fn what_goes_by_file_is_copied_by_nobody_and_the_rest_is() {
    assert!(is_of_the_file_still(By::File));
    assert!(!is_of_the_file_still(By::Copy));
}

/// Writes a run of a file until the other side, which reads nothing, takes no more; does something; then goes on.
fn interrupted(by: By, disk: &Disk, between: impl FnOnce(&File)) -> (io::Result<usize>, usize, bool) {
    block_on(async {
        let (mut socket, spans, far) = pair(true).await;
        let file = file();
        let mapping = Mapping::of(disk, &file, FILE_BYTES as u64).unwrap();
        let whole = ByteRange::whole(FILE_BYTES as u64);
        // As whoever hands over does: what is found is remembered.
        mapping.resident_bytes(whole);
        let mut left = hand(&spans, &mapping, by, whole);
        loop {
            let slices = [IoSlice::new(&left)];
            let polled =
                poll_fn(|cx| Poll::Ready(Pin::new(&mut socket).poll_write_vectored(cx, &slices))).await;
            match polled {
                Poll::Ready(count) => left.advance(count.unwrap()),
                Poll::Pending => break,
            }
        }
        assert!(!left.is_empty(), "more than sockets hold");
        between(&file);
        let rest = async {
            let mut socket = socket;
            while !left.is_empty() {
                let slices = [IoSlice::new(&left)];
                left.advance(poll_fn(|cx| Pin::new(&mut socket).poll_write_vectored(cx, &slices)).await?);
            }
            Ok(FILE_BYTES)
        };
        let (rest, came) = tokio::join!(rest, read(far, vec![10_000]));
        // A cut has the kernel clear pages that are on their way by `sendfile`.
        let cut = mapping.file().metadata().unwrap().len() < FILE_BYTES as u64;
        assert!(by == By::File && cut || came == contents()[..came.len()], "what came is right");
        (rest, came.len(), spans.is_broken())
    })
}

/// The threads that read what left the memory while the other side took its time, which was so long.
fn brought_after(by: By, time: Duration) -> Vec<ThreadId> {
    let (brought, clock) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Hands::default()));
    let told = brought.clone();
    let disk = Disk::with_seam(move |_, step| {
        if let Step::ReadAt(..) = step {
            told.lock().unwrap().push(std::thread::current().id());
        }
        Verdict::Done
    });
    let (sent, came, broken) = interrupted(by, &disk.timed_by(clock.clone()), |file| {
        fadvise(file, 0, None, Advice::DontNeed).unwrap();
        clock.passes(time);
    });
    assert_eq!((sent.unwrap(), came, broken), (FILE_BYTES, FILE_BYTES, false), "{by:?}");
    std::mem::take(&mut brought.lock().unwrap())
}

#[test]
fn what_left_the_memory_meanwhile_is_brought_back_elsewhere() {
    for by in [By::File, By::Copy] {
        let threads = brought_after(by, LOOK_HOLDS);
        let here = std::thread::current().id();
        // Pages that a mapping holds stay: where the kernel copied from it, they may all be there still.
        assert!(by == By::Copy || !threads.is_empty(), "{by:?}");
        assert!(threads.iter().all(|thread| *thread != here), "{by:?}");
    }
}

#[test]
fn what_left_the_memory_within_a_second_is_waited_for_and_sent() {
    for by in [By::File, By::Copy] {
        let threads = brought_after(by, LOOK_HOLDS.checked_sub(Duration::from_millis(1)).unwrap());
        assert!(threads.is_empty(), "{by:?}");
    }
}

#[test]
fn a_file_that_was_cut_or_cannot_be_read_ends_in_an_error() {
    for by in [By::File, By::Copy] {
        let (sent, came, broken) = interrupted(by, &Disk::default(), |file| file.set_len(3000).unwrap());
        assert!(sent.is_err() && broken && came < FILE_BYTES, "{by:?}: {came} bytes");
        let disk = Disk::with_seam(|_, step| match step {
            Step::ReadCached(_) => Verdict::Lost,
            Step::ReadAt(..) => Verdict::Failed(Errno::IO.into()),
            _ => Verdict::Done,
        });
        let (sent, came, broken) = interrupted(by, &disk, |_| {});
        assert!(sent.is_err() && broken && came < FILE_BYTES, "{by:?}: {came} bytes");
    }
}
