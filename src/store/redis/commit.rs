//! Loads and commits records.

use std::time::Instant;

use redis::{ScriptInvocation, Value, cmd, from_redis_value};

use super::change::{Change, Index};
use super::keys::PartKeys;
use super::router::At;
use super::row;
use super::scripts::COMMIT;
use super::state::{State, place_of};
use crate::clock::monotonic;
use crate::presence::{NodeId, Record, Timestamp, UserId};
use crate::store::{Commit, LogEntry, Revision, StoreError, Stored};

/// What the script answers.
enum Answer {
    Committed,
    Conflict,
    Retired,
    /// The deadline had passed; nothing was written.
    Late,
}

/// The earliest deadline of a node's own terminals.
fn deadline(record: &Record, node: NodeId) -> Option<Timestamp> {
    record.deadlines().find(|(of, _)| *of == node).map(|(_, at)| at)
}

impl State {
    pub(super) async fn load(&self, user: &UserId) -> Result<Stored, StoreError> {
        let begin = self.ledger.lock().begin_load();
        let Some(row) = self.row(user).await? else {
            self.ledger.lock().loaded(user, begin, None);
            return Ok(Stored::default());
        };
        let stored = row::decode(&row);
        match &stored {
            Ok(stored) => {
                self.damaged.lock().remove(user);
                if let Some(node) = self.node() {
                    let at = deadline(&stored.record, node);
                    self.ledger.lock().loaded(user, begin, at);
                }
            }
            Err(_) => self.note_damaged(user),
        }
        stored
    }

    pub(super) async fn row(&self, user: &UserId) -> Result<Option<Vec<u8>>, StoreError> {
        let part = self.part_of(user);
        let row = self.reads.read(&self.router, part, self.keys(part).record(user)).await;
        row.inspect_err(|error| self.note_failure(error))
    }

    pub(super) fn note_damaged(&self, user: &UserId) {
        if self.damaged.lock().insert(user.clone()) {
            tracing::error!(
                user = user.as_str(),
                "the store has a damaged record; the user's next event replaces it"
            );
        }
    }

    pub(super) async fn commit(
        &self,
        user: &UserId,
        base: &Stored,
        commit: &Commit,
    ) -> Result<(), StoreError> {
        let expected = match base.is_damaged() {
            true => self.keep_damaged(user, base.revision).await?,
            false => row::revision_text(base.revision).into_bytes(),
        };
        let is_own = self.is_node(commit.node);
        let at = deadline(&commit.record, commit.node);
        let answer = self.commit_in_time(user, base, commit, &expected).await;
        let mut ledger = self.ledger.lock();
        match answer {
            Ok(Answer::Committed) if is_own => ledger.committed(user, at),
            Ok(Answer::Committed | Answer::Conflict | Answer::Retired | Answer::Late) => (),
            // It may have been written.
            Err(_) if is_own => ledger.in_doubt(user, at),
            Err(_) => (),
        }
        drop(ledger);
        match answer? {
            Answer::Committed => {
                self.damaged.lock().remove(user);
                self.count(base, commit);
                Ok(())
            }
            Answer::Conflict => Err(StoreError::Conflict),
            Answer::Retired => Err(StoreError::Retired),
            Answer::Late => {
                let late =
                    StoreError::unavailable(&"a commit reached Redis too late; it was not written");
                self.note_failure(&late);
                Err(late)
            }
        }
    }

    /// Commits. A commit may be late because this node knows the server's clock badly; the answer says what
    /// time it is there, so one more attempt is made.
    async fn commit_in_time(
        &self,
        user: &UserId,
        base: &Stored,
        commit: &Commit,
        expected: &[u8],
    ) -> Result<Answer, StoreError> {
        let begun = monotonic();
        let answer = self.try_commit(user, base, commit, expected).await?;
        if matches!(answer, Answer::Late) && monotonic() - begun < self.commit_within() {
            return self.try_commit(user, base, commit, expected).await;
        }
        Ok(answer)
    }

