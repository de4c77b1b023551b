//! The outline of a whole agent tree: what people keep in a file, look at in a comparison, and have made so.
//!
//! [`Outline::of`] a tree -> [`Outline::text`] -> somebody edits it -> [`read::read`] -> [`plan::plan`], one transaction, which
//! [`told::told`] tells in words. Domains are known by where they stand; everything is in one order, whatever was made first. Never
//! reads or writes a file, nor the bytes of settings files. Invariant: what an outline names is in it.

pub mod error;
pub mod path;
mod pieces;
pub mod plan;
pub mod read;
mod section;
#[cfg(test)]
mod tests;
pub mod told;
pub mod write;

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;

use crate::policy::outline::path::{DomainPath, paths};
use crate::policy::secret::SecretHash;
use crate::policy::sources::Entry;
use crate::policy::tree::Tree;
use crate::policy::tree::file::{Content, FileName};
use crate::policy::tree::id::{AgentId, DomainId, EnrolmentId};
use crate::policy::tree::keys::Keys;
use crate::policy::tree::setting::{SettingSet, Values};

/// A whole agent tree, as a file says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    root: Values,
    future: Values,
    domains: BTreeMap<DomainPath, DomainOutline>,
    agents: BTreeMap<AgentId, AgentOutline>,
    enrolments: BTreeMap<EnrolmentId, EnrolmentOutline>,
    ranges: BTreeMap<IpNet, DomainPath>,
    customised: Vec<Entry>,
    files: BTreeMap<(Option<DomainPath>, FileName), Content>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct DomainOutline {
    /// Which domain it is, if that is said: one that has another path then is renamed or moved.
    id: Option<DomainId>,
    values: Values,
    started_with: SettingSet,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct AgentOutline {
    domain: DomainPath,
    values: Option<Arc<Values>>,
    keys: Option<Keys>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct EnrolmentOutline {
    domain: DomainPath,
    secret: SecretHash,
    left: u32,
    until: Timestamp,
}

impl Outline {
    /// The outline of a tree.
    pub fn of(tree: &Tree) -> Self {
        let paths = paths(tree);
        let at = |domain: &DomainId| paths[domain].clone();
        let domains = tree.domains().map(|(id, domain)| {
            let (values, started_with) = (domain.values.clone(), domain.started_with);
            (at(&id), DomainOutline { id: Some(id), values, started_with })
        });
        let agents = tree.agents().map(|(id, agent)| {
            let (values, keys) = (agent.values.clone(), agent.keys);
            (*id, AgentOutline { domain: at(&agent.domain), values, keys })
        });
        let enrolments = tree.enrolments().map(|(id, enrolment)| {
            let (secret, left, until) = (enrolment.secret, enrolment.left, enrolment.until);
            (id.clone(), EnrolmentOutline { domain: at(&enrolment.domain), secret, left, until })
        });
        let files = tree.files();
        Self {
            root: tree.root().clone(),
            future: tree.future().clone(),
            domains: domains.collect(),
            agents: agents.collect(),
            enrolments: enrolments.collect(),
            ranges: tree.ranges().map(|(from, domain)| (from, at(&domain))).collect(),
            customised: tree.customised().entries().to_vec(),
            files: files
                .map(|(domain, name, file)| ((domain.as_ref().map(at), name.clone()), file.content))
                .collect(),
        }
    }

    /// The same for a relay that numbers its domains otherwise: paths alone say which is which.
    #[must_use]
    pub fn without_ids(mut self) -> Self {
        self.domains.values_mut().for_each(|domain| domain.id = None);
        self
    }
}
