//! Networks replayed: each address answers, refuses or is silent after some time, and the race is run against them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const DELAY: Duration = Duration::from_millis(250);

/// When an answer comes, and what it says.
type Answer = (u64, Result<Vec<&'static str>, &'static str>);

/// What becomes of an attempt, so long after it began; silence is `None`.
type Fate = Option<(u64, bool)>;

/// A network on which names and addresses behave in one way.
struct Network {
    aaaa: Answer,
    a: Answer,
    embedded: Answer,
    fates: HashMap<IpAddr, Fate>,
    known_to_fail: Vec<IpAddr>,
}

/// What a race did, by the millisecond.
#[derive(Debug, Default, PartialEq)]
struct Replay {
    asked: Vec<(u64, Question)>,
    attempts: Vec<(u64, IpAddr)>,
    given_up: Vec<IpAddr>,
    won: Option<(u64, IpAddr)>,
    lost: Option<u64>,
    overtaken: Vec<IpAddr>,
    most_at_once: usize,
}

impl Network {
    fn new(aaaa: Answer, a: Answer, fates: &[(&str, Fate)]) -> Self {
        let fates = fates.iter().map(|(address, fate)| (ip(address), *fate)).collect();
        Self { aaaa, a, embedded: (0, Ok(Vec::new())), fates, known_to_fail: Vec::new() }
    }

    /// Runs a race, one millisecond after the other; a race that is neither won nor lost by `END_MS` is left.
    fn replay(&self, plan: Plan) -> Replay {
        let mut race = Race::new(plan);
        let mut replay = Replay::default();
        let mut answers: Vec<(u64, Question)> = Vec::new();
        let mut ends: Vec<(u64, IpAddr, bool)> = Vec::new();
        let mut ms = 0;
        while ms < END_MS {
            let now = Duration::from_millis(ms);
            for (_, question) in answers.extract_if(.., |(at, _)| *at <= ms) {
                let answer = self.answer(question).1.clone();
                let answer = answer.map(|addresses| addresses.into_iter().map(ip).collect());
                let failed = |address| self.known_to_fail.contains(&address);
                race.answered(question, answer.map_err(str::to_owned), now, failed);
            }
            for (_, address, connects) in ends.extract_if(.., |(at, ..)| *at <= ms) {
                if connects { race.connected(address) } else { race.failed(address, "refused".into()) }
            }
            match race.next(now) {
                Next::Ask(question) => {
                    replay.asked.push((ms, question));
                    answers.push((ms + self.answer(question).0, question));
                }
                Next::Attempt(address, given_up) => {
                    replay.attempts.push((ms, address));
                    ends.retain(|(_, address, _)| Some(*address) != given_up);
                    replay.given_up.extend(given_up);
                    replay.most_at_once = replay.most_at_once.max(race.under_way().count());
                    let fate = self.fates.get(&address).copied().flatten();
                    ends.extend(fate.map(|(after, connects)| (ms + after, address, connects)));
                }
                Next::Wait(until) => {
                    assert!(until.is_none_or(|until| until > now), "it waits for what is past");
                    ms += 1;
                }
                Next::Won(address) => {
                    replay.won = Some((ms, address));
                    replay.overtaken = race.overtaken().collect();
                    return replay;
                }
                Next::Lost => {
                    replay.lost = Some(ms);
                    return replay;
                }
            }
        }
        replay
    }

    fn answer(&self, question: Question) -> &Answer {
        match question {
            Question::Aaaa => &self.aaaa,
            Question::A => &self.a,
            Question::Embedded => &self.embedded,
        }
    }
}

/// Longer than any race of these tests.
const END_MS: u64 = 20_000;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn plan() -> Plan {
    Plan { family: Family::Race, attempt_delay: DELAY, nat64: false }
}

fn attempts(expected: &[(u64, &str)]) -> Vec<(u64, IpAddr)> {
    expected.iter().map(|(ms, address)| (*ms, ip(address))).collect()
}

#[test]
fn aaaa_and_a_are_asked_apart_and_at_once_and_ipv6_goes_first_r4_3() {
    let network = Network::new(
        (20, Ok(vec!["2001:db8::1"])),
        (20, Ok(vec!["192.0.2.1"])),
        &[("2001:db8::1", Some((30, true)))],
    );
    let replay = network.replay(plan());
    assert_eq!(replay.asked, [(0, Question::Aaaa), (0, Question::A)]);
    assert_eq!(replay.attempts, attempts(&[(20, "2001:db8::1")]));
    assert_eq!(replay.won, Some((50, ip("2001:db8::1"))));
    assert!(replay.overtaken.is_empty());
}

