//! What agents ask of other servers, and their tunnels, go by the same routes (R4.5, R4.6).

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use bytes::Bytes;
use forebay::base::clock::SystemClock;
use forebay::base::destination::{Destination, HostPattern};
use forebay::config::elsewhere::RouteSettings;
use forebay::policy::caller::Caller;
use forebay::policy::decide::{Policy, Unknown};
use forebay::policy::reach::{Destinations, Passage, Reach, Rule, Tunnels, Way};
use forebay::policy::scope::Scope;
use forebay::policy::tree::compiled::Compiled;
use forebay::upstream::client::{Clients, Forwarder};
use forebay::upstream::ways::Way as Route;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::proxy::{Manner, Proxy, Speech};
use super::{all_by, nameless, nobody};

fn agent(policy: &Policy) -> Caller {
    let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    policy.caller(&Compiled::default(), &address.into()).unwrap()
}

/// Agents may ask anything by name, and addresses of this machine nowhere.
fn clients(routes: &[RouteSettings]) -> (Clients, Policy) {
    let ports = (1..=u16::MAX).collect();
    let rule = Rule { name: "all".into(), hosts: vec![HostPattern::Any], ports, tunnels: Tunnels::Any };
    let destinations = Arc::new(Destinations::new([], vec![rule]));
    let policy = Policy::new([], Unknown::Scope(Scope::All)).with_destinations(destinations.clone());
    let clock = Arc::new(SystemClock::default());
    (Clients::new(&nameless(), routes, destinations, clock).unwrap(), policy)
}

fn passage(policy: &Policy, to: &str) -> Passage {
    match policy.reach(&agent(policy), &Destination::parse(to).unwrap(), Way::Tunnel).unwrap() {
        Reach::There(passage) => passage,
        here @ Reach::Here(_) => panic!("{here:?}"),
    }
}

/// A server that speaks first, and then answers the first bytes that it hears with them.
fn banner() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.write_all(b"220 ready\r\n");
            let mut heard = Vec::new();
            let _ = stream.read_to_end(&mut heard);
            let _ = stream.write_all(&heard);
        }
    });
    address
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn a_tunnel_goes_by_the_first_parent_that_works_and_keeps_every_byte_and_half_close_r4_5() {
    let place = banner();
    for speech in [Speech::Http, Speech::Socks] {
        let refuses = Proxy::start(&speech, Manner::Leads, nobody());
        let works = Proxy::start(&speech, Manner::Leads, place);
        let dead = format!("http://{}", nobody());
        let (clients, policy) = clients(&[all_by(&[&dead, &refuses.url(), &works.url()], None)]);
        block_on(async {
            let mut io = clients.tunnel(passage(&policy, "mail.test:80"), &[]).await.unwrap();
            io.write_all(b"and back").await.unwrap();
            io.shutdown().await.unwrap();
            let mut heard = Vec::new();
            io.read_to_end(&mut heard).await.unwrap();
            assert_eq!(heard, b"220 ready\r\nand back");
        });
        let asked = works.heard().asked;
        assert_eq!(asked.len(), 1);
        assert!(
            asked[0].starts_with("CONNECT mail.test:80 ") || asked[0] == "SOCKS mail.test:80 ",
            "{asked:?}"
        );
        assert_eq!(refuses.heard().asked.len(), 1);
    }
}

#[test]
fn where_no_parent_leads_a_tunnel_fails_with_each_named_r4_5() {
    let refuses = Proxy::start(&Speech::Http, Manner::Says(b"HTTP/1.1 403 No\r\n\r\n"), nobody());
    let (clients, policy) = clients(&[all_by(&[&refuses.url()], None)]);
    let error = block_on(clients.tunnel(passage(&policy, "mail.test:80"), &[])).unwrap_err().to_string();
    assert!(error.contains(&refuses.url()) && error.contains("status 403"), "{error}");
}

#[test]
fn reserved_addresses_and_names_of_this_machine_are_refused_before_a_parent_hears_of_them_r4_6() {
    let place = banner();
    let proxy = Proxy::start(&Speech::Http, Manner::Leads, place);
    let (clients, policy) = clients(&[all_by(&[&proxy.url()], None)]);
    let asks: Forwarder<Full<Bytes>> = clients.forwarder([]);
    for host in [
        "127.0.0.1",
        "10.0.0.1",
        "[::1]",
        "[::ffff:10.0.0.1]",
        "[64:ff9b::a00:1]",
        "localhost",
        "a.localhost",
    ] {
        let uri = format!("http://{host}:8080/");
        let request = hyper::Request::get(&uri).body(Full::default()).unwrap();
        let error = block_on(asks.send(request, &Route::default())).unwrap_err().to_string();
        assert!(error.contains("no rule lists it"), "{uri}: {error}");
        let to = Destination::parse(&format!("{host}:8080")).unwrap();
        match policy.reach(&agent(&policy), &to, Way::Tunnel) {
            // A name is judged when it is connected to.
            Ok(Reach::There(passage)) => {
                let error = block_on(clients.tunnel(passage, &[])).unwrap_err().to_string();
                assert!(error.contains("no rule lists it"), "{uri}: {error}");
            }
            Ok(here @ Reach::Here(_)) => panic!("{here:?}"),
            Err(refusal) => assert!(refusal.to_string().contains("no rule lists it"), "{uri}: {refusal}"),
        }
    }
    assert_eq!(proxy.heard().connections, 0);
}

