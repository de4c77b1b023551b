//! One connection of an origin: reads requests, writes answers, and breaks off where it is told.
//!
//! Never decides what to answer. Invariant: a byte that a client has read was counted.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Component, Path};
use std::time::{Duration, Instant};

use percent_encoding::percent_decode_str;
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use socket2::SockRef;

use super::Shared;
use super::answer::{Answer, Cut, Object, Pace, answer};
use super::fault::WAIT_MAX;
use super::seen::{Ending, Request};

/// Serves a connection until either side ends it.
pub(super) fn connection(shared: &Shared, stream: &TcpStream, number: usize) {
    stream.set_nodelay(true).expect("an open socket takes its options");
    stream.set_write_timeout(Some(WAIT_MAX)).expect("an open socket takes its options");
    let mut pending = Vec::new();
    while let Some(head) = read_head(stream, &mut pending) {
        let Some(request) = parse(&head, number) else {
            shared.trouble(format!("not a request: {:?}", String::from_utf8_lossy(&head)));
            return;
        };
        let path = request.path.clone();
        let (index, faults) = shared.begin(request.clone());
        let (change, validators) = {
            let state = shared.lock();
            (state.changes.get(&path).copied(), state.validators)
        };
        let object = load(&shared.dir, &path).map(|object| match change {
            Some(offset) => object.changed_from(offset),
            None => object,
        });
        let answer = answer(&request, object.as_ref(), validators, &faults);
        let written = Writer { shared, stream, path: &path, index }.write(&answer);
        shared.note(index, |request| request.end = written.unwrap_or(Ending::ClientLeft));
        if written != Some(Ending::Sent) || answer.close {
            // The last hold on the socket goes with this thread: that closes it, or resets it where it shall not linger.
            return;
        }
    }
}

/// The next request's head with its blank line; none when the client is done or gone.
fn read_head(mut stream: &TcpStream, pending: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut piece = [0; 4096];
    loop {
        if let Some(at) = pending.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = pending.split_off(at + 4);
            return Some(std::mem::replace(pending, rest));
        }
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return None,
            Ok(count) if pending.len() < HEAD_BYTES_MAX => pending.extend(&piece[..count]),
            Ok(_) => return None,
        }
    }
}

fn parse(head: &[u8], connection: usize) -> Option<Request> {
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.trim_end().split("\r\n");
    let [method, target, version] = lines.next()?.split(' ').collect::<Vec<_>>().try_into().ok()?;
    let headers: Option<Vec<_>> = lines
        .map(|line| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())))
        .collect();
    let mut headers = headers?;
    if version == "HTTP/1.0" {
        headers.push(("connection".into(), "close".into()));
    }
    // What a client sends to a proxy is in absolute form.
    let path = match target.strip_prefix("http://") {
        Some(rest) => &rest[rest.find('/')?..],
        None => target,
    };
    let path = path.split('?').next()?.to_owned();
    Some(Request {
        connection,
        method: method.into(),
        path,
        headers,
        status: 0,
        body_bytes: 0,
        end: Ending::Open,
    })
}

/// The file at a path, if it is one that lies below the folder.
fn load(dir: &Path, path: &str) -> Option<Object> {
    let decoded = percent_decode_str(path.strip_prefix('/')?).decode_utf8().ok()?;
    let relative = Path::new(decoded.as_ref());
    if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
        return None;
    }
    let file = dir.join(relative);
    let modified = file.metadata().ok()?.modified().ok()?;
    Some(Object { bytes: std::fs::read(file).ok()?, modified })
}

struct Writer<'a> {
    shared: &'a Shared,
    stream: &'a TcpStream,
    path: &'a str,
    index: usize,
}

