//! Doing a transaction: action by action on a draft of the next tree, which is dropped where one is refused (R5.3, R5.4).
//!
//! Invariant: the tree that a transaction is asked of is never touched.

use std::collections::HashSet;
use std::sync::Arc;

use crate::policy::tree::change::{Action, Below, Changed, Patch, Reach};
use crate::policy::tree::difference::{Touched, differences};
use crate::policy::tree::id::{AgentId, DomainId, DomainName};
use crate::policy::tree::refused::Refused;
use crate::policy::tree::setting::Values;
use crate::policy::tree::{AGENTS_MAX, Agent, DEPTH_MAX, DOMAINS_MAX, Domain, NAMED_MAX, Tree};

impl Tree {
    /// Does a whole transaction, or says why not.
    pub fn changed(&self, actions: &[Action]) -> Result<Changed, Refused> {
        let named = actions.iter().map(Action::named).sum();
        if named > NAMED_MAX {
            return Err(Refused::NamedMax(named));
        }
        let mut draft = Draft { tree: self.clone(), touched: Touched::default() };
        for action in actions {
            draft.act(action)?;
        }
        let mut tree = draft.tree;
        // A domain that was made and removed leaves no trace, not even its number: a journal has none of it.
        let made =
            draft.touched.domains.iter().filter(|id| tree.domain(**id).is_some()).map(|id| id.number()).max();
        tree.last_domain = self.last_domain.max(made.unwrap_or(0));
        let differences = differences(self, &tree, draft.touched);
        Ok(Changed { tree, differences })
    }
}

/// The next tree while it is made, and what in it may differ.
pub(super) struct Draft {
    pub(super) tree: Tree,
    pub(super) touched: Touched,
}

impl Draft {
    fn act(&mut self, action: &Action) -> Result<(), Refused> {
        match action {
            Action::SetRoot { reach, patch } => {
                check_patch(patch)?;
                match reach {
                    Reach::AllAgents => self.set_for_all(patch),
                    Reach::FutureDomainsOnly => apply(&mut self.tree.future, patch),
                }
                Ok(())
            }
            Action::Set { domains, agents, patch } => self.set(domains, agents, patch),
            Action::AddDomain { domain, name, parent, values } => {
                self.add_domain(*domain, name, *parent, values)
            }
            Action::RenameDomain { domain, name } => self.rename_domain(*domain, name),
            Action::MoveDomains { domains, to } => {
                domains.iter().try_for_each(|domain| self.move_domain(*domain, *to))
            }
            Action::RemoveDomain { domain, below } => self.remove_domain(*domain, *below),
            Action::AddAgent { agent, domain, values } => self.add_agent(agent, *domain, values),
            Action::MoveAgents { agents, to } => self.move_agents(agents, *to),
            Action::RemoveAgents { agents } => agents.iter().try_for_each(|agent| {
                self.agent(agent)?;
                self.put_agent(agent, None);
                Ok(())
            }),
            Action::GiveKey { agent, key } => self.give_key(agent, *key),
            Action::Revoke { agents } => agents.iter().try_for_each(|agent| self.revoke(agent)),
            Action::Readmit { agents } => agents.iter().try_for_each(|agent| self.readmit(agent)),
            Action::AddEnrolment { id, enrolment } => self.add_enrolment(id, enrolment),
            Action::RemoveEnrolment { id } => self.remove_enrolment(id),
            Action::Enrol { by, agent, key, at } => self.enrol(by, agent, *key, *at),
            Action::SetRange { from, domain } => self.set_range(*from, *domain),
            Action::SetCustomised { entries } => self.set_customised(entries),
            Action::PutFile { domain, name, content } => self.put_file(*domain, name, *content),
            Action::Amend { differences } => self.amend(differences),
        }
    }

    /// Sets the root, and clears the settings that are changed, and no others, wherever else they stand (R5.3).
    fn set_for_all(&mut self, patch: &Patch) {
        apply(&mut self.tree.root, patch);
        for setting in patch.settings() {
            self.tree.future.clear(setting);
        }
        let stands = |values: &Values| patch.settings().any(|setting| values.holds(setting));
        let domains = self.tree.domains.iter().filter(|(_, domain)| stands(&domain.values));
        let domains: Vec<_> = domains.map(|(id, domain)| (*id, Domain::clone(domain))).collect();
        for (id, mut domain) in domains {
            for setting in patch.settings() {
                domain.values.clear(setting);
                domain.started_with.remove(setting);
            }
            self.put_domain(id, Some(domain));
        }
        let agents = self.tree.differing.iter().filter(|(_, values)| stands(values));
        for (id, values) in agents.map(|(id, values)| (*id, Values::clone(values))).collect::<Vec<_>>() {
            let Some(agent) = self.tree.agent(&id) else { continue };
            let mut agent = agent.clone();
            let mut values = values;
            patch.settings().for_each(|setting| values.clear(setting));
            agent.values = own(values);
            self.put_agent(&id, Some(agent));
        }
    }

    fn set(&mut self, domains: &[DomainId], agents: &[AgentId], patch: &Patch) -> Result<(), Refused> {
        check_patch(patch)?;
        for id in domains {
            let mut domain = self.domain(*id)?.clone();
            apply(&mut domain.values, patch);
            patch.settings().for_each(|setting| domain.started_with.remove(setting));
            self.put_domain(*id, Some(domain));
        }
        for id in agents {
            let mut agent = self.agent(id)?.clone();
            let mut values = agent.values.as_deref().cloned().unwrap_or_default();
            apply(&mut values, patch);
            agent.values = own(values);
            self.put_agent(id, Some(agent));
        }
        Ok(())
    }

