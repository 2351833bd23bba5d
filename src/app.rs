//! Starts all parts of the hub in order, handles signals, and shuts down in reverse order.

mod disk;
mod escape;
mod health;
mod log;
mod memory;
mod posting;
mod stores;
mod tasks;
mod time;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_rustls::TlsAcceptor;

pub use self::health::{HealthFault, ask};
pub use self::log::{Log, briefly};
use self::posting::Posting;
pub use self::stores::StoreFault;
use self::stores::Stores;
pub use self::tasks::Tasks;
use self::time::{begin_after, machine_clock};
use crate::config::{
    AtStart, Config, DevelopmentKeys, Loaded, SettingFault, Settings, StoreKind, load,
};
use crate::figures::Figures;
use crate::http::{self, AppState, Certificate, Face, ListenFault, TlsFault};
use crate::hub::{Hub, Unavailable, run_deadlines};
use crate::session::Sessions;
use crate::store::StoreError;
use crate::traces;
use crate::webhook::{HttpTransport, Webhooks};

/// File descriptors reserved for the store, the webhook, and requests while all WebSockets are in use.
const DESCRIPTORS_KEPT: u64 = 64;
/// The webhooks must save their positions within this time at shutdown.
const POSTING_MAX: Duration = Duration::from_secs(10);
/// How long the last spans may take at shutdown.
const LAST_SPANS_MAX: Duration = Duration::from_secs(2);

/// Why the hub did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum AppFault {
    /// An address could not be bound.
    #[error(transparent)]
    Listen(#[from] ListenFault),
    /// The certificate or its key could not be loaded.
    #[error(transparent)]
    Certificate(#[from] TlsFault),
    /// The cryptography library refused its own defaults.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// A file or signal operation failed; the text names the file or operation.
    #[error("{0}: {1}")]
    Io(String, io::Error),
    /// The store could not be opened.
    #[error(transparent)]
    Store(#[from] StoreFault),
    /// The deadline task panicked.
    #[error(
        "the deadline task panicked; without it no user would go Offline, so the hub stops: \
         restart it"
    )]
    TimeStopped,
    /// A setting failed when it was applied.
    #[error(transparent)]
    Setting(#[from] SettingFault),
    /// Other hubs have taken over this hub's sessions, for example because it was suspended.
    #[error(
        "other hubs have taken over this hub's sessions, and it has sent its clients away: restart it"
    )]
    Retired,
    /// The first sign of life could not be written.
    #[error("cannot write the hub's first sign of life to the store: {0}")]
    Sign(Unavailable),
    /// The webhook's position could not be read.
    #[error("cannot read the webhook's position from the store: {0}")]
    WebhookProgress(StoreError),
    /// The webhook's HTTP client could not be created.
    #[error("cannot create the webhook's HTTP client: {0}")]
    WebhookClient(String),
    /// The HTTP client of the traces could not be created.
    #[error("cannot create the HTTP client of the traces: {0}")]
    TracesClient(io::Error),
}

