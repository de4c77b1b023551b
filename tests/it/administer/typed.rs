//! The first start, and `forebay admin-token` with a relay and without one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use forebay::policy::secret::Token;

use crate::process::{forebay, run};
use crate::served::{FIXTURE, Place, WITHIN};

#[test]
fn the_first_start_tells_a_token_once_and_keeps_its_hash_alone_r11_1() {
    let place = Place::new();
    place.configure("log.format = \"json\"\nlog.level = \"trace\"", FIXTURE, "");
    let relay = place.serve_ready();
    let token = fs::read_to_string(place.token_file()).unwrap();
    assert_eq!(relay.output().matches(&token).count(), 1);
    relay.ask("/api/v1/status");
    let log = relay.stop().stderr;
    let secret = token.split_once('~').unwrap().1;
    assert!(!log.contains(secret), "no line of the log has it");
    let file = place.data().join("admin/tokens.journal");
    let kept = fs::read_to_string(&file).unwrap();
    assert!(!kept.contains(secret) && kept.contains("\"by\":\"the first start\""), "{kept}");
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(place.data().join("admin")), 0o700);
    let again = place.serve(&[]);
    assert!(!again.output().lines().any(|line| Token::parse(line).is_some()), "it is told once");
    again.stop();
}

#[test]
fn commands_want_a_token_and_say_where_one_comes_from_r11_1() {
    let place = Place::new();
    place.configure("", FIXTURE, "");
    let relay = place.serve_ready();
    let status = |arguments: &[&str], variable: Option<&str>| {
        let mut command = forebay(["status", "--config"]);
        command.arg(place.config()).args(arguments).env_remove("FOREBAY_TOKEN");
        run(command.envs(variable.map(|token| ("FOREBAY_TOKEN", token))), WITHIN)
    };
    let none = status(&[], None);
    assert_eq!(none.status.code(), Some(1));
    assert!(none.stderr.contains("name it with --token-file or FOREBAY_TOKEN"), "{none:?}");
    let token = fs::read_to_string(place.token_file()).unwrap();
    status(&[], Some(&token)).succeeded();
    let file = place.token_file();
    status(&["--token-file", file.to_str().unwrap()], Some("nonsense")).succeeded();
    let secret = token.split_once('~').unwrap().1;
    for wrong in [format!("other~{secret}"), "nonsense".to_owned(), format!("{token}0")] {
        let refused = status(&[], Some(&wrong));
        assert_eq!(refused.status.code(), Some(1), "{wrong}");
        assert!(!refused.stderr.contains(secret), "{refused:?}");
    }
    assert_eq!(status(&["--token-file", "/nowhere"], None).status.code(), Some(1));
    relay.stop();
}

#[test]
fn tokens_are_made_listed_and_revoked_with_a_relay_and_without_r11_1() {
    let place = Place::new();
    place.configure("", FIXTURE, "");
    let relay = place.serve_ready();
    let made = |arguments: &[&str]| {
        let said = place.command(&[&["admin-token", "make"], arguments].concat()).succeeded().stdout;
        said.lines().find(|line| Token::parse(line).is_some()).unwrap().to_owned()
    };
    let asks = |relay: &crate::served::Served, token: &str, path: &str| {
        crate::raw::fetch(relay.admin, path, &[("Authorization", &format!("Bearer {token}"))]).head.status
    };
    let online = made(&["alice", "--role", "operator", "--days", "30"]);
    assert_eq!(
        (asks(&relay, &online, "/api/v1/status"), asks(&relay, &online, "/api/v1/tokens")),
        (200, 403)
    );
    let taken = place.command(&["admin-token", "make", "alice"]);
    assert!(taken.stderr.contains("there is a token 'alice' already"), "{taken:?}");
    relay.stop();

    let offline = made(&["robot"]);
    place.command(&["admin-token", "revoke", "alice"]).succeeded();
    let last = place.command(&["admin-token", "revoke", "admin"]);
    assert!(last.stderr.contains("the last token with the role administrator"), "{last:?}");
    let listed = place.command(&["admin-token", "list"]).succeeded().stdout;
    assert!(listed.contains("robot") && listed.contains("viewer") && !listed.contains("alice"), "{listed}");
    let relay = place.serve(&[]);
    assert_eq!(
        (asks(&relay, &offline, "/api/v1/status"), asks(&relay, &online, "/api/v1/status")),
        (200, 401)
    );
    assert_eq!(place.command(&["admin-token", "list"]).succeeded().stdout, listed);
    place.command(&["admin-token", "revoke", "robot"]).succeeded();
    assert_eq!(asks(&relay, &offline, "/api/v1/status"), 401);
    let wrong = place.command(&["admin-token", "make", "Bad Name"]);
    assert_eq!(wrong.status.code(), Some(2));
    relay.stop();
}
