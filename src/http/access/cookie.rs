//! Names, sets and reads the dashboard's cookie.

use axum::http::{HeaderMap, header};
use axum::response::{AppendHeaders, IntoResponseParts};

use crate::auth::KeyMark;

/// The prefix of the cookie's name.
const COOKIE: &str = "presence_hub_session";

/// How many cookies of a request are looked up. A browser sends more than one if they were set for several paths.
pub(crate) const COOKIES_MAX: usize = 4;

/// The name of the dashboard's cookie, different for each `hub` on a host. Browsers send a cookie to
/// every port of a host: with one name, a login at one hub would end the login at another.
pub fn cookie_name(hub: &str) -> String {
    format!("{COOKIE}_{}", KeyMark::of(hub))
}

/// The values of all cookies of this name; there may be more than one.
pub(crate) fn cookies<'a>(headers: &'a HeaderMap, wanted: &str) -> impl Iterator<Item = &'a str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = all.flat_map(|cookies| cookies.split(';')).filter_map(|one| one.split_once('='));
    pairs.filter(move |(name, _)| name.trim() == wanted).map(|(_, id)| id.trim())
}

/// The headers that set the cookie; an empty id and a TTL of 0 remove it.
pub(crate) fn set_cookie(
    name: &str,
    id: &str,
    ttl_secs: u64,
    is_secure: bool,
) -> impl IntoResponseParts + use<> {
    let secure = if is_secure { "; Secure" } else { "" };
    let cookie =
        format!("{name}={id}; Path=/v1; HttpOnly; SameSite=Strict; Max-Age={ttl_secs}{secure}");
    AppendHeaders([(header::SET_COOKIE, cookie), (header::CACHE_CONTROL, "no-store".to_owned())])
}
