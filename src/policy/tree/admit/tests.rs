//! Keys, enrolments, ranges and files: case by case, and against a plain model over random histories.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::base::blob::BlobId;
use crate::policy::identity::Fingerprint;
use crate::policy::secret::SecretHash;
use crate::policy::tree::Tree;
use crate::policy::tree::change::{Action, Below};
use crate::policy::tree::difference::Difference;
use crate::policy::tree::id::DomainName;

fn agent(text: &str) -> AgentId {
    AgentId::parse(text).unwrap()
}

fn domain(number: u32) -> DomainId {
    DomainId::try_from(number).unwrap()
}

fn token(text: &str) -> EnrolmentId {
    EnrolmentId::parse(text).unwrap()
}

fn secret(number: u8) -> Key {
    Key::Secret(SecretHash::of(&[number]))
}

fn certificate(number: u8) -> Key {
    Key::Certificate(Fingerprint::of(&[number]))
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_second(secs).unwrap()
}

/// Domain 1 with domain 2 within, and domain 3 beside.
fn grown() -> Tree {
    let add = |number, name, parent| Action::AddDomain {
        domain: domain(number),
        name: DomainName::parse(name).unwrap(),
        parent,
        values: Values::default(),
    };
    let actions = [add(1, "a", None), add(2, "b", Some(domain(1))), add(3, "c", None)];
    Tree::default().changed(&actions).unwrap().tree
}

fn enrolment(id: &str, to: u32, left: u32, until: i64) -> Action {
    let secret = SecretHash::of(id.as_bytes());
    Action::AddEnrolment {
        id: token(id),
        enrolment: Enrolment { domain: domain(to), secret, left, until: at(until) },
    }
}

fn enrol(by: &str, id: &str, key: Key, now: i64) -> Action {
    Action::Enrol { by: token(by), agent: agent(id), key, at: at(now) }
}

fn refused(tree: &Tree, action: Action) -> String {
    tree.changed(&[action]).unwrap_err().to_string()
}

#[test]
fn an_enrolment_lets_in_so_many_agents_until_its_moment_and_none_twice_r5_5() {
    let tree = grown().changed(&[enrolment("t", 1, 2, 100)]).unwrap().tree;
    let one = tree.changed(&[enrol("t", "pc-1", secret(1), 99)]).unwrap();
    assert_eq!(one.tree.agent(&agent("pc-1")).unwrap().domain, domain(1));
    assert_eq!(one.tree.enrolment(&token("t")).unwrap().left, 1);
    assert_eq!(one.differences.len(), 2, "the agent and what is left, in one transaction");
    let both = one.tree.changed(&[enrol("t", "pc-2", certificate(2), 99)]).unwrap().tree;
    for (action, reason) in [
        (enrol("t", "pc-3", secret(3), 99), "enrolment 't' has let in as many agents as it was made for"),
        (enrol("u", "pc-3", secret(3), 99), "there is no enrolment 'u'"),
        (enrol("t", "pc-3", secret(3), 100), "enrolment 't' is over since 1970-01-01T00:01:40Z"),
    ] {
        assert_eq!(refused(&both, action), reason);
    }
    let again = refused(&one.tree, enrol("t", "pc-1", secret(9), 99));
    assert!(again.starts_with("agent 'pc-1' cannot enrol"), "{again}");
}

#[test]
fn who_was_put_there_may_enrol_once_and_who_was_shut_out_may_not_r5_5() {
    let put =
        |id: &str, to| Action::AddAgent { agent: agent(id), domain: domain(to), values: Values::default() };
    let actions = [enrolment("t", 1, 9, 100), put("within", 2), put("beside", 3)];
    let tree = grown().changed(&actions).unwrap().tree;
    let tree = tree.changed(&[enrol("t", "within", secret(1), 0)]).unwrap().tree;
    assert_eq!(tree.agent(&agent("within")).unwrap().domain, domain(2), "it stays where it was put");
    assert!(refused(&tree, enrol("t", "beside", secret(1), 0)).contains("another domain"));
    let revoked = tree.changed(&[Action::Revoke { agents: vec![agent("within")] }]).unwrap().tree;
    assert!(revoked.agent(&agent("within")).unwrap().is_revoked());
    assert!(refused(&revoked, enrol("t", "within", secret(2), 0)).contains("was revoked"));
    let readmitted = revoked.changed(&[Action::Readmit { agents: vec![agent("within")] }]).unwrap().tree;
    assert!(readmitted.changed(&[enrol("t", "within", secret(2), 0)]).is_ok());
    let given = Action::GiveKey { agent: agent("within"), key: secret(3) };
    assert!(!revoked.changed(&[given]).unwrap().tree.agent(&agent("within")).unwrap().is_revoked());
}

