//! A record while a step changes it, with the transitions and effects collected so far.

use std::sync::Arc;

use super::record::{ENDED_MAX, ENDED_TTL, RECENT_EVENTS_MAX};
use super::visibility::Frozen;
use super::{
    Activity, Answer, Cause, Effects, End, EndReason, Ended, Event, EventId, EventKind, Evidence,
    Kicker, Link, Loss, Moment, NodeId, Origin, Outcome, Policy, RecentEvent, Record, Refusal,
    Revocation, SessionId, State, Status, Terminal, TerminalChange, Timestamp, Transition, Victim,
    Visibility, VisibilityChange, entry_bytes,
};

/// A record while a step changes it.
pub(super) struct Draft<'a> {
    pub(super) event: EventId,
    pub(super) policy: &'a Policy,
    pub(super) node: NodeId,
    pub(super) now: Timestamp,
    pub(super) wall: Timestamp,
    pub(super) original: &'a Record,
    pub(super) before: Status,
    /// When any terminal was last heard, including terminals that this step ends.
    pub(super) last_heard: Option<Timestamp>,
    pub(super) record: Record,
    /// Whether the event is a recall: the record keeps its times, and watchers are told in any case.
    pub(super) is_recalled: bool,
    /// Whether the event erases the user.
    pub(super) is_erased: bool,
    pub(super) transitions: Vec<Transition>,
    pub(super) effects: Effects,
}

impl<'a> Draft<'a> {
    pub(super) fn new(
        record: &'a Record,
        event: &Event,
        policy: &'a Policy,
        moment: &Moment,
    ) -> Self {
        let dead =
            if let EventKind::NodeLost { node, .. } = event.kind { Some(node) } else { None };
        let mut next = record.clone();
        for terminal in &mut next.terminals {
            let node = terminal.connection.node;
            // Only the other node knows when it last heard its connection. That was less than a silence window
            // ago, so the present is close enough.
            if terminal.link == Link::Connected && node != moment.node && Some(node) != dead {
                terminal.heard = moment.wall;
            }
            for (connection, heard) in &moment.heard {
                if terminal.is_on(*connection) {
                    terminal.heard = *heard;
                }
            }
        }
        Self {
            event: event.id,
            policy,
            node: moment.node,
            now: moment.now,
            wall: moment.wall,
            original: record,
            before: record.status(),
            last_heard: next.terminals.iter().map(|terminal| terminal.heard).max(),
            record: next,
            is_recalled: false,
            is_erased: false,
            transitions: Vec::new(),
            effects: Effects::default(),
        }
    }

    /// Finds the terminal of an event's session, unless it has left the event's connection (T16).
    pub(super) fn index_of(&self, origin: Origin) -> Option<usize> {
        let speaks = |t: &Terminal| t.session == origin.session && t.is_on(origin.connection);
        self.record.terminals.iter().position(speaks)
    }

    /// Whether the user has filled the quota of the log, so that changes that can wait are refused (V7).
    pub(super) fn is_over_quota(&self) -> bool {
        let quota = &self.policy.log_quota;
        self.record.log_use.is_some_and(|it| it.present(quota, self.now) >= quota.bytes)
    }

    /// Converts a time on the process's own time to the wall clock.
    pub(super) fn to_wall(&self, at: Timestamp) -> Timestamp {
        at.shifted(self.wall.as_millis().cast_signed() - self.now.as_millis().cast_signed())
    }

    /// Revokes tokens issued before this second. Tokens that an earlier kick revoked stay revoked,
    /// even if another node's clock is behind or `max_token_ttl` was shortened since (L9).
    pub(super) fn revoke(&mut self) {
        let revoked = Revocation {
            before_secs: self.wall.as_secs(),
            until: self.wall + self.policy.max_token_ttl,
        };
        self.record.revoked = Revocation::stricter(self.record.revoked, Some(revoked));
    }

    pub(super) fn change_custom(&mut self, by: Option<usize>, custom: Option<&Arc<str>>) {
        if self.record.custom.as_ref() == custom {
            return;
        }
        let by = by.map(|index| &self.record.terminals[index]);
        let change =
            by.map(|terminal| change(terminal, Some(terminal.state()), Some(terminal.state())));
        let address = by.and_then(|terminal| terminal.address);
        self.record.custom = custom.cloned();
        self.log(Cause::Custom, change, Evidence { address, ..Evidence::default() });
    }

