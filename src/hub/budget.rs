//! The budget for the bytes that connections hold in memory: unsent ones, and those of unfinished messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// The bytes that all connections hold, and how many they may.
#[derive(Debug)]
pub(super) struct Budget {
    held: AtomicUsize,
    limit: AtomicUsize,
    exceeded: Notify,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            held: AtomicUsize::new(0),
            limit: AtomicUsize::new(usize::MAX),
            exceeded: Notify::new(),
        }
    }
}

impl Budget {
    /// The bytes that all connections hold.
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// The bytes that they may hold.
    pub(super) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Sets how many bytes they may hold.
    pub(super) fn set_limit(&self, bytes: usize) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    /// Waits until they hold more.
    pub(super) async fn exceeded(&self) {
        self.exceeded.notified().await;
    }

    /// Whether more than half is in use: new logins are refused before anybody is cut.
    pub(super) fn is_half_used(&self) -> bool {
        self.held() > self.limit() / 2
    }
}

/// What one connection holds of the budget.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Share {
    pub(super) const fn new(budget: Arc<Budget>) -> Self {
        Self { budget, bytes: 0 }
    }

    /// How many bytes the connection holds.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sets how many bytes the connection holds now.
    pub(super) fn set(&mut self, bytes: usize) {
        if bytes > self.bytes {
            let more = bytes - self.bytes;
            let held = self.budget.held.fetch_add(more, Ordering::Relaxed) + more;
            if held > self.budget.limit() {
                self.budget.exceeded.notify_one();
            }
        } else if bytes < self.bytes {
            self.budget.held.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}