#[test]
fn a_certificate_is_one_agents_and_goes_with_it() {
    let put = |id: &str| Action::AddAgent { agent: agent(id), domain: domain(1), values: Values::default() };
    let give = |id: &str, number| Action::GiveKey { agent: agent(id), key: certificate(number) };
    let tree = grown().changed(&[put("one"), put("two"), give("one", 7)]).unwrap().tree;
    let holder = |tree: &Tree, number| tree.agent_with(Fingerprint::of(&[number])).copied();
    assert_eq!(holder(&tree, 7), Some(agent("one")));
    assert_eq!(refused(&tree, give("two", 7)), "agent 'one' has this certificate already");
    let renewed = tree.changed(&[give("one", 8), give("two", 7)]).unwrap().tree;
    assert_eq!((holder(&renewed, 7), holder(&renewed, 8)), (Some(agent("two")), Some(agent("one"))));
    for gone in
        [Action::Revoke { agents: vec![agent("one")] }, Action::RemoveAgents { agents: vec![agent("one")] }]
    {
        assert_eq!(holder(&renewed.changed(&[gone]).unwrap().tree, 8), None);
    }
}

#[test]
fn ranges_and_files_are_checked_and_go_with_their_domain() {
    let range = |text: &str, to| Action::SetRange { from: text.parse().unwrap(), domain: to };
    let file = |number: u8, bytes| Content { hash: BlobId::of(&[number]), bytes };
    let put = |to, content| Action::PutFile { domain: to, name: FileName::parse("x").unwrap(), content };
    let tree = grown();
    for (action, reason) in [
        (
            range("10.0.0.1/8", Some(domain(1))),
            "the range 10.0.0.1/8 has more bits than its length: 10.0.0.0/8 is meant",
        ),
        (range("10.0.0.0/8", Some(domain(9))), "there is no domain 9"),
        (range("10.0.0.0/8", None), "no domain has the range 10.0.0.0/8"),
        (
            range("::ffff:10.0.0.0/104", Some(domain(1))),
            "the range ::ffff:10.0.0.0/104 is of IPv4 addresses written as IPv6: write them as IPv4",
        ),
        (put(None, None), "there is no settings file 'x' there"),
        (
            put(None, Some(file(1, FILE_BYTES_MAX + 1))),
            "settings file 'x' has 1048577 bytes, 1048576 at most are allowed",
        ),
        (
            Action::SetCustomised { entries: overlapping() },
            "customised list: entry 2 (192.0.2.9-192.0.2.10) overlaps entry 1 (192.0.2.1-192.0.2.9)",
        ),
    ] {
        assert_eq!(refused(&tree, action), reason);
    }
    let actions = [
        range("10.0.0.0/8", Some(domain(1))),
        range("10.1.0.0/16", Some(domain(2))),
        put(None, Some(file(1, 5))),
        put(Some(domain(1)), Some(file(2, 5))),
        enrolment("t", 2, 1, 100),
    ];
    let tree = tree.changed(&actions).unwrap().tree;
    let name = FileName::parse("x").unwrap();
    let holds = |tree: &Tree, at| tree.file(at, &name).map(|file| (file.version, file.content.hash));
    assert_eq!(holds(&tree, Some(domain(2))), Some((1, BlobId::of(&[2]))), "the nearest");
    assert_eq!(holds(&tree, Some(domain(3))), Some((1, BlobId::of(&[1]))));
    let newer = tree.changed(&[put(None, Some(file(3, 5))), put(Some(domain(1)), Some(file(2, 5)))]).unwrap();
    assert_eq!(holds(&newer.tree, None), Some((2, BlobId::of(&[3]))));
    assert_eq!(newer.differences.len(), 1, "the same bytes are no change");
    let remove = Action::RemoveDomain { domain: domain(1), below: Below::Removed };
    let gone = tree.changed(&[remove]).unwrap();
    assert_eq!((gone.tree.ranges().count(), gone.tree.enrolments().count()), (0, 0));
    assert_eq!(gone.tree.files().count(), 1);
    assert_eq!(tree.replayed(gone.differences).unwrap(), gone.tree);
}

