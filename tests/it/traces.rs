//! Traces: which spans a receiver gets, what they say, and that a broken receiver delays nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use prost::Message;
use rustix::process::Signal;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::receiver::{Act, Receiver};
use crate::support::{API_KEY, Server, WEBHOOK_SECRET, until};

/// A caller's context, which says that it records its trace, and the same that says that it does not.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";
const RECORDED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const NOT_RECORDED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

/// The kinds of spans in OTLP.
const INTERNAL: i32 = 1;
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
/// The status of a span that has failed.
const FAILED: i32 = 2;

/// What the receiver of spans does with a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Take {
    All,
    /// Answers with this status.
    Refuse(u16),
    /// Never answers.
    Hang,
}

/// A receiver of spans.
#[derive(Clone)]
struct Collector {
    address: SocketAddr,
    take: Arc<Mutex<Take>>,
    posts: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
}

impl Collector {
    async fn start(take: Take) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let collector = Self { address, take: Arc::new(Mutex::new(take)), posts: Arc::default() };
        let router = Router::new().route("/v1/traces", post(collect)).with_state(collector.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = TowerToHyperService::new(router.clone());
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        collector
    }

    /// Starts a hub that posts its spans here.
    fn hub(&self, settings: &[(&str, &str)]) -> Server {
        let endpoint = format!("http://{}/v1/traces", self.address);
        Server::start(&[&[("traces.endpoint", endpoint.as_str())], settings].concat())
    }

    fn requests(&self) -> Vec<ExportTraceServiceRequest> {
        let posts = self.posts.lock();
        let bodies = posts.iter().map(|(_, body)| body.clone());
        bodies.map(|body| ExportTraceServiceRequest::decode(body).expect("OTLP")).collect()
    }

    fn spans(&self) -> Vec<Span> {
        let requests = self.requests().into_iter();
        let scopes = requests.flat_map(|it| it.resource_spans).flat_map(|it| it.scope_spans);
        scopes.flat_map(|it| it.spans).collect()
    }

    /// Waits for a span with this name.
    async fn span(&self, name: &str) -> Span {
        let named = || self.spans().into_iter().find(|span| span.name == name);
        until(&format!("a span {name}"), async || named().is_some()).await;
        named().expect("a span")
    }
}

async fn collect(
    State(collector): State<Collector>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    collector.posts.lock().push((headers, body));
    let take = *collector.take.lock();
    match take {
        Take::All => StatusCode::OK,
        Take::Refuse(status) => StatusCode::from_u16(status).expect("a status"),
        Take::Hang => std::future::pending().await,
    }
}

fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Any> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    found.value.as_ref().and_then(|AnyValue { value }| value.as_ref())
}

fn text<'a>(span: &'a Span, key: &str) -> &'a str {
    match attribute(&span.attributes, key) {
        Some(Any::StringValue(text)) => text,
        other => panic!("{key} is {other:?} in {span:?}"),
    }
}

fn number(span: &Span, key: &str) -> i64 {
    match attribute(&span.attributes, key) {
        Some(Any::IntValue(number)) => *number,
        other => panic!("{key} is {other:?} in {span:?}"),
    }
}

fn hex(id: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(id)
}

/// A counter of spans in `/metrics`.
async fn counted(server: &Server, result: &str) -> u64 {
    let (_, metrics) = server.call("GET", "/metrics", None).await;
    let metrics = metrics.as_str().expect("a text");
    let sample = format!("presence_hub_trace_spans_total{{result=\"{result}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&sample));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {sample}"))
}

async fn kick(server: &Server, user: &str, traceparent: &str) -> StatusCode {
    let kick = server.http("POST", &format!("/v1/users/{user}/kick")).bearer_auth(API_KEY);
    let kick = kick.header("traceparent", traceparent).json(&json!({ "platform": "web" }));
    kick.send().await.expect("an answer").status()
}

