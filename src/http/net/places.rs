//! The places for sockets: in all, for each address, and spare ones for short answers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::auth::limit_key;
use crate::presence::Timestamp;
use crate::throttle::{KeyedThrottle, LineLimits};

/// How many sockets get a short answer while the others are taken: `/health`, the dashboard, a refusal.
pub(crate) const SPARE: usize = 16;
/// How many of the spare places one address gets. Loopback and trusted proxies have no limit.
const SPARE_OF_ADDRESS: u32 = 4;

/// The places of one listening address. They are counted when a socket is accepted, before TLS.
pub(crate) struct Places {
    open: Arc<Semaphore>,
    spare: Arc<Semaphore>,
    counts: Mutex<HashMap<IpAddr, Count>>,
    /// No address takes more than half of the places, whatever the settings say.
    half: u32,
    lines: KeyedThrottle<Option<IpAddr>>,
}

/// The sockets of one address.
#[derive(Debug, Default)]
struct Count {
    open: u32,
    spare: u32,
}

/// Why a socket got no place, or only a spare one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crowd {
    /// All places are taken.
    All,
    /// The address has as many sockets as one address may have.
    Address,
}

/// A place, until it is dropped.
pub(crate) struct Place {
    _permit: Option<OwnedSemaphorePermit>,
    counted: Option<(Arc<Places>, IpAddr, bool)>,
    /// If it is a spare place: why.
    pub(crate) crowd: Option<Crowd>,
}

impl Places {
    /// Makes `total` places, and [`SPARE`] spare ones.
    pub(crate) fn new(total: usize) -> Arc<Self> {
        Arc::new(Self {
            open: Arc::new(Semaphore::new(total)),
            spare: Arc::new(Semaphore::new(SPARE)),
            counts: Mutex::default(),
            half: u32::try_from(total / 2).unwrap_or(u32::MAX).max(1),
            lines: KeyedThrottle::new(LineLimits::EACH_ONCE),
        })
    }

    /// Takes a place for an accepted socket, or a spare one. `limit` is the number of sockets that one
    /// address may have; `None` for addresses that are not counted.
    ///
    /// # Errors
    ///
    /// If neither a place nor a spare one is left, in all or for this address.
    pub(crate) fn take(
        self: &Arc<Self>,
        address: IpAddr,
        limit: Option<u32>,
    ) -> Result<Place, Crowd> {
        let key = limit.map(|_| limit_key(address));
        let most = limit.map_or(u32::MAX, |limit| limit.min(self.half));
        self.place(key, most, None)
            .or_else(|crowd| self.place(key, SPARE_OF_ADDRESS, Some(crowd)).map_err(|_| crowd))
    }

    /// Counts a client that came through a trusted proxy; `None` if its address has too many.
    pub(crate) fn count_forwarded(self: &Arc<Self>, address: IpAddr, limit: u32) -> Option<Place> {
        let key = limit_key(address);
        if address.is_loopback() {
            return Some(Place { _permit: None, counted: None, crowd: None });
        }
        let mut counts = self.counts.lock();
        let open = counts.get(&key).map_or(0, |count| count.open);
        if open >= limit.min(self.half) {
            return None;
        }
        counts.entry(key).or_default().open = open + 1;
        drop(counts);
        Some(Place { _permit: None, counted: Some((Arc::clone(self), key, false)), crowd: None })
    }

    /// Takes a place, a spare one if there is a crowd. `most` is the number of such places that a counted
    /// address may have.
    fn place(
        self: &Arc<Self>,
        key: Option<IpAddr>,
        most: u32,
        crowd: Option<Crowd>,
    ) -> Result<Place, Crowd> {
        let is_spare = crowd.is_some();
        let mut counts = self.counts.lock();
        let taken = key.map_or(0, |key| counts.get(&key).map_or(0, |count| count.of(is_spare)));
        if key.is_some() && taken >= most {
            return Err(Crowd::Address);
        }
        let places = Arc::clone(if is_spare { &self.spare } else { &self.open });
        let permit = places.try_acquire_owned().map_err(|_| Crowd::All)?;
        let counted = key.map(|key| {
            *counts.entry(key).or_default().number(is_spare) += 1;
            (Arc::clone(self), key, is_spare)
        });
        Ok(Place { _permit: Some(permit), counted, crowd })
    }