/// Agent `a1` has certificate 1, `a2` has certificate 2, `a3` a secret; enrolment `t` is to domain 1.
fn with_keys() -> Tree {
    let put = |id: &str| Action::AddAgent { agent: agent(id), domain: domain(1), values: Values::default() };
    let give = |id: &str, key| Action::GiveKey { agent: agent(id), key };
    let keys = [give("a1", certificate(1)), give("a2", certificate(2)), give("a3", secret(3))];
    let actions =
        [put("a1"), put("a2"), put("a3")].into_iter().chain(keys).chain([enrolment("t", 1, 5, 100)]);
    grown().changed(&actions.collect::<Vec<_>>()).unwrap().tree
}

/// The agent with these keys in the place of its own.
fn rekeyed(tree: &Tree, id: &str, keys: impl Into<Option<Keys>>) -> Difference {
    let keys: Option<Keys> = keys.into();
    let id = agent(id);
    let before = tree.agent(&id).cloned();
    let after = before.clone().map(|agent| Agent { keys, ..agent });
    Difference::Agent { id, before, after }
}

fn keyed(key: Key) -> Keys {
    Keys::default().with(key)
}

#[test]
fn certificates_pass_from_agent_to_agent_and_keys_go_where_much_is_amended_at_once() {
    let tree = with_keys();
    let t = tree.enrolment(&token("t")).unwrap().clone();
    let later = Enrolment { left: 9, domain: domain(3), ..t.clone() };
    let differences = vec![
        rekeyed(&tree, "a1", keyed(certificate(2))),
        rekeyed(&tree, "a2", keyed(certificate(1))),
        rekeyed(&tree, "a3", None),
        Difference::Enrolment { id: token("t"), before: Some(t), after: Some(later) },
        Difference::Range { from: "10.0.0.0/8".parse().unwrap(), before: None, after: Some(domain(2)) },
    ];
    let amended = tree.changed(&[Action::Amend { differences: differences.clone() }]).unwrap();
    let holder = |number| amended.tree.agent_with(Fingerprint::of(&[number])).copied();
    assert_eq!((holder(1), holder(2)), (Some(agent("a2")), Some(agent("a1"))));
    assert_eq!(amended.tree.agent(&agent("a3")).unwrap().keys, None);
    assert_eq!(amended.tree.enrolment(&token("t")).unwrap().left, 9);
    assert_eq!(amended.differences.len(), differences.len());
    assert_eq!(tree.replayed(amended.differences).unwrap(), amended.tree);
    let told = Action::Amend { differences }.to_string();
    assert_eq!(told, "amend 3 agents, 1 enrolment, 1 range");
}

#[test]
fn an_amendment_that_single_actions_could_not_make_is_refused() {
    let tree = with_keys();
    let range = |from: &str, to| Difference::Range {
        from: from.parse().unwrap(),
        before: None,
        after: Some(domain(to)),
    };
    let both = Keys { standing: Standing::Revoked, ..keyed(secret(1)) };
    let add = |number, name: &str| Difference::Domain {
        id: domain(number),
        before: None,
        after: Some(Box::new(crate::policy::tree::Domain {
            name: DomainName::parse(name).unwrap(),
            parent: None,
            values: Values::default(),
            started_with: crate::policy::tree::setting::SettingSet::default(),
        })),
    };
    let file = crate::policy::tree::file::SettingsFile {
        version: 1,
        content: Content { hash: BlobId::of(b"x"), bytes: FILE_BYTES_MAX + 1 },
    };
    let file = Difference::File {
        domain: None,
        name: FileName::parse("x").unwrap(),
        before: None,
        after: Some(file),
    };
    for (difference, reason) in [
        (rekeyed(&tree, "a1", keyed(certificate(2))), "agent 'a2' has this certificate already"),
        (
            rekeyed(&tree, "a1", both),
            "agent 'a1' has keys that no agent can have: shut out and with a key, or none of either",
        ),
        (
            rekeyed(&tree, "a1", Keys::default()),
            "agent 'a1' has keys that no agent can have: shut out and with a key, or none of either",
        ),
        (rekeyed(&grown(), "a1", None), "a change of agent 'a1' does not fit what came before it"),
        (range("10.0.0.1/8", 1), "the range 10.0.0.1/8 has more bits than its length: 10.0.0.0/8 is meant"),
        (range("10.0.0.0/8", 9), "a change of range 10.0.0.0/8 does not fit what came before it"),
        (add(4, "a"), "a change of domain 4 does not fit what came before it"),
        (add(5, "e"), "a new domain cannot be domain 5: the next one is domain 4"),
        (file, "settings file 'x' has 1048577 bytes, 1048576 at most are allowed"),
    ] {
        assert_eq!(refused(&tree, Action::Amend { differences: vec![difference] }), reason);
    }
    // Two agents that are named may not end with one certificate either.
    let twice =
        vec![rekeyed(&tree, "a1", keyed(certificate(9))), rekeyed(&tree, "a3", keyed(certificate(9)))];
    assert!(refused(&tree, Action::Amend { differences: twice }).contains("has this certificate already"));
}

