//! The receiver of a simulation's webhooks.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpListener;

use super::fault::{Fault, other};

/// Takes every request of the hub.
#[derive(Clone, Default)]
pub(super) struct Receiver(Arc<Mutex<Vec<Posted>>>);

/// A request, as it was received.
#[derive(Debug, Clone)]
pub(super) struct Posted {
    /// Its `webhook-id`; empty if the format has none.
    pub(super) id: String,
    pub(super) body: Value,
}

impl Receiver {
    /// Begins to receive; returns where.
    pub(super) async fn start() -> Result<(Self, SocketAddr), Fault> {
        let fault = |error| other("the receiver of webhooks", &error);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(fault)?;
        let address = listener.local_addr().map_err(fault)?;
        let receiver = Self::default();
        tokio::spawn(receiver.clone().receive(listener));
        Ok((receiver, address))
    }

    /// The requests so far, in the order in which they arrived.
    pub(super) fn posted(&self) -> Vec<Posted> {
        self.0.lock().clone()
    }

    async fn receive(self, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let receiver = self.clone();
            let take = service_fn(move |request| receiver.clone().take(request));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), take));
        }
    }

    async fn take(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        // A request that breaks off is sent again.
        if let Ok(body) = body.collect().await
            && let Ok(body) = serde_json::from_slice(&body.to_bytes())
        {
            let id = head.headers.get("webhook-id").and_then(|id| id.to_str().ok());
            self.0.lock().push(Posted { id: id.unwrap_or_default().to_owned(), body });
        }
        // What receivers of both formats answer.
        let mut answer = Response::new(Full::from(r#"{"ActionStatus":"OK","ErrorCode":0}"#));
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(answer)
    }
}
