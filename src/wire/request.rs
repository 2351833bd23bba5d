//! Parses the messages of clients.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{ErrorBody, ErrorCode, no_object, read_json, show_given};
use crate::presence::{BackgroundReason, Platform, UserId};

/// The maximum number of users in one `subscribe` or `query`.
pub const USERS_MAX: usize = 200;
/// The maximum size of `custom` and `app`.
pub const TEXT_BYTES_MAX: usize = 256;
/// The greatest request id: the greatest integer that JavaScript holds exactly.
const ID_MAX: u64 = (1 << 53) - 1;
const TEXT_BYTES_TOO_MANY: usize = TEXT_BYTES_MAX + 1;
/// The name of a client's message in error texts.
const MESSAGE: &str = "the message";
/// The valid values of `type`.
const TYPES: [&str; 17] = [
    "login",
    "subscribe",
    "unsubscribe",
    "query",
    "background",
    "foreground",
    "idle",
    "active",
    "set",
    "block",
    "unblock",
    "blocked",
    "refresh",
    "ping",
    "sessions",
    "kick",
    "logout",
];

/// A client's request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Log in or resume; must be the first request.
    Login(Box<LoginRequest>),
    /// Watch these users.
    Subscribe(Vec<String>),
    /// Watch the user's watch list, and get a page of it (P8).
    SubscribeList {
        /// The `next` of the page before.
        after: Option<UserId>,
    },
    /// Stop watching these users; `None` for all, and the watch list.
    Unsubscribe(Option<Vec<String>>),
    /// Get the statuses of these users.
    Query(Vec<String>),
    /// The app went to the background (T15).
    Background(BackgroundReason),
    /// The app came to the foreground (T15).
    Foreground,
    /// The user left the device alone (A2).
    Idle {
        /// For how long it was not touched.
        untouched: Duration,
    },
    /// The user is at the device again (A2).
    Active,
    /// Change the user's own status.
    Set {
        /// Sets (`Some(Some)`) or clears (`Some(None)`) the custom status.
        custom: Option<Option<Arc<str>>>,
        /// Whether the user is hidden (P2).
        hidden: Option<bool>,
    },
    /// Block these viewers (P3).
    Block(Vec<UserId>),
    /// Block these viewers no longer.
    Unblock(Vec<UserId>),
    /// List the blocked viewers.
    Blocked,
    /// Show a newer token (T10).
    Refresh(String),
    /// Check the connection.
    Ping,
    /// List the user's own terminals.
    Sessions,
    /// End another session of the same user.
    Kick(String),
    /// Log out (T2).
    Logout,
}

/// A login or a resume.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LoginRequest {
    /// The JWT.
    pub token: String,
    /// The platform of the client.
    pub platform: Platform,
    /// The device's id; required, but optional here because its absence has its own error code.
    #[serde(default)]
    pub device: Option<String>,
    /// The session to resume.
    #[serde(default)]
    pub resume: Option<String>,
    /// With `resume`: for how many milliseconds the device was not touched, if it is idle (A3).
    #[serde(default)]
    pub idle_ms: Option<u64>,
    /// The custom status to set or clear.
    #[serde(default, deserialize_with = "is_given")]
    pub custom: Option<Option<Arc<str>>>,
    /// A free text, shown on the dashboard.
    #[serde(default)]
    pub app: Option<Arc<str>>,
}

/// A message that is not a valid request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// The id to reply to, if it is valid.
    pub id: Option<u64>,
    /// What is wrong.
    pub error: ErrorBody,
    /// Whether it counts towards `protocol_violation`; an invalid field of a known type does not.
    pub counts: bool,
    /// Whether it is a login.
    pub is_login: bool,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    r#type: Option<&'a RawValue>,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
}

/// A text that is borrowed from the message, unless it contains escapes.
#[derive(Deserialize)]
struct JsonText<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Users {
    users: Vec<String>,
}

#[derive(Deserialize)]
struct Subscribe {
    users: Option<Vec<String>>,
    #[serde(default)]
    watch_list: bool,
    after: Option<String>,
}

