//! What holds for any bytes: each claim is checked here against the fuzz corpus in every run, and by the target of the same name
//! in `fuzz/` against whatever a fuzzer makes of it.
//!
//! A claim is a file with one function `check`, which panics where the claim does not hold. It knows neither the test's ground
//! nor the fuzzer, since both build it.

mod journal;
mod proxy_header;
mod range;
mod settings;
mod socks;

use std::path::{Path, PathBuf};

/// A corpus is checked in every run and kept with the source, so its files are few and small.
const FILES_MAX: usize = 40;
const FILE_BYTES_MAX: u64 = 4096;

fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert!((2..=FILES_MAX).contains(&files.len()), "{target}: {} files", files.len());
    for file in &files {
        let bytes = std::fs::metadata(file).unwrap().len();
        assert!(bytes <= FILE_BYTES_MAX, "{} has {bytes} bytes", file.display());
    }
    files
}

/// Checks a claim against each file of a corpus, and against each of its files cut short.
fn holds(target: &str, check: impl Fn(&[u8])) {
    for file in corpus(target) {
        let bytes = std::fs::read(&file).unwrap();
        for kept in [bytes.len(), bytes.len() / 2, bytes.len().saturating_sub(1)] {
            let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&bytes[..kept])));
            assert!(checked.is_ok(), "{}: its first {kept} bytes", file.display());
        }
    }
}

#[test]
fn ranges_of_any_header_are_slices_of_the_file_r3_1() {
    holds("range", range::check);
}

#[test]
fn a_proxy_header_is_read_the_same_however_it_arrives_r4_1() {
    holds("proxy_header", proxy_header::check);
}

#[test]
fn a_journal_of_any_bytes_gives_whole_records_and_takes_more_r1_6() {
    holds("journal", journal::check);
}

#[test]
fn settings_of_any_text_are_within_their_bounds_or_refused_by_key_r11_3() {
    holds("settings", settings::check);
}

#[test]
fn what_a_socks_client_says_is_read_the_same_however_it_arrives_r4_2() {
    holds("socks", socks::check);
}

#[test]
fn every_corpus_has_a_claim_and_every_claim_a_target() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let mut corpora: Vec<_> = std::fs::read_dir(fuzz.join("corpus"))
        .unwrap()
        .map(|folder| folder.unwrap().file_name().into_string().unwrap())
        .collect();
    corpora.sort();
    assert_eq!(corpora, ["journal", "manifest", "proxy_header", "range", "settings", "socks"]);
    for target in corpora {
        assert!(fuzz.join("fuzz_targets").join(format!("{target}.rs")).is_file(), "{target}");
    }
}
