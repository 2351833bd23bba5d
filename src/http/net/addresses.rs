//! Counts the open WebSockets of each client address.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use utoipa::ToSchema;

/// How many addresses are looked at under one lock, so that no handshake waits long for it.
const LOOKED_AT: usize = 10_000;

/// How many WebSockets each client address has open.
#[derive(Default)]
pub(crate) struct Addresses(Mutex<BTreeMap<IpAddr, u64>>);

/// A WebSocket that is counted until this is dropped.
pub(crate) struct Counted {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    /// Counts a WebSocket of an address.
    pub(crate) fn count(self: &Arc<Self>, address: IpAddr) -> Counted {
        *self.0.lock().entry(address).or_default() += 1;
        Counted { addresses: Arc::clone(self), address }
    }

    /// The addresses with the most WebSockets, the most first, and how many addresses there are.
    pub(crate) fn most(&self, limit: usize) -> AddressPage {
        let mut most = BinaryHeap::with_capacity(limit + 1);
        let mut count = 0;
        let mut from = Bound::Unbounded;
        loop {
            let addresses = self.0.lock();
            let mut last = None;
            for (address, connections) in addresses.range((from, Bound::Unbounded)).take(LOOKED_AT)
            {
                count += 1;
                last = Some(*address);
                most.push((Reverse(*connections), *address));
                if most.len() > limit {
                    most.pop();
                }
            }
            drop(addresses);
            let Some(last) = last else { break };
            from = Bound::Excluded(last);
        }
        let address = |(Reverse(connections), address)| AddressConnections { address, connections };
        AddressPage { addresses: most.into_sorted_vec().into_iter().map(address).collect(), count }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut addresses = self.addresses.0.lock();
        if let Some(connections) = addresses.get_mut(&self.address) {
            *connections -= 1;
            if *connections == 0 {
                addresses.remove(&self.address);
            }
        }
    }
}

/// The client addresses with the most open WebSockets, the most first.
#[derive(Serialize, ToSchema)]
pub(crate) struct AddressPage {
    addresses: Vec<AddressConnections>,
    /// How many addresses have any.
    count: u64,
}

/// A client address.
#[derive(Serialize, ToSchema)]
struct AddressConnections {
    #[schema(value_type = String)]
    address: IpAddr,
    /// Open WebSockets, logged in or not.
    connections: u64,
}