#[derive(Deserialize)]
struct Unsubscribe {
    users: Option<Vec<String>>,
    #[serde(default)]
    all: bool,
}

#[derive(Deserialize)]
struct BackgroundFields {
    reason: Option<BackgroundReason>,
}

#[derive(Deserialize)]
struct Idle {
    for_ms: u64,
}

#[derive(Deserialize)]
struct Set {
    #[serde(default, deserialize_with = "is_given")]
    custom: Option<Option<Arc<str>>>,
    hidden: Option<bool>,
}

#[derive(Deserialize)]
struct Refresh {
    token: String,
}

#[derive(Deserialize)]
struct Kick {
    session: String,
}

/// Parses one message.
///
/// # Errors
///
/// If it is not a valid request; says what to reply.
pub fn parse(text: &str) -> Result<(u64, Request), Malformed> {
    let malformed = |id, message: String| Malformed {
        id,
        error: ErrorBody::new(ErrorCode::BadRequest, message),
        counts: true,
        is_login: false,
    };
    // Serde also accepts a list of values, in order, as the fields of a struct.
    if !text.trim_start().starts_with('{') {
        return Err(malformed(None, no_object(text, MESSAGE)));
    }
    let envelope: Envelope<'_> =
        read_json(text, MESSAGE).map_err(|message| malformed(None, message))?;
    let id =
        envelope.id.and_then(|raw| serde_json::from_str(raw.get()).ok()).filter(|id| *id <= ID_MAX);
    let JsonText(name) = envelope
        .r#type
        .and_then(|raw| serde_json::from_str(raw.get()).ok())
        .ok_or_else(|| malformed(id, expected("type", "a text", envelope.r#type)))?;

    let wrong_field = |id, message: String| Malformed {
        id,
        error: ErrorBody::new(ErrorCode::BadRequest, message),
        counts: false,
        is_login: name == "login",
    };
    let request = match request(&name, text) {
        Ok(request) => request,
        Err(Wrong::Type) => {
            let expected = TYPES.join(", ");
            let message = format!(
                "`type`: expected one of {expected}; got {}",
                show_given(&Value::from(&*name))
            );
            let error = ErrorBody::new(ErrorCode::UnknownType, message);
            return Err(Malformed { id, error, counts: true, is_login: false });
        }
        Err(Wrong::Field(message)) => return Err(wrong_field(id, message)),
    };
    match id {
        Some(id) => Ok((id, request)),
        None => {
            let message = expected("id", "a whole number from 0 to 2^53 - 1", envelope.id);
            Err(wrong_field(None, message))
        }
    }
}

/// The readable fields of a malformed login, to log whose it was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartialLogin {
    /// The token, if it is a text.
    pub token: Option<String>,
    /// The platform, if it is known.
    pub platform: Option<Platform>,
    /// The device's id, if it is a text.
    pub device: Option<String>,
}

impl PartialLogin {
    /// Reads the valid fields of a message.
    pub fn of(text: &str) -> Self {
        let fields: Value = serde_json::from_str(text).unwrap_or_default();
        let field = |name: &str| fields[name].as_str();
        Self {
            token: field("token").map(str::to_owned),
            platform: field("platform").and_then(|platform| platform.parse().ok()),
            device: field("device").map(str::to_owned),
        }
    }
}

enum Wrong {
    Type,
    Field(String),
}

fn request(name: &str, text: &str) -> Result<Request, Wrong> {
    Ok(match name {
        "login" => Request::Login(Box::new(login(text)?)),
        "subscribe" => subscribe(text)?,
        "unsubscribe" => match fields::<Unsubscribe>(text)? {
            Unsubscribe { all: true, .. } => Request::Unsubscribe(None),
            Unsubscribe { users: Some(users), .. } => Request::Unsubscribe(Some(users)),
            Unsubscribe { .. } => {
                let message = "`users` is missing: expected a list of user ids, or `all: true`";
                return Err(Wrong::Field(message.into()));
            }
        },
        "query" => Request::Query(users(text)?),
        "background" => {
            Request::Background(fields::<BackgroundFields>(text)?.reason.unwrap_or_default())
        }
        "foreground" => Request::Foreground,
        "idle" => {
            let Idle { for_ms } = fields(text)?;
            Request::Idle { untouched: Duration::from_millis(for_ms) }
        }
        "active" => Request::Active,
        "set" => {
            let Set { custom, hidden } = fields(text)?;
            bounded("custom", custom.as_ref().and_then(Option::as_deref))?;
            if custom.is_none() && hidden.is_none() {
                let message = "`custom` is missing: expected a text or null, or `hidden`";
                return Err(Wrong::Field(message.into()));
            }
            Request::Set { custom, hidden }
        }
        "block" => Request::Block(viewers(text)?),
        "unblock" => Request::Unblock(viewers(text)?),
        "blocked" => Request::Blocked,
        "refresh" => Request::Refresh(fields::<Refresh>(text)?.token),
        "ping" => Request::Ping,
        "sessions" => Request::Sessions,
        "kick" => Request::Kick(fields::<Kick>(text)?.session),
        "logout" => Request::Logout,
        _ => return Err(Wrong::Type),
    })
}

fn login(text: &str) -> Result<LoginRequest, Wrong> {
    let login: LoginRequest = fields(text)?;
    bounded("custom", login.custom.as_ref().and_then(Option::as_deref))?;
    bounded("app", login.app.as_deref())?;
    Ok(login)
}

fn subscribe(text: &str) -> Result<Request, Wrong> {
    match fields(text)? {
        Subscribe { users: Some(users), watch_list: false, .. } => {
            Ok(Request::Subscribe(counted(users)?))
        }
        Subscribe { users: None, watch_list: true, after } => {
            let after = after.map(|after| after.parse()).transpose();
            let after = after.map_err(|_| {
                Wrong::Field("`after`: expected the `next` of the answer before".into())
            })?;
            Ok(Request::SubscribeList { after })
        }
        Subscribe { users, .. } => {
            let what = if users.is_some() { "stands beside `watch_list`" } else { "is missing" };
            let expected = "expected a list of user ids, or `watch_list: true`";
            Err(Wrong::Field(format!("`users` {what}: {expected}")))
        }
    }
}

/// The users that a request is about, all of them valid ids.
fn viewers(text: &str) -> Result<Vec<UserId>, Wrong> {
    let valid = users(text)?.into_iter().map(|user| {
        let invalid = |error| {
            Wrong::Field(format!("`users`: {}: {error}", show_given(&user.as_str().into())))
        };
        user.parse().map_err(invalid)
    });
    valid.collect()
}

fn users(text: &str) -> Result<Vec<String>, Wrong> {
    let Users { users } = fields(text)?;
    counted(users)
}

fn counted(users: Vec<String>) -> Result<Vec<String>, Wrong> {
    if (1..=USERS_MAX).contains(&users.len()) {
        Ok(users)
    } else {
        let given = users.len();
        Err(Wrong::Field(format!("`users`: expected 1 to {USERS_MAX} ids, got {given}")))
    }
}

fn bounded(field: &str, text: Option<&str>) -> Result<(), Wrong> {
    match text.map(str::len) {
        Some(bytes @ TEXT_BYTES_TOO_MANY..) => {
            let expected = format!("expected a text of at most {TEXT_BYTES_MAX} bytes");
            Err(Wrong::Field(format!("`{field}`: {expected}, got {bytes} bytes")))
        }
        Some(_) | None => Ok(()),
    }
}

/// Says what a field should be, and what was given.
fn expected(field: &str, what: &str, raw: Option<&RawValue>) -> String {
    let Some(raw) = raw else { return format!("`{field}` is missing: expected {what}") };
    match serde_json::from_str(raw.get()) {
        Ok(given) => format!("`{field}`: expected {what}, got {}", show_given(&given)),
        Err(_) => format!("`{field}`: expected {what}, got a value that is not valid JSON"),
    }
}

fn fields<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Wrong> {
    read_json(text, MESSAGE).map_err(Wrong::Field)
}

/// Distinguishes a field that is `null` from a missing one.
fn is_given<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<Arc<str>>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
