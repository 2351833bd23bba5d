//! The wall clock of a hub whose machine shows another time than the store's server.

use presence_hub::clock::Clock;
use presence_hub::presence::Timestamp;

use crate::support::now_millis;

const MINUTES_MS: i64 = 180_000;
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
