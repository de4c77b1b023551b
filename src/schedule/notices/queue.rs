//! Who waits for a place, and in which order.
//!
//! Invariant: an agent stands in it once, and keeps its turn when more reasons come.

use std::collections::BTreeSet;

use crate::policy::tree::id::AgentId;

/// Whose turn comes before whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// Somebody waits for it to happen, or it had a place already.
    First,
    /// All others.
    Then,
}

/// A turn: those of one rank in the order in which they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    rank: Rank,
    number: u64,
}

/// Who waits for a place.
#[derive(Debug, Default)]
pub(super) struct Queue {
    turns: BTreeSet<(Turn, AgentId)>,
    last: u64,
}

impl Queue {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.turns.len()
    }

    /// Whose turn is next.
    pub(super) fn first(&self) -> Option<AgentId> {
        self.turns.first().map(|(_, agent)| *agent)
    }

    /// Puts an agent that has this turn, or none, where its rank says; or takes it away. Gives the turn that it has then.
    pub(super) fn put(&mut self, agent: &AgentId, turn: Option<Turn>, rank: Option<Rank>) -> Option<Turn> {
        if turn.map(|turn| turn.rank) == rank {
            return turn;
        }
        if let Some(turn) = turn {
            self.turns.remove(&(turn, *agent));
        }
        let rank = rank?;
        let number = turn.map_or_else(
            || {
                self.last += 1;
                self.last
            },
            |turn| turn.number,
        );
        let turn = Turn { rank, number };
        self.turns.insert((turn, *agent));
        Some(turn)
    }
}
