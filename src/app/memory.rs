//! Refuses logins while memory is short, before the kernel kills the hub, and returns freed memory to
//! the system.

use std::fs;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use crate::hub::Hub;

/// How often memory is checked.
const EVERY: Duration = Duration::from_secs(1);
/// Memory is short when less than 1/32 of the limit is free.
const FREE_SHARE: u64 = 32;
/// An allocation so large that it shares no page with others.
const LARGE: usize = 1024 * 1024;

/// Refuses logins while memory is short; runs for ever. If the system reports no figures, logins
/// stay open.
pub(super) async fn watch(hub: Arc<Hub>) {
    loop {
        // Freeing a large allocation makes the allocator return memory that has been free for a
        // second. An idle hub frees nothing itself.
        drop(black_box(Vec::<u8>::with_capacity(LARGE)));
        let short = [machine(), control_group()].into_iter().flatten().any(Memory::is_short);
        hub.set_full(short);
        tokio::time::sleep(EVERY).await;
    }
}

/// Memory of the machine or the control group, in bytes.
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
    // The kernel frees cached file pages on demand.
    let cached = field(&read("memory.stat")?, "inactive_file").unwrap_or_default();
    Some(Memory { limit, free: (limit + cached).saturating_sub(used) })
}

fn field(text: &str, name: &str) -> Option<u64> {
    let mut fields = text.lines().map(str::split_whitespace);
    fields.find_map(|mut words| (words.next() == Some(name)).then(|| words.next())?)?.parse().ok()
}
