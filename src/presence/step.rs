//! Applies an event to a user's record: the transitions of T1 to T17 and L1 to L10.

use std::sync::Arc;

use super::draft::{Draft, change};
use super::login::judge;
use super::{
    Answer, Cause, ConnectionId, Edition, End, EndReason, Event, EventKind, Evidence, Intent,
    Kicker, Link, Login, Loss, LostCommit, Moment, NodeId, Origin, Outcome, Platform, Policy,
    Record, Refusal, Rescued, Revocation, SessionId, Stall, State, Target, Terminal, Timestamp,
    UnknownFields, Victor, VisibilityChange,
};

/// Applies one event to one user's record.
///
/// Never fails and never blocks. An event that no longer fits the record (such as the end of a
/// connection that the session has left) changes nothing. An event that the record holds already
/// changes nothing and has the same effects and answer, so a commit whose answer was lost, or that
/// lost a race, can be retried.
pub fn step(record: &Record, event: &Event, policy: &Policy, moment: &Moment) -> Outcome {
    if let Some(applied) = record.recent.iter().find(|applied| applied.event == event.id) {
        return Outcome {
            record: record.clone(),
            transitions: Vec::new(),
            effects: applied.effects.clone(),
            answer: applied.answer.as_deref().cloned().unwrap_or_default(),
        };
    }
    let mut draft = Draft::new(record, event, policy, moment);
    // Windows are extended with the user's next event, at the latest the tick that finds them over,
    // rather than when the stall is noticed: so a failing store cannot lose the extension.
    if event.kind != EventKind::Tick || record.is_due(policy, moment) {
        let own = |terminal: &&mut Terminal| terminal.connection.node == moment.node;
        for terminal in draft.record.terminals.iter_mut().filter(own) {
            terminal.allow_for(&moment.stalls, moment.now);
        }
    }
    let answer = match &event.kind {
        EventKind::Login(login) => draft.login(login),
        EventKind::Logout(origin) => draft.logout(*origin),
        EventKind::Closed { origin, close_code } => draft.closed(*origin, *close_code),
        EventKind::Unanswered { connection, fresh, close_code } => {
            draft.unanswered(*connection, *fresh, *close_code)
        }
        EventKind::Silent { origin, deadline } => draft.silent(*origin, *deadline),
        EventKind::Background { origin, reason } => draft.background(*origin, *reason),
        EventKind::Foreground(origin) => draft.foreground(*origin),
        EventKind::Idle { origin, untouched } => draft.idle(*origin, *untouched),
        EventKind::Active(origin) => draft.active(*origin),
        EventKind::Refresh { origin, token_until, issued_at_secs } => {
            draft.refresh(*origin, *token_until, *issued_at_secs)
        }
        EventKind::Set { origin, custom, hidden } => draft.set(*origin, custom.as_ref(), *hidden),
        EventKind::Visibility { origin, change } => draft.see(*origin, change),
        EventKind::Erase => draft.erase(),
        EventKind::Kick { target, by } => draft.kick(target, by),
        EventKind::Tick => draft.tick(),
        EventKind::NodeLost { node, successor, last, at, stalls } => {
            draft.node_lost(*node, *successor, *last, *at, stalls)
        }
        EventKind::Recovered { was, version, rescued } => draft.recovered(*was, *version, rescued),
        EventKind::Recall { version, lost } => draft.recall(*version, lost),
    };
    draft.finish(answer)
}

