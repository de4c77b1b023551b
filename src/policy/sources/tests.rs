//! Customised lists against a plain model, and what agents of each family are told.

use proptest::prelude::*;

use super::*;
use crate::policy::tree::setting::Resolved;
use crate::policy::tree::value::Switch;

fn source(url: &str, families: Families) -> Source {
    Source::new(url.parse().unwrap(), families).unwrap()
}

fn entry(range: &str, url: &str) -> Entry {
    Entry { range: range.parse().unwrap(), source: source(url, Families::Both) }
}

/// Ranges in a small space, so that they meet.
fn some_range() -> impl Strategy<Value = Range> {
    let v4 = (0u32..200, 0u32..6).prop_map(|(first, more)| {
        Range::V4((0xc000_0200 + first).into(), (0xc000_0200 + first + more).into())
    });
    let v6 = (0u128..200, 122u8..=128).prop_map(|(at, length)| {
        let address = Ipv6Addr::from((0x2001_0db8u128 << 96) + at);
        Range::V6(Ipv6Net::new(address, length).unwrap().trunc())
    });
    prop_oneof![v4, v6]
}

fn holds(range: &Range, address: IpAddr) -> bool {
    match (range, address) {
        (Range::V4(first, last), IpAddr::V4(v4)) => (*first..=*last).contains(&v4),
        (Range::V6(prefix), IpAddr::V6(v6)) => prefix.contains(&v6),
        _ => false,
    }
}

fn addresses() -> impl Iterator<Item = IpAddr> {
    let v4 = (0..220u32).map(|at| IpAddr::V4((0xc000_0200 + at).into()));
    v4.chain((0..260u128).map(|at| IpAddr::V6(((0x2001_0db8u128 << 96) + at).into())))
}

proptest! {
    #[test]
    fn an_address_has_the_entry_that_holds_it_and_overlaps_are_refused_r7_1(
        ranges in prop::collection::vec(some_range(), 0..12),
    ) {
        let url = |at| format!("http://source-{at}.example/");
        let entries: Vec<_> = ranges
            .iter()
            .enumerate()
            .map(|(at, range)| Entry { range: *range, source: source(&url(at), Families::Both) })
            .collect();
        let both = |one: &Range, other: &Range| {
            addresses().any(|address| holds(one, address) && holds(other, address))
        };
        let overlaps = (0..ranges.len()).any(|at| ranges[..at].iter().any(|other| both(other, &ranges[at])));
        match Customised::new(entries.clone()) {
            Ok(customised) => {
                prop_assert!(!overlaps);
                for address in addresses() {
                    let expected = entries.iter().find(|entry| holds(&entry.range, address));
                    prop_assert_eq!(customised.entry(address), expected);
                    if let IpAddr::V4(v4) = address {
                        prop_assert_eq!(customised.entry(v4.to_ipv6_mapped().into()), expected);
                    }
                }
            }
            Err(CustomisedError::Overlap { earlier, later }) => {
                prop_assert!(earlier.0 < later.0);
                prop_assert_eq!((earlier.1, later.1), (ranges[earlier.0 - 1], ranges[later.0 - 1]));
                prop_assert!(both(&earlier.1, &later.1));
            }
            Err(error) => prop_assert!(false, "{}", error),
        }
    }

    #[test]
    fn nobody_is_told_what_it_cannot_reach_r7_2(
        (v4, v6) in prop_oneof![Just((true, false)), Just((false, true)), Just((true, true))],
        families in prop::collection::vec(prop::sample::select(vec![Families::V4, Families::V6, Families::Both]), 4),
        switches in prop::collection::vec(any::<bool>().prop_map(Switch::from), 4),
        kind in prop::sample::select(vec![Kind::Components, Kind::AgentSettings, Kind::Programs]),
    ) {
        let agent = Addresses {
            v4: v4.then_some(Ipv4Addr::new(192, 0, 2, 7)),
            v6: v6.then_some("2001:db8::7".parse().unwrap()),
        };
        let own = Entry { range: "192.0.2.0-192.0.2.9".parse().unwrap(), source: source("http://own.example/", families[0]) };
        let customised = Customised::new(vec![own]).unwrap();
        let offer = Offer {
            relay: vec![source("http://relay.example/", families[1])],
            upstream: vec![source("http://upstream.example/", families[2])],
            proxy: vec![source("http://proxy.example/", families[3])],
        };
        let inherited = Resolved {
            relay_serves_components: switches[0],
            relay_serves_settings: switches[1],
            relay_serves_programs: switches[2],
            fallback_to_activeupdate: switches[3],
            ..Resolved::default()
        };
        let effective = Effective { own: None, inherited: &inherited };
        let told = sources(&customised, &offer, effective, agent, kind);

        let reaches = |families| match families {
            Families::V4 => v4,
            Families::V6 => v6,
            Families::Both => true,
        };
        let serves = match kind {
            Kind::Components => switches[0],
            Kind::AgentSettings => switches[1],
            Kind::Programs => switches[2],
        };
        let mut expected = Vec::new();
        if v4 && reaches(families[0]) {
            expected.push("own.example, customised".to_owned());
        }
        if serves.is_on() && reaches(families[1]) {
            expected.push("relay.example, relay".to_owned());
        }
        if switches[3].is_on() && kind != Kind::AgentSettings {
            if v4 && reaches(families[2]) {
                expected.push("upstream.example, upstream".to_owned());
            } else if reaches(families[3]) {
                expected.push("upstream.example, through proxy.example".to_owned());
            }
        }
        let told: Vec<_> = told.iter().map(|told| {
            let reason = match told.reason {
                Reason::Customised(_) => "customised".to_owned(),
                Reason::Relay => "relay".to_owned(),
                Reason::Upstream => "upstream".to_owned(),
                Reason::UpstreamThrough(proxy) => format!("through {}", proxy.host_str().unwrap()),
            };
            format!("{}, {reason}", told.url.host_str().unwrap())
        }).collect();
        prop_assert_eq!(told, expected);
    }
}

