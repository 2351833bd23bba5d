//! P2 to P6: who may not see a user, and what they see instead.

use std::collections::{BTreeMap, BTreeSet};

use presence_hub::presence::{
    Answer, Audience, BLOCKED_MAX, BackgroundReason, BlockedChange, Cause, EventKind, Notice,
    Platform, Preset, Record, Refusal, State, Status, Target, Timestamp, UserId, VisibilityChange,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{DAY, Life, SECOND};
use crate::lab::id;

const VIEWERS: [&str; 3] = ["vic", "wen", "xia"];
/// Nobody ever names this viewer.
const OTHER: &str = "yan";

impl Life {
    fn see(&mut self, hidden: Option<bool>, blocked: Option<BlockedChange>) -> Answer {
        self.apply(EventKind::Visibility {
            origin: None,
            change: VisibilityChange { hidden, blocked },
        })
    }

    fn hide(&mut self, hidden: bool) -> Answer {
        self.see(Some(hidden), None)
    }

    fn block(&mut self, viewer: &str) -> Answer {
        self.see(None, Some(BlockedChange::Add(vec![id(viewer)])))
    }

    fn unblock(&mut self, viewer: &str) -> Answer {
        self.see(None, Some(BlockedChange::Remove(vec![id(viewer)])))
    }

    fn seen_by(&self, viewer: &str) -> Status {
        self.record.status_for(&id("ana"), Some(&id(viewer)), &self.policy, self.wall())
    }

    /// What each of these viewers was told of the last event.
    fn told(&self, before: &Record, viewer: &str) -> Option<Status> {
        let user = id("ana");
        let notices = Notice::between(&user, before, &self.record, &self.policy, self.wall());
        let mut told = notices.into_iter().filter(|notice| notice.to.has(&id(viewer)));
        let first = told.next().map(|notice| notice.status);
        assert!(told.next().is_none(), "{viewer} is told once");
        first
    }
}

fn online() -> Life {
    let mut life = Life::of(Preset::Multi);
    life.login(Platform::Web, "d1");
    life.wait(60 * SECOND);
    life
}

#[test]
fn p4_whoever_is_hidden_looks_logged_out_and_nothing_changes_it() {
    let mut life = online();
    let before = life.record.clone();
    life.hide(true);
    let at = life.wall();
    let frozen = life.seen_by("vic");
    let logged_out = Status {
        since: Some(at),
        last_seen: Some(at),
        version: life.record.version,
        ..Status::default()
    };
    assert_eq!(frozen, logged_out);
    assert!(frozen.version > before.version);
    assert_eq!(life.told(&before, "vic"), Some(logged_out));
    let own = life.told(&before, "ana").expect("the user's own sessions are told");
    assert!(own.hidden && own.state == State::Online, "P6");
    assert_eq!(life.causes(), [Cause::Visibility]);
    let event = &life.last.transitions[0];
    assert_eq!((event.from, event.to), (State::Online, State::Online));
    let said = event.visibility.as_deref().expect("what changed");
    assert_eq!((said.hidden, said.hidden_since), (true, Some(at)));

    let before = life.record.clone();
    let phone = life.login(Platform::Android, "d2");
    life.set(None, Some("busy"));
    assert_eq!((life.told(&before, "vic"), life.seen_by("vic")), (None, frozen.clone()));
    assert_eq!(life.told(&before, "ana").map(|own| own.custom), Some(Some("busy".into())));
    life.silence(phone);
    life.kick(Target::default());
    assert_eq!(life.seen_by("vic"), frozen);

    life.login(Platform::Web, "d1");
    let before = life.record.clone();
    life.hide(false);
    let shown = life.told(&before, "vic").expect("the present status at once");
    assert!(shown.state == State::Online && !shown.hidden && shown.version > frozen.version);
    assert_eq!(shown, life.seen_by("vic"));
}

#[test]
fn p4_whoever_was_offline_or_frozen_already_keeps_the_answer() {
    let mut life = online();
    let phone = life.login(Platform::Android, "d2");
    life.kick(Target { platform: Some(Platform::Web), ..Target::default() });
    life.silence(phone);
    let (push, wall) = (life.seen_by("vic"), life.wall());
    assert_eq!(push.state, State::PushOnline);
    life.wait(SECOND);
    life.block("vic");
    let frozen = life.seen_by("vic");
    assert_eq!((frozen.last_seen, frozen.since), (push.last_seen, Some(wall + SECOND)));
    // The viewer was frozen before the user hid, and so stays.
    life.wait(SECOND);
    life.hide(true);
    assert_eq!(life.seen_by("vic"), frozen);
    assert_ne!(life.seen_by("wen"), frozen);
    // P5: unblocked while the user is hidden.
    let before = life.record.clone();
    life.unblock("vic");
    assert_eq!((life.seen_by("vic"), life.told(&before, "vic")), (frozen.clone(), None));
    assert_eq!(life.record.visibility_view().blocked, []);
    life.block("vic");
    life.unblock("vic");
    assert_eq!(life.seen_by("vic"), frozen);

    life.kick(Target::default());
    life.hide(false);
    let (offline, before) = (life.seen_by("vic"), life.record.clone());
    life.wait(DAY);
    life.hide(true);
    assert_eq!((life.seen_by("vic"), life.told(&before, "vic")), (offline, None));
}

#[test]
fn p4_a_frozen_answer_is_forgotten_when_a_really_offline_user_is() {
    let mut life = online();
    life.hide(true);
    life.wait(life.policy.record_ttl - SECOND);
    assert_ne!(life.seen_by("vic"), Status::default());
    life.wait(SECOND);
    assert_eq!(life.seen_by("vic"), Status::default());
    assert_eq!(life.state(), State::Online);
}

#[test]
fn p2_p3_hidden_and_blocked_outlive_everything_until_they_are_taken_back() {
    let mut life = Life::of(Preset::Multi);
    // Even before the first login.
    life.hide(true);
    life.block("vic");
    let seat = life.login(Platform::Web, "d1");
    assert_eq!(life.seen_by("wen"), Status::default());
    life.logout(seat);
    life.wait(life.policy.record_ttl);
    life.tick();
    assert_eq!((life.record.version, life.record.since), (0, None), "the user is forgotten");
    life.login(Platform::Web, "d1");
    let view = life.record.visibility_view();
    assert_eq!((view.hidden, view.blocked), (true, vec![id("vic")]));
    assert_eq!(life.seen_by("wen").state, State::Offline);
    life.hide(false);
    assert_eq!(life.seen_by("wen").state, State::Online);
    assert_eq!(life.seen_by("vic").state, State::Offline);
    life.unblock("vic");
    assert_eq!(life.record.visibility, None, "who is seen by all pays nothing");
}

#[test]
fn p2_a_user_without_a_record_who_was_hidden_and_shown_is_forgotten() {
    let mut life = Life::of(Preset::Multi);
    life.hide(true);
    life.hide(false);
    assert!(life.record.version > 0);
    life.wait(life.policy.record_ttl + SECOND);
    life.tick();
    assert!(life.record.is_empty());
}

#[test]
fn p3_more_than_200_blocked_are_refused_and_nothing_changes() {
    let mut life = online();
    let many = |count: usize| (0..count).map(|n| id(&format!("v{n}"))).collect::<Vec<_>>();
    assert_eq!(life.see(None, Some(BlockedChange::Add(many(BLOCKED_MAX)))), Answer::Done);
    let before = life.record.visibility_view();
    let refused = Answer::Refused(Refusal::TooManyBlocked);
    assert_eq!(life.see(Some(true), Some(BlockedChange::Add(vec![id("vic")]))), refused);
    assert_eq!(life.see(None, Some(BlockedChange::Replace(many(BLOCKED_MAX + 1)))), refused);
    assert_eq!((life.record.visibility_view(), life.causes().len()), (before, 0));
    assert_eq!(life.see(None, Some(BlockedChange::Add(many(BLOCKED_MAX)))), Answer::Done);
    assert!(life.causes().is_empty(), "to block them again is no event");
}

#[test]
fn p4_nobody_sees_a_user_in_between_two_changes_of_one_call() {
    let mut life = online();
    life.hide(true);
    let frozen = life.seen_by("vic");
    life.wait(SECOND);
    life.see(Some(false), Some(BlockedChange::Replace(vec![id("vic")])));
    assert_eq!(life.seen_by("vic"), frozen);
    life.see(Some(true), Some(BlockedChange::Replace(Vec::new())));
    assert_eq!(life.seen_by("vic"), frozen);
    assert_ne!(life.seen_by("wen"), frozen);
}

#[test]
fn p4_whoever_sees_the_user_shares_one_notice() {
    let mut life = online();
    let before = life.record.clone();
    life.set(None, Some("busy"));
    let (user, policy) = (id("ana"), life.policy.clone());
    let plain = Notice::between(&user, &before, &life.record, &policy, life.wall());
    assert_eq!(plain.iter().map(|notice| &notice.to).collect::<Vec<_>>(), [&Audience::Everyone]);
    life.block("vic");
    let before = life.record.clone();
    life.set(None, None);
    let notices = Notice::between(&user, &before, &life.record, &policy, life.wall());
    let to: Vec<_> = notices.into_iter().map(|notice| notice.to).collect();
    assert_eq!(to, [Audience::AllBut(vec![id("vic")])]);
}

#[test]
fn erasing_keeps_the_revocation_and_the_version_only() {
    let mut life = online();
    life.hide(true);
    let version = life.record.version;
    let Answer::Kicked { kicked, revoked: true } = life.apply(EventKind::Erase) else {
        panic!("an erasure kicks: {:?}", life.last.answer)
    };
    assert_eq!(kicked.len(), 1);
    let erased = life.record.clone();
    let kept = Record {
        version: erased.version,
        revoked: erased.revoked,
        recent: erased.recent.clone(),
        ..Record::default()
    };
    assert!(erased == kept && erased.version > version && erased.revoked.is_some());
    assert_eq!(erased.census().state, None, "no list has the user any more");
    // On a hub whose clock is slow.
    life.now = life.now - 3 * SECOND;
    life.ahead += 4 * SECOND;
    life.login(Platform::Web, "d1");
    assert!(life.record.version > erased.version);
    // Nobody is kicked twice, and the version stays.
    let seat = life.login(Platform::Mac, "d2");
    life.logout(seat);
    life.kick(Target::default());
    let version = life.record.version;
    life.apply(EventKind::Erase);
    assert_eq!((life.record.version, life.causes().len()), (version, 0));
}

/// What each viewer sees, as the rules say it, without a thought for size or speed.
struct Model {
    hidden: bool,
    blocked: BTreeSet<&'static str>,
    /// The answers of those who do not see the user.
    frozen: BTreeMap<&'static str, Status>,
}

impl Model {
    fn follow(&mut self, before: &Status, after: &Record, wall: Timestamp) {
        for viewer in VIEWERS.into_iter().chain([OTHER]) {
            let is_visible = !self.hidden && !self.blocked.contains(viewer);
            if is_visible {
                self.frozen.remove(viewer);
            } else if !self.frozen.contains_key(viewer) {
                let mut status =
                    Status { hidden: false, away: false, custom: None, ..before.clone() };
                status.platforms.clear();
                if before.state == State::Online {
                    status.last_seen = Some(wall);
                }
                if before.state != State::Offline {
                    status.state = State::Offline;
                    status.since = Some(wall);
                    status.version = after.version;
                }
                self.frozen.insert(viewer, status);
            }
        }
    }

    fn expected(&self, viewer: &str, life: &Life) -> Status {
        let Some(frozen) = self.frozen.get(viewer) else { return life.record.status() };
        let is_forgotten =
            frozen.since.is_some_and(|at| at + life.policy.record_ttl <= life.wall());
        if is_forgotten { Status::default() } else { frozen.clone() }
    }
}

/// Changes who may see the user, and asserts that each viewer is told what is new to them.
fn change(life: &mut Life, model: &mut Model, change: VisibilityChange, when: &str) {
    let (truth, before) = (life.record.status(), life.record.clone());
    let all = VIEWERS.into_iter().chain([OTHER]);
    let seen: Vec<_> = all.map(|viewer| (viewer, life.seen_by(viewer))).collect();
    life.apply(EventKind::Visibility { origin: None, change });
    model.follow(&truth, &life.record, life.wall());
    for (viewer, old) in seen {
        let now = life.seen_by(viewer);
        let is_new = !now.looks_like(&old);
        assert_eq!(life.told(&before, viewer), is_new.then_some(now), "{when}: {viewer}");
    }
}

fn assert_as_modelled(life: &Life, model: &Model, when: &str) {
    for viewer in VIEWERS.into_iter().chain([OTHER]) {
        let expected = model.expected(viewer, life);
        assert_eq!(life.seen_by(viewer), expected, "{when}: {viewer}");
        if model.frozen.contains_key(viewer) {
            assert_eq!(expected.state, State::Offline);
        }
    }
    assert_eq!(life.seen_by("ana"), life.record.status(), "P6");
}

/// A random change of who may see the user.
fn random_change(rng: &mut StdRng, model: &mut Model) -> VisibilityChange {
    let hidden = [None, Some(true), Some(false)][rng.random_range(0..3)];
    let some: Vec<_> = VIEWERS.into_iter().filter(|_| rng.random_bool(0.4)).collect();
    let ids = || some.iter().map(|viewer| id(viewer)).collect::<Vec<UserId>>();
    let blocked = match rng.random_range(0..4) {
        0 => {
            model.blocked.extend(&some);
            Some(BlockedChange::Add(ids()))
        }
        1 => {
            model.blocked.retain(|viewer| !some.contains(viewer));
            Some(BlockedChange::Remove(ids()))
        }
        2 => {
            model.blocked = some.iter().copied().collect();
            Some(BlockedChange::Replace(ids()))
        }
        _ => None,
    };
    model.hidden = hidden.unwrap_or(model.hidden);
    VisibilityChange { hidden, blocked }
}

#[test]
fn p4_p5_random_lives_answer_each_viewer_as_the_model_says() {
    for seed in 0..400 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut life = Life::of(Preset::Multi);
        life.policy.record_ttl = 20 * DAY;
        let blocked = BTreeSet::new();
        let mut model = Model { hidden: false, blocked, frozen: BTreeMap::new() };
        let mut seats = Vec::new();
        for step in 0..80 {
            let when = format!("seed {seed}, step {step}");
            match rng.random_range(0..14) {
                0..3 => {
                    let (platform, device) =
                        [(Platform::Web, "d1"), (Platform::Android, "d2")][rng.random_range(0..2)];
                    seats.push(life.login(platform, device));
                }
                3 if !seats.is_empty() => drop(life.logout(seats.swap_remove(0))),
                4 if !seats.is_empty() => drop(life.silence(seats[0])),
                5 if !seats.is_empty() && life.stands(seats[0]) => {
                    life.apply(EventKind::Background {
                        origin: seats[0].origin(),
                        reason: BackgroundReason::Hide,
                    });
                }
                6 => drop(life.set(None, Some(&step.to_string()))),
                12 if !seats.is_empty() => drop(life.idle(seats[0], SECOND)),
                13 if !seats.is_empty() => drop(life.active(seats[0])),
                7 if rng.random_bool(0.3) => drop(life.kick(Target::default())),
                8 => {
                    life.wait(rng.random_range(0..8) * DAY);
                    life.tick();
                }
                _ => {
                    life.wait(SECOND);
                    let to = random_change(&mut rng, &mut model);
                    change(&mut life, &mut model, to, &when);
                }
            }
            assert_as_modelled(&life, &model, &when);
        }
    }
}

