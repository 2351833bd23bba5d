//! Webhooks: failing receivers, refused events, dead letters and restarts.

mod callbacks;
mod failing_log;
mod failures;
mod health;
mod kept;
mod paused;
mod queue;
mod several;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use presence_hub::clock::Clock;
use presence_hub::presence::{Timestamp, UserId};
use presence_hub::store::{
    Cursor, Dead, DeadSelection, HeldUser, LogEntry, MemoryStore, Outbox, Retention, Save, Store,
    WebhookName,
};
use presence_hub::webhook::{
    Filter, Format, HttpTransport, PostRequest, PostResult, ReceiverState, Settings, Transport,
    Webhook, Webhooks,
};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::crash::{fold, read_events};
use crate::receiver::{Act, Receiver};
use crate::support::{Server, WEBHOOK_SECRET, now_millis, until};

async fn start(settings: &[(&str, &str)]) -> (Receiver, Server) {
    let receiver = Receiver::start(|_| Act::Take(200)).await;
    let (url, secrets) = (receiver.url(), format!("[\"{WEBHOOK_SECRET}\"]"));
    let own = [("webhook.url", url.as_str()), ("webhook.secrets", &secrets)];
    let server = Server::start(&[&own, settings].concat());
    (receiver, server)
}

/// Waits until no event is pending.
async fn until_delivered(server: &Server) {
    until("the delivery", async || {
        let (_, state) = server.call("GET", "/v1/webhooks", None).await;
        state["backlog"]["events"] == 0 && state["delivery"]["waiting"] == 0
    })
    .await;
}

/// Logs a user in and out again.
async fn come_and_go(server: &Server, user: &str) {
    let (mut client, _) = server.login(user, "mac").await;
    client.ok(json!({ "type": "logout" })).await;
}

/// Asserts that the posted events, the log and the live statuses agree.
async fn assert_webhook_matches_log(server: &Server, receiver: &Receiver) {
    let from_log = fold("the log", &read_events(server).await);
    let from_posts = fold("the webhook", &receiver.taken());
    assert_eq!(from_log, from_posts);
    for (user, status) in from_log {
        let mut live = server.user(&user).await;
        live.as_object_mut().expect("a status").remove("terminals");
        assert_eq!(live, status);
    }
}

async fn assert_nothing_missed(act: Act) {
    let (receiver, server) = start(&[("webhook.timeout", "300ms")]).await;
    come_and_go(&server, "before").await;
    until_delivered(&server).await;
    receiver.set(move |_| act);
    for n in 0..12 {
        come_and_go(&server, &format!("user-{}", n % 4)).await;
    }
    until("a failure", async || {
        let (_, state) = server.call("GET", "/v1/webhooks", None).await;
        state["delivery"]["failures"].as_array().is_some_and(|failures| failures.len() >= 2)
    })
    .await;
    receiver.set(|_| Act::Take(200));
    come_and_go(&server, "user-0").await;
    until_delivered(&server).await;
    assert_webhook_matches_log(&server, &receiver).await;
    assert!(receiver.came().iter().all(|came| came.path == "/hook"), "no redirect is followed");
}

macro_rules! receivers {
    ($($name:ident: $act:expr)*) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            assert_nothing_missed($act).await;
        }
    )* };
}

