//! What an origin saw: every connection, every request, every body byte that it handed to a socket.
//!
//! Never decides anything. Invariant: bytes are counted when the kernel has taken them, not when they were meant to be sent.

/// A log of what came, in the order in which it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Connections accepted.
    pub(crate) connections: usize,
    /// Requests whose heads were read.
    pub(crate) requests: Vec<Request>,
}

impl Seen {
    /// The requests for a path.
    pub(crate) fn of<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a Request> {
        self.requests.iter().filter(move |request| request.path == path)
    }

    /// Body bytes written for a path.
    pub(crate) fn body_bytes(&self, path: &str) -> u64 {
        self.of(path).map(|request| request.body_bytes).sum()
    }

    /// Body bytes written in all.
    pub(crate) fn body_bytes_total(&self) -> u64 {
        self.requests.iter().map(|request| request.body_bytes).sum()
    }
}

/// One request and what became of it so far.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The connection that it came on, counted from 1.
    pub(crate) connection: usize,
    /// The method.
    pub(crate) method: String,
    /// The target's path, still percent-encoded, without its query.
    pub(crate) path: String,
    /// The headers, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The status of the answer; 0 before there is one.
    pub(crate) status: u16,
    /// Body bytes written.
    pub(crate) body_bytes: u64,
    /// How the answer ended; noted a moment after its last byte, so tests wait for it.
    pub(crate) end: Ending,
}

impl Request {
    /// The first header of this name, given in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// The Range header.
    pub(crate) fn range(&self) -> Option<&str> {
        self.header("range")
    }
}

/// How the answer to a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It is still being written.
    Open,
    /// All of it was written.
    Sent,
    /// The origin broke it off, as it was told.
    BrokenOff,
    /// The client left before the end.
    ClientLeft,
}
