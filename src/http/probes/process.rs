//! Measures the process: memory, open files and disk.

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
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::state::AppState;

/// The timeout of a measurement: a disk can hang.
const MEASURE_MAX: Duration = Duration::from_secs(1);

/// What the process uses; null if the system does not report it.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
pub(crate) struct Process {
    /// Resident memory.
    memory_bytes: Option<u64>,
    open_files: Option<OpenFiles>,
    /// The disk of the store's directory; null for a store in memory.
    disk: Option<Disk>,
}

/// Open files, including sockets.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
struct OpenFiles {
    used: u64,
    /// The most open files allowed.
    limit: Option<u64>,
}

/// The file system that the store's directory is on.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
struct Disk {
    /// Bytes that the hub's user can still write.
    free_bytes: u64,
    total_bytes: u64,
}

impl Process {
    /// Measures on a blocking thread, one measurement at a time.
    pub(crate) async fn measure(app: &AppState) -> Self {
        let (data, turn) = (app.settings().data.clone(), Arc::clone(&app.measuring));
        let measured = async {
            let turn = turn.lock_owned().await;
            let measure = move || {
                let _turn = turn;
                Self {
                    memory_bytes: memory_bytes(),
                    open_files: open_files(),
                    disk: data.and_then(|data| disk(&data)),
                }
            };
            tokio::task::spawn_blocking(measure).await
        };
        let measured = tokio::time::timeout(MEASURE_MAX, measured).await;
        measured.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// Renders the process metrics as OpenMetrics.
    pub(crate) fn render(&self, app: &AppState) -> String {
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
        let started = Some(number(app.started.as_millis()) / 1000.0);
        gauge("start_time_seconds", "When the process started, since the Unix epoch", started);
        gauge("draining", "1 while the hub drains", flag(app.hub.is_draining()));
        gauge("full", "1 while free memory is too low for more logins", flag(app.hub.is_full()));
        let expires = app.certificate.as_ref().and_then(|certificate| certificate.expires());
        gauge(
            "tls_certificate_expiry_timestamp_seconds",
            "When the TLS certificate in use expires, since the Unix epoch",
            expires.map(|at| number(at.as_secs())),
        );
        let help = "1 while less than store.min_free is free on the disk";
        gauge("store_disk_low", help, flag(app.hub.is_disk_low()));
        let Self { memory_bytes, open_files, disk } = self;
        gauge("memory_bytes", "Resident memory", memory_bytes.map(number));
        gauge("open_files", "Open files and sockets", open_files.map(|files| number(files.used)));
        let limit = open_files.and_then(|files| files.limit).map(number);
        gauge("open_files_limit", "The limit on open files", limit);
        let free = disk.map(|disk| number(disk.free_bytes));
        gauge("disk_free_bytes", "Free bytes of the store's disk", free);
        let total = disk.map(|disk| number(disk.total_bytes));
        gauge("disk_total_bytes", "The size of the store's disk", total);
        let mut rendered = String::new();
        text::encode_registry(&mut rendered, &registry)
            .unwrap_or_else(|error| unreachable!("writing to a String failed: {error}"));
        rendered
    }
}

/// The resident memory, if the system reports it.
pub(crate) fn memory_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn open_files() -> Option<OpenFiles> {
    const FILES: &str = "/proc/self/fd";
    // Linux 6.2 and later report the number of files as the directory's size.
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
