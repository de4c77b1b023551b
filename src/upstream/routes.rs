//! Which ways lead to a destination, and in which order they are tried (R4.5).
//!
//! The first route that names a destination counts; without one, or where the settings want no proxy, the way is direct. A
//! way that failed rests: it is tried after the others. Never connects, and knows no clock: times are those that it is given.
//! Invariant: a destination has the ways of one route, each once, and resting takes none away.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lru::LruCache;

use crate::base::destination::{Destination, HostPattern};
use crate::config::elsewhere::{Hop, Parent, RouteSettings};

/// How long a way that failed is tried last: as long as a proxy's restart takes, and little to lose once it is back.
pub const REST: Duration = Duration::from_secs(30);

/// Failures remembered; the oldest goes first. A destination whose failure was forgotten costs one try.
const RESTING_MAX: NonZeroUsize = NonZeroUsize::new(1024).expect("it is not zero");

/// One way: directly, or by one of the parents in [`Routes::parents`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum By {
    /// No proxy.
    Direct,
    /// The parent with this number.
    Parent(usize),
}

/// How far a failure reaches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Extent {
    /// The way leads nowhere: its proxy is down, or refuses the relay.
    Everywhere,
    /// The way does not lead to this destination; it may lead to others.
    To(Destination),
}

/// The routes of the settings, and which ways failed.
#[derive(Debug)]
pub struct Routes {
    no_proxy: Vec<HostPattern>,
    rules: Vec<Rule>,
    parents: Vec<Parent>,
    /// Guards when each way last failed.
    resting: Mutex<LruCache<(By, Extent), Duration>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Rule {
    to: Vec<HostPattern>,
    via: Vec<By>,
}

impl Routes {
    /// Routes of which no way has failed yet.
    pub fn new(settings: &[RouteSettings], no_proxy: &[HostPattern]) -> Self {
        let mut parents: Vec<Parent> = Vec::new();
        let mut number = |parent: &Parent| {
            parents.iter().position(|known| known == parent).unwrap_or_else(|| {
                parents.push(parent.clone());
                parents.len() - 1
            })
        };
        let mut rules = Vec::new();
        for route in settings {
            let mut via = Vec::new();
            for hop in &route.via {
                let by = match hop {
                    Hop::Direct => By::Direct,
                    Hop::Parent(parent) => By::Parent(number(parent)),
                };
                if !via.contains(&by) {
                    via.push(by);
                }
            }
            rules.push(Rule { to: route.to.clone(), via });
        }
        Self { no_proxy: no_proxy.to_vec(), rules, parents, resting: Mutex::new(LruCache::new(RESTING_MAX)) }
    }

    /// Whether others say the same, whatever failed.
    pub fn are_alike(&self, other: &Self) -> bool {
        (&self.no_proxy, &self.rules, &self.parents) == (&other.no_proxy, &other.rules, &other.parents)
    }

    /// The parents of all routes, each once.
    pub fn parents(&self) -> &[Parent] {
        &self.parents
    }

    /// The ways to a destination, in the order in which they are to be tried now.
    pub fn ways(&self, to: &Destination, now: Duration) -> Vec<By> {
        let via = self.via(to);
        if let [only] = via {
            return vec![*only];
        }
        let (resting, mut ways): (Vec<_>, Vec<_>) = via.iter().partition(|by| self.rests(**by, to, now));
        ways.extend(resting);
        ways
    }

    /// Whether a way to a destination failed a while ago.
    pub fn rests(&self, by: By, to: &Destination, now: Duration) -> bool {
        let resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |extent| resting.peek(&(by, extent)).is_some_and(|at| now.saturating_sub(*at) < REST);
        failed(Extent::Everywhere) || failed(Extent::To(to.clone()))
    }

    /// Notes that a way failed.
    pub fn failed(&self, by: By, extent: Extent, now: Duration) {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner).put((by, extent), now);
    }

    /// Notes that a way led to a destination.
    pub fn worked(&self, by: By, to: &Destination) {
        let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        if !resting.is_empty() {
            resting.pop(&(by, Extent::Everywhere));
            resting.pop(&(by, Extent::To(to.clone())));
        }
    }

