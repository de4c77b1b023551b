//! The plan by itself: who gets a lane, where it stops, and that no byte is written twice.

use proptest::prelude::*;

use super::*;
use crate::base::validator::Validator;

/// Places in the tests count in these.
const STEP: u64 = 64 << 10;
const STEPS: u64 = 64;

fn voucher(origin: &str) -> Voucher {
    let validator = Validator { etag: Some("\"a\"".into()), last_modified: None };
    Voucher { origin: origin.into(), validator }
}

fn plan() -> Plan {
    let mut plan = Plan::new(STEPS * STEP, 4);
    assert!(plan.vouch(Some(&voucher("first"))));
    plan
}

fn open_at(plan: &mut Plan, step: u64) -> Order {
    plan.want(step * STEP);
    let order = plan.open().unwrap();
    assert_eq!(order.run.start(), step * STEP);
    order
}

#[test]
fn a_reader_near_a_lane_gets_none_of_its_own_r2_2() {
    let mut plan = plan();
    let near = DISTANCE_MIN - 1;
    plan.want(near);
    assert_eq!(plan.open(), None);
    open_at(&mut plan, 20);
    plan.want(20 * STEP);
    plan.want(20 * STEP + near);
    assert_eq!(plan.open(), None);
    plan.want(20 * STEP + DISTANCE_MIN);
    assert!(plan.open().is_some());
}

#[test]
fn a_reader_who_is_told_that_it_is_near_never_gets_a_lane_r2_2() {
    let mut plan = plan();
    open_at(&mut plan, 40);
    for front in [0, 1, 20] {
        plan.pass(front * STEP);
        let far = front * STEP + DISTANCE_MIN;
        for at in [0, front * STEP, far - 1] {
            plan.want(at);
            assert!(plan.is_near(at) && plan.open().is_none(), "{at}");
        }
        assert!(!plan.is_near(far) && !plan.is_near(41 * STEP));
    }
    plan.want(10 * STEP + 20 * STEP);
    assert!(plan.open().is_some());
    assert!(Plan::new(STEPS * STEP, 0).is_near(40 * STEP), "there are none");
}

#[test]
fn the_reader_who_is_farthest_from_all_lanes_comes_first_r2_2() {
    let mut plan = plan();
    for step in [10, 11, 40, 63] {
        plan.want(step * STEP);
    }
    // One lane serves the readers at 10 and 11.
    let starts: Vec<_> = std::iter::from_fn(|| plan.open()).map(|order| order.run.start() / STEP).collect();
    assert_eq!(starts, [63, 40, 10]);
}

#[test]
fn a_request_ends_where_other_bytes_begin_r2_2() {
    let mut plan = plan();
    assert_eq!(open_at(&mut plan, 40).run.end(), STEPS * STEP);
    assert_eq!(open_at(&mut plan, 20).run.end(), 40 * STEP);
    assert_eq!(plan.stop_after(0), Some(20 * STEP));
}

#[test]
fn nothing_is_opened_without_a_strong_tag_or_beyond_the_bounds_r2_3() {
    let mut without = Plan::new(STEPS * STEP, 4);
    without.want(40 * STEP);
    assert_eq!(without.open(), None);
    let mut none = Plan::new(STEPS * STEP, 0);
    assert!(none.vouch(Some(&voucher("first"))));
    none.want(40 * STEP);
    assert_eq!(none.open(), None);
    let mut often = plan();
    often.want(40 * STEP);
    for _ in 0..OPENED_MAX {
        let number = often.open().unwrap().number;
        often.end(number, 0, Ended::Done);
    }
    assert_eq!(often.open(), None);
    let mut broken = plan();
    broken.want(40 * STEP);
    for _ in 0..FAILURES_MAX {
        let number = broken.open().unwrap().number;
        broken.end(number, 0, Ended::Broken);
    }
    assert_eq!(broken.open(), None);
    let mut refused = plan();
    let number = open_at(&mut refused, 40).number;
    refused.end(number, 0, Ended::Refused);
    assert_eq!(refused.open(), None);
}

#[test]
fn a_lane_that_was_overtaken_before_its_answer_has_no_place_r2_1() {
    let mut plan = plan();
    let order = open_at(&mut plan, 20);
    assert_eq!(plan.claim_front(21 * STEP), 21 * STEP);
    assert!(!plan.begin(order.number));
    plan.end(order.number, 0, Ended::Done);
    let order = open_at(&mut plan, 40);
    assert!(plan.begin(order.number));
    assert_eq!(plan.claim_front(41 * STEP), 40 * STEP);
    assert!(plan.is_followed());
}

