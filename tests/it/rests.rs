//! Connections that rest: idle for a while they hold no buffer, and whatever comes then is answered as before (issue 6, point 5).

use std::io::Read as _;

use crate::authority::{Authority, get};
use crate::raw::Client;
use crate::raw::answer::End;
use crate::served::{FIXTURE, Place, Served};

const MANIFEST: &str = "/activeupdate/server.ini";
const PACKAGE: &str = "/activeupdate/pattern/vsapi329.zip";

const REQUEST: &[u8] = b"GET /activeupdate/server.ini HTTP/1.1\r\nHost: r\r\n\r\n";

/// A relay that says which connections rest.
fn serve(tail: &str) -> (Place, Served) {
    let place = Place::new();
    place.configure("log.level = \"debug\"", FIXTURE, tail);
    let relay = place.serve_ready();
    (place, relay)
}

/// Waits until so many connections have gone to rest since the start.
fn wait_rests(relay: &Served, count: usize) {
    relay.wait_lines(count, "an idle connection rests");
}

fn asked(relay: &Served) -> (Client, Vec<u8>) {
    let mut client = Client::connect(relay.agents[0]);
    let manifest = client.exchange("GET", MANIFEST, &[]).unwrap().whole(200);
    (client, manifest)
}

fn is_closed(client: &mut Client) {
    let (bytes, end) = client.read_to_close();
    assert!(bytes.is_empty() && matches!(end, End::Closed | End::Reset), "{end:?}: {}", bytes.escape_ascii());
}

#[test]
fn whatever_is_asked_after_a_rest_is_answered_and_so_is_what_comes_after_the_next() {
    let (_place, relay) = serve("[limits]\nhead_timeout_secs = 60");
    let (mut client, manifest) = asked(&relay);
    wait_rests(&relay, 1);
    // In two parts, the second of which hyper alone sees.
    client.send(&REQUEST[..5]).unwrap();
    assert_eq!(Client::connect(relay.agents[1]).exchange("GET", MANIFEST, &[]).unwrap().whole(200), manifest);
    client.send(&REQUEST[5..]).unwrap();
    assert_eq!(client.answer("GET").unwrap().whole(200), manifest);
    wait_rests(&relay, 2);
    // More than one look, and more than one request.
    client.send(&REQUEST.repeat(60)).unwrap();
    for _ in 0..60 {
        assert_eq!(client.answer("GET").unwrap().whole(200), manifest);
    }
    let package = client.exchange("GET", PACKAGE, &[]).unwrap().whole(200);
    assert!(package == std::fs::read(PACKAGE.replace("/activeupdate", FIXTURE)).unwrap());
    wait_rests(&relay, 3);
    client.send(b"no request\r\n\r\n").unwrap();
    let (bytes, end) = client.read_to_close();
    assert!(bytes.starts_with(b"HTTP/1.1 400 ") && end == End::Closed, "{}", bytes.escape_ascii());
    relay.stop();
}

#[test]
fn who_rests_is_closed_in_time_makes_room_may_leave_and_holds_up_no_stop() {
    let (_place, relay) = serve("[limits]\nhead_timeout_secs = 3");
    let (mut idle, _) = asked(&relay);
    let began = std::time::Instant::now();
    wait_rests(&relay, 1);
    is_closed(&mut idle);
    assert!(began.elapsed().as_secs() >= 2, "{:?}", began.elapsed());
    let (mut half, _) = asked(&relay);
    wait_rests(&relay, 2);
    half.send(&REQUEST[..5]).unwrap();
    let (bytes, end) = half.read_to_close();
    assert!(bytes.is_empty() || bytes.starts_with(b"HTTP/1.1 408 "), "{}", bytes.escape_ascii());
    assert!(matches!(end, End::Closed | End::Reset), "{end:?}");
    let (leaving, _) = asked(&relay);
    wait_rests(&relay, 3);
    leaving.shut_write();
    is_closed(&mut leaving.twin());
    relay.stop();

    let (_place, relay) = serve("[limits]\nconnections_max = 1\nhead_timeout_secs = 600");
    let (mut first, manifest) = asked(&relay);
    wait_rests(&relay, 1);
    // One connection is all that an address may have here.
    let mut second = Client::connect(relay.agents[1]);
    assert_eq!(second.exchange("GET", MANIFEST, &[]).unwrap().whole(200), manifest);
    is_closed(&mut first);
    assert_eq!(relay.metric("forebay_connections_dismissed_total"), 1);
    wait_rests(&relay, 2);
    relay.stop();
    is_closed(&mut second);
}

#[test]
fn a_connection_in_tls_rests_too_and_its_end_is_told() {
    let authority = Authority::new();
    let (files, _) = authority.sign("relay", &["relay.test"]);
    let tls = format!(
        "[tls]\nlisten = \"127.0.0.1:0\"\n[[tls.certificate]]\nchain = {:?}\nkey = {:?}\n",
        files.chain, files.key
    );
    let (_place, relay) = serve(&tls);
    let line = relay.wait_line("agents, TLS");
    let port: u16 = line.split("127.0.0.1:").nth(1).unwrap().split('/').next().unwrap().parse().unwrap();
    let mut stream = authority.connect(([127, 0, 0, 1], port).into(), "relay.test").unwrap();
    let manifest = get(&mut stream, MANIFEST);
    wait_rests(&relay, 1);
    assert_eq!(get(&mut stream, MANIFEST).1, manifest.1);
    wait_rests(&relay, 2);
    relay.stop();
    assert_eq!(stream.read(&mut [0; 9]).unwrap(), 0, "told in order");
}
