//! Serves the files of `static/`: the SDK, the demo and the dashboard.

pub(super) mod compressed;

use std::borrow::Cow;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use data_encoding::HEXLOWER;
use rust_embed::{EmbeddedFile, RustEmbed};

use self::compressed::Coding;
use crate::http::net::header_list::items;
use crate::http::problem::Problem;
use crate::http::state::AppState;

/// Nothing inline, and nothing from other origins except WebSockets.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     connect-src 'self' ws: wss:; img-src 'self' data:; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// The files that other sites' pages embed: the SDK, the elements, and the bindings for frameworks.
const SDK: [&str; 8] = [
    "presence.js",
    "presence.mjs",
    "elements.js",
    "elements.mjs",
    "bindings.mjs",
    "react.mjs",
    "vue.mjs",
    "svelte.mjs",
];

/// The dashboard's files.
const DASHBOARD: [&str; 3] = ["index.html", "dashboard.js", "dashboard/"];

/// The files of `static/`, embedded in the binary.
#[derive(RustEmbed)]
#[folder = "static/"]
struct Assets;

/// The SDK, the demo and the dashboard.
pub(crate) fn all() -> Router<Arc<AppState>> {
    Router::new()
        .route("/", get(async || Redirect::temporary("/static/")))
        .route("/static", get(async || Redirect::temporary("/static/")))
        .route(
            "/static/",
            get(async |State(app): State<Arc<AppState>>, headers: HeaderMap| {
                file(&app, "index.html", &headers).await
            }),
        )
        .merge(only(|_| true))
}

/// The SDK only, if the dashboard has its own address.
pub(crate) fn sdk() -> Router<Arc<AppState>> {
    only(|path| SDK.contains(&path))
}

/// The SDK and the demo, if the dashboard has its own address.
pub(crate) fn demo() -> Router<Arc<AppState>> {
    only(|path| !DASHBOARD.iter().any(|part| path.starts_with(part)))
}

/// These files of `static/`, and `/llms.txt`, which describes the hub to language models.
fn only(is_served: fn(&str) -> bool) -> Router<Arc<AppState>> {
    let map = async |State(app): State<Arc<AppState>>, headers: HeaderMap| {
        file(&app, "llms.txt", &headers).await
    };
    let serve = async move |app: State<Arc<AppState>>, path: Path<String>, headers: HeaderMap| {
        let (State(app), Path(path)) = (app, path);
        if is_served(&path) { file(&app, &path, &headers).await } else { Err(Problem::not_found()) }
    };
    Router::new().route("/static/{*path}", get(serve)).route("/llms.txt", get(map))
}

async fn file(app: &AppState, path: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    let file = Assets::get(path).ok_or_else(Problem::not_found)?;
    let (content_type, is_text) = match path.rsplit_once('.') {
        Some((_, "js" | "mjs")) => ("text/javascript; charset=utf-8", true),
        Some((_, "html")) => ("text/html; charset=utf-8", true),
        Some((_, "css")) => ("text/css; charset=utf-8", true),
        Some((_, "ts" | "mts" | "md" | "txt")) => ("text/plain; charset=utf-8", true),
        Some((_, "json")) => ("application/json", true),
        Some((_, "svg")) => ("image/svg+xml", true),
        _ => (file.metadata.mimetype(), false),
    };
    let coding = if is_text { Coding::wanted(headers) } else { Coding::Plain };
    let etag = etag(&file, coding);
    let mut response = if is_known(headers, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let plain = match file.data {
            Cow::Borrowed(bytes) => Bytes::from_static(bytes),
            Cow::Owned(ref bytes) => Bytes::copy_from_slice(bytes),
        };
        let digest = file.metadata.sha256_hash();
        let bytes = app.compressed.get(path, digest, plain, coding).await;
        let mut response = ([(header::CONTENT_TYPE, content_type)], bytes).into_response();
        if coding != Coding::Plain {
            let name = HeaderValue::from_static(coding.name());
            response.headers_mut().insert(header::CONTENT_ENCODING, name);
        }
        response
    };
    let mut set = |name, value: &str| {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    };
    set(header::ETAG, &etag);
    if is_text {
        set(header::VARY, header::ACCEPT_ENCODING.as_str());
    }
    set(header::CACHE_CONTROL, "no-cache");
    set(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    if SDK.contains(&path) {
        // Browsers fetch modules with CORS, unlike scripts.
        set(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    }
    Ok(response)
}

/// Whether `If-None-Match` has this tag (RFC 9110, section 13.1.2). A proxy may have made it weak.
fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    items(headers, header::IF_NONE_MATCH.as_str())
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == etag)
}

/// The entity tag; different for each coding, because the bytes differ.
fn etag(file: &EmbeddedFile, coding: Coding) -> String {
    let digest = HEXLOWER.encode(&file.metadata.sha256_hash()[..16]);
    match coding {
        Coding::Plain => format!("\"{digest}\""),
        Coding::Gzip | Coding::Brotli => format!("\"{digest}-{}\"", coding.name()),
    }
}
