//! Files that are no agent tree: each is refused with its name and the lines, and nothing is changed.

use std::fs;
use std::time::Instant;

use super::{FLEET, apply, export, place, refused, tree};

#[test]
fn files_that_are_no_agent_tree_are_refused_with_their_lines_and_change_nothing() {
    let place = place();
    let relay = place.serve_ready();
    apply(&place, FLEET, &["--yes"]).succeeded();
    let kept = export(&place);
    let deep = (1..=17).map(|level| level.to_string()).collect::<Vec<_>>().join("/");
    for (text, words) in [
        (format!("{FLEET}[[domain]]\npath = \"Branches\"\n"), "domain.path = Branches: stands in line "),
        (
            format!("{FLEET}[[agent]]\nid = \"pc-1\"\ndomain = \"Branches\"\n"),
            "agent.id = pc-1: stands in line ",
        ),
        (
            format!("{FLEET}[[range]]\nfrom = \"10.0.0.0/8\"\ndomain = \"Branches\"\n"),
            "range.from = 10.0.0.0/8: stands in",
        ),
        (
            format!("{FLEET}[[domain]]\npath = \"Gone/North\"\n"),
            "there is no [[domain]] with the path \"Gone\"",
        ),
        (format!("[[domain]]\npath = \"{deep}\"\n"), "17 domains deep, 16 at most are allowed"),
        (
            "[[domain]]\npath = \"A/B\"\nid = 1\n[[domain]]\npath = \"B/A\"\nid = 1\n".to_owned(),
            "domain.id = 1: stands in line 1",
        ),
        (format!("x = {}", "[".repeat(100_000)), "not valid TOML"),
        (
            "[[agent]]\nid = 7\ndomain = [\"a\"]\nvalues = \"all\"\n".to_owned(),
            "agent.id = 7: invalid type: integer",
        ),
        ("domain = \"A\"\n".to_owned(), "domain: of type string; allowed: tables, each as [[domain]]"),
        ("\u{1b}[2J = 1\n".to_owned(), "not valid TOML"),
    ] {
        let ended = apply(&place, &text, &["--yes"]);
        let reasons = refused(&ended);
        assert!(reasons.contains("fleet.toml: line ") && reasons.contains(words), "{words} in:\n{reasons}");
        assert!(!reasons.chars().any(|letter| letter.is_control() && letter != '\n'), "{reasons:?}");
        assert_eq!(ended.stdout, "");
    }
    let file = place.path("junk.toml");
    for (junk, words) in [
        (vec![b'['; 64 << 20], "not valid TOML"),
        (vec![b'\n'; (64 << 20) + 1], "an agent tree has at most 67108864 bytes"),
        (vec![0xff; 1000], "the text is not UTF-8"),
    ] {
        fs::write(&file, junk).unwrap();
        let begun = Instant::now();
        let ended = tree(&place, &["apply", file.to_str().unwrap(), "--yes"]);
        assert!(refused(&ended).contains(words), "{ended:?}");
        println!("{words}: {:?}", begun.elapsed());
    }
    assert_eq!(export(&place), kept);
    relay.stop();
}

#[test]
fn paths_that_go_in_circles_by_ids_are_the_domains_turned_inside_out() {
    let place = place();
    apply(&place, "[[domain]]\npath = \"A\"\n[[domain]]\npath = \"A/B\"\n", &["--yes"]).succeeded();
    let turned = "[[domain]]\npath = \"B\"\nid = 2\n[[domain]]\npath = \"B/A\"\nid = 1\n";
    let made = apply(&place, turned, &["--yes"]).succeeded().stdout;
    assert_eq!(made, "2 domains changed\ndomain B/A: was A\ndomain B: was A/B\ndone: change 2\n");
    let swapped = "[[domain]]\npath = \"A\"\nid = 2\n[[domain]]\npath = \"A/B\"\nid = 1\n";
    apply(&place, swapped, &["--yes"]).succeeded();
    assert!(
        export(&place).ends_with("[[domain]]\npath = \"A\"\nid = 2\n\n[[domain]]\npath = \"A/B\"\nid = 1\n")
    );
}