#[test]
fn ipv4_waits_for_a_late_aaaa_for_the_resolution_delay_alone_r4_3() {
    let fates = [("2001:db8::1", Some((5, true))), ("192.0.2.1", Some((5, true)))];
    let raced = |aaaa_ms, a_ms| {
        let network = Network::new((aaaa_ms, Ok(vec!["2001:db8::1"])), (a_ms, Ok(vec!["192.0.2.1"])), &fates);
        network.replay(plan()).attempts
    };
    assert_eq!(raced(59, 10), attempts(&[(59, "2001:db8::1")]), "within the delay IPv6 is first");
    assert_eq!(raced(400, 10), attempts(&[(60, "192.0.2.1")]), "after it IPv4 goes");
    assert_eq!(raced(10, 400), attempts(&[(10, "2001:db8::1")]), "IPv6 waits for nothing");
    let none = Network::new((30, Ok(vec![])), (10, Ok(vec!["192.0.2.1"])), &fates);
    assert_eq!(
        none.replay(plan()).attempts,
        attempts(&[(30, "192.0.2.1")]),
        "nor IPv4 when there is no IPv6"
    );
    let broken = Network::new((30, Err("SERVFAIL")), (10, Ok(vec!["192.0.2.1"])), &fates);
    assert_eq!(broken.replay(plan()).attempts, attempts(&[(30, "192.0.2.1")]));
}

#[test]
fn silent_ipv6_costs_one_delay_and_is_overtaken_r4_3() {
    let network = Network::new(
        (0, Ok(vec!["2001:db8::1"])),
        (0, Ok(vec!["192.0.2.1"])),
        &[("192.0.2.1", Some((3, true)))],
    );
    let replay = network.replay(plan());
    assert_eq!(replay.attempts, attempts(&[(0, "2001:db8::1"), (250, "192.0.2.1")]));
    assert_eq!(replay.won, Some((253, ip("192.0.2.1"))));
    assert_eq!(replay.overtaken, [ip("2001:db8::1")]);
}

#[test]
fn families_are_interleaved_and_a_failure_has_the_next_begin_at_once_r4_3() {
    let aaaa = (0, Ok(vec!["2001:db8::1", "2001:db8::2", "2001:db8::3"]));
    let a = (0, Ok(vec!["192.0.2.1", "192.0.2.2"]));
    let replay = Network::new(aaaa, a, &[("192.0.2.1", Some((10, false)))]).replay(plan());
    let order = [
        (0, "2001:db8::1"),
        (250, "192.0.2.1"),
        (260, "2001:db8::2"),
        (510, "192.0.2.2"),
        (760, "2001:db8::3"),
    ];
    assert_eq!(replay.attempts, attempts(&order));
    assert_eq!((replay.won, replay.lost), (None, None), "silence is for the deadline");
}

#[test]
fn addresses_that_failed_go_last_but_go_r4_3() {
    let mut network =
        Network::new((0, Ok(vec!["2001:db8::1", "2001:db8::2"])), (0, Ok(vec!["192.0.2.1"])), &[]);
    network.known_to_fail = vec![ip("2001:db8::1"), ip("192.0.2.1")];
    let order = [(0, "2001:db8::2"), (250, "192.0.2.1"), (500, "2001:db8::1")];
    assert_eq!(network.replay(plan()).attempts, attempts(&order));
    let fates = [("192.0.2.1", Some((3, true)))];
    let raced = |a_ms| {
        let mut network = Network::new((0, Ok(vec!["2001:db8::1"])), (a_ms, Ok(vec!["192.0.2.1"])), &fates);
        network.known_to_fail = vec![ip("2001:db8::1")];
        network.replay(plan()).attempts
    };
    assert_eq!(raced(10), attempts(&[(10, "192.0.2.1")]), "nor do they go first because their answer does");
    assert_eq!(raced(300), attempts(&[(50, "2001:db8::1"), (300, "192.0.2.1")]));
}

