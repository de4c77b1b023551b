//! What the fleet leaves to chance, from the seed of its plan.
//!
//! Each draw depends on who draws what and on nothing that went before, so that the order in which answers come changes no agent's mind.
//! Invariant: equal seeds give equal draws.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// When agents arrive; drawn once for the fleet.
    Arrivals,
    /// An agent's scope.
    Scope,
    /// What an agent takes of a component.
    Choice,
    /// How long an agent thinks.
    Think,
    /// Whether an agent gives up, and where.
    GiveUp,
    /// How long an agent waits before it asks the relay again.
    Again,
}

/// The source of one draw of one agent.
pub fn draw(seed: u64, purpose: Purpose, agent: u32, index: u32) -> SmallRng {
    // Each word goes through the generator before the next is mixed in, so that neighbours have nothing in common.
    let words = [seed, purpose as u64, u64::from(agent), u64::from(index)];
    let state = words.into_iter().fold(0, |state, word| SmallRng::seed_from_u64(state ^ word).next_u64());
    SmallRng::seed_from_u64(state)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn neighbours_draw_different_numbers_and_the_same_draw_is_repeated_r12_1() {
        let mut seen = HashSet::new();
        for seed in 0..4 {
            for purpose in [Purpose::Scope, Purpose::Choice] {
                for agent in 0..50 {
                    for index in 0..5 {
                        let first = draw(seed, purpose, agent, index).next_u64();
                        assert_eq!(first, draw(seed, purpose, agent, index).next_u64());
                        assert!(seen.insert(first), "{seed} {purpose:?} {agent} {index}");
                    }
                }
            }
        }
    }
}
