//! The connections to one Redis primary.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    ProtocolVersion, PushInfo, RedisResult, ScriptInvocation, Value,
};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::fault::{Fault, FaultKind};
use super::metrics::Metrics;
use super::server_clock::ServerClock;
use crate::clock::monotonic;

/// The maximum number of commands without an answer, so that a stalled server costs bounded memory.
const IN_FLIGHT_MAX: usize = 1024;
/// The pauses between attempts to connect.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// The kernel gives a connection up whose data was not acknowledged for this long.
const SILENT_MAX: Duration = Duration::from_secs(5);

/// A command or a script call.
#[derive(Clone, Copy)]
pub(super) enum Request<'a> {
    Command(&'a Cmd),
    Script(&'a ScriptInvocation<'a>),
}

/// Which servers have what a request wrote before it is answered.
#[derive(Clone, Copy)]
pub(super) enum Reach {
    Primary,
    /// Also one replica, if there is one.
    Replica,
}

impl Request<'_> {
    async fn send(self, connection: &mut MultiplexedConnection) -> RedisResult<Value> {
        match self {
            Self::Command(command) => command.query_async(connection).await,
            // Loads the script and sends the call again if the server does not have it.
            Self::Script(call) => call.invoke_async(connection).await,
        }
    }
}

/// One primary: its address, and the connection for commands, which is made again when it is lost.
pub(super) struct Link {
    info: ConnectionInfo,
    /// The server's address, without the password.
    pub(super) name: String,
    pub(super) clock: ServerClock,
    timeout: Duration,
    state: Mutex<LinkState>,
    /// How many connections there were.
    connections: AtomicU64,
    lost: Notify,
    /// For commits that wait for a replica: they hold up all that is behind them. Held over an await.
    waiting: tokio::sync::Mutex<Option<MultiplexedConnection>>,
    metrics: Arc<Metrics>,
}

enum LinkState {
    /// The connection, and its number.
    Connected(MultiplexedConnection, u64),
    /// Why it is not connected.
    Disconnected(String),
}

impl Link {
    pub(super) fn new(info: ConnectionInfo, timeout: Duration, metrics: Arc<Metrics>) -> Arc<Self> {
        let name = name_of(info.addr());
        let state = Mutex::new(LinkState::Disconnected("it has not been tried yet".into()));
        let (lost, waiting) = (Notify::new(), tokio::sync::Mutex::new(None));
        let (info, clock) = (with_tcp(info), ServerClock::default());
        let connections = AtomicU64::new(0);
        let link = Self { info, name, clock, timeout, state, connections, lost, waiting, metrics };
        Arc::new(link)
    }