/// All that can happen to a user and one viewer, as far as it matters who sees whom.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Hide,
    Show,
    Block,
    Unblock,
    LogIn,
    Kick,
}

const DEEDS: [Deed; 6] =
    [Deed::Hide, Deed::Show, Deed::Block, Deed::Unblock, Deed::LogIn, Deed::Kick];

fn act(life: &mut Life, model: &mut Model, deed: Deed, when: &str) {
    let mut to = VisibilityChange::default();
    match deed {
        Deed::Hide | Deed::Show => {
            model.hidden = matches!(deed, Deed::Hide);
            to.hidden = Some(model.hidden);
        }
        Deed::Block => {
            model.blocked.insert("vic");
            to.blocked = Some(BlockedChange::Add(vec![id("vic")]));
        }
        Deed::Unblock => {
            model.blocked.remove("vic");
            to.blocked = Some(BlockedChange::Remove(vec![id("vic")]));
        }
        Deed::LogIn => {
            life.login(Platform::Web, "d1");
            return;
        }
        Deed::Kick => {
            life.kick(Target::default());
            return;
        }
    }
    change(life, model, to, when);
}

#[test]
fn p4_p5_every_order_of_hiding_and_blocking_answers_as_the_model_says() {
    /// Each order of so many deeds, with repetitions: of all four changes, and of what comes between them.
    const LENGTH: u32 = 5;
    let count = DEEDS.len();
    for order in 0..count.pow(LENGTH) {
        let deeds = (0..LENGTH).map(|place| DEEDS[order / count.pow(place) % count]);
        let deeds: Vec<_> = deeds.collect();
        let mut life = online();
        let (blocked, frozen) = (BTreeSet::new(), BTreeMap::new());
        let mut model = Model { hidden: false, blocked, frozen };
        for (place, deed) in deeds.iter().enumerate() {
            life.wait(SECOND);
            let when = format!("{deeds:?}, step {place}");
            act(&mut life, &mut model, *deed, &when);
            assert_as_modelled(&life, &model, &when);
        }
    }
}
