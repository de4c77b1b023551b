//! The upstream breaks off: what is asked again, what that costs, and what readers see (R2.3).

use super::ground::{Ground, PATH, changed};
use crate::origin::answer::Validators;
use crate::origin::fault::{Fault, Gate};
use crate::raw::Client;
use crate::raw::answer::End;

const SIZE: usize = 2_000_000;

#[test]
fn a_reset_costs_the_lost_tail_and_no_more_r2_3() {
    let ground = Ground::new(&[SIZE]);
    ground.origin.script(PATH, Fault::ResetAfter(1_000_000));
    assert!(ground.get(PATH).whole(200) == ground.files[0]);
    let ranges = ground.ranges(PATH);
    assert_eq!((ranges.len(), &ranges[0]), (2, &None));
    // Nothing was staged when the reset overtook every byte.
    let resumed = ranges[1].as_deref().map_or(0, offset);
    assert!(resumed <= 1_000_000);
    assert_eq!(ground.origin.seen().body_bytes(PATH), (SIZE + 1_000_000 - resumed) as u64);
    ground.relay.stop();
}

#[test]
fn a_close_costs_nothing_however_often_it_comes_r2_3() {
    let ground = Ground::new(&[SIZE]);
    for _ in 0..9 {
        ground.origin.script(PATH, Fault::CloseAfter(200_000));
    }
    assert!(ground.get(PATH).whole(200) == ground.files[0]);
    let offsets: Vec<_> = ground.ranges(PATH).iter().flatten().map(|range| offset(range)).collect();
    assert_eq!(offsets, (1..10).map(|step| step * 200_000).collect::<Vec<_>>());
    assert_eq!(ground.origin.seen().body_bytes(PATH), SIZE as u64);
    ground.relay.stop();
}

#[test]
fn without_a_strong_tag_it_starts_over_and_readers_go_on_r2_3() {
    for validators in [Validators::Weak, Validators::Date, Validators::None] {
        let mut ground = Ground::new(&[SIZE]);
        ground.origin.set_validators(validators);
        let reader = broken_at_a_million(&ground, vec![Fault::CloseAfter(1_000_000)]);
        assert!(finish(reader).1 == ground.files[0][1000..], "{validators:?}");
        assert_eq!(ground.ranges(PATH), [None, None]);
        assert_eq!(ground.origin.seen().body_bytes(PATH), (SIZE + 1_000_000) as u64);
        assert!(ground.settle(PATH));
        ground.relay.stop();
    }
}

#[test]
fn an_origin_that_cannot_resume_is_asked_for_all_of_it_r2_3() {
    let over = SIZE + 1_000_000;
    for (fault, requests, bytes_max) in [
        (Fault::NoRange, 2, over),
        (Fault::Status(416), 3, over + 100),
        (Fault::WrongContentRange, 3, over + SIZE),
        (Fault::Html, 3, over + 100),
    ] {
        let ground = Ground::new(&[SIZE]);
        ground.origin.script(PATH, Fault::CloseAfter(1_000_000));
        ground.origin.script(PATH, fault.clone());
        assert!(ground.get(PATH).whole(200) == ground.files[0], "{fault:?}");
        assert_eq!(ground.gets(PATH), requests, "{fault:?}");
        let bytes = ground.origin.seen().body_bytes(PATH);
        assert!((over..=bytes_max).contains(&usize::try_from(bytes).unwrap()), "{fault:?}: {bytes}");
        ground.relay.stop();
    }
}

