//! Groups addresses for rate limits: an IPv6 client can choose any address of its network.

use std::net::IpAddr;

/// The key for limits per address: an IPv4 address, or the /64 network of an IPv6 address.
pub fn limit_key(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => (u128::from(address) >> 64 << 64).to_be_bytes().into(),
    }
}
