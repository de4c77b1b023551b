//! Who is calling: every order and every wrong key; what holds for whom.

use super::*;
use crate::manifest::catalogue::Class;
use crate::policy::decide::{Ask, Permission};
use crate::policy::identity::Fingerprint;
use crate::policy::tree::change::{Action, Below, Patch, Reach};
use crate::policy::tree::id::DomainName;
use crate::policy::tree::keys::Key;
use crate::policy::tree::setting::Values;
use crate::policy::tree::value::Switch;

const DIGITS: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn agent(text: &str) -> AgentId {
    AgentId::parse(text).unwrap()
}

fn domain(number: u32) -> DomainId {
    DomainId::try_from(number).unwrap()
}

fn scoped(scope: Scope) -> Values {
    Values { scope: Some(scope), ..Values::default() }
}

fn certificate(number: u8, names: &[&str]) -> Certificate {
    let names = names.iter().map(|name| Box::from(*name)).collect();
    Certificate { fingerprint: Fingerprint::of(&[number]), names, validity: Validity::Valid }
}

/// Domain 1 (patterns) has 10.0.0.0/8, and `token.example`, which has a secret, and `held`, which has certificate 1; domain 2 (engines)
/// has 10.1.0.0/16, `named.example` and `gone.example`, which was revoked.
fn tree() -> Compiled {
    let add = |number, name, scope| Action::AddDomain {
        domain: domain(number),
        name: DomainName::parse(name).unwrap(),
        parent: None,
        values: scoped(scope),
    };
    let put =
        |id: &str, to| Action::AddAgent { agent: agent(id), domain: domain(to), values: Values::default() };
    let range = |text: &str, to| Action::SetRange { from: text.parse().unwrap(), domain: Some(domain(to)) };
    let actions = [
        add(1, "patterns", Scope::Patterns),
        add(2, "engines", Scope::PatternsEnginesDrivers),
        put("token.example", 1),
        put("held", 1),
        put("named.example", 2),
        put("gone.example", 2),
        Action::GiveKey {
            agent: agent("token.example"),
            key: Key::Secret(SecretHash::of(DIGITS.as_bytes())),
        },
        Action::GiveKey { agent: agent("held"), key: Key::Certificate(Fingerprint::of(&[1])) },
        Action::Revoke { agents: vec![agent("gone.example")] },
        range("10.0.0.0/8", 1),
        range("10.1.0.0/16", 2),
    ];
    Compiled::new(Tree::default().changed(&actions).unwrap().tree)
}

fn policy(unknown: Unknown) -> Policy {
    Policy::new(
        [("10.1.2.0/24".parse().unwrap(), Scope::All), ("10.1.0.0/16".parse().unwrap(), Scope::All)],
        unknown,
    )
}

fn known(certificate: Option<&Certificate>, said: Said<'_>, address: &str) -> Result<(Who, Scope), Refusal> {
    let shown = Shown { certificate, said, address: address.parse().unwrap() };
    let caller = policy(Unknown::Open).caller(&tree(), &shown)?;
    Ok((caller.who(), caller.scope()))
}

#[test]
fn the_first_that_is_shown_counts_and_the_longest_of_all_ranges_r5_5() {
    let token = |id| Said::Token(Token { id, secret: DIGITS });
    let (held, named) = (certificate(1, &[]), certificate(9, &["x y", "NAMED.example"]));
    let engines = Scope::PatternsEnginesDrivers;
    for (certificate, said, address, who, scope) in [
        (Some(&held), token("token.example"), "10.1.0.1", Who::Agent(agent("held")), Scope::Patterns),
        (Some(&named), Said::Other, "192.0.2.1", Who::Agent(agent("named.example")), engines),
        (None, token("token.example"), "10.1.0.1", Who::Agent(agent("token.example")), Scope::Patterns),
        (None, Said::Nothing, "10.0.0.1", Who::Domain(domain(1)), Scope::Patterns),
        (None, Said::Nothing, "::ffff:10.0.0.1", Who::Domain(domain(1)), Scope::Patterns),
        (None, Said::Nothing, "10.1.0.1", Who::Domain(domain(2)), engines),
        (None, Said::Nothing, "10.1.2.1", Who::Address, Scope::All),
        (
            None,
            Said::Before(Who::Agent(agent("held"))),
            "192.0.2.1",
            Who::Agent(agent("held")),
            Scope::Patterns,
        ),
        (None, Said::Before(Who::Address), "10.0.0.1", Who::Domain(domain(1)), Scope::Patterns),
    ] {
        assert_eq!(known(certificate, said, address), Ok((who, scope)), "{certificate:?} {said:?} {address}");
    }
}

