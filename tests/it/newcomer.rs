//! A new administrator: from an empty relay to three domains with three scopes, 50 agents that enrolled, and one that was shut out, by
//! nothing but what `--help` and the commands themselves print (issue 7).

use std::process::Command;

use forebay::policy::secret::Token;
use serde_json::Value;

use crate::process::{forebay, run, tool};
use crate::raw::fetch;
use crate::served::{FIXTURE, Place, Served, WITHIN};

/// The domains, their scopes, and how many agents join each.
const DOMAINS: [(&str, &str, usize); 3] =
    [("Tills", "patterns", 20), ("Desktops", "patterns-engines-drivers", 25), ("Servers", "all", 5)];

/// What a command prints that succeeds.
fn typed(place: &Place, line: &[&str]) -> String {
    place.command(line).succeeded().stdout
}

/// The status that an agent with this token gets for a path.
fn status(relay: &Served, token: &str, path: &str) -> u16 {
    let shown = format!("Bearer {token}");
    fetch(relay.agents[0], &format!("/activeupdate/{path}"), &[("Authorization", &shown)]).head.status
}

#[test]
fn a_newcomer_gets_from_an_empty_relay_to_a_fleet_by_help_alone_r11_1() {
    if tool("curl").is_none() {
        return;
    }
    let help = run(&mut forebay(["--help"]), WITHIN).succeeded().stdout;
    for group in ["The relay", "Agents, and what they may have", "What happened, and why", "Who administers"]
    {
        assert!(help.contains(&format!("\n{group}:\n")), "{group} in:\n{help}");
    }
    // Each group of commands shows by an example how it is used.
    for group in ["domains", "agents", "settings", "enrol", "ranges", "sources", "files", "why", "audit"] {
        let help = run(&mut forebay([group, "--help"]), WITHIN).succeeded().stdout;
        assert!(help.contains(&format!("Example:\n  forebay {group} ")), "{help}");
    }
    let place = Place::new();
    place.configure("", FIXTURE, "");
    let relay = place.serve_ready();
    assert_eq!(
        typed(&place, &["domains", "list"]),
        "There is no domain yet. 'forebay domains create NAME' makes one.\n"
    );

    let mut tokens: Vec<Vec<String>> = Vec::new();
    for (name, scope, count) in DOMAINS {
        let made = typed(&place, &["domains", "create", name, "--set", &format!("scope={scope}")]);
        assert_eq!(made, format!("the domain {name} is made; its scope is '{scope}'\n"));
        let said = typed(&place, &["enrol", "create", name, "--agents", &count.to_string(), "--hours", "1"]);
        assert!(said.lines().any(|line| Token::parse(line).is_some()), "the token stands alone: {said}");
        // The line that it prints is run as it stands, for each agent.
        let curl = said.lines().find(|line| line.starts_with("curl ")).unwrap();
        let enrol = |id: &str| {
            let line = curl.replace("pc-1", id).replacen("curl ", "curl -sS ", 1);
            let told = run(Command::new("sh").args(["-c", &line]), WITHIN).succeeded().stdout;
            serde_json::from_str::<Value>(&told).unwrap()
        };
        let id = |number: usize| format!("{}-{number:02}", name.to_lowercase());
        let own = (0..count).map(|number| enrol(&id(number))["token"].as_str().unwrap().to_owned());
        tokens.push(own.collect());
        assert_eq!(enrol("one-too-many")["status"], 403);
    }

    let listed = typed(&place, &["domains", "list"]);
    let rows: Vec<Vec<&str>> = listed.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        rows,
        [
            ["Desktops", "patterns-engines-drivers", "0", "25", "25", "0"],
            ["Servers", "all", "0", "5", "5", "0"],
            ["Tills", "patterns", "0", "20", "20", "0"],
        ]
    );
    assert_eq!(typed(&place, &["agents", "list"]).lines().count(), 51, "a head, and 50 agents");
    let components: Value = serde_json::from_str(&typed(&place, &["components", "--json"])).unwrap();
    for (class, expected) in
        [("pattern", [200, 200, 200]), ("engine", [403, 200, 200]), ("program", [403, 403, 200])]
    {
        let item =
            components["items"].as_array().unwrap().iter().find(|item| item["class"] == class).unwrap();
        let path = item["path"].as_str().unwrap();
        let got = [0, 1, 2].map(|domain| status(&relay, &tokens[domain][0], path));
        assert_eq!(got, expected, "{class}");
        let said = typed(&place, &["why", "tills-00", path]);
        assert!(
            said.lines().next().unwrap().ends_with(if expected[0] == 200 {
                "and gets it:"
            } else {
                "and is REFUSED:"
            }),
            "{said}"
        );
    }

    assert_eq!(status(&relay, &tokens[0][7], "server.ini"), 200);
    assert_eq!(typed(&place, &["agents", "revoke", "tills-07"]), "done: change 57\n");
    assert_eq!(status(&relay, &tokens[0][7], "server.ini"), 401, "from its next request on");
    assert_eq!(status(&relay, &tokens[0][8], "server.ini"), 200, "and nobody else is");
    let revoked = typed(&place, &["agents", "list", "--standing", "revoked"]);
    assert!(revoked.lines().count() == 2 && revoked.contains("tills-07"), "{revoked}");
    let said = typed(&place, &["why", "tills-07", "server.ini"]);
    assert!(said.contains("is REFUSED") && said.contains("was revoked"), "{said}");

    let audit = typed(&place, &["audit", "--limit", "3"]);
    assert!(
        audit.lines().count() == 3 && audit.contains("admin, from 127.0.0.1: revoke agent 'tills-07'"),
        "{audit}"
    );
    let screen = typed(&place, &["status"]);
    assert!(screen.contains("agents     50 in 3 domains"), "{screen}");
    relay.stop();
}
