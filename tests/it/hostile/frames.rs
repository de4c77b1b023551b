//! HTTP/2 frames written by hand, over any stream: what no well-behaved client would send.
//!
//! Never corrects anything, answers nothing and acknowledges nothing. Invariant: what is sent is what the test wrote.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::raw::PATIENCE;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame; its length is that of the payload.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block that asks for a path: indexed where the static table has it, else literal and not indexed (RFC 7541).
pub(super) fn head(path: &str) -> Vec<u8> {
    [&[0x82, 0x86][..], &literal(4, path), &literal(1, "relay.test")].concat()
}

/// A header field without indexing; the name by its number in the static table.
fn literal(name: u8, value: &str) -> Vec<u8> {
    [&[name][..], &length(value.len()), value.as_bytes()].concat()
}

/// An integer with a prefix of seven bits (RFC 7541 section 5.1).
pub(super) fn length(mut value: usize) -> Vec<u8> {
    if value < 127 {
        return vec![u8::try_from(value).unwrap()];
    }
    let mut bytes = vec![127];
    value -= 127;
    while value >= 128 {
        bytes.push(u8::try_from(value % 128 + 128).unwrap());
        value /= 128;
    }
    bytes.push(u8::try_from(value).unwrap());
    bytes
}

/// A whole request for a path.
pub(super) fn request(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &head(path))
}

/// One setting.
pub(super) fn setting(name: u16, value: u32) -> Vec<u8> {
    [&name.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

/// A connection.
#[derive(Debug)]
pub(super) struct Framed<S> {
    stream: S,
    buffer: Vec<u8>,
}

/// A frame that came.
#[derive(Clone, Debug)]
pub(super) struct Came {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Framed<TcpStream> {
    /// Connects; has said nothing yet.
    pub(super) fn bare(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    /// Connects with the preface and these settings.
    pub(super) fn connect(address: SocketAddr, settings: &[u8]) -> Self {
        let mut framed = Self::bare(address);
        framed.begin(settings);
        framed
    }

    pub(super) fn set_patience(&self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).unwrap();
    }
}

impl<S: Read + Write> Framed<S> {
    /// A connection over a stream that is there.
    pub(super) fn over(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// Sends the preface and these settings.
    pub(super) fn begin(&mut self, settings: &[u8]) {
        self.send(&[PREFACE, &frame(SETTINGS, 0, 0, settings)].concat()).unwrap();
    }

    /// Sends these bytes.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// Sends these bytes again and again, at most so often; says how often before the other side had enough.
    pub(super) fn flood(&mut self, most: usize, bytes: impl Fn(u32) -> Vec<u8>) -> usize {
        (0..most).find(|&round| self.send(&bytes(u32::try_from(round).unwrap())).is_err()).unwrap_or(most)
    }

    /// The next frame; `None` at the end of the connection, in whatever way it ends. Panics where nothing comes in time.
    pub(super) fn next(&mut self) -> Option<Came> {
        loop {
            if let Some([high, middle, low]) = self.buffer.first_chunk::<3>() {
                let length = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
                if self.buffer.len() >= 9 + length {
                    let bytes: Vec<u8> = self.buffer.drain(..9 + length).collect();
                    let stream = u32::from_be_bytes(bytes[5..9].try_into().unwrap());
                    return Some(Came {
                        kind: bytes[3],
                        flags: bytes[4],
                        stream,
                        payload: bytes[9..].to_vec(),
                    });
                }
            }
            let mut piece = [0; 16 << 10];
            match self.stream.read(&mut piece) {
                Ok(0) => return None,
                Ok(count) => self.buffer.extend(&piece[..count]),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    panic!("the connection stays open and says nothing");
                }
                Err(_) => return None,
            }
        }
    }

    /// All that comes to the end of the connection.
    pub(super) fn rest(&mut self) -> Vec<Came> {
        std::iter::from_fn(|| self.next()).collect()
    }
}

/// Why a connection was ended, where its end was told.
pub(super) fn reason(frames: &[Came]) -> Option<u32> {
    let last = frames.iter().rfind(|frame| frame.kind == GOAWAY)?;
    Some(u32::from_be_bytes(last.payload[4..8].try_into().unwrap()))
}