#[test]
fn what_is_shown_and_wrong_is_refused_and_never_passed_over_r5_5() {
    let token = |id, secret| Said::Token(Token { id, secret });
    let zeros = "0".repeat(64);
    let hash = SecretHash::of(DIGITS.as_bytes()).to_string();
    for (said, expected) in [
        (token("token.example", &zeros), Refusal::Secret),
        (token("token.example", &hash), Refusal::Secret),
        (token("held", DIGITS), Refusal::Secret),
        (token("gone.example", DIGITS), Refusal::Secret),
        (token("nobody", DIGITS), Refusal::Secret),
        (token("TOKEN.example", DIGITS), Refusal::Secret),
        (Said::Other, Refusal::Secret),
        (Said::Before(Who::Agent(agent("gone.example"))), Refusal::Revoked(agent("gone.example"))),
        (Said::Before(Who::Agent(agent("nobody"))), Refusal::Secret),
        (Said::Nothing, Refusal::Unnamed),
    ] {
        let address = if matches!(said, Said::Nothing) { "192.0.2.1" } else { "10.0.0.1" };
        assert_eq!(known(None, said, address), Err(expected), "{said:?}");
    }
    let right = token("token.example", DIGITS);
    for (certificate, expected) in [
        (certificate(9, &[]), Refusal::Certificate),
        (certificate(9, &["nobody.example"]), Refusal::Certificate),
        (Certificate { validity: Validity::Past, ..certificate(1, &[]) }, Refusal::Certificate),
        (
            Certificate { validity: Validity::Past, ..certificate(9, &["named.example"]) },
            Refusal::Certificate,
        ),
        (certificate(9, &["gone.example"]), Refusal::Revoked(agent("gone.example"))),
    ] {
        assert_eq!(known(Some(&certificate), right, "10.0.0.1"), Err(expected), "{certificate:?}");
    }
}

#[test]
fn while_nobody_is_known_everybody_has_all_and_then_nobody_unnamed_r5_5() {
    let shown = |said| Shown { certificate: None, said, address: "192.0.2.1".parse().unwrap() };
    let scope = |tree: &Compiled, unknown, said| {
        Policy::new([], unknown).caller(tree, &shown(said)).map(|caller| caller.scope())
    };
    let nobody = Compiled::default();
    let wrong = Said::Token(Token { id: "nobody", secret: DIGITS });
    for said in [Said::Nothing, wrong, Said::Other] {
        assert_eq!(scope(&nobody, Unknown::Open, said), Ok(Scope::All), "nothing is looked at");
        assert_eq!(scope(&nobody, Unknown::Refuse, said), Err(Refusal::UnknownAgent));
    }
    assert_eq!(scope(&tree(), Unknown::Open, Said::Nothing), Err(Refusal::Unnamed));
    assert_eq!(scope(&tree(), Unknown::Refuse, Said::Nothing), Err(Refusal::Unnamed));
    assert_eq!(scope(&tree(), Unknown::Scope(Scope::Patterns), Said::Nothing), Ok(Scope::Patterns));
    assert_eq!(scope(&tree(), Unknown::Scope(Scope::Patterns), wrong), Err(Refusal::Secret));
    // The root holds for everybody then, and what was shut once stays so.
    let set = Action::SetRoot { reach: Reach::AllAgents, patch: Patch::set(scoped(Scope::Patterns)) };
    let root = Compiled::new(Tree::default().changed(&[set]).unwrap().tree);
    assert_eq!(scope(&root, Unknown::Open, Said::Nothing), Ok(Scope::Patterns));
    let remove = |number| Action::RemoveDomain { domain: domain(number), below: Below::Removed };
    let left = Compiled::new(tree().tree().changed(&[remove(1), remove(2)]).unwrap().tree);
    assert_eq!((left.tree().agent_count(), left.tree().domain_count()), (0, 0));
    assert_eq!(scope(&left, Unknown::Open, Said::Nothing), Err(Refusal::Unnamed));
}

