//! What a commit changes beside the record: counts and indexes.

use std::collections::BTreeSet;

use crate::presence::{NodeId, Platform, Record, State, Timestamp};
use crate::store::{Commit, Stored, Totals};

const STATES: [State; 3] = [State::Offline, State::PushOnline, State::Online];
/// The field with the number of users who are away.
const AWAY: &str = "away";
/// Large enough that no difference of two records makes a count negative.
const MIDDLE: u64 = 1 << 32;

/// An index of the users of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Index {
    /// The users in a state.
    State(State),
    /// The users with an `Online` terminal on a node.
    Node(NodeId),
    /// The users by their wall deadline.
    Wall,
}

/// What a commit changes beside the record.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// The fields of the counts, and by how much each changes.
    pub(super) counts: Vec<(String, i64)>,
    /// The changed indexes: a new score, or `None` to remove the user.
    pub(super) indexes: Vec<(Index, Option<u64>)>,
}

impl Change {
    /// Compares the record of a commit with the one that it replaces.
    pub(super) fn of(base: &Stored, commit: &Commit) -> Self {
        let mut change = Self::default();
        change.count(&base.record, &commit.record);
        if base.is_damaged() {
            change.replace_damaged(&commit.record, commit.wall_deadline);
            return change;
        }
        let (old, new) = (base.record.census().state, commit.record.census().state);
        if old != new {
            change.indexes.extend(old.map(|state| (Index::State(state), None)));
            change.indexes.extend(new.map(|state| (Index::State(state), Some(0))));
        }
        let (old, new) = (nodes(&base.record), nodes(&commit.record));
        change.indexes.extend(old.difference(&new).map(|node| (Index::Node(*node), None)));
        change.indexes.extend(new.difference(&old).map(|node| (Index::Node(*node), Some(0))));
        if base.wall_deadline != commit.wall_deadline {
            change.indexes.push((Index::Wall, score(commit.wall_deadline)));
        }
        change
    }

    fn count(&mut self, old: &Record, new: &Record) {
        let mut totals = Totals {
            online: [MIDDLE; Platform::ALL.len()],
            push_online: [MIDDLE; Platform::ALL.len()],
            users: [MIDDLE; 3],
            away: MIDDLE,
        };
        totals.replace(&old.census(), &new.census());
        let changes = fields(&totals).map(|(field, count)| (field, difference(count)));
        self.counts.extend(changes.filter(|(_, difference)| *difference != 0));
    }

    /// A damaged record does not say which indexes have the user.
    fn replace_damaged(&mut self, new: &Record, wall: Option<Timestamp>) {
        let state = new.census().state;
        self.indexes = STATES.map(|it| (Index::State(it), (state == Some(it)).then_some(0))).into();
        self.indexes.extend(nodes(new).into_iter().map(|node| (Index::Node(node), Some(0))));
        self.indexes.push((Index::Wall, score(wall)));
    }
}

fn difference(count: u64) -> i64 {
    count.cast_signed() - MIDDLE.cast_signed()
}

fn score(wall: Option<Timestamp>) -> Option<u64> {
    wall.map(Timestamp::as_millis)
}

/// The nodes with an `Online` terminal of a user.
pub(super) fn nodes(record: &Record) -> BTreeSet<NodeId> {
    let online = record.terminals.iter().filter(|terminal| terminal.state() == State::Online);
    online.map(|terminal| terminal.connection.node).collect()
}

/// The counts by the names of their fields: those that nodes of another version know, too.
fn fields(totals: &Totals) -> impl Iterator<Item = (String, u64)> {
    let mut totals = *totals;
    names().filter_map(move |name| {
        let count = *field(&mut totals, &name)?;
        Some((name, count))
    })
}

fn names() -> impl Iterator<Item = String> {
    let platforms = Platform::ALL.map(Platform::name);
    let online = platforms.map(|platform| format!("online:{platform}"));
    let push = platforms.map(|platform| format!("push:{platform}"));
    let users = STATES.map(|state| format!("users:{}", state.name()));
    online.into_iter().chain(push).chain(users).chain([AWAY.to_owned()])
}