fn overlapping() -> Vec<Entry> {
    let entry = |range: &str| {
        let text = serde_json::json!({ "range": range, "source": { "url": "http://mirror.example/" } });
        serde_json::from_value(text).unwrap()
    };
    vec![entry("192.0.2.1-192.0.2.9"), entry("192.0.2.9-192.0.2.10")]
}

/// What a plain reading keeps: agents with domain and keys, enrolments with what is left, ranges.
#[derive(Clone, Default)]
struct Model {
    agents: BTreeMap<String, (u32, Option<Keys>)>,
    enrolments: BTreeMap<String, (u32, u32, i64)>,
    ranges: BTreeMap<String, u32>,
}

impl Model {
    fn act(&mut self, action: &Action) -> Result<(), ()> {
        match action {
            Action::AddAgent { agent, domain, .. } if !self.agents.contains_key(agent.as_str()) => {
                self.agents.insert(agent.to_string(), (domain.number(), None));
            }
            Action::GiveKey { agent, key } => self.give(agent.as_str(), *key)?,
            Action::Revoke { agents } => {
                self.agents.get_mut(agents[0].as_str()).ok_or(())?.1 = Some(Keys::revoked());
            }
            Action::Readmit { agents } => {
                let (_, keys) = self.agents.get_mut(agents[0].as_str()).ok_or(())?;
                keys.take_if(|keys| keys.standing == Standing::Revoked);
            }
            Action::RemoveAgents { agents } => {
                self.agents.remove(agents[0].as_str()).ok_or(())?;
            }
            Action::AddEnrolment { id, enrolment } if !self.enrolments.contains_key(id.as_str()) => {
                let secs = enrolment.until.as_second();
                self.enrolments.insert(id.to_string(), (enrolment.domain.number(), enrolment.left, secs));
            }
            Action::RemoveEnrolment { id } => {
                self.enrolments.remove(id.as_str()).ok_or(())?;
            }
            Action::Enrol { by, agent, key, at } => {
                let (to, left, until) = *self.enrolments.get(by.as_str()).ok_or(())?;
                if left == 0 || at.as_second() >= until {
                    return Err(());
                }
                // Domain 2 is within domain 1.
                let (domain, keys) = self.agents.entry(agent.to_string()).or_insert((to, None));
                if keys.is_some() || !(*domain == to || (to, *domain) == (1, 2)) {
                    return Err(());
                }
                self.give(agent.as_str(), *key)?;
                self.enrolments.insert(by.to_string(), (to, left - 1, until));
            }
            Action::SetRange { from, domain: Some(domain) } => {
                self.ranges.insert(from.to_string(), domain.number());
            }
            Action::SetRange { from, domain: None } => {
                self.ranges.remove(&from.to_string()).ok_or(())?;
            }
            _ => return Err(()),
        }
        Ok(())
    }

