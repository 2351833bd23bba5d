//! Which addresses count as one where something is bounded for each address.

use std::net::IpAddr;

/// What one household has: an IPv4 address, or the network that an IPv6 address is chosen from.
pub(crate) fn household(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => (u128::from(address) >> 64 << 64).to_be_bytes().into(),
    }
}
