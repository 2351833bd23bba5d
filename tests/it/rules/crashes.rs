//! T11: what happens to the sessions of a hub that died.

use presence_hub::presence::BackgroundReason::{Exit, Hide};
use presence_hub::presence::SignOfLife;

use super::*;

const SUCCESSOR: NodeId = NodeId(2);
const GONE: Duration = Duration::from_secs(3);
const HOUR: Duration = Duration::from_secs(3600);

/// A jump of the wall clock, and so of the hub's own time, between two runs.
#[derive(Debug, Clone, Copy)]
enum Jump {
    None,
    Ahead(Duration),
    Back(Duration),
}

const JUMPS: [Jump; 5] = [
    Jump::None,
    Jump::Ahead(HOUR),
    Jump::Ahead(Duration::from_secs(7 * 24 * 3600)),
    Jump::Back(HOUR),
    Jump::Back(Duration::from_secs(7 * 24 * 3600)),
];

fn logged_in(platform: Platform) -> (Life, Seat) {
    let mut life = Life::of(Preset::Single);
    let seat = life.login(platform, "device");
    (life, seat)
}

/// The hub gives its last sign of life now; three seconds later another hub takes over.
fn lose_hub(life: &mut Life, node: NodeId, successor: NodeId, jump: Jump) {
    let last = life.now;
    life.now = match jump {
        Jump::None => life.now,
        Jump::Ahead(by) => life.now + by,
        Jump::Back(by) => life.now - by,
    };
    let at = life.now;
    life.wait(GONE);
    life.node = successor;
    life.apply(EventKind::NodeLost { node, successor, last, at, stalls: Arc::default() });
    assert!(life.causes().is_empty(), "a takeover logs nothing: {:?}", life.last);
    assert!(!life.last.effects.status_changed);
}

fn window(platform: Platform) -> Duration {
    if platform.is_native() { 400 * SECOND } else { 60 * SECOND }
}

#[test]
fn t11_session_is_held_for_its_window_after_the_last_sign_of_life() {
    for platform in Platform::ALL {
        for jump in JUMPS {
            let (mut life, seat) = logged_in(platform);
            life.wait(25 * SECOND);
            let before = life.record.status();
            lose_hub(&mut life, seat.connection.node, SUCCESSOR, jump);
            assert_eq!(life.record.status(), before, "{platform} {jump:?}");
            assert_eq!(
                life.lasts(window(platform) - GONE),
                [Cause::NodeLost],
                "{platform} {jump:?}"
            );
            let state = if MOBILE.contains(&platform) { State::PushOnline } else { State::Offline };
            assert_eq!(life.state(), state);
            assert!(life.last.transitions[0].evidence.deadline.is_some());
        }
    }
}

#[test]
fn t11_resume_inside_the_window_is_invisible() {
    for platform in Platform::ALL {
        let (mut life, seat) = logged_in(platform);
        lose_hub(&mut life, seat.connection.node, SUCCESSOR, Jump::None);
        life.wait(window(platform) - GONE - MILLI);
        let seat = life.resume(seat).expect("a resume");
        assert!(life.causes().is_empty() && !life.last.effects.status_changed);
        life.wait(DAY / 2);
        life.apply(EventKind::Tick);
        assert!(life.stands(seat), "the resume cleared the window");
    }
}

#[test]
fn t11_sessions_of_other_hubs_are_unchanged() {
    let (mut life, seat) = logged_in(Platform::Web);
    life.wait(SECOND);
    let last = life.now;
    life.apply(EventKind::NodeLost {
        node: NodeId(77),
        successor: SUCCESSOR,
        last,
        at: last,
        stalls: Arc::default(),
    });
    life.wait(DAY / 2);
    life.apply(EventKind::Tick);
    assert!(life.stands(seat), "another hub died, not its own");
}

#[test]
fn t6_t7_t11_background_deadline_continues_after_a_crash() {
    for (reason, window) in [(Hide, 30 * SECOND), (Exit, 4 * SECOND)] {
        for jump in JUMPS {
            let (mut life, seat) = logged_in(Platform::MiniProgram);
            life.background(seat, reason);
            life.wait(SECOND / 2);
            lose_hub(&mut life, seat.connection.node, SUCCESSOR, jump);
            let causes = life.lasts(window - SECOND / 2 - GONE);
            let cause = if reason == Hide { Cause::Background } else { Cause::Exit };
            assert_eq!(causes, [cause], "{jump:?}");
        }
    }
}

#[test]
fn t3_t11_grace_of_a_closed_page_continues_after_a_crash() {
    for jump in JUMPS {
        let (mut life, seat) = logged_in(Platform::Web);
        life.policy.windows.web_close_grace = 10 * SECOND;
        life.close(seat);
        lose_hub(&mut life, seat.connection.node, SUCCESSOR, jump);
        assert_eq!(life.lasts(10 * SECOND - GONE), [Cause::Close], "{jump:?}");
    }
}

#[test]
fn t11_next_hub_finishes_a_takeover_interrupted_by_a_crash() {
    for jump in JUMPS {
        let (mut life, seat) = logged_in(Platform::Web);
        lose_hub(&mut life, seat.connection.node, SUCCESSOR, jump);
        life.wait(SECOND);
        // The first dead hub is taken over again, without effect; then the second one.
        let (record, now) = (life.record.clone(), life.now);
        let again = EventKind::NodeLost {
            node: seat.connection.node,
            successor: NodeId(3),
            last: now - GONE,
            at: now,
            stalls: Arc::default(),
        };
        life.apply(again);
        assert_eq!(life.record.terminals, record.terminals);
        lose_hub(&mut life, SUCCESSOR, NodeId(3), jump);
        let left = 60 * SECOND - GONE - SECOND - GONE;
        assert_eq!(life.lasts(left), [Cause::NodeLost], "{jump:?}");
    }
}

#[test]
fn t8_t11_push_expiry_continues_on_the_wall_clock_after_a_crash() {
    let (mut life, seat) = logged_in(Platform::Ios);
    life.close(seat);
    let record = life.record.clone();
    life.wait(DAY);
    lose_hub(&mut life, seat.connection.node, SUCCESSOR, Jump::None);
    assert_eq!(life.record.terminals, record.terminals);
    assert_eq!(life.lasts(6 * DAY - GONE), [Cause::Expired]);
}

#[test]
fn t11_time_between_runs_is_the_uptime_unless_the_machine_was_rebooted() {
    let sign = |boot: &str, up_secs: u64, wall_secs: u64| SignOfLife {
        boot: boot.into(),
        up_ms: up_secs * 1000,
        wall: Timestamp::from_millis(wall_secs * 1000),
        now: Timestamp::from_millis(0),
        stalls: Arc::default(),
    };
    let before = sign("a", 100, 10_000);
    // The wall clock does not matter.
    for wall in [0, 10_000, 10_003, 1_000_000] {
        assert_eq!(before.before(&sign("a", 103, wall)), 3 * SECOND);
    }
    assert_eq!(before.before(&sign("b", 5, 10_030)), 30 * SECOND, "a reboot");
    assert_eq!(before.before(&sign("b", 5, 9_000)), Duration::ZERO, "never negative");
    let unnamed = sign("", 100, 10_000);
    assert_eq!(unnamed.before(&sign("", 105, 10_007)), 7 * SECOND, "a system without boot ids");
}
