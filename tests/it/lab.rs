//! A hub in the test process: actors over in-memory sockets, on real or paused time.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Once};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::SplitSink;
use futures::{SinkExt, StreamExt};
use parking_lot::Mutex;
use presence_hub::clock::Clock;
use presence_hub::config::{AtStart, Config, DEFAULT, Settings, StoreKind};
use presence_hub::figures::Figures;
use presence_hub::http::{self, AppState, Face, TencentApplication};
use presence_hub::hub::{Hub, WriteHalf, run_deadlines};
use presence_hub::presence::{Cause, Policy, Record, State, Status, Timestamp, Transition, UserId};
use presence_hub::session::Sessions;
use presence_hub::store::{Cursor, HistoryPart, MemoryStore, Retention, Store};
use presence_hub::webhook::{HttpTransport, Webhooks};
use serde_json::{Value, json};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::{DefaultGuard, set_default};
use tracing_subscriber::layer::SubscriberExt;

use crate::support::{Client, Heard, SECRET, token_with};

/// The start of simulated time.
pub(crate) const EPOCH: Timestamp = Timestamp::from_millis(1_780_000_000_000);
/// The default lifetime of a token.
pub(crate) const TOKEN_TTL: Duration = Duration::from_secs(30 * 24 * 3600);
/// The timeout for expected messages, in simulated time.
pub(crate) const HEAR_TIMEOUT: Duration = Duration::from_secs(1000);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// The longest time for something immediate in an idle hub.
pub(crate) const AT_ONCE: Duration = Duration::from_millis(50);

/// The buffer of an in-memory socket.
const SOCKET_BYTES: usize = 64 * 1024;
/// The queue of a listener, for messages that the test has not read.
const HEARD_MAX: usize = 64 * 1024;

/// One node of a hub.
pub(crate) struct Lab {
    pub(crate) hub: Arc<Hub>,
    pub(crate) clock: Clock,
    pub(crate) store: Arc<dyn Store>,
    sessions: Arc<Sessions>,
    config: Config,
    /// Gives signs of life, and applies deadlines.
    time: JoinHandle<()>,
}

/// The documented default configuration.
pub(crate) fn defaults() -> Config {
    toml::from_str(DEFAULT).expect("the default configuration")
}

/// The hub's settings for a configuration.
fn settings(config: &Config) -> Settings {
    let at_start = AtStart::new(config, config.server.max_connections);
    Settings::of(config, None, &at_start).expect("settings")
}

impl Lab {
    /// A hub with the documented defaults.
    pub(crate) fn new() -> Self {
        Self::with(|_| ())
    }

