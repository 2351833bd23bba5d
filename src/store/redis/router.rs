//! Which primary has which partition: one server has all of them, a Redis Cluster by its slots.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use redis::{Cmd, FromRedisValue, ScriptInvocation, Value, cmd, from_redis_value};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::fault::{Fault, FaultKind};
use super::link::{Link, Request};
use super::metrics::Metrics;
use super::tags::{hash_tags, slot};
use crate::clock::monotonic;
use crate::store::StoreError;

/// The least time between two readings of the cluster's slots.
const REFRESH_EVERY: Duration = Duration::from_millis(200);

/// Where a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    Part(u32),
    /// The keys of no partition.
    Hub,
}

/// One primary of a cluster, with its first and last slot.
type SlotRange = (u32, u32, String, u16);

pub(super) struct Router {
    table: RwLock<Table>,
    /// The slot of each partition.
    slots: Vec<u32>,
    hub_slot: u32,
    is_cluster: bool,
    timeout: Duration,
    metrics: Arc<Metrics>,
    /// When the slots were last read. Held over an await.
    refreshed: tokio::sync::Mutex<Option<Instant>>,
    /// Notified when the table may be wrong.
    is_stale: Notify,
    /// Counts changes of the table.
    changes: watch::Sender<u64>,
    /// The tasks that keep the links connected.
    tasks: Mutex<Vec<AbortHandle>>,
}

struct Table {
    /// The links by the names of their servers, the seeds included.
    links: BTreeMap<String, Arc<Link>>,
    parts: Vec<Arc<Link>>,
    hub: Arc<Link>,
}

impl Router {
    /// Makes a router over a connected server.
    pub(super) fn new(
        first: &Arc<Link>,
        partitions: u32,
        is_cluster: bool,
        timeout: Duration,
        metrics: Arc<Metrics>,
    ) -> Self {
        let slots: Vec<_> = hash_tags(partitions).iter().map(|tag| slot(tag)).collect();
        let parts = vec![Arc::clone(first); slots.len()];
        let links = [(first.name.clone(), Arc::clone(first))].into();
        let router = Self {
            table: RwLock::new(Table { links, parts, hub: Arc::clone(first) }),
            slots,
            hub_slot: slot("hub"),
            is_cluster,
            timeout,
            metrics,
            refreshed: tokio::sync::Mutex::default(),
            is_stale: Notify::new(),
            changes: watch::Sender::new(0),
            tasks: Mutex::default(),
        };
        router.keep_connected(first);
        router
    }

    fn keep_connected(&self, link: &Arc<Link>) {
        let task = tokio::spawn(Link::keep_connected(Arc::downgrade(link)));
        self.tasks.lock().push(task.abort_handle());
    }

    pub(super) fn link(&self, at: At) -> Arc<Link> {
        let table = self.table.read();
        match at {
            At::Part(part) => Arc::clone(&table.parts[part as usize]),
            At::Hub => Arc::clone(&table.hub),
        }
    }

    /// The partitions of each primary.
    pub(super) fn shares(&self) -> Vec<(Arc<Link>, Vec<u32>)> {
        let mut shares = BTreeMap::<String, (Arc<Link>, Vec<u32>)>::new();
        for (part, link) in (0..).zip(&self.table.read().parts) {
            let share = shares.entry(link.name.clone());
            share.or_insert_with(|| (Arc::clone(link), Vec::new())).1.push(part);
        }
        shares.into_values().collect()
    }

