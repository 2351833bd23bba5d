//! The typed form of `config.toml`: a struct for each section.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::secret::{Secret, ServerUrls, shown_url};
use crate::auth::Algorithm;
use crate::duration;
use crate::presence::{Cause, OnConflict, Platform, WebTabs};
use crate::store::WebhookName;

/// The default configuration: the repository's documented `config.toml`.
pub const DEFAULT: &str = include_str!("../../config.toml");

/// Every setting.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every key")]
pub struct Config {
    pub server: Server,
    pub auth: Auth,
    pub login: Login,
    pub liveness: Liveness,
    pub visibility: VisibilitySection,
    pub limits: Limits,
    pub store: Store,
    pub webhook: Webhook,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub webhooks: Vec<NamedWebhook>,
    pub outgoing: OutgoingRequests,
    pub tencent: Tencent,
    pub log: Log,
    pub traces: Traces,
}

/// `[server]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every key")]
pub struct Server {
    pub production: bool,
    pub listen: String,
    pub allowed_origins: Vec<String>,
    pub max_connections: usize,
    pub max_message_bytes: usize,
    #[serde(with = "duration")]
    pub handshake_timeout: Duration,
    #[serde(with = "duration")]
    pub keep_alive: Duration,
    #[serde(with = "duration")]
    pub drain: Duration,
    pub metrics_listen: String,
    pub admin_listen: String,
    pub trusted_proxies: Vec<String>,
    pub tls_certificate: PathBuf,
    pub tls_key: PathBuf,
    pub plain_listen: String,
}

/// `[auth]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every key")]
pub struct Auth {
    pub algorithm: Algorithm,
    pub secret: Secret,
    pub secrets: Vec<Secret>,
    pub public_key: PathBuf,
    pub public_keys: Vec<PathBuf>,
    #[serde(serialize_with = "shown_url")]
    pub jwks_url: String,
    pub issuer: String,
    pub audience: String,
    #[serde(with = "duration")]
    pub leeway: Duration,
    #[serde(with = "duration")]
    pub max_token_ttl: Duration,
    pub api_keys: Vec<Secret>,
    pub admin_keys: Vec<Secret>,
    pub viewer_keys: Vec<Secret>,
    pub proxy_user_header: String,
    pub proxy_role_header: String,
    pub proxy_admins: Vec<String>,
    pub proxy_viewers: Vec<String>,
    pub default_watch: Vec<String>,
}

/// `[login]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every key")]
pub struct Login {
    pub policy: PolicyName,
    pub groups: Vec<Vec<Platform>>,
    pub on_conflict: OnConflict,
    #[serde(with = "duration")]
    pub timeout: Duration,
    pub web_tabs: WebTabs,
    pub miniprogram_as_web: bool,
    #[serde(deserialize_with = "super::instances::read")]
    pub max_instances: BTreeMap<Platform, u8>,
}

/// The name of a login policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "rule L1 documents them")]
pub enum PolicyName {
    Single,
    Dual,
    Triple,
    Multi,
    Custom,
}

/// `[liveness]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every key")]
pub struct Liveness {
    #[serde(with = "duration")]
    pub web_ping: Duration,
    #[serde(with = "duration")]
    pub web_silence: Duration,
    #[serde(with = "duration")]
    pub native_ping: Duration,
    #[serde(with = "duration")]
    pub native_silence: Duration,
    #[serde(with = "duration")]
    pub background: Duration,
    #[serde(with = "duration")]
    pub exit: Duration,
    #[serde(with = "duration")]
    pub push_online_ttl: Duration,
    #[serde(with = "duration")]
    pub web_close_grace: Duration,
}

/// `[visibility]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every key")]
pub struct VisibilitySection {
    pub self_service: bool,
}

/// `[limits]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every key")]
pub struct Limits {
    pub subscriptions: usize,
    pub messages_per_second: u32,
    pub message_burst: u32,
    pub connections_per_address_per_second: u32,
    pub connection_burst: u32,
    pub sockets_per_address: u32,
    pub bad_logins_per_minute: u32,
    pub work_per_second: u32,
    pub work_burst: u32,
    #[serde(with = "duration")]
    pub slow_consumer: Duration,
    pub changes_per_user_per_minute: u32,
    pub lookups_per_user_per_minute: u32,
    pub lookups_burst: u32,
    pub watch_list: usize,
    pub requests_per_key_per_second: u32,
    pub request_burst: u32,
    pub streams_per_key: usize,
}

