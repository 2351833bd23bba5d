//! Checks values that have the right type: ranges, formats, and settings that conflict.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytesize::ByteSize;
use tracing_subscriber::EnvFilter;

use super::fault::FaultsByKey;
use super::sections::{Config, NamedWebhook, PolicyName, Webhook, WebhookFormat};
use crate::duration;
use crate::http::{Certificate, OriginRule, TrustedProxies};
use crate::presence::{Platform, PolicyFault};

/// The smallest `max_message_bytes`: a login with a token of usual size must fit.
const MESSAGE_BYTES_MIN: usize = 1024;

/// The smallest quota of the log for a user.
const LOG_BYTES_MIN: u64 = 64 * 1024;

/// The least size of the log in Redis.
const REDIS_LOG_MIN: ByteSize = ByteSize::mib(16);
/// How many partitions there may be.
const PARTITIONS: RangeInclusive<u32> = 16..=1024;

/// The most webhook requests in flight.
const PARALLEL_MAX: usize = 64;

impl Config {
    /// Every fault: the keys involved, and a message.
    pub(super) fn faults(&self) -> Vec<(Vec<String>, String)> {
        let found = [
            self.windows(),
            self.login_faults(),
            self.signing_faults(),
            self.key_faults(),
            self.server(),
            self.tls_faults(),
            self.proxy_login_faults(),
            self.store_faults(),
            self.webhook_faults(),
            self.trace_faults(),
            self.positive(),
        ];
        let named = found
            .concat()
            .into_iter()
            .map(|(keys, message)| (keys.into_iter().map(str::to_owned).collect(), message));
        self.policy_faults().into_iter().chain(named).collect()
    }

    fn windows(&self) -> FaultsByKey {
        let live = &self.liveness;
        let pairs = [
            (["liveness.web_silence", "liveness.web_ping"], live.web_silence, live.web_ping),
            (
                ["liveness.native_silence", "liveness.native_ping"],
                live.native_silence,
                live.native_ping,
            ),
        ];
        let short = pairs.into_iter().filter(|(_, silence, ping)| *silence <= *ping * 2);
        short
            .map(|(keys, silence, ping)| {
                let [silence_key, ping_key] = keys;
                let (silence, twice) = (duration::format(silence), duration::format(ping * 2));
                let message = format!(
                    "{silence_key} must be longer than twice {ping_key}, or one lost ping ends a \
                     session: expected more than {twice}, got {silence}"
                );
                (keys.to_vec(), message)
            })
            .collect()
    }

    fn policy_faults(&self) -> Vec<(Vec<String>, String)> {
        let keys = |fault: &PolicyFault| {
            let keys = match fault {
                PolicyFault::Instances(_) | PolicyFault::SharedInstances => {
                    ["login.max_instances", "login.miniprogram_as_web"]
                }
                PolicyFault::Twice(_) | PolicyFault::Missing(_) => ["login.groups", "login.policy"],
                PolicyFault::PartedSlot => ["login.groups", "login.miniprogram_as_web"],
            };
            let entry = match fault {
                PolicyFault::Instances(platform) => Some(*platform),
                PolicyFault::SharedInstances => Some(Platform::MiniProgram),
                PolicyFault::Twice(_) | PolicyFault::Missing(_) | PolicyFault::PartedSlot => None,
            };
            let entry = entry.map(|platform| format!("login.max_instances.{platform}"));
            entry.into_iter().chain(keys.map(str::to_owned)).collect()
        };
        let faults = self.policy().err().unwrap_or_default();
        faults.iter().map(|fault| (keys(fault), fault.to_string())).collect()
    }

    fn login_faults(&self) -> FaultsByKey {
        let mut found = FaultsByKey::new();
        if !self.login.groups.is_empty() && self.login.policy != PolicyName::Custom {
            let message = "login.groups count only with login.policy = \"custom\": set that, or \
                           remove the groups";
            found.push((vec!["login.groups", "login.policy"], message.to_owned()));
        }
        found
    }

