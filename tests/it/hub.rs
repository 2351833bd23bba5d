//! The hub over the memory store: races, several nodes, and stores that fail.

mod damage;
mod deadlines;
mod draining;
mod fanout;
mod faults;
mod frail;
mod held;
mod lookups;
mod nodes;
mod quota;
mod races;
mod reconcile;
mod takeover;
mod tasks;
mod watching;

use std::collections::{BTreeMap, BTreeSet};

use futures::FutureExt;
use presence_hub::hub::Hub;
use presence_hub::presence::{
    Audience, ConnectionId, EventKind, Intent, Login, NodeId, Notice, Platform, Record, SessionId,
    State, Status, UserId,
};
use presence_hub::store::{Commit, MemoryStore, Message, Records, Store};

use crate::lab::id;
use crate::store_contract::commit_of;

/// A login of a device on a platform, by a connection without an actor.
fn login(hub: &Hub, platform: Platform, device: &str, serial: u64) -> (SessionId, EventKind) {
    login_at(hub, hub.node(), platform, device, serial)
}

/// The same on another node.
fn login_at(
    hub: &Hub,
    node: NodeId,
    platform: Platform,
    device: &str,
    serial: u64,
) -> (SessionId, EventKind) {
    let session = hub.new_session();
    let now = hub.clock().now();
    let login = Login {
        session,
        connection: ConnectionId { node, serial },
        address: None,
        platform,
        device: device.parse().expect("a device"),
        intent: Intent::New,
        custom: None,
        activity: None,
        app: None,
        token_until: now + crate::lab::TOKEN_TTL,
        issued_at_secs: now.as_secs(),
    };
    (session, EventKind::Login(Box::new(login)))
}

/// Sends more messages than can be pending, so that every node misses some.
fn overflow(store: &MemoryStore) {
    let user = id("nobody");
    for version in 1..=2000 {
        let status = Status { version, ..Status::default() };
        let notices = vec![Notice { status, to: Audience::Everyone }];
        let message = Message { notices, ..Message::about(user.clone()) };
        let record = Record { version, ..Record::default() };
        let commit =
            Commit { node: NodeId(0), message: Some(message), ..commit_of(record, Vec::new()) };
        let base = store.load(&user).now_or_never().expect("at once").expect("a record");
        let committed = store.commit(&user, &base, commit).now_or_never();
        committed.expect("at once").expect("a commit");
    }
}

/// Checks V2 and V5 on the whole log: each entry of a user begins with the state of the one before, has
/// a greater version, and occurs once. The last entry matches the record.
async fn assert_chained(store: &dyn Store) {
    let log = store.entries(None, usize::MAX).await.expect("the log");
    let mut last: BTreeMap<UserId, (State, u64)> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for entry in log {
        let transition = entry.transition().expect("a transition");
        assert!(ids.insert(transition.id), "logged twice: {transition:?}");
        let before = last.get(&entry.user).copied();
        let (state, version) = before.unwrap_or((State::Offline, 0));
        assert_eq!(transition.from, state, "{transition:?}");
        assert!(transition.version > version, "{transition:?}");
        assert_eq!(transition.status.version, transition.version, "{transition:?}");
        last.insert(entry.user, (transition.to, transition.version));
    }
    for (user, before) in last {
        let record = store.load(&user).await.expect("a record").record;
        assert_eq!((record.state(), record.version), before, "{user}");
    }
}