    fn via(&self, to: &Destination) -> &[By] {
        if self.no_proxy.iter().any(|host| host.names(to)) {
            return &[By::Direct];
        }
        let rule = self.rules.iter().find(|rule| rule.to.iter().any(|host| host.names(to)));
        rule.map_or(&[By::Direct], |rule| &rule.via)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::elsewhere::ParentScheme;

    fn parent(number: u8) -> Hop {
        Hop::Parent(Parent {
            scheme: ParentScheme::Http,
            host: format!("parent{number}.example"),
            port: 3128,
            credentials: None,
        })
    }

    fn to(text: &str) -> Destination {
        Destination::parse(text).unwrap()
    }

    fn name(text: &str) -> HostPattern {
        HostPattern::Name(text.into())
    }

    fn below(text: &str) -> HostPattern {
        HostPattern::Below(text.into())
    }

    #[test]
    fn the_first_route_that_names_a_destination_counts_and_without_one_it_is_direct_r4_5() {
        let routes = Routes::new(
            &[
                RouteSettings { to: vec![name("au.example")], via: vec![parent(1), Hop::Direct] },
                RouteSettings { to: vec![below("example"), name("b.test")], via: vec![parent(2)] },
                RouteSettings { to: vec![name("au.example")], via: vec![parent(3)] },
            ],
            &[name("near.example"), HostPattern::Prefix("10.0.0.0/8".parse().unwrap())],
        );
        let ways = |text: &str| routes.ways(&to(text), Duration::ZERO);
        assert_eq!(ways("au.example:80"), [By::Parent(0), By::Direct]);
        assert_eq!(ways("AU.example.:443"), [By::Parent(0), By::Direct]);
        assert_eq!(ways("other.example:80"), [By::Parent(1)]);
        assert_eq!(ways("near.example:80"), [By::Direct], "no_proxy comes first");
        assert_eq!(ways("10.1.2.3:80"), [By::Direct]);
        assert_eq!(ways("elsewhere.net:80"), [By::Direct]);
        assert_eq!(routes.parents().len(), 3);
    }

    #[test]
    fn a_way_named_twice_is_one_and_its_failure_counts_for_all_routes_r4_5() {
        let two = [parent(1), parent(2), parent(1)];
        let routes = Routes::new(
            &[
                RouteSettings { to: vec![name("a.example")], via: two.to_vec() },
                RouteSettings { to: vec![HostPattern::Any], via: vec![parent(1), Hop::Direct] },
            ],
            &[],
        );
        assert_eq!(routes.parents().len(), 2);
        let now = Duration::from_secs(5);
        assert_eq!(routes.ways(&to("a.example:80"), now), [By::Parent(0), By::Parent(1)]);
        routes.failed(By::Parent(0), Extent::Everywhere, now);
        assert_eq!(routes.ways(&to("a.example:80"), now), [By::Parent(1), By::Parent(0)]);
        assert_eq!(routes.ways(&to("b.example:80"), now), [By::Direct, By::Parent(0)]);
        routes.worked(By::Parent(0), &to("b.example:80"));
        assert_eq!(routes.ways(&to("a.example:80"), now), [By::Parent(0), By::Parent(1)]);
    }

    #[test]
    fn failures_without_end_push_out_the_oldest() {
        let routes = Routes::new(&[], &[]);
        for number in 1..=1025 {
            let place = to(&format!("a.example:{number}"));
            routes.failed(By::Direct, Extent::To(place), Duration::ZERO);
        }
        assert!(!routes.rests(By::Direct, &to("a.example:1"), Duration::ZERO));
        assert!(routes.rests(By::Direct, &to("a.example:2"), Duration::ZERO));
    }

    /// What a naive model knows: the settings as they stand, and every failure and success in order.
    #[derive(Clone, Debug)]
    enum Happening {
        Failed(u8, Option<u8>),
        Worked(u8, u8),
        Passes(u64),
    }

    const HOSTS: [&str; 4] = ["a.example", "b.example", "c.example.net", "10.0.0.1"];

    fn hop(number: u8) -> Hop {
        if number == 0 { Hop::Direct } else { parent(number) }
    }

    fn pattern() -> impl Strategy<Value = HostPattern> {
        prop_oneof![
            Just(HostPattern::Any),
            (0..3usize).prop_map(|host| name(HOSTS[host])),
            Just(below("example")),
            Just(below("net")),
            Just(HostPattern::Prefix("10.0.0.0/24".parse().unwrap())),
        ]
    }

    fn happening() -> impl Strategy<Value = Happening> {
        prop_oneof![
            (0..4u8, proptest::option::of(0..4u8)).prop_map(|(hop, host)| Happening::Failed(hop, host)),
            (0..4u8, 0..4u8).prop_map(|(hop, host)| Happening::Worked(hop, host)),
            (0..40u64).prop_map(Happening::Passes),
        ]
    }

    proptest! {
        #[test]
        fn ways_are_those_of_a_naive_reading_of_the_settings_r4_5(
            settings in proptest::collection::vec(
                (proptest::collection::vec(pattern(), 1..3), proptest::collection::vec(0..4u8, 1..5)), 0..4),
            no_proxy in proptest::collection::vec(pattern(), 0..2),
            happenings in proptest::collection::vec(happening(), 0..30),
        ) {
            let rows: Vec<RouteSettings> = settings
                .iter()
                .map(|(to, via)| RouteSettings { to: to.clone(), via: via.iter().map(|n| hop(*n)).collect() })
                .collect();
            let routes = Routes::new(&rows, &no_proxy);
            let place = |host: u8| Destination::new(HOSTS[usize::from(host)], 80).unwrap();
            let by = |number: u8| match hop(number) {
                Hop::Direct => Some(By::Direct),
                Hop::Parent(parent) => routes.parents().iter().position(|known| *known == parent).map(By::Parent),
            };
            let mut now = 0;
            let mut log: Vec<(u64, Happening)> = Vec::new();
            for happening in happenings {
                match happening {
                    Happening::Passes(secs) => now += secs,
                    Happening::Failed(number, host) => {
                        let Some(by) = by(number) else { continue };
                        let extent = host.map_or(Extent::Everywhere, |host| Extent::To(place(host)));
                        routes.failed(by, extent, Duration::from_secs(now));
                        log.push((now, Happening::Failed(number, host)));
                    }
                    Happening::Worked(number, host) => {
                        let Some(by) = by(number) else { continue };
                        routes.worked(by, &place(host));
                        log.push((now, Happening::Worked(number, host)));
                    }
                }
                for host in 0..4u8 {
                    let rests = |number: u8| {
                        let mut everywhere = None;
                        let mut here = None;
                        for (at, happened) in &log {
                            match happened {
                                Happening::Failed(n, None) if *n == number => everywhere = Some(*at),
                                Happening::Failed(n, Some(to)) if *n == number && *to == host => here = Some(*at),
                                Happening::Worked(n, to) if *n == number => {
                                    everywhere = None;
                                    if *to == host {
                                        here = None;
                                    }
                                }
                                _ => {}
                            }
                        }
                        [everywhere, here].into_iter().flatten().any(|at| now - at < 30)
                    };
                    let mut via = vec![0];
                    if !no_proxy.iter().any(|pattern| pattern.names(&place(host))) {
                        for (to, row) in &settings {
                            if to.iter().any(|pattern| pattern.names(&place(host))) {
                                via.clone_from(row);
                                break;
                            }
                        }
                    }
                    let mut expected: Vec<By> = Vec::new();
                    for resting in [false, true] {
                        for number in &via {
                            let way = by(*number).unwrap();
                            if rests(*number) == resting && !expected.contains(&way) {
                                expected.push(way);
                            }
                        }
                    }
                    prop_assert_eq!(routes.ways(&place(host), Duration::from_secs(now)), expected);
                }
            }
        }
    }
}
