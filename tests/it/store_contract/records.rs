//! Records and transitions as the rules make them.

use std::sync::Arc;

use presence_hub::presence::{
    ConnectionId, Event, EventId, EventKind, Intent, Link, LogQuota, Login, LoginPolicy, Moment,
    NodeId, Origin, Platform, Policy, Preset, Record, SessionId, Timestamp, Transition, Watchable,
    Windows, step,
};

use crate::lab::SECOND;

pub(crate) fn policy() -> Policy {
    Policy {
        login: LoginPolicy::preset(Preset::Multi),
        windows: Windows::default(),
        record_ttl: 30 * 24 * 3600 * SECOND,
        max_token_ttl: 365 * 24 * 3600 * SECOND,
        log_quota: LogQuota { bytes: 16 * 1024 * 1024, within: 7 * 24 * 3600 * SECOND },
        default_watch: Watchable::new(vec!["*".into()]),
    }
}

pub(crate) fn happens(
    record: &Record,
    kind: EventKind,
    at: Timestamp,
) -> (Record, Vec<Transition>) {
    let event = Event { id: EventId(rand::random()), kind };
    let (stalls, heard) = (Arc::default(), Vec::new());
    let moment = Moment { node: NodeId(1), now: at, wall: at, stalls, heard };
    let outcome = step(record, &event, &policy(), &moment);
    assert!(outcome.record != *record, "nothing came of {event:?}");
    (outcome.record, outcome.transitions)
}

/// The record after all connected sessions that were active have said that they are idle, or the other way round.
pub(crate) fn turned(record: &Record, at: Timestamp) -> (Record, Vec<Transition>) {
    let is_away = record.is_away();
    let (mut record, mut transitions) = (record.clone(), Vec::new());
    for place in 0..record.terminals.len() {
        let terminal = &record.terminals[place];
        let origin = Origin { session: terminal.session, connection: terminal.connection };
        if terminal.link != Link::Connected || terminal.activity.is_idle() != is_away {
            continue;
        }
        let word = match is_away {
            true => EventKind::Active(origin),
            false => EventKind::Idle { origin, untouched: SECOND },
        };
        let (next, more) = happens(&record, word, at);
        record = next;
        transitions.extend(more);
    }
    (record, transitions)
}

/// The record after a login on a platform.
pub(crate) fn logged_in(
    record: &Record,
    platform: Platform,
    at: Timestamp,
) -> (Record, Vec<Transition>) {
    let login = Login {
        session: SessionId(rand::random()),
        connection: ConnectionId { node: NodeId(1), serial: rand::random() },
        address: None,
        platform,
        device: platform.name().parse().expect("a device"),
        intent: Intent::New,
        custom: None,
        activity: None,
        app: None,
        token_until: at + 24 * 3600 * SECOND,
        issued_at_secs: at.as_secs(),
    };
    happens(record, EventKind::Login(Box::new(login)), at)
}

/// The record after its earliest session's connection was closed.
pub(crate) fn closed(record: &Record, at: Timestamp) -> (Record, Vec<Transition>) {
    let terminal = &record.terminals[0];
    let origin = Origin { session: terminal.session, connection: terminal.connection };
    happens(record, EventKind::Closed { origin, close_code: None }, at)
}
