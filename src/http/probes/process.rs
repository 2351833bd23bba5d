//! What the process takes of the machine: memory, open files, disk.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use rustix::process::{Resource, getrlimit};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::door::Door;

/// How long a look may take; a disk that hangs is not waited for.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// What the process takes; null where the system does not say.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
pub(crate) struct Process {
    /// Resident.
    memory_bytes: Option<u64>,
    open_files: Option<OpenFiles>,
    /// Of the store's directory; null where the store is kept in memory.
    disk: Option<Disk>,
}

/// Open files, sockets among them.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
struct OpenFiles {
    used: u64,
    /// How many there may be.
    limit: Option<u64>,
}

/// The file system that the store's directory is on.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
struct Disk {
    /// What the hub's user may still write.
    free_bytes: u64,
    total_bytes: u64,
}

impl Process {
    /// Looks, on a thread that may block; one look at a time.
    pub(crate) async fn look(door: &Door) -> Self {
        let (data, turn) = (door.settings().data.clone(), Arc::clone(&door.looking));
        let look = async {
            let turn = turn.lock_owned().await;
            let look = move || {
                let _turn = turn;
                Self {
                    memory_bytes: memory_bytes(),
                    open_files: open_files(),
                    disk: data.and_then(|data| disk(&data)),
                }
            };
            tokio::task::spawn_blocking(look).await
        };
        let looked = tokio::time::timeout(LOOK_MAX, look).await;
        looked.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// Writes it for Prometheus, with what is known of the process beside it.
    pub(crate) fn render(&self, door: &Door) -> String {
        let mut registry = Registry::default();
        let hub = registry.sub_registry_with_prefix("presence_hub");
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        hub.register("build", "The version that runs", build);
        let mut gauge = |name: &str, help: &str, value: Option<f64>| {
            if let Some(value) = value {
                let gauge = Gauge::<f64, AtomicU64>::default();
                gauge.set(value);
                hub.register(name, help, gauge);
            }
        };
        let number = |value: u64| value as f64;
        let flag = |is_set: bool| Some(if is_set { 1.0 } else { 0.0 });
        let started = Some(number(door.started.as_millis()) / 1000.0);
        gauge("start_time_seconds", "When the process started, since the Unix epoch", started);
        gauge("draining", "1 while the hub drains", flag(door.hub.is_draining()));
        gauge("full", "1 while there is no memory for more logins", flag(door.hub.is_full()));
        let Self { memory_bytes, open_files, disk } = self;
        gauge("memory_bytes", "Resident memory", memory_bytes.map(number));
        gauge("open_files", "Open files and sockets", open_files.map(|files| number(files.used)));
        let limit = open_files.and_then(|files| files.limit).map(number);
        gauge("open_files_limit", "How many there may be", limit);
        let free = disk.map(|disk| number(disk.free_bytes));
        gauge("disk_free_bytes", "What the store's disk still takes", free);
        let total = disk.map(|disk| number(disk.total_bytes));
        gauge("disk_total_bytes", "The size of the store's disk", total);
        let mut rendered = String::new();
        text::encode_registry(&mut rendered, &registry)
            .unwrap_or_else(|error| unreachable!("a text takes it: {error}"));
        rendered
    }
}

/// How much memory the process takes, where the system says so.
pub(crate) fn memory_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn open_files() -> Option<OpenFiles> {
    const FILES: &str = "/proc/self/fd";
    // Linux tells the count as the directory's size; before 6.2, each must be counted.
    let used = match fs::metadata(FILES).ok()?.len() {
        0 => fs::read_dir(FILES).ok()?.count() as u64,
        count => count,
    };
    Some(OpenFiles { used, limit: getrlimit(Resource::Nofile).current })
}

fn disk(directory: &Path) -> Option<Disk> {
    let found = rustix::fs::statvfs(directory).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Some(Disk { free_bytes: bytes(found.f_bavail), total_bytes: bytes(found.f_blocks) })
}
