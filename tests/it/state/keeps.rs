//! What a restart finds, what the audit log says, and what becomes of old snapshots and journals.

use std::fs;
use std::path::Path;

use forebay::disk::Disk;
use forebay::policy::scope::Scope;
use forebay::policy::tree::change::{Action, Reach};
use forebay::state::ChangeError;
use forebay::state::record::Serial;
use serde_json::Value;
use tempfile::TempDir;

use super::{OFTEN, after, agent, author, check, domain, make_next, open, opened, scoped};

fn names(folder: &Path, kind: &str) -> Vec<u64> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut numbers: Vec<_> =
        names.filter_map(|name| name.strip_suffix(kind)?.strip_suffix('.')?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

/// Lines of a journal, without their checksums.
fn records(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line.split_once(' ').unwrap().1).unwrap()).collect()
}

#[test]
fn a_restart_finds_every_change_and_nothing_that_was_refused_r5_4() {
    let folder = TempDir::new().unwrap();
    let state = opened(folder.path());
    for _ in 0..30 {
        make_next(&state).unwrap();
    }
    let bad = vec![
        Action::SetRoot { reach: Reach::AllAgents, patch: scoped(Scope::Patterns) },
        Action::MoveAgents { agents: vec![agent(77)], to: domain(2) },
    ];
    let refused = state.change(author(), bad).unwrap().wait().unwrap_err();
    assert!(matches!(&refused, ChangeError::Refused(_)));
    assert_eq!(refused.to_string(), "there is no agent 'a77'");
    let nothing = Action::MoveAgents { agents: vec![agent(2)], to: domain(1) };
    let nothing = state.change(author(), vec![nothing]).unwrap().wait().unwrap();
    assert_eq!(nothing.serial, None, "what changes nothing is not written");
    assert_eq!(state.current().tree(), &after(30));
    drop(state);
    assert_eq!(records(&folder.path().join("0.journal")).len(), 30);
    assert_eq!(check(folder.path()), 30);
}

