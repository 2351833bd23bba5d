//! One user on several nodes: each node keeps the windows of its own connections, on its own time.

use presence_hub::presence::BackgroundReason::Hide;
use presence_hub::presence::LostCommit;

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
    life.apply_elsewhere(EventKind::Set {
        origin: None,
        custom: Some(Some("busy".into())),
        hidden: None,
    });
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

/// The store loses all but the record `kept`, and a node that knows better recalls what was lost.
fn recall(life: &mut Life, kept: Record, knows: Option<&Record>) -> Answer {
    let version = life.record.version;
    life.record = kept;
    let lost =
        knows.map_or(LostCommit::Version, |record| LostCommit::Record(Arc::new(record.clone())));
    life.apply(EventKind::Recall { version, lost })
}

#[test]
fn v2_lost_record_is_recalled_above_its_version() {
    let mut life = Life::of(Preset::Multi);
    let phone = life.login(Platform::Ios, "d");
    let kept = life.record.clone();
    life.wait(SECOND);
    let page = life.login(Platform::Web, "d");
    life.set(Some(page), Some("busy"));
    let lost = life.record.clone();
    for kept in [kept, Record::default()] {
        let mut life = life.clone();
        let from = kept.state();
        assert_eq!(recall(&mut life, kept, Some(&lost)), Answer::Done);
        assert!(life.stands(phone) && life.stands(page));
        assert!(life.record.status().looks_like(&lost.status()));
        assert!(life.record.version > lost.version, "watchers have seen the lost version");
        assert!(life.last.effects.status_changed, "nodes that heard nothing of it are told");
        assert_eq!(life.causes(), [Cause::Recovered]);
        let logged = &life.last.transitions[0];
        assert_eq!((logged.from, logged.to), (from, State::Online), "the log continues");
    }
}

#[test]
fn v2_status_that_a_node_only_heard_of_is_replaced_by_a_greater_version() {
    let mut life = Life::of(Preset::Multi);
    let seat = life.login(Platform::Web, "d");
    let kept = life.record.clone();
    life.set(Some(seat), Some("busy"));
    let lost = life.record.clone();
    assert_eq!(recall(&mut life, kept.clone(), None), Answer::Done);
    assert!(life.record.status().looks_like(&kept.status()), "nobody knows more");
    assert!(life.record.version > lost.version);
    assert!(life.last.effects.status_changed, "watchers saw the lost status");
    // A node that was told of the commit knows the custom status.
    let custom = lost.custom.clone();
    life.record = kept;
    let heard = EventKind::Recall { version: lost.version, lost: LostCommit::Custom(custom) };
    assert_eq!(life.apply(heard), Answer::Done);
    assert!(life.record.status().looks_like(&lost.status()));
    assert!(life.record.version > lost.version);
}

#[test]
fn v2_nothing_is_recalled_where_the_store_has_a_later_version() {
    let mut life = Life::of(Preset::Multi);
    life.login(Platform::Web, "d");
    let earlier = life.record.clone();
    life.wait(SECOND);
    life.login(Platform::Mac, "d");
    for version in [earlier.version, life.record.version] {
        let before = life.record.clone();
        let lost = LostCommit::Record(Arc::new(earlier.clone()));
        assert_eq!(life.apply(EventKind::Recall { version, lost }), Answer::Stale);
        assert_eq!(life.record, before);
    }
}

#[test]
fn l9_recall_keeps_the_stricter_revocation() {
    let mut life = Life::of(Preset::Multi);
    life.login(Platform::Ios, "d");
    life.kick(Target::default());
    let early = life.record.clone();
    life.wait(DAY);
    life.login(Platform::Ios, "d");
    life.kick(Target::default());
    let late = life.record.clone();
    assert_ne!(early.revoked, late.revoked);
    // The record that the store kept, and the one that was lost.
    for (kept, lost) in
        [(early.clone(), late.clone()), (Record { version: 1, ..late.clone() }, early)]
    {
        let mut life = life.clone();
        assert_eq!(recall(&mut life, kept, Some(&lost)), Answer::Done);
        assert_eq!(life.record.revoked, late.revoked);
    }
}
