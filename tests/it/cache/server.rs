//! A server that says exactly what its test tells it to, over plain sockets, and remembers what it was asked.
//!
//! Invariant: it ends with its value; a request is remembered before it is answered.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::{SendFlags, send};
use socket2::SockRef;

/// How long anything may take that a test waits for: far beyond any right answer.
const WITHIN: Duration = Duration::from_mins(1);

/// One thing that a server does.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends these bytes and the connection's end in one.
    Last(Vec<u8>),
    /// Waits until the gate is opened.
    Wait(Gate),
    /// Reads the request's body: before it, the head alone was read.
    Body,
    /// Closes the connection in order.
    Close,
    /// Ends it with a reset.
    Reset,
}

/// A gate that a test opens.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let open = self.0.0.lock().unwrap();
        let _open = self.0.1.wait_timeout_while(open, WITHIN, |open| !*open).unwrap();
    }
}

/// A request as it was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// Without its framing.
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    /// Whether the body came to its end.
    pub(crate) whole: bool,
    /// How many requests came before it on its connection.
    pub(crate) earlier: usize,
}

impl Asked {
    /// All lines of a field, joined.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let lines = self.headers.iter().filter(|(own, _)| own == name).map(|(_, value)| value.as_str());
        let lines: Vec<_> = lines.collect();
        (!lines.is_empty()).then(|| lines.join(", "))
    }
}

type Say = dyn Fn(&Asked, usize) -> Vec<Act> + Send + Sync;

/// The server.
pub(crate) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    say: Box<Say>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    asked: Vec<Asked>,
    streams: Vec<Weak<TcpStream>>,
    threads: Vec<JoinHandle<()>>,
    ended: usize,
    stopping: bool,
}