#[test]
fn a_record_says_who_when_what_before_and_after_r11_2() {
    let folder = TempDir::new().unwrap();
    let state = opened(folder.path());
    for _ in 0..7 {
        make_next(&state).unwrap();
    }
    let patch = scoped(Scope::All);
    let change = vec![Action::SetRoot { reach: Reach::AllAgents, patch }];
    let done = state.change(author(), change).unwrap().wait().unwrap();
    assert_eq!(done.serial, Some(Serial(8)));
    drop(state);
    let record = records(&folder.path().join("0.journal")).pop().unwrap();
    assert_eq!(record["who"], "a test");
    assert!(record["at"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    assert_eq!(record["what"], serde_json::json!(["change scope for all agents"]));
    assert_eq!(
        record["changed"],
        serde_json::json!([
            {"root": {"before": {}, "after": {"scope": "all"}}},
            {"agent": {
                "id": "a7",
                "before": {"domain": 2, "values": {"scope": "patterns-engines-drivers"}},
                "after": {"domain": 2},
            }},
        ])
    );
}

#[test]
fn old_journals_and_snapshots_go_and_no_change_with_them_r5_4() {
    let folder = TempDir::new().unwrap();
    let mut changes = 0;
    for _ in 0..4 {
        let state = open(folder.path(), &Disk::default(), OFTEN).unwrap();
        for _ in 0..40 {
            make_next(&state).unwrap();
        }
        drop(state);
        changes += 40;
        assert_eq!(opened(folder.path()).current().tree(), &after(changes));
    }
    let (snapshots, journals) = (names(folder.path(), "snapshot"), names(folder.path(), "journal"));
    assert_eq!(snapshots.len(), 2);
    assert!(snapshots.iter().all(|serial| journals.contains(serial)), "{snapshots:?} {journals:?}");
    assert!(journals[0] > 0, "the oldest are gone: {journals:?}");
    let bytes = |serial| fs::metadata(folder.path().join(format!("{serial}.journal"))).unwrap().len();
    let audit: Vec<_> = journals.into_iter().filter(|serial| *serial < snapshots[0]).collect();
    assert!(audit.len() > 1 && audit.iter().copied().map(bytes).sum::<u64>() <= OFTEN.audit_bytes_max);
}

/// A folder with two snapshots and what lies around them; which snapshots, and how many changes there were.
#[test]
fn what_it_takes_on_the_disk_is_what_its_files_have_r1_8() {
    let folder = TempDir::new().unwrap();
    let in_files = || -> u64 {
        let entries = fs::read_dir(folder.path()).unwrap().map(Result::unwrap);
        entries
            .filter(|entry| entry.file_type().unwrap().is_file())
            .map(|entry| entry.metadata().unwrap().len())
            .sum()
    };
    let state = opened(folder.path());
    for _ in 0..3 {
        make_next(&state).unwrap();
        assert_eq!(state.bytes(), in_files());
    }
    drop(state);
    let state = open(folder.path(), &Disk::default(), OFTEN).unwrap();
    assert_eq!(state.bytes(), in_files());
    for _ in 0..100 {
        make_next(&state).unwrap();
    }
    drop(state);
    assert!(!names(folder.path(), "snapshot").is_empty());
    assert_eq!(opened(folder.path()).bytes(), in_files());
}

fn with_snapshots() -> (TempDir, Vec<u64>, u64) {
    let folder = TempDir::new().unwrap();
    let mut changes = 0;
    let mut make = || {
        let state = open(folder.path(), &Disk::default(), OFTEN).unwrap();
        make_next(&state).unwrap();
        changes += 1;
    };
    while names(folder.path(), "snapshot").len() < 2 {
        make();
    }
    make();
    let snapshots = names(folder.path(), "snapshot");
    (folder, snapshots, changes)
}

#[test]
fn a_damaged_snapshot_gives_way_to_the_one_before_it_and_the_changes_since_r5_4() {
    for damage in [|text: &mut Vec<u8>| text[100] ^= 1, |text: &mut Vec<u8>| text.truncate(300), Vec::clear] {
        let (folder, snapshots, changes) = with_snapshots();
        let path = folder.path().join(format!("{}.snapshot", snapshots[1]));
        let mut text = fs::read(&path).unwrap();
        damage(&mut text);
        fs::write(&path, &text).unwrap();
        assert_eq!(check(folder.path()), changes);
        assert_eq!(
            names(folder.path(), "snapshot"),
            snapshots[..1],
            "it counts as none of those that are kept"
        );
        let aside = folder.path().join(format!("{}.snapshot.damaged", snapshots[1]));
        assert_eq!(fs::read(aside).unwrap(), text);
    }
}

/// A whole line less is damage too.
#[test]
fn a_snapshot_that_lacks_a_line_is_damaged_r5_4() {
    let (folder, snapshots, changes) = with_snapshots();
    let path = folder.path().join(format!("{}.snapshot", snapshots[1]));
    let text = fs::read_to_string(&path).unwrap();
    let last = text.trim_end().rfind('\n').unwrap();
    fs::write(&path, &text[..=last]).unwrap();
    assert_eq!(check(folder.path()), changes);
}

#[test]
fn what_is_missing_refuses_to_start_and_says_how_to_go_on_r5_4() {
    let refused = |folder: &Path| {
        let error = open(folder, &Disk::default(), OFTEN).unwrap_err().to_string();
        assert!(error.contains("back from a copy"), "{error}");
        error
    };
    let (folder, snapshots, changes) = with_snapshots();
    let newest = folder.path().join(format!("{}.journal", snapshots[1]));
    fs::rename(&newest, newest.with_extension("away")).unwrap();
    assert!(refused(folder.path()).contains(&format!("{}.journal", snapshots[1])));
    fs::rename(newest.with_extension("away"), newest).unwrap();
    for serial in &snapshots {
        fs::write(folder.path().join(format!("{serial}.snapshot")), "").unwrap();
    }
    // The first journal is still there: all can be played again.
    assert_eq!(opened(folder.path()).current().tree(), &after(changes));
    fs::remove_file(folder.path().join("0.journal")).unwrap();
    refused(folder.path());
}

/// A record as a line of a journal.
fn line(record: &Value) -> String {
    let text = serde_json::to_string(record).unwrap();
    format!("{} {text}\n", &blake3::hash(text.as_bytes()).to_hex()[..16])
}

#[test]
fn whole_records_that_do_not_follow_each_other_are_refused_r5_4() {
    let folder = TempDir::new().unwrap();
    let state = opened(folder.path());
    (0..3).for_each(|_| drop(make_next(&state).unwrap()));
    drop(state);
    let path = folder.path().join("0.journal");
    let mut records = records(&path);
    let write = |records: &[Value]| fs::write(&path, records.iter().map(line).collect::<String>()).unwrap();
    let refused = || open(folder.path(), &Disk::default(), OFTEN).unwrap_err().to_string();
    write(&[records[0].clone(), records[2].clone()]);
    assert!(refused().contains("line 2 of"), "{}", refused());
    assert!(refused().contains("is change 3, where 2 is due"), "{}", refused());
    write(&[records[0].clone(), records[1].clone(), records[1].clone()]);
    assert!(refused().contains("is change 2, where 3 is due"), "{}", refused());
    // Numbered as if it followed, it does again what is done.
    records[2]["changed"] = records[1]["changed"].clone();
    write(&records);
    assert!(refused().contains("has a change of agent 'a1000002' does not fit"), "{}", refused());
}
