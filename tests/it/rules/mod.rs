//! Tests of the rules of presence, by rule number: single cases, tables, and random lives.

mod away;
mod crashes;
mod groups;
mod held;
mod lives;
mod model;
mod nodes;
mod policies;
mod quota;
mod sessions;
mod transitions;
mod views;
mod visibility;

pub(crate) use self::lives::live;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use presence_hub::presence::{
    Answer, BackgroundReason, Cause, ConnectionId, DeviceId, EndReason, Event, EventId, EventKind,
    Intent, Kicker, LogQuota, Login, LoginPolicy, Moment, NodeId, Origin, Outcome, Platform,
    Policy, Preset, Record, Refusal, SessionId, Stall, State, Target, Timestamp, Watchable,
    Windows, step,
};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

const NATIVE: [Platform; 6] = [
    Platform::Android,
    Platform::Ios,
    Platform::Ipad,
    Platform::Windows,
    Platform::Mac,
    Platform::Linux,
];
const MOBILE: [Platform; 3] = [Platform::Android, Platform::Ios, Platform::Ipad];

/// A session and its current connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seat {
    platform: Platform,
    device: &'static str,
    session: SessionId,
    connection: ConnectionId,
}

impl Seat {
    fn origin(self) -> Origin {
        Origin { session: self.session, connection: self.connection }
    }
}

/// One user over time. Every step is checked against the invariants in [`check`].
#[derive(Debug, Clone)]
struct Life {
    record: Record,
    policy: Policy,
    now: Timestamp,
    /// How far the wall clock is ahead of the process's own time.
    ahead: Duration,
    /// The node on which the next event happens.
    node: NodeId,
    heard: Vec<(ConnectionId, Timestamp)>,
    stalls: Vec<Stall>,
    serial: u64,
    /// The outcome of the last event.
    last: Outcome,
}

impl Life {
    fn of(preset: Preset) -> Self {
        Self::under(LoginPolicy::preset(preset))
    }

    fn under(login: LoginPolicy) -> Self {
        let policy = Policy {
            login,
            windows: Windows::default(),
            record_ttl: 30 * DAY,
            max_token_ttl: 365 * DAY,
            log_quota: LogQuota { bytes: 16 * 1024 * 1024, within: 7 * DAY },
            default_watch: Watchable::new(vec!["*".into()]),
        };
        let nothing = Record::default();
        Self {
            policy,
            now: Timestamp::from_millis(1_780_000_000_000),
            ahead: 3 * 3600 * SECOND,
            node: NodeId(1),
            heard: Vec::new(),
            stalls: Vec::new(),
            serial: 0,
            last: Outcome {
                record: nothing.clone(),
                transitions: Vec::new(),
                effects: presence_hub::presence::Effects::default(),
                answer: Answer::Done,
            },
            record: nothing,
        }
    }

    fn wall(&self) -> Timestamp {
        self.now + self.ahead
    }

    fn moment(&self) -> Moment {
        Moment {
            node: self.node,
            now: self.now,
            wall: self.wall(),
            stalls: self.stalls.as_slice().into(),
            heard: self.heard.clone(),
        }
    }

