//! Address ranges of the settings, and what a permit buys.

use super::*;
use crate::policy::tree::compiled::Compiled;

fn policy(unknown: Unknown) -> Policy {
    let range = |prefix: &str, scope| (prefix.parse().unwrap(), scope);
    let ranges = [
        range("192.0.2.0/24", Scope::Patterns),
        range("192.0.2.128/25", Scope::PatternsEnginesDrivers),
        range("192.0.2.130/32", Scope::All),
        range("2001:db8::/32", Scope::Patterns),
        range("2001:db8:1::/48", Scope::All),
    ];
    Policy::new(ranges, unknown)
}

/// Who calls from an address while the agent tree knows nobody.
fn caller(policy: &Policy, address: &str) -> Result<Caller, Refusal> {
    let address: IpAddr = address.parse().unwrap();
    policy.caller(&Compiled::default(), &address.into())
}

fn scope(policy: &Policy, address: &str) -> Result<Scope, Refusal> {
    Ok(caller(policy, address)?.scope())
}

#[test]
fn a_permit_buys_what_it_was_given_for_and_nothing_else_r6_2() {
    let policy = policy(Unknown::Refuse);
    let agent = caller(&policy, "192.0.2.130").unwrap();
    let asks = [Ask::Manifest, Ask::Component(Class::Pattern), Ask::Component(Class::Program), Ask::Unlisted];
    for given in asks {
        for spent in asks {
            let permit = policy.decide(&agent, given, Permission::Closed).unwrap();
            assert_eq!(permit.spend(spent).is_some(), given == spent, "{given:?} spent on {spent:?}");
        }
    }
}

#[test]
fn the_longest_prefix_counts_and_mapped_addresses_are_ipv4_r4_1() {
    let policy = policy(Unknown::Refuse);
    for (address, expected) in [
        ("192.0.2.1", Ok(Scope::Patterns)),
        ("192.0.2.129", Ok(Scope::PatternsEnginesDrivers)),
        ("192.0.2.130", Ok(Scope::All)),
        ("::ffff:192.0.2.1", Ok(Scope::Patterns)),
        ("::ffff:192.0.2.130", Ok(Scope::All)),
        ("2001:db8:2::1", Ok(Scope::Patterns)),
        ("2001:db8:1::1", Ok(Scope::All)),
        ("192.0.3.1", Err(Refusal::UnknownAgent)),
        ("::192.0.2.130", Err(Refusal::UnknownAgent)),
        ("2001:db9::1", Err(Refusal::UnknownAgent)),
    ] {
        assert_eq!(scope(&policy, address), expected, "{address}");
    }
}

#[test]
fn what_nobody_names_counts_as_most_restricted_r6_2() {
    let policy = policy(Unknown::Scope(Scope::PatternsEnginesDrivers));
    for (address, allowed) in [("192.0.2.1", false), ("192.0.2.129", false), ("192.0.2.130", true)] {
        let agent = caller(&policy, address).unwrap();
        let decided = policy.decide(&agent, Ask::Unlisted, Permission::Closed);
        assert_eq!(decided.is_ok(), allowed, "{address}");
    }
    assert_eq!(scope(&policy, "198.51.100.1"), Ok(Scope::PatternsEnginesDrivers));
    let agent = caller(&policy, "198.51.100.1").unwrap();
    let refused = policy.decide(&agent, Ask::Component(Class::Program), Permission::Closed);
    assert_eq!(refused.unwrap_err(), Refusal::OutsideScope(Scope::PatternsEnginesDrivers));
}
