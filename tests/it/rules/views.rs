//! S3, S4, V1, V2, V5 and V6: what watchers, queries and the log see.

use presence_hub::presence::{
    Answer, BackgroundReason, Cause, Event, EventId, EventKind, Groups, Intent, Login, LoginPolicy,
    Origin, Platform, Preset, RECENT_EVENTS_MAX, RecentEvent, Record, Refusal, SESSIONS_MAX, State,
    Status, Target, WebTabs,
};

use super::{DAY, Life, MILLI, SECOND, Seat};
use Platform::{Android, Ios, Mac, MiniProgram, Web};

#[test]
fn s3_user_has_the_best_state_of_any_terminal() {
    let mut life = Life::of(Preset::Multi);
    let (phone, desktop) = (life.login(Ios, "phone"), life.login(Mac, "desktop"));
    life.close(phone);
    assert_eq!(life.state(), State::Online);
    life.close(desktop);
    assert_eq!(life.state(), State::PushOnline);
    life.kick(Target::default());
    assert_eq!(life.state(), State::Offline);
}

#[test]
fn s4_unknown_user_is_offline_and_events_create_no_record() {
    let unknown = Status::default();
    assert_eq!(
        (unknown.state, unknown.version, unknown.since, unknown.last_seen),
        Default::default()
    );
    let mut life = Life::of(Preset::Single);
    life.tick();
    assert_eq!(life.set(None, Some("x")), Answer::Refused(Refusal::NotLoggedIn));
    life.kick(Target { platform: Some(Web), ..Target::default() });
    assert_eq!(life.record.status(), unknown);
    assert!(life.record.is_empty());
}

#[test]
fn v1_platforms_are_the_online_ones_sorted_without_duplicates() {
    let mut life = Life::of(Preset::Multi);
    life.policy.login = LoginPolicy::new(Groups::Preset(Preset::Multi), &[], false).expect("valid");
    for platform in [Web, Platform::Windows, MiniProgram, Mac, Platform::Linux, Platform::Ipad] {
        life.login(platform, "one");
    }
    let phone = life.login(Ios, "one");
    life.login(Android, "one");
    life.login(Web, "one");
    life.close(phone);
    let names: Vec<_> = life.record.status().platforms.into_iter().map(Platform::name).collect();
    assert_eq!(names, ["android", "ipad", "linux", "mac", "miniprogram", "web", "windows"]);
}

#[test]
fn v1_since_is_when_the_state_last_changed() {
    let mut life = Life::of(Preset::Multi);
    let start = life.wall();
    let phone = life.login(Ios, "phone");
    life.wait(SECOND);
    let page = life.login(Web, "page");
    assert_eq!(life.record.status().since, Some(start), "Online before and after");
    life.logout(page);
    life.wait(500 * SECOND);
    life.silence(phone);
    assert_eq!(life.record.status().since, Some(life.wall()), "when the silence was detected");
    let pushed = life.wall();
    life.wait(DAY);
    life.tick();
    assert_eq!(life.record.status().since, Some(pushed));
}

#[test]
fn v1_v2_times_follow_a_wall_clock_that_was_set_and_versions_still_grow() {
    let hour = 3600 * SECOND;
    for ahead in [SECOND, 2 * hour, 4 * hour, 10 * DAY] {
        let mut life = Life::of(Preset::Multi);
        let (phone, page) = (life.login(Ios, "phone"), life.login(Web, "page"));
        life.hear(phone);
        life.logout(page);
        let version = life.record.version;
        life.ahead = ahead;
        life.wait(400 * SECOND);
        life.hear(phone);
        life.wait(400 * SECOND);
        let deadline = life.now - SECOND;
        life.apply(EventKind::Silent { origin: phone.origin(), deadline });
        let (status, wall) = (life.record.status(), life.wall());
        assert_eq!(status.since, Some(wall));
        assert_eq!(status.last_seen, Some(wall - 400 * SECOND), "set to {ahead:?} ahead");
        assert!(status.version > version);
        let logged = &life.last.transitions[0];
        assert_eq!(logged.at, wall);
        assert_eq!(logged.evidence.heard, Some(wall - 400 * SECOND));
        assert_eq!(logged.evidence.deadline, Some(wall - SECOND));
        assert_eq!(life.record.terminals[0].since, wall);
        life.kick(Target::default());
        let (_, at) = *life.last.effects.kick.clone().expect("a kick");
        assert_eq!(at, wall);
    }
}