    async fn try_commit(
        &self,
        user: &UserId,
        base: &Stored,
        commit: &Commit,
        expected: &[u8],
    ) -> Result<Answer, StoreError> {
        let (part, sent) = (self.part_of(user), monotonic());
        let change = Change::of(base, commit);
        let mut call = self.call_with_keys(part, user, &change);
        self.add_arguments(&mut call, (part, user), (commit, expected), sent);
        add_changes(&mut call, user, &change, commit);
        let answer: Vec<Value> = if commit.sync {
            self.call_on_replica(At::Part(part), &call).await?
        } else {
            self.call(At::Part(part), &call).await?
        };
        let unexpected =
            || StoreError::unavailable(&"the commit script answered something unexpected");
        let text = |place: usize| {
            let value = answer.get(place).ok_or_else(unexpected)?;
            from_redis_value::<String>(value.clone()).map_err(|_| unexpected())
        };
        match &*text(0)? {
            "ok" => {
                if let Some(wall) = commit.wall_deadline {
                    self.places.lock().add_wall(part, wall);
                }
                let place = place_of(&text(1)?)?;
                if !commit.transitions.is_empty() {
                    let mut last = self.last_commit.lock();
                    *last = place.last.max(*last);
                }
                self.note_place(part, place);
                Ok(Answer::Committed)
            }
            "conflict" => Ok(Answer::Conflict),
            "retired" => Ok(Answer::Retired),
            "late" => {
                let server_ms = text(1)?.parse().map_err(|_| unexpected())?;
                self.router.link(At::Part(part)).clock.note(sent, monotonic(), server_ms);
                Ok(Answer::Late)
            }
            _ => Err(unexpected()),
        }
    }

    fn call_with_keys(
        &self,
        part: u32,
        user: &UserId,
        change: &Change,
    ) -> ScriptInvocation<'static> {
        let keys = self.keys(part);
        let mut call = COMMIT.prepare_invoke();
        call.key(keys.record(user)).key(&keys.log).key(&keys.place);
        call.key(&keys.counts).key(&keys.gone).key(&keys.feed);
        for (index, _) in &change.indexes {
            call.key(index_key(keys, *index));
        }
        call
    }

    /// The arguments that every commit has, up to the number of indexes.
    fn add_arguments(
        &self,
        call: &mut ScriptInvocation<'_>,
        (part, user): (u32, &UserId),
        (commit, expected): (&Commit, &[u8]),
        sent: Instant,
    ) {
        let within = u64::try_from(self.commit_within().as_millis()).unwrap_or(u64::MAX);
        let message = commit.message.as_ref().map(serde_json::to_string);
        let message =
            message.map(|json| json.unwrap_or_else(|error| unreachable!("JSON: {error}")));
        let after = self.places.lock().clock(part).max(*self.last_commit.lock());
        let revision = Revision(rand::random::<u64>().max(1));
        call.arg(commit.node.to_string())
            .arg(self.router.link(At::Part(part)).clock.now(sent) + within)
            .arg(expected)
            .arg(row::revision_text(revision))
            .arg(row::tail(&commit.record, commit.wall_deadline))
            .arg(user.as_str())
            .arg(message.unwrap_or_default())
            .arg(after.ms)
            .arg(after.seq)
            .arg(self.grid.seq_max());
    }

    /// Copies a damaged row to a key for operators, and returns what the commit must find in its place of the
    /// revision.
    async fn keep_damaged(&self, user: &UserId, revision: Revision) -> Result<Vec<u8>, StoreError> {
        let row = self.row(user).await?.unwrap_or_default();
        if row::damaged_revision(&row) != revision {
            return Err(StoreError::Conflict);
        }
        let part = self.part_of(user);
        let mut copy = cmd("HSET");
        copy.arg(&self.keys(part).damaged).arg(user.as_str()).arg(&row);
        self.run::<()>(At::Part(part), &copy).await?;
        Ok(row.get(..16).unwrap_or(&row).to_vec())
    }

    /// Applies a commit to the cached totals.
    fn count(&self, base: &Stored, commit: &Commit) {
        if let Some((_, totals)) = &mut *self.totals.lock() {
            totals.replace(&base.record.census(), &commit.record.census());
        }
    }
}

/// The numbers of changes, then the changes.
fn add_changes(call: &mut ScriptInvocation<'_>, user: &UserId, change: &Change, commit: &Commit) {
    call.arg(change.counts.len()).arg(change.indexes.len()).arg(commit.transitions.len());
    for (field, by) in &change.counts {
        call.arg(field).arg(by);
    }
    for (_, score) in &change.indexes {
        call.arg(score.map_or_else(|| "x".to_owned(), |score| score.to_string()));
    }
    for transition in &commit.transitions {
        call.arg(transition.at.as_millis()).arg(&*LogEntry::encode(user, transition));
    }
}

fn index_key(keys: &PartKeys, index: Index) -> String {
    match index {
        Index::State(state) => keys.state(state),
        Index::Node(node) => keys.node(node),
        Index::Wall => keys.wall.clone(),
    }
}
