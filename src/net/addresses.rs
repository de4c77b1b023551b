//! How many connections each address has, so that no one address takes all places.
//!
//! Never decides how many are too many: who asks says. Invariant: an address is in the table while it has a connection, so that
//! the table is bounded by the connections.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::address::network;

/// The table, shared by all workers.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// Guards the counts. Taken when a connection begins and ends, never for a request.
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One connection of an address, while it is held.
#[derive(Debug)]
pub struct Counted {
    addresses: Addresses,
    network: IpAddr,
}

impl Addresses {
    /// Counts a connection; `None` where the address has `most` of them.
    pub fn count(&self, address: IpAddr, most: usize) -> Option<Counted> {
        let network = network(address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(network).or_default();
        if *count >= most {
            // A limit of at least one leaves no entry behind here that has no connection.
            return None;
        }
        *count += 1;
        Some(Counted { addresses: self.clone(), network })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.addresses.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_and_a_64_of_ipv6_is_one_address() {
        let addresses = Addresses::default();
        let count = |text: &str| addresses.count(text.parse().unwrap(), 2);
        let held = [count("192.0.2.1"), count("192.0.2.1")];
        assert!(held.iter().all(Option::is_some) && count("192.0.2.1").is_none());
        assert!(count("192.0.2.2").is_some(), "another address has its own");
        let _v6 = [count("2001:db8::1").unwrap(), count("2001:db8::ffff:2").unwrap()];
        assert!(count("2001:db8::3").is_none());
        assert!(count("2001:db8:0:1::1").is_some());
        drop(held);
        assert!(count("192.0.2.1").is_some());
    }

    #[test]
    fn an_address_without_connections_takes_no_room() {
        let addresses = Addresses::default();
        for last in 0..=255 {
            drop(addresses.count([192, 0, 2, last].into(), 1));
        }
        assert!(addresses.counts.lock().unwrap().is_empty());
    }
}
