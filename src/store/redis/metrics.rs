//! Counts of what this node does with Redis.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::store::ServerCounts;

#[derive(Debug, Default)]
pub(super) struct Metrics {
    commands: AtomicU64,
    failures: AtomicU64,
    busy_us: AtomicU64,
    reconnects: AtomicU64,
    missed: AtomicU64,
    clock_ms: AtomicI64,
}

impl Metrics {
    pub(super) fn ran(&self, took: Duration, is_ok: bool) {
        self.commands.fetch_add(1, Ordering::Relaxed);
        self.failures.fetch_add(u64::from(!is_ok), Ordering::Relaxed);
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.busy_us.fetch_add(us, Ordering::Relaxed);
    }

    pub(super) fn reconnected(&self) {
        self.reconnects.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn missed(&self) {
        self.missed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn set_clock_ms(&self, clock_ms: i64) {
        self.clock_ms.store(clock_ms, Ordering::Relaxed);
    }

    pub(super) fn clock_ms(&self) -> i64 {
        self.clock_ms.load(Ordering::Relaxed)
    }

    pub(super) fn counts(&self) -> ServerCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        ServerCounts {
            commands: read(&self.commands),
            failures: read(&self.failures),
            busy: Duration::from_micros(read(&self.busy_us)),
            reconnects: read(&self.reconnects),
            missed: read(&self.missed),
            clock_ms: self.clock_ms(),
        }
    }
}