#[test]
fn v1_last_seen_is_when_any_terminal_was_last_heard_before_the_user_left() {
    let mut life = Life::of(Preset::Multi);
    let (phone, page) = (life.login(Ios, "phone"), life.login(Web, "page"));
    life.wait(10 * SECOND);
    life.hear(phone);
    let phone_heard = life.wall();
    life.wait(10 * SECOND);
    life.hear(page);
    let page_heard = life.wall();
    assert_eq!(life.record.status().last_seen, None, "it is null while Online");

    let mut phone_last = life.clone();
    phone_last.wait(300 * SECOND);
    phone_last.logout(page);
    phone_last.wait(100 * SECOND);
    phone_last.silence(phone);
    let seen = phone_last.record.status().last_seen;
    assert_eq!(seen, Some(page_heard), "from a terminal that ended earlier");
    phone_last.wait(7 * DAY);
    phone_last.tick();
    assert_eq!(phone_last.record.status().last_seen, seen, "the end of PushOnline changes nothing");

    life.silence(phone);
    life.wait(60 * SECOND);
    life.silence(page);
    assert_eq!(life.record.status().last_seen, Some(page_heard));
    assert!(phone_heard < page_heard);
    life.resume(phone).expect("a resume");
    assert_eq!(life.record.status().last_seen, None);
}

#[test]
fn v1_custom_status_is_cleared_only_when_the_user_becomes_offline() {
    let mut life = Life::of(Preset::Single);
    let page = life.login(Web, "page");
    life.set(Some(page), Some("busy"));
    let phone = life.login(Ios, "phone");
    assert_eq!(life.record.status().custom.as_deref(), Some("busy"), "a takeover is one commit");
    life.close(phone);
    assert_eq!(life.record.status().custom.as_deref(), Some("busy"), "PushOnline is not Offline");
    life.wait(7 * DAY);
    life.tick();
    assert_eq!((life.state(), life.record.status().custom), (State::Offline, None));
}

#[test]
fn v1_v6_custom_status_set_by_session_or_back_end_is_logged_if_it_changed() {
    let mut life = Life::of(Preset::Single);
    let page = life.login(Web, "page");
    for origin in [Some(page), None] {
        life.set(origin, Some("busy"));
        assert_eq!(life.causes(), [Cause::Custom]);
        assert_eq!(life.last.transitions[0].terminal.is_some(), origin.is_some());
        life.set(origin, Some("busy"));
        assert!(
            life.causes().is_empty() && !life.last.effects.status_changed,
            "the same text again"
        );
        life.set(origin, None);
        assert_eq!((life.causes(), life.record.status().custom), (vec![Cause::Custom], None));
    }
}

/// Logs in or resumes with a custom status.
fn enter_with(life: &mut Life, seat: Seat, intent: Intent, custom: Option<&str>) {
    let fresh = life.fresh_login(seat.platform, seat.device, intent);
    let login = Login { custom: Some(custom.map(Into::into)), ..fresh };
    life.apply(EventKind::Login(Box::new(login)));
}

#[test]
fn v1_v6_login_can_set_the_custom_status() {
    let mut life = Life::of(Preset::Single);
    let phone = life.login(Ios, "phone");
    let resume = Intent::Resume(Some(phone.session));
    enter_with(&mut life, phone, resume, Some("unseen"));
    assert_eq!(life.causes(), [Cause::Custom], "the resume itself is not logged");
    enter_with(&mut life, phone, Intent::New, Some("new"));
    assert_eq!(life.causes(), [Cause::Login]);
    enter_with(&mut life, phone, Intent::New, None);
    assert_eq!(life.record.status().custom, None);
}