    fn number(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn wait(&mut self, by: Duration) {
        self.now = self.now + by;
    }

    /// Records a stall of the hub.
    fn stall(&mut self, from: Timestamp, by: Duration) {
        self.stalls.push(Stall { from, until: from + by });
    }

    /// Waits for a window to end; asserts that it does not end early and that a late tick gives the same
    /// result. Returns the causes.
    fn lasts(&mut self, window: Duration) -> Vec<Cause> {
        self.wait(window - MILLI);
        self.tick();
        assert!(self.last.transitions.is_empty(), "{window:?} ended early: {:?}", self.last);
        let mut late = self.clone();
        late.wait(2 * MILLI);
        late.tick();
        self.wait(MILLI);
        self.tick();
        assert_eq!(late.causes(), self.causes(), "a tick may be late");
        self.causes()
    }

    fn apply(&mut self, kind: EventKind) -> Answer {
        let id = EventId(self.number().into());
        self.send(&Event { id, kind })
    }

    fn send(&mut self, event: &Event) -> Answer {
        let moment = self.moment();
        self.last = step(&self.record, event, &self.policy, &moment);
        check(&self.record, event, &self.last, &self.policy, &moment);
        self.record = self.last.record.clone();
        self.last.answer.clone()
    }

    /// Makes a login of a device on a new connection, with a new session id and a new token.
    fn fresh_login(&mut self, platform: Platform, device: &str, intent: Intent) -> Login {
        Login {
            session: SessionId(self.number().into()),
            connection: ConnectionId { node: self.node, serial: self.number() },
            address: None,
            platform,
            device: named(device),
            intent,
            custom: None,
            activity: None,
            app: None,
            token_until: self.now + 300 * DAY,
            issued_at_secs: self.wall().as_secs(),
        }
    }

    fn enter(
        &mut self,
        platform: Platform,
        device: &'static str,
        intent: Intent,
    ) -> Result<Seat, Refusal> {
        let login = self.fresh_login(platform, device, intent);
        let connection = login.connection;
        let answer = self.apply(EventKind::Login(Box::new(login)));
        if let Answer::Refused(refusal) = answer {
            return Err(refusal);
        }
        let Answer::Admitted { session, .. } = answer else { panic!("to a login: {answer:?}") };
        Ok(Seat { platform, device, session, connection })
    }

    fn login(&mut self, platform: Platform, device: &'static str) -> Seat {
        self.enter(platform, device, Intent::New).expect("a login")
    }

    /// Resumes a session on a new connection.
    fn resume(&mut self, seat: Seat) -> Result<Seat, Refusal> {
        self.enter(seat.platform, seat.device, Intent::Resume(Some(seat.session)))
    }

    fn close(&mut self, seat: Seat) -> Answer {
        self.apply(EventKind::Closed { origin: seat.origin(), close_code: Some(1006) })
    }

    fn silence(&mut self, seat: Seat) -> Answer {
        let deadline = self.now;
        self.apply(EventKind::Silent { origin: seat.origin(), deadline })
    }

    fn logout(&mut self, seat: Seat) -> Answer {
        self.apply(EventKind::Logout(seat.origin()))
    }

    /// Returns the time until the deadline, if there is one.
    fn background(&mut self, seat: Seat, reason: BackgroundReason) -> Option<Duration> {
        let answer = self.apply(EventKind::Background { origin: seat.origin(), reason });
        let Answer::Background { deadline } = answer else { panic!("to background: {answer:?}") };
        deadline.map(|at| at - self.now)
    }

    fn foreground(&mut self, seat: Seat) -> Answer {
        self.apply(EventKind::Foreground(seat.origin()))
    }

    fn idle(&mut self, seat: Seat, untouched: Duration) -> Answer {
        self.apply(EventKind::Idle { origin: seat.origin(), untouched })
    }

    fn active(&mut self, seat: Seat) -> Answer {
        self.apply(EventKind::Active(seat.origin()))
    }

    fn set(&mut self, origin: Option<Seat>, custom: Option<&str>) -> Answer {
        let origin = origin.map(Seat::origin);
        self.apply(EventKind::Set { origin, custom: Some(custom.map(Into::into)), hidden: None })
    }

    fn kick(&mut self, target: Target) -> Answer {
        self.apply(EventKind::Kick { target, by: Kicker::Admin { message: None } })
    }

    fn tick(&mut self) {
        assert_eq!(self.apply(EventKind::Tick), Answer::Done);
    }

    fn hear(&mut self, seat: Seat) {
        self.heard.push((seat.connection, self.wall()));
    }

    fn state(&self) -> State {
        self.record.state()
    }

    fn stands(&self, seat: Seat) -> bool {
        self.record.terminal(seat.session).is_some()
    }

    /// The causes of the last event's transitions.
    fn causes(&self) -> Vec<Cause> {
        self.last.transitions.iter().map(|transition| transition.cause).collect()
    }

    /// The connections that the last event ended.
    fn ends(&self) -> Vec<(ConnectionId, EndReason)> {
        self.last.effects.ends.iter().map(|end| (end.connection, end.why)).collect()
    }

    /// The sessions that the last event kicked.
    fn kicked(&self) -> Vec<SessionId> {
        let (Answer::Admitted { kicked, .. } | Answer::Kicked { kicked, .. }) = &self.last.answer
        else {
            panic!("the answer has no kicked terminals: {:?}", self.last.answer)
        };
        kicked.iter().map(|victim| victim.session).collect()
    }
}

fn named(device: &str) -> DeviceId {
    device.parse().expect("a device id")
}

/// Checks the invariants of a step.
fn check(before: &Record, event: &Event, outcome: &Outcome, policy: &Policy, moment: &Moment) {
    let after = &outcome.record;
    let again = step(after, event, policy, moment);
    assert_eq!(again.record, *after, "a second time changes nothing");
    assert_eq!((&again.effects, &again.answer), (&outcome.effects, &outcome.answer));
    if before.recent.iter().any(|applied| applied.event == event.id) {
        assert!(*after == *before && outcome.transitions.is_empty(), "a repeat changes nothing");
        return;
    }
    check_log(before, event, outcome);
    check_terminals(before, event, after);
    check_due(before, policy, moment);
}

/// V1, V2, V5, V6: the log is a chain, its versions grow, and it has every visible change.
fn check_log(before: &Record, event: &Event, outcome: &Outcome) {
    let after = outcome.record.status();
    let (mut state, mut version) = (before.state(), before.version);
    for transition in &outcome.transitions {
        assert_eq!(transition.from, state, "each continues from the last: {transition:?}");
        assert!(transition.version > version, "versions grow: {transition:?}");
        (state, version) = (transition.to, transition.version);
        assert!(transition.status.looks_like(&after) && transition.status.version == version);
        assert_eq!(transition.by.is_some(), transition.cause == Cause::Kicked);
    }
    assert_eq!(state, after.state, "nothing changes without a cause");
    assert!(after.state == State::Offline || after.version > 0);
    assert!(after.state != State::Offline || after.custom.is_none());
    assert!(after.state != State::Online || after.last_seen.is_none());
    let is_forgotten = after.version == 0;
    // Nothing of an Offline user is left to tell of.
    let is_erased = event.kind == EventKind::Erase && outcome.transitions.is_empty();
    if !is_forgotten && !is_erased {
        assert_eq!(after.version, version);
        let is_recalled =
            matches!(event.kind, EventKind::Recall { .. }) && outcome.answer == Answer::Done;
        let is_visible = is_recalled
            || !after.looks_like(&before.status())
            || outcome.record.visibility != before.visibility;
        assert_eq!(outcome.effects.status_changed, is_visible);
    }
}

/// S2, L7: only phones are `PushOnline`, session ids are unique, and a resume ends no other session.
fn check_terminals(before: &Record, event: &Event, after: &Record) {
    let sessions: BTreeSet<_> = after.terminals.iter().map(|t| t.session).collect();
    assert_eq!(sessions.len(), after.terminals.len());
    for terminal in &after.terminals {
        assert!(terminal.state() == State::Online || MOBILE.contains(&terminal.platform));
    }
    let EventKind::Login(login) = &event.kind else { return };
    let gone = before.terminals.iter().filter(|t| !sessions.contains(&t.session));
    for terminal in gone.filter(|_| login.intent != Intent::New) {
        let own = terminal.platform == login.platform && terminal.device == login.device;
        assert!(own && terminal.state() == State::PushOnline, "a resume ended {terminal:?}");
    }
}

/// A tick changes the record if and only if the record says that one is due.
fn check_due(record: &Record, policy: &Policy, moment: &Moment) {
    let is_due = |record: &Record| {
        let mut own = record.deadlines().filter(|(node, _)| *node == moment.node);
        own.any(|(_, at)| at <= moment.now)
            || record.wall_deadline(policy).is_some_and(|at| at <= moment.wall)
    };
    let tick = Event { id: EventId(u128::MAX), kind: EventKind::Tick };
    let after = step(record, &tick, policy, moment).record;
    assert_eq!(is_due(record), after != *record, "a tick is due only if it changes something");
    assert!(!is_due(&after), "one tick is enough");
}
