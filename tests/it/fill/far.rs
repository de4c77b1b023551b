//! Readers far ahead of a fill: a lane of their own, from the same upstream under a strong tag, each byte once (R2.2, R2.3).

use std::time::{Duration, Instant};

use super::ground::{Ground, PATH, changed, path};
use crate::origin::answer::Validators;
use crate::origin::fault::{Fault, Gate};
use crate::origin::seen::Ending;
use crate::raw::Client;
use crate::raw::answer::End;
use crate::site;

const SIZE: usize = 4_000_000;

/// Where the main lane is held.
const FRONT: usize = 500_000;

const ROUND_TRIP: Duration = Duration::from_millis(200);

/// A reader of a range whose head has come.
fn reader(ground: &Ground, path: &str, range: &str) -> Client {
    let mut reader = Client::connect(ground.relay.v4());
    reader.ask("GET", path, &[("Range", range)]).unwrap();
    assert_eq!(reader.read_head("GET").unwrap().status, 206);
    reader
}

/// A ground whose fill stands at [`FRONT`], with a reader of the whole, until the gate opens; then the upstream does this.
fn held(ground: Ground, mut then: Vec<Fault>) -> (Ground, Client, Gate) {
    let gate = Gate::default();
    then.push(Fault::StallAfter(FRONT, gate.clone()));
    ground.origin.script_together(PATH, then);
    let mut first = Client::connect(ground.relay.v4());
    first.ask("GET", PATH, &[]).unwrap();
    assert_eq!(first.read_head("GET").unwrap().status, 200);
    assert!(first.read(FRONT).0 == ground.files[0][..FRONT]);
    (ground, first, gate)
}

/// Reads the rest of the whole after [`FRONT`], and sees that the stored file is right.
fn finish(ground: &mut Ground, mut first: Client) {
    let (rest, end) = first.read(usize::MAX);
    assert_eq!(end, Some(End::Complete));
    assert!(rest == ground.files[0][FRONT..]);
    stored(ground);
}

fn stored(ground: &mut Ground) {
    assert!(ground.settle(PATH));
    assert!(ground.get(PATH).whole(200) == ground.files[0]);
    let blobs: Vec<_> = ground.blobs();
    assert_eq!(blobs.len(), 1);
    assert!(blobs[0].ends_with(site::blob(&ground.files[0])));
    assert!(std::fs::read(&blobs[0]).unwrap() == ground.files[0]);
    assert_eq!(ground.staged(), 0);
}

#[test]
fn a_reader_far_ahead_gets_its_first_byte_in_one_round_trip_r2_2() {
    let ground = Ground::new(&[SIZE; 3]);
    // The best of three: what a busy machine adds is not the relay's.
    let quickest = (0..3).map(|number| {
        let path = path(number);
        ground.origin.always(&path, Fault::Late { by: ROUND_TRIP });
        ground.origin.always(&path, Fault::Throttle { bytes_per_sec: 400_000 });
        let mut first = Client::connect(ground.relay.v4());
        first.ask("GET", &path, &[]).unwrap();
        first.read_head("GET").unwrap();
        assert!(first.read(10).0 == ground.files[number][..10]);
        let asked = Instant::now();
        let mut far = reader(&ground, &path, "bytes=3000000-");
        assert_eq!(far.read(1).0, [ground.files[number][3_000_000]]);
        let took = asked.elapsed();
        assert!(took >= ROUND_TRIP, "{took:?}: it was there already");
        took
    });
    let quickest = quickest.min().unwrap();
    assert!(quickest <= ROUND_TRIP + Duration::from_millis(100), "{quickest:?}");
    ground.relay.stop();
}

#[test]
fn bytes_out_of_order_come_once_and_make_the_file_r2_1_r2_2() {
    let (mut ground, first, gate) = held(Ground::new(&[SIZE]), vec![Fault::CloseAfter(FRONT)]);
    for (range, span) in [("bytes=2000000-2099999", 2_000_000..2_100_000), ("bytes=-5", SIZE - 5..SIZE)] {
        assert!(ground.ask(PATH, &[("Range", range)]).whole(206) == ground.files[0][span]);
    }
    assert!(
        ground.ask(PATH, &[("Range", "bytes=1000000-1000009")]).body == ground.files[0][1_000_000..1_000_010]
    );
    gate.open();
    finish(&mut ground, first);
    let asked: Vec<_> = ground.ranges(PATH).into_iter().flatten().collect();
    assert_eq!(asked, ["bytes=2000000-3999999", "bytes=1000000-1999999", "bytes=500000-999999"]);
    assert_eq!(ground.origin.seen().body_bytes(PATH), SIZE as u64);
    ground.relay.stop();
}