/// Runs the hub until SIGTERM or SIGINT.
///
/// # Errors
///
/// If the hub cannot start, the deadline task panics, or other hubs have taken over its sessions.
pub async fn run(
    loaded: Loaded,
    variables: &BTreeMap<String, String>,
    log: &Log,
) -> Result<(), AppFault> {
    let Loaded { config, file } = loaded;
    let made = config.is_development().then(|| DevelopmentKeys::in_directory(&config.store.path));
    let made = made.transpose().map_err(|(file, error)| AppFault::Io(file, error))?;
    let max_connections = raise_descriptors(&config);
    let at_start = AtStart::new(&config, max_connections);
    start_traces(&config)?;

    let clock = machine_clock(&config).map_err(|(file, error)| AppFault::Io(file, error))?;
    let Stores { store, outbox, days, logins } = Stores::open(&config, &clock).await?;
    let clock = begin_after(clock, store.latest());
    warn_of_rights(&config);
    let settings = Settings::of(&config, made.as_ref(), &at_start)?;
    let transport = HttpTransport::new(config.outgoing.allow_private)
        .map_err(|error| AppFault::WebhookClient(error.to_string()))?;
    let transport = Arc::new(transport);
    let (port, shared) = (Arc::<HttpTransport>::clone(&transport), Arc::clone(&store));
    let webhooks = Arc::new(Webhooks::new(shared, outbox, port, clock.clone()));
    let figures = Figures::new(Arc::clone(&store), days, clock.clone());
    let hub = Hub::new(store, settings.policy, clock);
    hub.give_sign_of_life().await.map_err(AppFault::Sign)?;
    let all = webhooks.begin(settings.webhooks).await.map_err(AppFault::WebhookProgress)?;
    let mut time = tokio::spawn(run_deadlines(Arc::clone(&hub)));
    let tasks = Tasks::new(Arc::clone(&hub));
    let shared = Arc::clone(&hub);
    tasks.spawn("messages", move || Arc::clone(&shared).listen());
    let min_free = watch_resources(&config, &hub, &tasks);
    let posting = Posting::default();
    posting.run(&tasks, all);
    let shared = Arc::clone(&figures);
    tasks.spawn("figures", move || Arc::clone(&shared).run());
    let (shared, dropped) = (Arc::clone(&hub), log.dropped());
    tasks.spawn("log", move || log::report_dropped(Arc::clone(&shared), dropped.clone()));
    let sessions = Sessions::new(Arc::clone(&hub), settings.session);
    let certificate = certificate(&config, &tasks)?;
    let (shared, shown) = (Arc::clone(&webhooks), certificate.clone());
    let app = AppState::new(Arc::clone(&sessions), shared, figures, logins, shown, settings.http);

    let shared = Arc::clone(&app);
    tasks.spawn("series", move || http::record_stats(Arc::clone(&shared)));

    // Before the greeting: its reader may send a signal at once.
    let mut signals = Signals::new()?;
    let addresses = listen(&config, &app, &tasks, certificate.as_ref())?;
    app.set_address(addresses.main);
    http::show_to_other_hubs(&app).await;
    // Other hubs list this one from now on; a failure shows in `/ready`.
    hub.give_sign_of_life().await.ok();
    greet(&config, made.as_ref(), &addresses);

    let running = RunningParts {
        made,
        at_start,
        hub,
        webhooks,
        posting,
        tasks,
        transport,
        sessions,
        app,
        certificate,
        min_free,
    };
    let (drain, end) = tokio::select! {
        drain = running.until_stopped(&mut signals, config.server.drain, file, variables, log) => (drain, Ok(())),
        () = running.hub.retired() => (config.server.drain, Err(AppFault::Retired)),
        // Without deadlines every user would stay Online for ever.
        _ = &mut time => return Err(AppFault::TimeStopped),
    };
    tracing::info!(over = ?drain, "draining");
    tokio::select! {
        () = stop(&running, drain) => tracing::info!("drained"),
        () = signals.stop_again() => tracing::warn!("second stop signal: drain aborted"),
    }
    end
}

/// Starts the tasks that watch memory and disk; returns `store.min_free`, which a reload changes.
fn watch_resources(config: &Config, hub: &Arc<Hub>, tasks: &Tasks) -> Arc<AtomicU64> {
    let shared = Arc::clone(hub);
    tasks.spawn("memory", move || memory::watch(Arc::clone(&shared)));
    let shared = Arc::clone(hub);
    tasks.spawn("shedding", move || {
        let hub = Arc::clone(&shared);
        async move { hub.cut_greediest().await }
    });
    let min_free = Arc::new(AtomicU64::new(config.store.min_free.as_u64()));
    if config.store.kind == StoreKind::Embedded {
        let (shared, directory) = (Arc::clone(hub), Arc::from(config.store.path.as_path()));
        let min_free = Arc::clone(&min_free);
        tasks.spawn("disk", move || {
            disk::watch(Arc::clone(&shared), Arc::clone(&directory), Arc::clone(&min_free))
        });
    }
    min_free
}

/// The parts of the running hub that a reload changes.
struct RunningParts {
    made: Option<DevelopmentKeys>,
    at_start: AtStart,
    hub: Arc<Hub>,
    webhooks: Arc<Webhooks>,
    posting: Posting,
    tasks: Tasks,
    transport: Arc<HttpTransport>,
    sessions: Arc<Sessions>,
    app: Arc<AppState>,
    certificate: Option<Arc<Certificate>>,
    /// `store.min_free`, in bytes.
    min_free: Arc<AtomicU64>,
}

