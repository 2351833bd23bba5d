//! Determines a request's client from what trusted proxies send: `X-Forwarded-For`, `-Proto`, `-Host`,
//! `Forwarded` (RFC 7239), and `X-Real-IP` if neither has the address.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

use axum::http::{HeaderMap, header};
use ipnet::IpNet;

use super::header_list::{items, quoted, split};
use super::peer::Peer;

/// Headers with a request's origin, which only proxies have a reason to send.
pub(crate) const BY_PROXY: [&str; 5] =
    ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "forwarded"];

/// The bits before the IPv4 address in an IPv4-mapped IPv6 address, `::ffff:10.0.0.1`.
const V4_MAPPED_BITS: u8 = 96;

/// The proxies whose forwarding headers are trusted.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<IpNet>);

/// The client of a request, from the connection and from trusted proxies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Client {
    /// The client's address.
    pub(crate) address: IpAddr,
    /// Whether the client speaks TLS, with the hub or with a trusted proxy.
    pub(crate) is_secure: bool,
    /// The host and port that the client asked for.
    pub(crate) host: Option<String>,
    /// Whether the address likely is a proxy missing in `server.trusted_proxies`.
    pub(crate) is_unlisted_proxy: bool,
}

/// Whether a request has a header that only proxies have a reason to send.
pub(crate) fn is_forwarded(headers: &HeaderMap) -> bool {
    BY_PROXY.iter().any(|name| headers.contains_key(*name))
}

impl TrustedProxies {
    /// Parses addresses and networks. IPv4-mapped IPv6 addresses (`::ffff:10.0.0.1`) become IPv4, like
    /// the addresses of peers.
    ///
    /// # Errors
    ///
    /// A message for each invalid entry, with what to write instead.
    pub fn parse(texts: &[String]) -> Result<Self, Vec<String>> {
        let mut wrong = Vec::new();
        let mut networks = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            match network(text) {
                Ok(network) => networks.push(network),
                Err(message) => wrong.push(format!("trusted_proxies[{index}]: {message}")),
            }
        }
        if wrong.is_empty() { Ok(Self(networks)) } else { Err(wrong) }
    }

    /// The configuration line that adds an address to the listed proxies.
    pub(crate) fn line_with(&self, address: IpAddr) -> String {
        let entry = |network: &IpNet| match network.prefix_len() == network.max_prefix_len() {
            true => network.addr().to_string(),
            false => network.to_string(),
        };
        let entries = self.0.iter().map(entry).chain([address.to_string()]);
        let list: Vec<_> = entries.map(|entry| format!("\"{entry}\"")).collect();
        format!("[server] trusted_proxies = [{}]", list.join(", "))
    }

    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Determines the client of a request.
    pub(crate) fn client(&self, peer: Peer, headers: &HeaderMap) -> Client {
        let own = peer.address.ip().to_canonical();
        if !self.trusts(own) {
            return Client {
                address: own,
                is_secure: peer.is_tls,
                host: text(headers, header::HOST.as_str()).map(str::to_owned),
                is_unlisted_proxy: is_forwarded(headers),
            };
        }
        let elements = elements(headers);
        let (address, has_more) = self.walk(own, headers, &elements);
        // Each proxy appends how it was reached itself: the first entry is the client's.
        let proto = first(headers, "x-forwarded-proto").or_else(|| find(&elements, "proto"));
        let host = first(headers, "x-forwarded-host").or_else(|| find(&elements, "host"));
        Client {
            address,
            is_secure: peer.is_tls
                || proto.is_some_and(|proto| proto.eq_ignore_ascii_case("https")),
            host: host
                .map(Cow::into_owned)
                .or_else(|| text(headers, header::HOST.as_str()).map(str::to_owned)),
            // Any client can send these headers, but not from an internal address.
            is_unlisted_proxy: has_more && !self.trusts(address) && is_internal(address),
        }
    }

    /// Follows the hops from the peer towards the client while they are trusted proxies; returns the
    /// last address, and whether the headers claim more hops before it.
    ///
    /// An unreadable hop (`unknown`, a name, a typo) ends the walk: anybody may have made up the
    /// entries to its left, so the last known address counts.
    fn walk(&self, own: IpAddr, headers: &HeaderMap, elements: &[Vec<Pair<'_>>]) -> (IpAddr, bool) {
        let mut hops: Vec<Option<IpAddr>> =
            items(headers, "x-forwarded-for").map(|hop| node(&quoted(hop))).collect();
        if !headers.contains_key("x-forwarded-for") {
            let element = |pairs: &Vec<Pair<'_>>| {
                let (_, by) = pairs.iter().find(|(name, _)| name.eq_ignore_ascii_case("for"))?;
                node(by)
            };
            hops = elements.iter().map(element).collect();
            if elements.is_empty() {
                // It has a single address, set by the trusted proxy.
                hops.extend(text(headers, "x-real-ip").map(node));
            }
        }
        let mut client = own;
        while self.trusts(client) {
            match hops.pop() {
                Some(Some(address)) => client = address,
                Some(None) | None => return (client, false),
            }
        }
        (client, !hops.is_empty())
    }
}

