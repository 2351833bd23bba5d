//! Watches the memory there is, so that logins are refused before the kernel kills the hub, and has
//! what is free given back.

use std::fs;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use crate::hub::Hub;

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// The share of the limit that must be free for another login.
const FREE_SHARE: u64 = 32;
/// A piece of memory so large that it shares its pages with no other.
const LARGE: usize = 1024 * 1024;

/// Closes the hub to logins while memory is short, for as long as the process lives; where the
/// system does not say, it stays open.
pub(super) async fn watch(hub: Arc<Hub>) {
    loop {
        // When such a piece is freed, the allocator gives back to the system what has been free for a
        // second; a hub at rest frees none.
        drop(black_box(Vec::<u8>::with_capacity(LARGE)));
        let short = [machine(), control_group()].into_iter().flatten().any(Memory::is_short);
        hub.set_full(short);
        tokio::time::sleep(EVERY).await;
    }
}

/// What some part of the system has of memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Memory {
    limit: u64,
    free: u64,
}

impl Memory {
    const fn is_short(self) -> bool {
        self.free < self.limit / FREE_SHARE
    }
}

fn machine() -> Option<Memory> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let kib = |name: &str| field(&info, name).map(|kib| kib * 1024);
    Some(Memory { limit: kib("MemTotal:")?, free: kib("MemAvailable:")? })
}

/// The control group (version 2) that the process runs in, if it has a limit.
fn control_group() -> Option<Memory> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let read = |file: &str| fs::read_to_string(format!("/sys/fs/cgroup{path}/{file}")).ok();
    let limit = read("memory.max")?.trim().parse().ok()?;
    let used: u64 = read("memory.current")?.trim().parse().ok()?;
    // What the kernel caches of files it gives back when it must.
    let cached = field(&read("memory.stat")?, "inactive_file").unwrap_or_default();
    Some(Memory { limit, free: (limit + cached).saturating_sub(used) })
}

fn field(text: &str, name: &str) -> Option<u64> {
    let mut fields = text.lines().map(str::split_whitespace);
    fields.find_map(|mut words| (words.next() == Some(name)).then(|| words.next())?)?.parse().ok()
}
