//! RFC 9111 sentence by sentence, with RFC 5861 and what RFC 9110 says of caches: each a script of requests against a relay and a
//! server that says what the script has it say (R3.2).
//!
//! Time passes by what the server says of an answer's age: nothing here waits for a clock.

mod asking;
mod directives;
mod keeping;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::cache::proxy;
use crate::cache::server::{Act, Server, chunked, lines};
use crate::raw::Client;
use crate::raw::answer::{Answer, End};

/// A sentence of a standard, and what shows that it holds.
struct Sentence {
    section: &'static str,
    says: &'static str,
    script: &'static [Exchange],
}

/// A request, what the server has to say, and what the agent gets.
#[derive(Clone, Copy)]
struct Exchange {
    /// The method, what follows the sentence's own path, and headers; a line each.
    ask: &'static str,
    /// Status, headers, an empty line, and the body; before them interim answers, a line each with its status and one header.
    /// `None`: the server is not asked. `GONE`: it closes the connection.
    reply: Option<&'static str>,
    /// The status, and the body after a space; before them the statuses of interim answers.
    gets: &'static str,
    /// Lines that the server's request has, or has not where `-` stands before the name.
    sent: &'static [&'static str],
    /// Lines that the agent's answer has, in part; or has not.
    head: &'static [&'static str],
}

const GONE: &str = "gone";

/// How often a script is played at most that took too long each time.
const PLAYS_MAX: usize = 20;

/// It is answered without the server.
const fn kept(ask: &'static str, gets: &'static str) -> Exchange {
    Exchange { ask, reply: None, gets, sent: &[], head: &[] }
}

/// The server is asked, and says this.
const fn asked(ask: &'static str, reply: &'static str, gets: &'static str) -> Exchange {
    Exchange { ask, reply: Some(reply), gets, sent: &[], head: &[] }
}

impl Exchange {
    const fn sent(self, sent: &'static [&'static str]) -> Self {
        Self { sent, ..self }
    }

    const fn head(self, head: &'static [&'static str]) -> Self {
        Self { head, ..self }
    }
}

const FRESH: &str = "200\nCache-Control: max-age=60\n\na";
const STALE: &str = "200\nCache-Control: max-age=60\nAge: 100\nETag: \"x\"\n\na";
const OTHER: &str = "200\nCache-Control: max-age=60\n\nb";
const SAME: &str = "304\nETag: \"x\"\nCache-Control: max-age=60\n\n";
const ERROR: &str = "503\n\ndown";

