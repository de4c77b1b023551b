//! When agents arrive: all at once, as a Poisson process, spread evenly over a window, or when the relay tells them.
//!
//! Arrivals are made one after the other and never held: a fleet that has not come yet takes no memory. Invariant: their moments never
//! go back, and a fleet has the same ones however many threads share it.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;

use crate::load::draw::{Purpose, draw};

/// How agents arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// All at the start.
    AllAtOnce,
    /// Independently of each other, so many on average that the window takes them; the last may come after it.
    Poisson {
        /// The window.
        over: Duration,
    },
    /// Each at a random moment of the window.
    Uniform {
        /// The window.
        over: Duration,
    },
    /// When the relay tells them: none of them comes by itself.
    Told,
}

/// The agents with their moments, in order.
#[derive(Debug)]
pub struct Arrivals {
    arrival: Arrival,
    agents: u32,
    next: u32,
    at_secs: f64,
    random: SmallRng,
}

impl Arrivals {
    /// The arrivals of so many agents.
    pub fn new(arrival: Arrival, agents: u32, seed: u64) -> Self {
        let next = if arrival == Arrival::Told { agents } else { 0 };
        Self { arrival, agents, next, at_secs: 0.0, random: draw(seed, Purpose::Arrivals, 0, 0) }
    }
}

impl Iterator for Arrivals {
    type Item = (u32, Duration);

    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.agents {
            return None;
        }
        let left = f64::from(self.agents - self.next);
        // In (0, 1]: neither its logarithm nor its root leaves the numbers.
        let chance = 1.0 - self.random.random::<f64>();
        self.at_secs += match self.arrival {
            Arrival::AllAtOnce | Arrival::Told => 0.0,
            Arrival::Poisson { over } => -chance.ln() * over.as_secs_f64() / f64::from(self.agents),
            // The smallest of `left` random moments of what is left of the window.
            Arrival::Uniform { over } => {
                (over.as_secs_f64() - self.at_secs) * (1.0 - chance.powf(1.0 / left))
            }
        };
        let number = self.next;
        self.next += 1;
        Some((number, Duration::from_secs_f64(self.at_secs.max(0.0))))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OVER: Duration = Duration::from_mins(1);

    fn all(arrival: Arrival, agents: u32, seed: u64) -> Vec<(u32, Duration)> {
        Arrivals::new(arrival, agents, seed).collect()
    }

    proptest! {
        #[test]
        fn every_agent_arrives_once_in_order_and_the_same_seed_brings_the_same_moments_r12_1(
            agents in 0_u32..2000, seed in any::<u64>(), kind in 0..3,
        ) {
            let arrival = match kind {
                0 => Arrival::AllAtOnce,
                1 => Arrival::Poisson { over: OVER },
                _ => Arrival::Uniform { over: OVER },
            };
            let arrivals = all(arrival, agents, seed);
            prop_assert!(arrivals.iter().map(|(number, _)| *number).eq(0..agents));
            prop_assert!(arrivals.is_sorted_by_key(|(_, at)| *at));
            prop_assert_eq!(&arrivals, &all(arrival, agents, seed));
            if arrival == (Arrival::Uniform { over: OVER }) {
                prop_assert!(arrivals.iter().all(|(_, at)| *at <= OVER));
            }
            if arrival == Arrival::AllAtOnce {
                prop_assert!(arrivals.iter().all(|(_, at)| at.is_zero()));
            }
        }
    }

    #[test]
    fn both_ways_to_spread_fill_each_tenth_of_the_window_alike() {
        for arrival in [Arrival::Poisson { over: OVER }, Arrival::Uniform { over: OVER }] {
            let mut tenths = [0_u32; 10];
            for (_, at) in all(arrival, 100_000, 7) {
                if let Some(tenth) = tenths.get_mut((at.as_secs() / 6) as usize) {
                    *tenth += 1;
                }
            }
            // A Poisson process may run out of agents before the window ends, so its last tenth says nothing. The others: five
            // standard deviations of 100 around 10,000.
            let full = if arrival == (Arrival::Uniform { over: OVER }) { &tenths[..] } else { &tenths[..9] };
            assert!(full.iter().all(|count| (9_500..=10_500).contains(count)), "{arrival:?}: {tenths:?}");
        }
    }

    #[test]
    fn gaps_of_a_poisson_process_are_exponential() {
        let arrivals = all(Arrival::Poisson { over: OVER }, 100_000, 3);
        let mean = 60.0 / 100_000.0;
        let longer =
            arrivals.windows(2).filter(|two| two[1].1.abs_diff(two[0].1).as_secs_f64() > mean).count();
        // One in e is longer than the mean.
        assert!((35_500..=38_000).contains(&longer), "{longer}");
    }
}
