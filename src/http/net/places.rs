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
pub const SPARE: usize = 16;
/// How many of the spare places one address gets, and how many all addresses that are counted. Loopback and
/// trusted proxies have no limit.
const SPARE_OF_ADDRESS: u32 = 4;
const SPARE_OF_COUNTED: usize = SPARE / 2;
/// How many TLS handshakes of one address may be under way, so that others need not wait for them.
const HANDSHAKES_OF_ADDRESS: u32 = 128;

/// The places of one listening address. They are counted when a socket is accepted, before TLS.
pub(crate) struct Places {
    open: Arc<Semaphore>,
    spare: Arc<Semaphore>,
    counts: Mutex<HashMap<IpAddr, Count>>,
    total: usize,
    lines: KeyedThrottle<Option<IpAddr>>,
}

/// What an address is counted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Open,
    Spare,
    Handshake,
}

/// How many of each kind an address has.
#[derive(Debug, Default)]
struct Count([u32; 3]);

/// A guard: one more of a kind is counted for an address until this is dropped.
pub(crate) struct Counted {
    places: Arc<Places>,
    key: IpAddr,
    kind: Kind,
}

/// Why a socket got no place, or only a spare one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crowd {
    /// All places are taken.
    All,
    /// The address has as many sockets as one address may have.
    Address,
    /// The address has as many TLS handshakes under way as one address may have.
    Handshakes,
}

/// A place, until it is dropped.
pub(crate) struct Place {
    _permit: Option<OwnedSemaphorePermit>,
    counted: Option<Counted>,
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
            total,
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
        let most = limit.map_or(u32::MAX, |limit| limit.min(self.half()));
        self.place(key, most, None)
            .or_else(|crowd| self.place(key, SPARE_OF_ADDRESS, Some(crowd)).map_err(|_| crowd))
    }

    /// Counts a client that came through a trusted proxy; `None` if its address has too many.
    pub(crate) fn count_forwarded(self: &Arc<Self>, address: IpAddr, limit: u32) -> Option<Place> {
        let key = limit_key(address);
        if address.is_loopback() {
            return Some(Place { _permit: None, counted: None, crowd: None });
        }
        let counted = self.count(key, Kind::Open, limit.min(self.half()))?;
        Some(Place { _permit: None, counted: Some(counted), crowd: None })
    }

    /// How many places there are.
    pub(crate) const fn total(&self) -> usize {
        self.total
    }

    /// Whether more than an eighth of the places are taken by sockets other than so many WebSockets.
    pub(crate) fn has_many_besides(&self, websockets: usize) -> bool {
        let taken = self.total - self.open.available_permits();
        taken.saturating_sub(websockets) > self.total / 8
    }

    /// No address takes more than half of the places, whatever the settings say.
    fn half(&self) -> u32 {
        u32::try_from(self.total / 2).unwrap_or(u32::MAX).max(1)
    }

    /// Counts one more of an address, unless it has `most` already.
    fn count(self: &Arc<Self>, key: IpAddr, kind: Kind, most: u32) -> Option<Counted> {
        let mut counts = self.counts.lock();
        if counts.get(&key).map_or(0, |count| count.0[kind as usize]) >= most {
            return None;
        }
        counts.entry(key).or_default().0[kind as usize] += 1;
        drop(counts);
        Some(Counted { places: Arc::clone(self), key, kind })
    }

    /// Takes a place, a spare one if there is a crowd. `most` is the number of such places that a counted
    /// address may have.
    fn place(
        self: &Arc<Self>,
        key: Option<IpAddr>,
        most: u32,
        crowd: Option<Crowd>,
    ) -> Result<Place, Crowd> {
        let (kind, places) = match crowd {
            None => (Kind::Open, &self.open),
            Some(_) => (Kind::Spare, &self.spare),
        };
        let counted = key.map(|key| self.count(key, kind, most).ok_or(Crowd::Address));
        let counted = counted.transpose()?;
        let is_kept_for_others = kind == Kind::Spare && key.is_some();
        if is_kept_for_others && places.available_permits() <= SPARE - SPARE_OF_COUNTED {
            return Err(Crowd::All);
        }
        let permit = Arc::clone(places).try_acquire_owned().map_err(|_| Crowd::All)?;
        Ok(Place { _permit: Some(permit), counted, crowd })
    }

    /// Warns that sockets are refused, once a minute for each address, and once for all together.
    pub(crate) fn warn(&self, crowd: Crowd, address: IpAddr, now: Timestamp) {
        let key = match crowd {
            Crowd::All => None,
            Crowd::Address | Crowd::Handshakes => Some(limit_key(address)),
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
            Crowd::Handshakes => tracing::warn!(
                %address,
                suppressed,
                "one address has too many TLS handshakes under way; refusing its new connections. If it \
                 is a proxy, add it to server.trusted_proxies"
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
            Self::Handshakes => "handshakes",
        }
    }
}

impl Place {
    /// Counts a TLS handshake of the place's address until the result is dropped.
    ///
    /// # Errors
    ///
    /// If the address has too many under way.
    pub(crate) fn begin_handshake(&self) -> Result<Option<Counted>, Crowd> {
        let Some(Counted { places, key, .. }) = &self.counted else { return Ok(None) };
        let counted = places.count(*key, Kind::Handshake, HANDSHAKES_OF_ADDRESS);
        counted.map(Some).ok_or(Crowd::Handshakes)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.places.counts.lock();
        let Some(count) = counts.get_mut(&self.key) else { return };
        count.0[self.kind as usize] -= 1;
        if count.0 == [0; 3] {
            counts.remove(&self.key);
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
    fn all_addresses_together_take_all_places_and_then_half_of_the_spare_ones() {
        let places = Places::new(2);
        let held: Vec<_> = (1..=2).map(|n| places.take(address(n), Some(100))).collect();
        assert!(held.iter().flatten().all(|place| place.crowd.is_none()));
        let spare: Vec<_> = (0..SPARE_OF_COUNTED)
            .map(|n| places.take(address(u8::try_from(3 + n).expect("small")), Some(100)))
            .collect();
        assert!(spare.iter().flatten().all(|place| place.crowd == Some(Crowd::All)));
        assert_eq!(places.take(address(100), Some(100)).err(), Some(Crowd::All));
        let health_check = places.take([127, 0, 0, 1].into(), None).expect("a spare place");
        assert_eq!(health_check.crowd, Some(Crowd::All));
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
    fn an_eighth_of_the_places_may_be_taken_by_requests() {
        let places = Places::new(80);
        let take = |last| places.take(address(last), Some(100)).expect("a place");
        let mut held: Vec<_> = (0..10).map(take).collect();
        assert!(!places.has_many_besides(0));
        held.push(take(10));
        assert!(places.has_many_besides(0));
        assert!(!places.has_many_besides(1), "one of them has become a WebSocket");
        drop(held);
        assert!(!places.has_many_besides(0));
    }

    #[test]
    fn one_address_has_at_most_128_handshakes_under_way() {
        let places = Places::new(8);
        let of = |last| places.take(address(last), Some(100)).expect("a place");
        let (one, other) = (of(1), of(2));
        let most = (0..HANDSHAKES_OF_ADDRESS).map(|_| one.begin_handshake());
        let under_way: Vec<_> = most.collect::<Result<_, _>>().expect("so many");
        assert_eq!(one.begin_handshake().err(), Some(Crowd::Handshakes));
        assert!(other.begin_handshake().is_ok(), "others need not wait");
        drop(under_way);
        assert!(one.begin_handshake().is_ok());
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
