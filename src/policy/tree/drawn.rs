//! Transactions drawn at random for property tests: of few domains and agents, so that they meet, with mistakes among them.

use proptest::prelude::*;
use proptest::sample::subsequence;

use crate::policy::scope::Scope;
use crate::policy::tree::change::{Action, Below, Patch, Reach};
use crate::policy::tree::difference::Difference;
use crate::policy::tree::id::{AgentId, DomainId, DomainName};
use crate::policy::tree::setting::{Setting, SettingSet, Values};
use crate::policy::tree::value::{Rate, Switch};
use crate::policy::tree::{Agent, Domain, Tree};

/// Stands for the number that comes next.
const NEXT: u32 = 99;

/// Ids by small numbers, some of which are there; a new domain has the number that comes next, nearly always.
pub(in crate::policy) fn some_action() -> impl Strategy<Value = Action> {
    let domain = || (1u32..9).prop_map(DomainId::numbered);
    let parent = || prop::option::weighted(0.7, domain());
    let one_agent = || (0u8..8).prop_map(|number| agent(&format!("a{number}")));
    let name = || (0u8..5).prop_map(|number| named(&format!("d{number}")));
    let domains = || prop::collection::vec(domain(), 0..3);
    let agents = || prop::collection::vec(one_agent(), 0..3);
    let reach = prop::sample::select(vec![Reach::AllAgents, Reach::FutureDomainsOnly]);
    let below = prop::sample::select(vec![Below::MustBeEmpty, Below::Removed]);
    prop_oneof![
        2 => (reach, some_patch()).prop_map(|(reach, patch)| Action::SetRoot { reach, patch }),
        3 => (domains(), agents(), some_patch())
            .prop_map(|(domains, agents, patch)| Action::Set { domains, agents, patch }),
        4 => (name(), parent(), some_values()).prop_map(|(name, parent, values)| {
            Action::AddDomain { domain: DomainId::numbered(NEXT), name, parent, values }
        }),
        1 => (domain(), name()).prop_map(|(domain, name)| Action::RenameDomain { domain, name }),
        2 => (domains(), parent()).prop_map(|(domains, to)| Action::MoveDomains { domains, to }),
        1 => (domain(), below).prop_map(|(domain, below)| Action::RemoveDomain { domain, below }),
        4 => (one_agent(), domain(), some_values())
            .prop_map(|(agent, domain, values)| Action::AddAgent { agent, domain, values }),
        2 => (agents(), domain()).prop_map(|(agents, to)| Action::MoveAgents { agents, to }),
        1 => agents().prop_map(|agents| Action::RemoveAgents { agents }),
        3 => some_amendment(),
    ]
}

/// With the number that comes next in a tree, and with what is there.
pub(in crate::policy) fn numbered(actions: Vec<Action>, tree: &Tree) -> Vec<Action> {
    let mut next = tree.next_domain();
    let mut number = |action| match action {
        Action::AddDomain { domain, name, parent, values } if domain.number() == NEXT => {
            let domain = next;
            next = DomainId::numbered(next.number() + 1);
            Action::AddDomain { domain, name, parent, values }
        }
        Action::Amend { differences } => {
            let begun = differences.into_iter().map(|difference| begun(difference, tree, next));
            Action::Amend { differences: begun.collect() }
        }
        action => action,
    };
    actions.into_iter().map(&mut number).collect()
}

pub(super) fn agent(text: &str) -> AgentId {
    AgentId::parse(text).unwrap()
}

pub(super) fn named(text: &str) -> DomainName {
    DomainName::parse(text).unwrap()
}

fn some_values() -> impl Strategy<Value = Values> {
    let switch = || prop::option::weighted(0.3, any::<bool>().prop_map(Switch::from));
    let scope = prop::option::weighted(0.5, prop::sample::select(Scope::ALL.to_vec()));
    let rate = prop::option::weighted(0.2, (1u64..3).prop_map(|rate| Rate::per_sec(rate).unwrap()));
    (scope, switch(), switch(), rate).prop_map(|(scope, update_now, scheduled_updates, bytes_per_sec)| {
        Values { scope, scheduled_updates, update_now, bytes_per_sec, ..Values::default() }
    })
}

fn some_patch() -> impl Strategy<Value = Patch> {
    let clear = subsequence(vec![Setting::Scope, Setting::UpdateNow, Setting::BytesPerSec], 0..2);
    (some_values(), clear, 0..20).prop_map(|(set, clear, rarely)| {
        // Now and then what is set is cleared, too: that is to be refused.
        let clear: SettingSet =
            clear.into_iter().filter(|setting| rarely == 0 || !set.holds(*setting)).collect();
        Patch { set, clear }
    })
}

/// What several things are to be; what they are, is filled in when it is known.
fn some_amendment() -> impl Strategy<Value = Action> {
    let number = || prop_oneof![6 => 1u32..9, 1 => Just(NEXT)].prop_map(DomainId::numbered);
    let parent = prop::option::weighted(0.6, number());
    let name = (0u8..5).prop_map(|number| named(&format!("d{number}")));
    let marks = (0..30).prop_map(|rarely| rarely == 0);
    let domain = (name, parent, some_values(), any::<bool>(), marks);
    let domain = domain.prop_map(|(name, parent, values, marked, rarely)| {
        let mut started_with: SettingSet = values.settings().filter(|_| marked).collect();
        if rarely {
            started_with.insert(Setting::Roaming);
        }
        Domain { name, parent, values, started_with }
    });
    let agent_of = (number(), some_values()).prop_map(|(domain, values)| Agent {
        domain,
        values: (!values.is_empty()).then(|| values.into()),
        keys: None,
    });
    let domains = prop::collection::btree_map(number(), prop::option::weighted(0.8, domain), 0..5);
    let ids = (0u8..8).prop_map(|number| agent(&format!("a{number}")));
    let agents = prop::collection::btree_map(ids, prop::option::weighted(0.8, agent_of), 0..5);
    let root = || prop::option::weighted(0.3, some_values());
    (domains, agents, root(), root()).prop_map(|(domains, agents, root, future)| {
        let values = |values| (Box::default(), Box::new(values));
        let root = root.map(values).map(|(before, after)| Difference::Root { before, after });
        let future = future.map(values).map(|(before, after)| Difference::Future { before, after });
        let domains = domains.into_iter().map(|(id, after)| {
            let after = after.map(Box::new);
            Difference::Domain { id, before: None, after }
        });
        let agents = agents.into_iter().map(|(id, after)| Difference::Agent { id, before: None, after });
        let nodes = domains.chain(agents).chain(root).chain(future);
        Action::Amend { differences: nodes.collect() }
    })
}

/// With what was before; what is not there stays as it is.
fn begun(difference: Difference, tree: &Tree, next: DomainId) -> Difference {
    let number = |id: DomainId| if id.number() == NEXT { next } else { id };
    match difference {
        Difference::Root { after, .. } => Difference::Root { before: Box::new(tree.root().clone()), after },
        Difference::Future { after, .. } => {
            Difference::Future { before: Box::new(tree.future().clone()), after }
        }
        Difference::Domain { id, after, .. } => {
            let id = number(id);
            let after = after.map(|after| Box::new(Domain { parent: after.parent.map(number), ..*after }));
            Difference::Domain { id, before: tree.domain(id).cloned().map(Box::new), after }
        }
        Difference::Agent { id, after, .. } => {
            let after = after.map(|after| Agent { domain: number(after.domain), ..after });
            Difference::Agent { id, before: tree.agent(&id).cloned(), after }
        }
        other => other,
    }
}