receivers! {
    v5_receiver_that_hangs_misses_nothing: Act::Hang
    v5_receiver_that_is_too_slow_misses_nothing: Act::TakeLate
    v5_receiver_that_answers_500_misses_nothing: Act::Refuse(500)
    v5_receiver_that_takes_events_but_answers_503_misses_nothing: Act::Take(503)
    v5_receiver_that_resets_connections_misses_nothing: Act::Reset
    v5_receiver_that_redirects_misses_nothing: Act::Redirect
    v5_receiver_that_refuses_everything_misses_nothing: Act::Refuse(404)
    v5_receiver_that_sends_retry_after_misses_nothing: Act::LeaveAlone(429, "1")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v5_receiver_that_is_down_misses_nothing_across_a_restart() {
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/hook", gone.local_addr().expect("an address"));
    drop(gone);
    let secrets = format!("[\"{WEBHOOK_SECRET}\"]");
    let down = [("webhook.url", url.as_str()), ("webhook.secrets", &secrets)];
    let mut server = Server::start(&down);
    for n in 0..150 {
        come_and_go(&server, &format!("user-{}", n % 9)).await;
    }
    until("a receiver that counts as down", async || {
        let (_, state) = server.call("GET", "/v1/webhooks", None).await;
        state["delivery"]["state"] == "down"
    })
    .await;
    let (_, state) = server.call("GET", "/v1/webhooks", None).await;
    assert_eq!(state["backlog"]["events"], 300, "{state}");
    let (_, stats) = server.call("GET", "/v1/stats", None).await;
    assert_eq!(stats["outbox"]["depth"], 300, "{stats}");
    let receiver = Receiver::start(|_| Act::Take(204)).await;
    let url = receiver.url();
    server.restart(&[("webhook.url", url.as_str()), ("webhook.secrets", &secrets)]);
    until_delivered(&server).await;
    assert_webhook_matches_log(&server, &receiver).await;
    assert!(receiver.came().len() < 30, "events are posted in batches");
}

fn contains_user(body: &Value, user: &str) -> bool {
    body["events"].as_array().is_some_and(|events| events.iter().any(|event| event["user"] == user))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_event_delays_only_its_own_user_until_it_is_dead_and_can_be_put_back() {
    let (receiver, server) = start(&[("webhook.give_up_after", "2s")]).await;
    receiver.set(|body| {
        let is_login = |event: &Value| event["user"] == "poison" && event["cause"] == "login";
        let events = body["events"].as_array().expect("events");
        if events.iter().any(is_login) { Act::Refuse(422) } else { Act::Take(200) }
    });
    come_and_go(&server, "poison").await;
    for n in 0..40 {
        come_and_go(&server, &format!("user-{}", n % 8)).await;
    }
    until("the others", async || {
        let taken = receiver.taken();
        (0..8).all(|n| {
            let user = format!("user-{n}");
            taken.iter().filter(|event| event["user"] == *user).count() >= 10
        })
    })
    .await;
    assert!(!receiver.taken().iter().any(|event| event["user"] == "poison"), "kept in order");

    // While others are accepted, the event is given up after its time; later events continue.
    let mut others = 0;
    until("the end of the poison", async || {
        others += 1;
        come_and_go(&server, &format!("other-{}", others % 10)).await;
        sleep(Duration::from_millis(100)).await;
        receiver.taken().iter().any(|event| event["user"] == "poison")
    })
    .await;
    let poison: Vec<_> =
        receiver.taken().into_iter().filter(|event| event["user"] == "poison").collect();
    assert!(poison.iter().all(|event| event["cause"] == "logout"), "{poison:?}");
    let (status, dead) = server.call("GET", "/v1/webhooks/dead", None).await;
    assert_eq!(status, 200, "{dead}");
    let letter = &dead["dead"][0];
    assert_eq!(
        (&letter["event"]["user"], &letter["event"]["cause"]),
        (&json!("poison"), &json!("login"))
    );
    assert!(letter["last_error"].as_str().is_some_and(|error| error.contains("422")), "{letter}");
    assert!(letter["attempts"].as_u64() >= Some(2) && letter["at"].is_u64(), "{letter}");

    let (_, count) =
        server.call("POST", "/v1/webhooks/dead/retry", Some(json!({ "ids": ["1"] }))).await;
    assert_eq!(count, json!({ "count": 0 }));
    receiver.set(|_| Act::Take(200));
    let ids = json!({ "ids": [letter["id"]] });
    let (_, count) = server.call("POST", "/v1/webhooks/dead/retry", Some(ids)).await;
    assert_eq!(count, json!({ "count": 1 }));
    until("the revival", async || {
        let taken = receiver.taken();
        taken.iter().any(|event| event["user"] == "poison" && event["cause"] == "login")
    })
    .await;
    until("an end of it", async || {
        let (_, dead) = server.call("GET", "/v1/webhooks/dead", None).await;
        dead["dead"] == json!([])
    })
    .await;
    let (_, count) =
        server.call("POST", "/v1/webhooks/dead/drop", Some(json!({ "all": true }))).await;
    assert_eq!(count, json!({ "count": 0 }));
    for wrong in [json!({}), json!({ "ids": [], "all": true }), json!({ "id": ["1"] })] {
        let (status, _) = server.call("POST", "/v1/webhooks/dead/drop", Some(wrong)).await;
        assert_eq!(status, 400);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retry_after_is_respected_by_each_user_alone() {
    let (receiver, server) = start(&[]).await;
    receiver.set(|body| match (contains_user(body, "ana"), contains_user(body, "bo")) {
        (true, _) => Act::LeaveAlone(429, "99999999999999999999"),
        (_, true) => Act::LeaveAlone(422, "2"),
        _ => Act::Take(200),
    });
    let came = |user: &str| {
        let came = receiver.came().into_iter();
        let bodies = came.map(|came| serde_json::from_str(&came.body).expect("JSON"));
        bodies.filter(|body| contains_user(body, user)).count()
    };
    let (_ana, _) = server.login("ana", "mac").await;
    until("an attempt", async || came("ana") == 1).await;
    let begin = now_millis();
    let (_bo, _) = server.login("bo", "mac").await;
    until("a second attempt", async || came("bo") == 2).await;
    assert!(now_millis() - begin >= 2000, "the requested pause is respected");
    assert_eq!(came("ana"), 1);
    assert_eq!(came("bo"), 2);
}

/// The pause that the hub reads from a `Retry-After` at the beginning of 2026.
async fn asked_pause(receiver: &Receiver, retry_after: &'static str) -> Option<Duration> {
    let begin_of_2026 = Timestamp::from_millis(1_767_225_600_000);
    receiver.set(move |_| Act::LeaveAlone(503, retry_after));
    let url = receiver.url().parse().expect("a URL");
    let request = PostRequest { url, headers: Vec::new(), body: "{}".into(), wants_json: false };
    match transport().post(request, Duration::from_secs(20), begin_of_2026).await {
        PostResult::Failed { error, retry_after, .. } => {
            assert!(error.starts_with("status 503"), "{error}");
            retry_after
        }
        other @ (PostResult::Accepted | PostResult::Refused { .. }) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn retry_after_is_respected_for_an_hour_at_most() {
    let receiver = Receiver::start(|_| Act::Take(200)).await;
    let rows = [
        ("3599", Some(3599)),
        ("3601", Some(3600)),
        ("86400", Some(3600)),
        ("99999999999999999999", Some(3600)),
        ("Thu, 01 Jan 2026 00:30:00 GMT", Some(1800)),
        ("Fri, 01 Jan 2027 00:00:00 GMT", Some(3600)),
        ("Wed, 31 Dec 2025 00:00:00 GMT", Some(0)),
        ("tomorrow", None),
    ];
    for (retry_after, secs) in rows {
        let pause = asked_pause(&receiver, retry_after).await;
        assert_eq!(pause, secs.map(Duration::from_secs), "{retry_after}");
    }
}

#[tokio::test]
async fn pending_events_are_shown_before_anything_is_posted() {
    let clock = Clock::system();
    let retention = Retention { log_ttl: Duration::from_secs(60), backlog_bytes_max: 1 << 20 };
    let store = Arc::new(MemoryStore::new(retention, clock.wall()));
    let held = HeldUser {
        user: "ana".parse().expect("a user"),
        from: Cursor(3),
        refused: clock.now(),
        worked_ms: 0,
        attempts: 1,
        last_error: "no".into(),
    };
    let save = Save { position: Cursor(5), held: vec![held], ..Save::default() };
    store.save(save).await.expect("to save");
    let port: Arc<dyn Store> = Arc::<MemoryStore>::clone(&store);
    let url = "http://127.0.0.1:1/hook".parse().expect("a URL");
    let webhook = webhook_of(port, store, transport(), clock, settings(url));
    webhook.begin().await.expect("to begin");
    let shown = webhook.shown();
    assert_eq!(
        (shown.state, shown.scanned, shown.kept_after),
        (ReceiverState::Up, Cursor(5), Cursor(2))
    );
    assert_eq!((shown.held, shown.pending), (1, 0), "the log has nothing of ana's");
}

fn transport() -> Arc<HttpTransport> {
    Arc::new(HttpTransport::new(true).expect("a client"))
}

/// The webhook without a name, alone.
fn webhook_of(
    log: Arc<dyn Store>,
    outbox: Arc<dyn Outbox>,
    transport: Arc<dyn Transport>,
    clock: Clock,
    settings: Settings,
) -> Arc<Webhook> {
    let webhooks = Webhooks::new(log, outbox, transport, clock);
    webhooks.set_settings([(WebhookName::UNNAMED, settings)].into());
    webhooks.get(&WebhookName::UNNAMED).expect("it is always there")
}

fn settings(url: reqwest::Url) -> Settings {
    Settings {
        url,
        format: Format::Native(Vec::new()),
        filter: Filter::default(),
        timeout: Duration::from_secs(5),
        give_up_after: Duration::from_secs(60),
        parallel: 8,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_put_back_letter_is_posted_once() {
    const LETTERS: u64 = 2500;
    let clock = Clock::system();
    let retention = Retention { log_ttl: Duration::from_secs(60), backlog_bytes_max: 1 << 20 };
    let store = Arc::new(MemoryStore::new(retention, clock.wall()));
    let dead = (1..=LETTERS).map(|n| {
        let user: UserId = format!("user-{}", n % 50).parse().expect("a user");
        let event = Ok(format!("{{\"user\":\"{user}\",\"n\":{n}}}").into());
        let entry = LogEntry { cursor: Cursor(n), user, event };
        Dead { entry, at: clock.now(), attempts: 1, last_error: "no".into() }
    });
    let save = Save { dead: dead.collect(), ..Save::default() };
    store.save(save).await.expect("to save");
    store.put_back(&WebhookName::UNNAMED, DeadSelection::All).await.expect("to put back");

    let receiver = Receiver::start(|_| Act::Take(200)).await;
    let settings = settings(receiver.url().parse().expect("a URL"));
    let outbox: Arc<dyn Outbox> = Arc::<MemoryStore>::clone(&store);
    let port: Arc<dyn Store> = Arc::<MemoryStore>::clone(&store);
    let webhook = webhook_of(port, outbox, transport(), clock, settings);
    let running = tokio::spawn(Arc::clone(&webhook).run());
    until("all letters", async || receiver.taken().len() as u64 >= LETTERS).await;
    until("an end of them", async || {
        store.dead(&WebhookName::UNNAMED, None, true, 1).await.expect("an answer").is_empty()
    })
    .await;
    webhook.stop();
    running.await.expect("to stop");
    let mut last = BTreeMap::new();
    for event in receiver.taken() {
        let (user, n) = (event["user"].to_string(), event["n"].as_u64());
        assert!(last.insert(user, n) < Some(n), "each once, in the user's order");
    }
    assert_eq!(receiver.taken().len() as u64, LETTERS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_batch_is_retried_as_the_same_request() {
    let (receiver, server) = start(&[]).await;
    receiver.set(|_| Act::Refuse(500));
    come_and_go(&server, "ana").await;
    until("three attempts", async || receiver.came().len() >= 3).await;
    let mut requests: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for came in receiver.came() {
        let header = |name: &str| came.headers[name].to_str().expect("a text").to_owned();
        let id = header("webhook-id");
        requests.entry(id).or_default().push((came.body.clone(), header("webhook-signature")));
    }
    assert!(requests.values().any(|same| same.len() >= 2), "{requests:?}");
    for same in requests.values() {
        assert!(same.iter().all(|(body, _)| *body == same[0].0));
        assert!(same.iter().all(|(_, signature)| signature.starts_with("v1,")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_request_has_no_event_and_returns_the_result() {
    let (receiver, server) = start(&[]).await;
    let (status, body) = server.call("POST", "/v1/webhooks/test", None).await;
    assert_eq!((status, body), (200, json!({ "accepted": true, "error": null })));
    assert!(receiver.taken().is_empty());
    receiver.set(|_| Act::Refuse(410));
    let (_, body) = server.call("POST", "/v1/webhooks/test", None).await;
    assert_eq!(body["accepted"], false);
    assert!(body["error"].as_str().is_some_and(|error| error.contains("410")), "{body}");
    assert!(!contains_user(&json!({ "events": receiver.taken() }), "ana"));

    let off = Server::start(&[]);
    assert_eq!(off.call("POST", "/v1/webhooks/test", None).await.0, 409);
    let (_, state) = off.call("GET", "/v1/webhooks", None).await;
    assert_eq!((&state["url"], &state["delivery"]["state"]), (&Value::Null, &json!("off")));
}
