//! A client: a small model of the SDK.

use std::collections::BTreeMap;
use std::time::Duration;

use presence_hub::presence::{Platform, SessionId};
use presence_hub::wire::Close;
use serde_json::{Value, json};

use super::node::{Node, silence_window};
use super::wire::Wire;
use crate::support::Heard;

/// The ids of a client's requests.
const LOGIN: u64 = 1;
const SUBSCRIBE: u64 = 2;
const LOGOUT: u64 = 3;
const CHANGE: u64 = 4;

/// How long a client waits for the answer to its login.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client waits before it subscribes again.
const SUBSCRIBE_AGAIN: Duration = Duration::from_secs(1);
/// The longest pause before a reconnect, in milliseconds.
const PAUSE_MS_MAX: u64 = 2000;
/// From this close code on, a client does not reconnect on its own.
const FINAL: u16 = 4500;

/// The number of a node: nodes are never forgotten.
pub(super) type NodePlace = usize;

/// A device of a user.
pub(super) struct Client {
    pub(super) user: String,
    pub(super) platform: Platform,
    device: String,
    /// Whom it watches.
    watches: Vec<String>,
    /// Whether its user wants to be logged in.
    pub(super) wants_in: bool,
    /// The session that it resumes; `""` names none.
    pub(super) session: Option<String>,
    pub(super) connection: Option<Connection>,
    /// When it connects again.
    pub(super) retry_at: Duration,
    /// When its session was first hidden.
    pub(super) hidden_at: Option<Duration>,
    /// When its last connection was given up.
    pub(super) absence: Option<Absence>,
}

/// How a client lost its connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Absence {
    pub(super) node: NodePlace,
    /// When the client spoke last.
    pub(super) spoke_at: Duration,
    /// Whether the hub could only notice the silence.
    pub(super) is_silent: bool,
}

/// A client's connection.
pub(super) struct Connection {
    pub(super) node: NodePlace,
    pub(super) wire: Wire,
    since: Duration,
    heard_at: Duration,
    pub(super) spoke_at: Duration,
    /// Whether the login was accepted.
    pub(super) is_in: bool,
    /// The last status of each watched user that this connection was told.
    pub(super) told: BTreeMap<String, Value>,
    subscribe_at: Option<Duration>,
}

/// What the world must know of what a client heard.
pub(super) enum Notice {
    /// It is logged in; its session was continued, or not.
    In {
        resumed: bool,
        absence: Option<Absence>,
    },
    Wrong(String),
}

impl Client {
    pub(super) fn new(user: String, platform: Platform, device: String) -> Self {
        Self {
            user,
            platform,
            device,
            watches: Vec::new(),
            wants_in: false,
            session: None,
            connection: None,
            retry_at: Duration::ZERO,
            hidden_at: None,
            absence: None,
        }
    }

    /// A client that watches users all the time.
    pub(super) fn watcher(name: String, watches: Vec<String>) -> Self {
        let client = Self::new(name.clone(), Platform::Linux, name);
        Self { watches, wants_in: true, ..client }
    }

    pub(super) fn name(&self) -> String {
        format!("{} on {}", self.user, self.device)
    }

    pub(super) fn is_watcher(&self) -> bool {
        !self.watches.is_empty()
    }

    /// The session that it is logged in with.
    pub(super) fn session_id(&self) -> Option<SessionId> {
        self.session.as_ref()?.parse().ok()
    }

