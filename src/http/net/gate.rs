//! Middleware for all requests: checks `Host`, determines the client, and sets common headers.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderValue, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::forwarded::Client;
use super::peer::Peer;
use crate::http::problem::Problem;
use crate::http::state::AppState;
use crate::hub::Unavailable;

/// Checks `Host`, determines the client, logs store failures, and adds the common headers.
pub(crate) async fn pass(
    State(app): State<Arc<AppState>>,
    mut request: Request,
    next: Next,
) -> Response {
    let mut response = match check_host(&request) {
        Err(problem) => problem.into_response(),
        Ok(()) => {
            if let Some(client) = app.client(&request) {
                request.extensions_mut().insert(client);
            }
            next.run(request).await
        }
    };
    if let Some(cause) = response.extensions().get::<Unavailable>() {
        app.hub.store_failed("HTTP request refused: store unavailable", cause, None);
    }
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let headers = response.headers_mut();
        let no_sniffing = HeaderValue::from_static("nosniff");
        headers.entry(header::X_CONTENT_TYPE_OPTIONS).or_insert(no_sniffing);
        // Cacheable responses set their own.
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    }
    response
}

impl AppState {
    /// Determines the client; warns if it looks like an unlisted proxy.
    fn client(&self, request: &Request) -> Option<Client> {
        let peer = request.extensions().get::<Peer>()?;
        let settings = self.settings();
        let proxies = &settings.trusted_proxies;
        let client = proxies.client(*peer, request.headers());
        self.unlisted_proxies.forwarded(&client, proxies, self.hub.clock().now());
        Some(client)
    }
}

/// A request has exactly one `Host` (RFC 9112, section 3.2). Before HTTP/1.1 it may have none, as in
/// the health checks of some load balancers.
fn check_host(request: &Request) -> Result<(), Problem> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let bad = Problem::bad_request;
    match (hosts.next(), hosts.next()) {
        (None, _) if request.version() < Version::HTTP_11 => Ok(()),
        (None, _) => {
            Err(bad("the Host header is missing: send it once, as in Host: hub.example.com"))
        }
        (Some(_), Some(_)) => Err(bad("there are two Host headers: send one")),
        (Some(host), None) => {
            let authority = Authority::try_from(host.as_bytes());
            authority.ok().filter(is_host).map(drop).ok_or_else(|| {
                bad("the Host header is not valid: expected a host like hub.example.com or 10.0.0.5:7800")
            })
        }
    }
}

/// Whether it is a host with an optional port (RFC 9110, section 7.2).
fn is_host(authority: &Authority) -> bool {
    let host = authority.host();
    let port = authority.as_str().strip_prefix(host);
    !host.is_empty()
        && !authority.as_str().contains('@')
        && port.is_some_and(|rest| match rest.strip_prefix(':') {
            // An empty port means the default.
            Some(port) => port.is_empty() || authority.port_u16().is_some(),
            None => rest.is_empty(),
        })
}
