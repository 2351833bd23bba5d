//! Checks the URLs of outgoing requests, and prints them without secrets.

use std::net::IpAddr;

use url::{Host, Url};

use super::address::refusal;

/// Printed in place of what may be secret.
const HIDDEN: &str = "(hidden)";

/// Checks a URL: its scheme, that it has no name and password, and its address, if it has one instead
/// of a host name.
///
/// # Errors
///
/// What is wrong, and what to do. The text has no secret.
pub fn check(url: &Url, allow_private: bool) -> Result<(), String> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("expected a URL with http or https, not {}", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        let message = "a URL with a name or a password is not supported, because URLs are logged: \
                       remove them";
        return Err(message.into());
    }
    let address = match url.host() {
        Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        // A name is resolved and checked at each new connection.
        Some(Host::Domain(_)) | None => None,
    };
    address.and_then(|address| refusal(address, allow_private)).map_or(Ok(()), Err)
}

/// A URL with its possibly secret parts hidden: name and password, query and fragment.
pub fn without_secrets(url: &Url) -> String {
    let mut plain = url.clone();
    plain.set_query(None);
    plain.set_fragment(None);
    let has_user = !url.username().is_empty() || url.password().is_some();
    // Fails only for URLs that cannot have a name or a password.
    plain.set_username("").and(plain.set_password(None)).ok();
    let mut shown = plain.to_string();
    if has_user {
        shown = shown.replacen("://", &format!("://{HIDDEN}@"), 1);
    }
    for (sign, is_there) in [('?', url.query().is_some()), ('#', url.fragment().is_some())] {
        if is_there {
            shown = format!("{shown}{sign}{HIDDEN}");
        }
    }
    shown
}
