//! A journal that is cut at any place, or damaged in any byte: a prefix of the changes, or a refusal that says how to go on.

use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;

use forebay::disk::Disk;
use forebay::state::Keep;

use super::{after, author, check, make_next, numbered, open, opened};

const CHANGES: u64 = 12;

/// A journal of that many changes, each in a group of its own.
fn journal() -> Vec<u8> {
    let folder = TempDir::new().unwrap();
    let state = opened(folder.path());
    (0..CHANGES).for_each(|_| drop(make_next(&state).unwrap()));
    drop(state);
    fs::read(folder.path().join("0.journal")).unwrap()
}

fn with(journal: &[u8]) -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("0.journal"), journal).unwrap();
    folder
}

fn lines(text: &[u8]) -> u64 {
    text.split(|byte| *byte == b'\n').count() as u64 - 1
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_cut_anywhere_leaves_the_changes_before_it_whole_r5_4(percent in 0.0..1.0f64) {
        let text = journal();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss,
            reason = "a place in a small file")]
        let kept = (text.len() as f64 * percent) as usize;
        let folder = with(&text[..kept]);
        prop_assert_eq!(check(folder.path()), lines(&text[..kept]));
    }

    #[test]
    fn a_changed_byte_refuses_the_start_or_costs_the_last_change_alone_r5_4(at in any::<prop::sample::Index>(), flip in 1u8..) {
        let mut text = journal();
        let at = at.index(text.len());
        // Without the end between them, two lines are one.
        let spoilt = lines(&text[at..=at]) + 1;
        text[at] ^= flip;
        let line = lines(&text[..at]);
        let folder = with(&text);
        if line + spoilt >= CHANGES {
            prop_assert_eq!(check(folder.path()), line);
            return Ok(());
        }
        let error = open(folder.path(), &Disk::default(), Keep::default()).unwrap_err().to_string();
        prop_assert!(error.contains(&format!("head -n {line})")), "{}", error);
        prop_assert_eq!(fs::read(folder.path().join("0.journal")).unwrap(), &text[..], "nothing is changed");
        // What it says helps.
        let kept: Vec<_> = text.split_inclusive(|byte| *byte == b'\n').take(usize::try_from(line).unwrap()).collect();
        fs::write(folder.path().join("0.journal"), kept.concat()).unwrap();
        prop_assert_eq!(check(folder.path()), line);
    }
}

/// Changes that were written together: any of their lines may be lost to a power cut while others of them came through.
#[test]
fn damage_within_the_last_group_is_its_end_and_before_it_a_refusal_r5_4() {
    let folder = TempDir::new().unwrap();
    let state = opened(folder.path());
    (0..4).for_each(|_| drop(make_next(&state).unwrap()));
    drop(state);
    let alone = fs::read(folder.path().join("0.journal")).unwrap();
    // As if the four had come at once: what differs is the group that they name.
    let together: Vec<u8> = alone
        .split_inclusive(|byte| *byte == b'\n')
        .enumerate()
        .flat_map(|(at, line)| {
            let text = str::from_utf8(&line[17..line.len() - 1]).unwrap();
            let group = format!("\"group\":{}", at + 1);
            let text = if at == 0 { text.to_owned() } else { text.replace(&group, "\"group\":2") };
            let checksum = blake3::hash(text.as_bytes()).to_hex();
            format!("{} {text}\n", &checksum[..16]).into_bytes()
        })
        .collect();
    for (damaged, left) in [(0, None), (1, Some(1)), (2, Some(2)), (3, Some(3))] {
        let mut text = together.clone();
        let begins =
            text.split_inclusive(|byte| *byte == b'\n').take(damaged).map(<[u8]>::len).sum::<usize>();
        text[begins + 30] ^= 1;
        let folder = with(&text);
        match left {
            Some(left) => {
                assert_eq!(check(folder.path()), left);
                let aside = fs::read(folder.path().join(format!("{left}.damaged"))).unwrap();
                assert_eq!(aside, text[begins..], "what was cut is kept aside");
            }
            None => drop(open(folder.path(), &Disk::default(), Keep::default()).unwrap_err()),
        }
    }
}

#[test]
fn a_journal_that_is_not_the_last_has_no_end_that_may_be_cut_r5_4() {
    let text = journal();
    let half = text.split_inclusive(|byte| *byte == b'\n').take(6).map(<[u8]>::len).sum::<usize>();
    let folder = with(&text[..half]);
    fs::write(folder.path().join("6.journal"), &text[half..]).unwrap();
    assert_eq!(opened(folder.path()).current().tree(), &after(CHANGES));
    fs::write(folder.path().join("0.journal"), &text[..half - 1]).unwrap();
    let error = open(folder.path(), &Disk::default(), Keep::default()).unwrap_err().to_string();
    assert!(error.contains("line 6") && error.contains("numbers above 5"), "{error}");
    // An empty one says nothing: it was begun before the end of the other was torn.
    fs::write(folder.path().join("6.journal"), "").unwrap();
    assert_eq!(check(folder.path()), 5);
}

#[test]
fn a_change_that_is_refused_by_its_words_is_refused_whole_r5_4() {
    let folder = TempDir::new().unwrap();
    let state = opened(folder.path());
    (0..3).for_each(|_| drop(make_next(&state).unwrap()));
    // The same change again: its first action finds the agent there.
    state.change(author(), numbered(3)).unwrap().wait().unwrap_err();
    drop(state);
    assert_eq!(check(folder.path()), 3);
}