impl Draft<'_> {
    /// A login (T1) or a resume (L7).
    fn login(&mut self, login: &Login) -> Answer {
        if self.record.revokes(login.issued_at_secs, self.wall) {
            return Answer::Refused(Refusal::TokenRevoked);
        }
        if let Intent::Resume(Some(session)) = login.intent {
            if let Some(index) = self.to_resume(session, login) {
                return self.resume(index, login);
            }
            if self.was_kicked(session, login) {
                return Answer::Refused(Refusal::Kicked);
            }
        }
        let verdict =
            judge(&self.record.terminals, login.platform, &login.device, &self.policy.login);
        let terminals = &self.record.terminals;
        if login.intent != Intent::New {
            // A resume must not cost anybody a session (L7).
            let conflicts = !verdict.kicked.is_empty()
                || !verdict.in_the_way.is_empty()
                || verdict.replaced.iter().any(|&index| terminals[index].state() == State::Online);
            if conflicts {
                return Answer::Refused(Refusal::Superseded);
            }
        }
        if !verdict.in_the_way.is_empty() {
            let mut devices = Vec::new();
            for &index in &verdict.in_the_way {
                let device = (terminals[index].platform, terminals[index].device.clone());
                if !devices.contains(&device) {
                    devices.push(device);
                }
            }
            return Answer::Refused(Refusal::LoginConflict(devices));
        }
        let replaced: Vec<_> = verdict.replaced.iter().map(|&i| terminals[i].session).collect();
        let kicked: Vec<_> = verdict.kicked.iter().map(|&i| terminals[i].session).collect();
        self.admit(login, &replaced, &kicked)
    }

    fn admit(&mut self, login: &Login, replaced: &[SessionId], kicked: &[SessionId]) -> Answer {
        let by = Kicker::Login(Victor {
            platform: login.platform,
            device: login.device.clone(),
            session: login.session,
        });
        let kicked = self.kick_all(kicked, &by, EndReason::LoginElsewhere);
        let mut from = None;
        for &session in replaced {
            if let Some(old) = self.expel(session, &by, EndReason::SameDevice) {
                from = Some(old.state());
            }
        }
        // A login is active (A1).
        let activity = login.activity.filter(|_| login.intent != Intent::New).unwrap_or_default();
        let terminal = Terminal {
            session: login.session,
            platform: login.platform,
            device: login.device.clone(),
            app: login.app.clone(),
            connection: login.connection,
            address: login.address,
            link: Link::Connected,
            since: self.wall,
            heard: self.wall,
            background: None,
            activity,
            token_until: login.token_until,
            stalls_until: None,
            resumes: 0,
            unknown: UnknownFields::default(),
        };
        let evidence = Evidence { address: login.address, ..Evidence::default() };
        self.log(Cause::Login, Some(change(&terminal, from, Some(State::Online))), evidence);
        if let Some(logged) = self.transitions.last_mut() {
            logged.kicked.clone_from(&kicked);
        }
        self.record.terminals.push(terminal);
        if let Some(custom) = &login.custom {
            self.record.custom.clone_from(custom);
        }
        Answer::Admitted { session: login.session, resumed: false, kicked }
    }

    /// Finds the terminal that a login may resume: platform and device must match (L7).
    fn to_resume(&self, session: SessionId, login: &Login) -> Option<usize> {
        self.record.terminals.iter().position(|terminal| {
            terminal.session == session
                && terminal.platform == login.platform
                && terminal.device == login.device
        })
    }

    fn was_kicked(&self, session: SessionId, login: &Login) -> bool {
        self.record.ended.iter().any(|ended| {
            ended.session == session
                && ended.platform == login.platform
                && ended.device == login.device
                && ended.until > self.now
        })
    }

    /// Continues a session that still stands (L7).
    fn resume(&mut self, index: usize, login: &Login) -> Answer {
        let wall = self.wall;
        if let Some(custom) = &login.custom {
            self.change_custom(Some(index), custom.as_ref());
        }
        let terminal = &mut self.record.terminals[index];
        let before = terminal.state();
        let moved = terminal.link == Link::Connected && terminal.connection != login.connection;
        if moved {
            self.effects.ends.push(End { connection: terminal.connection, why: EndReason::Moved });
        }
        terminal.link = Link::Connected;
        terminal.connection = login.connection;
        terminal.resumes = terminal.resumes.saturating_add(1);
        terminal.address = login.address;
        terminal.background = None;
        // No window is open, and later ones are on the time of this node.
        terminal.stalls_until = None;
        terminal.heard = wall;
        terminal.token_until = login.token_until;
        if login.app.is_some() {
            terminal.app.clone_from(&login.app);
        }
        let session = terminal.session;
        if before == State::Online {
            // Nothing else is logged that would show it (A6).
            if let Some(activity) = login.activity {
                self.change_activity(index, activity);
            }
        } else {
            if let Some(activity) = login.activity {
                terminal.becomes(activity);
            }
            terminal.since = wall;
            let change = change(terminal, Some(before), Some(State::Online));
            let evidence = Evidence { address: login.address, ..Evidence::default() };
            self.log(Cause::Resume, Some(change), evidence);
        }
        Answer::Admitted { session, resumed: true, kicked: Vec::new() }
    }

    /// T2.
    fn logout(&mut self, origin: Origin) -> Answer {
        let Some(index) = self.index_of(origin) else { return Answer::Stale };
        self.end(index, Cause::Logout, Evidence::default());
        Answer::Done
    }

    /// T3; T17 for a mini-program in the background.
    fn closed(&mut self, origin: Origin, close_code: Option<u16>) -> Answer {
        let Some(index) = self.index_of(origin) else { return Answer::Stale };
        let grace = self.policy.windows.web_close_grace;
        let terminal = &mut self.record.terminals[index];
        let has_deadline =
            terminal.background.is_some_and(|background| background.deadline.is_some());
        if has_deadline {
            terminal.link =
                Link::Lost { since: self.now, until: None, how: Loss::Closed(close_code) };
        } else if terminal.platform == Platform::Web && !grace.is_zero() {
            let until = Some(self.now + grace);
            terminal.link = Link::Lost { since: self.now, until, how: Loss::Closed(close_code) };
        } else {
            self.lose(index, Cause::Close, Evidence { close_code, ..Evidence::default() });
        }
        Answer::Done
    }

    /// T3: a new session ends, and a resumed one is held until its client resumes again.
    fn unanswered(
        &mut self,
        connection: ConnectionId,
        fresh: SessionId,
        close_code: u16,
    ) -> Answer {
        let on_it = |terminal: &Terminal| terminal.is_on(connection);
        let Some(index) = self.record.terminals.iter().position(on_it) else {
            return Answer::Stale;
        };
        let terminal = &mut self.record.terminals[index];
        let (session, close_code) = (terminal.session, Some(close_code));
        if session == fresh {
            return self.closed(Origin { session, connection }, close_code);
        }
        let until = Some(self.now + self.policy.windows.silence(terminal.platform));
        terminal.link = Link::Lost { since: self.now, until, how: Loss::Closed(close_code) };
        Answer::Done
    }

    /// T4, T5: the connection's `Liveness` found it silent.
    fn silent(&mut self, origin: Origin, deadline: Timestamp) -> Answer {
        let Some(index) = self.index_of(origin) else { return Answer::Stale };
        self.lose(index, Cause::Silence, past_deadline(self.to_wall(deadline)));
        Answer::Done
    }

    fn refresh(&mut self, origin: Origin, token_until: Timestamp, issued_at_secs: u64) -> Answer {
        let Some(index) = self.index_of(origin) else { return Answer::Stale };
        if self.record.revokes(issued_at_secs, self.wall) {
            return Answer::Refused(Refusal::TokenRevoked);
        }
        self.record.terminals[index].token_until = token_until;
        Answer::Done
    }

    fn set(
        &mut self,
        origin: Option<Origin>,
        custom: Option<&Option<Arc<str>>>,
        hidden: Option<bool>,
    ) -> Answer {
        let by = match self.author(origin) {
            Ok(by) => by,
            Err(answer) => return answer,
        };
        if self.record.terminals.is_empty() {
            return Answer::Refused(Refusal::NotLoggedIn);
        }
        if let Some(custom) = custom {
            self.change_custom(by, custom.as_ref());
        }
        self.change_visibility(by, &VisibilityChange { hidden, blocked: None })
    }

    /// P2, P3.
    fn see(&mut self, origin: Option<Origin>, change: &VisibilityChange) -> Answer {
        match self.author(origin) {
            Ok(by) => self.change_visibility(by, change),
            Err(answer) => answer,
        }
    }

    /// The terminal that asks for a change of the user; `None` for the back end, which is trusted: its changes are
    /// counted, but never refused (V7).
    fn author(&self, origin: Option<Origin>) -> Result<Option<usize>, Answer> {
        let Some(origin) = origin else { return Ok(None) };
        let Some(index) = self.index_of(origin) else { return Err(Answer::Stale) };
        if self.is_over_quota() {
            return Err(Answer::Refused(Refusal::LogQuota));
        }
        Ok(Some(index))
    }

    /// Kicks all sessions, and forgets the user but for the revocation and the version, which must not be used
    /// again (V2).
    fn erase(&mut self) -> Answer {
        let by = Kicker::Admin { message: None };
        let answer = self.kick(&Target::default(), &by);
        self.is_erased = true;
        answer
    }

    /// T9, L9.
    fn kick(&mut self, target: &Target, by: &Kicker) -> Answer {
        if let Kicker::Own(victor) = by
            && self.record.terminal(victor.session).is_none()
        {
            return Answer::Stale;
        }
        let why = match by {
            Kicker::Admin { .. } => EndReason::Admin,
            Kicker::Own(_) => EndReason::OwnRequest,
            Kicker::Login(_) => EndReason::LoginElsewhere,
        };
        let revoked = target.is_everything() && why == EndReason::Admin;
        if revoked {
            self.revoke();
        }
        let meant = self.record.terminals.iter().filter(|terminal| target.matches(terminal));
        let meant: Vec<_> = meant.map(|terminal| terminal.session).collect();
        Answer::Kicked { kicked: self.kick_all(&meant, by, why), revoked }
    }

    /// Applies every deadline that has passed (T3, T6, T7, T8, T10, T11).
    fn tick(&mut self) -> Answer {
        let mut index = 0;
        while let Some(terminal) = self.record.terminals.get(index) {
            let terminals = self.record.terminals.len();
            match (terminal.link, terminal.deadline()) {
                (Link::Push { until }, _) if until <= self.wall => {
                    self.end(index, Cause::Expired, past_deadline(until));
                }
                (Link::Connected | Link::Lost { .. }, Some((at, cause)))
                    if terminal.connection.node == self.node && at <= self.now =>
                {
                    self.apply_deadline(index, at, cause);
                }
                _ => (),
            }
            if self.record.terminals.len() == terminals {
                index += 1;
            }
        }
        if self.record.revoked.is_some_and(|revoked| revoked.until <= self.wall) {
            self.record.revoked = None;
        }
        let forgotten = self.original.forget_at(self.policy).is_some_and(|at| at <= self.wall);
        if forgotten {
            let Record { revoked, visibility, unknown, .. } = std::mem::take(&mut self.record);
            self.record = Record { revoked, visibility, unknown, ..Record::default() };
        }
        Answer::Done
    }

    /// Makes an `Online` terminal whose deadline passed leave `Online`, and ends its connection.
    fn apply_deadline(&mut self, index: usize, at: Timestamp, cause: Cause) {
        let terminal = &self.record.terminals[index];
        if terminal.link == Link::Connected {
            let why = if cause == Cause::TokenExpired {
                EndReason::TokenExpired
            } else {
                EndReason::Background
            };
            self.effects.ends.push(End { connection: terminal.connection, why });
        }
        self.lose(index, cause, past_deadline(self.to_wall(at)));
    }

    /// T11: holds the sessions of a hub that is gone until their own deadlines.
    fn node_lost(
        &mut self,
        node: NodeId,
        successor: NodeId,
        last: Timestamp,
        at: Timestamp,
        stalls: &[Stall],
    ) -> Answer {
        let shifted =
            |then: Timestamp| if then < last { at - (last - then) } else { at + (then - last) };
        let windows = &self.policy.windows;
        let heard = self.to_wall(at);
        for terminal in &mut self.record.terminals {
            if terminal.connection.node != node || terminal.state() != State::Online {
                continue;
            }
            terminal.allow_for(stalls, last);
            terminal.stalls_until = None;
            match &mut terminal.link {
                Link::Lost { since, until, .. } => {
                    *since = shifted(*since);
                    *until = until.map(shifted);
                }
                Link::Connected | Link::Push { .. } => {
                    let until = Some(at + windows.silence(terminal.platform));
                    terminal.link = Link::Lost { since: at, until, how: Loss::WithNode };
                    terminal.heard = terminal.heard.max(heard);
                }
            }
            if let Some(background) = &mut terminal.background {
                background.since = shifted(background.since);
                background.deadline = background.deadline.map(shifted);
            }
            terminal.token_until = shifted(terminal.token_until);
            // The deadlines are on the successor's time from now on, and no connection is alive: no real
            // connection has this serial number.
            terminal.connection = ConnectionId { node: successor, serial: u64::MAX };
        }
        Answer::Done
    }

    fn recovered(&mut self, was: State, version: u64, rescued: &Rescued) -> Answer {
        // An event since the damage may have made a new record already.
        if *self.original != Record::default() {
            return Answer::Stale;
        }
        self.record.revoked = rescued.revoked;
        self.record.visibility.clone_from(&rescued.visibility);
        if was != State::Offline {
            self.before.state = was;
            self.record.version = version;
            self.log(Cause::Recovered, None, Evidence::default());
        } else if version > 0 {
            self.record.version = version + 1;
            self.record.since = Some(self.wall);
        }
        Answer::Done
    }

    /// V2: commits what the store has lost again, unless something later has replaced it.
    fn recall(&mut self, version: u64, lost: &LostCommit) -> Answer {
        let edition = match lost {
            LostCommit::Record(record) => record.edition(),
            LostCommit::Custom(_) | LostCommit::Version => Edition { version, unlogged: 0 },
        };
        if self.original.edition() >= edition {
            return Answer::Stale;
        }
        match lost {
            LostCommit::Record(lost) => {
                let revoked = Revocation::stricter(self.original.revoked, lost.revoked);
                let recent = self.original.recent.clone();
                self.record = Record { revoked, recent, ..Record::clone(lost) };
            }
            LostCommit::Custom(custom) => self.record.custom.clone_from(custom),
            LostCommit::Version => (),
        }
        self.record.version = version;
        self.log(Cause::Recovered, None, Evidence::default());
        self.is_recalled = true;
        Answer::Done
    }
}

fn past_deadline(deadline: Timestamp) -> Evidence {
    Evidence { deadline: Some(deadline), ..Evidence::default() }
}