    /// Warns that sockets are refused, once a minute for each address, and once for all together.
    pub(crate) fn warn(&self, crowd: Crowd, address: IpAddr, now: Timestamp) {
        let key = match crowd {
            Crowd::All => None,
            Crowd::Address => Some(limit_key(address)),
        };
        let Some(suppressed) = self.lines.admit(key, now) else { return };
        match crowd {
            Crowd::All => tracing::warn!(
                %address,
                suppressed,
                "all sockets are in use; refusing new connections: raise server.max_connections"
            ),
            Crowd::Address => tracing::warn!(
                %address,
                suppressed,
                "one address has as many sockets as it may have; refusing its new connections. If it \
                 is a proxy, add it to server.trusted_proxies; if many users share it, raise \
                 limits.sockets_per_address"
            ),
        }
    }
}

impl Crowd {
    /// The name in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Address => "address",
        }
    }
}

impl Count {
    const fn of(&self, is_spare: bool) -> u32 {
        if is_spare { self.spare } else { self.open }
    }

    const fn number(&mut self, is_spare: bool) -> &mut u32 {
        if is_spare { &mut self.spare } else { &mut self.open }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((places, key, is_spare)) = self.counted.take() else { return };
        let mut counts = places.counts.lock();
        let Some(count) = counts.get_mut(&key) else { return };
        *count.number(is_spare) -= 1;
        if count.open == 0 && count.spare == 0 {
            counts.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [203, 0, 113, last].into()
    }

    #[test]
    fn one_address_takes_at_most_half_of_the_places_and_four_spare_ones() {
        let places = Places::new(8);
        let take = |last| places.take(address(last), Some(100)).map(|place| (place.crowd, place));
        let held: Vec<_> = (0..8).map(|_| take(1).expect("a place")).collect();
        let crowds: Vec<_> = held.iter().map(|(crowd, _)| *crowd).collect();
        assert_eq!(crowds, [[None; 4], [Some(Crowd::Address); 4]].concat());
        assert_eq!(take(1).err(), Some(Crowd::Address));
        assert_eq!(take(2).expect("another address").0, None);
        drop(held);
        assert_eq!(take(1).expect("its places are free again").0, None);
        assert!(
            places.counts.lock().is_empty(),
            "nothing is remembered of addresses without sockets"
        );
    }

    #[test]
    fn all_addresses_together_take_all_places_and_then_the_spare_ones() {
        let places = Places::new(2);
        let held: Vec<_> = (1..=2).map(|n| places.take(address(n), Some(100))).collect();
        assert!(held.iter().flatten().all(|place| place.crowd.is_none()));
        let spare: Vec<_> = (0..SPARE)
            .map(|n| places.take(address(u8::try_from(3 + n).expect("small")), Some(100)))
            .collect();
        assert!(spare.iter().flatten().all(|place| place.crowd == Some(Crowd::All)));
        assert_eq!(places.take(address(100), Some(100)).err(), Some(Crowd::All));
    }

    #[test]
    fn addresses_without_a_limit_are_not_counted() {
        let places = Places::new(8);
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let held: Vec<_> = (0..8).map(|_| places.take(loopback, None)).collect();
        assert!(held.iter().flatten().all(|place| place.crowd.is_none()), "up to all places");
        assert!(places.counts.lock().is_empty());
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let places = Places::new(4);
        let one = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n]);
        let held: Vec<_> = (0..3).map(|n| places.take(one(n), Some(100))).collect();
        let crowds: Vec<_> = held.iter().flatten().map(|place| place.crowd).collect();
        assert_eq!(crowds, [None, None, Some(Crowd::Address)]);
    }
}
