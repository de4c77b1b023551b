//! The role of `DeleGate`, with stock clients: an agent with one address family has every file of an upstream that has the other,
//! by the mirror, as a forward proxy, by CONNECT in clear text and with TLS, and by SOCKS5 (R4.2, R6.2).

mod taken;

use crate::network::Network;
use crate::process::{forebay, run};
use crate::served::{Place, Served, WITHIN, files};
use taken::Agent;

/// The two sides of a relay.
struct Sides {
    /// The agent's namespace, and where the relay is for it.
    agent: (&'static str, &'static str),
    /// The upstream's namespace and address.
    upstream: (&'static str, &'static str),
}

/// An agent with nothing but IPv6, an upstream with nothing but IPv4.
const SIX_TO_FOUR: Sides = Sides { agent: ("fb-agent", "[fd10::1]"), upstream: ("fb-up", "192.0.2.2") };

/// The reverse.
const FOUR_TO_SIX: Sides = Sides { agent: ("fb-up", "192.0.2.1"), upstream: ("fb-agent", "[fd10::2]") };

/// An upstream that runs: a relay of its own, which serves a tree in clear text and with TLS.
struct Upstream {
    place: Place,
    release: Vec<(String, Vec<u8>)>,
    _served: Served,
}

impl Upstream {
    fn start(network: &Network, (name, address): (&str, &str)) -> Self {
        let place = Place::new();
        let (tree, certs) = (place.path("tree"), place.path("certs"));
        run(forebay(["fixture"]).arg(&tree), WITHIN).succeeded();
        let bare = address.trim_matches(['[', ']']);
        let mut make = forebay(["certs", "--name", "up.test", "--name", bare]);
        run(make.arg(&certs), WITHIN).succeeded();
        let top = format!(
            "listen = \"{address}:8080\"\nadmin.listen = \"127.0.0.1:0\"\nsocks.listen = \"127.0.0.1:0\"\n\
             tls.listen = \"{address}:8443\"\n[[tls.certificate]]\nchain = {:?}\nkey = {:?}\n",
            certs.join("relay.pem"),
            certs.join("relay.key"),
        );
        place.configure(&top, tree.to_str().unwrap(), "");
        let served = network.serve_ready(name, &place);
        Self { release: files(&tree, 0), place, _served: served }
    }

    fn authority(&self) -> String {
        self.place.path("certs/authority.pem").display().to_string()
    }
}

/// A relay's settings between the two: the upstream in clear text, and a second tree that it has with TLS.
fn between(listen: &str, upstream: &Upstream, address: &str, top: &str) -> Place {
    let place = Place::new();
    let bare = address.trim_matches(['[', ']']);
    let top = format!(
        "listen = \"{listen}:8080\"\nadmin.listen = \"127.0.0.1:0\"\nsocks.listen = \"{listen}:1080\"\n\
         [upstream]\nhosts = \"{bare} up.test\"\nca_file = {:?}\n{top}",
        upstream.authority(),
    );
    let secure = "[[tree]]\npath = \"/secure/\"\nupstream = \"https://up.test:8443/activeupdate/\"\nrefresh_secs = 86400\n";
    place.configure(&top, "http://up.test:8080/activeupdate/", secure);
    place
}

/// Takes the tree by each way, and compares it.
fn takes_all_ways(agent: &Agent<'_>, relay: &str, upstream: &Upstream, host: &str) {
    let authority = upstream.authority();
    let proxy = format!("http://{relay}:8080");
    let socks = format!("{relay}:1080");
    let clear = format!("http://{host}:8080/activeupdate/");
    let secure = format!("https://{host}:8443/activeupdate/");
    let manifest = agent.manifest(&[], &format!("{proxy}/activeupdate/"));
    let ways: [(&str, &[&str], &str); 6] = [
        ("mirror", &[], &format!("{proxy}/activeupdate/")),
        ("forward proxy", &["-x", &proxy], &clear),
        ("CONNECT", &["-p", "-x", &proxy], &clear),
        ("SOCKS5", &["--socks5-hostname", &socks], &clear),
        ("CONNECT to TLS", &["-x", &proxy, "--cacert", &authority], &secure),
        ("SOCKS5 to TLS", &["--socks5-hostname", &socks, "--cacert", &authority], &secure),
    ];
    for (way, options, base) in ways {
        agent.takes_all(way, options, base, &upstream.release);
        let own = agent.manifest(options, base);
        assert!(own.contains("[PATTERN]"), "{way}: {own}");
        // In clear text the relay answers itself, whichever way it was asked.
        if !way.ends_with("TLS") {
            assert_eq!(own, manifest, "{way}");
        }
    }
    agent.wget_takes_all("mirror", &[], &format!("{proxy}/activeupdate/"), &upstream.release);
    let by_proxy =
        ["-e", "use_proxy=yes", "-e", &format!("http_proxy={proxy}"), "-e", &format!("https_proxy={proxy}")];
    agent.wget_takes_all("forward proxy", &by_proxy, &clear, &upstream.release);
    let by_proxy = [&by_proxy[..], &["--ca-certificate", &authority]].concat();
    agent.wget_takes_all("CONNECT to TLS", &by_proxy, &secure, &upstream.release);
}

