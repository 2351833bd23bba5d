//! Receivers that fail for minutes, with paused time and without a network.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use parking_lot::Mutex;
use presence_hub::clock::Clock;
use presence_hub::presence::{Platform, Timestamp};
use presence_hub::store::{Log, MemoryStore, Outbox, Store, WebhookName};
use presence_hub::webhook::{
    Blame, PostRequest, PostResult, ReceiverState, Settings, Transport, Webhook, Webhooks,
};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::failing_log::FailingLog;
use super::settings;
use crate::lab::{EPOCH, SECOND};
use crate::store_contract::{RETENTION, log_in};

/// The duration of each request.
const LATENCY: Duration = Duration::from_millis(10);

type Decide = dyn Fn(&BTreeSet<String>) -> PostResult + Send + Sync;

/// A receiver that decides by the users in a request.
struct Scripted {
    decide: Mutex<Arc<Decide>>,
    posts: Mutex<Vec<Post>>,
}

/// A request that arrived.
#[derive(Debug, Clone)]
struct Post {
    users: BTreeSet<String>,
    accepted: bool,
}

impl Transport for Scripted {
    fn post(
        &self,
        request: PostRequest,
        _: Duration,
        _: Timestamp,
    ) -> BoxFuture<'static, PostResult> {
        let body: Value = serde_json::from_str(&request.body).expect("JSON");
        let events = body["events"].as_array().expect("events").iter();
        let users = events.map(|event| event["user"].as_str().expect("a user").to_owned());
        let users: BTreeSet<_> = users.collect();
        let decide = Arc::clone(&self.decide.lock());
        let outcome = decide(&users);
        self.posts.lock().push(Post { users, accepted: outcome == PostResult::Accepted });
        sleep(LATENCY).map(|()| outcome).boxed()
    }
}

fn failed() -> PostResult {
    let error = "status 500 Internal Server Error".into();
    PostResult::Failed { error, retry_after: None, blame: Blame::Unclear }
}

fn refused() -> PostResult {
    PostResult::Refused { error: "status 422 Unprocessable Entity".into(), retry_after: None }
}

/// A webhook with a store in memory and its receiver.
struct Bench {
    clock: Clock,
    store: Arc<MemoryStore>,
    port: Arc<dyn Store>,
    log: Arc<FailingLog>,
    receiver: Arc<Scripted>,
    webhooks: Webhooks,
    running: JoinHandle<()>,
    give_up_after: Duration,
}

impl Bench {
    fn start(
        give_up_after: Duration,
        decide: impl Fn(&BTreeSet<String>) -> PostResult + Send + Sync + 'static,
    ) -> Self {
        let decide: Arc<Decide> = Arc::new(decide);
        let receiver = Scripted { decide: Mutex::new(decide), posts: Mutex::default() };
        let (clock, receiver) = (Clock::simulated(EPOCH), Arc::new(receiver));
        let store = Arc::new(MemoryStore::new(RETENTION, EPOCH));
        let port: Arc<dyn Store> = Arc::<MemoryStore>::clone(&store);
        let log = FailingLog::new(Arc::clone(&store));
        let (webhooks, running) = run((&log, &store), &receiver, &clock, give_up_after);
        Self { clock, store, port, log, receiver, webhooks, running, give_up_after }
    }

    fn set(&self, decide: impl Fn(&BTreeSet<String>) -> PostResult + Send + Sync + 'static) {
        *self.receiver.decide.lock() = Arc::new(decide);
    }

    /// Stops the webhook and starts it again with the same store.
    async fn restart(&mut self) {
        self.webhook().stop();
        (&mut self.running).await.expect("to stop");
        let store = (&self.log, &self.store);
        let again = run(store, &self.receiver, &self.clock, self.give_up_after);
        (self.webhooks, self.running) = again;
    }

    async fn log_in(&self, user: &str) {
        let count = self.posts().len();
        log_in(&self.port, user, Platform::ALL[count % 8], self.clock.now()).await;
    }