    /// The host, for servers that do not know their own.
    pub(super) fn host(&self) -> &str {
        let (ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. }) = self.info.addr()
        else {
            return "localhost";
        };
        host
    }

    /// The same server's user, password and TLS, at another address.
    pub(super) fn info_at(&self, host: &str, port: u16) -> ConnectionInfo {
        let mut addr = ConnectionAddr::Tcp(host.to_owned(), port);
        if let ConnectionAddr::TcpTls { insecure, tls_params, .. } = self.info.addr().clone() {
            addr = ConnectionAddr::TcpTls { host: host.to_owned(), port, insecure, tls_params };
        }
        self.info.clone().set_addr(addr)
    }

    /// Connects once.
    pub(super) async fn connect(&self) -> Result<(), Fault> {
        let connected = self.connection(AsyncConnectionConfig::new(), ProtocolVersion::RESP2).await;
        let (state, result) = match connected {
            Ok(connection) => {
                let number = self.connections.fetch_add(1, Ordering::Relaxed);
                (LinkState::Connected(connection, number), Ok(()))
            }
            Err(fault) => (LinkState::Disconnected(fault.cause.clone()), Err(fault)),
        };
        *self.state.lock() = state;
        result
    }

    /// Makes a connection with RESP3 for the feed, whose messages go to `push`.
    pub(super) async fn connect_feed(
        &self,
        push: impl Fn(PushInfo) -> Result<(), ()> + Send + Sync + 'static,
    ) -> Result<MultiplexedConnection, Fault> {
        let config = AsyncConnectionConfig::new().set_push_sender(push);
        self.connection(config, ProtocolVersion::RESP3).await
    }

    async fn connection(
        &self,
        config: AsyncConnectionConfig,
        protocol: ProtocolVersion,
    ) -> Result<MultiplexedConnection, Fault> {
        let settings = self.info.redis_settings().clone().set_protocol(protocol);
        let info = self.info.clone().set_redis_settings(settings);
        let config = config
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(None)
            .set_pipeline_buffer_size(IN_FLIGHT_MAX)
            .set_concurrency_limit(IN_FLIGHT_MAX);
        let fault = |error| Fault::of(&self.name, &error);
        let client = Client::open(info).map_err(fault)?;
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        let connected = timeout(self.timeout, connecting).await;
        connected.map_err(|_| Fault::timeout(&self.name))?.map_err(fault)
    }

    /// Sends a request, and waits until these servers have what it wrote.
    pub(super) async fn send(&self, request: Request<'_>, reach: Reach) -> Result<Value, Fault> {
        match reach {
            Reach::Primary => self.run(request).await,
            Reach::Replica => self.run_on_replica(request).await,
        }
    }

    /// Sends a request, and waits for its answer.
    pub(super) async fn run(&self, request: Request<'_>) -> Result<Value, Fault> {
        let (mut connection, number) = match &*self.state.lock() {
            LinkState::Connected(connection, number) => (connection.clone(), *number),
            LinkState::Disconnected(cause) => return Err(Fault::not_connected(&self.name, cause)),
        };
        let answer = self.timed(request.send(&mut connection)).await;
        if let Err(Fault { kind: FaultKind::Disconnected, cause }) = &answer {
            self.lose(number, cause);
        }
        answer
    }

    async fn timed<T>(&self, sent: impl Future<Output = RedisResult<T>>) -> Result<T, Fault> {
        let begun = monotonic();
        let answer = match timeout(self.timeout, sent).await {
            Err(_) => Err(Fault::timeout(&self.name)),
            Ok(answer) => answer.map_err(|error| Fault::of(&self.name, &error)),
        };
        self.metrics.ran(monotonic() - begun, answer.is_ok());
        answer
    }

    async fn run_on_replica(&self, request: Request<'_>) -> Result<Value, Fault> {
        let mut waiting = self.waiting.lock().await;
        let mut connection = match waiting.take() {
            Some(connection) => connection,
            None => self.connection(AsyncConnectionConfig::new(), ProtocolVersion::RESP2).await?,
        };
        let answer = self.timed(request.send(&mut connection)).await?;
        let roles = self.timed(redis::cmd("ROLE").query_async(&mut connection)).await?;
        if has_replica(&roles) {
            let ms = u64::try_from(self.timeout.as_millis() / 2).unwrap_or(u64::MAX);
            let mut wait = redis::cmd("WAIT");
            wait.arg(1).arg(ms);
            let replicas: u64 = self.timed(wait.query_async(&mut connection)).await?;
            if replicas == 0 {
                let cause =
                    format!("no replica of Redis at {} has confirmed the commit", self.name);
                return Err(Fault { kind: FaultKind::Timeout, cause });
            }
        }
        *waiting = Some(connection);
        Ok(answer)
    }

    /// Notes that a connection is lost, unless another one has replaced it.
    fn lose(&self, lost: u64, cause: &str) {
        let mut state = self.state.lock();
        if matches!(*state, LinkState::Connected(_, number) if number == lost) {
            *state = LinkState::Disconnected(cause.to_owned());
            self.lost.notify_one();
            tracing::warn!(server = self.name, cause, "connection to Redis lost, reconnecting");
        }
    }

    /// Connects again whenever the connection is lost, until the link is dropped.
    pub(super) async fn keep_connected(link: Weak<Self>) {
        while let Some(link) = link.upgrade() {
            let mut pause = PAUSE_MIN;
            while matches!(*link.state.lock(), LinkState::Disconnected(_)) {
                if link.connect().await.is_ok() {
                    link.metrics.reconnected();
                    tracing::info!(server = link.name, "connected to Redis again");
                    break;
                }
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            // Woken at least now and then, so that the task ends when the link is dropped.
            timeout(PAUSE_MAX, link.lost.notified()).await.ok();
        }
    }
}

/// Whether the answer to `ROLE` is that of a primary with a connected replica.
fn has_replica(role: &Value) -> bool {
    let Value::Array(role) = role else { return false };
    matches!(role.get(2), Some(Value::Array(replicas)) if !replicas.is_empty())
}

/// Reads the URL of a server.
pub(super) fn parse_url(url: &str) -> RedisResult<ConnectionInfo> {
    url.into_connection_info()
}

fn name_of(addr: &ConnectionAddr) -> String {
    if let ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } = addr {
        return format!("{host}:{port}");
    }
    addr.to_string()
}

/// A server that is gone without a word is noticed within seconds.
fn with_tcp(info: ConnectionInfo) -> ConnectionInfo {
    let probes = TcpKeepalive::new()
        .with_time(SILENT_MAX)
        .with_interval(Duration::from_secs(1))
        .with_retries(3);
    let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(probes);
    #[cfg(target_os = "linux")]
    let tcp = tcp.set_user_timeout(SILENT_MAX);
    info.set_tcp_settings(tcp)
}
