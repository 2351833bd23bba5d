//! What callers see without asking the database: the counts, the head, and the records used last.

use parking_lot::Mutex;
use tokio::sync::watch;

use super::cache::Cache;
use super::columns::Due;
use super::damage::Damage;
use super::tail::Tail;
use crate::presence::Timestamp;
use crate::store::Cursor;

/// What callers see: the database as of the last transaction.
pub(super) struct View {
    pub(super) cache: Cache,
    pub(super) damage: Damage,
    head: watch::Sender<Cursor>,
    shown: Mutex<Shown>,
}

#[derive(Debug, Clone, Copy)]
struct Shown {
    tail: Tail,
    /// When the first record is due.
    due: Due,
}

impl View {
    pub(super) fn new(damage: Damage, tail: Tail, due: Due) -> Self {
        let head = watch::Sender::new(tail.head);
        Self { cache: Cache::new(), damage, head, shown: Mutex::new(Shown { tail, due }) }
    }

    pub(super) fn tail(&self) -> Tail {
        self.shown.lock().tail
    }

    pub(super) fn head(&self) -> watch::Receiver<Cursor> {
        self.head.subscribe()
    }

    /// Whether any record is due.
    pub(super) fn is_any_due(&self, now: Timestamp, wall: Timestamp) -> bool {
        let Due { running, wall: on_the_wall } = self.shown.lock().due;
        let is_due = |at: Option<Timestamp>, now| at.is_some_and(|at| at <= now);
        is_due(running, now) || is_due(on_the_wall, wall)
    }

    /// Shows what a transaction left.
    pub(super) fn show(&self, tail: Tail, due: Due) {
        *self.shown.lock() = Shown { tail, due };
        if *self.head.borrow() != tail.head {
            self.head.send_replace(tail.head);
        }
    }
}
