//! Connects at the start, and checks that this Redis can serve as a store.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, FromRedisValue, InfoDict, cmd, from_redis_value};
use tokio::time::{sleep, timeout};

use super::fault::{Fault, FaultKind};
use super::keys::Keys;
use super::link::{Link, Request, parse_url};
use super::metrics::Metrics;
use super::router::{At, Router};
use super::settings::RedisSettings;
use super::state::State;
use crate::clock::Clock;
use crate::presence::Timestamp;
use crate::store::{Retention, StoreError};

/// How long Redis may take to answer for the first time.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(200);
const FIRST_TICKS_EVERY: Duration = Duration::from_millis(2);
/// The format of the keys. It changes with every change that an older hub would read wrongly.
const FORMAT: u32 = 1;
const VERSION_MIN: u32 = 7;

/// Why a store cannot be used. Each message says what to change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedisFault {
    /// A URL is not that of a Redis server. The URL is not shown, because it may contain a password.
    #[error(
        "store.redis_url[{place}] is not a Redis URL ({cause}); expected for example \
         redis://127.0.0.1:6379"
    )]
    Url {
        /// The position of the URL.
        place: usize,
        /// What is wrong.
        cause: String,
    },
    /// The list of URLs is empty.
    #[error("store.redis_url is empty; set it, for example to redis://127.0.0.1:6379")]
    NoUrl,
    /// The number of partitions is not allowed.
    #[error("store.partitions is {0}; it must be a power of two from 16 to 1024")]
    Partitions(u32),
    /// No server answered in time.
    #[error("cannot reach Redis within 10 s: {0}; start it, or correct store.redis_url")]
    Unreachable(String),
    /// The server is too old.
    #[error("Redis at {server} has version {version}; install Redis 7.0 or later, or Valkey")]
    Version {
        /// The server.
        server: String,
        /// Its version.
        version: String,
    },
    /// The server may delete data on its own.
    #[error(
        "Redis at {server} has maxmemory-policy {policy}, which may delete users without notice; set it \
         to noeviction"
    )]
    Policy {
        /// The server.
        server: String,
        /// Its setting.
        policy: String,
    },
    /// The data was written with other settings, or by another version.
    #[error(
        "the data in Redis with the prefix {prefix} has format {found}, and this hub expects {expected}; \
         set store.partitions to what it was, or use another store.key_prefix"
    )]
    Format {
        /// The prefix of the keys.
        prefix: String,
        /// What the data has.
        found: String,
        /// What this hub needs.
        expected: String,
    },
    /// The clocks differ too much.
    #[error(
        "this machine's clock ({ours}) and that of Redis ({theirs}) differ by {differ_ms} ms, more than \
         store.max_clock_skew; synchronize both with NTP"
    )]
    Clock {
        /// The wall clock of this machine, in milliseconds since 1970.
        ours: Timestamp,
        /// That of Redis.
        theirs: Timestamp,
        /// The difference.
        differ_ms: u64,
    },
    /// A command failed.
    #[error("cannot use Redis as the store: {0}")]
    Failed(#[from] StoreError),
}

impl From<Fault> for RedisFault {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault.into())
    }
}

/// Connects, checks the server, and makes the state of a store.
pub(super) async fn open(
    settings: RedisSettings,
    retention: Retention,
    clock: &Clock,
) -> Result<Arc<State>, RedisFault> {
    let partitions = settings.partitions;
    if !(16..=1024).contains(&partitions) || !partitions.is_power_of_two() {
        return Err(RedisFault::Partitions(partitions));
    }
    let metrics = Arc::new(Metrics::default());
    let link = connect(&settings, &metrics).await?;
    let is_cluster = check_server(&link).await?;
    metrics.set_clock_ms(check_clock(&link, &settings, clock).await?);
    let router = Router::new(&link, partitions, is_cluster, settings.timeout, Arc::clone(&metrics));
    router.refresh().await;
    for (primary, _) in router.shares() {
        if primary.name != link.name {
            check_server(&primary).await?;
        }
    }
    let keys = Keys::new(&settings.key_prefix, partitions);
    check_format(&router, &keys, &settings).await?;
    let latest: Option<u64> = router.run(At::Hub, cmd("GET").arg(&keys.hub.latest)).await?;
    let latest = Timestamp::from_millis(latest.unwrap_or_default());
    let state = Arc::new(State::new(settings, retention, (router, metrics), latest));
    // Until all clocks are past the begin of the log, there is no cursor to start from.
    while !state.has_head() {
        state.tick_all().await?;
        sleep(FIRST_TICKS_EVERY).await;
    }
    Ok(state)
}