    /// A hub with some settings changed.
    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let store = Arc::new(memory_store());
        Self::node(store, change)
    }

    /// A node over a store.
    pub(crate) fn node(store: Arc<dyn Store>, change: impl FnOnce(&mut Config)) -> Self {
        Self::node_at(EPOCH, store, change)
    }

    /// A node over a store, by whose clocks it is `now`.
    pub(crate) fn node_at(
        now: Timestamp,
        store: Arc<dyn Store>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        Self::node_of(Hub::new, now, store, change)
    }

    /// The same, with ids from a seed.
    pub(crate) fn seeded_node(
        seed: u64,
        now: Timestamp,
        store: Arc<dyn Store>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let hub = |store, policy, clock| Hub::simulated(store, policy, clock, seed);
        Self::node_of(hub, now, store, change)
    }

    fn node_of(
        hub: impl FnOnce(Arc<dyn Store>, Policy, Clock) -> Arc<Hub>,
        now: Timestamp,
        store: Arc<dyn Store>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = defaults();
        config.auth.secret = SECRET.to_owned().into();
        config.store.kind = StoreKind::Memory;
        change(&mut config);
        let settings = settings(&config);
        let clock = Clock::simulated(now);
        let hub = hub(Arc::clone(&store), settings.policy, clock.clone());
        let time = tokio::spawn(run_deadlines(Arc::clone(&hub)));
        tokio::spawn(Arc::clone(&hub).listen());
        let sessions = Sessions::new(Arc::clone(&hub), settings.session);
        Self { sessions, config, hub, clock, store, time }
    }

    /// From now on the node gives no sign of life and applies no deadline, as if its process stood still.
    pub(crate) fn stand_still(&self) {
        self.time.abort();
    }

    /// Replaces the token secret, as a reload does.
    pub(crate) fn set_secret(&self, secret: &str) {
        let mut config = self.config.clone();
        config.auth.secret = secret.to_owned().into();
        self.sessions.set_settings(settings(&config).session);
    }

    /// Serves HTTP with the compatible API of a Tencent Cloud IM application.
    pub(crate) fn answer_http(&self, tencent: TencentApplication) -> SocketAddr {
        self.serve_http(|settings| settings.tencent = Some(tencent)).0
    }

    /// Serves HTTP on a free port, with some settings changed.
    pub(crate) fn serve_http(
        &self,
        change: impl FnOnce(&mut http::Settings),
    ) -> (SocketAddr, Arc<AppState>) {
        let mut settings = settings(&self.config).http;
        change(&mut settings);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = http::bind(any, None).expect("an address");
        let address = listener.address().expect("an address");
        let outbox = Arc::new(memory_store());
        let transport = Arc::new(HttpTransport::new(true).expect("a client"));
        let (store, clock) = (Arc::clone(&self.store), self.clock.clone());
        let days = Arc::new(memory_store());
        let figures = Figures::new(Arc::clone(&store), days, clock.clone());
        let webhooks = Arc::new(Webhooks::new(store, outbox, transport, clock));
        let sessions = Arc::clone(&self.sessions);
        let app = AppState::new(sessions, webhooks, figures, None, None, settings);
        tokio::spawn(http::record_stats(Arc::clone(&app)));
        let router = http::router(&app, Face::Whole);
        tokio::spawn(http::serve(Arc::new(listener), Arc::clone(&app), Face::Whole, router));
        (address, app)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A connection that has not logged in.
    pub(crate) async fn connect(&self) -> Client<DuplexStream> {
        self.connect_through(SOCKET_BYTES).await
    }

    /// A connection whose socket buffers that many bytes in each direction.
    pub(crate) async fn connect_through(&self, bytes: usize) -> Client<DuplexStream> {
        Self::over(self.connect_raw(bytes, None).0).await
    }

    /// A connection from an address.
    pub(crate) async fn connect_from(&self, address: IpAddr) -> Client<DuplexStream> {
        Self::over(self.connect_raw(SOCKET_BYTES, Some(address)).0).await
    }

    /// A client on the bytes of an upgraded connection.
    pub(crate) async fn over(near: DuplexStream) -> Client<DuplexStream> {
        let socket = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        Client::over(socket, HEAR_TIMEOUT)
    }

    /// The bytes of an upgraded connection, and the task that serves it.
    pub(crate) fn connect_raw(
        &self,
        bytes: usize,
        address: Option<IpAddr>,
    ) -> (DuplexStream, JoinHandle<()>) {
        let (near, far) = tokio::io::duplex(bytes);
        let (reader, writer) = tokio::io::split(far);
        let sessions = Arc::clone(&self.sessions);
        let writer = WriteHalf::Other(Box::new(writer));
        (near, tokio::spawn(sessions.serve(reader, writer, Bytes::new(), address, ())))
    }

    /// A token for a user with a lifetime.
    pub(crate) fn token(&self, user: &str, ttl: Duration) -> String {
        let wall = self.clock.wall();
        let expires = wall + ttl;
        token_with(json!({ "sub": user, "iat": wall.as_secs(), "exp": expires.as_secs() }))
    }

    /// A login message, with the platform's name as the device.
    pub(crate) fn hello(&self, user: &str, platform: &str) -> Value {
        let token = self.token(user, TOKEN_TTL);
        json!({ "type": "login", "token": token, "platform": platform, "device": platform })
    }

    /// A logged-in client that acts only when told to.
    pub(crate) async fn login(&self, user: &str, platform: &str) -> (Client<DuplexStream>, Value) {
        let mut client = self.connect().await;
        let ok = client.ok(self.hello(user, platform)).await;
        (client, ok)
    }

    /// A client that resumes the session of `ok`.
    pub(crate) async fn resume(
        &self,
        user: &str,
        platform: &str,
        ok: &Value,
    ) -> (Client<DuplexStream>, Value) {
        let mut client = self.connect().await;
        let mut hello = self.hello(user, platform);
        hello["resume"] = ok["session"].clone();
        let ok = client.ok(hello).await;
        (client, ok)
    }

    /// A logged-in client that reads all the time.
    pub(crate) async fn listener(&self, user: &str, platform: &str) -> Listener {
        self.listen(self.login(user, platform).await.0)
    }

    /// Makes a client read all the time.
    pub(crate) fn listen(&self, client: Client<DuplexStream>) -> Listener {
        Listener::new(client, self.clock.clone())
    }

    /// A listener that watches users.
    pub(crate) async fn watcher(&self, users: &[&str]) -> Listener {
        self.watcher_named("watcher", users).await
    }

    /// A listener with this name that watches users.
    pub(crate) async fn watcher_named(&self, name: &str, users: &[&str]) -> Listener {
        let (mut client, _) = self.login(name, "linux").await;
        client.ok(json!({ "type": "subscribe", "users": users })).await;
        self.listen(client)
    }

    pub(crate) async fn record(&self, user: &str) -> Arc<Record> {
        self.store.load(&id(user)).await.expect("the store").record
    }

    pub(crate) async fn status(&self, user: &str) -> Status {
        self.record(user).await.status()
    }

    pub(crate) async fn state(&self, user: &str) -> State {
        self.record(user).await.state()
    }

    /// The transitions of one user.
    pub(crate) async fn log(&self, user: &str) -> Vec<Transition> {
        let all = HistoryPart::After(Cursor::default());
        let entries = self.store.history(&id(user), all, usize::MAX).await.expect("the log");
        entries.iter().map(|entry| entry.transition().expect("a transition")).collect()
    }

    pub(crate) async fn causes(&self, user: &str) -> Vec<Cause> {
        self.log(user).await.iter().map(|transition| transition.cause).collect()
    }
}