#[tokio::test]
async fn an_api_kick_is_a_span_below_its_call_and_the_call_below_its_caller() {
    let collector = Collector::start(Take::All).await;
    let headers = "[\"authorization: Bearer tell-nobody\", \"x-tenant: presence\"]";
    // Traces begun here are not recorded, so all that arrives follows the caller.
    let server = collector.hub(&[
        ("traces.sample", "0"),
        ("traces.headers", headers),
        ("traces.service_name", "presence-of-tests"),
    ]);
    let (mut page, _) = server.login("secret-name", "web").await;
    assert_eq!(kick(&server, "secret-name", NOT_RECORDED).await, 200);
    page.until_closed().await;
    let (mut page, _) = server.login("secret-name", "web").await;
    assert_eq!(kick(&server, "secret-name", RECORDED).await, 200);
    page.until_closed().await;

    let call = collector.span("POST /v1/users/{user}/kick").await;
    assert_eq!((hex(&call.trace_id), hex(&call.parent_span_id)), (TRACE.into(), PARENT.into()));
    assert_eq!(call.kind, SERVER);
    assert_eq!(text(&call, "http.request.method"), "POST");
    assert_eq!(text(&call, "http.route"), "/v1/users/{user}/kick");
    assert_eq!(number(&call, "http.response.status_code"), 200);
    let kick = collector.span("presence.kick").await;
    assert_eq!((&kick.trace_id, &kick.parent_span_id), (&call.trace_id, &call.span_id));
    assert_eq!((kick.kind, text(&kick, "presence.kick.reason")), (INTERNAL, "admin"));
    assert_eq!(number(&kick, "presence.kick.count"), 1);
    assert!(kick.start_time_unix_nano >= call.start_time_unix_nano);
    assert!(kick.end_time_unix_nano <= call.end_time_unix_nano);

    let requests = collector.requests();
    let resource = requests[0].resource_spans[0].resource.clone().expect("a resource");
    let of = |key| attribute(&resource.attributes, key).cloned();
    assert_eq!(of("service.name"), Some(Any::StringValue("presence-of-tests".into())));
    let version = env!("CARGO_PKG_VERSION").to_owned();
    assert_eq!(of("service.version"), Some(Any::StringValue(version)));
    let (headers, body) = collector.posts.lock()[0].clone();
    assert_eq!(headers["authorization"], "Bearer tell-nobody");
    assert_eq!(headers["x-tenant"], "presence");
    assert_eq!(headers["content-type"], "application/x-protobuf");
    assert!(!String::from_utf8_lossy(&body).contains("secret-name"), "no user ids in spans");
    // The login, the first call and its kick were not recorded.
    assert_eq!(collector.spans().len(), 2, "{:?}", collector.spans());
    until("the count", async || counted(&server, "exported").await == 2).await;
}

#[tokio::test]
async fn logins_are_spans_with_their_outcome_and_their_kicks() {
    let collector = Collector::start(Take::All).await;
    let server = collector.hub(&[("traces.sample", "1")]);
    let logins = || collector.spans().into_iter().filter(|span| span.name == "presence.login");
    let (mut phone, _) = server.login("ann", "android").await;
    let first = collector.span("presence.login").await;
    assert_eq!((first.kind, first.parent_span_id.len()), (SERVER, 0));
    assert_eq!(text(&first, "presence.login.outcome"), "admitted");
    assert_eq!(text(&first, "presence.platform"), "android");
    assert_eq!(
        attribute(&first.attributes, "presence.login.resumed"),
        Some(&Any::BoolValue(false))
    );
    assert!(first.end_time_unix_nano > first.start_time_unix_nano);

    let (_page, _) = server.login("ann", "web").await;
    phone.until_closed().await;
    let kick = collector.span("presence.kick").await;
    until("the second login", async || logins().count() == 2).await;
    let second = logins().find(|span| span.span_id == kick.parent_span_id).expect("its login");
    assert_eq!(text(&second, "presence.platform"), "web");
    assert_eq!(text(&kick, "presence.kick.reason"), "login_elsewhere");
    assert_eq!(number(&kick, "presence.kick.count"), 1);
    assert_ne!(second.trace_id, first.trace_id);

    let mut visitor = server.connect().await;
    let login = json!({ "type": "login", "token": "wrong", "platform": "mac", "device": "m" });
    assert_eq!(visitor.error(login).await, "invalid_token");
    until("the third login", async || logins().count() == 3).await;
    let refused = logins().find(|span| text(span, "presence.platform") == "mac").expect("it");
    assert_eq!(text(&refused, "presence.login.outcome"), "invalid_token");
    assert!(refused.status.is_none_or(|status| status.code != FAILED), "the hub did not fail");
}

async fn with_webhook(settings: &[(&str, &str)], collector: &Collector) -> (Receiver, Server) {
    let receiver = Receiver::start(|_| Act::Take(200)).await;
    let (url, secrets) = (receiver.url(), format!("[\"{WEBHOOK_SECRET}\"]"));
    let own = [("webhook.url", url.as_str()), ("webhook.secrets", &secrets)];
    let server = collector.hub(&[&own, settings].concat());
    (receiver, server)
}

/// The `traceparent` of the first webhook request.
async fn first_traceparent(receiver: &Receiver) -> Option<String> {
    until("a webhook request", async || !receiver.came().is_empty()).await;
    let first = receiver.came().remove(0);
    first.headers.get("traceparent").map(|value| value.to_str().expect("ASCII").to_owned())
}