#[test]
fn v6_resume_carries_the_state_change_even_if_it_sets_a_custom_status() {
    let mut life = Life::of(Preset::Single);
    let phone = life.login(Ios, "phone");
    life.close(phone);
    enter_with(&mut life, phone, Intent::Resume(Some(phone.session)), Some("back"));
    let came_back = life.last.transitions.iter().find(|t| t.to != t.from).expect("a change");
    assert_eq!(came_back.cause, Cause::Resume);
    assert_eq!(came_back.status.custom.as_deref(), Some("back"));
}

#[test]
fn v2_versions_grow_across_logins_and_after_a_user_was_forgotten() {
    let mut life = Life::of(Preset::Single);
    let mut versions = Vec::new();
    for _ in 0..3 {
        let seat = life.login(Mac, "desktop");
        versions.push(life.record.version);
        life.logout(seat);
        versions.push(life.record.version);
        life.wait(30 * DAY - MILLI);
        life.tick();
        assert_ne!(life.record.status().version, 0);
        life.wait(MILLI);
        life.tick();
        assert!(life.record.is_empty(), "record_ttl is over (S4)");
    }
    assert!(versions.is_sorted_by(|one, next| one < next), "{versions:?}");
}

#[test]
fn v2_push_online_user_is_not_forgotten() {
    let mut life = Life::of(Preset::Single);
    life.policy.record_ttl = DAY;
    let phone = life.login(Ios, "phone");
    life.close(phone);
    life.wait(6 * DAY);
    life.tick();
    assert!(life.stands(phone));
}

#[test]
fn v6_takeover_logs_a_kick_for_each_terminal_and_then_the_login() {
    let mut life = Life::of(Preset::Multi);
    let (phone, page) = (life.login(Ios, "phone"), life.login(Web, "page"));
    life.close(phone);
    life.policy.login = LoginPolicy::preset(Preset::Single);
    let desktop = life.login(Mac, "desktop");
    assert_eq!(life.causes(), [Cause::Kicked, Cause::Kicked, Cause::Login]);
    let of = |index: usize| {
        let transition = &life.last.transitions[index];
        let terminal = transition.terminal.clone().expect("a terminal");
        assert_eq!((transition.from, transition.to), (State::Online, State::Online));
        assert_eq!(transition.status.platforms, [Mac], "the status after the whole commit");
        assert_eq!(transition.status.version, transition.version);
        (terminal.session, terminal.from, terminal.to)
    };
    assert_eq!(of(0), (phone.session, Some(State::PushOnline), None));
    assert_eq!(of(1), (page.session, Some(State::Online), None));
    assert_eq!(of(2), (desktop.session, None, Some(State::Online)));
}

#[test]
fn v6_login_of_a_takeover_carries_the_state_change() {
    let mut life = Life::of(Preset::Single);
    let phone = life.login(Ios, "phone");
    life.close(phone);
    life.login(Mac, "desktop");
    let changes: Vec<_> = life.last.transitions.iter().map(|t| (t.cause, t.from, t.to)).collect();
    let push = State::PushOnline;
    assert_eq!(changes, [(Cause::Kicked, push, push), (Cause::Login, push, State::Online)]);
}

#[test]
fn v6_second_tab_and_repeated_login_are_logged_as_login() {
    let mut life = Life::of(Preset::Single);
    for tabs in [WebTabs::Share, WebTabs::Replace] {
        life.policy.login.web_tabs = tabs;
        for _ in 0..2 {
            life.login(Web, "browser");
            assert_eq!(life.causes(), [Cause::Login]);
        }
        assert!(!life.last.effects.status_changed);
    }
}

#[test]
fn v6_only_a_visible_change_is_announced() {
    let mut life = Life::of(Preset::Single);
    let announced = |life: &mut Life, platform| {
        life.login(platform, "device");
        life.last.effects.status_changed
    };
    assert!(announced(&mut life, Ios));
    life.login(Ios, "another phone");
    assert!(
        !life.last.effects.status_changed,
        "a takeover on the same platform differs in its version"
    );
    assert!(announced(&mut life, Mac), "one on another platform differs");
    let desktop = life.record.terminals[0].clone();
    let origin = Origin { session: desktop.session, connection: desktop.connection };
    life.apply(EventKind::Background { origin, reason: BackgroundReason::Hide });
    assert!(life.last.effects.status_changed, "the user is away (A4)");
    life.apply(EventKind::Background { origin, reason: BackgroundReason::Exit });
    assert!(!life.last.effects.status_changed);
}

