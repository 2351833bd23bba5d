//! The names of spans and attributes. Those of HTTP are OpenTelemetry's semantic conventions.
#![expect(missing_docs, reason = "deploy/README.md explains them")]

pub const LOGIN: &str = "presence.login";
pub const LOGIN_OUTCOME: &str = "presence.login.outcome";
pub const LOGIN_RESUMED: &str = "presence.login.resumed";
pub const PLATFORM: &str = "presence.platform";

pub const KICK: &str = "presence.kick";
pub const KICK_REASON: &str = "presence.kick.reason";
pub const KICK_COUNT: &str = "presence.kick.count";

pub const WEBHOOK_NAME: &str = "presence.webhook.name";
pub const WEBHOOK_EVENTS: &str = "presence.webhook.events";

pub const ERROR_TYPE: &str = "error.type";
pub const HTTP_METHOD: &str = "http.request.method";
pub const HTTP_ROUTE: &str = "http.route";
pub const HTTP_STATUS: &str = "http.response.status_code";
pub const SERVER_ADDRESS: &str = "server.address";
pub const SERVER_PORT: &str = "server.port";
pub const URL: &str = "url.full";
