//! Refuses logins while memory is short, before the kernel kills the hub, and returns freed memory to
//! the system.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::hub::Hub;
use crate::throttle::Throttle;

/// How often memory is checked.
const EVERY: Duration = Duration::from_secs(1);
/// Memory is short when less than 1/32 of the limit is free.
const FREE_SHARE: u64 = 32;
/// Connections may hold 1/8 of the limit: bytes that slow clients have not read, and unfinished messages.
const HELD_SHARE: u64 = 8;
/// Version 1 reports a number as large as this for a group without a limit.
const UNLIMITED: u64 = 1 << 60;
/// An allocation so large that it shares no page with others.
const LARGE: usize = 1024 * 1024;

/// Refuses logins while memory is short; runs for ever. If the system reports no figures, logins
/// stay open.
pub(super) async fn watch(hub: Arc<Hub>) {
    let mut warnings = Throttle::default();
    loop {
        // Freeing a large allocation makes the allocator return memory that has been free for a
        // second. An idle hub frees nothing itself.
        drop(black_box(Vec::<u8>::with_capacity(LARGE)));
        let limits: Vec<_> = machine().into_iter().chain(control_groups()).collect();
        hub.set_full(limits.iter().any(|memory| memory.is_short()));
        if let Some(limit) = limits.iter().map(|memory| memory.limit).min() {
            hub.set_held_bytes_max(usize::try_from(limit / HELD_SHARE).unwrap_or(usize::MAX));
        }
        hub.cut_visitors(&mut warnings);
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
    const fn is_short(&self) -> bool {
        self.free < self.limit / FREE_SHARE
    }
}

fn machine() -> Option<Memory> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let kib = |name: &str| field(&info, name).map(|kib| kib * 1024);
    Some(Memory { limit: kib("MemTotal:")?, free: kib("MemAvailable:")? })
}

/// The control groups that the process runs in, and those around them, as far as they have a limit.
fn control_groups() -> Vec<Memory> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    groups.lines().flat_map(|line| of_hierarchy(Path::new("/sys/fs/cgroup"), line)).collect()
}

/// The groups of one line of `/proc/self/cgroup`: `0::/path` in version 2, `4:memory:/path` in version 1.
fn of_hierarchy(root: &Path, line: &str) -> Vec<Memory> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { return Vec::new() };
    let (mount, files) = match controllers {
        "" => (root.to_owned(), &VERSION_2),
        _ if controllers.split(',').any(|name| name == "memory") => {
            (root.join("memory"), &VERSION_1)
        }
        _ => return Vec::new(),
    };
    // In a container the mount often begins at the container's own group, and the path does not exist.
    let path = Path::new(path.trim_start_matches('/'));
    path.ancestors().filter_map(|group| files.read(&mount.join(group))).collect()
}

/// The files of a control group.
struct GroupFiles {
    limit: &'static str,
    used: &'static str,
    /// The field of `memory.stat` with the cached file pages, which the kernel frees on demand.
    cached: &'static str,
}

const VERSION_1: GroupFiles = GroupFiles {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    cached: "total_inactive_file",
};
const VERSION_2: GroupFiles =
    GroupFiles { limit: "memory.max", used: "memory.current", cached: "inactive_file" };

impl GroupFiles {
    fn read(&self, group: &Path) -> Option<Memory> {
        let read = |file: &str| fs::read_to_string(group.join(file)).ok();
        let limit = read(self.limit)?.trim().parse().ok().filter(|limit| *limit < UNLIMITED)?;
        let used: u64 = read(self.used)?.trim().parse().ok()?;
        let cached = field(&read("memory.stat")?, self.cached).unwrap_or_default();
        Some(Memory { limit, free: (limit + cached).saturating_sub(used) })
    }
}

fn field(text: &str, name: &str) -> Option<u64> {
    let mut fields = text.lines().map(str::split_whitespace);
    fields.find_map(|mut words| (words.next() == Some(name)).then(|| words.next())?)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use crate::app::memory::{Memory, of_hierarchy};

    fn group(at: &Path, files: [(&str, &str); 3]) {
        fs::create_dir_all(at).expect("a directory");
        for (name, text) in files {
            fs::write(at.join(name), text).expect("a file");
        }
    }

    #[test]
    fn groups_of_both_versions_and_the_groups_around_them_are_read() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path();
        let v2 = |max, current| {
            [
                ("memory.max", max),
                ("memory.current", current),
                ("memory.stat", "inactive_file 50\n"),
            ]
        };
        group(&root.join("system.slice"), v2("1000\n", "600\n"));
        group(&root.join("system.slice/hub.service"), v2("max\n", "300\n"));
        let found = of_hierarchy(root, "0::/system.slice/hub.service");
        assert_eq!(
            found,
            [Memory { limit: 1000, free: 450 }],
            "the one without a limit counts not"
        );

        let v1 = [
            ("memory.limit_in_bytes", "2000\n"),
            ("memory.usage_in_bytes", "1990\n"),
            ("memory.stat", "inactive_file 1\ntotal_inactive_file 5\n"),
        ];
        group(&root.join("memory/docker/abc"), v1);
        let found = of_hierarchy(root, "9:cpu,memory:/docker/abc");
        assert_eq!(found, [Memory { limit: 2000, free: 15 }]);
        assert!(found[0].is_short());
        assert!(of_hierarchy(root, "3:pids:/docker/abc").is_empty());

        // A container sees its own group as the root of the mount.
        group(&root.join("memory"), v1);
        let found = of_hierarchy(root, "9:memory:/not/seen/here");
        assert_eq!(found, [Memory { limit: 2000, free: 15 }]);
    }
}