    fn server(&self) -> FaultsByKey {
        let server = &self.server;
        let mut found = FaultsByKey::new();
        let mut wrong = |key: &'static str, message: String| found.push((vec![key], message));
        let addresses = [
            ("server.listen", &server.listen),
            ("server.admin_listen", &server.admin_listen),
            ("server.plain_listen", &server.plain_listen),
            ("server.metrics_listen", &server.metrics_listen),
        ];
        for (key, text) in addresses {
            match text.parse::<SocketAddr>() {
                Err(_) if text.is_empty() && key != "server.listen" => (),
                Err(_) => wrong(
                    key,
                    format!(
                        "expected an IP address and a port such as \"127.0.0.1:7800\" or \
                         \"[::]:7800\", got {text:?}"
                    ),
                ),
                Ok(address) if self.is_development() && !address.ip().is_loopback() => {
                    let message = format!(
                        "other machines can reach `{text}`, and without a secret the hub is in \
                         development mode, which listens on loopback only: set auth.secrets, or \
                         listen on 127.0.0.1"
                    );
                    wrong(key, message);
                }
                Ok(_) => (),
            }
        }
        if server.production && self.is_development() {
            let message = "production needs a key that verifies tokens: set auth.secrets (HS256), or \
                           auth.algorithm with auth.public_keys or auth.jwks_url";
            wrong("server.production", message.into());
        }
        for message in OriginRule::parse(&server.allowed_origins).err().unwrap_or_default() {
            wrong("server.allowed_origins", message);
        }
        for message in TrustedProxies::parse(&server.trusted_proxies).err().unwrap_or_default() {
            wrong("server.trusted_proxies", message);
        }
        if server.max_message_bytes < MESSAGE_BYTES_MIN {
            let given = server.max_message_bytes;
            let message = format!(
                "expected {MESSAGE_BYTES_MIN} or more, because a login must fit, got {given}"
            );
            wrong("server.max_message_bytes", message);
        }
        if let Err(error) = EnvFilter::try_new(&self.log.filter) {
            let message = format!(
                "expected levels such as \"info\" or \"presence_hub=debug,warn\", got {:?} ({error})",
                self.log.filter
            );
            wrong("log.filter", message);
        }
        found
    }

    fn tls_faults(&self) -> FaultsByKey {
        let (certificate, key) = (&self.server.tls_certificate, &self.server.tls_key);
        let message = match (certificate.as_os_str().is_empty(), key.as_os_str().is_empty()) {
            (true, true) => None,
            (false, false) => {
                Certificate::load(certificate, key).err().map(|fault| fault.to_string())
            }
            (true, false) => Some("server.tls_certificate is missing: TLS needs both files".into()),
            (false, true) => Some("server.tls_key is missing: TLS needs both files".into()),
        };
        let keys = vec!["server.tls_certificate", "server.tls_key"];
        let mut found: FaultsByKey = message.map(|message| (keys, message)).into_iter().collect();
        let has_tls = !(certificate.as_os_str().is_empty() && key.as_os_str().is_empty());
        if !self.server.plain_listen.is_empty() && !has_tls {
            let message = "server.plain_listen is an address without TLS beside those with TLS, but \
                           the hub has no TLS: remove it, or set server.tls_certificate and \
                           server.tls_key";
            found.push((vec!["server.plain_listen"], message.into()));
        }
        found
    }

    /// Faults in the login at the dashboard by a proxy: who else could send its headers.
    fn proxy_login_faults(&self) -> FaultsByKey {
        match self.proxy_login() {
            Err((key, message)) => return vec![(vec![key], message)],
            Ok(None) => return FaultsByKey::new(),
            Ok(Some(_)) => (),
        }
        let mut found = FaultsByKey::new();
        if self.server.trusted_proxies.is_empty() {
            let message = "the login by a proxy's header needs the proxy's address: set \
                           server.trusted_proxies";
            found.push((vec!["auth.proxy_user_header", "server.trusted_proxies"], message.into()));
        }
        if self.server.admin_listen.is_empty() {
            let message = "the login by a proxy's header needs an address that no client reaches: set \
                           server.admin_listen, and let only the proxy with single sign-on pass \
                           requests on to it";
            found.push((vec!["auth.proxy_user_header", "server.admin_listen"], message.into()));
        }
        found
    }

