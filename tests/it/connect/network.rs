//! Networks of one family: a relay with both families between an agent and an upstream of one each, and one behind NAT64 (R4.3).

use crate::network::Network;
use crate::process::run;
use crate::served::{FIXTURE, Place, WITHIN};

/// What a stock client in a namespace gets.
fn get(network: &Network, name: &str, url: &str) -> String {
    run(network.command(name, "curl").args(["-sSf", "--max-time", "20", url]), WITHIN).succeeded().stdout
}

/// A place whose relay listens here and asks that upstream.
fn place(listen: &str, top: &str, upstream: &str) -> Place {
    let place = Place::new();
    let listen = format!("listen = {listen:?}\nadmin.listen = \"127.0.0.1:0\"\n{top}");
    place.configure(&listen, upstream, "");
    place
}

#[test]
fn an_agent_without_ipv4_is_served_from_an_upstream_without_ipv6_r4_3() {
    let Some(network) = Network::up(false) else { return };
    let (up, between) = (
        place("192.0.2.2:8080", "", FIXTURE),
        place("[fd10::1]:8080", "", "http://192.0.2.2:8080/activeupdate/"),
    );
    let _up = network.serve_ready("fb-up", &up);
    let _relay = network.serve_ready("fb-relay", &between);
    let manifest = get(&network, "fb-agent", "http://[fd10::1]:8080/activeupdate/server.ini");
    assert!(manifest.contains("[PATTERN]"), "{manifest}");
}

#[test]
fn a_relay_without_ipv4_reaches_an_upstream_without_ipv6_by_nat64_r4_3() {
    let Some(network) = Network::up(true) else { return };
    let up = place("192.0.2.2:8080", "", FIXTURE);
    let _up = network.serve_ready("fb-up", &up);
    let hosts = "[upstream]\nnameservers = \"192.0.2.53\"\nhosts = \"192.0.2.2 own.test\"\n";
    let cases = [
        // The name server's own translation; an address, under the prefix that is found; a prefix that is set, and nobody to ask.
        ("http://v4only.test:8080/activeupdate/", String::new()),
        ("http://192.0.2.2:8080/activeupdate/", String::new()),
        ("http://own.test:8080/activeupdate/", format!("{hosts}nat64_prefix = \"fd64::/96\"\n")),
    ];
    for (upstream, settings) in cases {
        let behind = place("[::1]:8080", &settings, upstream);
        let _relay = network.serve_ready("fb-relay6", &behind);
        let manifest = get(&network, "fb-relay6", "http://[::1]:8080/activeupdate/server.ini");
        assert!(manifest.contains("[PATTERN]"), "{upstream}: {manifest}");
    }
    let without =
        place("[::1]:8080", "[upstream]\nnat64_prefix = \"off\"\n", "http://192.0.2.2:8080/activeupdate/");
    network.serve("fb-relay6", &without).wait_line("192.0.2.2:8080: Network is unreachable");
}
