//! Lists of users from the indexes of all partitions, and the counts.

use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use redis::cmd;

use super::change::add_field;
use super::merge::{Page, merge, share};
use super::router::At;
use super::row;
use super::state::State;
use crate::clock::monotonic;
use crate::presence::{NodeId, Timestamp, UserId};
use crate::store::rules::most_overdue;
use crate::store::{Among, Damaged, Listed, Part, StoreError, Stored, Totals};

/// How long the counts of all partitions are served without reading them again.
const TOTALS_FOR: Duration = Duration::from_secs(1);

/// An index in which users are listed in the byte order of their ids.
struct Source {
    part: u32,
    key: String,
}

/// Where a list begins and ends, as `ZRANGE … BYLEX` writes it.
struct Range {
    begin: Vec<u8>,
    end: Vec<u8>,
}

impl Range {
    fn of(among: &Among) -> Self {
        let (from, is_after) = among.begin();
        // No id contains the byte 0xff, so all ids with the prefix are before it.
        let end = [b"(", among.prefix.as_bytes(), b"\xff"].concat();
        Self { begin: bound(from, is_after), end }
    }

    fn after(user: Option<&UserId>) -> Self {
        let begin = user.map_or_else(|| b"-".to_vec(), |user| bound(user.as_str(), true));
        Self { begin, end: b"+".to_vec() }
    }
}

fn bound(from: &str, is_after: bool) -> Vec<u8> {
    let sign: &[u8] = if is_after { b"(" } else { b"[" };
    [sign, from.as_bytes()].concat()
}

impl State {
    pub(super) async fn users(
        &self,
        among: &Among,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        let states = self.grid.parts().flat_map(|part| {
            let keys = self.keys(part);
            among.states.iter().map(move |state| Source { part, key: keys.state(*state) })
        });
        let sources: Vec<_> = states.collect();
        // The record may have changed after its index was read.
        let is_listed = |stored: &Stored| {
            stored.record.version > 0 && among.states.contains(&stored.record.state())
        };
        self.list(&sources, Range::of(among), limit, is_listed).await
    }

    pub(super) async fn held(
        &self,
        node: NodeId,
        wanted: Part,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        let source = |part| Source { part, key: self.keys(part).node(node) };
        let is_wanted = |part: &u32| wanted == Part::ALL || wanted.index() == *part;
        let parts = self.grid.parts().filter(is_wanted);
        let sources: Vec<_> = parts.map(source).collect();
        let is_listed = |stored: &Stored| stored.record.is_held_by(node);
        self.list(&sources, Range::after(after), limit, is_listed).await
    }

    /// Lists the users of some indexes in one order.
    async fn list(
        &self,
        sources: &[Source],
        mut range: Range,
        limit: usize,
        is_listed: impl Fn(&Stored) -> bool,
    ) -> Result<Vec<Listed>, StoreError> {
        let mut listed = Vec::new();
        while listed.len() < limit {
            let size = share(limit - listed.len(), sources.len());
            let pages = sources.iter().map(|source| self.page(source, &range, size));
            let (mut ids, is_more) = merge(try_join_all(pages).await?, Vec::clone);
            let Some(last) = ids.last() else { break };
            range.begin = [b"(", &last[..]].concat();
            ids.dedup();
            let users = ids.iter().filter_map(|id| UserId::stored(str::from_utf8(id).ok()?).ok());
            let stored = self.load_all(users.collect()).await?;
            let is_kept = |it: &Result<Stored, Damaged>| it.as_ref().map_or(true, &is_listed);
            let stored = stored.into_iter().filter(|(_, stored)| is_kept(stored));
            listed.extend(stored.map(|(user, it)| (user, it.map(|it| Arc::clone(&it.record)))));
            if !is_more {
                break;
            }
        }
        listed.truncate(limit);
        Ok(listed)
    }

    async fn page(
        &self,
        source: &Source,
        range: &Range,
        size: usize,
    ) -> Result<Page<Vec<u8>>, StoreError> {
        let mut command = cmd("ZRANGE");
        command.arg(&source.key).arg(&range.begin).arg(&range.end);
        command.arg("BYLEX").arg("LIMIT").arg(0).arg(size);
        let items: Vec<Vec<u8>> = self.run(At::Part(source.part), &command).await?;
        Ok(Page { is_full: items.len() == size, items })
    }

    /// Loads users, in this order; those without a record are left out.
    async fn load_all(
        &self,
        users: Vec<UserId>,
    ) -> Result<Vec<(UserId, Result<Stored, Damaged>)>, StoreError> {
        let rows = try_join_all(users.iter().map(|user| self.row(user))).await?;
        let stored = |(user, row): (UserId, Option<Vec<u8>>)| {
            let stored = row::decode(&row?).map_err(|_| {
                self.note_damaged(&user);
                Damaged
            });
            Some((user, stored))
        };
        Ok(users.into_iter().zip(rows).filter_map(stored).collect())
    }

    pub(super) async fn due(
        &self,
        node: NodeId,
        now: Timestamp,
        wall: Timestamp,
        limit: usize,
    ) -> Result<Vec<UserId>, StoreError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let mut due =
            if self.is_node(node) { self.ledger.lock().due(now, limit) } else { Vec::new() };
        let mut kept = self.kept();
        kept.retain(|part| self.places.lock().may_be_due(*part, wall));
        let by_wall = kept.into_iter().map(|part| self.due_on_the_wall(part, wall, limit));
        due.extend(try_join_all(by_wall).await?.into_iter().flatten());
        Ok(most_overdue(due, limit))
    }

    async fn due_on_the_wall(
        &self,
        part: u32,
        wall: Timestamp,
        limit: usize,
    ) -> Result<Vec<(Duration, UserId)>, StoreError> {
        let mut command = cmd("ZRANGE");
        command.arg(&self.keys(part).wall).arg("-inf").arg(wall.as_millis()).arg("BYSCORE");
        command.arg("LIMIT").arg(0).arg(i64::try_from(limit).unwrap_or(i64::MAX)).arg("WITHSCORES");
        let due: Vec<(String, f64)> = self.run(At::Part(part), &command).await?;
        let overdue = |(user, at): (String, f64)| {
            let at = Timestamp::from_millis(at as u64);
            Some((wall - at, UserId::stored(&user).ok()?))
        };
        Ok(due.into_iter().filter_map(overdue).collect())
    }

    pub(super) async fn totals(&self) -> Result<Totals, StoreError> {
        let now = monotonic();
        if let Some((at, totals)) = *self.totals.lock()
            && now - at < TOTALS_FOR
        {
            return Ok(totals);
        }
        let counts = self.grid.parts().map(async |part| {
            let mut command = cmd("HGETALL");
            command.arg(&self.keys(part).counts);
            self.run::<Vec<(String, i64)>>(At::Part(part), &command).await
        });
        let mut totals = Totals::default();
        for (field, count) in try_join_all(counts).await?.into_iter().flatten() {
            // A count is below zero only after Redis has lost commits.
            add_field(&mut totals, &field, u64::try_from(count).unwrap_or_default());
        }
        *self.totals.lock() = Some((now, totals));
        Ok(totals)
    }
}