    fn store_faults(&self) -> FaultsByKey {
        let store = &self.store;
        let mut found = FaultsByKey::new();
        let quota = store.log_bytes_per_user;
        if quota.as_u64() < LOG_BYTES_MIN {
            let message = format!(
                "expected {} or more, or a user could not even change devices a few times, got {quota}",
                ByteSize::b(LOG_BYTES_MIN)
            );
            found.push((vec!["store.log_bytes_per_user"], message));
        }
        if !PARTITIONS.contains(&store.partitions) || !store.partitions.is_power_of_two() {
            let message = format!(
                "expected a power of two from {} to {}, got {}",
                PARTITIONS.start(),
                PARTITIONS.end(),
                store.partitions
            );
            found.push((vec!["store.partitions"], message));
        }
        if store.log_bytes < REDIS_LOG_MIN {
            let message = format!("expected {REDIS_LOG_MIN} or more, got {}", store.log_bytes);
            found.push((vec!["store.log_bytes"], message));
        }
        if store.key_prefix.is_empty() || store.key_prefix.contains(['{', '}']) {
            // Redis Cluster takes what is in braces for the part of a key that chooses its server.
            let message = "expected a text without braces, such as \"presence-hub\"".to_owned();
            found.push((vec!["store.key_prefix"], message));
        }
        found
    }

    fn webhook_faults(&self) -> FaultsByKey {
        let mut found = FaultsByKey::new();
        let tencent = &self.tencent;
        for (key, name, section) in self.webhook_sections() {
            let faults = self.webhook_faults_of(&key, &section).into_iter();
            if key == "webhook" {
                found.extend(faults);
                continue;
            }
            found.extend(faults.map(|(fields, message)| {
                let field = fields.last().map_or("", |field| field.trim_start_matches("webhook."));
                (vec!["webhooks"], format!("{key}.{field} ({name}): {message}"))
            }));
        }
        found.extend(self.webhook_name_faults());
        if tencent.sdk_app_id != 0 && tencent.secret_key.expose().is_empty() {
            // With an empty key anybody could sign requests.
            let message = "the application's secret key is missing: set tencent.secret_key, or \
                           tencent.sdk_app_id = 0 for no compatible API";
            found.push((vec!["tencent.sdk_app_id", "tencent.secret_key"], message.into()));
        }
        found
    }

    /// What is wrong with one webhook. The keys are those of `[webhook]`.
    fn webhook_faults_of(&self, key: &str, webhook: &Webhook) -> FaultsByKey {
        let mut found = FaultsByKey::new();
        let made = self.webhook_of(key, webhook);
        let is_url_right = !matches!(made, Err(("url", _)));
        if let Err((field, message)) = made {
            let key = if field == "url" { "webhook.url" } else { "webhook.secrets" };
            found.push((vec![key], message));
        }
        let is_native = webhook.format == WebhookFormat::Native;
        if !webhook.url.is_empty() && is_url_right && is_native && webhook.secrets.is_empty() {
            let message = format!(
                "{key}.secrets is empty, so receivers could not verify the sender: add one, \
                 \"whsec_\" and what `openssl rand -base64 32` prints"
            );
            found.push((vec!["webhook.secrets", "webhook.url"], message));
        }
        if !is_native && self.tencent.sdk_app_id == 0 {
            let message = format!(
                "{key}.format = \"tencent\" needs the application's id: set tencent.sdk_app_id, \
                 which is 0"
            );
            found.push((vec!["tencent.sdk_app_id", "webhook.format"], message));
        }
        if !(1..=PARALLEL_MAX).contains(&webhook.parallel) {
            let message = format!("expected 1 to {PARALLEL_MAX}, got {}", webhook.parallel);
            found.push((vec!["webhook.parallel"], message));
        }
        let durations = [
            ("webhook.timeout", webhook.timeout),
            ("webhook.give_up_after", webhook.give_up_after),
        ];
        let durations = durations.into_iter().filter(|(_, value)| *value == Duration::ZERO);
        found.extend(durations.map(|(key, _)| (vec![key], "expected more than 0s, got 0s".into())));
        found
    }