impl RunningParts {
    /// Reloads the configuration at each request until the hub is to stop; returns the time for the drain.
    async fn until_stopped(
        &self,
        signals: &mut Signals,
        mut drain: Duration,
        file: Option<PathBuf>,
        variables: &BTreeMap<String, String>,
        log: &Log,
    ) -> Duration {
        while signals.next().await == SignalAction::Reload {
            match load(file.as_deref(), variables) {
                Ok(Loaded { config, .. }) if self.reload(&config, log) => {
                    drain = config.server.drain;
                }
                Ok(_) => (),
                Err(faults) => faults.0.iter().for_each(left_as_it_was),
            }
        }
        drain
    }

    /// Applies a reloaded configuration; returns whether it is valid. If not, nothing changes.
    fn reload(&self, config: &Config, log: &Log) -> bool {
        let made = self.made.as_ref().filter(|_| config.is_development());
        warn_of_rights(config);
        let settings = match Settings::of(config, made, &self.at_start) {
            Ok(settings) => settings,
            Err(fault) => {
                left_as_it_was(&fault);
                return false;
            }
        };
        if let Err(error) = self.transport.set_allow_private(config.outgoing.allow_private) {
            left_as_it_was(&AppFault::WebhookClient(error.to_string()));
            return false;
        }
        if let Err(error) = traces::set_allow_private(config.outgoing.allow_private) {
            left_as_it_was(&AppFault::TracesClient(error));
            return false;
        }
        if let Some(certificate) = &self.certificate {
            certificate.reload();
        }
        if self.hub.set_policy(settings.policy) {
            let hub = Arc::clone(&self.hub);
            tokio::spawn(async move { hub.narrow_all().await });
        }
        self.sessions.set_settings(settings.session);
        self.posting.run(&self.tasks, self.webhooks.set_settings(settings.webhooks));
        self.app.set_settings(settings.http);
        self.min_free.store(config.store.min_free.as_u64(), Ordering::Relaxed);
        log.set_filter(&config.log.filter);
        tracing::info!("configuration reloaded");
        if !settings.pending.is_empty() {
            let settings = settings.pending.join(", ");
            tracing::warn!(settings, "changed settings need a restart");
        }
        true
    }
}

/// Starts the traces, if they are configured.
fn start_traces(config: &Config) -> Result<(), AppFault> {
    let settings = config
        .trace_settings()
        .map_err(|(key, message)| SettingFault(format!("{key}: {message}")))?;
    settings.map_or(Ok(()), |settings| traces::start(settings).map_err(AppFault::TracesClient))
}

fn warn_of_rights(config: &Config) {
    if let Some(line) = config.everybody_watches() {
        tracing::warn!("{line}");
    }
    for doubled in config.keys_with_two_roles() {
        tracing::warn!("{doubled}: the key has the rights of the greater role");
    }
}

fn left_as_it_was(fault: &impl std::fmt::Display) {
    tracing::error!(%fault, "reload failed, configuration unchanged");
}

/// Closes every client, then stops the webhooks. The next run posts the events that are pending.
async fn stop(running: &RunningParts, over: Duration) {
    let RunningParts { hub, webhooks, posting, .. } = running;
    hub.drain(over).await;
    webhooks.all().iter().for_each(|webhook| webhook.stop());
    if tokio::time::timeout(POSTING_MAX, posting.ended()).await.is_err() {
        tracing::warn!(
            "a webhook did not save its position in time; some events may be posted twice"
        );
    }
    for webhook in webhooks.all() {
        webhook.leave().await;
    }
    // After the restart, clients' windows count from this sign of life.
    hub.give_sign_of_life().await.ok();
    traces::stop(LAST_SPANS_MAX).await;
}

/// The bound addresses that the greeting shows.
struct BoundAddresses {
    main: SocketAddr,
    /// Serves the server API and the dashboard.
    admin: SocketAddr,
}

/// Loads the certificate, if one is configured, and watches its files.
fn certificate(config: &Config, tasks: &Tasks) -> Result<Option<Arc<Certificate>>, AppFault> {
    let server = &config.server;
    if server.tls_certificate.as_os_str().is_empty() {
        return Ok(None);
    }
    let certificate = Arc::new(Certificate::load(&server.tls_certificate, &server.tls_key)?);
    certificate.log();
    let shared = Arc::clone(&certificate);
    tasks.spawn("certificate", move || Arc::clone(&shared).watch());
    Ok(Some(certificate))
}

