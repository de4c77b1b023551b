//! What is given of a limit, against what would be poured out drop by drop; and what of it comes back.

use proptest::prelude::*;

use super::*;

/// From one deal to the next.
const PACE: Duration = Duration::from_millis(20);

/// Connections that want bytes, as a test has them: each with some transfers, which want so much at a time.
#[derive(Clone, Copy, Debug)]
struct Wish {
    transfers: usize,
    wanted: u64,
    /// When they ask again.
    again: Again,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    AtOnce,
    AfterTheDeal,
}

/// What each connection was given, deal after deal.
fn played(per_sec: u64, deals: u64, wishes: &[Wish]) -> Vec<u64> {
    let mut now = Duration::from_secs(9);
    let mut meter = Meter::new(per_sec, now);
    let mut given = vec![0; wishes.len()];
    // Who asks before which deal, with the connection's place in the list.
    let mut asks: Vec<(u64, usize)> = Vec::new();
    for (at, wish) in wishes.iter().enumerate() {
        asks.extend(std::iter::repeat_n((0, at), wish.transfers));
    }
    for deal in 0..deals {
        let (due, later): (Vec<_>, Vec<_>) = asks.into_iter().partition(|(when, _)| *when <= deal);
        let mut due = VecDeque::from(due);
        asks = later;
        while let Some((_, at)) = due.pop_front() {
            let connection = Connection(at as u64);
            match meter.take(now, connection, wishes[at].wanted) {
                Some(bytes) => {
                    given[at] += bytes;
                    if wishes[at].again == Again::AtOnce {
                        due.push_back((deal, at));
                    } else {
                        asks.push((deal + 1, at));
                    }
                }
                None => meter.wait(connection, wishes[at].wanted, at),
            }
        }
        now += PACE;
        meter.deal(now, |at, bytes| {
            assert!(bytes >= 1 && bytes <= wishes[at].wanted);
            given[at] += bytes;
            asks.push((deal + 1, at));
        });
    }
    given
}

/// What each was given in some seconds: all that was to be had, and no more.
fn all_played(per_sec: u64, wishes: &[Wish]) -> Result<Vec<u64>, TestCaseError> {
    let secs = 4;
    let given = played(per_sec, secs * 50, wishes);
    let all: u64 = given.iter().sum();
    prop_assert!(all <= per_sec * secs + kept(per_sec) + piece(per_sec), "{} of {}", all, per_sec * secs);
    prop_assert!(all >= per_sec * secs * 99 / 100, "{} of {}", all, per_sec * secs);
    Ok(given)
}

/// What each would have of so many bytes if they were poured out drop by drop: nobody more than it asks for, all others alike.
fn poured(bytes: u64, asked: &[u64]) -> Vec<u64> {
    let mut order: Vec<_> = (0..asked.len()).collect();
    order.sort_by_key(|at| asked[*at]);
    let (mut left, mut parts) = (bytes, vec![0; asked.len()]);
    for (done, at) in order.iter().enumerate() {
        parts[*at] = asked[*at].min(left / (asked.len() - done) as u64);
        left -= parts[*at];
    }
    parts
}

/// The least that a connection asks for at a time.
const WANTED_MIN: u64 = 60_000;

