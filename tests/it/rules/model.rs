//! A second, simple implementation of the rules, which random lives are compared with.

use std::time::Duration;

use presence_hub::presence::{
    Answer, BackgroundReason, Cause, ConnectionId, DeviceId, EventKind, Intent, Kicker, Login,
    Origin, Platform, Refusal, SessionId, State, Status, Target, Timestamp, Victim,
};

use super::groups::Rules;
use super::held::{Held, Link};
use super::{DAY, MOBILE, SECOND};

/// The expected result of an event.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) answer: Answer,
    pub(super) causes: Vec<Cause>,
    pub(super) closed: Vec<ConnectionId>,
}

/// The model of one user.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) rules: Rules,
    grace: Duration,
    /// The earliest login first.
    held: Vec<Held>,
    /// Kicked or replaced sessions, and until when they are remembered.
    over: Vec<(SessionId, Platform, DeviceId, Timestamp)>,
    /// Revocations: the second of each, and until when it is valid.
    revoked: Vec<(u64, Timestamp)>,
    custom: Option<String>,
    since: Option<Timestamp>,
    last_seen: Option<Timestamp>,
    /// When any session of the user was last heard.
    heard: Option<Timestamp>,
    causes: Vec<Cause>,
    closed: Vec<ConnectionId>,
    now: Timestamp,
    wall: Timestamp,
}

impl Model {
    pub(super) fn new(rules: Rules, grace: Duration) -> Self {
        let (now, wall) = Default::default();
        let (held, over, revoked) = Default::default();
        let (custom, since, last_seen, heard, causes, closed) = Default::default();
        Self {
            rules,
            grace,
            held,
            over,
            revoked,
            custom,
            since,
            last_seen,
            heard,
            causes,
            closed,
            now,
            wall,
        }
    }

    pub(super) fn terminals(&self) -> Vec<(SessionId, Platform, DeviceId, State, bool)> {
        let state = |h: &Held| if h.is_online() { State::Online } else { State::PushOnline };
        let all = self.held.iter();
        all.map(|h| (h.session, h.platform, h.device.clone(), state(h), h.is_idle)).collect()
    }

    pub(super) fn status(&self) -> Status {
        let online = |platform: &Platform| {
            self.held.iter().any(|held| held.platform == *platform && held.is_online())
        };
        Status {
            state: self.state(),
            platforms: Platform::ALL.into_iter().filter(online).collect(),
            custom: self.custom.as_deref().map(Into::into),
            since: self.since,
            last_seen: self.last_seen,
            version: 0,
            away: self.is_away(),
            hidden: false,
        }
    }

    /// A1.
    fn is_away(&self) -> bool {
        let active = self.held.iter().filter(|held| held.is_online() && !held.is_idle).count();
        self.state() == State::Online && active == 0
    }

    /// A2, A4, A6: a word of a session about its device.
    fn say(&mut self, index: usize, is_idle: bool) {
        let was_away = self.is_away();
        self.held[index].is_idle = is_idle;
        match (was_away, self.is_away()) {
            (false, true) => self.causes.push(Cause::Idle),
            (true, false) => self.causes.push(Cause::Active),
            (..) => (),
        }
    }

    fn state(&self) -> State {
        if self.held.iter().any(Held::is_online) {
            State::Online
        } else if self.held.is_empty() {
            State::Offline
        } else {
            State::PushOnline
        }
    }

    pub(super) fn apply(
        &mut self,
        kind: &EventKind,
        now: Timestamp,
        wall: Timestamp,
        heard: &[(ConnectionId, Timestamp)],
    ) -> Expected {
        (self.now, self.wall) = (now, wall);
        for held in self.held.iter().filter(|held| held.link == Link::Connected) {
            let of_it = heard.iter().filter(|(connection, _)| *connection == held.connection);
            self.heard = self.heard.max(of_it.map(|(_, at)| *at).max());
        }
        let before = self.state();
        let answer = self.happen(kind);
        let after = self.state();
        if after != before {
            self.since = Some(wall);
            match (before, after) {
                (_, State::Online) => self.last_seen = None,
                (State::Online, _) => self.last_seen = self.heard,
                (..) => (),
            }
            if after == State::Offline {
                self.custom = None;
            }
        }
        let mut closed = std::mem::take(&mut self.closed);
        closed.sort_unstable();
        Expected { answer, causes: std::mem::take(&mut self.causes), closed }
    }

