//! Converts the configuration into the settings of each part of the hub.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use url::Url;

use super::at_start::AtStart;
use super::development::DevelopmentKeys;
use super::keys;
use super::secret::Secret;
use super::sections::{
    Auth, Config, Limits, PolicyName, StoreKind, Tencent, Webhook, WebhookFormat,
};
use crate::auth::{ApiKeys, KeySource, Rate, TokenRules, UserSigVerifier, Verifier};
use crate::http::{self, Development, OriginRule, ProxyLogin, TrustedProxies};
use crate::outgoing;
use crate::presence::{
    Groups, LogQuota, LoginPolicy, Policy, PolicyFault, Preset, Watchable, Windows,
};
use crate::session;
use crate::store::{RedisSettings, Retention, WebhookName};
use crate::traces;
use crate::webhook;

/// The longest timeout for Tencent Cloud IM callbacks.
const TENCENT_TIMEOUT: Duration = Duration::from_secs(2);

/// The settings of each part of the hub that a reload can change.
pub struct Settings {
    /// The login and liveness rules.
    pub policy: Policy,
    /// The verifier and the limits of connections.
    pub session: session::Settings,
    /// The webhooks that have a URL.
    pub webhooks: BTreeMap<WebhookName, webhook::Settings>,
    /// The HTTP settings.
    pub http: http::Settings,
    /// The changed settings that need a restart.
    pub pending: Vec<&'static str>,
}

/// A setting of a valid configuration that cannot be applied: most often a file that has changed
/// since the check.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingFault(pub String);

impl Settings {
    /// Converts a configuration for a hub that was started with `at_start`; `made` are the keys that
    /// development mode generated.
    ///
    /// # Errors
    ///
    /// The setting that cannot be applied, and why.
    pub fn of(
        config: &Config,
        made: Option<&DevelopmentKeys>,
        at_start: &AtStart,
    ) -> Result<Self, SettingFault> {
        let source = match (config.key_source().map_err(SettingFault)?, made) {
            (Some(source), _) => source,
            (None, Some(made)) => KeySource::Secrets(vec![made.secret.clone().into_bytes()]),
            (None, None) => {
                let message = "auth.secrets is empty now, but a hub that was started with a secret \
                               cannot change to development mode: set one, or restart the hub";
                return Err(SettingFault(message.into()));
            }
        };
        let verifier = Verifier::new(&source, config.token_rules()).map_err(fault)?;
        let policy = config.policy().map_err(|faults| {
            let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
            SettingFault(faults.join("; "))
        })?;
        let webhooks = config.webhook_settings();
        let (shown, pending) = at_start.in_effect(config);
        Ok(Self {
            policy,
            session: config.session(Arc::new(verifier)),
            webhooks: webhooks
                .map_err(|(key, message)| SettingFault(format!("{key}: {message}")))?,
            http: config.http(made, at_start.max_connections(), shown)?,
            pending,
        })
    }
}

fn fault(error: impl std::fmt::Display) -> SettingFault {
    SettingFault(error.to_string())
}

