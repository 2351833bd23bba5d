//! Heavy computations: a few at a time, and none keeps its turn when it waits or panics.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::task::Poll;
use std::thread::available_parallelism;

use parking_lot::Mutex;
use presence_hub::heavy::Heavy;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::support::SOON;

const JOBS: usize = 50;

/// How many computations may run at once.
fn turns() -> usize {
    (available_parallelism().map_or(1, usize::from) / 2).max(1)
}

/// Waits for something that needs a turn.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(SOON, future).await.expect("a turn")
}

#[tokio::test]
async fn half_of_the_processors_at_most_are_busy() {
    let heavy = Heavy::default();
    let turns = turns().min(JOBS);
    let running = Arc::new(AtomicUsize::new(0));
    let (begin, mut begun) = mpsc::channel(JOBS);
    let (release, released) = sync_channel(JOBS);
    let released = Arc::new(Mutex::new(released));
    let run = |_| {
        let (heavy, begin) = (heavy.clone(), begin.clone());
        let (running, released) = (Arc::clone(&running), Arc::clone(&released));
        tokio::spawn(async move {
            let job = move || {
                let at_once = running.fetch_add(1, Ordering::SeqCst) + 1;
                begin.try_send(at_once).expect("room for each job");
                released.lock().recv().expect("a release");
                running.fetch_sub(1, Ordering::SeqCst);
            };
            heavy.run(job).await
        })
    };
    let jobs: Vec<_> = (0..JOBS).map(run).collect();
    let mut most = 0;
    for before in 0..JOBS {
        if before >= turns {
            // One ends, so that the next one has its turn.
            release.send(()).expect("a job");
        }
        most = most.max(soon(begun.recv()).await.expect("a job"));
    }
    for _ in 0..turns {
        release.send(()).expect("a job");
    }
    for job in jobs {
        assert_eq!(soon(job).await.expect("a task"), Some(()));
    }
    assert_eq!(most, turns);
}

#[tokio::test]
async fn a_future_that_waits_keeps_no_turn() {
    let heavy = Heavy::default();
    let waiting = 2 * turns();
    let gate = Arc::new(Semaphore::new(0));
    let (begin, mut begun) = mpsc::channel(waiting);
    let drive = |_| {
        let (heavy, begin, gate) = (heavy.clone(), begin.clone(), Arc::clone(&gate));
        let future = async move {
            begin.try_send(()).expect("room for each future");
            gate.acquire_owned().await.is_ok()
        };
        tokio::spawn(async move { heavy.drive(future).await })
    };
    let futures: Vec<_> = (0..waiting).map(drive).collect();
    for _ in 0..waiting {
        soon(begun.recv()).await.expect("a future");
    }
    assert_eq!(soon(heavy.run(|| 7)).await, Some(7));
    gate.add_permits(waiting);
    for future in futures {
        assert_eq!(soon(future).await.expect("a task"), Some(true));
    }
}

#[tokio::test]
async fn a_job_that_panics_gives_its_turn_back() {
    let heavy = Heavy::default();
    for _ in 0..=turns() {
        let job = || -> u32 { panic!("a test wants it so") };
        assert_eq!(soon(heavy.run(job)).await, None);
        let future = poll_fn(|_| -> Poll<u32> { panic!("a test wants it so") });
        assert_eq!(soon(heavy.drive(future)).await, None);
    }
    assert_eq!(soon(heavy.run(|| 7)).await, Some(7));
}
