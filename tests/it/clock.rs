//! The hub's clocks: on a machine that shows another time than the store's server, and moved in development.

use std::fs;
use std::time::Duration;

use presence_hub::clock::Clock;
use presence_hub::presence::Timestamp;

use crate::support::now_millis;

const MINUTES_MS: i64 = 180_000;
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
const WEEK_MS: i64 = 7 * 24 * 3_600_000;
/// The tolerance between two readings of a clock on a busy machine.
const APART_MS: i64 = 5000;

fn ahead_ms(at: Timestamp) -> i64 {
    at.as_millis().cast_signed() - now_millis().cast_signed()
}

#[test]
fn wall_clock_follows_the_server_if_the_machine_shows_another_time() {
    let clock = Clock::system();
    let is_ahead = |ms: i64| (ahead_ms(clock.wall()) - ms).abs() < APART_MS;
    let began = clock.now();
    for machine_ahead in [MINUTES_MS, -MINUTES_MS, 0] {
        clock.follow_server(machine_ahead);
        assert!(is_ahead(-machine_ahead), "{} ms", ahead_ms(clock.wall()));
        let signed = ahead_ms(clock.sign_of_life().wall);
        assert!(signed.abs() < APART_MS, "the sign of life has the machine's time: {signed} ms");
    }
    assert!(clock.now().as_millis() - began.as_millis() < 60_000, "windows do not follow it");
}

#[test]
fn wall_clock_does_not_follow_a_difference_that_a_slow_command_may_cause() {
    let clock = Clock::system();
    clock.follow_server(MINUTES_MS);
    let before = ahead_ms(clock.wall());
    clock.follow_server(MINUTES_MS + 900);
    assert!((ahead_ms(clock.wall()) - before).abs() < 500);
}

#[test]
fn moved_clock_did_not_stall_and_stays_moved_in_the_next_run() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("dev-clock");
    let movable = || Clock::system().movable(file.clone()).expect("a clock");
    let clock = movable();
    let before = clock.sign_of_life();
    clock.advance(WEEK).expect("to be moved");

    let is_ahead = |at: Timestamp, ms: i64| (ahead_ms(at) - ms).abs() < APART_MS;
    assert!(is_ahead(clock.now(), WEEK_MS) && is_ahead(clock.wall(), WEEK_MS));
    assert!(is_ahead(clock.wall_elsewhere(), 0), "other machines have not moved");
    assert_eq!((clock.tick(), clock.stalled_for()), (None, Duration::ZERO));
    let passed = before.before(&clock.sign_of_life());
    assert!((WEEK..WEEK + Duration::from_secs(5)).contains(&passed), "{passed:?}");

    let next = movable();
    assert!(is_ahead(next.now(), WEEK_MS) && is_ahead(next.wall(), WEEK_MS));
    assert_eq!((next.tick(), next.moved_by()), (None, WEEK));
    fs::write(&file, "soon").expect("to write");
    assert!(Clock::system().movable(file).is_err());
}

#[test]
fn clock_of_production_cannot_be_moved() {
    let clock = Clock::system();
    assert!(clock.advance(WEEK).is_err());
    assert!(ahead_ms(clock.now()).abs() < APART_MS);
}