#[test]
fn one_family_alone_has_no_other_asked_or_attempted_r4_3() {
    let network = Network::new((0, Ok(vec!["2001:db8::1"])), (0, Ok(vec!["192.0.2.1"])), &[]);
    for (family, question, address) in
        [(Family::Ipv4, Question::A, "192.0.2.1"), (Family::Ipv6, Question::Aaaa, "2001:db8::1")]
    {
        let replay = network.replay(Plan { family, ..plan() });
        assert_eq!(replay.asked, [(0, question)]);
        assert_eq!(replay.attempts, attempts(&[(0, address)]));
    }
}

#[test]
fn a_race_without_answers_or_with_all_refused_is_lost_when_the_last_one_is_r4_3() {
    let nothing = Network::new((70, Err("SERVFAIL")), (40, Ok(vec![])), &[]);
    assert_eq!(nothing.replay(plan()).lost, Some(70));
    let fates = [("2001:db8::1", Some((10, false))), ("192.0.2.1", Some((20, false)))];
    let refused = Network::new((0, Ok(vec!["2001:db8::1"])), (500, Ok(vec!["192.0.2.1"])), &fates);
    let replay = refused.replay(plan());
    assert_eq!(replay.attempts, attempts(&[(0, "2001:db8::1"), (500, "192.0.2.1")]));
    assert_eq!(replay.lost, Some(520), "it ends with the last answer's last address");
}

#[test]
fn nat64_is_asked_for_when_ipv4_does_not_get_through_and_not_before_r4_3() {
    let with = |aaaa: &[&'static str], fates: &[(&str, Fate)], family| {
        let mut network = Network::new((0, Ok(aaaa.to_vec())), (0, Ok(vec!["192.0.2.1"])), fates);
        network.embedded = (5, Ok(vec!["64:ff9b::c000:201"]));
        network.replay(Plan { nat64: true, family, ..plan() })
    };
    let embedded = ip("64:ff9b::c000:201");
    let reached = ("64:ff9b::c000:201", Some((10, true)));
    let unreachable = with(&[], &[("192.0.2.1", Some((0, false))), reached], Family::Race);
    assert_eq!(unreachable.won.map(|(_, address)| address), Some(embedded));
    let silent = with(&[], &[reached], Family::Race);
    assert_eq!((silent.asked.last(), silent.won), (Some(&(250, Question::Embedded)), Some((265, embedded))));
    let works = with(&[], &[("192.0.2.1", Some((200, true)))], Family::Race);
    assert_eq!(works.asked.len(), 2, "nobody asks while IPv4 works");
    let dual = with(&["2001:db8::1"], &[reached], Family::Race);
    assert_eq!(
        dual.asked.last(),
        Some(&(2250, Question::Embedded)),
        "a name with IPv6 has it in the last resort"
    );
    let ipv6 = with(&[], &[reached], Family::Ipv6);
    assert_eq!(ipv6.attempts, [(5, embedded)], "IPv4 itself is not attempted");
    assert_eq!(with(&[], &[reached], Family::Ipv4).asked, [(0, Question::A)]);
    let lost =
        with(&[], &[("192.0.2.1", Some((0, false))), ("64:ff9b::c000:201", Some((7, false)))], Family::Race);
    assert_eq!(lost.attempts.len(), 2);
    assert!(lost.lost.is_some());
}

#[test]
fn the_successors_figures_hold() {
    assert_eq!((RESOLUTION_DELAY.as_millis(), FIRST_FAMILY_COUNT, LAST_RESORT_DELAY.as_secs()), (50, 1, 2));
}

#[test]
fn answers_with_addresses_without_end_are_cut_and_old_attempts_make_room_r4_3() {
    let many: Vec<&'static str> = vec![
        "192.0.2.1",
        "192.0.2.2",
        "192.0.2.3",
        "192.0.2.4",
        "192.0.2.5",
        "192.0.2.6",
        "192.0.2.7",
        "192.0.2.8",
        "192.0.2.9",
        "192.0.2.10",
        "192.0.2.11",
        "192.0.2.12",
        "192.0.2.13",
        "192.0.2.14",
        "192.0.2.15",
        "192.0.2.16",
        "192.0.2.17",
        "192.0.2.18",
    ];
    let replay = Network::new((0, Ok(vec![])), (0, Ok(many)), &[]).replay(plan());
    assert_eq!(replay.attempts.len(), ADDRESSES_MAX);
    assert_eq!(replay.most_at_once, ATTEMPTS_AT_ONCE_MAX);
    assert_eq!(replay.given_up.len(), ADDRESSES_MAX - ATTEMPTS_AT_ONCE_MAX);
    assert_eq!(replay.given_up[0], ip("192.0.2.1"));
}

