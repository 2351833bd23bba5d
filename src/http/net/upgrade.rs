//! `GET /ws`: admits a client, completes the handshake, and hands the connection to its actor.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;

use super::forwarded::Client;
use super::header_list::{has, items};
use super::origin::OriginRule;
use super::patience::Patient;
use super::peer::{HeldPlace, Peer};
use super::places::{Crowd, Place};
use crate::auth::limit_key;
use crate::http::problem::Problem;
use crate::http::state::AppState;
use crate::hub::{RefusalReason, WriteHalf};
use crate::session::Sessions;
use crate::wire::{ErrorCode, SUBPROTOCOL};

/// Headers of the handshake that must be text.
const HANDSHAKE: [&str; 4] =
    ["connection", "upgrade", "sec-websocket-key", "sec-websocket-version"];
/// Headers that must not occur twice.
const SINGLE: [&str; 3] = ["origin", "sec-websocket-key", "sec-websocket-version"];
/// The header with the subprotocols that a client offers.
const SUBPROTOCOLS: &str = "sec-websocket-protocol";

/// `GET /ws`: the WebSocket upgrade.
pub(crate) async fn upgrade(
    State(app): State<Arc<AppState>>,
    Extension(client): Extension<Client>,
    Extension(peer): Extension<Peer>,
    Extension(held): Extension<HeldPlace>,
    mut request: Request,
) -> Result<Response, Problem> {
    check_headers(request.headers())?;
    normalize_lists(request.headers_mut());
    let mut response =
        create_response_with_body(&request, Body::empty).map_err(|error| handshake(&error))?;
    let address = app.admit(&client, request.headers())?;
    let forwarded = app.place_of(&client, peer, &held)?;
    let permit = Arc::clone(&app.websocket_permits).try_acquire_owned();
    let unavailable = RefusalReason::Error(ErrorCode::Unavailable);
    let permit = permit.map_err(|_| app.refuse(unavailable, Problem::full()))?;
    if items(request.headers(), SUBPROTOCOLS).any(|offered| offered == SUBPROTOCOL) {
        let protocol = HeaderValue::from_static(SUBPROTOCOL);
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let sessions = Arc::clone(&app.sessions);
    let counted = app.addresses.count(address);
    tokio::spawn(serve(sessions, upgrade, address, (permit, held, forwarded, counted)));
    Ok(response)
}

impl AppState {
    /// Checks drain, origin and rate limit; returns the client's address.
    fn admit(&self, client: &Client, headers: &HeaderMap) -> Result<IpAddr, Problem> {
        if self.hub.is_draining() {
            let problem = Problem::unavailable("the hub is draining");
            return Err(self.refuse(RefusalReason::Error(ErrorCode::Unavailable), problem));
        }
        let settings = self.settings();
        if let Some(origin) = headers.get(header::ORIGIN) {
            let origin = String::from_utf8_lossy(origin.as_bytes());
            if !settings.origins.admits(&origin, client.host.as_deref()) {
                self.log_origin(&settings.origins, &origin);
                let problem = Problem::origin_not_allowed();
                return Err(self.refuse(RefusalReason::OriginNotAllowed, problem));
            }
        }
        let address = client.address;
        let (rate, now) = (&settings.connections_per_address, self.hub.clock().now());
        if !address.is_loopback() && !self.by_address.take(&limit_key(address), rate, now) {
            self.unlisted_proxies.refused(address, &settings.trusted_proxies, now);
            let problem = Problem::too_many_from_address();
            return Err(self.refuse(RefusalReason::Error(ErrorCode::RateLimited), problem));
        }
        Ok(address)
    }

    /// Refuses a connection in a spare place, and counts a client that came through a proxy.
    fn place_of(
        &self,
        client: &Client,
        peer: Peer,
        held: &HeldPlace,
    ) -> Result<Option<Place>, Problem> {
        let of_address = || {
            let reason = RefusalReason::Error(ErrorCode::RateLimited);
            self.refuse(reason, Problem::too_many_of_address())
        };
        match held.crowd() {
            Some(Crowd::All) => {
                let reason = RefusalReason::Error(ErrorCode::Unavailable);
                return Err(self.refuse(reason, Problem::full()));
            }
            Some(Crowd::Address | Crowd::Handshakes) => return Err(of_address()),
            None => (),
        }
        if client.address == peer.address.ip().to_canonical() {
            return Ok(None);
        }
        let limit = self.settings().sockets_per_address;
        match held.places.count_forwarded(client.address, limit) {
            Some(place) => Ok(Some(place)),
            None => {
                self.hub.metrics().crowded(Crowd::Address.name());
                held.places.warn(Crowd::Address, client.address, self.hub.clock().now());
                Err(of_address())
            }
        }
    }

    /// Counts a refused upgrade.
    fn refuse(&self, reason: RefusalReason, problem: Problem) -> Problem {
        self.hub.metrics().upgrade_refused(reason);
        problem
    }

    /// Warns about a refused origin.
    fn log_origin(&self, origins: &OriginRule, origin: &str) {
        let now = self.hub.clock().now();
        let Some(suppressed) = self.refused_origins.admit(origin.to_owned(), now) else { return };
        match origins.line_for(origin) {
            Some(line) => {
                tracing::warn!(origin, suppressed, "origin not allowed; to allow it, set: {line}");
            }
            None => tracing::warn!(
                origin,
                suppressed,
                "origin not allowed: no browser sends this Origin"
            ),
        }
    }
}

/// Waits for the upgrade, then hands the connection to its own task, to free the upgrade's memory.
async fn serve(
    sessions: Arc<Sessions>,
    upgrade: OnUpgrade,
    address: IpAddr,
    held: impl Send + 'static,
) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => return tracing::debug!(%error, "WebSocket upgrade failed"),
    };
    let address = Some(address);
    match upgraded.downcast::<TokioIo<Patient<TcpStream>>>() {
        Ok(parts) => {
            let (reader, writer) = parts.io.into_inner().into_inner().into_split();
            let early = parts.read_buf;
            tokio::spawn(sessions.serve(reader, WriteHalf::Tcp(writer), early, address, held));
        }
        Err(upgraded) => serve_tls(&sessions, upgraded, address, held),
    }
}