/// Captures log lines of this thread until it is dropped.
pub(crate) struct Logged {
    text: Arc<Mutex<Vec<u8>>>,
    _guard: DefaultGuard,
}

/// Appends to the captured log.
struct LogWriter(Arc<Mutex<Vec<u8>>>);

impl io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Logged {
    /// Starts capturing.
    pub(crate) fn here() -> Self {
        // Without a global subscriber, a thread that captures nothing may turn a log line off for all threads:
        // tracing asks only the thread that reaches the line first, if there is one subscriber.
        static GLOBAL: Once = Once::new();
        GLOBAL.call_once(|| {
            let global = tracing_subscriber::registry().with(LevelFilter::INFO);
            tracing::subscriber::set_global_default(global).expect("no other global subscriber");
        });
        let text = Arc::<Mutex<Vec<u8>>>::default();
        let written = Arc::clone(&text);
        let writer = move || LogWriter(Arc::clone(&written));
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish();
        Self { text, _guard: set_default(subscriber) }
    }

    /// The lines with this text.
    pub(crate) fn lines(&self, text: &str) -> Vec<String> {
        let log = String::from_utf8(self.text.lock().clone()).expect("a text");
        log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }
}

/// A store in memory that starts at [`EPOCH`].
pub(crate) fn memory_store() -> MemoryStore {
    let retention = Retention { log_ttl: TOKEN_TTL, backlog_bytes_max: u64::MAX };
    MemoryStore::new(retention, EPOCH)
}

/// A user id, also one that the parser would refuse but a store may contain.
pub(crate) fn id(user: &str) -> UserId {
    UserId::stored(user).expect("a user id")
}

/// Asserts T14: a window never ends early, and at most a second late.
#[track_caller]
pub(crate) fn assert_kept(window: Duration, took: Duration, what: &str) {
    let kept = window..=window + SECOND;
    assert!(kept.contains(&took), "{what}: took {took:?}, not {window:?} to a second more");
}