    fn posts(&self) -> Vec<Post> {
        self.receiver.posts.lock().clone()
    }

    fn posts_about(&self, user: &str) -> usize {
        self.posts().iter().filter(|post| post.users.contains(user)).count()
    }

    fn accepted(&self) -> BTreeSet<String> {
        let accepted = self.posts().into_iter().filter(|post| post.accepted);
        accepted.flat_map(|post| post.users).collect()
    }

    fn webhook(&self) -> Arc<Webhook> {
        webhook_of(&self.webhooks)
    }

    async fn dead(&self) -> u64 {
        self.store.dead_waiting(&WebhookName::UNNAMED).await.expect("a count")
    }
}

fn webhook_of(webhooks: &Webhooks) -> Arc<Webhook> {
    webhooks.get(&WebhookName::UNNAMED).expect("it is always there")
}

fn run(
    (log, store): (&Arc<FailingLog>, &Arc<MemoryStore>),
    receiver: &Arc<Scripted>,
    clock: &Clock,
    give_up_after: Duration,
) -> (Webhooks, JoinHandle<()>) {
    let log: Arc<dyn Log> = Arc::<FailingLog>::clone(log);
    let outbox: Arc<dyn Outbox> = Arc::<MemoryStore>::clone(store);
    let transport: Arc<dyn Transport> = Arc::<Scripted>::clone(receiver);
    let url = "http://127.0.0.1:1/hook".parse().expect("a URL");
    let settings = Settings { give_up_after, ..settings(url) };
    let webhooks = Webhooks::new(log, outbox, transport, clock.clone());
    webhooks.set_settings([(WebhookName::UNNAMED, settings)].into());
    let running = tokio::spawn(webhook_of(&webhooks).run());
    (webhooks, running)
}

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test(start_paused = true)]
async fn failing_users_are_held_alone_without_other_traffic() {
    let is_poison = |user: &String| user.starts_with("poison");
    let bench = Bench::start(DAY, move |users| {
        if users.iter().any(is_poison) { failed() } else { PostResult::Accepted }
    });
    sleep(SECOND).await;
    for n in 0..40 {
        bench.log_in(&format!("user-{n}")).await;
        if n % 10 == 0 {
            bench.log_in(&format!("poison-{n}")).await;
        }
    }
    // There are no other users, so the receiver could also be down.
    sleep(5 * SECOND).await;
    assert_eq!(bench.accepted().len(), 40, "{:?}", bench.posts());
    let alone = bench.posts().iter().filter(|post| post.users.len() == 1).count();
    assert!(alone < 120, "{alone} requests for one user each");
    let before = bench.posts_about("poison-0");
    sleep(600 * SECOND).await;
    assert!(bench.posts_about("poison-0") > before, "it is tried again");
    assert_eq!(bench.dead().await, 0);
    bench.log_in("late").await;
    sleep(6 * SECOND).await;
    assert!(bench.accepted().contains("late"));
    bench.set(|_| PostResult::Accepted);
    sleep(600 * SECOND).await;
    assert_eq!(bench.accepted().len(), 45);
}

#[tokio::test(start_paused = true)]
async fn receiver_that_is_down_does_not_get_a_request_per_user() {
    let bench = Bench::start(DAY, |_| failed());
    sleep(SECOND).await;
    for n in 0..1000 {
        bench.log_in(&format!("user-{n}")).await;
    }
    sleep(3600 * SECOND).await;
    let (state, while_down) = (bench.webhook().shown().state, bench.posts().len());
    assert_eq!(state, ReceiverState::Down);
    assert!(while_down < 3000, "{while_down} requests in an hour");
    bench.set(|_| PostResult::Accepted);
    // The next attempt may be five minutes away; all others follow it at once.
    sleep(301 * SECOND).await;
    assert_eq!(bench.accepted().len(), 1000);
    let to_recover = bench.posts().len() - while_down;
    assert!(to_recover < 50, "{to_recover} requests");
}