#[test]
fn a_name_that_turns_out_to_be_private_is_not_tried_by_the_next_way_r4_6() {
    let proxy = Proxy::start(&Speech::Http, Manner::Leads, nobody());
    let mut settings = nameless();
    settings.hosts = vec![forebay::config::value::host_entry("10.0.0.1 inside.test").unwrap()];
    let rule =
        Rule { name: "all".into(), hosts: vec![HostPattern::Any], ports: vec![80], tunnels: Tunnels::Any };
    let destinations = Arc::new(Destinations::new([], vec![rule]));
    let routes = [all_by(&["direct", &proxy.url()], None)];
    let clients = Clients::new(&settings, &routes, destinations, Arc::new(SystemClock::default())).unwrap();
    let asks: Forwarder<Full<Bytes>> = clients.forwarder([]);
    let request = hyper::Request::get("http://inside.test/").body(Full::default()).unwrap();
    let error = block_on(asks.send(request, &Route::default())).unwrap_err().to_string();
    assert!(error.contains("a private address"), "{error}");
    assert_eq!(proxy.heard().connections, 0);
}

#[test]
fn a_requests_body_is_sent_once_and_whole_by_the_parent_that_works_r4_5() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap();
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut heard = Vec::new();
        while !heard.ends_with(b"0\r\n\r\n") {
            let mut piece = [0; 4096];
            let count = stream.read(&mut piece).unwrap();
            assert!(count > 0, "{heard:?}");
            heard.extend(&piece[..count]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").unwrap();
        String::from_utf8(heard).unwrap()
    });
    let wants = Proxy::start(&Speech::Socks, Manner::LeadsFor("other:other"), place);
    let works = Proxy::start(&Speech::Http, Manner::Leads, place);
    let dead = format!("http://{}", nobody());
    let (clients, _) = clients(&[all_by(&[&dead, &wants.url(), &works.url()], None)]);
    block_on(async {
        // A stream that is gone once it was read.
        let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
        let body = UnsyncBoxBody::new(Channel(receiver));
        let asks: Forwarder<UnsyncBoxBody<Bytes, Infallible>> = clients.forwarder([]);
        let request = hyper::Request::post("http://post.test/in").body(body).unwrap();
        let sending = async move {
            for piece in ["one ", "two ", "three"] {
                sender.send(Bytes::from_static(piece.as_bytes())).await.unwrap();
            }
        };
        let way = Route::default();
        let (answer, ()) = tokio::join!(asks.send(request, &way), sending);
        let answer = answer.unwrap().into_body().collect().await.unwrap().to_bytes();
        assert_eq!(answer, "done");
    });
    let heard = serving.join().unwrap();
    assert!(heard.starts_with("POST /in HTTP/1.1\r\n"), "{heard}");
    let body: String = heard.split("\r\n\r\n").nth(1).unwrap().split("\r\n").skip(1).step_by(2).collect();
    assert_eq!(body, "one two three");
}

#[test]
fn a_body_that_began_to_be_sent_is_not_sent_again_by_another_parent_r4_5() {
    let place = banner();
    let wants = Proxy::start(&Speech::Http, Manner::LeadsFor("other:other"), place);
    let works = Proxy::start(&Speech::Http, Manner::Leads, place);
    let (clients, _) = clients(&[all_by(&[&wants.url(), &works.url()], None)]);
    let asks: Forwarder<UnsyncBoxBody<Bytes, Infallible>> = clients.forwarder([]);
    let error = block_on(async {
        let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
        sender.send(Bytes::from_static(b"one")).await.unwrap();
        let body = UnsyncBoxBody::new(Channel(receiver));
        let request = hyper::Request::post("http://post.test/in").body(body).unwrap();
        // The parent answers while the body is on its way.
        let way = Route::default();
        let sent = tokio::time::timeout(crate::served::WITHIN, asks.send(request, &way)).await;
        let error = sent.expect("it was sent again, to one that answers nothing").unwrap_err();
        drop(sender);
        error.to_string()
    });
    assert!(error.contains(&wants.url()) && error.contains("asks for credentials"), "{error}");
    assert_eq!((wants.heard().connections, works.heard().connections), (1, 0));
}

/// A body of what a channel gives.
struct Channel(tokio::sync::mpsc::Receiver<Bytes>);

impl hyper::body::Body for Channel {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|bytes| Ok(hyper::body::Frame::data(bytes))))
    }
}