    fn happen(&mut self, kind: &EventKind) -> Answer {
        let origin = match kind {
            EventKind::Logout(origin)
            | EventKind::Closed { origin, .. }
            | EventKind::Silent { origin, .. }
            | EventKind::Background { origin, .. }
            | EventKind::Foreground(origin)
            | EventKind::Idle { origin, .. }
            | EventKind::Active(origin)
            | EventKind::Refresh { origin, .. }
            | EventKind::Set { origin: Some(origin), .. } => *origin,
            EventKind::Login(login) => return self.login(login),
            EventKind::Set { origin: None, custom, .. } => {
                if self.held.is_empty() {
                    return Answer::Refused(Refusal::NotLoggedIn);
                }
                self.set(custom.as_ref().and_then(Option::as_deref));
                return Answer::Done;
            }
            EventKind::Kick { target, by } => return self.kick(target, by),
            EventKind::Tick => return self.tick(),
            EventKind::Unanswered { .. }
            | EventKind::NodeLost { .. }
            | EventKind::Recovered { .. }
            | EventKind::Recall { .. }
            | EventKind::Visibility { .. }
            | EventKind::Erase => {
                unreachable!("random lives contain no crashes, no damage and no viewers")
            }
        };
        let lives = |h: &Held| {
            let Origin { session, connection } = origin;
            h.session == session && h.connection == connection && h.link == Link::Connected
        };
        match self.held.iter().position(lives) {
            Some(index) => self.happen_to(index, kind),
            None => Answer::Stale,
        }
    }

    /// Applies an event of a live session.
    fn happen_to(&mut self, index: usize, kind: &EventKind) -> Answer {
        let now = self.now;
        let held = &mut self.held[index];
        let mini = held.platform == Platform::MiniProgram;
        match kind {
            EventKind::Logout(_) => {
                self.held.remove(index);
                self.causes.push(Cause::Logout);
            }
            EventKind::Closed { .. } if mini && held.background.is_some() => {
                held.link = Link::Gone { since: now, until: None };
            }
            EventKind::Closed { .. } if held.platform == Platform::Web && !self.grace.is_zero() => {
                held.link = Link::Gone { since: now, until: Some(now + self.grace) };
            }
            EventKind::Closed { .. } => self.lose(index, Cause::Close),
            EventKind::Silent { .. } => self.lose(index, Cause::Silence),
            EventKind::Background { reason, .. } => {
                let window = match reason {
                    BackgroundReason::Hide => 30 * SECOND,
                    BackgroundReason::Exit => 4 * SECOND,
                };
                let until = mini.then(|| now + window);
                let sooner = held.background.is_none_or(|(_, _, old)| until < old);
                if sooner {
                    held.background = Some((*reason, now, until));
                }
                let deadline = held.background.and_then(|(_, _, until)| until);
                if held.platform != Platform::Web {
                    self.say(index, true);
                }
                return Answer::Background { deadline };
            }
            EventKind::Refresh { token_until, issued_at_secs, .. } => {
                if self.refuses(*issued_at_secs) {
                    return Answer::Refused(Refusal::TokenRevoked);
                }
                self.held[index].token_until = *token_until;
            }
            EventKind::Set { custom, .. } => self.set(custom.as_ref().and_then(Option::as_deref)),
            EventKind::Foreground(_) => {
                held.background = None;
                if held.platform != Platform::Web {
                    self.say(index, false);
                }
            }
            EventKind::Idle { .. } => self.say(index, true),
            EventKind::Active(_) => self.say(index, false),
            EventKind::Login(_)
            | EventKind::Kick { .. }
            | EventKind::Tick
            | EventKind::Unanswered { .. }
            | EventKind::NodeLost { .. }
            | EventKind::Recovered { .. }
            | EventKind::Recall { .. }
            | EventKind::Visibility { .. }
            | EventKind::Erase => unreachable!("not an event of a session: {kind:?}"),
        }
        Answer::Done
    }

    fn set(&mut self, custom: Option<&str>) {
        if self.custom.as_deref() != custom {
            self.custom = custom.map(Into::into);
            self.causes.push(Cause::Custom);
        }
    }

    fn refuses(&self, issued_at_secs: u64) -> bool {
        self.revoked.iter().any(|(second, until)| issued_at_secs < *second && self.wall < *until)
    }

