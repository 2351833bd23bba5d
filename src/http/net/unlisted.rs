//! Detects proxies that are missing in `server.trusted_proxies`, and warns about each.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;

use super::forwarded::{Client, TrustedProxies};
use crate::presence::Timestamp;
use crate::throttle::{KeyedThrottle, LineLimits};

/// One warning per address and hour, 20 in all: anybody can send a proxy's headers.
const WARNINGS: LineLimits =
    LineLimits { within: Duration::from_secs(3600), ..LineLimits::EACH_ONCE };
/// Refused connections of one address, within [`REFUSED_WITHIN`], that cause a warning.
const REFUSED_OFTEN: u32 = 50;
/// The time in which refused connections are counted.
const REFUSED_WITHIN: Duration = Duration::from_secs(60);
/// The most addresses with refused connections that are remembered.
const ADDRESSES_MAX: usize = 1000;

/// The addresses that may be unlisted proxies.
pub(crate) struct UnlistedProxies {
    warned: KeyedThrottle<IpAddr>,
    refused: Mutex<BTreeMap<IpAddr, Refused>>,
}

/// The refused connections of an address since a time.
struct Refused {
    count: u32,
    since: Timestamp,
}

impl Default for UnlistedProxies {
    fn default() -> Self {
        Self { warned: KeyedThrottle::new(WARNINGS), refused: Mutex::default() }
    }
}

impl UnlistedProxies {
    /// Warns if the request came through an unlisted proxy.
    pub(crate) fn forwarded(&self, client: &Client, proxies: &TrustedProxies, now: Timestamp) {
        if !client.is_unlisted_proxy {
            return;
        }
        let Some(suppressed) = self.warned.admit(client.address, now) else { return };
        let (address, line) = (client.address, proxies.line_with(client.address));
        if address.is_loopback() {
            tracing::warn!(
                %address,
                suppressed,
                "a proxy on this machine is not listed in server.trusted_proxies, so its clients' \
                 addresses, https and host names are unknown; set: {line}"
            );
        } else {
            tracing::warn!(
                %address,
                suppressed,
                "a proxy is not listed in server.trusted_proxies: all its clients count as one \
                 address and share its limit of connections; if it is your proxy, set: {line}"
            );
        }
    }

    /// Counts a connection refused by the limit per address; warns if that happens often.
    pub(crate) fn refused(&self, address: IpAddr, proxies: &TrustedProxies, now: Timestamp) {
        let refused = self.count(address, now);
        if refused < REFUSED_OFTEN {
            return;
        }
        let Some(suppressed) = self.warned.admit(address, now) else { return };
        if proxies.trusts(address) {
            tracing::warn!(
                %address,
                refused,
                suppressed,
                "many connections from one proxy are refused: it is listed in \
                 server.trusted_proxies, but sends no X-Forwarded-For, Forwarded or X-Real-IP, so \
                 all its clients count as one address; make it send one of them"
            );
        } else {
            let line = proxies.line_with(address);
            tracing::warn!(
                %address,
                refused,
                suppressed,
                "many connections from one address are refused \
                 (limits.connections_per_address_per_second, limits.connection_burst); if it is \
                 your proxy, set: {line}"
            );
        }
    }

    /// Counts a refused connection; returns the recent number. New addresses are not counted while
    /// [`ADDRESSES_MAX`] others are remembered.
    fn count(&self, address: IpAddr, now: Timestamp) -> u32 {
        let mut addresses = self.refused.lock();
        let is_recent = |refused: &Refused| now - refused.since <= REFUSED_WITHIN;
        if addresses.len() >= ADDRESSES_MAX && !addresses.contains_key(&address) {
            addresses.retain(|_, refused| is_recent(refused));
            if addresses.len() >= ADDRESSES_MAX {
                return 0;
            }
        }
        let refused = addresses.entry(address).or_insert(Refused { count: 0, since: now });
        if !is_recent(refused) {
            *refused = Refused { count: 0, since: now };
        }
        refused.count += 1;
        refused.count
    }
}