#[test]
fn a_suffix_has_a_lane_too_r2_2() {
    let (mut ground, first, gate) = held(Ground::new(&[SIZE]), vec![Fault::CloseAfter(FRONT)]);
    assert!(ground.ask(PATH, &[("Range", "bytes=-10")]).whole(206) == ground.files[0][SIZE - 10..]);
    gate.open();
    finish(&mut ground, first);
    let asked: Vec<_> = ground.ranges(PATH).into_iter().flatten().collect();
    assert_eq!(asked, ["bytes=3999990-3999999", "bytes=500000-3999989"]);
    assert_eq!(ground.origin.seen().body_bytes(PATH), SIZE as u64);
    ground.relay.stop();
}

#[test]
fn the_first_request_stops_where_the_second_began_r2_1() {
    let mut ground = Ground::new(&[SIZE]);
    ground.origin.script(PATH, Fault::Throttle { bytes_per_sec: 2_000_000 });
    let mut first = Client::connect(ground.relay.v4());
    first.ask("GET", PATH, &[]).unwrap();
    first.read_head("GET").unwrap();
    let mut far = reader(&ground, PATH, "bytes=1500000-");
    let (body, end) = far.read(usize::MAX);
    assert_eq!(end, Some(End::Complete));
    assert!(body == ground.files[0][1_500_000..]);
    assert!(first.read(usize::MAX).0 == ground.files[0]);
    stored(&mut ground);
    let left = |seen: &crate::origin::seen::Seen| seen.of(PATH).any(|one| one.end == Ending::ClientLeft);
    let seen = ground.origin.wait_for("the first request's end", left);
    assert_eq!(ground.ranges(PATH), [None, Some("bytes=1500000-3999999".to_owned())]);
    // A piece of 20,000 bytes goes out every 10 ms, and a closed connection is noticed at the second.
    let over = seen.body_bytes(PATH) - SIZE as u64;
    assert!(over <= 100_000, "{over}");
    ground.relay.stop();
}

#[test]
fn a_first_request_that_stands_where_the_second_began_is_not_waited_for_r2_1() {
    let mut ground = Ground::new(&[SIZE]);
    let gate = Gate::default();
    let paced = Fault::Throttle { bytes_per_sec: 2_000_000 };
    ground.origin.script_together(PATH, vec![paced, Fault::StallAfter(1_500_000, gate.clone())]);
    let mut first = Client::connect(ground.relay.v4());
    first.ask("GET", PATH, &[]).unwrap();
    first.read_head("GET").unwrap();
    let begun = Instant::now();
    assert!(
        ground.ask(PATH, &[("Range", "bytes=1500000-1500009")]).body == ground.files[0][1_500_000..1_500_010]
    );
    let (body, end) = first.read(usize::MAX);
    assert_eq!(end, Some(End::Complete));
    assert!(body == ground.files[0]);
    stored(&mut ground);
    assert!(begun.elapsed() < Duration::from_secs(15), "not after 20 s of silence");
    assert_eq!(ground.origin.seen().body_bytes(PATH), SIZE as u64);
    gate.open();
    ground.relay.stop();
}

#[test]
fn many_far_readers_share_few_lanes_and_all_are_served_r2_2() {
    let (mut ground, first, gate) = held(Ground::new(&[SIZE]), vec![Fault::CloseAfter(FRONT)]);
    std::thread::scope(|scope| {
        for number in 0..12 {
            let (ground, start) = (&ground, 900_000 + number * 250_000);
            scope.spawn(move || {
                let range = format!("bytes={start}-{}", start + 299_999);
                let body = ground.ask(PATH, &[("Range", &range)]).whole(206);
                assert!(body == ground.files[0][start..start + 300_000]);
            });
        }
    });
    gate.open();
    finish(&mut ground, first);
    assert!(ground.gets(PATH) <= 14, "{}", ground.gets(PATH));
    ground.relay.stop();
}

#[test]
fn readers_near_each_other_share_a_lane_r2_1() {
    let (mut ground, first, gate) = held(Ground::new(&[SIZE]), vec![Fault::CloseAfter(FRONT)]);
    let hold = Gate::default();
    ground.origin.script(PATH, Fault::StallAfter(10, hold.clone()));
    let range = |number: usize| format!("bytes={}-", 2_000_000 + number * 50_000);
    let mut far = vec![reader(&ground, PATH, &range(0))];
    hold.wait_reached();
    far.extend((1..5).map(|number| reader(&ground, PATH, &range(number))));
    far[4].set_patience(Duration::from_millis(300));
    assert_eq!(far[4].read(1), (vec![], Some(End::TimedOut)));
    assert_eq!(ground.gets(PATH), 2);
    hold.open();
    far.pop();
    for (number, mut far) in far.into_iter().enumerate() {
        assert!(far.read(usize::MAX).0 == ground.files[0][2_000_000 + number * 50_000..]);
    }
    gate.open();
    finish(&mut ground, first);
    ground.relay.stop();
}

