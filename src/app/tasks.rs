//! Runs the tasks that live as long as the hub, and restarts one that panics.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::hub::Hub;
use crate::panics::caught;

/// How long after a panic a task is started again: one that panics at once must not spin.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// Spawns long-lived tasks, so that a panic in one is noticed and costs only a pause.
pub struct Tasks {
    hub: Arc<Hub>,
}

impl Tasks {
    /// Counts restarts in the hub's metrics.
    pub const fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    /// Runs a task until it returns. One that panics is logged, counted in
    /// `presence_hub_task_restarts`, and made and run again after a pause.
    pub fn spawn<F>(
        &self,
        task: &'static str,
        make: impl Fn() -> F + Send + Sync + 'static,
    ) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let hub = Arc::clone(&self.hub);
        tokio::spawn(async move {
            while let Err(panic) = caught(async { make().await }).await {
                tracing::error!(task, %panic, restart_in = ?RESTART_PAUSE, "task panicked, restarting");
                hub.metrics().task_restarted(task);
                tokio::time::sleep(RESTART_PAUSE).await;
            }
        })
    }
}