/// A client that reads all the time, so that it answers pings. It records messages and their times.
pub(crate) struct Listener {
    sink: SplitSink<WebSocketStream<DuplexStream>, Message>,
    heard: mpsc::Receiver<(Timestamp, Heard)>,
    pings: Arc<Mutex<Vec<Timestamp>>>,
    reading: JoinHandle<()>,
}

impl Drop for Listener {
    /// Closes the socket.
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Listener {
    fn new(client: Client<DuplexStream>, clock: Clock) -> Self {
        let (sink, mut stream) = client.socket.split();
        let (hear, heard) = mpsc::channel(HEARD_MAX);
        let pings = Arc::new(Mutex::new(Vec::new()));
        let pinged = Arc::clone(&pings);
        let reading = tokio::spawn(async move {
            let mut is_open = true;
            while is_open {
                let what = match stream.next().await {
                    Some(Ok(Message::Text(text))) => {
                        Heard::Message(serde_json::from_str(&text).expect("JSON"))
                    }
                    Some(Ok(Message::Ping(_))) => {
                        pinged.lock().push(clock.now());
                        continue;
                    }
                    Some(Ok(Message::Close(Some(frame)))) => Heard::Closed(frame.code.into()),
                    Some(Ok(other)) => panic!("{other:?}"),
                    Some(Err(_)) | None => Heard::Gone,
                };
                is_open = what != Heard::Gone;
                // Fails when the test has ended.
                hear.try_send((clock.now(), what)).ok();
            }
        });
        Self { sink, heard, pings, reading }
    }

    /// Sends a message. The reply arrives like any other message.
    pub(crate) async fn send(&mut self, mut message: Value) {
        message["id"] = json!(1_000_000);
        self.sink.send(Message::text(message.to_string())).await.expect("to send");
    }

    /// The next message or end, and its time.
    pub(crate) async fn next(&mut self) -> (Timestamp, Heard) {
        let next = timeout(HEAR_TIMEOUT, self.heard.recv()).await.expect("something to be heard");
        next.expect("a listener that runs")
    }

    /// The next message.
    pub(crate) async fn message(&mut self) -> (Timestamp, Value) {
        match self.next().await {
            (at, Heard::Message(message)) => (at, message),
            (_, end) => panic!("{end:?} instead of a message"),
        }
    }

    /// The next message, which must be this user's status with this state.
    #[track_caller]
    pub(crate) fn state(
        &mut self,
        user: &str,
        state: &str,
    ) -> impl Future<Output = (Timestamp, Value)> {
        let (user, state) = (user.to_owned(), state.to_owned());
        async move {
            let (at, status) = self.message().await;
            let told = (&status["type"], &status["user"], &status["state"]);
            assert_eq!(told, (&json!("status"), &json!(user), &json!(state)), "{status}");
            (at, status)
        }
    }

    /// The next message, which must be this user's status: `Online`, and away or not.
    #[track_caller]
    pub(crate) fn away(&mut self, user: &str, is_away: bool) -> impl Future<Output = Value> {
        let told = self.state(user, "Online");
        async move {
            let (_, status) = told.await;
            assert_eq!(status["away"], json!(is_away), "{status}");
            status
        }
    }

    /// The close code; skips messages.
    pub(crate) async fn close(&mut self) -> (Timestamp, u16) {
        loop {
            match self.next().await {
                (_, Heard::Message(_)) => (),
                (at, Heard::Closed(code)) => return (at, code),
                (_, Heard::Gone) => panic!("an end without a Close frame"),
            }
        }
    }

    /// Asserts that no message arrives for this time.
    pub(crate) async fn hears_nothing_for(&mut self, time: Duration) {
        if let Ok(heard) = timeout(time, self.heard.recv()).await {
            panic!("heard {heard:?}");
        }
    }

    /// The times of received pings.
    pub(crate) fn pings(&self) -> Vec<Timestamp> {
        self.pings.lock().clone()
    }
}