#[tokio::test]
async fn a_webhook_request_carries_the_context_of_its_span() {
    let collector = Collector::start(Take::All).await;
    let (receiver, server) = with_webhook(&[("traces.sample", "1")], &collector).await;
    let (_client, _) = server.login("ann", "mac").await;
    let traceparent = first_traceparent(&receiver).await.expect("a traceparent");
    let post = collector.span("POST").await;
    let (trace, span) = (hex(&post.trace_id), hex(&post.span_id));
    assert_eq!(traceparent, format!("00-{trace}-{span}-01"));
    assert_eq!((post.kind, post.parent_span_id.len()), (CLIENT, 0));
    assert_eq!(text(&post, "http.request.method"), "POST");
    assert_eq!(text(&post, "url.full"), receiver.url());
    assert_eq!(text(&post, "server.address"), "127.0.0.1");
    assert_eq!(number(&post, "server.port"), i64::from(receiver.address.port()));
    assert_eq!(number(&post, "http.response.status_code"), 200);
    assert_eq!(number(&post, "presence.webhook.events"), 1);
    assert_eq!(text(&post, "presence.webhook.name"), "");

    // A test of the webhook is below the call that asked for it, and its failure is one of the span.
    receiver.set(|_| Act::Refuse(503));
    let (status, _) = server.call("POST", "/v1/webhooks/test", None).await;
    let call = collector.span("POST /v1/webhooks/test").await;
    let below = |span: &Span| span.parent_span_id == call.span_id;
    until("the test's span", async || collector.spans().iter().any(below)).await;
    let test = collector.spans().into_iter().find(below).expect("a span");
    assert_eq!(number(&test, "http.response.status_code"), 503);
    assert_eq!(text(&test, "error.type"), "503");
    assert_eq!(test.status.map(|status| status.code), Some(FAILED));
    assert_eq!(number(&call, "http.response.status_code"), i64::from(status));
}

#[tokio::test]
async fn without_a_recorded_trace_webhooks_say_so_and_without_an_endpoint_nothing() {
    let collector = Collector::start(Take::All).await;
    let (receiver, server) = with_webhook(&[("traces.sample", "0")], &collector).await;
    let (_client, _) = server.login("ann", "mac").await;
    let traceparent = first_traceparent(&receiver).await.expect("a traceparent");
    assert!(traceparent.ends_with("-00"), "{traceparent}");

    let off = [("traces.endpoint", ""), ("traces.sample", "1")];
    let (receiver, server) = with_webhook(&off, &collector).await;
    let (_client, _) = server.login("ann", "web").await;
    assert_eq!(first_traceparent(&receiver).await, None);
    assert_eq!(kick(&server, "ann", RECORDED).await, 200);
    // The hub flushes its spans before it exits, if it has any.
    let mut server = server;
    server.signal(Signal::TERM);
    server.until_exit().await;
    assert!(collector.posts.lock().is_empty());
}

#[tokio::test]
async fn a_stopping_hub_posts_its_last_spans() {
    let collector = Collector::start(Take::All).await;
    let mut server = collector.hub(&[("server.drain", "0s")]);
    assert_eq!(kick(&server, "ann", RECORDED).await, 200);
    server.signal(Signal::TERM);
    server.until_exit().await;
    assert_eq!(collector.spans().len(), 2, "{}", server.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_hangs_delays_nothing_and_a_full_queue_drops_spans() {
    let collector = Collector::start(Take::Hang).await;
    let mut server = collector.hub(&[("traces.sample", "1"), ("server.drain", "0s")]);
    let (_client, _) = server.login("first", "mac").await;
    until("a post", async || !collector.posts.lock().is_empty()).await;
    // More spans than the queue holds, while the post hangs.
    let calls = (0..8).map(|_| async {
        for _ in 0..200 {
            assert_eq!(kick(&server, "ann", RECORDED).await, 200);
        }
    });
    futures::future::join_all(calls).await;
    let logins = async {
        for n in 0..20 {
            server.login(&format!("user-{n}"), "mac").await;
        }
    };
    // The receiver has 10 s to answer, so logins that waited for it would take longer.
    timeout(Duration::from_secs(8), logins).await.expect("logins in time");
    assert!(counted(&server, "dropped").await > 0);
    // The last spans may take 2 s, and cannot be posted.
    server.signal(Signal::TERM);
    server.until_exit().await;
    server.until_logged(&["WARN", "the last spans of traces were not posted in time"]).await;
}

#[tokio::test]
async fn a_receiver_that_refuses_is_logged_once_and_its_return_too() {
    let collector = Collector::start(Take::Refuse(400)).await;
    let server = collector.hub(&[]);
    for failed in [2, 4, 6] {
        assert_eq!(kick(&server, "ann", RECORDED).await, 200);
        until("the failure", async || counted(&server, "failed").await == failed).await;
    }
    assert_eq!(collector.posts.lock().len(), 3, "400 is not retried");
    let warned = "traces cannot be posted to traces.endpoint";
    assert_eq!(server.log().matches(warned).count(), 1, "{}", server.log());
    server.until_logged(&["WARN", warned, "status 400"]).await;

    // 503 is retried with the same spans.
    *collector.take.lock() = Take::Refuse(503);
    assert_eq!(kick(&server, "ann", RECORDED).await, 200);
    until("a post", async || collector.posts.lock().len() == 4).await;
    *collector.take.lock() = Take::All;
    until("the spans", async || counted(&server, "exported").await == 2).await;
    let posts = collector.posts.lock().clone();
    assert_eq!((posts.len(), &posts[3].1), (5, &posts[4].1));
    assert_eq!(counted(&server, "failed").await, 6);
    server.until_logged(&["INFO", "traces are posted again"]).await;
    assert_eq!(server.log().matches(warned).count(), 1, "{}", server.log());
}