    /// What is wrong with the names of `[[webhooks]]`, and URLs that are missing.
    fn webhook_name_faults(&self) -> FaultsByKey {
        let mut found = FaultsByKey::new();
        let mut known = BTreeSet::new();
        for (n, NamedWebhook { name, url, .. }) in self.webhooks.iter().enumerate() {
            if name.is_unnamed() {
                let message = format!("webhooks[{n}].name is empty; only [webhook] has no name");
                found.push((vec!["webhooks"], message));
            } else if !known.insert(name) {
                let message = format!("webhooks[{n}].name: another webhook is named \"{name}\"");
                found.push((vec!["webhooks"], message));
            }
            if url.is_empty() {
                let message = format!("webhooks[{n}].url is empty; remove this webhook, or set it");
                found.push((vec!["webhooks"], message));
            }
        }
        found
    }

    fn trace_faults(&self) -> FaultsByKey {
        let mut found = FaultsByKey::new();
        if let Err((key, message)) = self.trace_settings() {
            found.push((vec![key], message));
        }
        let sample = self.traces.sample;
        if !(0.0..=1.0).contains(&sample) {
            let message = format!("expected a share from 0 to 1, such as 0.01, got {sample}");
            found.push((vec!["traces.sample"], message));
        }
        if self.traces.service_name.trim().is_empty() {
            let message = "expected a name, such as \"presence-hub\"".to_owned();
            found.push((vec!["traces.service_name"], message));
        }
        found
    }

    /// Settings that must be greater than zero.
    fn positive(&self) -> FaultsByKey {
        let (live, limits) = (&self.liveness, &self.limits);
        let durations = [
            ("server.handshake_timeout", self.server.handshake_timeout),
            ("server.keep_alive", self.server.keep_alive),
            ("auth.max_token_ttl", self.auth.max_token_ttl),
            ("login.timeout", self.login.timeout),
            ("liveness.web_ping", live.web_ping),
            ("liveness.native_ping", live.native_ping),
            ("liveness.background", live.background),
            ("liveness.exit", live.exit),
            ("liveness.push_online_ttl", live.push_online_ttl),
            ("limits.slow_consumer", limits.slow_consumer),
            ("store.log_ttl", self.store.log_ttl),
            ("store.record_ttl", self.store.record_ttl),
            ("store.timeout", self.store.timeout),
        ];
        let counts = [
            ("server.max_connections", self.server.max_connections),
            ("limits.subscriptions", limits.subscriptions),
            ("limits.messages_per_second", limits.messages_per_second as usize),
            ("limits.message_burst", limits.message_burst as usize),
            (
                "limits.connections_per_address_per_second",
                limits.connections_per_address_per_second as usize,
            ),
            ("limits.connection_burst", limits.connection_burst as usize),
            ("limits.sockets_per_address", limits.sockets_per_address as usize),
            ("limits.bad_logins_per_minute", limits.bad_logins_per_minute as usize),
            ("limits.work_per_second", limits.work_per_second as usize),
            ("limits.work_burst", limits.work_burst as usize),
            ("limits.changes_per_user_per_minute", limits.changes_per_user_per_minute as usize),
            ("limits.lookups_per_user_per_minute", limits.lookups_per_user_per_minute as usize),
            ("limits.lookups_burst", limits.lookups_burst as usize),
            ("limits.watch_list", limits.watch_list),
            ("limits.requests_per_key_per_second", limits.requests_per_key_per_second as usize),
            ("limits.request_burst", limits.request_burst as usize),
            ("limits.streams_per_key", limits.streams_per_key),
        ];
        let durations = durations.into_iter().filter(|(_, value)| *value == Duration::ZERO);
        let durations = durations.map(|(key, _)| (key, "expected more than 0s, got 0s"));
        let counts = counts.into_iter().filter(|(_, value)| *value == 0);
        let counts = counts.map(|(key, _)| (key, "expected 1 or more, got 0"));
        durations.chain(counts).map(|(key, message)| (vec![key], message.to_owned())).collect()
    }
}
