//! A directory as the upstream, for air-gapped sites: releases by rename, files changed in place, folders that vanish (R1.2).

use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use forebay::app::{Relay, StartError};
use forebay::base::tally::Tally;
use forebay::fixture::{self, Fixture, Retired};
use forebay::relay::refresh::Last;
use forebay::upstream::{Answer, Deadlines, Origin, Part, Request, Upstream, UpstreamError};

use crate::origin::fault::WAIT_MAX;
use crate::raw;
use crate::relay::{Running, settings};
use crate::site::{self, Site};

fn get(relay: &Running, path: &str) -> raw::answer::Answer {
    raw::fetch(relay.v4(), &format!("/activeupdate/{path}"), &[])
}

#[test]
fn a_release_published_by_rename_is_a_new_generation_r1_2() {
    let dir = tempfile::tempdir().unwrap();
    Fixture::default().write(dir.path(), &mut |_| {}).unwrap();
    let relay = Running::refreshed(settings(dir.path().to_str().unwrap()));
    for _ in 0..2 {
        let next = fixture::publish_next(dir.path(), Retired::Remove, &mut |_| {}).unwrap();
        assert!(matches!(relay.refresh(), Last::New(_)));
        for file in next.files() {
            let expected = fs::read(dir.path().join(file.path.as_str())).unwrap();
            assert!(get(&relay, file.path.as_str()).whole(200) == expected, "{}", file.path);
        }
    }
    assert_eq!(relay.refresh(), Last::Same);
    relay.stop();
}

/// What a transfer says when its file is changed after its first piece.
fn changed_by(change: impl FnOnce(&fs::File)) -> Result<Option<Bytes>, UpstreamError> {
    let site = Site::new();
    site.put("a.zip", &vec![1; 1 << 20]);
    let deadlines = Deadlines { first_byte: WAIT_MAX, silence: WAIT_MAX };
    let origins = vec![Origin::Directory(site.dir().to_owned())];
    let upstream = Upstream::new(origins, deadlines, Arc::new(Tally::default()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let answer = upstream.fetch(0, Request { path: "a.zip", part: Part::Whole }).await.unwrap();
        let Answer::Found(mut transfer) = answer else { panic!("{answer:?}") };
        assert!(transfer.chunk().await.unwrap().unwrap().iter().all(|byte| *byte == 1));
        change(&fs::File::options().write(true).open(site.file("a.zip")).unwrap());
        transfer.chunk().await
    })
}

#[test]
fn a_file_changed_in_place_while_it_is_read_is_never_a_mixture_r1_5() {
    let later = SystemTime::now() + Duration::from_secs(10);
    let rewritten = changed_by(|file| {
        file.write_all_at(&vec![2; 1 << 20], 0).unwrap();
        file.set_modified(later).unwrap();
    });
    assert!(matches!(rewritten, Err(UpstreamError::Changed)), "{rewritten:?}");
    let shortened = changed_by(|file| file.set_len(1000).unwrap());
    assert!(matches!(shortened, Err(UpstreamError::Changed)), "{shortened:?}");
    let left_alone = changed_by(|_| {});
    assert!(matches!(left_alone, Ok(Some(bytes)) if bytes.iter().all(|byte| *byte == 1)));
}

#[test]
fn a_package_changed_in_place_is_served_in_the_state_of_its_generation_r1_5() {
    let site = Site::with(5, &[4]);
    let relay = Running::refreshed(settings(site.text()));
    // The same length under the same name and version, with a new manifest and another signature.
    let name = site::package(5);
    fs::write(site.file(&name), site::bytes(&name, 6)).unwrap();
    fs::write(site.file("pattern/a5.sig"), site::bytes("pattern/a5.sig", 6)).unwrap();
    let later = SystemTime::now() + Duration::from_secs(10);
    for path in [&name, "pattern/a5.sig"] {
        fs::File::options().write(true).open(site.file(path)).unwrap().set_modified(later).unwrap();
    }
    assert_eq!(relay.refresh(), Last::Same, "the manifest did not change");
    assert!(get(&relay, &name).whole(200) == site::bytes(&name, 5));
    site.put("server.ini", (site::manifest(5, &[4]) + ";again\r\n").as_bytes());
    assert!(matches!(relay.refresh(), Last::New(_)));
    assert!(get(&relay, &name).whole(200) == site::bytes(&name, 6));
    assert!(get(&relay, "pattern/a5.sig").whole(200) == site::bytes("pattern/a5.sig", 6));
    relay.stop();
}

#[test]
fn a_directory_that_vanishes_is_served_from_the_store_and_may_come_back_r1_6() {
    let site = Site::with(5, &[4]);
    let relay = Running::refreshed(settings(site.text()));
    let away = site.dir().with_extension("away");
    fs::rename(site.dir(), &away).unwrap();
    assert!(matches!(relay.refresh(), Last::Failed(reason) if reason.contains(site.text())));
    assert!(relay.tree(0).standing.is_upstream_down());
    let served = |relay: &Running| {
        for path in site::paths(5, &[4]) {
            assert!(get(relay, &path).whole(200) == site::bytes(&path, 5), "{path}");
        }
    };
    served(&relay);
    let relay = relay.restart();
    served(&relay);
    fs::rename(&away, site.dir()).unwrap();
    site.publish(6, &[5]);
    assert!(matches!(relay.refresh(), Last::New(_)));
    assert!(!relay.tree(0).standing.is_upstream_down());
    relay.stop();
}

#[test]
fn a_first_start_without_the_directory_says_what_is_wrong_with_it_r1_2() {
    let empty = tempfile::tempdir().unwrap();
    for path in [empty.path().join("nowhere"), empty.path().to_owned()] {
        let data = tempfile::tempdir().unwrap();
        let mut settings = settings(path.to_str().unwrap());
        settings.data = data.path().to_owned();
        let error = Relay::start(settings).map(|_| ()).unwrap_err();
        assert!(matches!(error, StartError::Upstream { .. }), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}
