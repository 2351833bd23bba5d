use std::fmt::Write;
use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use rust_embed::{EmbeddedFile, RustEmbed};

use super::Door;
use super::problem::Problem;

/// What pages may load and where they may connect: nothing inline, nothing from elsewhere.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     connect-src 'self' ws: wss:; img-src 'self' data:; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// The files that other sites' pages embed.
const SDK: [&str; 2] = ["presence.js", "presence.mjs"];

/// The dashboard: its page, and the folder of the rest.
const DASHBOARD: [&str; 3] = ["index.html", "dashboard.js", "dashboard/"];

/// The files of `static/`, in the binary.
#[derive(RustEmbed)]
#[folder = "static/"]
struct Assets;

/// The SDK, the demo and the dashboard.
pub(super) fn all() -> Router<Arc<Door>> {
    Router::new()
        .route("/", get(async || Redirect::temporary("/static/")))
        .route("/static", get(async || Redirect::temporary("/static/")))
        .route("/static/", get(async |headers: HeaderMap| file("index.html", &headers)))
        .route(
            "/static/{*path}",
            get(async |Path(path): Path<String>, headers: HeaderMap| file(&path, &headers)),
        )
}

/// The SDK alone, where the dashboard has an address of its own.
pub(super) fn sdk() -> Router<Arc<Door>> {
    only(|path| SDK.contains(&path))
}

/// The SDK and the demo, where the dashboard has an address of its own.
pub(super) fn demo() -> Router<Arc<Door>> {
    only(|path| !DASHBOARD.iter().any(|part| path.starts_with(part)))
}

fn only(is_served: fn(&str) -> bool) -> Router<Arc<Door>> {
    let serve = async move |Path(path): Path<String>, headers: HeaderMap| {
        if is_served(&path) { file(&path, &headers) } else { Err(Problem::not_found()) }
    };
    Router::new().route("/static/{*path}", get(serve))
}

fn file(path: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    let file = Assets::get(path).ok_or_else(Problem::not_found)?;
    let etag = etag(&file);
    let known =
        headers.get(header::IF_NONE_MATCH).is_some_and(|tag| tag.as_bytes() == etag.as_bytes());
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let content_type = match path.rsplit_once('.') {
            Some((_, "js" | "mjs")) => "text/javascript; charset=utf-8".to_owned(),
            Some((_, "html")) => "text/html; charset=utf-8".to_owned(),
            Some((_, "css")) => "text/css; charset=utf-8".to_owned(),
            Some((_, "ts" | "mts" | "md")) => "text/plain; charset=utf-8".to_owned(),
            _ => file.metadata.mimetype().to_owned(),
        };
        ([(header::CONTENT_TYPE, content_type)], file.data).into_response()
    };
    let mut set = |name, value: &str| {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    };
    set(header::ETAG, &etag);
    set(header::CACHE_CONTROL, "no-cache");
    set(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    if SDK.contains(&path) {
        // A module is fetched with CORS, a script is not.
        set(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    }
    Ok(response)
}

fn etag(file: &EmbeddedFile) -> String {
    let mut etag = String::from("\"");
    for byte in &file.metadata.sha256_hash()[..16] {
        // A text takes everything.
        write!(etag, "{byte:02x}").ok();
    }
    etag.push('"');
    etag
}
