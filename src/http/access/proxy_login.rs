//! Reads who has signed in at a proxy with single sign-on, from two headers that the proxy sets.
//!
//! The headers count only from a peer in `server.trusted_proxies`, and only under `/v1`. The configuration
//! requires an address of its own for `/v1` (`server.admin_listen`), so no request on the clients' address
//! can carry them.

use axum::http::{HeaderMap, HeaderName};

use crate::auth::Role;
use crate::http::net::forwarded::BY_PROXY;
use crate::http::problem::Problem;

/// Headers with another meaning, which clients send themselves.
const NOT_FOR_USERS: [&str; 15] = [
    "accept",
    "authorization",
    "connection",
    "content-type",
    "cookie",
    "host",
    "last-event-id",
    "origin",
    "referer",
    "upgrade",
    "user-agent",
    "via",
    "x-api-key",
    "x-dev-key",
    "x-presence-hub",
];
/// The longest name of a user. A longer one is refused.
const USER_BYTES_MAX: usize = 256;

/// The headers in which a proxy names the user who has signed in, and what its users may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyLogin {
    user: HeaderName,
    role: HeaderName,
    admins: Vec<String>,
    viewers: Vec<String>,
}

/// A user who has signed in at the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProxyUser {
    pub(crate) name: String,
    /// The items of the role header.
    roles: Vec<String>,
}

impl ProxyLogin {
    /// Reads the settings: the headers, and the items of the role header that make an admin or a viewer.
    /// `None` if no header is set.
    ///
    /// # Errors
    ///
    /// The setting that is wrong, and a message.
    pub fn parse(
        user_header: &str,
        role_header: &str,
        admins: &[String],
        viewers: &[String],
    ) -> Result<Option<Self>, (&'static str, String)> {
        let (user_key, role_key) = ("auth.proxy_user_header", "auth.proxy_role_header");
        if user_header.is_empty() && role_header.is_empty() {
            let listed = [("auth.proxy_admins", admins), ("auth.proxy_viewers", viewers)];
            return match listed.into_iter().find(|(_, list)| !list.is_empty()) {
                None => Ok(None),
                Some((key, _)) => {
                    let message = "counts only with auth.proxy_user_header and \
                                   auth.proxy_role_header: set both, or empty this list";
                    Err((key, format!("{key} {message}")))
                }
            };
        }
        let user = header_name(user_header).map_err(|message| (user_key, message))?;
        let role = header_name(role_header).map_err(|message| (role_key, message))?;
        for (key, list) in [("auth.proxy_admins", admins), ("auth.proxy_viewers", viewers)] {
            // An item that nothing can equal would lock out whom it is meant for.
            if let Some(item) = list.iter().find(|item| item.is_empty() || item.trim() != **item) {
                let message = "expected a value without white space at its ends";
                return Err((key, format!("{key}: {message}, got {item:?}")));
            }
        }
        if admins.is_empty() && viewers.is_empty() {
            let message = "no user could log in: list values of auth.proxy_role_header in \
                           auth.proxy_admins or auth.proxy_viewers";
            return Err((user_key, message.to_owned()));
        }
        Ok(Some(Self { user, role, admins: admins.to_vec(), viewers: viewers.to_vec() }))
    }

    /// The user whom the headers of a trusted proxy name; `None` if these headers are absent.
    ///
    /// A header that is there twice is refused: a proxy that adds its line to the client's would let the
    /// client choose a name.
    pub(super) fn read(&self, headers: &HeaderMap) -> Result<Option<ProxyUser>, Problem> {
        let Some(name) = single(headers, &self.user)? else { return Ok(None) };
        if name.len() > USER_BYTES_MAX {
            return Err(Problem::bad_proxy_header());
        }
        let roles = match single(headers, &self.role)? {
            None => Vec::new(),
            // A name is never split: a user may have chosen one with a comma.
            Some(whole) if self.role == self.user => vec![whole.to_owned()],
            Some(list) => list.split(',').map(|item| item.trim().to_owned()).collect(),
        };
        Ok(Some(ProxyUser { name: name.to_owned(), roles }))
    }

    /// What a user may do; `None` if the user has no role.
    pub(super) fn role_of(&self, user: &ProxyUser) -> Option<Role> {
        let is_in = |list: &[String]| user.roles.iter().any(|role| list.contains(role));
        if is_in(&self.admins) {
            Some(Role::Admin)
        } else {
            is_in(&self.viewers).then_some(Role::Viewer)
        }
    }
}

/// The only value of a header; `None` if it is absent or empty.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Ok(None),
        (Some(line), None) => {
            let text = str::from_utf8(line.as_bytes()).map_err(|_| Problem::bad_proxy_header())?;
            Ok(Some(text.trim()).filter(|text| !text.is_empty()))
        }
        (Some(_), Some(_)) => Err(Problem::bad_proxy_header()),
    }
}

fn header_name(text: &str) -> Result<HeaderName, String> {
    if text.is_empty() {
        let message = "is empty: the login by a proxy needs both auth.proxy_user_header and \
                       auth.proxy_role_header, which may be the same header";
        return Err(message.to_owned());
    }
    let name = HeaderName::try_from(text).map_err(|_| {
        format!("expected the name of a header such as \"X-Forwarded-User\", got {text:?}")
    })?;
    if NOT_FOR_USERS.contains(&name.as_str()) || BY_PROXY.contains(&name.as_str()) {
        return Err(format!(
            "{text:?} has another meaning: let the proxy set a header of its own, such as \
             \"X-Forwarded-User\""
        ));
    }
    Ok(name)
}
