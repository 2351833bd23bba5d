use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;
use tokio::task::yield_now;

/// Hands jobs to a thread of its own, all that are asked for together at once: for each time that the
/// thread wakes costs more than a job.
///
/// Nothing waits for a timer: a thread that is busy takes what has come meanwhile as soon as it is free,
/// and one that sleeps is woken when the tasks that are ready now have had their turn. There are as many
/// jobs at most as there are callers, who each wait for theirs.
pub(super) fn handoff<T: Send + 'static>() -> (Giver<T>, Taker<T>) {
    let shared = Arc::new(Shared { state: Mutex::default(), given: Condvar::new() });
    (Giver(Arc::clone(&shared)), Taker(shared))
}

pub(super) struct Giver<T>(Arc<Shared<T>>);

pub(super) struct Taker<T>(Arc<Shared<T>>);

struct Shared<T> {
    state: Mutex<State<T>>,
    /// Wakes the one who takes.
    given: Condvar,
}

struct State<T> {
    jobs: VecDeque<T>,
    /// Whether one side is gone.
    is_over: bool,
}

impl<T> Default for State<T> {
    fn default() -> Self {
        Self { jobs: VecDeque::new(), is_over: false }
    }
}

impl<T: Send + 'static> Giver<T> {
    /// Hands a job over; one that nobody is left to take is dropped.
    pub(super) fn give(&self, job: T) {
        let mut state = self.0.state.lock();
        if state.is_over {
            return;
        }
        state.jobs.push_back(job);
        if state.jobs.len() > 1 {
            // Whoever gave the first sees to it.
            return;
        }
        drop(state);
        let shared = Arc::clone(&self.0);
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move {
                yield_now().await;
                shared.given.notify_one();
            })),
            Err(_) => drop(shared.given.notify_one()),
        }
    }
}

impl<T> Taker<T> {
    /// Waits for jobs, and takes up to this many; `None` once nobody can give any more.
    pub(super) fn take(&self, most: usize) -> Option<Vec<T>> {
        let mut state = self.0.state.lock();
        while state.jobs.is_empty() {
            if state.is_over {
                return None;
            }
            self.0.given.wait(&mut state);
        }
        let some = state.jobs.len().min(most);
        Some(state.jobs.drain(..some).collect())
    }
}

impl<T> Drop for Giver<T> {
    fn drop(&mut self) {
        self.0.state.lock().is_over = true;
        self.0.given.notify_one();
    }
}

impl<T> Drop for Taker<T> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.is_over = true;
        // Whoever waits for one of them hears that it was dropped.
        let left = std::mem::take(&mut state.jobs);
        drop(state);
        drop(left);
    }
}
