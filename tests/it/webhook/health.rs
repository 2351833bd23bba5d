//! When a receiver counts as down, and how long it has worked.

use std::time::Duration;

use presence_hub::webhook::Health;

use crate::lab::{EPOCH, SECOND};

const HOUR: Duration = Duration::from_secs(3600);

fn health() -> Health {
    Health::new(Duration::ZERO, 10 * HOUR)
}

#[test]
fn receiver_that_is_down_is_probed_every_few_seconds() {
    let mut health = health();
    let mut went_down = 0;
    for n in 0..1000 {
        let now = EPOCH + n * SECOND;
        went_down += u32::from(health.failed(now, None).is_some());
        assert!(health.probe_at() <= now + 5 * SECOND);
    }
    assert_eq!((went_down, health.is_down()), (1, true));
    let now = EPOCH + 1000 * SECOND;
    health.failed(now, Some(60 * SECOND));
    assert!(health.probe_at() >= now + 60 * SECOND, "a requested pause is respected");
    assert_eq!(health.succeeded(now), Some(1000 * SECOND), "how long it was failing");
    assert!(!health.is_down() && !health.is_failing());
}

#[test]
fn receiver_is_down_only_after_seconds_without_success() {
    let mut health = health();
    for n in 0..100 {
        let now = EPOCH + n * SECOND;
        // Of eight requests at once, the last one is accepted.
        for _ in 0..7 {
            assert_eq!(health.failed(now, None), None);
        }
        assert!(health.is_failing() && !health.is_down());
        assert_eq!(health.succeeded(now), None);
    }
    let begin = EPOCH + HOUR;
    for n in 0..3 {
        assert_eq!(health.failed(begin + n * 2 * SECOND, None), None, "three failures are too few");
    }
    assert_eq!(health.failed(begin + 6 * SECOND, None), Some(6 * SECOND));
}

#[test]
fn idle_time_counts_as_work_for_at_most_a_tenth_of_give_up_after() {
    let mut health = health();
    assert_eq!(health.worked(EPOCH + 100 * HOUR), Duration::ZERO, "nothing was ever accepted");
    health.succeeded(EPOCH);
    assert_eq!(health.worked(EPOCH + HOUR / 2), HOUR / 2);
    health.succeeded(EPOCH + HOUR / 2);
    for hours in [2, 3, 50] {
        assert_eq!(health.worked(EPOCH + hours * HOUR), HOUR / 2 + HOUR);
    }
    health.succeeded(EPOCH + 50 * HOUR);
    assert_eq!(health.worked(EPOCH + 50 * HOUR), HOUR / 2 + HOUR, "an outage adds no more");
    assert_eq!(health.worked(EPOCH + 51 * HOUR), HOUR / 2 + 2 * HOUR);
    let mut next = Health::new(5 * HOUR, 10 * HOUR);
    next.succeeded(EPOCH);
    assert_eq!(next.worked(EPOCH + SECOND), 5 * HOUR + SECOND, "continues from the previous run");
}