#[test]
fn a_file_that_changed_breaks_off_its_readers_and_comes_anew_r2_3() {
    for validators in [Validators::Strong, Validators::None] {
        let mut ground = Ground::new(&[SIZE]);
        ground.origin.set_validators(validators);
        let gate = Gate::default();
        let faults = vec![Fault::StallAfter(1_000_000, gate.clone()), Fault::CloseAfter(1_000_000)];
        ground.origin.script_together(PATH, faults);
        ground.origin.script(PATH, Fault::ChangedFrom(500_000));
        let mut reader = Client::connect(ground.relay.v4());
        reader.ask("GET", PATH, &[]).unwrap();
        let head = reader.read_head("GET").unwrap();
        assert!(reader.read(1_000_000).0 == ground.files[0][..1_000_000]);
        gate.open();
        let (body, end) = reader.read(usize::MAX);
        assert!(matches!(end, Some(End::Short | End::Reset)), "{validators:?}: {end:?}");
        assert!(body.is_empty());
        let new = changed(&ground.files[0], 500_000);
        let again = ground.get(PATH);
        if validators == Validators::Strong {
            assert_ne!(again.head.header("etag"), head.header("etag"), "R3.1");
        }
        assert!(again.whole(200) == new);
        assert!(ground.settle(PATH));
        assert_eq!(ground.staged(), 0);
        ground.relay.stop();
    }
}

#[test]
fn a_change_that_was_not_seen_yet_when_the_line_breaks_again_leaves_no_seam_r2_3() {
    let mut ground = Ground::new(&[SIZE]);
    ground.origin.script(PATH, Fault::CloseAfter(1_000_000));
    // The changed file comes from its start, and breaks off before the first byte that differs.
    ground.origin.script_together(PATH, vec![Fault::ChangedFrom(800_000), Fault::CloseAfter(500_000)]);
    let first = ground.get(PATH);
    let new = changed(&ground.files[0], 800_000);
    assert!(first.end != End::Complete || first.body == new, "old and new bytes in one body");
    ground.settle(PATH);
    assert!(ground.get(PATH).whole(200) == new);
    ground.relay.stop();
}

#[test]
fn all_bytes_without_the_last_chunk_are_all_bytes_r1_5() {
    let mut ground = Ground::new(&[SIZE]);
    ground.origin.script_together(PATH, vec![Fault::Chunked, Fault::CloseAfter(SIZE)]);
    assert!(ground.get(PATH).whole(200) == ground.files[0]);
    assert!(ground.settle(PATH));
    assert_eq!(ground.origin.seen().body_bytes(PATH), SIZE as u64);
    ground.relay.stop();
}

#[test]
fn a_fill_that_never_gets_further_fails_visibly_and_can_be_had_later_r2_3() {
    let mut ground = Ground::new(&[SIZE]);
    ground.origin.set_validators(Validators::None);
    ground.origin.always(PATH, Fault::CloseAfter(1_000_000));
    let answer = ground.get(PATH);
    assert_eq!(answer.head.status, 200, "the head was sent before");
    assert!(matches!(answer.end, End::Short | End::Reset));
    assert_eq!(ground.gets(PATH), 3);
    assert_eq!((ground.fills(), ground.staged()), ([1, 0, 1], 0));
    assert!(ground.blobs().is_empty());
    ground.origin.behave();
    assert!(ground.get(PATH).whole(200) == ground.files[0]);
    ground.relay.stop();
}

/// A reader of a fill whose first transfer goes wrong after a million bytes; it has read 1000 of them.
fn broken_at_a_million(ground: &Ground, mut faults: Vec<Fault>) -> Client {
    let gate = Gate::default();
    faults.push(Fault::StallAfter(1_000_000, gate.clone()));
    ground.origin.script_together(PATH, faults);
    let mut reader = Client::connect(ground.relay.v4());
    reader.ask("GET", PATH, &[]).unwrap();
    assert_eq!(reader.read_head("GET").unwrap().status, 200);
    assert!(reader.read(1000).0 == ground.files[0][..1000]);
    gate.wait_reached();
    gate.open();
    reader
}

fn finish(mut reader: Client) -> (End, Vec<u8>) {
    let (body, end) = reader.read(usize::MAX);
    (end.unwrap(), body)
}

fn offset(range: &str) -> usize {
    range.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-')).unwrap().parse().unwrap()
}
