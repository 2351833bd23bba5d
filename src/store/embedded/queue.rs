//! A queue whose thread takes everything that was asked for together at once.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;
use tokio::task::yield_now;

/// Makes a queue for one thread: waking a thread costs more than most jobs, so it takes many at once.
///
/// A waiting thread is woken after all tasks that are ready now have run, so that it takes the jobs of one
/// moment together. The queue's bound is the number of callers, because each waits for its job.
pub(super) fn queue<T: Send + 'static>() -> (Giver<T>, Taker<T>) {
    let queue = Arc::new(Queue { state: Mutex::default(), given: Condvar::new() });
    (Giver(Arc::clone(&queue)), Taker(queue))
}

pub(super) struct Giver<T>(Arc<Queue<T>>);

pub(super) struct Taker<T>(Arc<Queue<T>>);

struct Queue<T> {
    state: Mutex<State<T>>,
    /// Wakes the taker.
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
    /// Adds a job; it is dropped where the taker is gone.
    pub(super) fn give(&self, job: T) {
        let mut state = self.0.state.lock();
        if state.is_over {
            return;
        }
        state.jobs.push_back(job);
        if state.jobs.len() > 1 {
            // The giver of the first job wakes the taker.
            return;
        }
        drop(state);
        let queue = Arc::clone(&self.0);
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move {
                yield_now().await;
                queue.given.notify_one();
            })),
            Err(_) => drop(queue.given.notify_one()),
        }
    }
}

impl<T> Taker<T> {
    /// Waits for jobs; false once every giver is gone.
    pub(super) fn wait(&self) -> bool {
        let mut state = self.0.state.lock();
        while state.jobs.is_empty() && !state.is_over {
            self.0.given.wait(&mut state);
        }
        !state.jobs.is_empty()
    }

    /// Takes up to this many jobs.
    pub(super) fn take(&self, most: usize) -> Vec<T> {
        let mut state = self.0.state.lock();
        let some = state.jobs.len().min(most);
        state.jobs.drain(..some).collect()
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
        // Dropping the jobs tells their callers.
        let left = std::mem::take(&mut state.jobs);
        drop(state);
        drop(left);
    }
}
