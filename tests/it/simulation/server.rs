//! The server that all hubs share: a memory store that plays the part of Redis.
//!
//! Users are split into parts. A part can lose its last commits, as after a failover to a replica that lacked
//! them. Each commit is checked against the invariants that must hold at every step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use presence_hub::presence::{
    Cause, Census, EventId, LoginPolicy, NodeId, Preset, Record, SessionId, State, Terminal,
    Timestamp, Transition, UserId,
};
use presence_hub::store::{
    Among, Commit, Cursor, Listed, MemoryStore, Message, Part, Records, Revision, StoreError,
    Stored, Totals,
};

use super::signs::Signed;
use super::switch::Switch;
use crate::lab::{id, memory_store};

/// Into how many parts the users are split.
const PARTS: u32 = 3;
/// The parts that the users are split into.
pub(super) fn all_parts() -> Vec<Part> {
    // Enough users to find each part.
    let parts = (0..100 * PARTS).map(|number| part_of(&id(&number.to_string())));
    parts.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The part of a user.
pub(super) fn part_of(user: &UserId) -> Part {
    Part::of_user(user, PARTS)
}

/// The server.
pub(super) struct Server {
    memory: MemoryStore,
    login: LoginPolicy,
    broken: Option<Switch>,
    /// The true time.
    pub(super) now: Duration,
    /// Whether it answers nothing.
    pub(super) is_down: bool,
    /// For how long it was up.
    pub(super) up: Duration,
    revisions: BTreeMap<UserId, Revision>,
    last_revision: u64,
    /// The last revision that the counts were checked at.
    checked: u64,
    /// The greatest version that each user ever had.
    versions: BTreeMap<UserId, u64>,
    parts: BTreeMap<Part, PartOfUsers>,
    pub(super) log: Vec<Logged>,
    /// The entries that were lost, by their ids, with the node that had committed each.
    pub(super) lost: BTreeMap<(EventId, u8), NodeId>,
    /// The cursor of the last entry, also of one that was lost: none is given out again.
    pub(super) last_cursor: Cursor,
    /// Which node posts the webhook, and how far it has posted the log.
    pub(super) seat: Option<NodeId>,
    pub(super) position: Option<Cursor>,
    pub(super) nodes: BTreeMap<NodeId, Signed>,
    pub(super) retired: BTreeSet<NodeId>,
    /// Retired nodes whose sessions were all taken over.
    pub(super) removed: BTreeSet<NodeId>,
    /// What the next delivery of messages takes.
    pub(super) published: Vec<Published>,
    /// Sessions that left `Online`, which the world has not checked yet.
    pub(super) left: Vec<Left>,
    pub(super) wrong: Vec<String>,
}

/// The users of one part.
#[derive(Default)]
struct PartOfUsers {
    /// The number of its last message.
    number: u64,
    commits: Vec<Done>,
}

/// A commit, as a rollback needs it.
struct Done {
    at: Duration,
    user: UserId,
    before: Stored,
    number_before: u64,
    logged: usize,
}

/// An entry of the log.
#[derive(Debug)]
pub(super) struct Logged {
    pub(super) cursor: Cursor,
    pub(super) at: Duration,
    /// The node that committed it.
    node: NodeId,
    pub(super) user: UserId,
    pub(super) transition: Transition,
}

/// A message to all nodes but one.
#[derive(Debug, Clone)]
pub(super) struct Published {
    pub(super) from: NodeId,
    pub(super) part: Part,
    pub(super) number: u64,
    pub(super) message: Arc<Message>,
}

/// A session that left `Online`.
pub(super) struct Left {
    pub(super) session: SessionId,
    pub(super) cause: Cause,
}

/// The answer of a memory store, which never waits.
fn now<T>(future: BoxFuture<'_, T>) -> T {
    future.now_or_never().expect("an answer at once")
}

fn unavailable(cause: &str) -> StoreError {
    StoreError::Unavailable { cause: cause.to_owned() }
}

impl Server {
    pub(super) fn new(broken: Option<Switch>) -> Self {
        Self {
            memory: memory_store(),
            login: LoginPolicy::preset(Preset::Dual),
            broken,
            now: Duration::ZERO,
            is_down: false,
            up: Duration::ZERO,
            revisions: BTreeMap::new(),
            last_revision: 0,
            checked: 0,
            versions: BTreeMap::new(),
            parts: BTreeMap::new(),
            log: Vec::new(),
            lost: BTreeMap::new(),
            last_cursor: Cursor::default(),
            seat: None,
            position: None,
            nodes: BTreeMap::new(),
            retired: BTreeSet::new(),
            removed: BTreeSet::new(),
            published: Vec::new(),
            left: Vec::new(),
            wrong: Vec::new(),
        }
    }

    pub(super) fn is_broken(&self, switch: Switch) -> bool {
        self.broken == Some(switch)
    }

    /// Fails while the server is down.
    pub(super) fn answers(&self) -> Result<(), StoreError> {
        if self.is_down { Err(unavailable("the server is down")) } else { Ok(()) }
    }

    pub(super) fn load(&self, user: &UserId) -> Stored {
        let stored = now(self.memory.load(user)).expect("a record");
        Stored { revision: self.revisions.get(user).copied().unwrap_or_default(), ..stored }
    }

    pub(super) fn commit(
        &mut self,
        deadline: Duration,
        user: &UserId,
        base: &Stored,
        commit: &Commit,
    ) -> Result<(), StoreError> {
        if self.now > deadline && !self.is_broken(Switch::NoDeadline) {
            return Err(unavailable("the commit came too late"));
        }
        let is_retired = self.retired.contains(&commit.node);
        if is_retired && !self.is_broken(Switch::NoFence) {
            return Err(StoreError::Retired);
        }
        let current = self.load(user);
        if current.revision != base.revision {
            return Err(StoreError::Conflict);
        }
        let mut commit = commit.clone();
        let greatest = self.versions.get(user).copied().unwrap_or_default();
        if self.is_broken(Switch::NoFloor) && current.record.version < greatest {
            lower_versions(&current.record, &mut commit);
        }
        self.versions.insert(user.clone(), greatest.max(commit.record.version));
        if self.now > deadline {
            self.wrong.push(format!("{user}: a commit was written after its node gave it up"));
        }
        if is_retired {
            self.wrong.push(format!("{user}: a retired node's commit was written"));
        }
        // Without a floor, the node has another version in mind.
        if current.record != base.record && !self.is_broken(Switch::NoFloor) {
            self.wrong
                .push(format!("{user}: a commit replaced a record that its node had not read"));
        }
        self.write(user, current, commit);
        Ok(())
    }

    fn write(&mut self, user: &UserId, current: Stored, commit: Commit) {
        self.check_record(user, &commit.record);
        let part = part_of(user);
        let (logged, message, from) =
            (commit.transitions.len(), commit.message.clone(), commit.node);
        for transition in &commit.transitions {
            self.append(from, user, transition.clone());
        }
        let revision = self.next_revision(&current);
        self.replace(user, commit);
        self.set_revision(user, revision);
        let state = self.parts.entry(part).or_default();
        let number_before = state.number;
        let at = self.now;
        state.commits.push(Done { at, user: user.clone(), before: current, number_before, logged });
        if let Some(message) = message {
            self.publish(from, message);
        }
    }

    /// Sends a message to the other nodes.
    pub(super) fn publish(&mut self, from: NodeId, message: Message) {
        let part = part_of(&message.user);
        let state = self.parts.entry(part).or_default();
        state.number += 1;
        let (number, message) = (state.number, Arc::new(message));
        self.published.push(Published { from, part, number, message });
    }

    fn next_revision(&mut self, current: &Stored) -> Revision {
        self.last_revision += 1;
        match self.is_broken(Switch::CountAsRevision) {
            true => Revision(current.revision.0 + 1),
            false => Revision(self.last_revision),
        }
    }

    fn set_revision(&mut self, user: &UserId, revision: Revision) {
        if now(self.memory.load(user)).expect("a record").record.is_empty() {
            self.revisions.remove(user);
        } else {
            self.revisions.insert(user.clone(), revision);
        }
    }

    /// Replaces a record in the memory store, which keeps neither log nor messages here.
    fn replace(&mut self, user: &UserId, commit: Commit) {
        let current = now(self.memory.load(user)).expect("a record");
        // The fence is this server's own, so that it can be left out.
        let commit = Commit { node: NodeId(0), transitions: Vec::new(), message: None, ..commit };
        now(self.memory.commit(user, &current, commit)).expect("a commit");
    }

    fn append(&mut self, node: NodeId, user: &UserId, transition: Transition) {
        let last = self.last_logged(user);
        let (state, version) = last.map_or((State::Offline, 0), |last| (last.to, last.version));
        let is_chained = transition.from == state && transition.version > version;
        if !is_chained {
            self.wrong.push(format!("{user}: {transition:?} follows {state:?}, version {version}"));
        }
        if let Some(terminal) = &transition.terminal
            && terminal.from == Some(State::Online)
            && terminal.to != Some(State::Online)
        {
            let (session, cause) = (terminal.session, transition.cause);
            self.left.push(Left { session, cause });
        }
        self.last_cursor.0 += 1;
        let (cursor, at) = (self.last_cursor, self.now);
        self.log.push(Logged { cursor, at, node, user: user.clone(), transition });
    }

    /// The last transition of a user.
    pub(super) fn last_logged(&self, user: &UserId) -> Option<&Transition> {
        let entry = self.log.iter().rev().find(|entry| entry.user == *user);
        entry.map(|entry| &entry.transition)
    }

    /// L8: at most one device is `Online` in each group.
    fn check_record(&mut self, user: &UserId, record: &Record) {
        let online = record.terminals.iter().filter(|it| it.state() == State::Online);
        let online: Vec<_> = online.collect();
        for (place, one) in online.iter().enumerate() {
            let shares = |other: &&Terminal| {
                self.login.share_group(one.platform, other.platform) && one.device != other.device
            };
            if let Some(other) = online[place + 1..].iter().copied().find(shares) {
                self.wrong.push(format!("L8: {user} has {one:?} and {other:?}"));
            }
        }
    }

    /// Loses the commits of a part since a time, as if a replica that lacked them had taken its place.
    pub(super) fn roll_back(&mut self, part: Part, since: Duration) -> usize {
        let state = self.parts.entry(part).or_default();
        let kept = state.commits.partition_point(|done| done.at < since);
        let lost = state.commits.split_off(kept);
        state.number = lost.first().map_or(state.number, |done| done.number_before);
        let count = lost.len();
        for Done { user, before, logged, .. } in lost.into_iter().rev() {
            let Stored { record, wall_deadline, revision } = before;
            let (transitions, node) = (Vec::new(), NodeId(0));
            let commit =
                Commit { node, record, wall_deadline, transitions, sync: false, message: None };
            self.replace(&user, commit);
            self.set_revision(&user, revision);
            for _ in 0..logged {
                let place = self.log.iter().rposition(|entry| entry.user == user);
                let lost = self.log.remove(place.expect("an entry of the lost commit"));
                self.lost.insert(lost.transition.id, lost.node);
            }
        }
        count
    }

    /// The number of the last message of each part.
    pub(super) fn numbers(&self) -> BTreeMap<Part, u64> {
        self.parts.iter().map(|(part, state)| (*part, state.number)).collect()
    }

    pub(super) fn due(
        &self,
        node: NodeId,
        at: Timestamp,
        wall: Timestamp,
        limit: usize,
    ) -> Vec<UserId> {
        now(self.memory.due(node, at, wall, limit)).expect("a list")
    }

    pub(super) fn held(
        &self,
        node: NodeId,
        part: Part,
        after: Option<&UserId>,
        limit: usize,
    ) -> Vec<Listed> {
        now(self.memory.held(node, part, after, limit)).expect("a list")
    }

    pub(super) fn users(&self, among: &Among, limit: usize) -> Vec<Listed> {
        now(self.memory.users(among, limit)).expect("a list")
    }

    pub(super) fn totals(&self) -> Totals {
        now(self.memory.totals()).expect("counts")
    }

    /// Checks counts and indexes against a recount, if there was a commit since the last check.
    pub(super) fn check_counts(&mut self) {
        if std::mem::replace(&mut self.checked, self.last_revision) == self.last_revision {
            return;
        }
        let states = vec![State::Offline, State::PushOnline, State::Online];
        let everybody = self.users(&Among { states, ..Among::default() }, usize::MAX);
        let records =
            || everybody.iter().filter_map(|(user, record)| Some((user, record.as_ref().ok()?)));
        let mut recount = Totals::default();
        records().for_each(|(_, it)| recount.replace(&Census::default(), &it.census()));
        if recount != self.totals() {
            self.wrong.push(format!("the counts are {:?}, not {recount:?}", self.totals()));
        }
        for node in self.nodes.keys() {
            let held = self.held(*node, Part::ALL, None, usize::MAX);
            let held = held.iter().map(|(user, _)| user);
            let on_node = records().filter(|(_, it)| it.is_held_by(*node)).map(|(user, _)| user);
            if !held.eq(on_node) {
                self.wrong.push(format!("the index of node {node} differs from the records"));
            }
        }
    }
}

/// Numbers a commit from the stored version on.
fn lower_versions(current: &Record, commit: &mut Commit) {
    let mut version = current.version;
    for transition in &mut commit.transitions {
        version += 1;
        transition.version = version;
        transition.status.version = version;
    }
    Arc::make_mut(&mut commit.record).version = version;
    for notice in commit.message.iter_mut().flat_map(|message| &mut message.notices) {
        notice.status.version = version;
    }
}
