//! An upstream that is silent, and a first agent that leaves (R2.1, R2.3).

use std::time::{Duration, Instant};

use super::ground::{Ground, NOT_FETCHED, PATH, path};
use crate::origin::fault::{Fault, Gate};
use crate::raw::Client;
use crate::raw::answer::End;

const SIZE: usize = 2_000_000;
const SHORT: Duration = Duration::from_millis(300);

#[test]
fn no_first_byte_is_a_504_after_all_tries_and_not_before() {
    let mut ground = Ground::with(&[SIZE], |settings| {
        settings.fill.first_byte = SHORT;
        settings.fill.attempts = 2;
    });
    ground.origin.always(PATH, Fault::StallBeforeHead(Gate::default()));
    let begun = Instant::now();
    let answer = ground.get(PATH);
    assert!(begun.elapsed() >= SHORT * 2);
    assert_eq!(answer.whole(504), NOT_FETCHED);
    assert_eq!(ground.gets(PATH), 2);
    assert_eq!((ground.fills_now(), ground.staged()), (0, 0));
    ground.origin.behave();
    ground.forget(PATH);
    assert!(ground.get(PATH).whole(200) == ground.files[0]);
    ground.relay.stop();
}

#[test]
fn silence_in_the_middle_is_resumed_and_holds_up_nobody_else_r2_3() {
    let ground = Ground::with(&[SIZE, SIZE], |settings| {
        settings.fill.silence = SHORT;
        settings.fill.attempts = 6;
    });
    let gate = Gate::default();
    ground.origin.script(PATH, Fault::StallAfter(1_000_000, gate.clone()));
    let mut reader = Client::connect(ground.relay.v4());
    reader.ask("GET", PATH, &[]).unwrap();
    assert!(reader.read_head("GET").unwrap().status == 200);
    gate.wait_reached();
    assert!(ground.get(&path(1)).whole(200) == ground.files[1]);
    assert!(ground.ask(PATH, &[("Range", "bytes=0-99")]).whole(206) == ground.files[0][..100]);
    let (body, end) = reader.read(usize::MAX);
    assert_eq!(end, Some(End::Complete));
    assert!(body == ground.files[0]);
    assert_eq!(ground.ranges(PATH)[1].as_deref(), Some("bytes=1000000-"));
    assert_eq!(ground.origin.seen().body_bytes(PATH), SIZE as u64);
    ground.relay.stop();
}

#[test]
fn silence_for_good_is_no_end_of_file_r2_3() {
    let ground = Ground::with(&[SIZE], |settings| {
        settings.fill.silence = SHORT;
        settings.fill.attempts = 2;
    });
    ground.origin.always(PATH, Fault::StallAfter(0, Gate::default()));
    let answer = ground.get(PATH);
    assert_eq!((answer.head.status, answer.body.len()), (200, 0));
    assert!(matches!(answer.end, End::Short | End::Reset));
    assert_eq!(ground.staged(), 0);
    ground.relay.stop();
}

#[test]
fn a_fill_goes_on_when_the_agent_that_began_it_leaves_r2_1() {
    for leave in [Client::reset, drop::<Client>] {
        let mut ground = Ground::new(&[SIZE]);
        let gate = Gate::default();
        ground.origin.script(PATH, Fault::StallAfter(1_000_000, gate.clone()));
        let mut first = Client::connect(ground.relay.v4());
        first.ask("GET", PATH, &[]).unwrap();
        first.read_head("GET").unwrap();
        first.read(1000);
        gate.wait_reached();
        leave(first);
        gate.open();
        assert!(ground.settle(PATH));
        assert!(ground.get(PATH).whole(200) == ground.files[0]);
        assert_eq!(ground.gets(PATH), 1);
        assert_eq!(ground.origin.seen().body_bytes(PATH), SIZE as u64);
        ground.relay.stop();
    }
}

#[test]
fn a_fill_goes_on_when_its_only_agent_leaves_before_the_head_r2_1() {
    let mut ground = Ground::new(&[SIZE]);
    let gate = Gate::default();
    ground.origin.script(PATH, Fault::StallBeforeHead(gate.clone()));
    let mut first = Client::connect(ground.relay.v4());
    first.ask("GET", PATH, &[]).unwrap();
    gate.wait_reached();
    first.reset();
    gate.open();
    assert!(ground.settle(PATH));
    assert_eq!(ground.origin.seen().body_bytes(PATH), SIZE as u64);
    ground.relay.stop();
}

#[test]
fn a_relay_that_stops_in_the_middle_of_a_fill_breaks_its_readers_off_visibly_r2_3() {
    let ground = Ground::with(&[SIZE], |settings| settings.limits.drain = SHORT);
    let gate = Gate::default();
    ground.origin.script(PATH, Fault::StallAfter(1_000_000, gate.clone()));
    let mut reader = Client::connect(ground.relay.v4());
    reader.ask("GET", PATH, &[]).unwrap();
    reader.read_head("GET").unwrap();
    gate.wait_reached();
    let relay = ground.relay.restart();
    let (body, end) = reader.read(usize::MAX);
    assert!(matches!(end, Some(End::Short | End::Reset)), "{end:?}");
    assert!(body[..] == ground.files[0][..body.len()]);
    gate.open();
    assert!(crate::raw::fetch(relay.v4(), PATH, &[]).whole(200) == ground.files[0]);
    relay.stop();
}

#[test]
fn an_agent_is_told_to_come_back_before_it_gives_up_and_the_fill_goes_on_r2_1() {
    let mut ground = Ground::with(&[SIZE], |settings| settings.fill.wait = Duration::from_millis(50));
    let gate = Gate::default();
    ground.origin.script(PATH, Fault::StallBeforeHead(gate.clone()));
    let answer = ground.get(PATH);
    assert_eq!(answer.head.status, 504);
    assert_eq!(answer.head.header("retry-after"), Some("30"));
    gate.open();
    assert!(ground.settle(PATH));
    assert!(ground.get(PATH).whole(200) == ground.files[0]);
    assert_eq!(ground.gets(PATH), 1);
    ground.relay.stop();
}
