//! Runs the tasks that live as long as the hub, and restarts a task that panics.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::hub::Hub;
use crate::panics::caught;

/// The pause before a restart: a task that panics at once must not spin.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// Spawns long-lived tasks.
pub struct Tasks {
    hub: Arc<Hub>,
}

impl Tasks {
    /// Counts restarts in the hub's metrics.
    pub const fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    /// Runs a task until it returns. A panic is logged and counted in `presence_hub_task_restarts_total`;
    /// then the task is made again and restarted after a pause.
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