proptest! {
    #[test]
    fn connections_that_want_all_have_equal_shares_whatever_they_ask_for_r10_1(
        per_sec in 200_000_u64..20_000_000,
        wishes in prop::collection::vec((1_usize..5, WANTED_MIN..2_000_000), 2..20),
    ) {
        // No connection has all it asks for of a deal.
        let per_sec = per_sec.min(WANTED_MIN * 49 * wishes.len() as u64);
        let wishes: Vec<_> =
            wishes.into_iter().map(|(transfers, wanted)| Wish { transfers, wanted, again: Again::AtOnce }).collect();
        let given = all_played(per_sec, &wishes)?;
        let part = given.iter().sum::<u64>() / wishes.len() as u64;
        // Whoever came first had what was kept; a part of a deal is open at the end.
        let slack = kept(per_sec) + 2 * piece(per_sec);
        for one in &given {
            prop_assert!(one.abs_diff(part) <= slack, "{} and not {}: {:?}", one, part, given);
        }
    }

    #[test]
    fn connections_that_ask_for_less_than_a_deal_has_use_all_by_what_they_ask_for_r10_1(
        per_sec in 10_000_000_u64..200_000_000,
        wishes in prop::collection::vec(WANTED_MIN..70_000, 2..4),
    ) {
        let wishes: Vec<_> =
            wishes.into_iter().map(|wanted| Wish { transfers: 1, wanted, again: Again::AtOnce }).collect();
        let given = all_played(per_sec, &wishes)?;
        let most = *given.iter().max().unwrap();
        let slack = kept(per_sec) + 2 * piece(per_sec);
        for one in &given {
            prop_assert!(one + slack >= most * WANTED_MIN / 70_000, "{:?} of {:?}", given, wishes);
        }
    }

    #[test]
    fn what_some_do_not_want_the_others_have_r10_1(
        per_sec in 1_000_000_u64..10_000_000,
        wanted in prop::collection::vec(2_000_u64..300_000, 2..12),
    ) {
        // One transfer each: it asks anew in each.
        let wishes: Vec<_> =
            wanted.iter().map(|wanted| Wish { transfers: 1, wanted: *wanted, again: Again::AfterTheDeal }).collect();
        let deals = 400;
        let given = played(per_sec, deals, &wishes);
        let asked: Vec<_> = wanted.iter().map(|wanted| wanted * deals).collect();
        let parts = poured(per_sec * deals / 50, &asked);
        for (one, part) in given.iter().zip(&parts) {
            let slack = part / 50 + kept(per_sec) + 2 * piece(per_sec);
            prop_assert!(one.abs_diff(*part) <= slack, "{:?} and not {:?} of {:?}", given, parts, asked);
        }
    }
}

#[test]
fn who_is_dealt_all_it_wants_and_asks_again_has_what_the_deal_left_r10_1() {
    let wish = Wish { transfers: 1, wanted: 60_000, again: Again::AtOnce };
    let given: u64 = played(12_067_411, 200, &[wish, wish]).iter().sum();
    assert!(given >= 12_067_411 * 4 * 99 / 100, "{given}");
}

#[test]
fn no_part_of_a_byte_is_lost_however_often_it_is_looked_r10_1() {
    let mut now = Duration::ZERO;
    let mut meter: Meter<()> = Meter::new(7, now);
    let kept = meter.take(now, Connection(1), u64::MAX).unwrap();
    for _ in 0..1_000_000 {
        now += Duration::from_micros(77);
        meter.fill(now);
    }
    assert_eq!((kept, meter.left), (PIECE_BYTES_MIN, 7 * 77));
}

#[test]
fn what_was_not_used_is_there_for_others_and_what_was_used_beyond_is_owed_r10_1() {
    let now = Duration::from_secs(1);
    let mut meter: Meter<u8> = Meter::new(1_000_000, now);
    let (one, other) = (Connection(1), Connection(2));
    assert_eq!(meter.take(now, one, 100_000), Some(100_000));
    assert_eq!(meter.take(now, other, 1), None);
    meter.wait(other, 50_000, 7);
    meter.give_back(one, 30_000);
    let mut told = Vec::new();
    meter.deal(now, |transfer, given| told.push((transfer, given)));
    // The last piece is given whole.
    assert!(matches!(told[..], [(7, 30_000..=31_024)]), "{told:?}");
    meter.owe(other, 100_000);
    let later = now + Duration::from_millis(99);
    assert_eq!(meter.take(later, one, 1), None);
    meter.wait(one, 1, 8);
    meter.deal(later, |_, _| panic!("it is owed"));
    assert!(meter.leave(one, |transfer| *transfer == 8) && !meter.leave(one, |_| true));
    assert!(!meter.is_waited_for() && !meter.is_whole(later));
    assert!(meter.is_whole(later + Duration::from_secs(1)));
}

#[test]
fn another_limit_holds_at_once_r10_1() {
    let now = Duration::from_secs(1);
    let mut meter: Meter<u8> = Meter::new(1_000_000_000, now);
    meter.set(10_000, now);
    assert_eq!(meter.take(now, Connection(1), u64::MAX), Some(PIECE_BYTES_MIN));
    meter.owe(Connection(1), 1 << 40);
    meter.set(20_000, now);
    meter.wait(Connection(1), 10, 1);
    let mut told = 0;
    meter.deal(now + Duration::from_secs(1), |_, given| told = given);
    assert_eq!(told, 10, "what was owed at another rate is not owed for ever");
}
