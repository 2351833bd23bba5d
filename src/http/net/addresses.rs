//! Counts the open WebSockets of each client address.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use utoipa::ToSchema;

/// Addresses scanned per lock, so that handshakes do not wait long for the lock.
const SCANNED_PER_LOCK: usize = 10_000;

/// The number of open WebSockets of each client address.
#[derive(Default)]
pub(crate) struct Addresses(Mutex<BTreeMap<IpAddr, u64>>);

/// A guard: its WebSocket is counted until this is dropped.
pub(crate) struct CountedSocket {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    /// Counts a WebSocket of an address.
    pub(crate) fn count(self: &Arc<Self>, address: IpAddr) -> CountedSocket {
        *self.0.lock().entry(address).or_default() += 1;
        CountedSocket { addresses: Arc::clone(self), address }
    }

    /// The addresses with the most WebSockets, in descending order, and the number of addresses.
    pub(crate) fn most(&self, limit: usize) -> AddressPage {
        let mut most = BinaryHeap::with_capacity(limit + 1);
        let mut count = 0;
        let mut from = Bound::Unbounded;
        loop {
            let addresses = self.0.lock();
            let mut last = None;
            for (address, connections) in
                addresses.range((from, Bound::Unbounded)).take(SCANNED_PER_LOCK)
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

impl Drop for CountedSocket {
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

/// The client addresses with the most open WebSockets, in descending order.
#[derive(Serialize, ToSchema)]
pub(crate) struct AddressPage {
    addresses: Vec<AddressConnections>,
    /// The number of addresses with open WebSockets.
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
