//! The HTTP client of all outgoing requests.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{io, vec};

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, HeaderMap, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::Notify;
use tower_service::Service;
use url::Url;

use super::address::refusal;
use super::url::{check, without_secrets};
use crate::causes::with_causes;

/// The timeout for a new connection: name, TCP and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The most interim answers (status 1xx) before an answer. Reading them costs processor time, and
/// HTTP does not limit their number.
const INTERIM_MAX: usize = 16;
/// The maximum size of an answer's head. It also bounds what is read at once.
const HEAD_BYTES_MAX: usize = 32 * 1024;
const AGENT: &str = concat!("presence-hub/", env!("CARGO_PKG_VERSION"));

/// The value of `Accept` for any kind of answer.
const ANYTHING: &str = "*/*";
const NO_HEADERS: &[(&str, String)] = &[];

type AnyError = Box<dyn Error + Send + Sync>;

/// Sends requests. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Outgoing {
    client: Client<Connector, Full<Bytes>>,
    allow_private: bool,
}

/// Why a request has no answer. The text has no secret.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The URL or its address is not allowed; nothing was sent.
    #[error("{url}: {why}")]
    Refused {
        /// The URL, without secrets.
        url: String,
        /// The address, and what to set.
        why: String,
    },
    /// No connection could be opened; nothing was sent.
    #[error("{0}")]
    Connect(String),
    /// Only interim answers came.
    #[error(
        "over {INTERIM_MAX} interim answers (status 1xx) came before the answer: the server, or a \
         proxy in front of it, is broken"
    )]
    Interim,
    /// The connection failed, or what came is not HTTP.
    #[error("{0}")]
    Failed(String),
}

/// An answer, whose body is not read yet.
#[derive(Debug)]
pub struct Answer(Response<Incoming>);

impl Outgoing {
    /// Makes a client with connections of its own.
    ///
    /// # Errors
    ///
    /// If the system's certificates cannot be read.
    pub fn new(allow_private: bool) -> io::Result<Self> {
        let resolver = CheckedResolver { allow_private, system: GaiResolver::new() };
        let mut http = HttpConnector::new_with_resolver(resolver);
        // The connector around it speaks TLS.
        http.enforce_http(false);
        http.set_nodelay(true);
        let https = HttpsConnectorBuilder::new()
            .with_provider_and_platform_verifier(rustls::crypto::aws_lc_rs::default_provider())?
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .build(Connector(https));
        Ok(Self { client, allow_private })
    }

    /// Whether it connects to loopback and private addresses.
    pub const fn allows_private(&self) -> bool {
        self.allow_private
    }

    /// Gets a URL. The caller sets a timeout.
    ///
    /// # Errors
    ///
    /// If the server cannot be reached, or does not answer in time.
    pub async fn get(&self, url: &Url) -> Result<Answer, Fault> {
        self.send(Method::GET, url, ANYTHING, NO_HEADERS, Bytes::new()).await
    }

    /// Opens a stream of Server-Sent Events, with a bearer key. The caller sets the timeouts.
    ///
    /// # Errors
    ///
    /// If the server cannot be reached, or does not answer in time.
    pub async fn get_events(&self, url: &Url, key: &str) -> Result<Answer, Fault> {
        let headers = [("authorization", format!("Bearer {key}"))];
        self.send(Method::GET, url, "text/event-stream", &headers, Bytes::new()).await
    }

    /// Gets a URL with a bearer key. The caller sets a timeout.
    ///
    /// # Errors
    ///
    /// If the server cannot be reached, or does not answer in time.
    pub async fn get_with_key(&self, url: &Url, key: &str) -> Result<Answer, Fault> {
        let headers = [("authorization", format!("Bearer {key}"))];
        self.send(Method::GET, url, ANYTHING, &headers, Bytes::new()).await
    }

    /// Posts a body. The caller sets a timeout.
    ///
    /// # Errors
    ///
    /// If the server cannot be reached, or does not answer in time.
    pub async fn post(
        &self,
        url: &Url,
        headers: &[(impl AsRef<str> + Sync, String)],
        body: Bytes,
    ) -> Result<Answer, Fault> {
        self.send(Method::POST, url, ANYTHING, headers, body).await
    }

