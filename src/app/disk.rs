//! Watches the free space of the store's disk: before the disk is full, changes that can wait are refused.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytesize::ByteSize;

use crate::hub::Hub;
use crate::throttle::Throttle;

/// How often the disk is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// The disk has room again when this share of `min_free` more is free, so that the state does not flap.
const MARGIN_SHARE: u64 = 8;

/// Watches the disk of a directory; runs for ever. `min_free` changes with a reload; 0 turns it off. If the
/// system reports no figure, nothing is refused.
pub(super) async fn watch(hub: Arc<Hub>, directory: Arc<Path>, min_free: Arc<AtomicU64>) {
    let mut errors = Throttle::default();
    loop {
        let looked_at = Arc::clone(&directory);
        // On a blocking thread, because a disk can hang.
        let free = tokio::task::spawn_blocking(move || free_bytes(&looked_at)).await;
        let (free, min_free) = (free.ok().flatten(), min_free.load(Ordering::Relaxed));
        let margin = if hub.is_disk_low() { min_free / MARGIN_SHARE } else { 0 };
        let is_low = free.is_some_and(|free| free < min_free.saturating_add(margin));
        let was_low = hub.set_disk_low(is_low);
        let shown = |bytes: u64| ByteSize::b(bytes).display().iec().to_string();
        let free = free.map(shown);
        if is_low && let Some(suppressed) = errors.admit(hub.clock().now()) {
            tracing::error!(
                free,
                min_free = shown(min_free),
                suppressed,
                "disk nearly full; refusing custom statuses and `background`: free some space, or enlarge \
                 the disk"
            );
        } else if was_low && !is_low {
            tracing::info!(free, "disk has room again; accepting custom statuses and `background`");
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// The bytes that this process can still write below a directory.
fn free_bytes(directory: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(directory).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}