    pub(super) fn is_in(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.is_in)
    }

    /// Whether it has subscribed to everybody whom it watches.
    pub(super) fn is_subscribed(&self) -> bool {
        self.connection.as_ref().is_some_and(|it| it.told.len() == self.watches.len())
    }

    /// Connects to a node, and logs in or resumes.
    pub(super) fn connect(&mut self, place: NodePlace, node: &Node, now: Duration) {
        let (platform, device) = (self.platform.name(), &self.device);
        let (wire, mut hello) =
            node.within(|lab| (Wire::connect(lab), lab.hello(&self.user, platform)));
        hello["id"] = json!(LOGIN);
        hello["device"] = json!(device);
        if let Some(session) = &self.session {
            hello["resume"] = json!(session);
        }
        wire.send(hello);
        let (is_in, told, subscribe_at) = (false, BTreeMap::new(), None);
        let times = (now, now, now);
        let (since, heard_at, spoke_at) = times;
        self.connection = Some(Connection {
            node: place,
            wire,
            since,
            heard_at,
            spoke_at,
            is_in,
            told,
            subscribe_at,
        });
    }

    /// Gives the connection up, and connects again after a pause.
    pub(super) fn give_up(&mut self, is_silent: bool, retry_at: Duration) {
        let Some(Connection { node, spoke_at, is_in, .. }) = self.connection.take() else { return };
        // A login that got no answer may have been executed, and the hub ends it when it notices the close.
        self.absence = is_in.then_some(Absence { node, spoke_at, is_silent });
        self.retry_at = retry_at;
    }

    /// Its network is lost: the hub hears nothing more.
    pub(super) fn fall_silent(&mut self, retry_at: Duration) {
        if let Some(connection) = &self.connection {
            connection.wire.fall_silent();
        }
        self.give_up(true, retry_at);
    }

    /// Its user wants to log in.
    pub(super) fn begin(&mut self) {
        self.wants_in = true;
        (self.session, self.absence) = (None, None);
    }

    /// Sends a request, other than login, logout and subscribe.
    pub(super) fn ask(&self, mut request: Value) {
        request["id"] = json!(CHANGE);
        if let Some(connection) = &self.connection {
            connection.wire.send(request);
        }
    }

    pub(super) fn hide(&mut self, now: Duration) {
        self.hidden_at.get_or_insert(now);
        self.ask(json!({ "type": "background" }));
    }

    pub(super) fn log_out(&mut self) {
        self.wants_in = false;
        if let Some(connection) = &self.connection {
            connection.wire.send(json!({ "type": "logout", "id": LOGOUT }));
        }
    }

    /// Handles what its connection heard; `pause` is a random number.
    pub(super) fn look(&mut self, now: Duration, pause: u64) -> Vec<Notice> {
        let retry_at = now + Duration::from_millis(pause % PAUSE_MS_MAX);
        let mut notices = Vec::new();
        let Some(connection) = &mut self.connection else { return notices };
        let line = connection.wire.look();
        if line.has_heard {
            connection.heard_at = now;
        }
        if line.has_spoken {
            connection.spoke_at = now;
        }
        for heard in line.heard {
            match heard {
                Heard::Message(message) => notices.extend(self.hear(&message, now)),
                Heard::Closed(code) => self.closed(code, retry_at),
                Heard::Gone => self.give_up(false, retry_at),
            }
        }
        self.check_patience(now, retry_at);
        notices
    }

    /// Gives up a hub that says nothing, and subscribes again if that failed.
    fn check_patience(&mut self, now: Duration, retry_at: Duration) {
        let window = silence_window(self.platform);
        let Some(connection) = &mut self.connection else { return };
        let is_late = !connection.is_in && now - connection.since > LOGIN_TIMEOUT;
        if is_late || now - connection.heard_at > window {
            // The hub notices that the socket is closed, at the latest when it goes on.
            return self.give_up(false, retry_at);
        }
        if connection.subscribe_at.is_some_and(|at| at <= now) {
            connection.subscribe_at = None;
            self.subscribe();
        }
    }

    fn subscribe(&self) {
        let subscribe = json!({ "type": "subscribe", "id": SUBSCRIBE, "users": self.watches });
        if let Some(connection) = &self.connection {
            connection.wire.send(subscribe);
        }
    }

    fn closed(&mut self, code: u16, retry_at: Duration) {
        let earlier = self.absence.filter(|_| !self.is_in());
        self.give_up(false, retry_at);
        if code == Close::Unavailable.code() {
            // A session that was resumed nevertheless is held for it (T3).
            self.absence = self.absence.or(earlier);
        }
        if code >= FINAL || code == Close::LoggedOut.code() {
            self.wants_in = self.is_watcher();
            self.session = None;
        } else if code == Close::Moved.code() {
            self.session = Some(String::new());
        }
    }

    fn hear(&mut self, message: &Value, now: Duration) -> Option<Notice> {
        match (message["type"].as_str(), message["id"].as_u64()) {
            (Some("reply"), Some(id)) => self.hear_reply(id, message, now),
            (Some("status"), _) => self.hear_status(message),
            _ => None,
        }
    }

    fn hear_reply(&mut self, id: u64, reply: &Value, now: Duration) -> Option<Notice> {
        let connection = self.connection.as_mut()?;
        let ok = reply.get("ok");
        match id {
            LOGIN => {
                let ok = ok?;
                connection.is_in = true;
                self.hidden_at = None;
                self.session = Some(ok["session"].as_str().expect("a session").to_owned());
                if self.is_watcher() {
                    self.subscribe();
                }
                let absence = self.absence.take();
                Some(Notice::In { resumed: ok["resumed"] == true, absence })
            }
            SUBSCRIBE => {
                match ok.and_then(|ok| ok["statuses"].as_array()) {
                    None => connection.subscribe_at = Some(now + SUBSCRIBE_AGAIN),
                    Some(statuses) => {
                        let told = statuses.iter().map(|status| (user_of(status), status.clone()));
                        connection.told.extend(told);
                    }
                }
                None
            }
            // The store cannot end the session: its client leaves.
            LOGOUT if ok.is_none() => {
                self.give_up(false, now);
                None
            }
            _ => None,
        }
    }

    /// V2: on one connection, the versions of a user's pushed statuses grow.
    fn hear_status(&mut self, push: &Value) -> Option<Notice> {
        let connection = self.connection.as_mut()?;
        let user = user_of(push);
        let before = connection.told.insert(user, push.clone())?;
        let grows = before["version"].as_u64() < push["version"].as_u64();
        let wrong = || format!("V2: {} was told {push} after {before}", self.name());
        (!grows).then(wrong).map(Notice::Wrong)
    }
}

fn user_of(status: &Value) -> String {
    status["user"].as_str().expect("a user").to_owned()
}
