//! Finds out that `server.trusted_proxies` leaves out a proxy, and says so once.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;

use super::forwarded::{Client, TrustedProxies};
use crate::presence::Timestamp;

/// How often one address is warned of.
const WARNED_EVERY: Duration = Duration::from_secs(3600);
/// How many addresses are warned of in that time: anybody may send headers like a proxy's.
const WARNED_MAX: usize = 20;
/// How many connections of one address must be refused, within how long, to be worth a warning.
const REFUSED_OFTEN: u32 = 50;
/// See [`REFUSED_OFTEN`].
const REFUSED_WITHIN: Duration = Duration::from_secs(60);
/// How many addresses are remembered.
const ADDRESSES_MAX: usize = 1000;

/// The addresses that may be those of proxies.
#[derive(Default)]
pub(crate) struct Unlisted(Mutex<BTreeMap<IpAddr, Noted>>);

#[derive(Default)]
struct Noted {
    /// Connections refused since then.
    refused: u32,
    since: Timestamp,
    warned: Option<Timestamp>,
}

impl Unlisted {
    /// Notes a request; warns where its sender forwards for others and is not trusted.
    pub(crate) fn forwarded(&self, client: &Client, proxies: &TrustedProxies, now: Timestamp) {
        if !client.is_unlisted_proxy || !self.may_warn(client.address, now) {
            return;
        }
        let (address, line) = (client.address, proxies.line_with(client.address));
        if address.is_loopback() {
            tracing::warn!(
                %address,
                "a proxy on this machine is not listed in server.trusted_proxies: its clients' \
                 addresses, https and host names are not seen; set: {line}"
            );
        } else {
            tracing::warn!(
                %address,
                "a proxy is not listed in server.trusted_proxies: all its clients count as one \
                 address and share its limit of connections; if it is your proxy, set: {line}"
            );
        }
    }

    /// Notes that a connection was refused for its address; warns where that happens often.
    pub(crate) fn refused(&self, address: IpAddr, proxies: &TrustedProxies, now: Timestamp) {
        let mut addresses = self.0.lock();
        let Some(noted) = note(&mut addresses, address, now) else { return };
        if now - noted.since > REFUSED_WITHIN {
            (noted.refused, noted.since) = (0, now);
        }
        noted.refused += 1;
        let refused = noted.refused;
        drop(addresses);
        if refused < REFUSED_OFTEN || !self.may_warn(address, now) {
            return;
        }
        if proxies.trusts(address) {
            tracing::warn!(
                %address,
                refused,
                "many connections from one proxy are refused: it is listed in \
                 server.trusted_proxies, but sends no X-Forwarded-For, Forwarded or X-Real-IP, so \
                 all its clients count as one address; make it send one of them"
            );
        } else {
            let line = proxies.line_with(address);
            tracing::warn!(
                %address,
                refused,
                "many connections from one address are refused \
                 (limits.connections_per_address_per_second, limits.connection_burst); if it is \
                 your proxy, set: {line}"
            );
        }
    }

    fn may_warn(&self, address: IpAddr, now: Timestamp) -> bool {
        let mut addresses = self.0.lock();
        let is_recent = |noted: &Noted| noted.warned.is_some_and(|at| now - at < WARNED_EVERY);
        let Some(noted) = note(&mut addresses, address, now) else { return false };
        if is_recent(noted)
            || addresses.values().filter(|noted| is_recent(noted)).count() >= WARNED_MAX
        {
            return false;
        }
        if let Some(noted) = addresses.get_mut(&address) {
            noted.warned = Some(now);
        }
        true
    }
}

/// What is noted of an address; `None` while too many others are remembered.
fn note(
    addresses: &mut BTreeMap<IpAddr, Noted>,
    address: IpAddr,
    now: Timestamp,
) -> Option<&mut Noted> {
    if addresses.len() >= ADDRESSES_MAX && !addresses.contains_key(&address) {
        addresses.retain(|_, noted| {
            noted.warned.is_some_and(|at| now - at < WARNED_EVERY)
                || now - noted.since <= REFUSED_WITHIN
        });
        if addresses.len() >= ADDRESSES_MAX {
            return None;
        }
    }
    Some(addresses.entry(address).or_insert_with(|| Noted { since: now, ..Noted::default() }))
}