    fn lose(&mut self, index: usize, cause: Cause) {
        self.causes.push(cause);
        let held = &mut self.held[index];
        if MOBILE.contains(&held.platform) {
            held.link = Link::Push { until: self.wall + 7 * DAY };
            held.background = None;
        } else {
            self.held.remove(index);
        }
    }

    /// Ends a session that is kicked or replaced.
    fn end(&mut self, session: SessionId) -> Held {
        let index = self.held.iter().position(|h| h.session == session).expect("a session");
        let held = self.held.remove(index);
        if held.link == Link::Connected {
            self.closed.push(held.connection);
        }
        let until = self.now + 7 * DAY;
        self.over.push((held.session, held.platform, held.device.clone(), until));
        if self.over.len() > 64 {
            self.over.remove(0);
        }
        held
    }

    fn kick_each(&mut self, sessions: &[SessionId]) -> Vec<Victim> {
        let victim = |session: &SessionId| {
            self.causes.push(Cause::Kicked);
            let Held { platform, device, session, .. } = self.end(*session);
            Victim { platform, device, session }
        };
        sessions.iter().map(victim).collect()
    }

    fn kick(&mut self, target: &Target, by: &Kicker) -> Answer {
        if let Kicker::Own(victor) = by
            && !self.held.iter().any(|held| held.session == victor.session)
        {
            return Answer::Stale;
        }
        let Target { platform, device, session } = target;
        let nothing_named = platform.is_none() && device.is_none() && session.is_none();
        let revoked = nothing_named && matches!(by, Kicker::Admin { .. });
        if revoked {
            self.revoked.push((self.wall.as_secs(), self.wall + 30 * DAY));
        }
        let meant = self.held.iter().filter(|held| {
            platform.is_none_or(|platform| platform == held.platform)
                && device.as_ref().is_none_or(|device| *device == held.device)
                && session.is_none_or(|session| session == held.session)
        });
        let meant: Vec<_> = meant.map(|held| held.session).collect();
        Answer::Kicked { kicked: self.kick_each(&meant), revoked }
    }

    fn login(&mut self, login: &Login) -> Answer {
        let Login { platform, ref device, .. } = *login;
        if self.refuses(login.issued_at_secs) {
            return Answer::Refused(Refusal::TokenRevoked);
        }
        if let Intent::Resume(Some(session)) = login.intent {
            let mine = |held: &Held| held.session == session && held.is_device(platform, device);
            if let Some(index) = self.held.iter().position(mine) {
                return self.resume(index, login);
            }
            let now = self.now;
            let is_over = |(over, on, of, until): &(SessionId, Platform, DeviceId, Timestamp)| {
                *over == session && *on == platform && of == device && *until > now
            };
            if self.over.iter().any(is_over) {
                return Answer::Refused(Refusal::Kicked);
            }
        }
        let [replaced, kicked, in_the_way] = self.plan(platform, device);
        let online = |session: &SessionId| {
            self.held.iter().any(|held| held.session == *session && held.is_online())
        };
        let at_a_cost = !kicked.is_empty() || !in_the_way.is_empty() || replaced.iter().any(online);
        if login.intent != Intent::New && at_a_cost {
            return Answer::Refused(Refusal::Superseded);
        }
        if !in_the_way.is_empty() {
            let named = self.held.iter().filter(|held| in_the_way.contains(&held.session));
            let mut named: Vec<_> =
                named.map(|held| (held.platform, held.device.clone())).collect();
            named.sort_unstable();
            named.dedup();
            return Answer::Refused(Refusal::LoginConflict(named));
        }
        let kicked = self.kick_each(&kicked);
        for session in replaced {
            self.end(session);
        }
        self.causes.push(Cause::Login);
        if let Some(custom) = &login.custom {
            self.custom = custom.as_deref().map(Into::into);
        }
        self.heard = Some(self.wall);
        self.held.push(Held {
            session: login.session,
            platform,
            device: device.clone(),
            connection: login.connection,
            link: Link::Connected,
            background: None,
            token_until: login.token_until,
            is_idle: login.intent != Intent::New && login.activity.is_some(),
        });
        Answer::Admitted { session: login.session, resumed: false, kicked }
    }

