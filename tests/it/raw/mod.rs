//! An HTTP client over a bare socket: it sends exactly the bytes it is given and says exactly how an answer ended.
//!
//! Never corrects, retries or follows anything. Invariant: a body that broke off is never taken for a whole one.

pub(crate) mod answer;
mod shown;

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use answer::{Answer, End, Head};
use socket2::{Domain, SockRef, Socket, Type};

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    host: String,
    buffer: Vec<u8>,
    framing: Framing,
    patience: Duration,
}

impl Client {
    /// Connects; panics when nobody listens.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::over(Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap(), address)
    }

    /// Connects to where somebody may be gone; none when nobody listens.
    pub(crate) fn attempt(address: SocketAddr) -> Option<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.connect_timeout(&address.into(), PATIENCE).ok()?;
        Some(Self::on(socket, address))
    }

    /// Connects from an address of this machine, which on Linux has all of 127.0.0.0/8.
    pub(crate) fn connect_from(source: IpAddr, address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
        Self::over(socket, address)
    }

    /// Connects with a receive buffer of few bytes, so that what is not read soon stays with the sender.
    pub(crate) fn connect_narrow(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        Self::over(socket, address)
    }

    fn over(socket: Socket, address: SocketAddr) -> Self {
        socket
            .connect_timeout(&address.into(), PATIENCE)
            .unwrap_or_else(|error| panic!("nobody answers at {address}: {error}"));
        Self::on(socket, address)
    }

    fn on(socket: Socket, address: SocketAddr) -> Self {
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let host = address.to_string();
        Self { stream, host, buffer: Vec::new(), framing: Framing::Done, patience: PATIENCE }
    }

    /// The same connection once more, for a thread that sends while this one reads.
    pub(crate) fn twin(&self) -> Self {
        let stream = self.stream.try_clone().unwrap();
        Self {
            stream,
            host: self.host.clone(),
            buffer: Vec::new(),
            framing: Framing::Done,
            patience: self.patience,
        }
    }

    /// How long each read waits before it says [`End::TimedOut`]; [`PATIENCE`] at first.
    pub(crate) fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// The client's own address.
    pub(crate) fn local_address(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    /// Sends these bytes and no others.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a request with Host and these headers, and nothing else.
    pub(crate) fn ask(&mut self, method: &str, target: &str, headers: &[(&str, &str)]) -> io::Result<()> {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.host);
        for (name, value) in headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        self.send((head + "\r\n").as_bytes())
    }

    /// Sends a request and reads the whole answer; an error says how it ended before its head was there.
    pub(crate) fn exchange(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer, End> {
        self.ask(method, target, headers).map_err(|error| End::of(&error))?;
        self.answer(method)
    }

    /// Reads a whole answer to a request with this method.
    pub(crate) fn answer(&mut self, method: &str) -> Result<Answer, End> {
        let head = self.read_head(method)?;
        let (body, end) = self.read(usize::MAX);
        Ok(Answer { head, body, end: end.expect("reading without a limit ends") })
    }

    /// Reads an answer's head. The method says whether a body follows.
    pub(crate) fn read_head(&mut self, method: &str) -> Result<Head, End> {
        let deadline = Instant::now() + self.patience;
        let at = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            match self.fill(deadline) {
                Ok(0) if self.buffer.is_empty() => return Err(End::Closed),
                Ok(0) => return Err(End::Short),
                Ok(_) => {}
                Err(error) => return Err(End::of(&error)),
            }
        };
        let rest = self.buffer.split_off(at + 4);
        let head = std::mem::replace(&mut self.buffer, rest);
        let head = Head::parse(&head[..at]).ok_or(End::Malformed("status line or header"))?;
        self.framing = Framing::of(method, &head)?;
        Ok(head)
    }

    /// Reads up to `max` bytes of the body, or to its end; how it ended is said when the end was reached.
    pub(crate) fn read(&mut self, max: usize) -> (Vec<u8>, Option<End>) {
        let deadline = Instant::now() + self.patience;
        let mut body = Vec::new();
        while body.len() < max {
            match self.step(max - body.len(), deadline, &mut body) {
                Ok(Step::More) => {}
                Ok(Step::End(end)) => return (body, Some(end)),
                Err(error) => return (body, Some(End::of(&error))),
            }
        }
        (body, None)
    }

    /// Reads to the end of the connection; the end is [`End::Closed`] when it was closed in order.
    pub(crate) fn read_to_close(&mut self) -> (Vec<u8>, End) {
        self.framing = Framing::UntilClose;
        let (bytes, end) = self.read(usize::MAX);
        (bytes, end.expect("reading without a limit ends"))
    }

    /// Reads so many bytes of whatever is spoken; fewer where the connection ends.
    pub(crate) fn take(&mut self, count: usize) -> Vec<u8> {
        self.read_raw(count).0
    }

    /// Reads up to `max` bytes of whatever is spoken, or to the end of the connection, which is then said.
    pub(crate) fn read_raw(&mut self, max: usize) -> (Vec<u8>, Option<End>) {
        self.framing = Framing::UntilClose;
        self.read(max)
    }

    /// The socket once more, for whoever sends other things on it.
    pub(crate) fn stream(&self) -> TcpStream {
        self.stream.try_clone().unwrap()
    }

    /// Says that no more will be sent.
    pub(crate) fn shut_write(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Leaves with a reset, as a client does that is killed.
    pub(crate) fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// One move forward in the body: bytes from the buffer, or a read.
    fn step(&mut self, max: usize, deadline: Instant, body: &mut Vec<u8>) -> io::Result<Step> {
        let (left, until_close) = match self.framing {
            Framing::Done => return Ok(Step::End(End::Complete)),
            Framing::Length(0) => {
                self.framing = Framing::Done;
                return Ok(Step::End(End::Complete));
            }
            Framing::Chunk(0) => return self.chunk_begins(deadline),
            Framing::Length(left) | Framing::Chunk(left) => (left, false),
            Framing::UntilClose => (usize::MAX, true),
        };
        if self.buffer.is_empty() && self.fill(deadline)? == 0 {
            return Ok(Step::End(if until_close { End::Closed } else { End::Short }));
        }
        let count = left.min(max).min(self.buffer.len());
        body.extend(self.buffer.drain(..count));
        match &mut self.framing {
            Framing::Length(left) => *left -= count,
            Framing::Chunk(left) => {
                *left -= count;
                if *left == 0 && self.line(deadline)?.as_deref() != Some("") {
                    return Ok(Step::End(End::Malformed("no line end after a chunk")));
                }
            }
            Framing::UntilClose | Framing::Done => {}
        }
        Ok(Step::More)
    }

    fn chunk_begins(&mut self, deadline: Instant) -> io::Result<Step> {
        let Some(line) = self.line(deadline)? else { return Ok(Step::End(End::Short)) };
        match usize::from_str_radix(&line, 16) {
            Ok(0) => loop {
                match self.line(deadline)?.as_deref() {
                    Some("") => {
                        self.framing = Framing::Done;
                        return Ok(Step::End(End::Complete));
                    }
                    Some(_) => {}
                    None => return Ok(Step::End(End::Short)),
                }
            },
            Ok(size) => {
                self.framing = Framing::Chunk(size);
                Ok(Step::More)
            }
            Err(_) => Ok(Step::End(End::Malformed("chunk size"))),
        }
    }

    /// A line without its end; none when the connection closed before it was whole.
    fn line(&mut self, deadline: Instant) -> io::Result<Option<String>> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let line = self.buffer.drain(..at + 2).take(at).collect();
                return Ok(Some(String::from_utf8(line).unwrap_or_else(|_| "not text".into())));
            }
            if self.fill(deadline)? == 0 {
                return Ok(None);
            }
        }
    }

    fn fill(&mut self, deadline: Instant) -> io::Result<usize> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left)).unwrap();
        let mut piece = [0; 16 * 1024];
        let count = self.stream.read(&mut piece)?;
        self.buffer.extend(&piece[..count]);
        Ok(count)
    }
}

enum Step {
    More,
    End(End),
}

/// What delimits the body that is being read.
#[derive(Debug)]
enum Framing {
    /// So many bytes are left.
    Length(usize),
    /// So many bytes are left of a chunk; 0: a chunk begins.
    Chunk(usize),
    UntilClose,
    Done,
}

impl Framing {
    /// RFC 9112, 6.3.
    fn of(method: &str, head: &Head) -> Result<Self, End> {
        if method == "HEAD" || matches!(head.status, 100..=199 | 204 | 304) {
            return Ok(Self::Done);
        }
        if head.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            return Ok(Self::Chunk(0));
        }
        match head.header("content-length") {
            Some(length) => length.parse().map(Self::Length).map_err(|_| End::Malformed("Content-Length")),
            None => Ok(Self::UntilClose),
        }
    }
}

/// One GET on a connection of its own.
pub(crate) fn fetch(address: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Answer {
    let answer = Client::connect(address).exchange("GET", target, headers);
    answer.unwrap_or_else(|end| panic!("GET {target} ended before its head: {end:?}"))
}

/// How long a client waits for the other side unless told otherwise.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