/// A parameter of an element of `Forwarded`.
type Pair<'a> = (&'a str, Cow<'a, str>);

/// The elements of all `Forwarded` headers; the one nearest to the client comes first.
fn elements(headers: &HeaderMap) -> Vec<Vec<Pair<'_>>> {
    let pairs = |element| {
        let pairs = split(element, ';').filter_map(|pair: &str| pair.split_once('='));
        pairs.map(|(name, value)| (name.trim(), quoted(value.trim()))).collect()
    };
    items(headers, header::FORWARDED.as_str()).map(pairs).collect()
}

/// The first non-empty value of a parameter.
fn find<'a>(elements: &[Vec<Pair<'a>>], wanted: &str) -> Option<Cow<'a, str>> {
    let mut pairs = elements.iter().flatten();
    let found = pairs.find(|(name, value)| name.eq_ignore_ascii_case(wanted) && !value.is_empty());
    found.map(|(_, value)| value.clone())
}

/// The first item of a header's list.
fn first<'a>(headers: &'a HeaderMap, name: &'a str) -> Option<Cow<'a, str>> {
    items(headers, name).next().map(quoted)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Parses the address of a hop, with or without a port: `203.0.113.7:51234`, `[2001:db8::1]:4711`.
fn node(text: &str) -> Option<IpAddr> {
    let is_port = |port: &str| {
        !port.is_empty() && port.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let is_whole = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return is_whole.then(|| v6(address))?;
    }
    if let Some((address, port)) = text.split_once(':').filter(|(_, port)| !port.contains(':')) {
        let address: IpAddr = address.parse().ok()?;
        return is_port(port).then_some(address);
    }
    text.parse().ok().or_else(|| v6(text)).map(|address: IpAddr| address.to_canonical())
}

/// Parses an IPv6 address, without the zone of a link-local one.
fn v6(text: &str) -> Option<IpAddr> {
    let address = text.split_once('%').map_or(text, |(address, _)| address);
    address.parse::<Ipv6Addr>().ok().map(|address| IpAddr::from(address).to_canonical())
}

/// Parses a network or an address. Bits beyond the prefix are ignored: `10.0.0.1/8` is `10.0.0.0/8`.
fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let network = network.map_err(|_| {
        format!(
            "expected an address or a network, such as \"10.0.0.5\" or \"10.0.0.0/8\", got {text:?}"
        )
    })?;
    let mapped = match network.addr() {
        IpAddr::V6(v6) => v6.to_ipv4_mapped(),
        IpAddr::V4(_) => None,
    };
    let Some(v4) = mapped else { return Ok(network.trunc()) };
    // Peers are compared as IPv4, so a wider IPv6 network would not contain them.
    let length = network.prefix_len();
    let bits = length.checked_sub(V4_MAPPED_BITS);
    if let Some(Ok(network)) = bits.map(|bits| IpNet::new(v4.into(), bits)) {
        return Ok(network.trunc());
    }
    let meant = IpNet::new(v4.into(), length).map(|network| network.trunc().to_string());
    let meant = meant.unwrap_or_else(|_| v4.to_string());
    Err(format!("{text:?} matches no IPv4 address: write IPv4 networks as IPv4, such as {meant:?}"))
}

/// Whether an address is private, so that no client on the internet can connect from it.
fn is_internal(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            let is_carrier = first == 100 && second & 0xc0 == 64;
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || is_carrier
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}