/// `[store]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every key")]
pub struct Store {
    pub kind: StoreKind,
    pub path: PathBuf,
    #[serde(with = "duration")]
    pub log_ttl: Duration,
    #[serde(with = "duration")]
    pub record_ttl: Duration,
    pub log_bytes_per_user: ByteSize,
    pub min_free: ByteSize,
    #[serde(with = "duration")]
    pub sync: Duration,
    pub redis_url: ServerUrls,
    pub partitions: u32,
    #[serde(with = "duration")]
    pub timeout: Duration,
    pub log_bytes: ByteSize,
    pub key_prefix: String,
    #[serde(with = "duration")]
    pub max_clock_skew: Duration,
}

/// The kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// A database in `store.path`.
    Embedded,
    /// In memory; lost when the process ends.
    Memory,
    /// In Redis or Valkey, shared by any number of hubs.
    Redis,
}

/// `[webhook]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every key")]
pub struct Webhook {
    #[serde(serialize_with = "shown_url")]
    pub url: String,
    pub format: WebhookFormat,
    pub secrets: Vec<Secret>,
    pub causes: BTreeSet<Cause>,
    pub platforms: BTreeSet<Platform>,
    #[serde(with = "duration")]
    pub timeout: Duration,
    #[serde(with = "duration")]
    pub give_up_after: Duration,
    pub max_backlog: ByteSize,
    pub parallel: usize,
}

/// One of `[[webhooks]]`. What is left out has the built-in default of `[webhook]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every key")]
pub struct NamedWebhook {
    pub name: WebhookName,
    #[serde(serialize_with = "shown_url")]
    pub url: String,
    #[serde(default = "default_format")]
    pub format: WebhookFormat,
    #[serde(default)]
    pub secrets: Vec<Secret>,
    #[serde(default)]
    pub causes: BTreeSet<Cause>,
    #[serde(default)]
    pub platforms: BTreeSet<Platform>,
    #[serde(default = "default_timeout", with = "duration")]
    pub timeout: Duration,
    #[serde(default = "default_give_up_after", with = "duration")]
    pub give_up_after: Duration,
    #[serde(default = "default_parallel")]
    pub parallel: usize,
}

const fn default_format() -> WebhookFormat {
    WebhookFormat::Native
}

fn default_timeout() -> Duration {
    Config::default().webhook.timeout
}

fn default_give_up_after() -> Duration {
    Config::default().webhook.give_up_after
}

fn default_parallel() -> usize {
    Config::default().webhook.parallel
}

impl NamedWebhook {
    /// The same as a section without a name. `max_backlog` applies to all webhooks together.
    pub(super) fn section(&self, max_backlog: ByteSize) -> Webhook {
        Webhook {
            url: self.url.clone(),
            format: self.format,
            secrets: self.secrets.clone(),
            causes: self.causes.clone(),
            platforms: self.platforms.clone(),
            timeout: self.timeout,
            give_up_after: self.give_up_after,
            max_backlog,
            parallel: self.parallel,
        }
    }
}

/// The format of webhook requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WebhookFormat {
    /// Batches of events, signed as Standard Webhooks.
    Native,
    /// One `State.StateChange` callback for each event, as Tencent Cloud IM sends it.
    Tencent,
}

/// `[outgoing]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every key")]
pub struct OutgoingRequests {
    pub allow_private: bool,
}

/// `[tencent]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every key")]
pub struct Tencent {
    pub sdk_app_id: u64,
    pub secret_key: Secret,
    pub administrators: Vec<String>,
    pub callback_token: Secret,
    pub kick_sends_logout: bool,
    pub unknown_account_error: bool,
}

/// `[log]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every key")]
pub struct Log {
    pub format: LogFormat,
    pub filter: String,
}

/// `[traces]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every key")]
pub struct Traces {
    #[serde(serialize_with = "shown_url")]
    pub endpoint: String,
    pub headers: Vec<Secret>,
    pub sample: f64,
    pub service_name: String,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}
