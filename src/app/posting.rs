//! The tasks of the webhooks, to which a reload adds.

use std::mem;
use std::sync::Arc;

use futures::future::join_all;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::tasks::Tasks;
use crate::webhook::Webhook;

/// The tasks of the webhooks.
#[derive(Default)]
pub(super) struct Posting(Mutex<Vec<JoinHandle<()>>>);

impl Posting {
    /// Runs webhooks, each in a task.
    pub(super) fn run(&self, tasks: &Tasks, webhooks: Vec<Arc<Webhook>>) {
        let run =
            |webhook: Arc<Webhook>| tasks.spawn("webhook", move || Arc::clone(&webhook).run());
        self.0.lock().extend(webhooks.into_iter().map(run));
    }

    /// Waits until all of them have ended.
    pub(super) async fn ended(&self) {
        let tasks = mem::take(&mut *self.0.lock());
        join_all(tasks).await;
    }
}
