//! Decides which addresses the hub may connect to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use self::AddressClass::{Forbidden, Private, Public};

/// What kind of address a request would connect to. The text says it in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddressClass {
    /// On the internet.
    Public,
    /// On this machine or in its network. `outgoing.allow_private` decides.
    Private(&'static str),
    /// Never allowed: nothing there can be a receiver, and some of it gives out credentials.
    Forbidden(&'static str),
}

const UNSPECIFIED: AddressClass = Forbidden("an unspecified address");
const LINK_LOCAL: AddressClass = Forbidden("a link-local address, where clouds offer credentials");
const METADATA: AddressClass = Forbidden("the address of a cloud's metadata service");
const MULTICAST: AddressClass = Forbidden("a multicast address");
const BROADCAST: AddressClass = Forbidden("the broadcast address");
const LOOPBACK: AddressClass = Private("a loopback address");
const PRIVATE: AddressClass = Private("a private address");
const RESERVED: AddressClass = Private("a reserved address");

/// The first network that contains the address decides.
const V4: [(Ipv4Net, AddressClass); 16] = [
    (v4([0, 0, 0, 0], 8), UNSPECIFIED),
    (v4([169, 254, 0, 0], 16), LINK_LOCAL),
    // Alibaba Cloud, Oracle Cloud, and the platform service of Azure.
    (v4([100, 100, 100, 200], 32), METADATA),
    (v4([192, 0, 0, 192], 32), METADATA),
    (v4([168, 63, 129, 16], 32), METADATA),
    (v4([224, 0, 0, 0], 4), MULTICAST),
    (v4([255, 255, 255, 255], 32), BROADCAST),
    (v4([127, 0, 0, 0], 8), LOOPBACK),
    (v4([10, 0, 0, 0], 8), PRIVATE),
    (v4([172, 16, 0, 0], 12), PRIVATE),
    (v4([192, 168, 0, 0], 16), PRIVATE),
    // Shared by the customers of a carrier (RFC 6598).
    (v4([100, 64, 0, 0], 10), PRIVATE),
    (v4([192, 0, 0, 0], 24), RESERVED),
    (v4([192, 88, 99, 0], 24), RESERVED),
    (v4([198, 18, 0, 0], 15), RESERVED),
    (v4([240, 0, 0, 0], 4), RESERVED),
];

/// The first network that contains the address decides.
const V6: [(Ipv6Net, AddressClass); 8] = [
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), UNSPECIFIED),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), LOOPBACK),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), LINK_LOCAL),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), MULTICAST),
    // AWS: metadata at ::254, credentials of containers at ::23. And Google Cloud.
    (v6([0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0], 32), METADATA),
    (v6([0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x254], 128), METADATA),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), PRIVATE),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), PRIVATE),
];

/// Networks whose addresses contain an IPv4 address, with the places of its bytes. A gateway or the
/// kernel connects to that one.
const V4_IN_V6: [(Ipv6Net, &[[usize; 4]]); 6] = [
    // IPv4-mapped, IPv4-compatible, and translated by a host (RFC 2765).
    (v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96), &[LAST]),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 96), &[LAST]),
    (v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96), &[LAST]),
    // NAT64, with the well-known prefix and with a local one of any length (RFC 6052, RFC 8215).
    (v6([0x0064, 0xff9b, 0, 0, 0, 0, 0, 0], 96), &[LAST]),
    (
        v6([0x0064, 0xff9b, 1, 0, 0, 0, 0, 0], 48),
        &[LAST, [6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12]],
    ),
    // 6to4.
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), &[[2, 3, 4, 5]]),
];
const LAST: [usize; 4] = [12, 13, 14, 15];

const fn v4([a, b, c, d]: [u8; 4], length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6([a, b, c, d, e, f, g, h]: [u16; 8], length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), length)
}

/// The class of an address.
pub fn class_of(address: IpAddr) -> AddressClass {
    match address {
        IpAddr::V4(address) => class_of_v4(address),
        IpAddr::V6(address) => class_of_v6(address),
    }
}

fn class_of_v4(address: Ipv4Addr) -> AddressClass {
    let found = V4.iter().find(|(network, _)| network.contains(&address));
    found.map_or(Public, |(_, class)| *class)
}

fn class_of_v6(address: Ipv6Addr) -> AddressClass {
    if let Some((_, class)) = V6.iter().find(|(network, _)| network.contains(&address)) {
        return *class;
    }
    let bytes = address.octets();
    let places = V4_IN_V6.iter().find(|(network, _)| network.contains(&address));
    let places = places.map_or(&[][..], |(_, places)| *places);
    // The strictest, because the length of a local prefix is not known.
    let inside = places.iter().map(|places| class_of_v4(places.map(|place| bytes[place]).into()));
    inside.max().unwrap_or(Public)
}

/// Why the hub may not connect to an address, and what to do; `None` if it may.
pub(super) fn refusal(address: IpAddr, allow_private: bool) -> Option<String> {
    match class_of(address) {
        Public => None,
        Private(_) if allow_private => None,
        Private(what) => Some(format!(
            "{address} is {what}, and outgoing.allow_private is false: use a public address, or set \
             outgoing.allow_private = true"
        )),
        Forbidden(what) => Some(format!(
            "{address} is {what}, to which the hub never connects: use the address of your server"
        )),
    }
}