    /// A new domain starts with what the root has for future domains, unless it brings values of its own (R5.3).
    fn add_domain(
        &mut self,
        id: DomainId,
        name: &DomainName,
        parent: Option<DomainId>,
        own: &Values,
    ) -> Result<(), Refused> {
        let next = self.tree.next_domain();
        if id != next {
            return Err(Refused::Number { given: id, next });
        }
        if self.tree.domain_count() >= DOMAINS_MAX {
            return Err(Refused::DomainsMax(id));
        }
        self.check_place(id, name, parent, 1)?;
        let mut values = self.tree.future.clone();
        own.settings().for_each(|setting| values.copy(setting, own));
        let started_with = self.tree.future.settings().filter(|setting| !own.holds(*setting)).collect();
        self.put_domain(id, Some(Domain { name: name.clone(), parent, values, started_with }));
        Ok(())
    }

    fn rename_domain(&mut self, id: DomainId, name: &DomainName) -> Result<(), Refused> {
        let mut domain = self.domain(id)?.clone();
        self.check_name(id, name, domain.parent)?;
        domain.name = name.clone();
        self.put_domain(id, Some(domain));
        Ok(())
    }

    fn move_domain(&mut self, id: DomainId, to: Option<DomainId>) -> Result<(), Refused> {
        let mut domain = self.domain(id)?.clone();
        if let Some(to) = to {
            self.domain(to)?;
            if self.tree.line(to).any(|(above, _)| above == id) {
                return Err(Refused::IntoItself { domain: id, name: domain.name, to });
            }
        }
        self.check_place(id, &domain.name, to, height(&self.tree, id))?;
        domain.parent = to;
        self.put_domain(id, Some(domain));
        Ok(())
    }

    fn remove_domain(&mut self, id: DomainId, below: Below) -> Result<(), Refused> {
        let domain = self.domain(id)?;
        let (domains, agents) = (self.tree.domains_in(Some(id)).count(), self.tree.agents_in(id));
        if domains + agents > 0 && below == Below::MustBeEmpty {
            return Err(Refused::NotEmpty { domain: id, name: domain.name.clone(), domains, agents });
        }
        let within = self.tree.domains_within(id);
        if within.iter().any(|domain| self.tree.agents_in(*domain) > 0) {
            let gone: HashSet<_> = within.iter().copied().collect();
            let agents = self.tree.agents.iter().filter(|(_, agent)| gone.contains(&agent.domain));
            for agent in agents.map(|(agent, _)| *agent).collect::<Vec<_>>() {
                self.put_agent(&agent, None);
            }
        }
        for domain in within {
            self.forget(domain);
            self.put_domain(domain, None);
        }
        Ok(())
    }

    pub(super) fn add_agent(
        &mut self,
        id: &AgentId,
        domain: DomainId,
        values: &Values,
    ) -> Result<(), Refused> {
        if self.tree.agent(id).is_some() {
            return Err(Refused::AgentExists(*id));
        }
        if self.tree.agent_count() >= AGENTS_MAX {
            return Err(Refused::AgentsMax(*id));
        }
        self.domain(domain)?;
        self.put_agent(id, Some(Agent { domain, values: own(values.clone()), keys: None }));
        Ok(())
    }

    fn move_agents(&mut self, agents: &[AgentId], to: DomainId) -> Result<(), Refused> {
        self.domain(to)?;
        for id in agents {
            let agent = Agent { domain: to, ..self.agent(id)?.clone() };
            self.put_agent(id, Some(agent));
        }
        Ok(())
    }

    /// Whether a domain with so many levels, itself the first, may stand there under this name.
    fn check_place(
        &self,
        id: DomainId,
        name: &DomainName,
        parent: Option<DomainId>,
        levels: usize,
    ) -> Result<(), Refused> {
        if let Some(parent) = parent {
            self.domain(parent)?;
            if self.tree.line(parent).count() + levels > DEPTH_MAX {
                return Err(Refused::TooDeep(id));
            }
        }
        self.check_name(id, name, parent)
    }

    fn check_name(&self, id: DomainId, name: &DomainName, parent: Option<DomainId>) -> Result<(), Refused> {
        match self.tree.domain_named(parent, name) {
            Some(taken_by) if taken_by != id => {
                Err(Refused::NameTaken { domain: id, name: name.clone(), taken_by })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn domain(&self, id: DomainId) -> Result<&Domain, Refused> {
        self.tree.domain(id).ok_or(Refused::NoDomain(id))
    }

    pub(super) fn agent(&self, id: &AgentId) -> Result<&Agent, Refused> {
        self.tree.agent(id).ok_or(Refused::NoAgent(*id))
    }

    fn put_domain(&mut self, id: DomainId, domain: Option<Domain>) {
        self.touched.domains.push(id);
        self.tree.put_domain(id, domain);
    }

    pub(super) fn put_agent(&mut self, id: &AgentId, agent: Option<Agent>) {
        self.touched.agents.push(*id);
        self.tree.put_agent(id, agent);
    }
}

/// How many levels a domain and those within it have.
pub(super) fn height(tree: &Tree, domain: DomainId) -> usize {
    // No domain stands deeper than the bound, so neither does this.
    1 + tree.domains_in(Some(domain)).map(|(_, below)| height(tree, below)).max().unwrap_or(0)
}

fn check_patch(patch: &Patch) -> Result<(), Refused> {
    match patch.clear.settings().find(|setting| patch.set.holds(*setting)) {
        Some(both) => Err(Refused::SetAndCleared(both)),
        None => Ok(()),
    }
}

fn apply(values: &mut Values, patch: &Patch) {
    patch.settings().for_each(|setting| values.copy(setting, &patch.set));
}

/// What an agent keeps of its values: nothing where there are none.
fn own(values: Values) -> Option<Arc<Values>> {
    (!values.is_empty()).then(|| values.into())
}