#[test]
fn a_reader_near_the_front_waits_for_it_r2_1() {
    let (mut ground, first, gate) = held(Ground::new(&[SIZE]), vec![]);
    let mut near = reader(&ground, PATH, "bytes=700000-700009");
    near.set_patience(Duration::from_millis(300));
    assert_eq!(near.read(1), (vec![], Some(End::TimedOut)));
    assert_eq!(ground.gets(PATH), 1);
    gate.open();
    finish(&mut ground, first);
    assert_eq!(ground.origin.seen().body_bytes(PATH), SIZE as u64);
    ground.relay.stop();
}

#[test]
fn a_lane_goes_on_when_its_reader_leaves_r2_1() {
    let (mut ground, first, gate) = held(Ground::new(&[SIZE]), vec![Fault::CloseAfter(FRONT)]);
    let hold = Gate::default();
    ground.origin.script(PATH, Fault::StallBeforeHead(hold.clone()));
    let far = reader(&ground, PATH, "bytes=2000000-2000009");
    hold.wait_reached();
    far.reset();
    hold.open();
    ground.origin.wait_for_bytes(PATH, (FRONT + SIZE / 2) as u64);
    gate.open();
    finish(&mut ground, first);
    assert_eq!(ground.origin.seen().body_bytes(PATH), SIZE as u64);
    ground.relay.stop();
}

#[test]
fn without_a_strong_tag_a_far_reader_waits_r2_3() {
    for validators in [Validators::Weak, Validators::Date, Validators::None] {
        let mut ground = Ground::new(&[SIZE]);
        ground.origin.set_validators(validators);
        waits(&mut ground, validators);
        ground.relay.stop();
    }
}

#[test]
fn where_settings_allow_no_lane_a_far_reader_waits() {
    let mut ground = Ground::with(&[SIZE], |settings| settings.fill.far_lanes = 0);
    waits(&mut ground, Validators::Strong);
    ground.relay.stop();
}

fn waits(ground: &mut Ground, case: Validators) {
    let gate = Gate::default();
    ground.origin.script(PATH, Fault::StallAfter(FRONT, gate.clone()));
    let mut far = reader(ground, PATH, "bytes=3000000-");
    gate.wait_reached();
    far.set_patience(Duration::from_millis(400));
    assert_eq!(far.read(1), (vec![], Some(End::TimedOut)), "{case:?}");
    assert_eq!(ground.gets(PATH), 1, "{case:?}");
    gate.open();
    far.set_patience(crate::raw::PATIENCE);
    assert!(far.read(usize::MAX).0 == ground.files[0][3_000_000..], "{case:?}");
    stored(ground);
    assert_eq!(ground.origin.seen().body_bytes(PATH), SIZE as u64, "{case:?}");
}

#[test]
fn a_lane_that_is_refused_or_breaks_leaves_no_seam_r2_3() {
    let lies = [
        vec![Fault::NoRange],
        vec![Fault::WrongContentRange],
        vec![Fault::Html],
        vec![Fault::Status(206)],
        vec![Fault::Status(404)],
        vec![Fault::Status(416)],
        vec![Fault::Status(503)],
        vec![Fault::GarbageHead],
        vec![Fault::Redirect("ftp://127.0.0.1/".into())],
        vec![Fault::WrongLength { declared: 10 }],
        vec![Fault::WrongLength { declared: SIZE }],
        vec![Fault::ContentEncodingGzip, Fault::NoRange],
        vec![Fault::TooLong { by: 1 }],
        vec![Fault::TooLong { by: 1_000_000 }, Fault::Chunked],
        vec![Fault::TooLong { by: 1 }, Fault::Chunked],
        vec![Fault::ResetAfter(0)],
        vec![Fault::ResetAfter(100_000)],
        vec![Fault::CloseAfter(0)],
        vec![Fault::CloseAfter(100_000)],
        vec![Fault::Chunked, Fault::CloseAfter(100_000)],
        vec![Fault::Chunked],
    ];
    for lie in lies {
        let (mut ground, first, gate) = held(Ground::new(&[SIZE]), vec![Fault::CloseAfter(FRONT)]);
        ground.origin.script_together(PATH, lie.clone());
        let mut far = reader(&ground, PATH, "bytes=2000000-2999999");
        ground.origin.wait_for_requests(PATH, 3);
        gate.open();
        let (body, end) = far.read(usize::MAX);
        assert_eq!(end, Some(End::Complete), "{lie:?}");
        assert!(body == ground.files[0][2_000_000..3_000_000], "{lie:?}");
        finish(&mut ground, first);
        assert!(ground.gets(PATH) <= 6, "{lie:?}: {:?}", ground.ranges(PATH));
        ground.relay.stop();
    }
}