#[tokio::test(start_paused = true)]
async fn downtime_does_not_count_towards_giving_up() {
    let bench = Bench::start(60 * SECOND, |_| failed());
    sleep(SECOND).await;
    bench.log_in("poison").await;
    sleep(240 * SECOND).await;
    bench.set(|users| if users.contains("poison") { refused() } else { PostResult::Accepted });
    // The receiver works again and accepts an event every second.
    let back = bench.clock.now();
    while bench.dead().await == 0 {
        assert!(bench.clock.now() - back < 600 * SECOND, "it is given up in the end");
        bench.log_in("other").await;
        sleep(SECOND).await;
    }
    let given_up_after = bench.clock.now() - back;
    assert!(given_up_after >= 50 * SECOND, "{given_up_after:?}");
    assert!(bench.posts_about("poison") > 5);
}

#[tokio::test(start_paused = true)]
async fn give_up_timer_continues_after_a_restart() {
    let mut bench = Bench::start(600 * SECOND, |users| {
        if users.contains("poison") { refused() } else { PostResult::Accepted }
    });
    sleep(SECOND).await;
    bench.log_in("poison").await;
    let begin = bench.clock.now();
    let mut restarts = 0;
    while bench.dead().await == 0 {
        let since = bench.clock.now() - begin;
        assert!(since < 1500 * SECOND, "it is given up in the end");
        bench.log_in("other").await;
        sleep(SECOND).await;
        if since > (restarts + 1) * 200 * SECOND {
            restarts += 1;
            bench.restart().await;
        }
    }
    assert!(restarts >= 2 && bench.clock.now() - begin >= 600 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn panicking_request_is_retried_and_delays_only_its_own_user() {
    let bench = Bench::start(DAY, |users| {
        assert!(!users.contains("poison"), "no request about poison");
        PostResult::Accepted
    });
    sleep(SECOND).await;
    for n in 0..20 {
        bench.log_in(&format!("user-{n}")).await;
    }
    bench.log_in("poison").await;
    sleep(5 * SECOND).await;
    assert_eq!(bench.accepted().len(), 20);
    let shown = bench.webhook().shown();
    assert_eq!((shown.held, shown.pending), (1, 1));
    let last = shown.failures.last().expect("a failure");
    assert!(last.error.contains("no request about poison"), "{last:?}");
    let metrics = bench.webhooks.metrics().render();
    assert!(metrics.contains("presence_hub_webhook_requests_total{result=\"panicked\"}"));
    bench.set(|_| PostResult::Accepted);
    sleep(600 * SECOND).await;
    assert!(bench.accepted().contains("poison"));
}

#[tokio::test(start_paused = true)]
async fn receiver_that_fails_sometimes_does_not_count_as_down() {
    let bench = Bench::start(DAY, |users| {
        if users.iter().any(|user| user.starts_with("bad")) {
            failed()
        } else {
            PostResult::Accepted
        }
    });
    sleep(SECOND).await;
    for n in 0..200 {
        bench.log_in(&format!("bad-{}", n % 20)).await;
        bench.log_in(&format!("user-{n}")).await;
        sleep(SECOND / 10).await;
        assert_ne!(bench.webhook().shown().state, ReceiverState::Down);
    }
}

#[tokio::test(start_paused = true)]
async fn event_is_posted_after_a_read_that_failed_although_no_other_event_follows() {
    let bench = Bench::start(DAY, |_| PostResult::Accepted);
    sleep(SECOND).await;
    bench.log.fail(3);
    bench.log_in("ana").await;
    sleep(SECOND * 5 / 2).await;
    assert_eq!((bench.log.failures_left(), bench.posts().len()), (0, 0), "a read each second");
    sleep(SECOND).await;
    assert!(bench.accepted().contains("ana"));
}