#[test]
fn v5_retried_event_has_the_same_effects_and_changes_nothing() {
    let mut life = Life::of(Preset::Multi);
    life.login(Ios, "phone");
    life.login(Web, "page");
    life.policy.login = LoginPolicy::preset(Preset::Single);
    let fresh = life.fresh_login(Mac, "desktop", Intent::New);
    let event = Event { id: EventId(u128::MAX), kind: EventKind::Login(Box::new(fresh)) };
    life.send(&event);
    let first = life.last.clone();
    let desktop = life.record.terminals[0].clone();
    for n in 0..RECENT_EVENTS_MAX - 1 {
        life.wait(SECOND);
        life.set(None, Some(&n.to_string()));
    }
    let before = life.record.clone();
    life.send(&event);
    assert_eq!((&life.last.effects, &life.last.answer), (&first.effects, &first.answer));
    assert_eq!((&life.record, life.causes()), (&before, vec![]));
    assert!(life.record.terminal(desktop.session).is_some());
}

fn stored(record: &Record) -> usize {
    let json = serde_json::to_vec(record).expect("JSON");
    let back: Record = serde_json::from_slice(&json).expect("a record");
    assert_eq!(back, *record, "a record survives storing");
    json.len()
}

/// A user with 100 sessions, 64 kicked sessions, a revocation, and every text of maximum length.
fn crowded(letter: char) -> Life {
    let text = |bytes| letter.to_string().repeat(bytes);
    let policy = LoginPolicy::new(Groups::Preset(Preset::Multi), &[(Android, 100)], true);
    let mut life = Life::under(policy.expect("a policy"));
    life.serial = 1 << 60;
    life.kick(Target::default());
    for n in 0..SESSIONS_MAX + 64 {
        let mut fresh = life.fresh_login(Android, &format!("{}{n:04}", text(124)), Intent::New);
        fresh.session.0 |= u128::MAX << 64;
        fresh.app = Some(text(256).into());
        fresh.address = Some([0xffff; 8].into());
        let origin = Origin { session: fresh.session, connection: fresh.connection };
        life.apply(EventKind::Login(Box::new(fresh)));
        life.apply(EventKind::Background { origin, reason: BackgroundReason::Hide });
    }
    life.set(None, Some(&text(256)));
    assert_eq!((life.record.terminals.len(), life.record.ended.len()), (100, 64));
    life
}

/// As JSON the record takes about 90 KB, and 320 KB if every letter must be escaped.
#[test]
fn l2_l7_largest_possible_record_is_small() {
    for (letter, kib_max) in [('d', 128), ('\u{1}', 512)] {
        let mut life = crowded(letter);
        let full = life.record.clone();
        life.policy.login = LoginPolicy::preset(Preset::Single);
        life.login(Mac, "desktop");
        assert_eq!(life.kicked().len(), 100);
        // An upper bound: the terminals of one record are the kicked ones of the other.
        let both = Record { recent: life.record.recent.clone(), ..full.clone() };
        assert!(stored(&full) < stored(&both) && stored(&life.record) < stored(&both));
        assert!(stored(&both) <= kib_max * 1024, "{} bytes", stored(&both));
    }
}

/// The hub keeps a record of every user it has seen, and each step copies one.
#[test]
fn s4_record_of_an_offline_user_keeps_no_spare_capacity() {
    let mut life = Life::of(Preset::Single);
    for _ in 0..RECENT_EVENTS_MAX {
        let seat = life.login(Mac, "desktop");
        life.logout(seat);
    }
    let Record { terminals, recent, .. } = &life.record;
    assert_eq!((terminals.capacity(), recent.capacity()), (0, RECENT_EVENTS_MAX));
    assert!(size_of::<RecentEvent>() <= 64, "{} bytes for each", size_of::<RecentEvent>());
}