    /// Changes who may see the user; logged only if it changes anything.
    pub(super) fn change_visibility(
        &mut self,
        by: Option<usize>,
        wanted: &VisibilityChange,
    ) -> Answer {
        let before = self.record.visibility.as_deref().cloned().unwrap_or_default();
        let frozen = Frozen::of(&self.record.status(), self.wall, self.version_after(0));
        let Some(after) = before.clone().changed(wanted, frozen, self.wall) else {
            return Answer::Refused(Refusal::TooManyBlocked);
        };
        if after == before {
            return Answer::Done;
        }
        let view = after.view();
        self.record.visibility = (after != Visibility::default()).then(|| Box::new(after));
        let by = by.map(|index| &self.record.terminals[index]);
        let terminal = by.map(|it| change(it, Some(it.state()), Some(it.state())));
        let address = by.and_then(|terminal| terminal.address);
        self.log(Cause::Visibility, terminal, Evidence { address, ..Evidence::default() });
        if let Some(logged) = self.transitions.last_mut() {
            logged.visibility = Some(Box::new(view));
        }
        Answer::Done
    }

    /// The version of the transition with this place in the commit (V2).
    fn version_after(&self, place: u64) -> u64 {
        self.record.version.max(self.now.as_millis().saturating_sub(1)) + 1 + place
    }

    /// Takes a terminal out of `Online`: a mobile one becomes `PushOnline`, any other ends (S2).
    pub(super) fn lose(&mut self, index: usize, cause: Cause, evidence: Evidence) {
        let terminal = &mut self.record.terminals[index];
        if !terminal.platform.is_mobile() {
            return self.end(index, cause, evidence);
        }
        terminal.link = Link::Push { until: self.wall + self.policy.windows.push_online_ttl };
        terminal.since = self.wall;
        terminal.background = None;
        if !terminal.activity.is_idle() {
            terminal.activity = Activity::default();
        }
        let (heard, address) = (Some(terminal.heard), terminal.address);
        let evidence = Evidence { heard, address, ..evidence };
        let change = change(terminal, Some(State::Online), Some(State::PushOnline));
        self.log(cause, Some(change), evidence);
    }

    pub(super) fn end(&mut self, index: usize, cause: Cause, evidence: Evidence) {
        let terminal = self.record.terminals.remove(index);
        let close_code = match terminal.link {
            Link::Lost { how: Loss::Closed(close_code), .. } => close_code,
            Link::Lost { .. } | Link::Connected | Link::Push { .. } => evidence.close_code,
        };
        let background = terminal.background.map(|background| background.reason);
        let heard = Some(terminal.heard);
        let evidence =
            Evidence { heard, address: terminal.address, close_code, background, ..evidence };
        self.log(cause, Some(change(&terminal, Some(terminal.state()), None)), evidence);
    }

    pub(super) fn kick_all(
        &mut self,
        sessions: &[SessionId],
        by: &Kicker,
        why: EndReason,
    ) -> Vec<Victim> {
        let mut victims = Vec::new();
        for &session in sessions {
            let Some(terminal) = self.expel(session, by, why) else { continue };
            let (heard, address) = (Some(terminal.heard), terminal.address);
            let evidence = Evidence { heard, address, ..Evidence::default() };
            self.log(
                Cause::Kicked,
                Some(change(&terminal, Some(terminal.state()), None)),
                evidence,
            );
            victims.push(Victim {
                platform: terminal.platform,
                device: terminal.device,
                session: terminal.session,
            });
        }
        victims
    }

    /// Removes a kicked or replaced terminal, remembers its session so that a resume is refused (L7),
    /// and ends its connection.
    pub(super) fn expel(
        &mut self,
        session: SessionId,
        by: &Kicker,
        why: EndReason,
    ) -> Option<Terminal> {
        let index = self.record.terminals.iter().position(|t| t.session == session)?;
        let terminal = self.record.terminals.remove(index);
        self.effects.kick = Some(Box::new((by.clone(), self.wall)));
        if terminal.link == Link::Connected {
            self.effects.ends.push(End { connection: terminal.connection, why });
        }
        self.record.ended.push_back(Ended {
            session,
            platform: terminal.platform,
            device: terminal.device.clone(),
            until: self.now + ENDED_TTL,
        });
        Some(terminal)
    }

