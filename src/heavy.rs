//! Runs heavy computations off the runtime's own threads, a few at a time.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::available_parallelism;

use tokio::sync::{Notify, Semaphore};
use tokio::task::spawn_blocking;

/// A limit on heavy computations of one kind: half of the processors, so that a flood of them leaves the
/// other half to everybody else. Those that wait have their turn in order.
#[derive(Debug, Clone)]
pub struct Heavy(Arc<Semaphore>);

impl Default for Heavy {
    fn default() -> Self {
        let processors = available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Semaphore::new((processors / 2).max(1))))
    }
}

impl Heavy {
    /// Runs a computation; `None` if it panicked, or the runtime is stopping.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let turn = Arc::clone(&self.0).acquire_owned().await.ok()?;
        let done = spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        });
        done.await.ok()
    }

    /// Drives a future whose polls are heavy, such as a handshake; a turn lasts for one poll, so that a
    /// future that waits for its peer holds up no other. `None` as for [`run`](Self::run).
    pub async fn drive<F>(&self, future: F) -> Option<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        let mut future: Pin<Box<F>> = Box::pin(future);
        let woken = Arc::new(Woken::default());
        loop {
            let waker = Waker::from(Arc::clone(&woken));
            let poll = move || {
                let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
                (polled, future)
            };
            let (polled, rest) = self.run(poll).await?;
            if let Poll::Ready(done) = polled {
                return Some(done);
            }
            future = rest;
            woken.0.notified().await;
        }
    }
}

#[derive(Debug, Default)]
struct Woken(Notify);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}