#[test]
fn a_lane_that_falls_silent_is_followed_by_another_r2_2() {
    let silence = Duration::from_millis(300);
    let ground = Ground::with(&[SIZE], |settings| {
        settings.fill.silence = silence;
        settings.fill.attempts = 50;
    });
    let gate = Gate::default();
    ground.origin.script(PATH, Fault::StallAfter(FRONT, Gate::default()));
    ground.origin.script(PATH, Fault::StallAfter(200_000, gate.clone()));
    let mut far = reader(&ground, PATH, "bytes=2000000-");
    let (body, end) = far.read(usize::MAX);
    assert_eq!(end, Some(End::Complete));
    assert!(body == ground.files[0][2_000_000..]);
    assert!(ground.ranges(PATH).contains(&Some("bytes=2200000-3999999".to_owned())));
    gate.open();
    let mut ground = ground;
    ground.origin.behave();
    stored(&mut ground);
    ground.relay.stop();
}

#[test]
fn a_file_that_changed_is_not_joined_with_far_bytes_r2_3() {
    // Where it changed, and whether that was before the far bytes were asked for.
    for (from, before) in [(0, true), (3_500_000, true), (3_500_000, false), (700_000, false), (0, false)] {
        let (mut ground, mut first, gate) = held(Ground::new(&[SIZE]), vec![Fault::CloseAfter(FRONT)]);
        let new = changed(&ground.files[0], from);
        let mut far = None;
        if before {
            ground.origin.script(PATH, Fault::ChangedFrom(from));
            far = Some(reader(&ground, PATH, "bytes=3000000-"));
            ground.origin.wait_for_requests(PATH, 3);
        } else {
            let body = ground.ask(PATH, &[("Range", "bytes=3000000-")]).whole(206);
            assert!(body == ground.files[0][3_000_000..], "all of one state");
            ground.origin.script(PATH, Fault::ChangedFrom(from));
        }
        gate.open();
        // What no reader has of the old state, all may have of the new one.
        let goes_on = before && from > FRONT;
        let readers = far.as_mut().map(|far| (far, 3_000_000)).into_iter().chain([(&mut first, FRONT)]);
        for (reader, start) in readers {
            let (body, end) = reader.read(usize::MAX);
            if goes_on {
                assert_eq!(end, Some(End::Complete), "{from}, {before}");
                assert!(body == new[start..], "{from}, {before}: of two states");
            } else {
                assert!(matches!(end, Some(End::Short | End::Reset)), "{from}, {before}: {end:?}");
                assert!(body.is_empty(), "{from}, {before}: bytes of a state that may be another");
            }
        }
        assert!(ground.get(PATH).whole(200) == new, "{from}, {before}");
        ground.files[0] = new;
        stored(&mut ground);
        ground.relay.stop();
    }
}

#[test]
fn without_a_tag_any_more_far_bytes_are_compared_and_readers_go_on_r2_3() {
    let (mut ground, first, gate) = held(Ground::new(&[SIZE]), vec![Fault::CloseAfter(FRONT)]);
    assert!(
        ground.ask(PATH, &[("Range", "bytes=2000000-2000009")]).body == ground.files[0][2_000_000..2_000_010]
    );
    ground.origin.wait_for_bytes(PATH, (FRONT + SIZE / 2) as u64);
    ground.origin.set_validators(Validators::None);
    let begin = Gate::default();
    ground.origin.script(PATH, Fault::StallAfter(1_000_000, begin.clone()));
    gate.open();
    // Bytes that no tag joins to the far ones wait until those were compared.
    begin.wait_reached();
    let mut between = reader(&ground, PATH, "bytes=600000-600009");
    between.set_patience(Duration::from_millis(300));
    assert_eq!(between.read(1), (vec![], Some(End::TimedOut)));
    begin.open();
    finish(&mut ground, first);
    assert_eq!(ground.origin.seen().body_bytes(PATH), (FRONT + SIZE / 2 + SIZE) as u64);
    ground.relay.stop();
}
