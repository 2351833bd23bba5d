//! What an operator decides: every key, checked, and what each part of the hub makes of it.
//!
//! The repository's `config.toml` is the default, built in; a file and the environment override it.

mod check;
mod keys;
mod read;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize, Serializer};

pub use self::read::{Fault, Faults, Loaded, load};
use crate::auth::{Algorithm, Rate, TokenRules, UserSigVerifier, Verifier, WatchList};
use crate::duration;
use crate::http;
use crate::presence::{
    Groups, LoginPolicy, OnConflict, Platform, Policy, PolicyFault, Preset, WebTabs, Windows,
};
use crate::session;
use crate::store::Retention;
use crate::webhook;

/// The default, as the repository documents it.
pub const DEFAULT: &str = include_str!("../config.toml");

/// What is shown in place of a secret.
const HIDDEN: &str = "(hidden)";
/// How long a receiver of Tencent Cloud IM's callbacks may take to answer.
const TENCENT_TIMEOUT: Duration = Duration::from_secs(2);

/// Every setting; `config.toml` says what each means.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every key")]
pub struct Config {
    pub server: Server,
    pub auth: Auth,
    pub login: Login,
    pub liveness: Liveness,
    pub limits: Limits,
    pub store: Store,
    pub webhook: Webhook,
    pub tencent: Tencent,
    pub log: Log,
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
    #[serde(with = "duration")]
    pub slow_consumer: Duration,
    pub changes_per_user_per_minute: u32,
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
    #[serde(with = "duration")]
    pub sync: Duration,
}

/// Where records live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// In a database of the hub's own, in its directory.
    Embedded,
    /// In the process, and lost with it.
    Memory,
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
    #[serde(with = "duration")]
    pub timeout: Duration,
    #[serde(with = "duration")]
    pub give_up_after: Duration,
    pub max_backlog: ByteSize,
    pub parallel: usize,
}

/// What a webhook's requests look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WebhookFormat {
    /// Batches of events, signed as Standard Webhooks.
    Native,
    /// One `State.StateChange` callback each, as Tencent Cloud IM sends it.
    Tencent,
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

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// A text that is never shown.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.0.is_empty() { "" } else { HIDDEN })
    }
}

impl Default for Config {
    /// What the built-in default says.
    fn default() -> Self {
        toml::from_str(DEFAULT)
            .unwrap_or_else(|error| unreachable!("the built-in default: {error}"))
    }
}

impl Config {
    /// The rules in force.
    ///
    /// # Errors
    ///
    /// As [`LoginPolicy::new`].
    pub fn policy(&self) -> Result<Policy, Vec<PolicyFault>> {
        let liveness = &self.liveness;
        Ok(Policy {
            login: self.login_policy()?,
            windows: Windows {
                web_ping: liveness.web_ping,
                web_silence: liveness.web_silence,
                native_ping: liveness.native_ping,
                native_silence: liveness.native_silence,
                background: liveness.background,
                exit: liveness.exit,
                push_online_ttl: liveness.push_online_ttl,
                web_close_grace: liveness.web_close_grace,
            },
            record_ttl: self.store.record_ttl,
            max_token_ttl: self.auth.max_token_ttl,
        })
    }

    /// Where events are posted to; nowhere where there is no URL.
    ///
    /// # Errors
    ///
    /// The key that is wrong, and why.
    pub fn webhook(&self) -> Result<Option<webhook::Settings>, (&'static str, String)> {
        let Webhook { url, secrets, timeout, give_up_after, parallel, .. } = &self.webhook;
        let secret = |(name, secret): (String, &Secret)| {
            let text = secret.expose();
            let fault = keys::malformed(text).map(|fault| format!("{name} {fault}"));
            let parse = || webhook::Secret::parse(text).map_err(|e| format!("{name}: {e}"));
            fault.map_or_else(parse, Err).map_err(|message| ("webhook.secrets", message))
        };
        let secrets: Result<Vec<_>, _> =
            keys::entries("webhook.secrets", secrets).map(secret).collect();
        let secrets = secrets?;
        if url.is_empty() {
            return Ok(None);
        }
        let url = webhook_url(url).map_err(|message| ("webhook.url", message))?;
        let (format, timeout) = match self.webhook.format {
            WebhookFormat::Native => (webhook::Format::Native(secrets), *timeout),
            WebhookFormat::Tencent => {
                let tencent = webhook::Tencent {
                    sdk_app_id: self.tencent.sdk_app_id,
                    token: self.tencent.callback_token.expose().to_owned(),
                    kick_sends_logout: self.tencent.kick_sends_logout,
                };
                (webhook::Format::Tencent(tencent), (*timeout).min(TENCENT_TIMEOUT))
            }
        };
        let (give_up_after, parallel) = (*give_up_after, *parallel);
        Ok(Some(webhook::Settings { url, format, timeout, give_up_after, parallel }))
    }