#[test]
fn the_general_cache_keeps_rfc_9111_sentence_by_sentence_r3_2() {
    let replies: Arc<Mutex<HashMap<String, &'static str>>> = Arc::default();
    let server = {
        let replies = replies.clone();
        Server::start(move |asked, _| match replies.lock().unwrap().get(&asked.target) {
            Some(&GONE) => vec![Act::Close],
            Some(reply) => said(reply, &asked.method),
            None => chunked(599, "", "nobody was to ask"),
        })
    };
    let relay = proxy(&[server.port()]);
    let mut stage = Stage { client: Client::connect(relay.v4()), relay: relay.v4(), server, replies };
    let mut broken = Vec::new();
    let all = [keeping::SENTENCES, asking::SENTENCES, directives::SENTENCES].into_iter().flatten();
    for (index, sentence) in all.enumerate() {
        // What is said in whole seconds holds within the first: a script that a busy machine drew out longer is played again.
        let played = (0..PLAYS_MAX).find_map(|play| {
            let started = Instant::now();
            let broken = stage.play(sentence, &format!("/s{index}p{play}"));
            (broken.is_empty() || started.elapsed() < Duration::from_secs(1)).then_some(broken)
        });
        broken.extend(played.expect("a script ends within a second, played often enough"));
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
    relay.stop();
}

/// Where sentences are played: the agent, its relay, and the server with what it has to say by target.
struct Stage {
    client: Client,
    relay: SocketAddr,
    server: Server,
    replies: Arc<Mutex<HashMap<String, &'static str>>>,
}

impl Stage {
    /// Plays a sentence's script below a path that nobody asked for yet; what went otherwise than it says.
    fn play(&mut self, sentence: &Sentence, path: &str) -> Vec<String> {
        let mut broken = Vec::new();
        for (step, exchange) in sentence.script.iter().enumerate() {
            let mut lines = exchange.ask.lines();
            let (method, rest) =
                lines.next().map(|first| first.split_once(' ').unwrap_or((first, ""))).unwrap();
            let target = format!("{path}{rest}");
            let before = self.server.asked_for(&target).len();
            match exchange.reply {
                Some(reply) => self.replies.lock().unwrap().insert(target.clone(), reply),
                None => self.replies.lock().unwrap().remove(&target),
            };
            let headers: Vec<_> = lines.map(|line| line.split_once(": ").unwrap()).collect();
            let url = self.server.url(&target);
            let (interim, answer) = exchanged(&mut self.client, method, &url, &headers)
                .unwrap_or_else(|end| panic!("{}: {end:?}", sentence.section));
            let asked = self.server.asked_for(&target).split_off(before);
            let mut otherwise = |reason: String| {
                broken.push(format!("{} \"{}\", step {step}: {reason}", sentence.section, sentence.says));
            };
            let forwarded = asked.first().map(|asked| &asked.headers);
            if let Some(reason) = wrong(exchange, &answer.head.headers, forwarded) {
                otherwise(reason);
            }
            let got = format!("{interim}{} {}", answer.head.status, String::from_utf8_lossy(&answer.body));
            let (got, wanted) = (got.trim(), exchange.gets);
            let as_wanted = if wanted.len() == 3 { got.starts_with(wanted) } else { got == wanted };
            if !as_wanted || answer.end != End::Complete {
                otherwise(format!("got {got}, {:?}", answer.end));
            }
            if asked.is_empty() != exchange.reply.is_none() {
                otherwise(format!("the server was asked {} times, {:?}", asked.len(), answer.head));
            }
            if answer.head.header("connection") == Some("close") {
                self.client = Client::connect(self.relay);
            }
        }
        broken
    }
}

/// An answer, and the statuses of the interim ones before it.
fn exchanged(
    client: &mut Client,
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
) -> Result<(String, Answer), End> {
    client.ask(method, url, headers).unwrap();
    let mut interim = String::new();
    loop {
        let head = client.read_head(method)?;
        if head.status >= 200 {
            let (body, end) = client.read(usize::MAX);
            return Ok((interim, Answer { head, body, end: end.unwrap() }));
        }
        interim = format!("{interim}{} ", head.status);
    }
}

type Lines = Vec<(String, String)>;

fn wrong(exchange: &Exchange, head: &Lines, asked: Option<&Lines>) -> Option<String> {
    let has = |lines: &Lines, wanted: &str| {
        let found =
            |wanted: &str| lines.iter().any(|(name, value)| format!("{name}: {value}").contains(wanted));
        match wanted.strip_prefix('-') {
            Some(name) => !lines.iter().any(|(own, _)| own == name),
            None => found(wanted),
        }
    };
    if let Some(missing) = exchange.head.iter().find(|line| !has(head, line)) {
        return Some(format!("the answer and '{missing}': {head:?}"));
    }
    let asked = asked?;
    let missing = exchange.sent.iter().find(|line| !has(asked, line));
    missing.map(|missing| format!("the server's request and '{missing}': {asked:?}"))
}

fn said(reply: &str, method: &str) -> Vec<Act> {
    if let Some((interim, answer)) = reply.split_once('\n').filter(|_| reply.starts_with('1')) {
        let (status, header) = interim.split_once(' ').unwrap();
        let interim = Act::Send(format!("HTTP/1.1 {status} x\r\n{header}\r\n\r\n").into());
        return [vec![interim], said(answer, method)].concat();
    }
    let (head, body) = reply.split_once("\n\n").unwrap();
    let (status, headers) = head.split_once('\n').unwrap_or((head, ""));
    if method == "HEAD" {
        let headers = lines(headers);
        return vec![Act::Send(format!("HTTP/1.1 {status} x\r\n{headers}\r\n").into())];
    }
    chunked(status.parse().unwrap(), headers, body)
}