impl Server {
    /// Starts one; `say` is told of each request's head, and of how many came before it for the same target.
    pub(crate) fn start(say: impl Fn(&Asked, usize) -> Vec<Act> + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(), say)
    }

    /// The same where one was before.
    pub(crate) fn on(
        listener: TcpListener,
        say: impl Fn(&Asked, usize) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let shared =
            Arc::new(Shared { say: Box::new(say), state: Mutex::default(), changed: Condvar::new() });
        let accepting = {
            let shared = shared.clone();
            std::thread::spawn(move || accept(&listener, &shared))
        };
        Self { address, shared, accepting: Some(accepting) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The URL of a path, which begins with `/`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.lock().asked.clone()
    }

    /// What was asked for a target.
    pub(crate) fn asked_for(&self, target: &str) -> Vec<Asked> {
        self.asked().into_iter().filter(|asked| asked.target == target).collect()
    }

    /// How many connections have ended.
    pub(crate) fn ended(&self) -> usize {
        self.shared.lock().ended
    }

    /// Waits until so many have.
    pub(crate) fn wait_ended(&self, count: usize) {
        let state = self.shared.lock();
        let (state, waited) =
            self.shared.changed.wait_timeout_while(state, WITHIN, |state| state.ended < count).unwrap();
        drop(state);
        assert!(!waited.timed_out(), "connections did not end");
    }

    /// Waits until so many requests came for a target.
    pub(crate) fn wait_for(&self, target: &str, count: usize) {
        let state = self.shared.lock();
        let of = |state: &State| state.asked.iter().filter(|asked| asked.target == target).count();
        let (state, waited) =
            self.shared.changed.wait_timeout_while(state, WITHIN, |state| of(state) < count).unwrap();
        let came = of(&state);
        drop(state);
        assert!(!waited.timed_out(), "{came} requests for {target}, not {count}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let threads = {
            let mut state = self.shared.lock();
            state.stopping = true;
            for stream in state.streams.iter().filter_map(Weak::upgrade) {
                let _ = stream.shutdown(Shutdown::Both);
            }
            std::mem::take(&mut state.threads)
        };
        drop(TcpStream::connect(self.address));
        let _ = self.accepting.take().map(JoinHandle::join);
        for thread in threads {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "a thread of the server panicked");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept() {
        let stream = Arc::new(stream);
        let mut state = shared.lock();
        if state.stopping {
            return;
        }
        state.streams.push(Arc::downgrade(&stream));
        let worker = shared.clone();
        state.threads.push(std::thread::spawn(move || {
            // A relay that leaves ends a connection, and no test.
            let _ = serve(&worker, &stream);
            worker.lock().ended += 1;
            worker.changed.notify_all();
        }));
    }
}

fn serve(shared: &Shared, stream: &TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    for earlier in 0.. {
        let Some(mut asked) = head(&mut reader)? else { return Ok(()) };
        asked.earlier = earlier;
        let (before, index) = {
            let mut state = shared.lock();
            let before = state.asked.iter().filter(|other| other.target == asked.target).count();
            state.asked.push(asked.clone());
            shared.changed.notify_all();
            (before, state.asked.len() - 1)
        };
        let mut acts = (shared.say)(&asked, before);
        if !acts.iter().any(|act| matches!(act, Act::Body)) {
            acts.insert(0, Act::Body);
        }
        for act in acts {
            match act {
                Act::Send(bytes) => (&*stream).write_all(&bytes)?,
                Act::Last(bytes) => {
                    send(stream, &bytes, SendFlags::MORE | SendFlags::NOSIGNAL)?;
                    return stream.shutdown(Shutdown::Both);
                }
                Act::Wait(gate) => gate.pass(),
                Act::Body => {
                    let read = body(&mut reader, &mut asked);
                    shared.lock().asked[index] = asked.clone();
                    shared.changed.notify_all();
                    read?;
                }
                Act::Close => return stream.shutdown(Shutdown::Both),
                Act::Reset => return SockRef::from(stream).set_linger(Some(Duration::ZERO)),
            }
        }
    }
    Ok(())
}

fn head(reader: &mut impl BufRead) -> std::io::Result<Option<Asked>> {
    let Some(first) = line(reader)? else { return Ok(None) };
    let mut words = first.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    Ok(Some(Asked { method, target, headers: fields(reader)?, ..Asked::default() }))
}

fn body(reader: &mut impl BufRead, asked: &mut Asked) -> std::io::Result<()> {
    if asked.header("transfer-encoding").is_some() {
        loop {
            let size = line(reader)?.and_then(|line| usize::from_str_radix(&line, 16).ok());
            let size = size.ok_or(ErrorKind::UnexpectedEof)?;
            if size == 0 {
                asked.trailers = fields(reader)?;
                asked.whole = true;
                return Ok(());
            }
            let mut piece = vec![0; size];
            reader.read_exact(&mut piece)?;
            asked.body.extend(piece);
            line(reader)?;
        }
    }
    let length = asked.header("content-length").map_or(0, |length| length.parse().unwrap());
    asked.body = vec![0; length];
    reader.read_exact(&mut asked.body)?;
    asked.whole = true;
    Ok(())
}

fn fields(reader: &mut impl BufRead) -> std::io::Result<Vec<(String, String)>> {
    let mut fields = Vec::new();
    while let Some(line) = line(reader)?.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        fields.push((name.to_lowercase(), value.trim().to_owned()));
    }
    Ok(fields)
}

fn line(reader: &mut impl BufRead) -> std::io::Result<Option<String>> {
    let mut line = Vec::new();
    if reader.by_ref().take(1 << 16).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()))
}

/// An answer with a length.
pub(crate) fn answer(status: u16, headers: &str, body: &str) -> Vec<Act> {
    let length = body.len();
    vec![Act::Send(
        format!("HTTP/1.1 {status} x\r\n{}Content-Length: {length}\r\n\r\n{body}", lines(headers)).into(),
    )]
}

/// An answer in one chunk: who has read its end finds it kept.
pub(crate) fn chunked(status: u16, headers: &str, body: &str) -> Vec<Act> {
    if matches!(status, 204 | 304) {
        return vec![Act::Send(format!("HTTP/1.1 {status} x\r\n{}\r\n", lines(headers)).into())];
    }
    let chunk = if body.is_empty() { String::new() } else { format!("{:x}\r\n{body}\r\n", body.len()) };
    let text = format!(
        "HTTP/1.1 {status} x\r\n{}Transfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n",
        lines(headers)
    );
    vec![Act::Send(text.into())]
}

/// Lines as a head has them.
pub(crate) fn lines(headers: &str) -> String {
    let lines = headers.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.flat_map(|line| [line, "\r\n"]).collect()
}
