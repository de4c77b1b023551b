//! Agents with nothing but IPv6 that their relay serves nothing, and an upstream with nothing but IPv4: they reach it by the relay's proxy, in
//! clear text and by CONNECT (R4.2, R7.1).

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::fleet::files;
use crate::authority::Authority;
use crate::network::Network;
use crate::process::{Process, forebay, run, tool};
use crate::served::{Place, WITHIN};

/// The trees, and where the upstream of each is.
const TREES: [(&str, &str); 2] =
    [("clear", "http://192.0.2.2:8000/activeupdate/"), ("secure", "https://192.0.2.2:8443/activeupdate/")];

/// An upstream with TLS.
const SECURE: &str = r#"
import functools, http.server, ssl, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
server = http.server.ThreadingHTTPServer(("192.0.2.2", 8443), handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
server.socket = context.wrap_socket(server.socket, server_side=True)
print("Serving HTTPS", flush=True)
server.serve_forever()
"#;

/// What stands between an agent and its upstream.
struct Ground {
    network: Network,
    place: Place,
    authority: Authority,
}

impl Ground {
    fn new(network: Network) -> Self {
        let (place, authority) = (Place::new(), Authority::new());
        run(forebay(["fixture"]).arg(place.path("up/activeupdate")), WITHIN).succeeded();
        let trees = TREES.map(|(name, upstream)| {
            format!("[[tree]]\nname = {name:?}\npath = \"/{name}/\"\nupstream = {upstream:?}\nprefetch = \"none\"\n")
        });
        let settings = format!(
            "data = {:?}\nlisten = \"[fd10::1]:8080\"\nadmin.listen = \"127.0.0.1:8081\"\nsocks.listen = \"[fd10::1]:1080\"\n\
             upstream.ca_file = {:?}\n[agents]\nclear_text_enrolment = \"allow\"\n{}",
            place.data(),
            authority.file(),
            trees.concat()
        );
        fs::write(place.config(), settings).unwrap();
        Self { network, place, authority }
    }

    /// The upstream in clear text, and with TLS.
    fn upstreams(&self) -> [Process; 2] {
        let (files, _) = self.authority.sign("upstream", &["192.0.2.2"]);
        let served = self.place.path("up");
        let mut clear = self.network.command("fb-up", "python3");
        clear.args(["-u", "-m", "http.server", "--protocol", "HTTP/1.1", "--bind", "192.0.2.2", "8000"]);
        clear.arg("--directory").arg(&served);
        let mut secure = self.network.command("fb-up", "python3");
        secure.args(["-u", "-c", SECURE]).arg(served).arg(files.chain).arg(files.key);
        [clear, secure].map(|mut command| {
            let upstream = Process::start(&mut command);
            upstream.wait_line(WITHIN, |line| line.starts_with("Serving HTTP"));
            upstream
        })
    }

    /// A command of the relay's administrator; gives what it prints.
    fn typed(&self, arguments: &[&str]) -> String {
        let mut command = self.program("fb-relay", arguments);
        command.arg("--config").arg(self.place.config());
        command.env("FOREBAY_TOKEN", fs::read_to_string(self.place.token_file()).unwrap());
        run(&mut command, WITHIN).succeeded().stdout
    }

    /// This program in one of the namespaces.
    fn program(&self, name: &str, arguments: &[&str]) -> Command {
        let own = forebay(arguments);
        let mut command = self.network.command(name, own.get_program().to_str().unwrap());
        command.args(own.get_args());
        command
    }
}

/// The packages that an upstream was asked for.
fn packages(upstream: &Process) -> usize {
    upstream
        .output()
        .lines()
        .filter(|line| line.contains("GET /activeupdate/") && line.contains(".zip "))
        .count()
}

#[test]
fn agents_with_ipv6_alone_have_a_release_by_the_relays_proxy_and_report_the_upstream_r7_1() {
    for name in ["python3", "ip"] {
        if tool(name).is_none() {
            return;
        }
    }
    let Some(network) = Network::up(false) else { return };
    let ground = Ground::new(network);
    let upstreams = ground.upstreams();
    let relay = ground.network.serve("fb-relay", &ground.place);
    relay.wait_lines(TREES.len(), "a new generation is published");
    let settings =
        ["relay_serves_components=false", "relay_serves_programs=false", "update_now=true", "scope=all"];
    let mut create = vec!["domains", "create", "branch"];
    create.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    ground.typed(&create);
    let said = ground.typed(&["enrol", "create", "branch", "--agents", "2", "--hours", "1"]);
    let token = said.lines().find(|line| forebay::policy::secret::Token::parse(line).is_some()).unwrap();
    for (name, _) in TREES {
        let folder = ground.place.path(name);
        let folder = folder.to_str().unwrap();
        let relay = "http://[fd10::1]:8080/";
        fs::create_dir(folder).unwrap();
        let settings =
            format!("relay = {relay:?}\ntrees = {name:?}\nca_file = {:?}\n", ground.authority.file());
        fs::write(format!("{folder}/agent.toml"), settings).unwrap();
        let enrol = ["agent", "enrol", "--relay", relay, "--token", token, "--id", name, "--dir", folder];
        run(&mut ground.program("fb-agent", &enrol), WITHIN).succeeded();
    }
    let update = |name: &str| {
        let folder = ground.place.path(name);
        run(ground.program("fb-agent", &["agent", "update-now", "--dir"]).arg(folder), WITHIN)
    };
    // As long as nobody may fall back on the upstream, there is no source at all.
    update("clear").succeeded();
    assert!(!ground.place.path("clear/current").exists());
    ground.typed(&["settings", "set", "domain:branch", "fallback_to_activeupdate", "true"]);

    let published = files(&ground.place.path("up/activeupdate"));
    for ((name, source), upstream) in TREES.iter().zip(&upstreams) {
        assert_eq!(packages(upstream), 0, "nothing was fetched ahead");
        update(name).succeeded();
        let has = files(&ground.place.path(&format!("{name}/current/{name}")));
        let taken: Vec<_> = has
            .iter()
            .filter(|(path, _)| path.rsplit_once('.').is_some_and(|(_, end)| end == "zip"))
            .collect();
        assert!(taken.len() > 3, "{:?}", has.keys());
        assert!(taken.iter().all(|(path, bytes)| published[*path] == **bytes));
        assert!(packages(upstream) >= taken.len(), "{name}: they came from elsewhere");
        let reports: Value =
            serde_json::from_str(&ground.typed(&["reports", "--agent", name, "--limit", "1", "--json"]))
                .unwrap();
        let report = reports.as_array().map_or(&reports["items"][0], |all| &all[0]);
        assert_eq!(
            (&report["source"], &report["result"]),
            (&(*source).into(), &"updated".into()),
            "{reports}"
        );
        assert!(report["bytes"].as_u64().unwrap() > 0);
    }
    relay.stop();
}