    /// How long the log keeps what.
    pub const fn retention(&self) -> Retention {
        Retention {
            log_ttl: self.store.log_ttl,
            backlog_bytes_max: self.webhook.max_backlog.as_u64(),
        }
    }

    fn login_policy(&self) -> Result<LoginPolicy, Vec<PolicyFault>> {
        let login = &self.login;
        let groups = match login.policy {
            PolicyName::Single => Groups::Preset(Preset::Single),
            PolicyName::Dual => Groups::Preset(Preset::Dual),
            PolicyName::Triple => Groups::Preset(Preset::Triple),
            PolicyName::Multi => Groups::Preset(Preset::Multi),
            PolicyName::Custom => Groups::Custom(login.groups.clone()),
        };
        let instances: Vec<_> =
            login.max_instances.iter().map(|(platform, count)| (*platform, *count)).collect();
        let mut policy = LoginPolicy::new(groups, &instances, login.miniprogram_as_web)?;
        policy.on_conflict = login.on_conflict;
        policy.web_tabs = login.web_tabs;
        Ok(policy)
    }

    /// What a token must satisfy.
    pub fn token_rules(&self) -> TokenRules {
        TokenRules {
            algorithm: self.auth.algorithm,
            issuer: self.auth.issuer.clone(),
            audience: self.auth.audience.clone(),
            leeway: self.auth.leeway,
            max_ttl: self.auth.max_token_ttl,
            default_watch: WatchList::new(self.auth.default_watch.clone()),
        }
    }

    /// The Tencent Cloud IM application whose back end may call, if any.
    pub fn tencent(&self) -> Option<http::Tencent> {
        let Tencent { sdk_app_id, secret_key, administrators, unknown_account_error, .. } =
            &self.tencent;
        (*sdk_app_id != 0).then(|| http::Tencent {
            verifier: UserSigVerifier::new(*sdk_app_id, secret_key.expose()),
            administrators: administrators.clone(),
            unknown_account_error: *unknown_account_error,
        })
    }

    /// What connections are held to; `verifier` checks their tokens.
    pub fn session(&self, verifier: Arc<Verifier>) -> session::Settings {
        session::Settings {
            verifier,
            login_timeout: self.login.timeout,
            message_bytes_max: self.server.max_message_bytes,
            subscriptions: self.limits.subscriptions,
            messages: self.message_rate(),
            changes: self.change_rate(),
            slow_consumer: self.limits.slow_consumer,
        }
    }

    /// How often a connection may send a message.
    const fn message_rate(&self) -> Rate {
        let Limits { messages_per_second, message_burst, .. } = self.limits;
        Rate { burst: message_burst, per: messages_per_second, interval: Duration::from_secs(1) }
    }

    /// How often an address may open a connection.
    pub const fn connection_rate(&self) -> Rate {
        let Limits { connections_per_address_per_second, connection_burst, .. } = self.limits;
        Rate {
            burst: connection_burst,
            per: connections_per_address_per_second,
            interval: Duration::from_secs(1),
        }
    }

    /// How often a user may change.
    const fn change_rate(&self) -> Rate {
        let per = self.limits.changes_per_user_per_minute;
        Rate { burst: per, per, interval: Duration::from_secs(60) }
    }
}

/// Shows a URL without what may be secret in it: name and password, query and fragment.
fn shown_url<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    let Ok(url) = reqwest::Url::parse(text) else {
        // Nothing says which part of it is the secret one.
        return serializer.serialize_str(if text.is_empty() { "" } else { HIDDEN });
    };
    let mut plain = url.clone();
    plain.set_query(None);
    plain.set_fragment(None);
    let has_user = !url.username().is_empty() || url.password().is_some();
    // One that cannot have a name or a password has none to be removed.
    plain.set_username("").and(plain.set_password(None)).ok();
    let mut shown = plain.to_string();
    if has_user {
        shown = shown.replacen("://", &format!("://{HIDDEN}@"), 1);
    }
    for (sign, is_there) in [('?', url.query().is_some()), ('#', url.fragment().is_some())] {
        if is_there {
            shown = format!("{shown}{sign}{HIDDEN}");
        }
    }
    serializer.serialize_str(&shown)
}

/// Reads where a webhook is posted to.
fn webhook_url(text: &str) -> Result<reqwest::Url, String> {
    let url = reqwest::Url::parse(text)
        .map_err(|_| "expected a whole URL, such as https://app.example.com/presence")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("expected a URL with http or https, not {}", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        let message = "a URL with a name or a password is not supported, because URLs stand in logs: \
                       remove them, and let the receiver check the signature (webhook.secrets)";
        return Err(message.into());
    }
    Ok(url)
}