/// Connects to the first server that answers.
async fn connect(
    settings: &RedisSettings,
    metrics: &Arc<Metrics>,
) -> Result<Arc<Link>, RedisFault> {
    let mut links = Vec::new();
    for (place, url) in settings.urls.iter().enumerate() {
        let info =
            parse_url(url).map_err(|error| RedisFault::Url { place, cause: error.to_string() })?;
        links.push(Link::new(info, settings.timeout, Arc::clone(metrics)));
    }
    let mut last = None;
    let connecting = async {
        loop {
            for link in &links {
                match link.connect().await {
                    Ok(()) => return Ok(Arc::clone(link)),
                    // For example a wrong password: waiting does not help.
                    Err(fault) if fault.kind == FaultKind::Refused => return Err(fault.into()),
                    Err(fault) => last = Some(fault),
                }
            }
            sleep(PAUSE).await;
        }
    };
    if links.is_empty() {
        return Err(RedisFault::NoUrl);
    }
    let Ok(connected) = timeout(CONNECT_WITHIN, connecting).await else {
        let cause = last.map_or_else(|| "no answer".to_owned(), |fault| fault.cause);
        return Err(RedisFault::Unreachable(cause));
    };
    connected
}

async fn ask<T: FromRedisValue>(link: &Link, command: &Cmd) -> Result<T, RedisFault> {
    let answer = link.run(Request::Command(command)).await?;
    from_redis_value(answer).map_err(|error| StoreError::unavailable(&error).into())
}

/// Checks version and settings of a server; returns whether it is part of a cluster.
async fn check_server(link: &Link) -> Result<bool, RedisFault> {
    let (server, text): (_, String) = (&*link.name, ask(link, &cmd("INFO")).await?);
    let info = InfoDict::new(&text);
    let version: String = info.get("redis_version").unwrap_or_default();
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < VERSION_MIN) {
        return Err(RedisFault::Version { server: server.to_owned(), version });
    }
    let policy: String = info.get("maxmemory_policy").unwrap_or_default();
    if policy != "noeviction" {
        return Err(RedisFault::Policy { server: server.to_owned(), policy });
    }
    let has_aof = info.get::<u32>("aof_enabled") == Some(1);
    let has_replica = info.get::<u32>("connected_slaves").is_some_and(|replicas| replicas > 0);
    if !has_aof && !has_replica {
        tracing::warn!(
            server,
            "Redis has neither an append-only file nor a replica: a restart of Redis loses all data; \
             set appendonly yes"
        );
    }
    Ok(info.get::<u32>("cluster_enabled") == Some(1))
}

/// Returns this machine's wall clock minus that of Redis, in milliseconds.
async fn check_clock(
    link: &Link,
    settings: &RedisSettings,
    clock: &Clock,
) -> Result<i64, RedisFault> {
    let before = clock.wall();
    let (secs, micros): (u64, u64) = ask(link, &cmd("TIME")).await?;
    let theirs = Timestamp::from_millis(secs * 1000 + micros / 1000);
    let ours = before + (clock.wall() - before) / 2;
    let clock_ms = ours.as_millis().cast_signed() - theirs.as_millis().cast_signed();
    if settings.is_skewed(clock_ms) {
        return Err(RedisFault::Clock { ours, theirs, differ_ms: clock_ms.unsigned_abs() });
    }
    Ok(clock_ms)
}

async fn check_format(
    router: &Router,
    keys: &Keys,
    settings: &RedisSettings,
) -> Result<(), RedisFault> {
    let expected = format!("{FORMAT} with {} partitions", settings.partitions);
    let mut set = cmd("SET");
    set.arg(&keys.hub.format).arg(&expected).arg("NX");
    let _: Option<String> = router.run(At::Hub, &set).await?;
    let found: String = router.run(At::Hub, cmd("GET").arg(&keys.hub.format)).await?;
    if found == expected {
        return Ok(());
    }
    Err(RedisFault::Format { prefix: settings.key_prefix.clone(), found, expected })
}