    /// Notified when partitions have moved to another primary.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(super) async fn run<T: FromRedisValue>(
        &self,
        at: At,
        command: &Cmd,
    ) -> Result<T, StoreError> {
        self.send(at, Request::Command(command)).await
    }

    pub(super) async fn call<T: FromRedisValue>(
        &self,
        at: At,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        self.send(at, Request::Script(script)).await
    }

    /// Calls a script, and waits until a replica has what it wrote, if there is a replica.
    pub(super) async fn call_on_replica<T: FromRedisValue>(
        &self,
        at: At,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        let answer = self.link(at).run_on_replica(Request::Script(script)).await;
        answered(answer.inspect_err(|fault| self.note(fault.kind)))
    }

    async fn send<T: FromRedisValue>(&self, at: At, request: Request<'_>) -> Result<T, StoreError> {
        let mut answer = self.link(at).run(request).await;
        if let Err(Fault { kind: FaultKind::Moved, .. }) = answer {
            self.refresh().await;
            answer = self.link(at).run(request).await;
        }
        answered(answer.inspect_err(|fault| self.note(fault.kind)))
    }

    /// A failed command may mean that another server is the primary now.
    fn note(&self, kind: FaultKind) {
        match kind {
            FaultKind::Disconnected
            | FaultKind::Moved
            | FaultKind::Misplaced
            | FaultKind::Timeout => self.is_stale.notify_one(),
            FaultKind::Refused => (),
        }
    }

    /// Reads the slots again whenever they may have moved. Never returns.
    pub(super) async fn keep_fresh(&self) {
        loop {
            self.is_stale.notified().await;
            self.refresh().await;
            tokio::time::sleep(REFRESH_EVERY).await;
        }
    }

    /// Reads the cluster's slots from any server that answers, at most every 200 ms.
    pub(super) async fn refresh(&self) {
        let mut refreshed = self.refreshed.lock().await;
        let is_recent = refreshed.is_some_and(|at| monotonic() - at < REFRESH_EVERY);
        if !self.is_cluster || is_recent {
            return;
        }
        *refreshed = Some(monotonic());
        let links: Vec<_> = self.table.read().links.values().cloned().collect();
        let mut command = cmd("CLUSTER");
        command.arg("SLOTS");
        for link in links {
            match link.run(Request::Command(&command)).await {
                Ok(answer) => return self.apply(&link, &slot_ranges(&answer)),
                Err(fault) => tracing::debug!(%fault, "cannot read the slots of the cluster"),
            }
        }
    }

    /// Makes links to new primaries, and moves the partitions.
    fn apply(&self, from: &Arc<Link>, ranges: &[SlotRange]) {
        let mut table = self.table.write();
        let mut is_changed = false;
        for place in 0..=self.slots.len() {
            let slot = self.slots.get(place).copied().unwrap_or(self.hub_slot);
            let range = ranges.iter().find(|(first, last, ..)| (*first..=*last).contains(&slot));
            let Some((_, _, host, port)) = range else { continue };
            let info = from.info_at(if host.is_empty() { from.host() } else { host }, *port);
            let link = Link::new(info, self.timeout, Arc::clone(&self.metrics));
            let link = Arc::clone(table.links.entry(link.name.clone()).or_insert_with(|| {
                self.keep_connected(&link);
                link
            }));
            let now =
                if place == self.slots.len() { &mut table.hub } else { &mut table.parts[place] };
            is_changed |= now.name != link.name;
            *now = link;
        }
        drop(table);
        if is_changed {
            self.changes.send_modify(|changes| *changes += 1);
        }
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.tasks.lock().iter().for_each(AbortHandle::abort);
    }
}

fn answered<T: FromRedisValue>(answer: Result<Value, Fault>) -> Result<T, StoreError> {
    let unexpected =
        |error| StoreError::unavailable(&format!("unexpected answer of Redis: {error}"));
    from_redis_value(answer?).map_err(unexpected)
}

/// Reads the answer to `CLUSTER SLOTS`: each range of slots with its primary.
fn slot_ranges(answer: &Value) -> Vec<SlotRange> {
    let Value::Array(ranges) = answer else { return Vec::new() };
    let range = |range: &Value| -> Option<SlotRange> {
        let Value::Array(range) = range else { return None };
        let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = &range[..] else {
            return None;
        };
        let [Value::BulkString(host), Value::Int(port), ..] = &primary[..] else { return None };
        let host = String::from_utf8(host.clone()).ok()?;
        Some((
            u32::try_from(*first).ok()?,
            u32::try_from(*last).ok()?,
            host,
            u16::try_from(*port).ok()?,
        ))
    };
    ranges.iter().filter_map(range).collect()
}
