//! Which primary has which partition: one server has all of them, a Redis Cluster by its slots.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use redis::{Cmd, FromRedisValue, ScriptInvocation, Value, cmd, from_redis_value};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::fault::{Fault, FaultKind};
use super::link::{Link, Reach, Request};
use super::metrics::Metrics;
use super::tags::{hash_tags, slot};
use crate::clock::monotonic;
use crate::store::StoreError;

/// The least time between two readings of the cluster's slots.
const REFRESH_EVERY: Duration = Duration::from_millis(200);
/// How long a request waits before it is sent to a partition's new primary: at once, then until the other servers
/// have heard of the move.
const PAUSES_AFTER_MOVE: [Duration; 3] = [Duration::ZERO, REFRESH_EVERY, REFRESH_EVERY];

/// Where a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    Part(u32),
    /// The keys of no partition.
    Hub,
}

/// Some slots of a cluster, and the address of their primary.
struct SlotRange {
    slots: RangeInclusive<u32>,
    host: String,
    port: u16,
}

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
        self.send(at, Request::Command(command), Reach::Primary).await
    }

    pub(super) async fn call<T: FromRedisValue>(
        &self,
        at: At,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        self.send(at, Request::Script(script), Reach::Primary).await
    }

    /// Calls a script, and waits until a replica has what it wrote, if there is a replica.
    pub(super) async fn call_on_replica<T: FromRedisValue>(
        &self,
        at: At,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        self.send(at, Request::Script(script), Reach::Replica).await
    }

    /// Sends a request, and again to the new primary if the partition has moved.
    async fn send<T: FromRedisValue>(
        &self,
        at: At,
        request: Request<'_>,
        reach: Reach,
    ) -> Result<T, StoreError> {
        let mut answer = self.link(at).send(request, reach).await;
        for pause in PAUSES_AFTER_MOVE {
            let Err(Fault { kind: FaultKind::Moved, .. }) = answer else { break };
            tokio::time::sleep(pause).await;
            self.refresh().await;
            answer = self.link(at).send(request, reach).await;
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
                Ok(answer) => return self.follow(&link, &slot_ranges(&answer, link.host())).await,
                Err(fault) => tracing::debug!(%fault, "cannot read the slots of the cluster"),
            }
        }
    }

    /// Connects to new primaries, then moves the partitions.
    async fn follow(&self, from: &Link, ranges: &[SlotRange]) {
        for SlotRange { host, port, .. } in ranges {
            let link =
                Link::new(from.info_at(host, *port), self.timeout, Arc::clone(&self.metrics));
            if self.table.read().links.contains_key(&link.name) {
                continue;
            }
            // If it fails now, the link's own task tries again.
            link.connect().await.ok();
            self.keep_connected(&link);
            self.table.write().links.insert(link.name.clone(), link);
        }
        if self.table.write().moved(&self.slots, self.hub_slot, ranges) {
            self.changes.send_modify(|changes| *changes += 1);
        }
    }
}

impl Table {
    /// Moves the partitions to the primaries of their slots; returns whether any has moved.
    fn moved(&mut self, slots: &[u32], hub_slot: u32, ranges: &[SlotRange]) -> bool {
        let mut is_changed = false;
        let parts = self.parts.iter_mut().zip(slots).chain([(&mut self.hub, &hub_slot)]);
        for (link, slot) in parts {
            let range = ranges.iter().find(|range| range.slots.contains(slot));
            let primary = range.and_then(|it| self.links.get(&format!("{}:{}", it.host, it.port)));
            let Some(primary) = primary else { continue };
            is_changed |= link.name != primary.name;
            *link = Arc::clone(primary);
        }
        is_changed
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

/// Reads the answer to `CLUSTER SLOTS`. A server that does not know its own host is at `own_host`.
fn slot_ranges(answer: &Value, own_host: &str) -> Vec<SlotRange> {
    let Value::Array(ranges) = answer else { return Vec::new() };
    let range = |range: &Value| -> Option<SlotRange> {
        let Value::Array(range) = range else { return None };
        let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = &range[..] else {
            return None;
        };
        let [host, Value::Int(port), ..] = &primary[..] else { return None };
        let host = from_redis_value::<Option<String>>(host.clone()).ok()?;
        let host = host.filter(|host| !host.is_empty()).unwrap_or_else(|| own_host.to_owned());
        let slots = u32::try_from(*first).ok()?..=u32::try_from(*last).ok()?;
        Some(SlotRange { slots, host, port: u16::try_from(*port).ok()? })
    };
    ranges.iter().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::slot_ranges;

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn slots_are_read_with_their_primary() {
        let server = |host: Value, port| Value::Array(vec![host, Value::Int(port), text("id")]);
        let range = |first, last, servers: [Value; 2]| {
            let [primary, replica] = servers;
            Value::Array(vec![Value::Int(first), Value::Int(last), primary, replica])
        };
        let answer = Value::Array(vec![
            range(0, 99, [server(text("10.0.0.1"), 7001), server(text("10.0.0.2"), 7002)]),
            range(100, 16_383, [server(Value::Nil, 7003), server(text(""), 7004)]),
            Value::Int(1),
        ]);
        let ranges = slot_ranges(&answer, "seed");
        let read: Vec<_> = ranges.iter().map(|it| (it.slots.clone(), &*it.host, it.port)).collect();
        assert_eq!(read, [(0..=99, "10.0.0.1", 7001), (100..=16_383, "seed", 7003)]);
        assert!(slot_ranges(&Value::Nil, "seed").is_empty());
    }
}