impl Config {
    /// The login and liveness rules.
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
            default_watch: Watchable::new(self.auth.default_watch.clone()),
            record_ttl: self.store.record_ttl,
            max_token_ttl: self.auth.max_token_ttl,
            log_quota: LogQuota {
                bytes: self.store.log_bytes_per_user.as_u64(),
                within: self.store.log_ttl,
            },
        })
    }

    /// The sections of all webhooks, each with its key.
    pub(super) fn webhook_sections(&self) -> Vec<(String, WebhookName, Webhook)> {
        let unnamed = ("webhook".to_owned(), WebhookName::UNNAMED, self.webhook.clone());
        let named = self.webhooks.iter().enumerate().map(|(n, named)| {
            (format!("webhooks[{n}]"), named.name.clone(), named.section(self.webhook.max_backlog))
        });
        [unnamed].into_iter().chain(named).collect()
    }

    /// The settings of the webhooks that have a URL.
    fn webhook_settings(
        &self,
    ) -> Result<BTreeMap<WebhookName, webhook::Settings>, (String, String)> {
        let made = self.webhook_sections().into_iter().map(|(key, name, section)| {
            match self.webhook_of(&key, &section) {
                Ok(settings) => Ok(settings.map(|settings| (name, settings))),
                Err((field, message)) => Err((format!("{key}.{field}"), message)),
            }
        });
        made.filter_map(Result::transpose).collect()
    }

    /// A webhook's settings; `None` if its URL is empty.
    ///
    /// # Errors
    ///
    /// The invalid field, and a message.
    pub(super) fn webhook_of(
        &self,
        key: &str,
        section: &Webhook,
    ) -> Result<Option<webhook::Settings>, (&'static str, String)> {
        let Webhook { url, secrets, timeout, give_up_after, parallel, .. } = section;
        let secret = |(name, secret): (String, &Secret)| {
            let text = secret.expose();
            let fault = keys::malformed(text).map(|fault| format!("{name} {fault}"));
            let parse = || webhook::SigningSecret::parse(text).map_err(|e| format!("{name}: {e}"));
            fault.map_or_else(parse, Err).map_err(|message| ("secrets", message))
        };
        let secrets: Result<Vec<_>, _> =
            keys::entries(&format!("{key}.secrets"), secrets).map(secret).collect();
        let secrets = secrets?;
        if url.is_empty() {
            return Ok(None);
        }
        let url = url_of(url, "https://app.example.com/presence", self.outgoing.allow_private)
            .map_err(|message| ("url", message))?;
        let (format, timeout) = match section.format {
            WebhookFormat::Native => (webhook::Format::Native(secrets), *timeout),
            WebhookFormat::Tencent => {
                let tencent = webhook::TencentCallbacks {
                    sdk_app_id: self.tencent.sdk_app_id,
                    token: self.tencent.callback_token.expose().to_owned(),
                    kick_sends_logout: self.tencent.kick_sends_logout,
                };
                (webhook::Format::Tencent(tencent), (*timeout).min(TENCENT_TIMEOUT))
            }
        };
        let (give_up_after, parallel) = (*give_up_after, *parallel);
        let filter = webhook::Filter {
            causes: section.causes.clone(),
            platforms: section.platforms.clone(),
        };
        Ok(Some(webhook::Settings { url, format, filter, timeout, give_up_after, parallel }))
    }

    /// Where the spans of traces are posted; `None` for no traces.
    ///
    /// # Errors
    ///
    /// The invalid key, and a message.
    pub fn trace_settings(&self) -> Result<Option<traces::Settings>, (&'static str, String)> {
        let section = &self.traces;
        let headers = keys::entries("traces.headers", &section.headers).map(|(name, header)| {
            header_of(header.expose()).ok_or_else(|| {
                let message = "expected a header's name, a colon and its value, as in \
                               \"authorization: Bearer ...\"";
                ("traces.headers", format!("{name}: {message}"))
            })
        });
        let headers = headers.collect::<Result<_, _>>()?;
        if section.endpoint.is_empty() {
            return Ok(None);
        }
        let allow_private = self.outgoing.allow_private;
        let endpoint = url_of(&section.endpoint, "http://127.0.0.1:4318/v1/traces", allow_private)
            .map_err(|message| ("traces.endpoint", message))?;
        let (sample, service_name) = (section.sample, section.service_name.clone());
        Ok(Some(traces::Settings { endpoint, headers, sample, service_name, allow_private }))
    }

    /// How much the transition log keeps.
    pub const fn retention(&self) -> Retention {
        Retention {
            log_ttl: self.store.log_ttl,
            backlog_bytes_max: self.webhook.max_backlog.as_u64(),
        }
    }

    /// How to use Redis.
    pub fn redis(&self) -> RedisSettings {
        let store = &self.store;
        RedisSettings {
            urls: store.redis_url.expose().to_vec(),
            partitions: store.partitions,
            timeout: store.timeout,
            log_bytes: store.log_bytes.as_u64(),
            key_prefix: store.key_prefix.clone(),
            max_clock_skew: store.max_clock_skew,
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

    /// The requirements on tokens.
    pub fn token_rules(&self) -> TokenRules {
        TokenRules {
            algorithm: self.auth.algorithm,
            issuer: self.auth.issuer.clone(),
            audience: self.auth.audience.clone(),
            leeway: self.auth.leeway,
            max_ttl: self.auth.max_token_ttl,
        }
    }

    /// The Tencent Cloud IM application whose back end may call `/v4`, if any.
    fn tencent(&self) -> Option<http::TencentApplication> {
        let Tencent { sdk_app_id, secret_key, administrators, unknown_account_error, .. } =
            &self.tencent;
        (*sdk_app_id != 0).then(|| http::TencentApplication {
            verifier: UserSigVerifier::new(*sdk_app_id, secret_key.expose()),
            administrators: administrators.clone(),
            unknown_account_error: *unknown_account_error,
        })
    }

    /// The settings of connections; `verifier` checks their tokens.
    fn session(&self, verifier: Arc<Verifier>) -> session::Settings {
        session::Settings {
            verifier,
            login_timeout: self.login.timeout,
            message_bytes_max: self.server.max_message_bytes,
            subscriptions: self.limits.subscriptions,
            self_service: self.visibility.self_service,
            messages: self.message_rate(),
            changes: self.change_rate(),
            work: self.work_rate(),
            bad_logins: self.bad_login_rate(),
            lookups: self.lookup_rate(),
            slow_consumer: self.limits.slow_consumer,
        }
    }

    /// The rate limit on messages from one connection.
    const fn message_rate(&self) -> Rate {
        let Limits { messages_per_second, message_burst, .. } = self.limits;
        Rate { burst: message_burst, per: messages_per_second, interval: Duration::from_secs(1) }
    }

    /// The rate limit on new connections from one address.
    const fn connection_rate(&self) -> Rate {
        let Limits { connections_per_address_per_second, connection_burst, .. } = self.limits;
        Rate {
            burst: connection_burst,
            per: connections_per_address_per_second,
            interval: Duration::from_secs(1),
        }
    }

    /// The rate limit on changes of one user.
    const fn change_rate(&self) -> Rate {
        let per = self.limits.changes_per_user_per_minute;
        Rate { burst: per, per, interval: Duration::from_secs(60) }
    }

    /// The rate limit on the work of one connection.
    const fn work_rate(&self) -> Rate {
        let Limits { work_per_second, work_burst, .. } = self.limits;
        Rate { burst: work_burst, per: work_per_second, interval: Duration::from_secs(1) }
    }

    /// The rate limit on logins of one address with tokens that the hub's keys did not sign.
    const fn bad_login_rate(&self) -> Rate {
        let per = self.limits.bad_logins_per_minute;
        Rate { burst: per, per, interval: Duration::from_secs(60) }
    }

    /// The rate limit on the ids that one user names in subscriptions and queries.
    const fn lookup_rate(&self) -> Rate {
        let Limits { lookups_per_user_per_minute, lookups_burst, .. } = self.limits;
        let interval = Duration::from_secs(60);
        Rate { burst: lookups_burst, per: lookups_per_user_per_minute, interval }
    }

    /// The rate limit on the requests of one key to the server API.
    const fn request_rate(&self) -> Rate {
        let Limits { requests_per_key_per_second, request_burst, .. } = self.limits;
        let interval = Duration::from_secs(1);
        Rate { burst: request_burst, per: requests_per_key_per_second, interval }
    }

    /// The login at the dashboard by a proxy with single sign-on; `None` for none.
    ///
    /// # Errors
    ///
    /// The invalid key, and a message.
    pub(super) fn proxy_login(&self) -> Result<Option<ProxyLogin>, (&'static str, String)> {
        let Auth { proxy_user_header, proxy_role_header, proxy_admins, proxy_viewers, .. } =
            &self.auth;
        ProxyLogin::parse(proxy_user_header, proxy_role_header, proxy_admins, proxy_viewers)
    }

    /// The HTTP settings; `shown` is every setting in effect, secrets hidden.
    fn http(
        &self,
        made: Option<&DevelopmentKeys>,
        max_connections: usize,
        shown: serde_json::Value,
    ) -> Result<http::Settings, SettingFault> {
        let server = &self.server;
        let wrong = |faults: Vec<String>| SettingFault(faults.join("; "));
        let development = made.map(|made| Development {
            keys: ApiKeys::new(&[], std::slice::from_ref(&made.dev_key), &[]),
            secret: made.secret.clone().into_bytes(),
            rules: self.token_rules(),
        });
        Ok(http::Settings {
            origins: OriginRule::parse(&server.allowed_origins).map_err(wrong)?,
            trusted_proxies: TrustedProxies::parse(&server.trusted_proxies).map_err(wrong)?,
            max_connections,
            connections_per_address: self.connection_rate(),
            sockets_per_address: self.limits.sockets_per_address,
            keys: self.api_keys(made.map(|made| made.admin_key.as_str())),
            requests_per_key: self.request_rate(),
            watch_list: self.limits.watch_list,
            streams_per_key: self.limits.streams_per_key,
            proxy_login: self
                .proxy_login()
                .map_err(|(key, message)| SettingFault(format!("{key}: {message}")))?,
            tencent: self.tencent(),
            development,
            config: Arc::new(shown),
            defaults: Arc::new(serde_json::to_value(Self::default()).map_err(fault)?),
            metrics_apart: !server.metrics_listen.is_empty(),
            data: (self.store.kind == StoreKind::Embedded).then(|| self.store.path.clone()),
            cookie: http::cookie_name(&self.hub_identity()),
            handshake_timeout: server.handshake_timeout,
            keep_alive: server.keep_alive,
        })
    }
}

/// Parses and checks a URL that the hub posts to.
fn url_of(text: &str, example: &str, allow_private: bool) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|_| format!("expected a full URL, such as {example}"))?;
    outgoing::check(&url, allow_private)?;
    Ok(url)
}

/// Parses a header that is written as `name: value`.
fn header_of(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once(':')?;
    let value = value.trim();
    let is_valid = HeaderName::from_bytes(name.as_bytes()).is_ok()
        && HeaderValue::from_str(value).is_ok()
        && !value.is_empty();
    is_valid.then(|| (name.to_owned(), value.to_owned()))
}