fn with(values: Values) -> Compiled {
    let patch = Action::Set { domains: vec![domain(1)], agents: vec![], patch: Patch::set(values) };
    Compiled::new(tree().tree().changed(&[patch]).unwrap().tree)
}

#[test]
fn packages_want_a_permission_of_agents_where_it_is_enforced_r8() {
    let policy = policy(Unknown::Open);
    let strict = with(Values { enforce: Some(Enforce::Strict), ..Values::default() });
    let caller = |tree, said, address: &str| {
        policy.caller(tree, &Shown { certificate: None, said, address: address.parse().unwrap() }).unwrap()
    };
    let token = Said::Token(Token { id: "token.example", secret: DIGITS });
    let agent = caller(&strict, token, "10.0.0.1");
    let package = Ask::Component(Class::Pattern);
    let decide = |caller: &Caller, ask, permission| policy.decide(caller, ask, permission).map(|_| ());
    assert_eq!(decide(&agent, package, Permission::Closed), Err(Refusal::NotPermitted));
    assert_eq!(decide(&agent, package, Permission::Open), Ok(()));
    assert_eq!(decide(&agent, Ask::Manifest, Permission::Closed), Ok(()), "to see what there is");
    let tree = tree();
    let lenient = caller(&tree, token, "10.0.0.1");
    assert_eq!(decide(&lenient, package, Permission::Closed), Ok(()));
    let by_range = caller(&strict, Said::Nothing, "10.0.0.1");
    assert_eq!(by_range.enforce(), None, "who does not check in cannot be held to it");
    assert_eq!(decide(&by_range, package, Permission::Closed), Ok(()));
}

#[test]
fn the_relay_serves_each_kind_of_thing_only_where_it_is_a_source_of_it_r7_1() {
    let policy = policy(Unknown::Open);
    for (components, programs) in [(true, true), (true, false), (false, true), (false, false)] {
        let tree = with(Values {
            relay_serves_components: Some(Switch::from(components)),
            relay_serves_programs: Some(Switch::from(programs)),
            ..scoped(Scope::All)
        });
        let shown = Shown { certificate: None, said: Said::Nothing, address: "10.0.0.1".parse().unwrap() };
        let caller = policy.caller(&tree, &shown).unwrap();
        let may = |ask| policy.decide(&caller, ask, Permission::Closed).is_ok();
        assert_eq!(may(Ask::Component(Class::Engine)), components);
        assert_eq!(may(Ask::Component(Class::Hotfix)), programs);
        assert_eq!(may(Ask::Manifest), components || programs);
    }
}

#[test]
fn what_the_relay_does_not_serve_is_had_by_its_proxy_where_agents_may_fall_back_and_settings_never_r7_1() {
    let off = Some(Switch::Off);
    for fallback in [Switch::Off, Switch::On] {
        let values = Values {
            relay_serves_components: off,
            relay_serves_programs: off,
            relay_serves_settings: off,
            fallback_to_activeupdate: Some(fallback),
            ..scoped(Scope::PatternsEnginesDrivers)
        };
        let set = Action::Set { domains: vec![domain(1)], agents: vec![], patch: Patch::set(values) };
        let tree = Compiled::new(tree().tree().changed(&[set]).unwrap().tree);
        let said = Said::Token(Token { id: "token.example", secret: DIGITS });
        let shown = Shown { certificate: None, said, address: "10.0.0.1".parse().unwrap() };
        let caller = policy(Unknown::Open).caller(&tree, &shown).unwrap();
        let decided =
            |caller: &Caller, ask| policy(Unknown::Open).decide(caller, ask, Permission::Open).map(drop);
        let (pattern, program) = (Ask::Component(Class::Pattern), Ask::Component(Class::Program));
        for ask in [Ask::Manifest, pattern] {
            assert_eq!(decided(&caller, ask), Err(Refusal::NotServed(Kind::Components)));
            assert_eq!(decided(&caller.toward_upstream(), ask).is_ok(), fallback.is_on());
        }
        let scope = Refusal::OutsideScope(Scope::PatternsEnginesDrivers);
        assert_eq!(decided(&caller.toward_upstream(), program), Err(scope), "its scope holds by any way");
        assert!(!caller.toward_upstream().is_served(Kind::AgentSettings));
    }
}
