//! Several origins in their order: the next one helps, and two are never mixed (R1.2, R2.3).

use forebay::config::settings::Upstream;
use tempfile::TempDir;

use super::ground::{PATH, bytes, lazy, write_tree};
use crate::origin::Origin;
use crate::origin::answer::Validators;
use crate::origin::fault::Fault;
use crate::raw::answer::End;
use crate::raw::fetch;
use crate::relay::Running;

const SIZE: usize = 2_000_000;

struct Two {
    first: Origin,
    second: Origin,
    relay: Running,
    bytes: Vec<u8>,
    _dirs: [TempDir; 2],
}

/// Two origins of one tree; the second one's package differs where `other` gives another.
fn two(other: Option<Vec<u8>>) -> Two {
    let dirs = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let bytes = bytes(0, SIZE);
    write_tree(dirs[0].path(), std::slice::from_ref(&bytes));
    write_tree(dirs[1].path(), &[other.unwrap_or_else(|| bytes.clone())]);
    let (first, second) = (Origin::start(dirs[0].path()), Origin::start(dirs[1].path()));
    let mut settings = lazy(&first.url("/activeupdate/"));
    let urls = [&first, &second].map(|origin| origin.url("/activeupdate/").parse().unwrap());
    settings.trees[0].upstream = Upstream::Urls(urls.into());
    let relay = Running::refreshed(settings);
    Two { first, second, relay, bytes, _dirs: dirs }
}

#[test]
fn the_second_origin_is_asked_when_the_first_is_down_r1_2() {
    let Two { first, second, relay, bytes, _dirs } = two(None);
    drop(first);
    assert!(fetch(relay.v4(), PATH, &[]).whole(200) == bytes);
    assert_eq!(second.seen().body_bytes(PATH), SIZE as u64);
    relay.stop();
}

#[test]
fn the_second_origin_is_asked_when_the_first_has_not_the_file_or_lies_r1_2() {
    for fault in [Fault::Status(404), Fault::Html, Fault::GarbageHead, Fault::Status(503)] {
        let two = two(None);
        two.first.always(PATH, fault.clone());
        assert!(fetch(two.relay.v4(), PATH, &[]).whole(200) == two.bytes, "{fault:?}");
        assert_eq!(two.second.seen().body_bytes(PATH), SIZE as u64, "{fault:?}");
        two.relay.stop();
    }
}

#[test]
fn an_origin_without_the_same_validator_starts_over_and_is_compared_r2_3() {
    let two = two(None);
    two.second.set_validators(Validators::None);
    two.first.script(PATH, Fault::CloseAfter(1_000_000));
    two.first.script(PATH, Fault::Status(404));
    assert!(fetch(two.relay.v4(), PATH, &[]).whole(200) == two.bytes);
    let seen = two.second.seen();
    let asked: Vec<_> = seen.of(PATH).filter(|request| request.method == "GET").collect();
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].range(), asked[0].header("if-range")), (None, None));
    two.relay.stop();
}

#[test]
fn two_origins_with_other_bytes_are_never_mixed_r2_3() {
    let other = bytes(1, SIZE);
    let two = two(Some(other.clone()));
    two.first.script(PATH, Fault::CloseAfter(1_000_000));
    for _ in 0..20 {
        two.first.script(PATH, Fault::Status(404));
    }
    let broken = fetch(two.relay.v4(), PATH, &[]);
    assert!(matches!(broken.end, End::Short | End::Reset), "{:?}", broken.end);
    assert!(broken.body[..] == two.bytes[..broken.body.len()]);
    let whole = fetch(two.relay.v4(), PATH, &[]).whole(200);
    assert!(whole == other);
    two.relay.stop();
}
