//! What agents said when they checked in and reported, and until when each may take packages.
//!
//! Soft: a relay that starts anew has heard nothing. Reading takes no lock. Invariant: there are no more than agents in the tree,
//! but for those that left it since the last look.

use papaya::HashMap;

use crate::policy::tree::id::AgentId;
use crate::relay::agents::check_in::Heard;

/// What was heard, by agent.
#[derive(Debug, Default)]
pub struct Seen(HashMap<AgentId, Heard>);

impl Seen {
    /// Whether an agent's permission is open. `now_secs` is monotonic.
    pub fn is_permitted(&self, agent: &AgentId, now_secs: u64) -> bool {
        self.0.pin().get(agent).is_some_and(|heard| now_secs < heard.permitted_until_secs)
    }
}