/// The count with a name; `None` if only another version knows it.
fn field<'a>(totals: &'a mut Totals, name: &str) -> Option<&'a mut u64> {
    if name == AWAY {
        return Some(&mut totals.away);
    }
    let (kind, of) = name.split_once(':')?;
    let platform = || Platform::ALL.iter().position(|platform| platform.name() == of);
    match kind {
        "online" => totals.online.get_mut(platform()?),
        "push" => totals.push_online.get_mut(platform()?),
        "users" => {
            let state = STATES.iter().find(|state| state.name() == of)?;
            totals.users.get_mut(*state as usize)
        }
        _ => None,
    }
}

/// Adds a field of a partition's counts to the totals.
pub(super) fn add_field(totals: &mut Totals, name: &str, count: u64) {
    if let Some(total) = field(totals, name) {
        *total += count;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Change, Index, add_field, fields};
    use crate::presence::{Link, NodeId, Record, State, Terminal, Timestamp};
    use crate::store::{Commit, Revision, Stored, Totals};

    const NODE: NodeId = NodeId(1);

    /// A user with a session on each of these nodes.
    fn online(nodes: &[u64]) -> Record {
        let terminal = |node: &u64| -> Terminal {
            let json = serde_json::json!({
                "session": "00000000000000000000000000000001", "platform": "web", "device": "d",
                "connection": { "node": node, "serial": 1 }, "link": "Connected", "since": 1,
                "heard": 1, "token_until": 2,
            });
            serde_json::from_value(json).expect("a terminal")
        };
        let terminals = nodes.iter().map(terminal).collect();
        Record { version: 1, terminals, ..Record::default() }
    }

    fn stored(record: Record) -> Stored {
        Stored { record: Arc::new(record), wall_deadline: None, revision: Revision(1) }
    }

    fn commit(record: Record, wall_deadline: Option<Timestamp>) -> Commit {
        let (record, transitions) = (Arc::new(record), Vec::new());
        Commit { node: NODE, record, wall_deadline, transitions, sync: false, message: None }
    }

    #[test]
    fn a_login_adds_to_counts_and_indexes() {
        let change = Change::of(&Stored::default(), &commit(online(&[1]), None));
        assert_eq!(change.counts, [("online:web".to_owned(), 1), ("users:Online".to_owned(), 1)]);
        let added = [(Index::State(State::Online), Some(0)), (Index::Node(NODE), Some(0))];
        assert_eq!(change.indexes, added);
    }

    #[test]
    fn an_unchanged_record_changes_nothing_else() {
        let change = Change::of(&stored(online(&[1, 2])), &commit(online(&[2, 1]), None));
        assert_eq!(change, Change::default());
    }

    #[test]
    fn moves_between_states_nodes_and_deadlines_are_followed() {
        let mut push = online(&[1]);
        push.terminals[0].link = Link::Push { until: Timestamp::from_millis(9) };
        let wall = Some(Timestamp::from_millis(9));
        let change = Change::of(&stored(online(&[1])), &commit(push, wall));
        let counts =
            [("online:web", -1), ("push:web", 1), ("users:PushOnline", 1), ("users:Online", -1)];
        assert_eq!(change.counts, counts.map(|(field, by)| (field.to_owned(), by)));
        let indexes = [
            (Index::State(State::Online), None),
            (Index::State(State::PushOnline), Some(0)),
            (Index::Node(NODE), None),
            (Index::Wall, Some(9)),
        ];
        assert_eq!(change.indexes, indexes);
    }

    #[test]
    fn a_replaced_damaged_record_is_removed_from_all_states() {
        let base = Stored::damaged(Revision(5));
        let since = Some(Timestamp::from_millis(2));
        let offline = Record { version: 3, since, ..Record::default() };
        let change = Change::of(&base, &commit(offline, None));
        let indexes = [
            (Index::State(State::Offline), Some(0)),
            (Index::State(State::PushOnline), None),
            (Index::State(State::Online), None),
            (Index::Wall, None),
        ];
        assert_eq!(change.indexes, indexes);
    }

    #[test]
    fn counts_are_read_as_they_are_written() {
        let mut totals = Totals { users: [1, 2, 3], away: 6, ..Totals::default() };
        totals.online[3] = 4;
        totals.push_online[0] = 5;
        let mut read = Totals::default();
        for (field, count) in fields(&totals) {
            add_field(&mut read, &field, count);
        }
        for unknown in ["", "online", "online:toaster", "users:Away", "sessions:web"] {
            add_field(&mut read, unknown, 1);
        }
        assert_eq!(read, totals);
    }
}
