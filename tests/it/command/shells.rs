//! What shells and `man` are given: completions that a real bash completes by, and pages that a real man formats (R11.1).

use std::fs;
use std::process::Command;

use crate::process::{forebay, run, tool};
use crate::served::WITHIN;

/// What bash offers for a line, by what the program printed.
const COMPLETED: &str = r#"
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
_forebay forebay "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\n' "${COMPREPLY[@]}"
"#;

#[test]
fn bash_completes_commands_options_and_values_by_what_is_printed() {
    let Some(bash) = tool("bash") else { return };
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("forebay");
    fs::write(&script, run(&mut forebay(["completions", "bash"]), WITHIN).succeeded().stdout).unwrap();
    let offers = |words: &[&str]| -> Vec<String> {
        let mut command = Command::new(&bash);
        command.args(["--norc", "-c", COMPLETED, "bash"]).arg(&script).args(words);
        run(&mut command, WITHIN).succeeded().stdout.lines().map(str::to_owned).collect()
    };
    assert_eq!(offers(&["forebay", "dom"]), ["domains"]);
    assert_eq!(offers(&["forebay", "agents", "re"]), ["remove", "revoke", "readmit"]);
    assert_eq!(offers(&["forebay", "agents", "list", "--uns"]), ["--unseen-for"]);
    assert_eq!(offers(&["forebay", "agents", "list", "--ur"]), ["--url"]);
    assert_eq!(
        offers(&["forebay", "agents", "list", "--scope", ""]),
        ["patterns", "patterns-engines-drivers", "all"]
    );
    assert_eq!(offers(&["forebay", "settings", "set", "root", "--apply-to", "f"]), ["future"]);
}

#[test]
fn each_shell_that_is_there_reads_its_completions() {
    for (shell, checks) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        let printed = run(&mut forebay(["completions", shell]), WITHIN).succeeded().stdout;
        assert!(printed.contains("admin-token") && printed.contains("unseen-for"), "{shell}");
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("forebay");
        fs::write(&script, printed).unwrap();
        // Only bash is on every machine that this is built on.
        let found =
            std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|dir| dir.join(shell).is_file());
        if found {
            run(Command::new(shell).arg(checks).arg(&script), WITHIN).succeeded();
        }
    }
    assert_eq!(run(&mut forebay(["completions", "csh"]), WITHIN).status.code(), Some(2));
}

#[test]
fn man_formats_a_page_for_each_command_without_a_complaint() {
    let folder = tempfile::tempdir().unwrap();
    run(forebay(["man"]).arg(folder.path().join("man1")), WITHIN).succeeded();
    let pages: Vec<_> =
        fs::read_dir(folder.path().join("man1")).unwrap().map(|page| page.unwrap().path()).collect();
    let named = |name: &str| pages.iter().any(|page| page.file_name().unwrap() == name);
    assert!(named("forebay.1") && named("forebay-agents-list.1") && named("forebay-why.1"), "{pages:?}");
    let alone = run(&mut forebay(["man"]), WITHIN).succeeded().stdout;
    assert!(alone.contains(".TH forebay 1"), "{alone}");
    let Some(groff) = tool("groff") else { return };
    for page in pages {
        let mut format = Command::new(&groff);
        let formatted = run(format.args(["-man", "-Tutf8", "-ww", "-z"]).arg(&page), WITHIN).succeeded();
        assert_eq!(formatted.stderr, "", "{}", page.display());
    }
}