#[test]
fn an_overlap_names_both_entries_and_a_long_list_is_refused_r7_1() {
    let list = ["192.0.2.10-192.0.2.20", "2001:db8::/32", "192.0.2.20-192.0.2.30"];
    let entries = list.map(|range| entry(range, "http://source.example/"));
    assert_eq!(
        Customised::new(entries.to_vec()).unwrap_err().to_string(),
        "entry 3 (192.0.2.20-192.0.2.30) overlaps entry 1 (192.0.2.10-192.0.2.20)"
    );
    let nested = ["2001:db8:1::/48", "2001:db8::/32"].map(|range| entry(range, "http://source.example/"));
    assert_eq!(
        Customised::new(nested.to_vec()).unwrap_err().to_string(),
        "entry 2 (2001:db8::/32) overlaps entry 1 (2001:db8:1::/48)"
    );
    let many = |count: u32| {
        let one = |at: u32| Range::V4((at * 256).into(), (at * 256 + 255).into());
        let source = source("http://source.example/", Families::Both);
        (0..count).map(|at| Entry { range: one(at), source: source.clone() }).collect()
    };
    assert!(Customised::new(many(1024)).unwrap().entry("0.3.255.255".parse().unwrap()).is_some());
    assert_eq!(Customised::new(many(1025)).unwrap_err(), CustomisedError::TooMany(1025));
}

#[test]
fn ranges_and_sources_that_are_none_are_refused_r7_1() {
    for (text, error) in [
        ("192.0.2.9-192.0.2.1", RangeError::Backwards),
        ("2001:db8::1/32", RangeError::HostBits("2001:db8::/32".parse().unwrap())),
        ("::ffff:192.0.2.0/120", RangeError::Mapped),
        ("192.0.2.0/24", RangeError::Form),
        ("192.0.2.1", RangeError::Form),
        ("2001:db8::1-2001:db8::9", RangeError::Form),
        ("", RangeError::Form),
        ("-", RangeError::Form),
    ] {
        assert_eq!(text.parse::<Range>(), Err(error), "{text}");
    }
    assert_eq!("192.0.2.1 - 192.0.2.1".parse::<Range>().unwrap().to_string(), "192.0.2.1-192.0.2.1");
    for url in ["ftp://a/", "http://user@a/", "http://:secret@a/", "http://a/?b", "http://a/#b", "data:x"] {
        assert!(Source::new(url.parse().unwrap(), Families::Both).is_err(), "{url}");
    }
}

/// A literal says its family: an agent without it is not told, whatever the settings claim of the source.
#[test]
fn a_source_named_by_an_address_has_the_family_of_the_address_r7_2() {
    let inherited = Resolved::default();
    let effective = Effective { own: None, inherited: &inherited };
    for (url, v4, v6) in [
        ("http://192.0.2.1/", true, false),
        ("http://[2001:db8::1]/", false, true),
        ("http://[::ffff:192.0.2.1]/", true, false),
        ("http://0x7f.1/", true, false),
        ("http://relay.example/", true, true),
    ] {
        let offer = Offer { relay: vec![source(url, Families::Both)], ..Offer::default() };
        let told = |agent: &str| {
            let agent = Addresses::from(agent.parse::<IpAddr>().unwrap());
            sources(&Customised::default(), &offer, effective, agent, Kind::Components).len() == 1
        };
        assert_eq!((told("198.51.100.1"), told("2001:db8::9")), (v4, v6), "{url}");
        assert_eq!(told("::ffff:198.51.100.1"), v4, "{url}");
    }
}
