//! What the relay tells a running agent of its own accord, and what comes on the way: streams that are cut, held back or say nonsense.
//!
//! A front stands before the relay: what is asked of events it answers as a test tells it to, all else is the relay's.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::machine::Machine;
use crate::process::{Process, forebay};
use crate::raw::PATIENCE;
use crate::served::WITHIN;

/// Answers what is asked of events, given the head of the request.
type Answer = dyn Fn(&str, &mut TcpStream) + Send + Sync;

/// The front; it ends with the test's process.
struct Front {
    address: SocketAddr,
    /// The heads of requests for events, as they come.
    asked: Receiver<String>,
}

impl Front {
    fn before(relay: SocketAddr, answer: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, asked) = channel();
        let answer: Arc<Answer> = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (tell, answer) = (tell.clone(), answer.clone());
                thread::spawn(move || drop(serve(stream, relay, &tell, &*answer)));
            }
        });
        Self { address, asked }
    }

    /// The head of the next request for events.
    fn next(&self) -> String {
        self.asked.recv_timeout(PATIENCE).expect("nothing was asked of events")
    }
}

/// Serves one request.
fn serve(
    mut stream: TcpStream,
    relay: SocketAddr,
    tell: &Sender<String>,
    answer: &Answer,
) -> std::io::Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let text = String::from_utf8(head).unwrap();
    if text.contains("/api/v1/agent/events") {
        // The test may have ended.
        let _ = tell.send(text.clone());
        answer(&text, &mut stream);
        return Ok(());
    }
    let mut to = TcpStream::connect(relay)?;
    // One request for each connection, so that those for events come here.
    to.write_all(text.replacen("\r\n", "\r\nConnection: close\r\n", 1).as_bytes())?;
    let (mut from, mut back) = (stream.try_clone()?, to.try_clone()?);
    let there = thread::spawn(move || std::io::copy(&mut from, &mut to));
    std::io::copy(&mut back, &mut stream)?;
    stream.shutdown(Shutdown::Both)?;
    let _ = there.join();
    Ok(())
}

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";

/// Waits until the agent closes the connection.
fn hold(stream: &mut TcpStream) {
    let _ = stream.read(&mut [0]);
}

fn notice(number: u64) -> String {
    format!(
        "id: {number}\nevent: update\ndata: {{\"notice\":{number},\"reason\":\"generation\",\"components\":true,\"agent_settings\":true}}\n\n"
    )
}

/// The machine's agent, which runs by this front, once its first update has ended.
fn run(machine: &Machine, front: &Front, more: &str) -> Process {
    let settings = format!("relay = \"http://{}/\"\n{more}", front.address);
    fs::write(machine.folder().join("agent.toml"), settings).unwrap();
    let process = Process::start(forebay(["agent", "run", "--dir"]).arg(machine.folder()));
    process.wait_line(WITHIN, |line| line.contains("\"event\":\"ended\""));
    process
}

fn installed(process: &Process, number: u64) {
    process.wait_line(WITHIN, |line| line.contains(&format!("\"event\":\"installed\",\"number\":{number}")));
}

#[test]
fn a_notice_has_the_agent_update_and_the_next_stream_goes_on_behind_it_r9_1() {
    let machine = Machine::enrolled();
    let (open, opened) = channel::<()>();
    let opened = std::sync::Mutex::new(opened);
    let front = Front::before(machine.relay.v4(), move |_, stream| {
        let _ =
            stream.write_all(format!("{HEAD}retry: 1\nevent: hello\ndata: {{}}\n\n: still\n\n").as_bytes());
        // Told once the release is there; then the stream ends.
        if opened.lock().unwrap().recv_timeout(PATIENCE).is_ok() {
            let _ = stream.write_all(notice(7).as_bytes());
            let _ = opened.lock().unwrap().recv_timeout(PATIENCE);
        }
    });
    let process = run(&machine, &front, "");
    let first = front.next();
    assert!(first.contains("authorization: Bearer pc-1~") && !first.contains("last-event-id"), "{first}");
    machine.publish(2, &[]);
    open.send(()).unwrap();
    installed(&process, 2);
    process.wait_line(WITHIN, {
        let mut ended = 0;
        move |line| {
            ended += usize::from(line.contains("\"event\":\"ended\""));
            ended == 2
        }
    });
    machine.check_has(2);
    open.send(()).unwrap();
    let second = front.next();
    assert!(second.contains("last-event-id: 7\r\n"), "{second}");
}

#[test]
fn where_streams_are_cut_the_relay_is_polled() {
    let machine = Machine::enrolled();
    machine.publish(2, &[]);
    let front = Front::before(machine.relay.v4(), |head, stream| {
        if !head.contains("?wait=") {
            // A proxy that ends streams: the agent hears how soon to come again, and no event.
            let _ = stream.write_all(format!("{HEAD}retry: 1\n\n").as_bytes());
            return;
        }
        let data = r#"{"notice":9,"reason":"administrator","components":true,"agent_settings":true}"#;
        let body = if head.contains("after=0") {
            format!(r#"{{"events":[{{"id":9,"event":"update","data":{data}}}]}}"#)
        } else {
            r#"{"events":[]}"#.to_owned()
        };
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
    });
    // A short silence has polls wait for a short time.
    let process = run(&machine, &front, "silence_secs = 2\n");
    let mut asked = front.next();
    let mut streams = 0;
    while !asked.contains("?wait=") {
        streams += 1;
        asked = front.next();
    }
    assert_eq!(streams, 3);
    while !asked.contains("after=9") {
        asked = front.next();
    }
    machine.check_has(2);
    drop(process);
}

#[test]
fn a_stream_of_nonsense_is_left_and_asked_for_again() {
    let machine = Machine::enrolled();
    let front = Front::before(machine.relay.v4(), |_, stream| {
        let _ = stream.write_all(format!("{HEAD}retry: 1\nevent: hello\ndata: {{}}\n\n").as_bytes());
        let _ = stream.write_all(b"event: update\ndata: {\"notice\":\"many\"}\n\n");
        hold(stream);
    });
    let process = run(&machine, &front, "events = \"stream\"\n");
    for _ in 0..3 {
        front.next();
    }
    machine.publish(2, &[]);
    assert!(!process.output().contains("panicked"), "{}", process.output());
    machine.check_has(1);
}

#[test]
fn an_agent_of_an_older_relay_lives_by_its_interval_alone() {
    let machine = Machine::enrolled();
    let front = Front::before(machine.relay.v4(), |_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    });
    let process = run(&machine, &front, "");
    front.next();
    assert!(front.asked.try_recv().is_err(), "it is asked again after a while");
    machine.check_has(1);
    drop(process);
}
