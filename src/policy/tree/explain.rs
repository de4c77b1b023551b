//! Where the value of a setting comes from (R5.2).
//!
//! Never gives the value itself: that is [`Effective`](crate::policy::tree::compiled::Effective). Invariant: both say the same.

use crate::policy::tree::id::DomainId;
use crate::policy::tree::setting::Setting;
use crate::policy::tree::{Node, Tree};

/// What set the value that holds at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetBy {
    /// Nothing: it is the setting's default.
    Default,
    /// The root.
    Root,
    /// A domain.
    Domain(DomainId),
    /// A domain, which started with what the root had for future domains (R5.3).
    Future(DomainId),
    /// The agent itself.
    Agent,
}

impl Tree {
    /// Where a setting's value at a node comes from; `None` where there is no such node.
    pub fn set_by(&self, node: &Node, setting: Setting) -> Option<SetBy> {
        let domain = match node {
            Node::Root => None,
            Node::Domain(id) => Some(*id),
            Node::Agent(id) => {
                let agent = self.agent(id)?;
                if agent.values.as_ref().is_some_and(|values| values.holds(setting)) {
                    return Some(SetBy::Agent);
                }
                Some(agent.domain)
            }
        };
        if let Some(domain) = domain {
            self.domain(domain)?;
            let nearest = self.line(domain).find(|(_, domain)| domain.values.holds(setting));
            if let Some((id, nearest)) = nearest {
                let started = nearest.started_with.holds(setting);
                return Some(if started { SetBy::Future(id) } else { SetBy::Domain(id) });
            }
        }
        Some(if self.root.holds(setting) { SetBy::Root } else { SetBy::Default })
    }
}
