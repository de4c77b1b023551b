//! Many agents at once, each a task with a socket, each checking its bytes as they come.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long an agent of a crowd waits for the next byte.
const PATIENCE: Duration = Duration::from_mins(1);

/// An agent whose answer's head has come.
pub(super) struct Agent {
    stream: TcpStream,
    pub(super) status: u16,
    length: usize,
    read: Vec<u8>,
}

impl Agent {
    /// Sends a request and reads the answer's head.
    pub(super) async fn ask(address: SocketAddr, request: &str, headers: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let text = format!("{request} HTTP/1.1\r\nHost: relay\r\n{headers}\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut read = Vec::new();
        let at = loop {
            if let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            let mut piece = [0; 2048];
            let count = patiently(stream.read(&mut piece)).await;
            assert!(count > 0, "closed before the head");
            read.extend_from_slice(&piece[..count]);
        };
        let head = String::from_utf8(read[..at].to_vec()).unwrap().to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head.split_once("content-length: ").unwrap().1;
        let length = length.split("\r\n").next().unwrap().parse().unwrap();
        Self { stream, status, length, read: read.split_off(at + 4) }
    }

    /// Reads the body so far, which must be that of `whole` in this range; panics when it ends before.
    pub(super) async fn read(&mut self, whole: &[u8], range: Range<usize>) {
        let mut at = range.start;
        let mut piece = vec![0; 64 << 10];
        let early = std::mem::take(&mut self.read);
        assert!(early == whole[at..at + early.len()], "another byte at the beginning");
        at += early.len();
        while at < range.end {
            let most = piece.len().min(range.end - at);
            let count = patiently(self.stream.read(&mut piece[..most])).await;
            assert!(count > 0, "the body ended at {at} of {range:?}");
            assert!(piece[..count] == whole[at..at + count], "another byte after {at}");
            at += count;
        }
    }

    /// Reads all of the body, which must be this range of `whole`.
    pub(super) async fn finish(mut self, whole: &[u8], range: Range<usize>) {
        assert_eq!(self.length, range.len());
        self.read(whole, range).await;
    }

    /// Leaves in order, or with a reset.
    pub(super) fn leave(self, with_reset: bool) {
        if with_reset {
            SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
}

async fn patiently(read: impl Future<Output = std::io::Result<usize>>) -> usize {
    tokio::time::timeout(PATIENCE, read).await.expect("nothing came").unwrap()
}
