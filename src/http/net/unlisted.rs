//! Finds out that `server.trusted_proxies` leaves out a proxy, and says so once.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;

use super::forwarded::{Client, TrustedProxies};
use crate::presence::Timestamp;
use crate::throttle::{KeyedThrottle, Lines};

/// How many warnings there are. An address is warned of once an hour; anybody may send headers like a
/// proxy's.
const WARNINGS: Lines = Lines { within: Duration::from_secs(3600), ..Lines::EACH_ONCE };
/// How many connections of one address must be refused, within how long, to be worth a warning.
const REFUSED_OFTEN: u32 = 50;
/// See [`REFUSED_OFTEN`].
const REFUSED_WITHIN: Duration = Duration::from_secs(60);
/// How many addresses are remembered.
const ADDRESSES_MAX: usize = 1000;

/// The addresses that may be those of proxies.
pub(crate) struct Unlisted {
    warned: KeyedThrottle<IpAddr>,
    refused: Mutex<BTreeMap<IpAddr, Refused>>,
}

/// How many connections of an address were refused since then.
struct Refused {
    count: u32,
    since: Timestamp,
}

impl Default for Unlisted {
    fn default() -> Self {
        Self { warned: KeyedThrottle::new(WARNINGS), refused: Mutex::default() }
    }
}

impl Unlisted {
    /// Notes a request; warns where its sender forwards for others and is not trusted.
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
                "a proxy on this machine is not listed in server.trusted_proxies: its clients' \
                 addresses, https and host names are not seen; set: {line}"
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

    /// Notes that a connection was refused for its address; warns where that happens often.
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

    /// Counts a refused connection; returns how many there were lately. While too many other addresses
    /// are remembered, it is not counted.
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