/// Addresses by their number; one in two answers names the same one twice.
const POOL: [&str; 8] = [
    "2001:db8::1",
    "2001:db8::2",
    "2001:db8::3",
    "2001:db8::1",
    "192.0.2.1",
    "192.0.2.2",
    "192.0.2.3",
    "192.0.2.1",
];

fn answers() -> impl Strategy<Value = (Answer, Answer)> {
    let answer = |pool: &'static [&'static str]| {
        let addresses = prop::collection::vec(prop::sample::select(pool), 0..5);
        (0u64..700, prop_oneof![4 => addresses.prop_map(Ok), 1 => Just(Err("SERVFAIL"))])
    };
    // An answer may hold what was not asked for.
    (answer(&POOL[..5]), answer(&POOL[3..]))
}

fn fates() -> impl Strategy<Value = HashMap<IpAddr, Fate>> {
    let fate = prop::option::of((0u64..600, prop::bool::weighted(0.3)));
    let fates = prop::collection::vec(fate, POOL.len());
    fates.prop_map(|fates| POOL.iter().map(|address| ip(address)).zip(fates).collect())
}

proptest! {
    #[test]
    fn races_on_any_network_keep_the_rules_r4_3(
        (aaaa, a) in answers(),
        fates in fates(),
        known in prop::collection::vec(prop::sample::select(&POOL[..]), 0..4),
        family in prop_oneof![Just(Family::Race), Just(Family::Ipv4), Just(Family::Ipv6)],
        delay_ms in 100u64..=2000,
    ) {
        let known_to_fail: Vec<IpAddr> = known.into_iter().map(ip).collect();
        let network = Network { aaaa, a, embedded: (0, Ok(vec![])), fates, known_to_fail };
        let plan = Plan { family, attempt_delay: Duration::from_millis(delay_ms), nat64: false };
        let replay = network.replay(plan);
        let allowed = |address: &IpAddr| match family {
            Family::Race => true,
            Family::Ipv4 => address.is_ipv4(),
            Family::Ipv6 => address.is_ipv6(),
        };
        let mut told: Vec<IpAddr> = [(&network.aaaa, false), (&network.a, true)]
            .into_iter()
            .flat_map(|(answer, v4)| answer.1.iter().flatten().map(|text| ip(text)).filter(move |ip| ip.is_ipv4() == v4))
            .filter(allowed)
            .collect();
        told.sort();
        told.dedup();
        let mut attempted: Vec<IpAddr> = replay.attempts.iter().map(|(_, address)| *address).collect();
        attempted.sort();
        for pair in attempted.windows(2) {
            prop_assert_ne!(pair[0], pair[1], "twice: {:?}", replay);
        }
        prop_assert!(attempted.iter().all(|address| told.contains(address)), "{:?}", replay);
        let refusals: Vec<u64> = replay.attempts.iter().filter_map(|(at, address)| {
            let (after, connects) = network.fates.get(address).copied().flatten()?;
            (!connects).then_some(at + after)
        }).collect();
        for pair in replay.attempts.windows(2) {
            let ((before, _), (at, _)) = (pair[0], pair[1]);
            let one_failed = refusals.iter().any(|refused| (before..=at).contains(refused));
            prop_assert!(at - before >= delay_ms || one_failed, "too early: {:?}", replay);
        }
        if let Some((at, winner)) = replay.won {
            prop_assert!(attempted.contains(&winner));
            prop_assert_eq!(network.fates[&winner].map(|(_, connects)| connects), Some(true));
            prop_assert!(replay.attempts.iter().all(|(begun, _)| *begun <= at));
        } else if replay.lost.is_some() {
            prop_assert_eq!(&attempted, &told, "lost before all was attempted: {:?}", replay);
        } else {
            prop_assert!(attempted.iter().any(|address| network.fates[address].is_none()), "stuck: {:?}", replay);
            prop_assert_eq!(&attempted, &told, "{:?}", replay);
        }
    }
}
