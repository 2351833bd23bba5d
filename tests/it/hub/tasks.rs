//! Long-lived tasks that panic.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use presence_hub::app::Tasks;
use presence_hub::store::Totals;

use crate::lab::{EPOCH, Lab, SECOND};

#[tokio::test(start_paused = true)]
async fn task_that_panics_is_restarted_after_a_pause_and_counted() {
    let lab = Lab::new();
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let task = Tasks::new(Arc::clone(&lab.hub)).spawn("example", move || {
        let runs = Arc::clone(&counted);
        async move {
            let run = runs.fetch_add(1, Ordering::Relaxed);
            assert!(run >= 2, "run {run} panics");
        }
    });
    task.await.expect("to return at last");
    assert_eq!(runs.load(Ordering::Relaxed), 3, "a task that returns is not restarted");
    assert!(lab.now() - EPOCH >= 2 * SECOND, "with a pause before each restart");
    let metrics = lab.hub.metrics().render(&Totals::default());
    let line = "presence_hub_task_restarts_total{task=\"example\"} 2";
    assert!(metrics.lines().any(|other| other == line), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn task_whose_constructor_panics_is_restarted() {
    let lab = Lab::new();
    let makes = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&makes);
    let task = Tasks::new(Arc::clone(&lab.hub)).spawn("example", move || {
        assert!(counted.fetch_add(1, Ordering::Relaxed) > 0, "the first constructor panics");
        async {}
    });
    task.await.expect("to return at last");
    assert_eq!(makes.load(Ordering::Relaxed), 2);
}
