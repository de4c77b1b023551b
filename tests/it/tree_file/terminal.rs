//! At a terminal somebody is asked, and a change that came between is shown before anything is made.

use std::path::Path;
use std::process::Command;

use super::{FLEET, apply, export, file, place};
use crate::process::{Ended, run, tool};
use crate::served::{Place, WITHIN};

/// Runs a command at a terminal of its own. Each time that it asks, a command is run where one is given, then it is answered.
const TERMINAL: &str = "
import json, os, pty, subprocess, sys
steps, command = json.loads(sys.argv[1]), sys.argv[2:]
child, terminal = pty.fork()
if child == 0:
    os.execv(command[0], command)
seen, asked = b'', 0
while True:
    try:
        some = os.read(terminal, 4096)
    except OSError:
        break
    if not some:
        break
    seen += some
    while seen.count(b'[y/N] ') > asked:
        first, answer = steps[asked]
        if first:
            subprocess.run(first, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        os.write(terminal, answer.encode())
        asked += 1
sys.stdout.write(seen.decode().replace('\\r\\n', '\\n'))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
";

type Steps<'a> = [(Vec<&'a str>, &'a str)];

/// A command that runs `forebay` with these arguments so; more may follow.
pub(crate) fn typed_at(python: &Path, steps: &Steps<'_>, arguments: &[&str]) -> Command {
    let mut command = Command::new(python);
    command.args(["-c", TERMINAL, &serde_json::to_string(steps).unwrap(), env!("CARGO_BIN_EXE_forebay")]);
    command.args(arguments);
    command
}

fn at_terminal(python: &Path, place: &Place, steps: &Steps<'_>) -> Ended {
    let file = file(place, "asked.toml", FLEET);
    let mut command = typed_at(python, steps, &["tree", "apply"]);
    command.arg(file).arg("--config").arg(place.config());
    if place.token_file().is_file() {
        command.arg("--token-file").arg(place.token_file());
    }
    run(&mut command, WITHIN)
}

#[test]
fn only_a_clear_yes_is_one() {
    let Some(python) = tool("python3") else { return };
    let place = place();
    for answer in ["n\n", "\n", "yess\n", "\u{4}"] {
        let ended = at_terminal(&python, &place, &[(vec![], answer)]);
        assert_eq!(ended.status.code(), Some(1), "{answer:?}: {ended:?}");
        assert!(ended.stdout.contains("agent pc-1: added to Branches/North"), "{ended:?}");
        assert!(ended.stdout.contains("forebay: nothing was changed\n"), "{ended:?}");
        assert!(!export(&place).contains('['));
    }
    let ended = at_terminal(&python, &place, &[(vec![], "y\n")]).succeeded();
    assert!(ended.stdout.ends_with("done: change 1\n"), "{ended:?}");
}

#[test]
fn a_change_that_came_between_is_shown_and_asked_for_again_r5_4() {
    let Some(python) = tool("python3") else { return };
    let place = place();
    let relay = place.serve_ready();
    apply(&place, FLEET, &["--yes"]).succeeded();
    let other = FLEET.replace("\"pc-1\"", "\"pc-9\"");
    let other = file(&place, "other.toml", &other);
    apply(&place, "root.update_now = true", &["--yes"]).succeeded();
    let config = place.config();
    let first =
        [env!("CARGO_BIN_EXE_forebay"), "tree", "apply", other.to_str().unwrap(), "--yes", "--config"];
    let token = place.token_file();
    let named = [config.to_str().unwrap(), "--token-file", token.to_str().unwrap()];
    let first = [&first[..], &named[..]].concat();
    let ended = at_terminal(&python, &place, &[(first.clone(), "y\n"), (vec![], "n\n")]);
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let (before, after) =
        ended.stdout.split_once("somebody else changed the agent tree after change 2.").unwrap();
    assert!(before.contains("agent pc-1: added") && !before.contains("pc-9"), "{ended:?}");
    assert!(after.contains("agent pc-9: REMOVED from Branches/North"), "{ended:?}");
    assert!(export(&place).contains("pc-9"), "what the other made stays");
    let ended = at_terminal(&python, &place, &[(vec![], "y\n")]).succeeded();
    assert!(ended.stdout.ends_with("done: change 4\n"), "{ended:?}");
    relay.stop();
}