#[test]
fn an_agent_of_one_family_takes_the_tree_of_an_upstream_of_the_other_by_every_way_r4_2() {
    let Some(network) = Network::up(false) else { return };
    for Sides { agent: (name, relay), upstream: side } in [SIX_TO_FOUR, FOUR_TO_SIX] {
        let upstream = Upstream::start(&network, side);
        let place = between(relay, &upstream, side.1, "");
        let served = network.serve("fb-relay", &place);
        served.wait_lines(2, "a new generation is published");
        let agent = Agent::new(&network, name);
        takes_all_ways(&agent, relay, &upstream, "up.test");
        served.stop();
    }
}

#[test]
fn a_relay_without_ipv4_takes_its_agents_to_an_upstream_without_ipv6_by_every_way_r4_2_r4_3() {
    let Some(network) = Network::up(true) else { return };
    let upstream = Upstream::start(&network, SIX_TO_FOUR.upstream);
    for (host, prefix) in
        [("v4only.test", ""), ("192.0.2.2", ""), ("192.0.2.2", "nat64_prefix = \"fd64::/96\"\n")]
    {
        let place = Place::new();
        let top = format!(
            "listen = \"[::1]:8080\"\nadmin.listen = \"127.0.0.1:0\"\nsocks.listen = \"[::1]:1080\"\n\
             [upstream]\nca_file = {:?}\n{prefix}",
            upstream.authority(),
        );
        place.configure(&top, &format!("http://{host}:8080/activeupdate/"), "");
        let served = network.serve_ready("fb-relay6", &place);
        let agent = Agent::new(&network, "fb-relay6");
        let (proxy, base) = ("http://[::1]:8080", format!("http://{host}:8080/activeupdate/"));
        agent.takes_all("mirror", &[], &format!("{proxy}/activeupdate/"), &upstream.release);
        agent.takes_all("forward proxy", &["-x", proxy], &base, &upstream.release);
        agent.takes_all("CONNECT", &["-p", "-x", proxy], &base, &upstream.release);
        agent.takes_all("SOCKS5", &["--socks5-hostname", "[::1]:1080"], &base, &upstream.release);
        served.stop();
    }
    // A tunnel's bytes cross NAT64 themselves.
    let place = Place::new();
    let top = "listen = \"[::1]:8080\"\nadmin.listen = \"127.0.0.1:0\"\nsocks.listen = \"[::1]:1080\"\n[[proxy.allow]]\nname = \"up\"\n\
               to = [\"192.0.2.2\", \"fd64::/96\"]\nports = [8443]\n";
    place.configure(top, "http://192.0.2.2:8080/activeupdate/", "");
    let served = network.serve_ready("fb-relay6", &place);
    let agent = Agent::new(&network, "fb-relay6");
    let authority = upstream.authority();
    let options = ["-x", "http://[::1]:8080", "--cacert", &authority];
    agent.takes_all("CONNECT to TLS", &options, "https://192.0.2.2:8443/activeupdate/", &upstream.release);
    let refused = agent.refused(&["-x", "http://[::1]:8080"], "https://192.0.2.3:8443/activeupdate/");
    assert!(refused.contains("403"), "{refused}");
    served.stop();
}

#[test]
fn what_else_an_upstream_has_is_not_there_for_the_asking_r6_2() {
    let place = Place::new();
    let ranges = "[[agents.range]]\nfrom = \"0.0.0.0/0\"\nscope = \"patterns\"\n";
    place.configure(
        "socks.listen = \"127.0.0.1:0\"\nlisten = \"127.0.0.1:0\"\nadmin.listen = \"127.0.0.1:0\"",
        "http://127.0.0.1:9/activeupdate/",
        ranges,
    );
    let relay = place.serve(&[]);
    let ask = |options: &[&str], url: &str| {
        let mut curl = std::process::Command::new("curl");
        let proxy = format!("http://{}", relay.agents[0]);
        curl.args(["-sS", "-o", "-", "-w", "%{http_code}", "-x", &proxy]).args(options).arg(url);
        run(&mut curl, WITHIN).stdout
    };
    for url in [
        "http://127.0.0.1:9/",
        "http://127.0.0.1:9/activeupdate",
        "http://127.0.0.1:9//activeupdate/x",
        "http://127.0.0.1:9/other/",
    ] {
        let said = ask(&["--path-as-is"], url);
        assert!(said.trim_end().ends_with("403"), "{url}: {said}");
    }
    relay.stop();
}