/// Binds every configured address and serves it.
fn listen(
    config: &Config,
    app: &Arc<AppState>,
    tasks: &Tasks,
    certificate: Option<&Arc<Certificate>>,
) -> Result<BoundAddresses, AppFault> {
    let server = &config.server;
    let tls = certificate.map(Certificate::acceptor).transpose()?;
    let open = |text: &str, face, tls: Option<TlsAcceptor>| -> Result<SocketAddr, AppFault> {
        let is_tls = tls.is_some();
        let address =
            text.parse().map_err(|_| SettingFault(format!("`{text}` is not a valid address")))?;
        let listener = http::bind(address, tls)?;
        let address = listener.address().map_err(|e| AppFault::Io(text.to_owned(), e))?;
        tracing::info!(%address, ?face, tls = is_tls, "listening");
        let (listener, app) = (Arc::new(listener), Arc::clone(app));
        tasks.spawn("accept", move || {
            let router = http::router(&app, face);
            http::serve(Arc::clone(&listener), Arc::clone(&app), face, router)
        });
        Ok(address)
    };
    if !server.metrics_listen.is_empty() {
        open(&server.metrics_listen, Face::Metrics, None)?;
    }
    let main_face = if server.admin_listen.is_empty() { Face::Whole } else { Face::Clients };
    if !server.plain_listen.is_empty() {
        open(&server.plain_listen, main_face, None)?;
    }
    if server.admin_listen.is_empty() {
        let main = open(&server.listen, main_face, tls)?;
        return Ok(BoundAddresses { main, admin: main });
    }
    let admin = open(&server.admin_listen, Face::Admin, tls.clone())?;
    Ok(BoundAddresses { main: open(&server.listen, main_face, tls)?, admin })
}

/// Prints the hub's addresses to standard output.
fn greet(config: &Config, made: Option<&DevelopmentKeys>, addresses: &BoundAddresses) {
    let scheme =
        if config.server.tls_certificate.as_os_str().is_empty() { "http" } else { "https" };
    let BoundAddresses { main, admin } = addresses;
    let greeting = match made {
        None => format!("presence-hub is at {scheme}://{main}\n"),
        Some(DevelopmentKeys { admin_key, dev_key, .. }) => {
            tracing::warn!(
                directory = %config.store.path.display(),
                "development mode: the secret and keys in this directory, loopback only"
            );
            format!(
                "presence-hub is at {scheme}://{main} in development mode\n  \
                 dashboard  {scheme}://{admin}/static/#key={admin_key}\n  \
                 demo       {scheme}://{main}/static/demo.html#key={dev_key}\n"
            )
        }
    };
    // On a thread of its own: the reader of standard output may have stopped.
    thread::spawn(move || {
        let mut out = io::stdout();
        if let Err(error) = out.write_all(greeting.as_bytes()).and_then(|()| out.flush()) {
            tracing::warn!(%error, "cannot write to standard output");
        }
    });
}

/// Raises the limit on open files; returns how many connections fit under it.
fn raise_descriptors(config: &Config) -> usize {
    let server = &config.server;
    let wanted = server.max_connections;
    let own = |address: &str, sockets: usize| match address.is_empty() {
        true => 0,
        false => (sockets + http::SPARE_SOCKETS) as u64,
    };
    let kept = DESCRIPTORS_KEPT
        + own(&server.admin_listen, http::ADMIN_SOCKETS)
        + own(&server.metrics_listen, http::METRICS_SOCKETS);
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // On failure the current limit applies.
    setrlimit(Resource::Nofile, raised).ok();
    let Some(limit) = getrlimit(Resource::Nofile).current else { return wanted };
    let fit = usize::try_from(limit.saturating_sub(kept)).unwrap_or(usize::MAX);
    // A first trial needs few.
    if fit < wanted && !config.is_development() {
        tracing::warn!(
            max_connections = fit,
            "max_connections = {wanted} needs {} open files, but the limit is {limit}: raise it \
             with ulimit -n, or LimitNOFILE in systemd",
            wanted as u64 + kept,
        );
    }
    wanted.min(fit)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SignalAction {
    Stop,
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self, AppFault> {
        let on = |kind| signal(kind).map_err(|error| AppFault::Io("signals".into(), error));
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            hangup: on(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> SignalAction {
        tokio::select! {
            _ = self.terminate.recv() => SignalAction::Stop,
            _ = self.interrupt.recv() => SignalAction::Stop,
            _ = self.hangup.recv() => SignalAction::Reload,
        }
    }

    async fn stop_again(&mut self) {
        while self.next().await != SignalAction::Stop {}
    }
}