    async fn send(
        &self,
        method: Method,
        url: &Url,
        accept: &str,
        headers: &[(impl AsRef<str> + Sync, String)],
        body: Bytes,
    ) -> Result<Answer, Fault> {
        let refused = |why| Fault::Refused { url: without_secrets(url), why };
        check(url, self.allow_private).map_err(refused)?;
        let mut request = Request::builder().method(method).uri(url.as_str());
        request = request.header(ACCEPT, accept).header(USER_AGENT, AGENT);
        for (name, value) in headers {
            request = request.header(name.as_ref(), value);
        }
        let request = request.body(Full::new(body));
        let mut request = request.map_err(|error| Fault::Failed(error.to_string()))?;
        let too_many = count_interim(&mut request);
        let answer = tokio::select! {
            biased;
            // Dropping the request closes its connection.
            () = too_many.notified() => return Err(Fault::Interim),
            answer = self.client.request(request) => answer,
        };
        answer.map(Answer).map_err(|error| match refused_address(&error) {
            Some(why) => refused(why.0.clone()),
            None if error.is_connect() => Fault::Connect(with_causes(&error)),
            None => Fault::Failed(with_causes(&error)),
        })
    }
}

impl Answer {
    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.0.status()
    }

    /// Its headers.
    pub fn headers(&self) -> &HeaderMap {
        self.0.headers()
    }

    /// The next part of the body; `None` at its end.
    ///
    /// # Errors
    ///
    /// If the connection fails.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Fault> {
        while let Some(frame) = self.0.body_mut().frame().await {
            let frame = frame.map_err(|error| Fault::Failed(with_causes(&error)))?;
            // Other frames are trailers.
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

/// Notifies when too many interim answers to this request came.
fn count_interim<B>(request: &mut Request<B>) -> Arc<Notify> {
    let too_many = Arc::new(Notify::new());
    let (notify, count) = (Arc::clone(&too_many), AtomicUsize::new(0));
    hyper::ext::on_informational(request, move |_| {
        if count.fetch_add(1, Relaxed) == INTERIM_MAX {
            notify.notify_one();
        }
    });
    too_many
}

/// Opens connections within [`CONNECT_TIMEOUT`].
#[derive(Debug, Clone)]
struct Connector(HttpsConnector<HttpConnector<CheckedResolver>>);

impl Service<Uri> for Connector {
    type Response = <HttpsConnector<HttpConnector<CheckedResolver>> as Service<Uri>>::Response;
    type Error = AnyError;
    type Future = BoxFuture<'static, Result<Self::Response, AnyError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), AnyError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connect = self.0.call(uri);
        let connect = async move {
            let late = |_| format!("no connection within {CONNECT_TIMEOUT:?}");
            tokio::time::timeout(CONNECT_TIMEOUT, connect).await.map_err(late)?
        };
        connect.boxed()
    }
}

/// Resolves names, and leaves out the addresses that are not allowed. The connection is opened to an
/// address that it returned, so a name that resolves to another address later changes nothing.
#[derive(Debug, Clone)]
struct CheckedResolver {
    allow_private: bool,
    system: GaiResolver,
}

/// A name has no address that is allowed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct RefusedAddress(String);

/// The refused address among the causes of an error.
fn refused_address<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a RefusedAddress> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(refused) = error.downcast_ref() {
            return Some(refused);
        }
        cause = error.source();
    }
    None
}

impl Service<Name> for CheckedResolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = AnyError;
    type Future = BoxFuture<'static, Result<Self::Response, AnyError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), AnyError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let allow_private = self.allow_private;
        let resolve = self.system.call(name);
        let resolve = async move { Ok(allowed(resolve.await?, allow_private)?.into_iter()) };
        resolve.boxed()
    }
}

/// The addresses that the hub may connect to.
fn allowed(
    addresses: impl Iterator<Item = SocketAddr>,
    allow_private: bool,
) -> Result<Vec<SocketAddr>, RefusedAddress> {
    let (mut allowed, mut refused) = (Vec::new(), None);
    for address in addresses {
        match refusal(address.ip(), allow_private) {
            None => allowed.push(address),
            Some(why) => refused = refused.or(Some(why)),
        }
    }
    match refused {
        Some(why) if allowed.is_empty() => Err(RefusedAddress(why)),
        _ => Ok(allowed),
    }
}