#[test]
fn other_bytes_are_vouched_for_only_when_the_far_ones_were_passed_r2_3() {
    let mut plan = plan();
    let order = open_at(&mut plan, 20);
    assert!(plan.begin(order.number));
    assert_eq!(plan.claim(order.number, STEP), STEP);
    plan.wrote(ByteRange::new(20 * STEP, 21 * STEP));
    plan.end(order.number, STEP, Ended::Done);
    let other = voucher("second");
    assert!(!plan.is_of(Some(&other)) && !plan.is_of(None));
    for end in [10, 20] {
        plan.pass(end * STEP);
        assert!(!plan.vouch(Some(&other)) && !plan.vouch(None));
    }
    assert!(plan.vouch(Some(&voucher("first"))));
    plan.pass(21 * STEP);
    assert!(plan.vouch(Some(&other)));
    assert!(plan.is_of(Some(&other)));
}

#[derive(Clone, Debug)]
enum Move {
    Want(u64),
    Answer(usize),
    Bring(usize, u64),
    Break(usize),
    Front(u64),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        (0..STEPS).prop_map(Move::Want),
        (0usize..4).prop_map(Move::Answer),
        ((0usize..4), 1u64..8).prop_map(|(lane, steps)| Move::Bring(lane, steps)),
        (0usize..4).prop_map(Move::Break),
        (1u64..4).prop_map(Move::Front),
    ];
    prop::collection::vec(one, 0..200)
}

/// What each byte's step was written by; panics on the second time.
struct Written(Vec<bool>);

impl Written {
    fn write(&mut self, run: ByteRange) {
        for step in run.start() / STEP..run.end() / STEP {
            let there = &mut self.0[usize::try_from(step).unwrap()];
            assert!(!*there, "step {step} is written twice");
            *there = true;
        }
    }
}

/// Moves the main lane as a fill does: it takes over what is there, waits where it follows, else brings.
fn advance(plan: &mut Plan, written: &mut Written, steps: u64) {
    plan.pass(plan.front + plan.written_at_front());
    let front = plan.front;
    let end = plan.claim_front((front + steps * STEP).min(plan.size));
    written.write(ByteRange::new(front, end));
}

proptest! {
    #[test]
    fn each_byte_is_written_once_whatever_lanes_do_r2_1(moves in moves()) {
        let mut plan = plan();
        let mut written = Written(vec![false; usize::try_from(STEPS).unwrap()]);
        let mut orders: Vec<Order> = Vec::new();
        for one in moves {
            match one {
                Move::Want(step) => plan.want(step * STEP),
                Move::Front(steps) => advance(&mut plan, &mut written, steps),
                Move::Answer(lane) if lane < orders.len() && plan.lanes[lane].state == State::Asked => {
                    let has_its_place = plan.begin(orders[lane].number);
                    if !has_its_place {
                        plan.end(orders.remove(lane).number, 0, Ended::Done);
                    }
                }
                Move::Bring(lane, steps) if lane < orders.len() && plan.lanes[lane].state == State::Running => {
                    let (number, at) = (orders[lane].number, plan.lanes[lane].claimed);
                    let given = plan.claim(number, steps * STEP);
                    let run = ByteRange::new(at, at + given);
                    written.write(run);
                    plan.wrote(run);
                    if given < steps * STEP {
                        orders.remove(lane);
                        plan.end(number, at, Ended::Done);
                    }
                }
                Move::Break(lane) if lane < orders.len() => {
                    plan.end(orders.remove(lane).number, GAIN_MIN, Ended::Broken);
                }
                _ => {}
            }
            orders.extend(plan.open());
            prop_assert!(plan.lanes.len() <= 4);
        }
        for order in orders {
            plan.end(order.number, 0, Ended::Done);
        }
        // No lane is left: the main lane brings the rest, without waiting.
        for _ in 0..STEPS {
            advance(&mut plan, &mut written, 1);
        }
        plan.pass(plan.front + plan.written_at_front());
        prop_assert_eq!(plan.front, plan.size);
        prop_assert!(written.0.iter().all(|there| *there));
    }
}
