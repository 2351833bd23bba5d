//! Queries: read records, statuses and totals, and change nothing.

use std::sync::Arc;

use futures::future::try_join_all;

use super::{Hub, Unavailable};
use crate::presence::{ConnectionId, Link, Record, SessionId, Status, Timestamp, UserId};
use crate::store::{Among, Damaged, Listed, Log, ServerCounts, StoreError, Totals};

/// How many records are loaded concurrently: joining more futures costs more than it saves.
const RECORDS_AT_ONCE: usize = 30;

impl Hub {
    /// A user's record.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn record(&self, user: &UserId) -> Result<Arc<Record>, Unavailable> {
        Ok(self.store.load(user).await?.record)
    }

    /// Many users' records, in the same order; [`Damaged`] in place of a damaged one.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn records(
        &self,
        users: &[UserId],
    ) -> Result<Vec<Result<Arc<Record>, Damaged>>, Unavailable> {
        let mut records = Vec::with_capacity(users.len());
        let load = async |user: &UserId| match self.store.load(user).await {
            Ok(stored) => Ok(Ok(stored.record)),
            Err(StoreError::Damaged { .. }) => Ok(Err(Damaged)),
            Err(error) => Err(Unavailable::from(error)),
        };
        for some in users.chunks(RECORDS_AT_ONCE) {
            records.extend(try_join_all(some.iter().map(load)).await?);
        }
        Ok(records)
    }

    /// Many users' statuses as a viewer sees them (P4), in the same order; `None` stands for whoever has no answer of
    /// their own.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn statuses_for(
        &self,
        viewer: Option<&UserId>,
        users: &[UserId],
    ) -> Result<Vec<Status>, Unavailable> {
        let mut statuses = Vec::with_capacity(users.len());
        let policy = self.policy();
        for (user, record) in users.iter().zip(self.records(users).await?) {
            statuses.push(match record {
                Ok(record) => record.status_for(user, viewer, &policy, self.clock.wall()),
                Err(Damaged) => self.last_logged_status(user).await?,
            });
        }
        Ok(statuses)
    }

    /// Lists users with their records, in the byte order of their ids.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn users(&self, among: &Among, limit: usize) -> Result<Vec<Listed>, Unavailable> {
        Ok(self.store.users(among, limit).await?)
    }

    /// The transition log.
    pub fn log(&self) -> &dyn Log {
        &*self.store
    }

    /// The number of damaged rows in the store that were found in this run and not repaired.
    pub fn damaged_rows(&self) -> u64 {
        self.store.damaged()
    }

    /// Counts terminals and users.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn totals(&self) -> Result<Totals, Unavailable> {
        let totals = self.store.totals().await?;
        *self.last_totals.lock() = totals;
        Ok(totals)
    }

    /// Counts terminals and users; if the store fails, as they were when it last answered.
    pub async fn last_totals(&self) -> Totals {
        match self.totals().await {
            Ok(totals) => totals,
            Err(_) => *self.last_totals.lock(),
        }
    }

    /// What this node has done with the store's server, if the store has one.
    pub fn server_counts(&self) -> Option<ServerCounts> {
        self.store.server_counts()
    }

    /// Checks that the store can read and commit.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn check(&self) -> Result<(), Unavailable> {
        Ok(self.store.check().await?)
    }

    /// How many connections of this node have a session.
    pub fn sessions_here(&self) -> usize {
        self.registry.sessions()
    }

    /// When a connection of this node was last heard, on the wall clock.
    pub fn heard(&self, connection: ConnectionId) -> Option<Timestamp> {
        self.registry.get(connection).map(|mailbox| self.clock.to_wall(mailbox.heard()))
    }

    /// The connections on this node that watch a user, the oldest first, each with its own user.
    pub fn watchers(&self, user: &UserId) -> Vec<(ConnectionId, UserId)> {
        let watched = self.watchers.get(user);
        let watchers = watched.map(|watched| watched.watchers()).unwrap_or_default();
        let known = watchers.iter().filter_map(|w| Some((w.id(), w.user()?.clone())));
        let mut known: Vec<_> = known.collect();
        known.sort_by_key(|(connection, _)| connection.serial);
        known
    }

    /// For development: cuts a session's connection as if its network had failed. Returns whether the
    /// session has a connection on this node.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn cut(&self, user: &UserId, session: SessionId) -> Result<bool, Unavailable> {
        let record = self.record(user).await?;
        let terminal = record.terminal(session).filter(|t| t.link == Link::Connected);
        let mailbox = terminal.and_then(|terminal| self.registry.get(terminal.connection));
        Ok(mailbox.inspect(|mailbox| mailbox.cut()).is_some())
    }
}