impl Writer<'_> {
    /// Writes an answer; none when the client left or the origin stops.
    fn write(&self, answer: &Answer) -> Option<Ending> {
        if let Some(gate) = &answer.before_head {
            self.hold(gate)?;
        }
        self.shared.pause(answer.late).then_some(())?;
        self.shared.note(self.index, |request| request.status = answer.status);
        self.put(&answer.head())?;
        let cut = answer.cut.map(|(at, how)| (at.min(answer.body.len()), how));
        let end = cut.map_or(answer.body.len(), |(at, _)| at);
        let mut done = 0;
        if let Some((at, gate)) = &answer.stall {
            done = (*at).min(end);
            self.put_body(&answer.body[..done], answer)?;
            self.hold(gate)?;
        }
        self.put_body(&answer.body[done..end], answer)?;
        match cut {
            Some((_, Cut::Reset)) => {
                self.wait_arrived();
                let _ = SockRef::from(self.stream).set_linger(Some(Duration::ZERO));
                Some(Ending::BrokenOff)
            }
            Some((_, Cut::Close)) => Some(Ending::BrokenOff),
            None => {
                self.put(if answer.chunked { b"0\r\n\r\n" } else { b"" })?;
                Some(Ending::Sent)
            }
        }
    }

    fn put_body(&self, body: &[u8], answer: &Answer) -> Option<()> {
        let (size, pause) = match answer.pace {
            Pace::Full => (PIECE_BYTES, None),
            Pace::BytesPerSec(rate) => ((rate / 100).max(1), Some(Duration::from_millis(10))),
            Pace::Drip(every) => (1, Some(every)),
        };
        for piece in body.chunks(size) {
            if answer.chunked {
                self.put(format!("{:x}\r\n", piece.len()).as_bytes())?;
            }
            self.put_counted(piece)?;
            if answer.chunked {
                self.put(b"\r\n")?;
            }
            if let Some(pause) = pause {
                self.shared.pause(pause).then_some(())?;
            }
        }
        Some(())
    }

    fn put(&self, bytes: &[u8]) -> Option<()> {
        let mut stream = self.stream;
        stream.write_all(bytes).map_err(|error| self.left(error.kind())).ok()
    }

    /// Hands body bytes to the socket. The lock is held over each write that cannot block, so that no client can have bytes
    /// which the log does not have yet; where the socket is full, one byte is counted ahead of the write that waits.
    fn put_counted(&self, mut bytes: &[u8]) -> Option<()> {
        while !bytes.is_empty() {
            let mut sent = None;
            self.shared.note(self.index, |request| {
                let taken = send(self.stream, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
                request.body_bytes += match taken {
                    Ok(count) => count as u64,
                    Err(Errno::AGAIN) => 1,
                    Err(_) => 0,
                };
                sent = Some(taken);
            });
            let count = match sent? {
                Ok(count) => count,
                Err(Errno::AGAIN) => {
                    if self.put(&bytes[..1]).is_none() {
                        self.shared.note(self.index, |request| request.body_bytes -= 1);
                        return None;
                    }
                    1
                }
                Err(error) => {
                    self.left(error.kind());
                    return None;
                }
            };
            bytes = &bytes[count..];
        }
        Some(())
    }

    /// A client that leaves is no trouble, one that keeps the origin waiting is.
    fn left(&self, kind: ErrorKind) {
        if matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut) {
            self.shared.trouble(format!("{}: the client stopped reading", self.path));
        }
    }

    fn hold(&self, gate: &super::fault::Gate) -> Option<()> {
        self.shared.hold(gate, self.path).then_some(())
    }

    /// Waits until the client's kernel has acknowledged all bytes: a reset throws away those on the way.
    fn wait_arrived(&self) {
        let (Ok(local), Ok(peer)) = (self.stream.local_addr(), self.stream.peer_addr()) else { return };
        let begun = Instant::now();
        while unacknowledged(local, peer) && begun.elapsed() < WAIT_MAX {
            if !self.shared.pause(Duration::from_millis(1)) {
                return;
            }
        }
    }
}

/// Whether the kernel's table of connections shows bytes in this one's send queue (proc(5), /proc/net/tcp).
fn unacknowledged(local: SocketAddr, peer: SocketAddr) -> bool {
    let table = if local.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
    let (from, to) = (format!(":{:04X}", local.port()), format!(":{:04X}", peer.port()));
    let table = std::fs::read_to_string(table).unwrap_or_default();
    table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|fields| {
        fields.len() > 4
            && fields[1].ends_with(&from)
            && fields[2].ends_with(&to)
            && !fields[4].starts_with("00000000:")
    })
}

/// The longest head that is read, far above what the relay may send.
const HEAD_BYTES_MAX: usize = 256 * 1024;

/// How much is handed to the socket at once, so that counts move while a body goes out.
const PIECE_BYTES: usize = 16 * 1024;
