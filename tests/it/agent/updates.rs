//! Updates one after the other: what is taken, what stays, what the relay hears.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use forebay::agent::progress::Progress;
use forebay::agent::relay::Went;
use forebay::agent::{Asked, OpenError, SwitchError, Takes, Updater};
use forebay::base::tally;
use forebay::base::tree::TreeName;
use forebay::config::agent::{AfterUpdate, Settings};
use forebay::disk::{Disk, Step, Verdict, When};
use forebay::manifest::catalogue::Pattern;
use forebay::policy::check_in::Why;
use forebay::policy::scope::Scope;
use forebay::policy::tree::change::Action;
use forebay::policy::tree::file::FileName;
use forebay::policy::tree::setting::Values;
use forebay::policy::tree::value::{Enforce, Switch};
use forebay::state::record::Author;

use super::machine::{ID, Machine, open};
use crate::agents::{agent, change, domain, token};
use crate::relay::settings;
use crate::served::FIXTURE;
use crate::site::{self, Site, increment};

#[test]
fn an_agent_takes_each_release_as_a_whole_and_says_so_r9() {
    let mut machine = Machine::enrolled();
    machine.set(Values { enforce: Some(Enforce::Strict), ..Values::default() });
    let first = machine.update(Why::Start);
    assert_eq!(first.ended().result, Went::Updated);
    assert_eq!(first.files().len(), 2, "{:?}", first.files());
    machine.check_has(1);
    assert_eq!(machine.update(Why::Start).ended().result, Went::UpToDate);
    let engine = |machine: &Machine| fs::metadata(machine.current(site::ENGINE)).unwrap().ino();
    let before = engine(&machine);

    machine.publish(2, &[1]);
    let second = machine.update(Why::Schedule);
    assert_eq!(second.files(), ["P.4 pattern/a2.zip from 0"], "without a merge command the package comes");
    machine.check_has(2);
    assert_eq!(engine(&machine), before, "what is unchanged is the same file");
    let sets = || {
        let entries = fs::read_dir(machine.folder().join("versions")).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(sets(), ["1", "2"]);
    machine.publish(3, &[]);
    machine.update(Why::Start).ended();
    assert_eq!(sets(), ["2", "3"], "one is kept for who still reads it");
    assert_eq!(fs::read_dir(machine.folder().join("staging")).unwrap().count(), 0);

    let heard = machine.relay.handle().agents().unwrap().seen().heard(&agent(ID)).unwrap();
    assert_eq!(heard.versions["P.4"].as_ref(), "3");
    let since = open(machine.settings()).installed().unwrap().since();
    assert_eq!(*heard.since, *since.into_values().collect::<Vec<_>>(), "as the agent has it");
    assert_eq!(heard.versions["E.4"].as_ref(), "1.0.1");
    assert_eq!(heard.reported.unwrap().went, tally::Went::Updated);
}

#[test]
fn an_increment_is_applied_by_the_merge_program_and_the_package_stands_in_where_that_fails() {
    let machine = Machine::enrolled();
    machine.update(Why::Start).ended();
    machine.publish(2, &[1]);
    let merging = |text: &str| Settings { merge: Some(machine.script("merge", text)), ..machine.settings() };
    let told = machine.update_with(merging("cat \"$1\" \"$2\" > \"$3\""), Why::Start);
    assert_eq!(told.files(), ["P.4 pattern/a_1.2 from 0"]);
    let expected = [site::bytes("pattern/a1.zip", 1), site::bytes(&increment(1, 2), 2)].concat();
    assert!(fs::read(machine.current("pattern/a2.zip")).unwrap() == expected);
    let updater = open(machine.settings());
    let has =
        updater.installed().unwrap().components.into_iter().find(|has| &*has.component == "P.4").unwrap();
    assert!(has.merged && !has.signed && &*has.version == "2", "{has:?}");
    drop(updater);
    assert_eq!(machine.update(Why::Start).ended().result, Went::UpToDate, "what was merged is current");
}

#[test]
fn where_an_increment_cannot_be_applied_the_package_is_taken() {
    for failing in ["exit 7", ": > \"$3\"", "ln -s /etc/passwd \"$3\"", "true"] {
        let machine = Machine::enrolled();
        machine.update(Why::Start).ended();
        machine.publish(2, &[1]);
        let merge = Some(machine.script("merge", failing));
        let told = machine.update_with(Settings { merge, ..machine.settings() }, Why::Start);
        assert_eq!(told.ended().result, Went::Updated, "{failing}");
        assert_eq!(told.files(), ["P.4 pattern/a_1.2 from 0", "P.4 pattern/a2.zip from 0"], "{failing}");
        assert!(told.progress.iter().any(|said| matches!(said, Progress::NotMerged { .. })), "{failing}");
        machine.check_has(2);
    }
}

#[test]
fn each_scope_has_its_classes_and_no_other_r6_1() {
    let mut machine = Machine::on(Site::new(), settings(FIXTURE));
    machine.enrol();
    for (scope, pattern, engine, program) in [
        (Scope::Patterns, true, false, false),
        (Scope::PatternsEnginesDrivers, true, true, false),
        (Scope::All, true, true, true),
    ] {
        machine.set(Values { scope: Some(scope), ..Values::default() });
        assert_eq!(machine.update(Why::Start).ended().result, Went::Updated, "{scope}");
        let there = |folder: &str| machine.current(folder).is_dir();
        assert_eq!(
            (there("pattern"), there("engine"), there("product")),
            (pattern, engine, program),
            "{scope}"
        );
    }
    let has = open(machine.settings()).installed().unwrap();
    assert!(has.components.len() > 10, "{}", has.components.len());
    for has in &has.components {
        let served = fs::read(format!("{FIXTURE}/{}", has.path)).unwrap();
        assert!(fs::read(machine.current(has.path.as_str())).unwrap() == served, "{}", has.path);
    }
}

#[test]
fn components_that_a_machine_does_not_want_are_left_out() {
    let machine = Machine::enrolled();
    let components = Some(vec![Pattern::parse("E.*").unwrap()]);
    let told = machine.update_with(Settings { components, ..machine.settings() }, Why::Start);
    assert_eq!(told.files(), ["E.4 engine/e1.zip from 0"]);
    assert!(!machine.current("pattern").exists());
    let trees = Some(vec![TreeName::parse("other").unwrap()]);
    let told = machine.update_with(Settings { trees, ..machine.settings() }, Why::Start);
    assert_eq!(told.ended().result, Went::UpToDate);
}

#[test]
fn what_the_user_may_not_is_refused_with_the_reason_r8() {
    let mut machine = Machine::enrolled();
    let denied = machine.update(Why::UpdateNow);
    assert_eq!(denied.denied(), "its user has not the privilege to update now");
    assert!(!machine.folder().join("current").exists());
    let switch = |machine: &Machine, to| {
        let updater = open(machine.settings());
        machine.block_on(updater.switch_schedule(to))
    };
    let refused = switch(&machine, Switch::Off).unwrap_err();
    assert!(matches!(refused, SwitchError::Privilege), "{refused}");

    let on = Some(Switch::On);
    machine.set(Values { update_now: on, toggle_schedule: on, ..Values::default() });
    assert_eq!(machine.update(Why::UpdateNow).ended().result, Went::Updated);
    switch(&machine, Switch::Off).unwrap();
    assert_eq!(machine.update(Why::Schedule).denied(), "its user has switched scheduled updates off");
    let heard = machine.relay.handle().agents().unwrap().seen().heard(&agent(ID)).unwrap();
    assert_eq!(heard.schedule, Switch::Off, "the switch is reported");
    switch(&machine, Switch::On).unwrap();
    assert_eq!(machine.update(Why::Schedule).ended().result, Went::UpToDate);

    let off = Some(Switch::Off);
    machine.set(Values { update_now: on, scheduled_updates: off, ..Values::default() });
    machine.update(Why::UpdateNow).ended();
    let refused = switch(&machine, Switch::Off).unwrap_err();
    assert!(matches!(refused, SwitchError::NoSchedule), "{refused}");
}

#[test]
fn roaming_agents_neither_update_at_the_start_nor_scan_r9_1() {
    let mut machine = Machine::enrolled();
    machine.set(Values { scan_after_update: Some(Switch::On), ..Values::default() });
    let scans = || fs::read_to_string(machine.folder().join("scans")).unwrap_or_default();
    let scan =
        machine.script("scan", &format!("echo scan >> '{}'", machine.folder().join("scans").display()));
    let with = |roaming| Settings { roaming, scan: Some(scan.clone()), ..machine.settings() };
    let denied = machine.update_with(with(Switch::On), Why::Start);
    assert_eq!(denied.denied(), "it is roaming: it is not to update when it starts");
    assert_eq!(machine.update_with(with(Switch::On), Why::Schedule).ended().result, Went::Updated);
    assert_eq!(scans(), "");
    machine.publish(2, &[]);
    assert_eq!(machine.update_with(with(Switch::Off), Why::Start).ended().result, Went::Updated);
    assert_eq!(scans(), "scan\n");
    machine.update_with(with(Switch::Off), Why::Start).ended();
    assert_eq!(scans(), "scan\n", "nothing was new");
}

#[test]
fn settings_files_come_and_go_as_administrators_have_it_r5_6() {
    let mut machine = Machine::enrolled();
    let put = |machine: &mut Machine, name: &str, text: Option<&[u8]>| {
        let agents = machine.relay.handle().agents().unwrap();
        let content = text.map(|text| agents.state().contents().put(text).unwrap());
        let name = FileName::parse(name).unwrap();
        change(&mut machine.relay, vec![Action::PutFile { domain: Some(domain(1)), name, content }]);
    };
    put(&mut machine, "a.conf", Some(b"one"));
    put(&mut machine, "a.conf.new", Some(b"beside"));
    machine.update(Why::Start).ended();
    let read = |name: &str| fs::read(machine.folder().join("files").join(name)).ok();
    assert_eq!((read("a.conf"), read("a.conf.new")), (Some(b"one".to_vec()), Some(b"beside".to_vec())));
    let mode = fs::metadata(machine.folder().join("files/a.conf")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    put(&mut machine, "a.conf", Some(b"two"));
    put(&mut machine, "a.conf.new", None);
    let updater = open(machine.settings());
    let ask = |takes| Asked { takes, ..Asked::everything(Why::Schedule) };
    let told = machine.update_by(&updater, ask(Takes::Components));
    assert_eq!(told.ended().result, Went::UpToDate);
    assert_eq!(fs::read(machine.folder().join("files/a.conf")).unwrap(), b"one");
    let told = machine.update_by(&updater, ask(Takes::AgentSettings));
    assert_eq!(told.ended().result, Went::Updated);
    let said = |version| Progress::SettingsFile { name: FileName::parse("a.conf").unwrap(), version };
    assert!(told.progress.contains(&said(Some(2))), "{:?}", told.progress);
    assert_eq!(fs::read(machine.folder().join("files/a.conf")).unwrap(), b"two");
    assert!(!machine.folder().join("files/a.conf.new").exists());

    // Where the relay serves no settings, what is there stays.
    machine.set(Values { relay_serves_settings: Some(Switch::Off), ..Values::default() });
    machine.update_by(&updater, ask(Takes::AgentSettings)).ended();
    assert_eq!(fs::read(machine.folder().join("files/a.conf")).unwrap(), b"two");
}

#[test]
fn a_command_runs_for_each_new_component_and_one_that_failed_is_reported_and_runs_again() {
    let mut machine = Machine::enrolled();
    let log = machine.folder().join("log");
    let run = machine.script(
        "apply",
        &format!(
            "echo \"$FOREBAY_COMPONENT $FOREBAY_VERSION\" >> '{log}'\ntest -f \"$FOREBAY_FILE\"\ntest ! -e '{folder}/broken'",
            log = log.display(),
            folder = machine.folder().display()
        ),
    );
    let components = vec![Pattern::parse("P.*").unwrap()];
    let settings = || Settings {
        commands: vec![AfterUpdate { components: components.clone(), run: run.clone() }],
        ..machine.settings()
    };
    let ran = || fs::read_to_string(&log).unwrap_or_default();
    assert_eq!(machine.update_with(settings(), Why::Start).ended().result, Went::Updated);
    assert_eq!(ran(), "P.4 1\n");
    machine.update_with(settings(), Why::Start).ended();
    assert_eq!(ran(), "P.4 1\n", "nothing was new");

    fs::write(machine.folder().join("broken"), "").unwrap();
    machine.publish(2, &[]);
    let failed = machine.update_with(settings(), Why::Start);
    assert_eq!(failed.ended().result, Went::Failed);
    machine.check_has(2);
    let detail = &failed.ended().detail;
    assert!(detail.contains("P.4") && detail.contains("exit status: 1"), "{detail}");
    fs::remove_file(machine.folder().join("broken")).unwrap();
    assert_eq!(machine.update_with(settings(), Why::Start).ended().result, Went::UpToDate);
    assert_eq!(ran(), "P.4 1\nP.4 2\nP.4 2\n");
    let heard = machine.relay.handle().agents().unwrap().seen().heard(&agent(ID)).unwrap();
    assert_eq!(heard.reported.unwrap().went, tally::Went::UpToDate);
}

#[test]
fn what_a_verifier_refuses_is_not_installed_and_comes_anew() {
    let machine = Machine::enrolled();
    let good = machine.script("verify", "test -s \"$1\" -a -s \"$2\"");
    let told = machine.update_with(Settings { verify: Some(good.clone()), ..machine.settings() }, Why::Start);
    assert_eq!(told.ended().result, Went::Updated);
    machine.publish(2, &[]);
    let bad = machine.script("refuse", "exit 1");
    let told = machine.update_with(Settings { verify: Some(bad), ..machine.settings() }, Why::Start);
    assert_eq!(told.ended().result, Went::Failed);
    assert!(told.ended().detail.contains("it is refused"), "{}", told.ended().detail);
    machine.check_has(1);
    let told = machine.update_with(Settings { verify: Some(good), ..machine.settings() }, Why::Start);
    assert_eq!(told.files(), ["P.4 pattern/a2.zip from 0"], "what was refused is not gone on with");
    machine.check_has(2);
}

#[test]
fn a_report_that_the_relay_did_not_hear_comes_after_the_next_check_in() {
    let mut machine = Machine::enrolled();
    let agents = machine.relay.handle().agents().unwrap();
    let by = || Author::parse("a test").unwrap();
    // Shut out once the new set is there, the agent is refused with its report.
    let revoked = agents.clone();
    let disk = Disk::with_seam(move |when, step| {
        if when == When::After && matches!(step, Step::Rename(_, to) if to.ends_with("current")) {
            let actions = vec![Action::Revoke { agents: vec![agent(ID)] }];
            revoked.state().change(by(), actions).unwrap().wait().unwrap();
        }
        Verdict::Done
    });
    let updater = machine.updater_on(machine.settings(), disk);
    assert_eq!(machine.update_by(&updater, Asked::everything(Why::Start)).ended().result, Went::Updated);
    drop(updater);
    let reports = |machine: &mut Machine| {
        let tally = machine.relay.handle().tally().unwrap();
        [tally::Went::Updated, tally::Went::UpToDate].map(|went| tally.reports(went))
    };
    assert_eq!(reports(&mut machine), [0, 0]);
    change(&mut machine.relay, vec![Action::Readmit { agents: vec![agent(ID)] }]);
    fs::remove_file(machine.folder().join("token")).unwrap();
    machine.enrol();
    machine.update(Why::Start).ended();
    assert_eq!(reports(&mut machine), [1, 1]);
    machine.update(Why::Start).ended();
    assert_eq!(reports(&mut machine), [1, 2], "it was heard once");
}

#[test]
fn a_folder_has_one_agent_and_a_token_that_is_its_owners_alone() {
    let machine = Machine::enrolled();
    let mode = fs::metadata(machine.folder().join("token")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let first = open(machine.settings());
    let second = Updater::open(machine.settings()).unwrap_err();
    assert!(
        matches!(second, OpenError::Folder(_)) && second.to_string().contains("another agent"),
        "{second}"
    );
    drop(first);
    fs::write(machine.folder().join("token"), "pc-1~hush").unwrap();
    let refused = Updater::open(machine.settings()).unwrap_err().to_string();
    assert!(!refused.contains("hush"), "{refused}");
    let other = Machine::new();
    let wrong = token("nobody");
    let updater = open(other.settings());
    let refused = other.block_on(updater.enrol(&wrong, None)).unwrap_err().to_string();
    assert!(refused.contains("enrolment") && !refused.contains(&wrong), "{refused}");
    assert!(!updater.is_enrolled());
}
