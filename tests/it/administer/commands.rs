//! The commands over the API, typed against a relay: what they print for people and for programs, what they ask before they do it, and
//! how they say what is wrong.

use serde_json::{Value, json};

use crate::process::{Ended, run};
use crate::served::{FIXTURE, Place, Served};

/// A place with a relay, and a small fleet in it.
fn fleet() -> (Place, Served) {
    let place = Place::new();
    place.configure("", FIXTURE, "");
    let relay = place.serve_ready();
    for line in [
        &["domains", "create", "Branches", "--set", "scope=patterns"][..],
        &["domains", "create", "Branches/North"],
        &["domains", "create", "Servers", "--set", "scope=all", "--set", "update_now=true"],
        &["agents", "add", "pc-1", "pc-2", "pc-3", "--domain", "Branches/North"],
        &["agents", "add", "srv-1", "--domain", "Servers"],
    ] {
        place.command(line).succeeded();
    }
    (place, relay)
}

fn typed(place: &Place, line: &[&str]) -> String {
    place.command(line).succeeded().stdout
}

fn json_of(place: &Place, line: &[&str]) -> Value {
    serde_json::from_str(&typed(place, &[line, &["--json"]].concat())).unwrap()
}

/// What a command says that fails with this code.
fn refused(place: &Place, code: i32, line: &[&str]) -> String {
    let Ended { status, stdout, stderr } = place.command(line);
    assert_eq!(status.code(), Some(code), "{line:?}: {stdout}{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr
}

/// The rows of a table, without its head, cell by cell where no cell has a space in it.
fn rows(table: &str) -> Vec<Vec<&str>> {
    table.lines().skip(1).map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn domains_are_named_by_their_paths_r11_1() {
    let (place, relay) = fleet();
    let listed = typed(&place, &["domains", "list"]);
    assert_eq!(
        listed.lines().next().unwrap().split("  ").filter(|head| !head.is_empty()).count(),
        6,
        "{listed}"
    );
    assert_eq!(
        rows(&listed),
        [
            ["Branches", "patterns", "1", "0", "3", "0"],
            ["Branches/North", "patterns", "0", "3", "3", "0"],
            ["Servers", "all", "0", "1", "1", "0"],
        ]
    );
    assert_eq!(rows(&typed(&place, &["domains", "list", "--within", "Branches/North"])).len(), 1);
    assert_eq!(json_of(&place, &["domains", "list"])["total"], 3);
    assert!(typed(&place, &["domains", "show", "Branches"]).contains("agents   0, 3 with those within"));
    assert_eq!(typed(&place, &["domains", "rename", "Branches/North", "South"]), "done: change 6\n");
    assert_eq!(
        typed(&place, &["domains", "move", "Branches/South", "--to-root", "--yes"]),
        "done: change 7\n"
    );
    assert_eq!(json_of(&place, &["domains", "show", "South"])["scope"], "all", "it left what was set above");
    let gone = refused(&place, 1, &["domains", "show", "Branches/South"]);
    assert_eq!(gone, "forebay: there is no domain 'Branches/South': 'forebay domains list' shows all\n");
    assert!(
        refused(&place, 1, &["domains", "create", "Nowhere/Below"]).contains("there is no domain 'Nowhere'")
    );
    assert!(refused(&place, 1, &["domains", "create", "Servers"]).contains("Servers"));
    assert!(refused(&place, 2, &["domains", "create", "a//b"]).contains("no domain's name"));
    assert!(
        refused(&place, 2, &["domains", "create", "A", "--set", "scope=every"])
            .contains("patterns-engines-drivers")
    );
    assert!(refused(&place, 2, &["domains", "move", "South"]).contains("--to-root"));
    let full = refused(&place, 1, &["domains", "remove", "South"]);
    assert!(full.contains("South") || full.contains("domain 2"), "it holds agents: {full}");
    let asked = refused(&place, 1, &["domains", "remove", "South", "--with-all-within"]);
    assert!(asked.contains("South would be REMOVED with all within it: 3 agents"), "{asked}");
    assert!(asked.contains("nobody can be asked here; --yes agrees to it"), "{asked}");
    typed(&place, &["domains", "remove", "South", "--with-all-within", "--yes"]);
    assert_eq!(json_of(&place, &["agents", "list"])["total"], 1);
    relay.stop();
}

#[test]
fn agents_are_filtered_moved_shut_out_and_let_in_again_r11_1() {
    let (place, relay) = fleet();
    let ids = |line: &[&str]| -> Vec<String> {
        let listed = typed(&place, &[&["agents", "list"], line].concat());
        rows(&listed).iter().map(|row| row[0].to_owned()).collect()
    };
    assert_eq!(ids(&[]), ["pc-1", "pc-2", "pc-3", "srv-1"]);
    assert_eq!(ids(&["--within", "Branches"]), ["pc-1", "pc-2", "pc-3"]);
    assert_eq!(typed(&place, &["agents", "list", "--domain", "Branches"]), "There is no such agent.\n");
    assert_eq!(ids(&["--scope", "all"]), ["srv-1"]);
    assert_eq!(ids(&["--text", "pc-", "--sort", "domain"]), ["pc-1", "pc-2", "pc-3"]);
    assert_eq!(ids(&["--unseen-for", "1h"]).len(), 4, "nobody checked in");
    assert!(typed(&place, &["agents", "list", "--seen-within", "2d"]).starts_with("There is no such agent"));
    let some = place.command(&["agents", "list", "--limit", "2"]).succeeded();
    assert_eq!(
        (rows(&some.stdout).len(), &*some.stderr),
        (2, "forebay: 2 of 4 are shown: --limit shows more\n")
    );
    assert!(refused(&place, 2, &["agents", "list", "--seen-within", "soon"]).contains("30min, 2h or 7d"));
    for (line, standing) in [("revoke", "revoked"), ("readmit", "admitted")] {
        typed(&place, &["agents", line, "pc-1", "pc-2"]);
        assert_eq!(json_of(&place, &["agents", "show", "pc-2"])["standing"], standing);
    }
    // All of them, or none.
    assert!(refused(&place, 1, &["agents", "revoke", "pc-1", "pc-9"]).contains("pc-9"));
    assert_eq!(json_of(&place, &["agents", "show", "pc-1"])["standing"], "admitted");
    let screen = typed(&place, &["agents", "show", "pc-1"]);
    assert!(screen.starts_with("pc-1 of Branches/North\nscope        patterns\n"), "{screen}");
    assert!(screen.ends_with("It has told of no versions.\n"), "{screen}");
    typed(&place, &["agents", "remove", "pc-3"]);
    assert!(refused(&place, 1, &["agents", "show", "pc-3"]).contains("there is no agent 'pc-3'"));
    assert!(
        refused(&place, 2, &["agents", "add", "PC 3", "--domain", "Servers"]).contains("'PC 3' is no agent")
    );
    relay.stop();
}

#[test]
fn a_list_longer_than_a_page_is_whole_and_in_order_r11_1() {
    let (place, relay) = fleet();
    for hundreds in [0..6, 6..12] {
        let ids: Vec<_> =
            hundreds.flat_map(|hundred| (0..100).map(move |n| format!("m-{hundred:02}{n:02}"))).collect();
        let mut line = vec!["agents", "add", "--domain", "Servers"];
        line.extend(ids.iter().map(String::as_str));
        typed(&place, &line);
    }
    let listed = place.command(&["agents", "list", "--domain", "Servers", "--limit", "1100"]).succeeded();
    let ids: Vec<_> = rows(&listed.stdout).iter().map(|row| row[0].to_owned()).collect();
    assert!(ids.len() == 1100 && ids.is_sorted() && ids[0] == "m-0000", "{}", ids.len());
    assert!(listed.stderr.contains("1100 of 1201 are shown"), "{}", listed.stderr);
    assert_eq!(
        json_of(&place, &["agents", "list", "--limit", "5000"])["items"].as_array().unwrap().len(),
        1204
    );
    relay.stop();
}

#[test]
fn a_wider_scope_is_asked_about_in_bytes_at_a_terminal_or_agreed_to_with_yes_r6_5() {
    let (place, relay) = fleet();
    for line in [
        &["settings", "set", "domain:Branches", "scope", "all"][..],
        &["agents", "move", "pc-1", "pc-2", "pc-3", "--to", "Servers"],
        &["settings", "set", "root", "scope", "all", "--apply-to", "all"],
        &["domains", "move", "Branches/North", "--to", "Servers"],
    ] {
        let said = refused(&place, 1, line);
        assert!(
            said.contains("3 agents would get the scope 'all': ") && said.contains(" in all\n"),
            "{said}"
        );
        assert!(
            said.ends_with("forebay: nothing was changed: nobody can be asked here; --yes agrees to it\n"),
            "{said}"
        );
        assert_eq!(json_of(&place, &["agents", "show", "pc-1"])["scope"], "patterns");
    }
    let Some(python) = crate::process::tool("python3") else { return };
    let line = ["settings", "set", "domain:Branches", "scope", "all"];
    for (answer, code) in [("n\n", 1), ("y\n", 0)] {
        let mut command = crate::tree_file::terminal::typed_at(&python, &[(vec![], answer)], &line);
        command.arg("--config").arg(place.config()).arg("--token-file").arg(place.token_file());
        let ended = run(&mut command, crate::served::WITHIN);
        assert_eq!(ended.status.code(), Some(code), "{ended:?}");
        assert!(ended.stdout.contains("Have it done? [y/N] "), "{ended:?}");
    }
    assert_eq!(json_of(&place, &["agents", "show", "pc-1"])["scope"], "all");
    typed(&place, &["settings", "set", "domain:Branches", "scope", "patterns"]);
    typed(&place, &["agents", "move", "pc-1", "--to", "Servers", "--yes"]);
    assert_eq!(json_of(&place, &["agents", "show", "pc-1"])["path"], "Servers");
    relay.stop();
}

#[test]
fn settings_say_what_holds_and_who_set_it_r5_2_r5_3() {
    let (place, relay) = fleet();
    let shown = |at: &str, name: &str| {
        typed(&place, &["settings", "show", at, name]).lines().nth(1).unwrap().to_owned()
    };
    assert_eq!(shown("agent:pc-1", "scope"), "scope  patterns  domain:Branches");
    assert_eq!(shown("domain:Servers", "update_now"), "update_now  true   domain:Servers");
    assert_eq!(shown("root", "time_zone"), "time_zone  UTC    -");
    let daily = "{ kind = \"daily\", at = \"02:30\", window_mins = 60 }";
    typed(&place, &["settings", "set", "agent:pc-1", "schedule", daily]);
    typed(&place, &["settings", "set", "agent:pc-1", "bytes_per_sec", "10 MiB"]);
    assert!(
        shown("agent:pc-1", "schedule").contains("at = \"02:30\""),
        "{}",
        shown("agent:pc-1", "schedule")
    );
    assert_eq!(shown("agent:pc-1", "bytes_per_sec"), "bytes_per_sec  10485760  the agent itself");
    typed(&place, &["settings", "clear", "agent:pc-1", "schedule", "bytes_per_sec"]);
    assert!(shown("agent:pc-1", "bytes_per_sec").ends_with(" -"));
    assert_eq!(
        typed(&place, &["settings", "clear", "agent:pc-1", "schedule"]),
        "nothing to change: it is so already\n"
    );
    // At the root somebody says whom it reaches.
    let said = refused(&place, 2, &["settings", "set", "root", "update_now", "true"]);
    assert!(said.contains("--apply-to all") && said.contains("--apply-to future"), "{said}");
    typed(&place, &["settings", "set", "root", "scan_after_update", "true", "--apply-to", "future"]);
    let root = typed(&place, &["settings", "show", "root"]);
    assert!(
        root.ends_with("Domains that are made from now on start with: scan_after_update true\n"),
        "{root}"
    );
    typed(&place, &["domains", "create", "New"]);
    assert!(shown("domain:New", "scan_after_update").ends_with("domain:New, which started with it"));
    typed(&place, &["settings", "set", "root", "update_now", "false", "--apply-to", "all"]);
    assert_eq!(shown("domain:Servers", "update_now"), "update_now  false  root");
    assert!(
        refused(&place, 2, &["settings", "set", "domain:New", "scope", "all", "--apply-to", "all"])
            .contains("for the root")
    );
    let wrong = refused(&place, 2, &["settings", "set", "domain:New", "scope", "every"]);
    assert!(wrong.contains("allowed: patterns, patterns-engines-drivers, all"), "{wrong}");
    assert!(
        refused(&place, 2, &["settings", "set", "domain:New", "skope", "all"]).contains("possible values")
    );
    assert!(refused(&place, 2, &["settings", "show", "Branches"]).contains("domain:PATH"));
    let names = typed(&place, &["settings", "show", "root", "--json"]);
    assert!(serde_json::from_str::<Value>(&names).unwrap()["effective"].is_array());
    relay.stop();
}

#[test]
fn enrolments_ranges_sources_and_files_come_and_go_r5_r7() {
    let (place, relay) = fleet();
    let made =
        json_of(&place, &["enrol", "create", "Servers", "--agents", "2", "--hours", "1", "--id", "spring"]);
    assert!(made["token"].as_str().unwrap().starts_with("spring~"));
    let listed = typed(&place, &["enrol", "list"]);
    assert!(rows(&listed)[0][..3] == ["spring", "Servers", "2"] && !listed.contains('~'), "{listed}");
    assert!(
        refused(&place, 1, &["enrol", "create", "Servers", "--agents", "2", "--id", "spring"])
            .contains("spring")
    );
    typed(&place, &["enrol", "revoke", "spring"]);
    assert_eq!(typed(&place, &["enrol", "list"]), "There is no enrolment.\n");

    typed(&place, &["ranges", "set", "10.20.0.0/16", "Branches"]);
    typed(&place, &["ranges", "set", "2001:db8::/32", "Branches/North"]);
    assert_eq!(
        rows(&typed(&place, &["ranges", "list"])),
        [["10.20.0.0/16", "Branches"], ["2001:db8::/32", "Branches/North"]]
    );
    typed(&place, &["ranges", "remove", "10.20.0.0/16"]);
    assert!(refused(&place, 1, &["ranges", "remove", "10.20.0.0/16"]).contains("10.20.0.0/16"));
    assert!(refused(&place, 2, &["ranges", "set", "10.20.0.0/33", "Branches"]).contains("PREFIX"));

    typed(&place, &["sources", "add", "10.1.0.0-10.1.0.9", "http://mirror.example/au/"]);
    typed(&place, &["sources", "add", "2001:db8::/48", "http://mirror.example/au/", "--families", "ipv6"]);
    let listed = typed(&place, &["sources", "list"]);
    assert_eq!(rows(&listed)[1], ["2001:db8::/48", "http://mirror.example/au/", "ipv6"]);
    assert!(
        refused(&place, 1, &["sources", "add", "10.1.0.5-10.1.0.9", "http://m.example/"])
            .contains("overlaps")
    );
    assert!(refused(&place, 1, &["sources", "remove", "10.9.0.0-10.9.0.9"]).contains("forebay sources list"));
    typed(&place, &["sources", "remove", "10.1.0.0-10.1.0.9"]);
    assert_eq!(json_of(&place, &["sources", "list"])["entries"].as_array().unwrap().len(), 1);

    let file = place.path("agent.ini");
    std::fs::write(&file, b"x=1\n\xff\n").unwrap();
    let file = file.to_str().unwrap();
    typed(&place, &["files", "put", file, "--domain", "Branches"]);
    typed(&place, &["files", "put", file, "--name", "other.ini"]);
    assert_eq!(json_of(&place, &["files", "list"])["total"], 2);
    assert!(typed(&place, &["files", "list"]).contains("the root"));
    let copy = place.path("copy.ini");
    typed(
        &place,
        &["files", "show", "agent.ini", "--domain", "Branches", "--output", copy.to_str().unwrap()],
    );
    assert_eq!(std::fs::read(copy).unwrap(), b"x=1\n\xff\n");
    assert!(refused(&place, 1, &["files", "show", "agent.ini"]).contains("agent.ini"));
    typed(&place, &["files", "remove", "agent.ini", "--domain", "Branches"]);
    assert!(refused(&place, 1, &["files", "put", "/nowhere/x.ini"]).contains("/nowhere/x.ini"));
    relay.stop();
}

#[test]
fn what_the_relay_does_and_who_changed_what_is_listed_and_followed_r11_2() {
    let (place, relay) = fleet();
    assert!(typed(&place, &["me"]).starts_with("admin, with the role administrator, known by a token"));
    assert_eq!(rows(&typed(&place, &["generations"]))[0][..2], ["activeupdate", "1"]);
    assert_eq!(json_of(&place, &["components"])["total"], rows(&typed(&place, &["components"])).len());
    assert!(refused(&place, 1, &["components", "--tree", "other"]).contains("there are: activeupdate"));
    assert_eq!(typed(&place, &["fills"]), "Nothing is being fetched.\n");
    typed(&place, &["traffic", "--minutes", "5"]);
    crate::raw::fetch(relay.agents[0], "/activeupdate/server.ini", &[]);
    let refusals = loop {
        let refusals = typed(&place, &["refusals"]);
        if refusals.contains("GET /activeupdate/server.ini") {
            break refusals;
        }
    };
    assert!(refusals.contains("nothing shows which agent this is"), "{refusals}");
    assert!(typed(&place, &["refusals", "--agent", "pc-1"]).starts_with("No request was refused"));

    let audit = typed(&place, &["audit", "--limit", "2"]);
    assert!(
        audit.starts_with("     5  20") && audit.contains("admin, from 127.0.0.1: add agent 'srv-1'"),
        "{audit}"
    );
    assert_eq!(json_of(&place, &["audit"])["items"].as_array().unwrap().len(), 5);
    let mut follow = crate::process::forebay(["audit", "--follow", "--limit", "1", "--config"]);
    follow.arg(place.config()).env("FOREBAY_TOKEN", std::fs::read_to_string(place.token_file()).unwrap());
    let follow = crate::process::Process::start(&mut follow);
    follow.wait_line(crate::served::WITHIN, |line| line.starts_with("     5  "));
    typed(&place, &["domains", "create", "Later"]);
    let line = follow.wait_line(crate::served::WITHIN, |line| line.starts_with("     6  "));
    assert!(line.contains("Later"), "{line}");
    relay.stop();
    let ended = follow.wait_exit(crate::served::WITHIN).succeeded();
    assert!(ended.stderr.contains("the relay has ended"), "{ended:?}");
}

#[test]
fn who_has_too_small_a_role_or_no_token_hears_what_is_needed_r11_1() {
    let (place, relay) = fleet();
    let made = typed(&place, &["admin-token", "make", "looker", "--role", "viewer"]);
    let token = made.lines().find(|line| forebay::policy::secret::Token::parse(line).is_some()).unwrap();
    std::fs::write(place.path("looker"), token).unwrap();
    let looker = place.path("looker");
    let looks = |line: &[&str]| {
        let mut command = crate::process::forebay(line);
        run(
            command.arg("--config").arg(place.config()).arg("--token-file").arg(&looker),
            crate::served::WITHIN,
        )
    };
    looks(&["agents", "list"]).succeeded();
    let said = looks(&["agents", "revoke", "pc-1"]);
    assert_eq!(
        (said.status.code(), &*said.stderr),
        (Some(1), "forebay: this takes the role operator; 'looker' has the role viewer\n")
    );
    let mut nobody = crate::process::forebay(["agents", "list", "--config"]);
    nobody.arg(place.config()).env_remove("FOREBAY_TOKEN");
    let said = run(&mut nobody, crate::served::WITHIN);
    assert!(said.stderr.contains("the relay wants a token"), "{said:?}");
    // Whoever may only look is not shown hashes of secrets.
    let enrolled = json!({ "token": json_of(&place, &["enrol", "create", "Servers", "--agents", "1"])["token"], "agent": "pc-9" });
    let answer = super::call(relay.agents[0], "POST", "/api/v1/enrol", None, Some(&enrolled));
    assert_eq!(answer.head.status, 201);
    let audit = |token: &str| -> String {
        let shown = format!("Bearer {token}");
        String::from_utf8(super::call(relay.admin, "GET", "/api/v1/audit", Some(&shown), None).whole(200))
            .unwrap()
    };
    let hash = |text: &str| {
        text.split('"').any(|word| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    let (own, theirs) = (audit(relay.bearer().strip_prefix("Bearer ").unwrap()), audit(token));
    assert!(hash(&own) && !hash(&theirs), "{theirs}");
    assert_eq!(theirs.matches("\"secret\":\"not shown\"").count(), own.matches("\"secret\":\"").count());
    relay.stop();
}