    fn give(&mut self, id: &str, key: Key) -> Result<(), ()> {
        if let Key::Certificate(fingerprint) = key {
            let has =
                |keys: &Option<Keys>| keys.as_ref().is_some_and(|keys| keys.certificate == Some(fingerprint));
            if self.agents.iter().any(|(other, (_, keys))| other != id && has(keys)) {
                return Err(());
            }
        }
        let (_, keys) = self.agents.get_mut(id).ok_or(())?;
        let mut next = keys.unwrap_or_default();
        next.standing = Standing::Admitted;
        match key {
            Key::Secret(hash) => next.secret = Some(hash),
            Key::Certificate(fingerprint) => next.certificate = Some(fingerprint),
        }
        *keys = Some(next);
        Ok(())
    }
}

pub(in crate::policy) fn some_action() -> impl Strategy<Value = Action> {
    let one = || (0u8..4).prop_map(|number| agent(&format!("a{number}")));
    let to = || (1u32..4).prop_map(domain);
    let key =
        || (any::<bool>(), 0u8..4).prop_map(|(secrets, n)| if secrets { secret(n) } else { certificate(n) });
    let id = || prop::sample::select(vec!["t", "u"]);
    let range = || (0u8..3).prop_map(|number| format!("10.{number}.0.0/16").parse().unwrap());
    prop_oneof![
        1 => (one(), to()).prop_map(|(agent, domain)| Action::AddAgent { agent, domain, values: Values::default() }),
        1 => (one(), key()).prop_map(|(agent, key)| Action::GiveKey { agent, key }),
        1 => one().prop_map(|agent| Action::Revoke { agents: vec![agent] }),
        1 => one().prop_map(|agent| Action::Readmit { agents: vec![agent] }),
        1 => one().prop_map(|agent| Action::RemoveAgents { agents: vec![agent] }),
        1 => (id(), 1u32..4, 0u32..3, 1i64..4).prop_map(|(id, to, left, until)| enrolment(id, to, left, until)),
        1 => id().prop_map(|id| Action::RemoveEnrolment { id: token(id) }),
        3 => (id(), one(), key(), 0i64..4)
            .prop_map(|(by, agent, key, now)| Action::Enrol { by: token(by), agent, key, at: at(now) }),
        1 => (range(), prop::option::of(to())).prop_map(|(from, domain)| Action::SetRange { from, domain }),
    ]
}

proptest! {
    #[test]
    fn who_is_let_in_is_what_a_plain_model_says_over_random_histories_r5_5(
        history in prop::collection::vec(prop::collection::vec(some_action(), 1..3), 1..60),
    ) {
        let (mut tree, mut model) = (grown(), Model::default());
        for actions in history {
            let mut next = model.clone();
            let allowed = actions.iter().try_for_each(|action| next.act(action));
            let changed = tree.changed(&actions);
            prop_assert_eq!(changed.is_ok(), allowed.is_ok(), "{:?}: {:?}", actions, changed.err());
            let Ok(changed) = changed else { continue };
            prop_assert_eq!(&tree.replayed(changed.differences.clone()).unwrap(), &changed.tree);
            let text = serde_json::to_string(&changed.differences).unwrap();
            prop_assert_eq!(serde_json::from_str::<Vec<Difference>>(&text).unwrap(), changed.differences);
            (tree, model) = (changed.tree, next);
            let agents: BTreeMap<_, _> = tree
                .agents()
                .map(|(id, agent)| (id.to_string(), (agent.domain.number(), agent.keys)))
                .collect();
            prop_assert_eq!(&agents, &model.agents);
            for (id, (_, keys)) in &model.agents {
                let held = keys.as_ref().and_then(|keys| keys.certificate);
                if let Some(held) = held {
                    prop_assert_eq!(tree.agent_with(held), Some(&agent(id)));
                }
            }
            let held = model.agents.values().filter(|(_, keys)| keys.as_ref().is_some_and(|k| k.certificate.is_some()));
            prop_assert_eq!(tree.certificates.len(), held.count());
            let left = tree.enrolments().map(|(id, e)| (id.to_string(), (e.domain.number(), e.left, e.until.as_second())));
            prop_assert_eq!(left.collect::<BTreeMap<_, _>>(), model.enrolments.clone());
            let ranges = tree.ranges().map(|(from, domain)| (from.to_string(), domain.number()));
            prop_assert_eq!(ranges.collect::<BTreeMap<_, _>>(), model.ranges.clone());
            let whole = Tree::numbering_after(tree.last_domain()).replayed(tree.whole()).unwrap();
            prop_assert_eq!(&whole, &tree);
        }
    }
}
