//! Several origins in their order: the next one helps, and two are never mixed (R1.2, R2.3).

use std::time::Duration;

use forebay::config::settings::Upstream;
use tempfile::TempDir;

use super::ground::{PATH, bytes, changed, lazy, write_tree};
use crate::origin::Origin;
use crate::origin::answer::Validators;
use crate::origin::fault::{Fault, Gate};
use crate::raw::Client;
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

#[test]
fn a_far_lane_asks_the_origin_of_what_is_staged_and_no_other_r2_3() {
    for refused in [None, Some(Fault::Status(404)), Some(Fault::Status(503)), Some(Fault::GarbageHead)] {
        let two = two(None);
        let gate = Gate::default();
        two.first.script(PATH, Fault::StallAfter(500_000, gate.clone()));
        let mut far = Client::connect(two.relay.v4());
        far.ask("GET", PATH, &[("Range", "bytes=1500000-")]).unwrap();
        far.read_head("GET").unwrap();
        gate.wait_reached();
        if let Some(fault) = &refused {
            two.first.always(PATH, fault.clone());
            far.set_patience(Duration::from_millis(500));
            assert_eq!(far.read(1), (vec![], Some(End::TimedOut)), "{fault:?}");
            two.first.behave();
        } else {
            assert!(far.read(usize::MAX).0 == two.bytes[1_500_000..]);
        }
        assert_eq!(two.second.seen().of(PATH).filter(|request| request.method == "GET").count(), 0);
        gate.open();
        assert!(fetch(two.relay.v4(), PATH, &[]).whole(200) == two.bytes);
        two.relay.stop();
    }
}

#[test]
fn far_bytes_of_one_origin_are_compared_with_what_another_sends_r2_3() {
    for other in [None, Some(changed(&bytes(0, SIZE), 1_700_000))] {
        let two = two(other.clone());
        let gate = Gate::default();
        let faults = vec![Fault::StallAfter(500_000, gate.clone()), Fault::CloseAfter(500_000)];
        two.first.script_together(PATH, faults);
        let mut first = Client::connect(two.relay.v4());
        first.ask("GET", PATH, &[]).unwrap();
        first.read_head("GET").unwrap();
        let far = fetch(two.relay.v4(), PATH, &[("Range", "bytes=1500000-")]).whole(206);
        assert!(far == two.bytes[1_500_000..]);
        for _ in 0..20 {
            two.first.script(PATH, Fault::Status(404));
        }
        gate.open();
        let (body, end) = first.read(usize::MAX);
        match &other {
            None => {
                assert_eq!(end, Some(End::Complete));
                assert!(body == two.bytes);
            }
            Some(_) => {
                assert!(matches!(end, Some(End::Short | End::Reset)), "{end:?}");
                assert!(
                    body[..] == two.bytes[..500_000],
                    "nothing of the other is shown beside the far bytes"
                );
            }
        }
        assert!(fetch(two.relay.v4(), PATH, &[]).whole(200) == other.unwrap_or(two.bytes));
        two.relay.stop();
    }
}
