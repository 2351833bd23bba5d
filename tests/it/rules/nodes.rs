//! One user on several nodes: each node keeps the windows of its own connections, on its own time.

use presence_hub::presence::BackgroundReason::Hide;

use super::*;

const OTHER: NodeId = NodeId(2);
/// How far the other node's clock is ahead.
const AHEAD: Duration = Duration::from_secs(180);

impl Life {
    /// Applies an event on the other node, whose clocks are ahead.
    fn apply_elsewhere(&mut self, kind: EventKind) -> Answer {
        let here = (self.node, self.now);
        (self.node, self.now) = (OTHER, self.now + AHEAD);
        let answer = self.apply(kind);
        (self.node, self.now) = here;
        answer
    }
}

#[test]
fn t3_t6_t10_deadline_is_applied_only_by_the_node_of_the_connection() {
    let mut closed = Life::of(Preset::Single);
    let seat = closed.login(Platform::Web, "d");
    closed.close(seat);
    let mut hidden = Life::of(Preset::Single);
    let seat = hidden.login(Platform::MiniProgram, "d");
    hidden.background(seat, Hide);
    for (mut life, window) in [(closed, SECOND), (hidden, 30 * SECOND)] {
        life.apply_elsewhere(EventKind::Tick);
        assert!(life.causes().is_empty(), "a clock that is ahead ends nothing: {:?}", life.last);
        assert_eq!(life.lasts(window).len(), 1, "its own node does");
    }
}

#[test]
fn t8_push_expires_on_any_node() {
    let mut life = Life::of(Preset::Single);
    let seat = life.login(Platform::Ios, "d");
    life.close(seat);
    life.wait(7 * DAY);
    life.apply_elsewhere(EventKind::Tick);
    assert_eq!(life.causes(), [Cause::Expired]);
}

#[test]
fn t12_stall_of_another_node_extends_no_window() {
    let mut life = Life::of(Preset::Single);
    let seat = life.login(Platform::MiniProgram, "d");
    life.background(seat, Hide);
    let since = life.now;
    life.stall(since + AHEAD + SECOND, 60 * SECOND);
    life.apply_elsewhere(EventKind::Set { origin: None, custom: Some("busy".into()) });
    life.stalls.clear();
    assert_eq!(life.lasts(30 * SECOND), [Cause::Background]);
}

#[test]
fn v1_session_that_another_node_kicks_was_seen_until_the_kick() {
    let mut life = Life::of(Preset::Single);
    life.login(Platform::Web, "d");
    let login = life.wall();
    life.wait(DAY);
    let target = Target::default();
    life.apply_elsewhere(EventKind::Kick { target, by: Kicker::Admin { message: None } });
    let seen = life.record.last_seen.expect("a time");
    assert!(seen - login >= DAY, "not since the login, which is all that the record knows");
}
