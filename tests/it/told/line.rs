//! A stream of events as an agent reads it, off a bare socket.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// How long an event may take to come before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A stream that an agent holds.
#[derive(Debug)]
pub(crate) struct Line {
    reader: BufReader<TcpStream>,
}

/// What it hears.
#[derive(Debug, PartialEq)]
pub(crate) struct Heard {
    pub(crate) event: String,
    pub(crate) id: Option<u64>,
    pub(crate) data: Value,
}

impl Line {
    /// Asks for events with a token, and hears that they are told; `more` are lines of the request's head.
    pub(crate) fn open(address: SocketAddr, token: &str, more: &str) -> Self {
        Self::ask(address, token, more).unwrap_or_else(|head| panic!("no events: {head}"))
    }

    /// The same; the error is the head of an answer that says otherwise.
    pub(crate) fn ask(address: SocketAddr, token: &str, more: &str) -> Result<Self, String> {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!(
            "GET /api/v1/agent/events HTTP/1.1\r\nHost: r\r\nAuthorization: Bearer {token}\r\n{more}\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut line = Self { reader: BufReader::new(stream) };
        line.begin()?;
        Ok(line)
    }

    /// Reads the head of the events' answer, and the first event.
    fn begin(&mut self) -> Result<(), String> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.reader.read_line(&mut head).unwrap() == 0 {
                return Err(head);
            }
        }
        if !head.starts_with("HTTP/1.1 200 ") || !head.contains("content-type: text/event-stream\r\n") {
            return Err(head);
        }
        let hello = self.hear().unwrap();
        assert_eq!((hello.event.as_str(), hello.id), ("hello", None));
        Ok(())
    }

    /// The next event; none at the stream's end.
    pub(crate) fn hear(&mut self) -> Option<Heard> {
        let mut heard = Heard { event: String::new(), id: None, data: Value::Null };
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            match line.trim_end().split_once(':') {
                None if heard.event.is_empty() => {}
                None => return Some(heard),
                Some(("event", event)) => heard.event = event.trim().to_owned(),
                Some(("id", id)) => heard.id = Some(id.trim().parse().unwrap()),
                Some(("data", data)) => heard.data = serde_json::from_str(data.trim()).unwrap(),
                Some(_) => {}
            }
        }
    }

    /// The next notice, with its number and its reason. That settings changed may come before it: the agent listened while it was looked at.
    pub(crate) fn told(&mut self) -> (u64, String) {
        let mut heard = self.hear().expect("the stream ended");
        while heard.event == "settings" {
            heard = self.hear().expect("the stream ended");
        }
        assert_eq!(heard.event, "update", "{heard:?}");
        assert_eq!(heard.data["notice"], heard.id.unwrap());
        (heard.id.unwrap(), heard.data["reason"].as_str().unwrap().to_owned())
    }

    /// Waits for the stream's end, until when nothing is told but that settings changed.
    pub(crate) fn ended(&mut self) {
        while let Some(heard) = self.hear() {
            assert_eq!(heard.event, "settings");
        }
    }

    /// Whether it was not told to update so far.
    pub(crate) fn is_untold(&mut self) -> bool {
        let stream = self.reader.get_ref();
        stream.set_nonblocking(true).unwrap();
        let mut came = Vec::new();
        let end = self.reader.read_to_end(&mut came).unwrap_err();
        assert_eq!(end.kind(), std::io::ErrorKind::WouldBlock);
        self.reader.get_ref().set_nonblocking(false).unwrap();
        !String::from_utf8(came).unwrap().contains("event: update")
    }
}
