//! The server's log, as the webhook reads it, and whose turn it is to post.

use presence_hub::presence::{NodeId, UserId};
use presence_hub::store::{Cursor, HistoryPart, LogEntry, Progress, Save, StoreError};

use super::server::{Logged, Server};

impl Logged {
    fn entry(&self) -> LogEntry {
        let event = LogEntry::encode(&self.user, &self.transition);
        LogEntry { cursor: self.cursor, user: self.user.clone(), event: Ok(event) }
    }
}

impl Server {
    pub(super) fn entries(&self, after: Option<Cursor>, limit: usize) -> Vec<LogEntry> {
        let after = after.unwrap_or_default();
        let first = self.log.partition_point(|logged| logged.cursor <= after);
        self.log[first..].iter().take(limit).map(Logged::entry).collect()
    }

    pub(super) fn history(&self, user: &UserId, part: HistoryPart, limit: usize) -> Vec<LogEntry> {
        let own = self.log.iter().filter(|logged| logged.user == *user);
        match part {
            HistoryPart::After(cursor) => {
                own.filter(|it| it.cursor > cursor).take(limit).map(Logged::entry).collect()
            }
            HistoryPart::Before(cursor) => {
                let before = own.rev().filter(|it| cursor.is_none_or(|cursor| it.cursor < cursor));
                before.take(limit).map(Logged::entry).collect()
            }
        }
    }

    /// Gives a node the seat if its holder is gone; returns whether the node has it.
    pub(super) fn take_seat(&mut self, node: NodeId) -> bool {
        let is_gone = self.seat.is_none_or(|holder| self.retired.contains(&holder));
        if is_gone {
            self.seat = Some(node);
        }
        self.seat == Some(node)
    }

    pub(super) fn progress(&self) -> Option<Progress> {
        let position = self.position?;
        Some(Progress { position, ..Progress::default() })
    }

    pub(super) fn save(&mut self, node: NodeId, save: &Save) -> Result<(), StoreError> {
        // The receiver accepts everything.
        assert!(save.held.is_empty() && save.dead.is_empty(), "{save:?}");
        if self.retired.contains(&node) {
            return Err(StoreError::Retired);
        }
        if self.seat.is_some_and(|holder| holder != node) {
            return Err(StoreError::Conflict);
        }
        self.position = Some(save.position);
        Ok(())
    }
}
