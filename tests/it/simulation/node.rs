//! One hub in a runtime of its own, on paused time that the world moves on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use presence_hub::config::{Config, PolicyName};
use presence_hub::presence::{NodeId, Platform, Timestamp};
use presence_hub::store::WebhookName;
use presence_hub::webhook::Webhooks;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, advance, sleep_until};

use super::link::Link;
use super::webhook;
use crate::lab::Lab;

/// By how much the windows are shortened.
const SHORTER: u32 = 10;
/// How long a hub that others have taken over lets its clients read their last messages.
const DRAIN: Duration = Duration::from_secs(1);
/// The denominator of a clock's rate.
const PER_MILLE: u32 = 1000;

/// How a node's clock differs from the true time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Skew {
    /// What its clock shows at the start.
    pub(super) now: Timestamp,
    /// How many seconds it counts in 1,000 true ones.
    pub(super) rate: u32,
}

/// A hub, and the runtime that it lives in.
pub(super) struct Node {
    // Before the runtime: its drop needs no runtime, but the runtime's tasks hold it.
    pub(super) lab: Lab,
    runtime: Runtime,
    began: Instant,
    began_at: Duration,
    rate: u32,
    /// Whether the process stands still.
    pub(super) is_frozen: bool,
    has_left: Arc<AtomicBool>,
}

impl Node {
    /// Starts a hub at a true time.
    pub(super) fn start(link: &Arc<Link>, seed: u64, skew: Skew, began_at: Duration) -> Self {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime");
        let guard = runtime.enter();
        let lab = Lab::seeded_node(seed, skew.now, Arc::clone(link) as _, configure);
        let (log, outbox) = (Arc::clone(link) as _, Arc::clone(link) as _);
        let (poster, clock) = (Arc::new(link.poster()), lab.clock.clone());
        let webhooks = Webhooks::new(log, outbox, poster, clock);
        let settings = BTreeMap::from([(WebhookName::UNNAMED, webhook::settings())]);
        webhooks.set_settings(settings);
        tokio::spawn(Arc::clone(webhooks.unnamed()).run());
        let has_left = Arc::new(AtomicBool::new(false));
        let (hub, left) = (Arc::clone(&lab.hub), Arc::clone(&has_left));
        tokio::spawn(async move {
            // As the binary does.
            hub.retired().await;
            hub.drain(DRAIN).await;
            left.store(true, Ordering::Relaxed);
        });
        let began = lab.clock.instant();
        drop(guard);
        Self { lab, runtime, began, began_at, rate: skew.rate, is_frozen: false, has_left }
    }

    pub(super) fn id(&self) -> NodeId {
        self.lab.hub.node()
    }

    /// Whether the process has stopped, because other nodes have taken over its sessions.
    pub(super) fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Relaxed)
    }

    /// Runs until a true time.
    pub(super) fn run(&self, until: Duration) {
        self.runtime.block_on(async { sleep_until(self.at(until)).await });
    }

    /// Goes on after it stood still: its clocks went on.
    pub(super) fn thaw(&mut self, now: Duration) {
        self.is_frozen = false;
        self.runtime.block_on(async { advance(self.at(now) - self.lab.clock.instant()).await });
    }

    /// Does something in the node's runtime.
    pub(super) fn within<T>(&self, act: impl FnOnce(&Lab) -> T) -> T {
        let _guard = self.runtime.enter();
        act(&self.lab)
    }

    /// A true time on the clock of the node's timers.
    fn at(&self, at: Duration) -> Instant {
        self.began + (at - self.began_at) * self.rate / PER_MILLE
    }
}

/// The documented defaults with shorter windows.
fn configure(config: &mut Config) {
    config.login.policy = PolicyName::Dual;
    config.limits.changes_per_user_per_minute = u32::MAX;
    config.limits.lookups_per_user_per_minute = u32::MAX;
    let liveness = &mut config.liveness;
    let windows = [
        &mut liveness.web_ping,
        &mut liveness.web_silence,
        &mut liveness.native_ping,
        &mut liveness.native_silence,
        &mut liveness.background,
        &mut liveness.exit,
    ];
    for window in windows {
        *window /= SHORTER;
    }
}

/// How long a mini-program may be hidden (T6).
pub(super) const HIDDEN: Duration = Duration::from_secs(3);

/// The silence window of a platform.
pub(super) fn silence_window(platform: Platform) -> Duration {
    let seconds = if platform.is_native() { 400 } else { 60 };
    Duration::from_secs(seconds) / SHORTER
}
