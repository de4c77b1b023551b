//! Tunnels, and what passes through the forward proxy: slowed as answers are, and ended as before.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use forebay::policy::reach::Tunnels;
use forebay::policy::tree::change::Action;
use forebay::policy::tree::setting::Values;

use super::{Ground, agent, bearer, rate};
use crate::raw::Client;
use crate::raw::answer::End;
use crate::tunnel::{Far, rule, socks_ask, socks_reply};

/// A relay whose agents may go to the far end.
fn leading_to(far: &Far, tunnel_idle: Duration) -> Ground {
    let port = far.port();
    Ground::with(|settings| {
        settings.proxy.allow = vec![rule(&["127.0.0.0/8"], &[port], Tunnels::Any)];
        settings.proxy.tunnel_idle = tunnel_idle;
    })
}

fn connect(client: &mut Client, to: SocketAddr, fields: &str) {
    client.send(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{fields}\r\n").as_bytes()).unwrap();
    assert_eq!(client.read_head("CONNECT").unwrap().status, 200);
}

/// A tunnel of an address of domain 1, by CONNECT and by SOCKS.
fn tunnels(ground: &Ground, far: &Far) -> [Client; 2] {
    let from = |last| IpAddr::from([127, 1, 0, last]);
    let mut by_connect = Client::connect_from(from(1), ground.relay.v4());
    connect(&mut by_connect, far.address(), "");
    let mut by_socks = Client::connect_from(from(2), ground.relay.socks()[0]);
    by_socks.send(&[5, 1, 0]).unwrap();
    assert_eq!(by_socks.take(2), [5, 0]);
    by_socks.send(&socks_ask(1, &far.address().to_string())).unwrap();
    assert_eq!(socks_reply(&mut by_socks), 0);
    [by_connect, by_socks]
}

#[test]
fn tunnels_have_their_shares_of_the_domains_limit_and_what_they_bring_up_is_not_limited_r10_1() {
    let far = Far::start();
    let mut ground = leading_to(&far, Duration::from_mins(5));
    ground.limit(Values { domain_bytes_per_sec: rate(1_000_000), ..Values::default() });
    let tunnels = tunnels(&ground, &far);
    let began = Instant::now();
    let sending = [(); 2].map(|()| {
        let mut server = far.accept();
        std::thread::spawn(move || {
            server.write_all(&vec![7; 750_000]).unwrap();
            server.shutdown(std::net::Shutdown::Write).unwrap();
            let mut up = Vec::new();
            server.read_to_end(&mut up).unwrap();
            up.len()
        })
    });
    let taking = tunnels.map(|mut client| {
        std::thread::spawn(move || {
            client.send(&vec![3; 3_000_000]).unwrap();
            let up = began.elapsed();
            client.shut_write();
            let (bytes, end) = client.read_to_close();
            assert_eq!((bytes.len(), end), (750_000, End::Closed));
            (up, began.elapsed())
        })
    });
    let [one, other] = taking.map(|thread| thread.join().unwrap());
    assert_eq!(sending.map(|thread| thread.join().unwrap()), [3_000_000; 2]);
    // 1.5 MB in all: both take the whole time, each half of it.
    for (up, down) in [one, other] {
        assert!(down >= Duration::from_millis(1100) && up < down, "{one:?} {other:?}");
    }
    ground.relay.stop();
}

#[test]
fn a_slowed_tunnel_is_not_idle_and_ends_when_its_agent_is_revoked_r10_1() {
    let far = Far::start();
    let mut ground = leading_to(&far, Duration::from_millis(250));
    // Two pieces a second for each.
    ground.limit(Values { bytes_per_sec: rate(2048), ..Values::default() });
    let tunnels = tunnels(&ground, &far);
    let ends = [(); 2].map(|()| {
        let mut server = far.accept();
        server.write_all(&[7; 5000]).unwrap();
        server.shutdown(std::net::Shutdown::Write).unwrap();
        server
    });
    let began = Instant::now();
    for mut client in tunnels {
        assert_eq!(client.take(5000).len(), 5000);
    }
    assert!(began.elapsed() >= Duration::from_millis(1500), "{:?}", began.elapsed());
    drop(ends);

    let mut client = Client::connect(ground.relay.v4());
    connect(&mut client, far.address(), &format!("Proxy-Authorization: {}\r\n", bearer("a")));
    let mut server = far.accept();
    server.write_all(&vec![7; 100_000]).unwrap();
    assert_eq!(client.take(1024).len(), 1024);
    ground.change(vec![Action::Revoke { agents: vec![agent("a")] }]);
    let (bytes, end) = client.read_to_close();
    assert!(end == End::Reset && bytes.len() < 20_000, "{end:?} after {} bytes", bytes.len());
    assert!(server.read(&mut [0; 9]).is_err(), "no end in order");
    ground.relay.stop();
}

#[test]
fn what_another_server_sends_through_the_proxy_is_slowed_too_r10_1() {
    let far = Far::start();
    let mut ground = leading_to(&far, Duration::from_mins(5));
    ground.limit(Values { domain_bytes_per_sec: rate(1_000_000), ..Values::default() });
    let mut client = ground.client(1, 1);
    // Of a method whose answers no cache keeps, and of one whose may be.
    for method in ["POST", "GET"] {
        let length = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
        let to = far.address();
        let began = Instant::now();
        client
            .send(format!("{method} http://{to}/x HTTP/1.1\r\nHost: {to}\r\n{length}\r\n").as_bytes())
            .unwrap();
        let mut server = far.accept();
        let answering = std::thread::spawn(move || {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                server.read_exact(&mut byte).unwrap();
                head.extend(byte);
            }
            server
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\nConnection: close\r\n\r\n")
                .unwrap();
            server.write_all(&vec![7; 1_000_000]).unwrap();
            server
        });
        assert_eq!(client.answer(method).unwrap().whole(200), vec![7; 1_000_000]);
        assert!(began.elapsed() >= Duration::from_millis(850), "{method}: {:?}", began.elapsed());
        drop(answering.join().unwrap());
    }
    ground.relay.stop();
}
