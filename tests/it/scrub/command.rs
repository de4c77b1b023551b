//! `forebay scrub`: with a running relay and without, what it says and how it ends.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;

use super::{flip, quarantined};
use crate::process::{forebay, run};
use crate::raw;
use crate::served::{Place, WITHIN};
use crate::site;

const SIZE: usize = 1_500_000;
const BIG: &str = "/activeupdate/pattern/big.zip";

/// A relay's folder with one stored file.
fn ground() -> (Place, Vec<u8>, PathBuf) {
    let place = Place::new();
    let big = place.big_tree(SIZE);
    place.configure("", place.path("tree").to_str().unwrap(), "");
    let file = site::blob_file(&place.data(), &big);
    (place, big, file)
}

fn damaged(big: &[u8]) -> String {
    format!(
        "1 files checked, 1.43 MiB; 1 damaged\n\
         damaged: activeupdate/pattern/big.zip: its bytes are not those that were stored (blob {}, 1500000 bytes)\n",
        blake3::hash(big).to_hex()
    )
}

#[test]
fn a_running_relay_is_asked_and_the_exit_code_says_whether_files_were_damaged_r1_5() {
    let (place, big, file) = ground();
    let relay = place.serve_ready();
    let good = place.command(&["scrub"]).succeeded();
    assert_eq!((good.stdout.as_str(), good.stderr.as_str()), ("1 files checked, 1.43 MiB; 0 damaged\n", ""));
    flip(&file, 99);
    let mut command = forebay(["scrub", "--rate", "1 GiB", "--data"]);
    let bad = run(command.arg(place.data()).arg("--token-file").arg(place.token_file()), WITHIN);
    assert_eq!((bad.status.code(), bad.stdout), (Some(3), damaged(&big)));
    assert_eq!(
        bad.stderr,
        "forebay: damaged files are in quarantine and served no more; the relay fetches them anew\n"
    );
    let line = relay.wait_line("a stored file is damaged");
    let blob = blake3::hash(&big).to_hex();
    for words in ["ERROR", "activeupdate/pattern/big.zip", blob.as_str(), "its bytes are not those"] {
        assert!(line.contains(words), "{words} in {line}");
    }
    relay.wait_line("a damaged file was fetched anew");
    assert!(raw::fetch(relay.agents[0], BIG, &[]).whole(200) == big);
    let screen = place.command(&["status"]).succeeded().stdout;
    assert!(
        screen.contains("\nscrub      last ended 20") && screen.contains("1 files, 1.43 MiB, 1 damaged"),
        "{screen}"
    );
    let status: serde_json::Value = serde_json::from_str(&relay.ask("/api/v1/status")).unwrap();
    assert_eq!(status["scrub"]["ended"], 2);
    assert_eq!(status["scrub"]["last"]["found"][0]["files"][0], "activeupdate/pattern/big.zip");
    assert_eq!(place.command(&["scrub"]).succeeded().stdout, "1 files checked, 1.43 MiB; 0 damaged\n");
    relay.stop();
}

#[test]
fn without_a_relay_the_command_checks_the_folder_itself_r1_5() {
    let (place, big, file) = ground();
    place.serve_ready().stop();
    assert_eq!(place.command(&["scrub"]).succeeded().stdout, "1 files checked, 1.43 MiB; 0 damaged\n");
    flip(&file, SIZE as u64 - 1);
    let bad = place.command(&["scrub"]);
    assert_eq!((bad.status.code(), bad.stdout), (Some(3), damaged(&big)));
    assert!(
        bad.stderr.ends_with("a relay fetches them anew when an agent asks for them\n"),
        "{}",
        bad.stderr
    );
    assert!(!file.exists());
    assert_eq!(quarantined(&place.data()), [site::blob(&big)]);
    let again = place.command(&["scrub"]).succeeded();
    assert_eq!(again.stdout, "0 files checked, 0 B; 0 damaged\n");
    let relay = place.serve(&[]);
    let status: serde_json::Value = serde_json::from_str(&relay.ask("/api/v1/status")).unwrap();
    assert_eq!(status["scrub"]["last"]["blobs"], 0);
    assert!(raw::fetch(relay.agents[0], BIG, &[]).whole(200) == big);
    relay.stop();
}

#[test]
fn folders_that_are_none_and_rates_that_are_none_are_refused_r1_5() {
    let (place, ..) = ground();
    let empty = place.path("nothing");
    let ended = run(forebay(["scrub", "--data"]).arg(&empty), WITHIN);
    assert_eq!(ended.status.code(), Some(1));
    let words = format!(
        "forebay: {} is no data folder of a relay: name one with --data or --config\n",
        empty.display()
    );
    assert_eq!(ended.stderr, words);
    assert!(!empty.exists(), "a folder is not made of a typing error");
    for rate in ["0", "many", "-1", "1 XiB"] {
        let ended = run(forebay(["scrub", "--data"]).arg(&empty).arg(format!("--rate={rate}")), WITHIN);
        assert_eq!(ended.status.code(), Some(2), "{rate}");
    }
    let relay = place.serve_ready();
    for query in ["?bytes_per_sec=0", "?bytes_per_sec=x", "?fast=1"] {
        let shown = [("Authorization", &*relay.bearer())];
        let answer =
            raw::Client::connect(relay.admin).exchange("POST", &format!("/api/v1/scrub{query}"), &shown);
        let text = String::from_utf8(answer.unwrap().whole(400)).unwrap();
        assert!(text.contains("bytes_per_sec=NUMBER"), "{text}");
    }
    let wrong = raw::fetch(relay.admin, "/api/v1/scrub", &[]);
    assert_eq!(wrong.head.status, 405);
    relay.stop();
}

#[test]
fn a_relay_that_was_killed_leaves_a_folder_that_can_be_checked_r1_5() {
    let (place, _, file) = ground();
    let relay = place.serve_ready();
    relay.signal(Signal::KILL);
    relay.wait_exit();
    fs::write(&file, "other").unwrap();
    let bad = place.command(&["scrub"]);
    assert_eq!(bad.status.code(), Some(3));
    assert!(bad.stdout.contains("it is 5 bytes long"), "{}", bad.stdout);
}
