//! What a tunnel carries: every byte, early ones too, each direction to its own end, and no more than the other side takes.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::SockRef;

use super::{BOTH, By, FIXTURE, Far, door, leading_to, mirroring, socks_ask, socks_reply, tunnel, until};
use crate::origin::Origin;
use crate::raw::Client;
use crate::raw::answer::End;
use crate::relay::Running;

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|at| ((at / 251 + at) % 256).try_into().unwrap()).collect()
}

/// Sends bytes and ends its side.
fn sending(mut stream: TcpStream, bytes: Vec<u8>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        stream.write_all(&bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    })
}

#[test]
fn all_bytes_pass_and_the_end_of_one_side_leaves_the_other_open_r4_2() {
    let far = Far::start();
    let relay = Running::start(leading_to(far.port()));
    let (up, down) = (pattern(3 << 20), pattern(5 << 20));
    for by in BOTH {
        for agent_ends_first in [true, false] {
            let mut client = tunnel(&relay, by, &far.address().to_string()).unwrap();
            let mut server = far.accept();
            let mut got = Vec::new();
            if agent_ends_first {
                let sent = sending(client.stream(), up.clone());
                server.read_to_end(&mut got).unwrap();
                sent.join().unwrap();
            }
            let sent = sending(server.try_clone().unwrap(), down.clone());
            let (bytes, end) = client.read_to_close();
            sent.join().unwrap();
            assert!(bytes == down && end == End::Closed, "{by:?}: {end:?}, {} bytes", bytes.len());
            if !agent_ends_first {
                let sent = sending(client.stream(), up.clone());
                server.read_to_end(&mut got).unwrap();
                sent.join().unwrap();
            }
            assert!(got == up, "{by:?}: {} bytes", got.len());
        }
    }
    relay.stop();
}

#[test]
fn what_an_agent_sends_before_it_is_answered_reaches_the_other_end_r4_2() {
    let far = Far::start();
    let relay = Running::start(leading_to(far.port()));
    let to = far.address().to_string();
    for early in [1, 100, 9000] {
        let early = pattern(early);
        let mut client = Client::connect(relay.v4());
        let head = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n");
        client.send(&[head.as_bytes(), &early].concat()).unwrap();
        assert_eq!(client.read_head("CONNECT").unwrap().status, 200);
        let mut got = vec![0; early.len()];
        far.accept().read_exact(&mut got).unwrap();
        assert!(got == early);

        let mut client = Client::connect(relay.socks()[0]);
        client.send(&[&[5, 1, 0][..], &socks_ask(1, &to), &early].concat()).unwrap();
        assert_eq!(client.take(2), [5, 0]);
        assert_eq!(socks_reply(&mut client), 0);
        far.accept().read_exact(&mut got).unwrap();
        assert!(got == early);
    }
    // Requests before it are answered first, and it is the last one.
    let mut client = Client::connect(relay.v4());
    let head = format!(
        "GET /none HTTP/1.1\r\nHost: {to}\r\n\r\nCONNECT {to} HTTP/1.0\r\n\r\nGET / HTTP/1.1\r\n\r\n"
    );
    client.send(head.as_bytes()).unwrap();
    assert_eq!(client.answer("GET").unwrap().head.status, 404);
    assert_eq!(client.read_head("CONNECT").unwrap().status, 200);
    let mut got = [0; 18];
    far.accept().read_exact(&mut got).unwrap();
    assert_eq!(&got, b"GET / HTTP/1.1\r\n\r\n");
    drop(client);
    relay.stop();
}

#[test]
fn early_requests_in_a_tunnel_to_the_mirror_are_answered_by_it_r3_2() {
    let origin = Origin::start(FIXTURE.as_ref());
    let relay = Running::refreshed(mirroring(&origin));
    let to = origin.address().to_string();
    let manifest = crate::raw::fetch(relay.v4(), "/activeupdate/server.ini", &[]).whole(200);
    for by in BOTH {
        let mut client = Client::connect(door(&relay, by));
        let request = format!("GET /server.ini HTTP/1.1\r\nHost: {to}\r\n\r\n").repeat(3);
        let first = match by {
            By::Connect => format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n").into_bytes(),
            By::Socks => [&[5, 1, 0][..], &socks_ask(1, &to)].concat(),
        };
        client.send(&[&first, request.as_bytes()].concat()).unwrap();
        match by {
            By::Connect => assert_eq!(client.read_head("CONNECT").unwrap().status, 200),
            By::Socks => {
                assert_eq!(client.take(2), [5, 0]);
                assert_eq!(socks_reply(&mut client), 0);
            }
        }
        for _ in 0..3 {
            assert!(client.answer("GET").unwrap().whole(200) == manifest);
        }
        // And more of them, until the client ends its side.
        assert!(client.exchange("GET", "/server.ini", &[]).unwrap().whole(200) == manifest);
        client.shut_write();
        super::is_closed(&mut client);
    }
    relay.stop();
}

#[test]
fn a_server_that_answers_faster_than_the_agent_takes_it_waits_r4_2() {
    let far = Far::start();
    let mut relay = Running::start(leading_to(far.port()));
    let tally = relay.handle().tally().unwrap();
    let down = pattern(32 << 20);
    for by in BOTH {
        let before = tally.tunnel_down_bytes.value();
        let mut client = tunnel(&relay, by, &far.address().to_string()).unwrap();
        let server = far.accept();
        server.set_nonblocking(true).unwrap();
        // What the two sockets and the relay between them hold, nobody having read a byte.
        let mut sent = 0;
        let mut still = 0;
        while still < 50 && sent < down.len() {
            match (&server).write(&down[sent..]) {
                Ok(count) => (sent, still) = (sent + count, 0),
                Err(_) => {
                    still += 1;
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
        // The kernel's buffers grow to a few MB; the relay's own is 8 KiB.
        assert!(sent < down.len(), "{by:?}: {sent} bytes without a reader");
        server.set_nonblocking(false).unwrap();
        let rest = sending(server, down[sent..].to_vec());
        let (bytes, end) = client.read_to_close();
        rest.join().unwrap();
        assert!(bytes == down && end == End::Closed, "{by:?} {end:?}");
        drop(client);
        until("every byte is counted", || tally.tunnel_down_bytes.value() - before == down.len() as u64);
    }
    relay.stop();
}

#[test]
fn a_side_that_breaks_off_shows_as_a_reset_on_the_other_r4_2() {
    let far = Far::start();
    let relay = Running::start(leading_to(far.port()));
    for by in BOTH {
        let mut client = tunnel(&relay, by, &far.address().to_string()).unwrap();
        let mut server = far.accept();
        server.write_all(b"half of").unwrap();
        assert_eq!(client.take(7), b"half of");
        SockRef::from(&server).set_linger(Some(Duration::ZERO)).unwrap();
        drop(server);
        assert_eq!(client.read_to_close().1, End::Reset, "{by:?}");

        let mut client = tunnel(&relay, by, &far.address().to_string()).unwrap();
        let mut server = far.accept();
        client.send(b"half of").unwrap();
        server.read_exact(&mut [0; 7]).unwrap();
        client.reset();
        let error = server.read(&mut [0; 9]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{by:?}");
    }
    relay.stop();
}