    pub(super) fn log(
        &mut self,
        cause: Cause,
        terminal: Option<TerminalChange>,
        evidence: Evidence,
    ) {
        let place = u8::try_from(self.transitions.len()).unwrap_or(u8::MAX);
        let kick = self.effects.kick.as_ref().filter(|_| cause == Cause::Kicked);
        let by = kick.map(|kick| kick.0.clone());
        self.transitions.push(Transition {
            id: (self.event, place),
            at: self.wall,
            cause,
            version: 0,
            from: self.before.state,
            to: self.before.state,
            terminal,
            status: Status::default(),
            by,
            kicked: Vec::new(),
            evidence,
            visibility: None,
        });
    }

    /// Completes the status and gives each transition its version. Only the last transition changes
    /// the user's state, and each one carries the status after the whole commit (V6).
    pub(super) fn finish(mut self, answer: Answer) -> Outcome {
        let state = self.record.state();
        if self.transitions.is_empty() {
            return self.finish_unlogged(answer);
        }
        if state == State::Offline {
            self.record.custom = None;
        }
        if state != self.before.state && !self.is_recalled {
            self.record.since = Some(self.wall);
        }
        if self.before.state == State::Online && !self.is_recalled {
            // A time in the future was recorded before the wall clock was set back.
            let earlier = self.record.last_seen.filter(|at| *at <= self.wall);
            self.record.last_seen = earlier.max(self.last_heard);
        }
        if self.is_erased {
            self.erase_all_but_version();
        }
        let first = self.version_after(0);
        let status = self.record.status();
        let mut version = first;
        for (transition, next) in self.transitions.iter_mut().zip(first..) {
            version = next;
            transition.version = version;
            transition.status = Status { version, ..status.clone() };
        }
        if let Some(last) = self.transitions.last_mut() {
            last.to = state;
        }
        self.record.version = version;
        self.record.unlogged = 0;
        if !self.is_erased {
            let log_use = self.record.log_use.unwrap_or_default();
            let new = self.transitions.iter().map(entry_bytes).sum();
            self.record.log_use = Some(log_use.with(new, &self.policy.log_quota, self.now));
        }
        self.effects.status_changed = self.is_recalled
            || !status.looks_like(&self.before)
            || self.record.visibility != self.original.visibility;
        self.remember(answer)
    }

    fn erase_all_but_version(&mut self) {
        let Record { version, unlogged, revoked, recent, .. } = std::mem::take(&mut self.record);
        self.record = Record { version, unlogged, revoked, recent, ..Record::default() };
    }

    fn finish_unlogged(mut self, answer: Answer) -> Outcome {
        if self.is_erased {
            self.erase_all_but_version();
            self.record.unlogged += 1;
            return self.remember(answer);
        }
        let only_heard = self.record.terminals.len() == self.original.terminals.len()
            && self
                .record
                .terminals
                .iter()
                .zip(&self.original.terminals)
                .all(|(new, old)| Terminal { heard: old.heard, ..new.clone() } == *old);
        let unchanged = only_heard
            && self.record.revoked == self.original.revoked
            && self.record.version == self.original.version;
        if unchanged && self.effects == Effects::default() {
            let record = self.original.clone();
            return Outcome { record, transitions: Vec::new(), effects: self.effects, answer };
        }
        self.record.unlogged = self.record.unlogged.saturating_add(1);
        self.remember(answer)
    }

    /// Remembers the event's result for a retry, and drops entries that have expired.
    fn remember(mut self, answer: Answer) -> Outcome {
        let now = self.now;
        self.record.ended.retain(|ended| ended.until > now);
        let excess = self.record.ended.len().saturating_sub(ENDED_MAX);
        self.record.ended.drain(..excess);
        self.record.recent.truncate(RECENT_EVENTS_MAX - 1);
        self.record.recent.push_front(RecentEvent {
            event: self.event,
            effects: self.effects.clone(),
            answer: (answer != Answer::Done).then(|| Box::new(answer.clone())),
        });
        let Record { version, revoked, visibility, unknown, .. } = &self.record;
        if *version == 0 && revoked.is_none() && visibility.is_none() && unknown.is_empty() {
            self.record = Record::default();
        }
        Outcome {
            record: self.record,
            transitions: self.transitions,
            effects: self.effects,
            answer,
        }
    }
}

pub(super) fn change(
    terminal: &Terminal,
    from: Option<State>,
    to: Option<State>,
) -> TerminalChange {
    TerminalChange {
        platform: terminal.platform,
        device: terminal.device.clone(),
        session: terminal.session,
        from,
        to,
    }
}