    /// L1 to L5: the sessions that are replaced, kicked, and in conflict under `reject_new`.
    fn plan(&self, platform: Platform, device: &DeviceId) -> [Vec<SessionId>; 3] {
        let rules = self.rules;
        let own = self.held.iter().filter(|held| held.is_device(platform, device));
        let mut replaced: Vec<_> = own.map(|held| held.session).collect();
        if platform == Platform::Web && rules.share_tabs {
            replaced.truncate(replaced.len().saturating_sub(19));
        }
        let (mut kicked, mut in_the_way) = (Vec::new(), Vec::new());
        let mut others: Vec<Vec<&Held>> = Vec::new();
        for held in &self.held {
            let same_slot = rules.slot(held.platform) == rules.slot(platform);
            if same_slot && !held.is_device(platform, device) {
                match others.iter_mut().find(|o| o[0].is_device(held.platform, &held.device)) {
                    Some(other) => other.push(held),
                    None => others.push(vec![held]),
                }
            } else if !same_slot && rules.group(held.platform) == rules.group(platform) {
                let stays = rules.reject && held.is_online();
                if stays { &mut in_the_way } else { &mut kicked }.push(held.session);
            }
        }
        while others.len() >= rules.room.into() {
            let wants_push = |other: &Vec<&Held>| other.iter().all(|held| !held.is_online());
            let leaves = if rules.reject { others.iter().position(wants_push) } else { Some(0) };
            let Some(leaves) = leaves else {
                in_the_way.extend(others.iter().flatten().map(|held| held.session));
                break;
            };
            kicked.extend(others.remove(leaves).iter().map(|held| held.session));
        }
        let in_order = self.held.iter().map(|held| held.session);
        let kicked = in_order.filter(|session| kicked.contains(session)).collect();
        [replaced, kicked, in_the_way]
    }

    fn resume(&mut self, index: usize, login: &Login) -> Answer {
        if let Some(custom) = &login.custom {
            self.set(custom.as_deref());
        }
        // A3: it is told in any case, and is an event of its own where the resume is none.
        let is_idle = self.held[index].is_idle || login.activity.is_some();
        if self.held[index].is_online() {
            self.say(index, is_idle);
        }
        let held = &mut self.held[index];
        held.is_idle = is_idle;
        match held.link {
            Link::Connected => self.closed.push(held.connection),
            Link::Gone { .. } => (),
            Link::Push { .. } => self.causes.push(Cause::Resume),
        }
        held.link = Link::Connected;
        held.connection = login.connection;
        held.background = None;
        held.token_until = login.token_until;
        self.heard = Some(self.wall);
        Answer::Admitted { session: held.session, resumed: true, kicked: Vec::new() }
    }

    fn tick(&mut self) -> Answer {
        let forgotten =
            self.held.is_empty() && self.since.is_some_and(|since| since + 20 * DAY <= self.wall);
        for held in self.held.clone() {
            let index = self.held.iter().position(|h| h.session == held.session).expect("held");
            if let Link::Push { until } = held.link {
                if until <= self.wall {
                    self.held.remove(index);
                    self.causes.push(Cause::Expired);
                }
                continue;
            }
            let mut ends = vec![(held.token_until, Cause::TokenExpired)];
            if let Link::Gone { until: Some(until), .. } = held.link {
                ends.insert(0, (until, Cause::Close));
            }
            if let Some((reason, _, Some(until))) = held.background {
                let hidden = reason == BackgroundReason::Hide;
                ends.insert(0, (until, if hidden { Cause::Background } else { Cause::Exit }));
            }
            ends.sort_by_key(|(at, _)| *at);
            let (at, cause) = ends[0];
            if at <= self.now {
                if held.link == Link::Connected {
                    self.closed.push(held.connection);
                }
                self.lose(index, cause);
            }
        }
        if forgotten {
            let revoked = std::mem::take(&mut self.revoked);
            *self = Self { revoked, now: self.now, ..Self::new(self.rules, self.grace) };
        }
        Answer::Done
    }

    pub(super) fn stalled_for(&mut self, from: Timestamp, by: Duration) {
        for held in &mut self.held {
            if let Link::Gone { since, until: Some(until) } = &mut held.link {
                *until = *until + by.saturating_sub(*since - from);
            }
            if let Some((_, since, Some(until))) = &mut held.background {
                *until = *until + by.saturating_sub(*since - from);
            }
        }
    }
}
