use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::http::{HeaderMap, header};
use ipnet::IpNet;
use tokio::sync::OwnedSemaphorePermit;

/// Where a request's bytes come from; set for each connection by the listener.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// Whether they come by TLS.
    pub(super) is_tls: bool,
}

/// A place among the sockets there may be: held by the connection, and by the actor that takes it
/// over, until both are done with it.
#[derive(Clone)]
pub(super) struct Held(
    #[expect(dead_code, reason = "it is for being dropped")] pub(super) Arc<OwnedSemaphorePermit>,
);

/// The proxies whose word on where a request comes from counts.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<IpNet>);

/// Which pages may connect; whoever sends no Origin is no page.
#[derive(Debug, Clone, Default)]
pub struct OriginRule {
    allowed: Vec<String>,
}

impl TrustedProxies {
    /// Reads addresses and networks.
    ///
    /// # Errors
    ///
    /// Names the one that is neither.
    pub fn parse(texts: &[String]) -> Result<Self, String> {
        let network = |text: &String| {
            let parsed = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            parsed.map_err(|_| format!("`{text}` is neither an address nor a network"))
        };
        texts.iter().map(network).collect::<Result<_, _>>().map(Self)
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The address of the client: the last in X-Forwarded-For that is no trusted proxy's.
    pub(super) fn client(&self, peer: Peer, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.address.ip().to_canonical();
        let forwarded = headers.get_all("x-forwarded-for").iter().filter_map(|v| v.to_str().ok());
        let hops: Vec<_> = forwarded.flat_map(|hops| hops.split(',')).collect();
        for hop in hops.iter().rev() {
            if !self.trusts(client) {
                break;
            }
            let Ok(address) = hop.trim().parse::<IpAddr>() else { break };
            client = address.to_canonical();
        }
        client
    }

    /// Whether the client speaks TLS, with the hub or with a trusted proxy.
    pub(super) fn is_secure(&self, peer: Peer, headers: &HeaderMap) -> bool {
        let forwarded = headers.get("x-forwarded-proto").and_then(|value| value.to_str().ok());
        let by_proxy = forwarded.filter(|_| self.trusts(peer.address.ip().to_canonical()));
        // Each proxy adds the way that it was reached by: the first is the client's.
        let first = by_proxy.and_then(|ways| ways.split(',').next());
        peer.is_tls || first.is_some_and(|way| way.trim().eq_ignore_ascii_case("https"))
    }

    /// The host and port that the client asked for.
    fn host<'a>(&self, peer: Peer, headers: &'a HeaderMap) -> Option<&'a str> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let forwarded =
            text("x-forwarded-host").filter(|_| self.trusts(peer.address.ip().to_canonical()));
        forwarded.or_else(|| text("host"))
    }
}

impl OriginRule {
    /// Reads origins: exact ones, `https://*.example.com` for one label, or `*` for any.
    ///
    /// # Errors
    ///
    /// Names the one that is none.
    pub fn parse(texts: &[String]) -> Result<Self, String> {
        for text in texts {
            let bare = text == "*"
                || text.split_once("://").is_some_and(|(scheme, host)| {
                    !scheme.is_empty() && !host.is_empty() && !host.contains('/')
                });
            if !bare {
                return Err(format!("`{text}` is no origin: write https://app.example.com"));
            }
        }
        Ok(Self { allowed: texts.to_vec() })
    }

    /// Checks a request's Origin.
    ///
    /// # Errors
    ///
    /// The origin that may not connect.
    pub(super) fn check(
        &self,
        peer: Peer,
        headers: &HeaderMap,
        proxies: &TrustedProxies,
    ) -> Result<(), String> {
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
        let origin = String::from_utf8_lossy(origin.as_bytes());
        let own = proxies.host(peer, headers).is_some_and(|host| same_host(&origin, host));
        if own || self.allowed.iter().any(|allowed| admits(allowed, &origin)) {
            Ok(())
        } else {
            Err(origin.into_owned())
        }
    }
}

/// Whether an origin has this host and port; the scheme is not compared, for a proxy may end TLS.
fn same_host(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default_port = if scheme == "https" { ":443" } else { ":80" };
    let bare = |text: &str| text.strip_suffix(default_port).unwrap_or(text).to_ascii_lowercase();
    bare(authority) == bare(host)
}

fn admits(allowed: &str, origin: &str) -> bool {
    if allowed == "*" || allowed == origin {
        return true;
    }
    let Some((scheme, suffix)) = allowed.split_once("://*.") else { return false };
    let label = origin
        .strip_prefix(scheme)
        .and_then(|rest| rest.strip_prefix("://"))
        .and_then(|host| host.strip_suffix(suffix))
        .and_then(|label| label.strip_suffix('.'));
    label.is_some_and(|label| !label.is_empty() && !label.contains(['.', '/', ':', '@']))
}
