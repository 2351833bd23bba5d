//! A webhook receiver that tests control.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpListener;

/// What the receiver does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Takes the events, and answers with this status.
    Take(u16),
    /// Takes the events, and answers with JSON of this many bytes.
    TakeAtLength(usize),
    /// Answers with this status, and takes nothing.
    Refuse(u16),
    /// Answers with this status and this body, and takes nothing.
    RefuseFor(u16, &'static str),
    /// Takes nothing, and never answers.
    Hang,
    /// Takes the events, and answers after the timeout of the hub.
    TakeLate,
    /// Closes the connection without an answer.
    Reset,
    /// Answers with a redirect.
    Redirect,
    /// Answers with this status and `Retry-After` in seconds, and takes nothing.
    LeaveAlone(u16, &'static str),
}

type Decide = dyn Fn(&Value) -> Act + Send + Sync;

/// A request that arrived.
#[derive(Debug, Clone)]
pub(crate) struct Came {
    pub(crate) path: String,
    pub(crate) headers: axum::http::HeaderMap,
    pub(crate) body: String,
}

#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    taken: Arc<Mutex<Vec<Value>>>,
    came: Arc<Mutex<Vec<Came>>>,
    decide: Arc<Mutex<Arc<Decide>>>,
}

impl Receiver {
    /// Starts a receiver that chooses its answer by the body.
    pub(crate) async fn start(decide: impl Fn(&Value) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let receiver = Self {
            address: listener.local_addr().expect("an address"),
            taken: Arc::default(),
            came: Arc::default(),
            decide: Arc::new(Mutex::new(Arc::new(decide))),
        };
        let router = Router::new().fallback(receive).with_state(receiver.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = TowerToHyperService::new(router.clone());
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        receiver
    }

    /// The URL of the receiver.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Replaces the function that chooses the answer.
    pub(crate) fn set(&self, decide: impl Fn(&Value) -> Act + Send + Sync + 'static) {
        *self.decide.lock() = Arc::new(decide);
    }

    /// The events that were taken.
    pub(crate) fn taken(&self) -> Vec<Value> {
        self.taken.lock().clone()
    }

    /// All requests that arrived.
    pub(crate) fn came(&self) -> Vec<Came> {
        self.came.lock().clone()
    }
}

async fn receive(State(receiver): State<Receiver>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
    let body = String::from_utf8(body.to_vec()).expect("UTF-8");
    let read: Value = serde_json::from_str(&body).expect("JSON");
    let path = parts.uri.to_string();
    receiver.came.lock().push(Came { path, headers: parts.headers, body });
    let decide = Arc::clone(&receiver.decide.lock());
    let take = || receiver.taken.lock().extend(events(&read));
    let status = |status: u16| StatusCode::from_u16(status).expect("a status");
    match decide(&read) {
        Act::Take(code) => {
            take();
            (status(code), "{}").into_response()
        }
        Act::TakeAtLength(bytes) => {
            take();
            format!("[\"{}\"]", "x".repeat(bytes)).into_response()
        }
        Act::Refuse(code) => status(code).into_response(),
        Act::RefuseFor(code, why) => (status(code), why).into_response(),
        Act::Hang => std::future::pending().await,
        Act::TakeLate => {
            take();
            tokio::time::sleep(Duration::from_secs(30)).await;
            StatusCode::OK.into_response()
        }
        Act::Reset => panic!("closes the connection without an answer"),
        Act::Redirect => {
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/elsewhere")]).into_response()
        }
        Act::LeaveAlone(code, secs) => {
            (status(code), [(header::RETRY_AFTER, secs)]).into_response()
        }
    }
}

/// The events of a request. A callback in Tencent's format is one event.
fn events(body: &Value) -> Vec<Value> {
    body["events"].as_array().cloned().unwrap_or_else(|| vec![body.clone()])
}
