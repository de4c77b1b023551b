//! Data folders that a relay cannot use: each is refused with its path and what to do, and nothing in it changes (R11.3, R11.4).

use std::fs;
use std::path::Path;

use forebay::app::{Relay, StartError};
use forebay::store::StoreError;

use crate::relay::{Running, settings};
use crate::site::Site;

/// Starts a relay on a folder that it must refuse; gives why, in words.
fn refused(site: &Site, data: &Path) -> (StoreError, String) {
    let mut settings = settings(site.text());
    settings.data = data.to_owned();
    match Relay::start(settings).map(|_| ()) {
        Err(StartError::Store(error)) => {
            let said = error.to_string();
            assert!(said.contains(data.to_str().unwrap()), "{said}");
            (error, said)
        }
        other => panic!("it was not refused by the store: {other:?}"),
    }
}

#[test]
fn a_folder_of_other_things_is_refused_and_left_as_it_is_r11_4() {
    let (site, data) = (Site::with(5, &[]), tempfile::tempdir().unwrap());
    fs::write(data.path().join("letter.txt"), "mine").unwrap();
    let (error, said) = refused(&site, data.path());
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
    assert!(said.contains("name an empty or a new folder"), "{said}");
    assert_eq!(fs::read_dir(data.path()).unwrap().count(), 1);
}

#[test]
fn a_folder_of_another_format_is_refused_and_left_as_it_is_r11_4() {
    let site = Site::with(5, &[]);
    let (_, data) = Running::refreshed(settings(site.text())).stop();
    for format in ["3\n", "0\n", "", "1.0", "what"] {
        fs::write(data.path().join("FORMAT"), format).unwrap();
        let (error, said) = refused(&site, data.path());
        assert!(matches!(error, StoreError::Format { .. }), "{error}");
        assert!(said.contains(&format!("'{}'", format.trim())) && said.contains("another folder"), "{said}");
        assert_eq!(fs::read_to_string(data.path().join("FORMAT")).unwrap(), format);
    }
    fs::remove_file(data.path().join("FORMAT")).unwrap();
    assert!(matches!(refused(&site, data.path()).0, StoreError::Foreign { .. }));
    fs::write(data.path().join("FORMAT"), "2\n").unwrap();
    let mut settings = settings(site.text());
    settings.data = data.path().to_owned();
    drop(Relay::start(settings).unwrap());
}

#[test]
fn a_first_start_that_was_cut_short_can_be_repeated_r11_4() {
    let (site, data) = (Site::with(5, &[]), tempfile::tempdir().unwrap());
    fs::write(data.path().join("lock"), "").unwrap();
    fs::write(data.path().join("FORMAT.new"), "").unwrap();
    let relay = Running::start_on(settings(site.text()), data);
    relay.wait_refreshes(1);
    assert_eq!(relay.generation(), 1);
    relay.stop();
}

#[test]
fn a_second_relay_on_the_same_folder_is_refused_with_the_first_ones_process_r11_4() {
    let site = Site::with(5, &[]);
    let relay = Running::refreshed(settings(site.text()));
    let (error, said) = refused(&site, relay.data());
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    assert!(said.contains(&format!("process {}", std::process::id())), "{said}");
    let (settings, data) = relay.stop();
    let relay = Running::start_on(settings, data);
    assert_eq!(relay.generation(), 1);
    relay.stop();
}

#[test]
fn a_file_in_place_of_a_folder_is_named_r11_3() {
    let (site, outer) = (Site::with(5, &[]), tempfile::tempdir().unwrap());
    let data = outer.path().join("data");
    fs::write(&data, "").unwrap();
    let (_, said) = refused(&site, &data);
    assert!(said.contains("is a file, not a folder: name an empty or a new folder"), "{said}");
    // The same one level up and one level down.
    assert!(matches!(refused(&site, &data.join("below")).0, StoreError::Io { .. }));
    for name in ["blobs", "staging", "trees"] {
        let data = outer.path().join(name);
        fs::create_dir(&data).unwrap();
        fs::write(data.join("FORMAT"), "1\n").unwrap();
        fs::write(data.join(name), "").unwrap();
        let (_, said) = refused(&site, &data);
        assert!(said.contains(data.join(name).to_str().unwrap()), "{said}");
    }
}
