//! What is typed and what is printed: a fleet is made, shown, kept and changed, by a running relay and without one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::{FLEET, apply, export, file, place, refused, tree};
use crate::process::{forebay, run};
use crate::raw::Client;
use crate::served::{Place, WITHIN};

const DIFF: &str = "\
root changed, 2 domains added, 2 agents added, 1 enrolment added, 1 range added, 1 update source added, 1 settings file added
root: scope not set -> patterns
domain Branches/North: added, scope not set -> all
domain Branches: added
agent pc-1: added to Branches/North, gets a secret
agent pc-2: added to Branches
enrolment spring: added, 5 agents into Branches until 2100-01-01T00:00:00Z
range 10.0.0.0/8: added, of Branches
update source of 192.0.2.1-192.0.2.9: added, http://mirror.example/ (both)
settings file x.ini at Branches: added, 13 bytes
";

#[test]
fn what_is_exported_is_what_was_applied_with_a_relay_and_without_r5() {
    let place = place();
    // Without a relay.
    let made = apply(&place, FLEET, &["--yes"]).succeeded();
    assert_eq!(made.stdout, format!("{DIFF}done: change 1\n"));
    let kept = export(&place);
    assert!(
        kept.contains("\n[[domain]]\npath = \"Branches/North\"\nid = 2\nvalues.scope = \"all\"\n"),
        "{kept}"
    );
    assert!(kept.contains("text = \"\"\"\n[Global]\nx=1\n\"\"\"\n"), "{kept}");
    let again = apply(&place, &kept, &["--yes"]).succeeded();
    assert_eq!(again.stdout, "the agent tree is what the file says: nothing to change\n");

    // With one: the same tree, changed and kept.
    let relay = place.serve_ready();
    assert_eq!(export(&place), kept);
    apply(&place, &kept, &["--check"]).succeeded();
    let moved = kept.replace("Branches/North", "Branches/Nord").replace("x=1", "x=2");
    let made = apply(&place, &moved, &["--yes"]).succeeded();
    assert_eq!(
        made.stdout,
        "1 domain changed, 1 settings file changed\ndomain Branches/Nord: was Branches/North\n\
         settings file x.ini at Branches: 13 bytes -> 13 bytes\ndone: change 2\n"
    );
    let to = place.path("kept.toml");
    tree(&place, &["export", to.to_str().unwrap()]).succeeded();
    assert_eq!(fs::read_to_string(&to).unwrap(), moved);
    let mode = fs::metadata(&to).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "settings files may hold what not everybody may read");
    relay.wait_line("an administrator changes the agent tree");
    relay.stop();

    // It is there after the relay has gone, and an empty file removes it.
    assert_eq!(export(&place), moved);
    let gone = apply(&place, "", &["--yes"]).succeeded().stdout;
    assert!(
        gone.starts_with("root changed, 2 domains REMOVED, 2 agents REMOVED, 1 enrolment REMOVED, "),
        "{gone}"
    );
    assert!(!export(&place).contains('['), "{}", export(&place));

    let journal = fs::read_to_string(place.data().join("agents/0.journal")).unwrap();
    for words in [", by forebay tree apply\"", " with forebay tree apply, as admin, from 127.0.0.1\""] {
        assert!(journal.contains(words), "{words} in:\n{journal}");
    }
}

#[test]
fn check_shows_the_difference_changes_nothing_and_ends_with_what_it_found() {
    let place = place();
    for relay in [false, true] {
        let relay = relay.then(|| place.serve_ready());
        let checked = apply(&place, FLEET, &["--check"]);
        assert_eq!(refused(&checked), "forebay: the agent tree is not what the file says\n");
        assert_eq!(checked.stdout, DIFF);
        assert!(!export(&place).contains('['));
        apply(&place, "", &["--check"]).succeeded();
        relay.map(super::super::served::Served::stop);
    }
}

#[test]
fn nobody_is_asked_where_nobody_can_answer() {
    let place = place();
    let wanted = "forebay: nobody can be asked here: look at it with --check, then change it with --yes\n";
    assert_eq!(refused(&apply(&place, FLEET, &[])), wanted);
    assert_eq!(refused(&tree(&place, &["apply", "-"])), wanted);
    assert!(!export(&place).contains('['));
    // Standard input is the file.
    let script = format!(
        "\"$0\" tree apply - --yes --config {} < {}",
        place.config().display(),
        file(&place, "fleet.toml", FLEET).display()
    );
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &script]).arg(forebay([""]).get_program());
    assert_eq!(run(&mut command, WITHIN).succeeded().stdout, format!("{DIFF}done: change 1\n"));
    let both = apply(&place, FLEET, &["--yes", "--check"]);
    assert_eq!(both.status.code(), Some(2), "one or the other");
}

#[test]
fn a_folder_that_is_no_relays_is_left_alone() {
    let place = Place::new();
    place.configure("", super::FIXTURE, "");
    for ended in [apply(&place, FLEET, &["--yes"]), tree(&place, &["export"])] {
        assert!(refused(&ended).contains("is no data folder of a relay: name one with --data or --config"));
    }
    assert!(!place.data().exists());
    let missing = super::tree(&place, &["apply", "nowhere.toml", "--yes"]);
    assert!(refused(&missing).starts_with("forebay: nowhere.toml: No such file"), "{missing:?}");
}

#[test]
fn a_file_that_says_less_says_loudly_what_it_removes() {
    let place = place();
    apply(&place, FLEET, &["--yes"]).succeeded();
    let less =
        FLEET.replace("id = \"pc-2\"\ndomain = \"Branches\"\n\n", "id = \"pc-3\"\ndomain = \"Branches\"\n\n");
    let shown = apply(&place, &less, &["--check"]).stdout;
    assert_eq!(
        shown,
        "1 agent REMOVED, 1 agent added\nagent pc-2: REMOVED from Branches\nagent pc-3: added to Branches\n"
    );
}

#[test]
fn what_is_applied_decides_the_next_request_r5_r6() {
    const ENGINE: &str = "/activeupdate/engine/tsc/tsc64_v75-1186.zip";
    let place = place();
    let relay = place.serve_ready();
    let address = *relay.agents.iter().find(|address| address.is_ipv4()).unwrap();
    let mut open = Client::connect(address);
    let mut status = || open.exchange("GET", ENGINE, &[]).unwrap().head.status;
    assert_eq!(status(), 200, "while nobody is known, everybody has everything");
    let fleet = "[[range]]\nfrom = \"127.0.0.0/8\"\ndomain = \"A\"\n[[domain]]\npath = \"A\"\nvalues.scope = \"patterns\"\n";
    apply(&place, fleet, &["--yes"]).succeeded();
    assert_eq!(status(), 403, "on a connection that was open, too");
    apply(&place, &fleet.replace("patterns", "all"), &["--yes"]).succeeded();
    assert_eq!(status(), 200);
    relay.stop();
}