fn serve_tls(
    sessions: &Arc<Sessions>,
    upgraded: Upgraded,
    address: Option<IpAddr>,
    held: impl Send + 'static,
) {
    let Ok(parts) = upgraded.downcast::<TokioIo<Patient<TlsStream<TcpStream>>>>() else {
        unreachable!("a listener speaks TCP or TLS")
    };
    let (reader, writer) = tokio::io::split(parts.io.into_inner().into_inner());
    let writer = WriteHalf::Other(Box::new(writer));
    tokio::spawn(sessions.serve(reader, writer, parts.read_buf, address, held));
}

fn check_headers(headers: &HeaderMap) -> Result<(), Problem> {
    for name in SINGLE {
        if headers.get_all(name).iter().count() > 1 {
            return Err(Problem::bad_request(format!("there are two {name} headers: send one")));
        }
    }
    for name in HANDSHAKE {
        if headers.get_all(name).iter().any(|value| value.to_str().is_err()) {
            return Err(Problem::bad_request(format!("the {name} header is not ASCII text")));
        }
    }
    let body = headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    if body {
        return Err(Problem::bad_request("a handshake has no body"));
    }
    Ok(())
}

/// Rewrites `Connection` and `Upgrade` as tungstenite expects them: one line with one value.
fn normalize_lists(headers: &mut HeaderMap) {
    for (name, wanted) in [(header::CONNECTION, "upgrade"), (header::UPGRADE, "websocket")] {
        if has(headers, name.as_str(), wanted) {
            headers.insert(name, HeaderValue::from_static(wanted));
        }
    }
}

fn handshake(error: &Error) -> Problem {
    let is_none = matches!(
        error,
        Error::Protocol(
            ProtocolError::MissingConnectionUpgradeHeader
                | ProtocolError::MissingUpgradeWebSocketHeader
                | ProtocolError::MissingSecWebSocketVersionHeader,
        )
    );
    if is_none { Problem::upgrade_required() } else { Problem::bad_request(error.to_string()) }
}
