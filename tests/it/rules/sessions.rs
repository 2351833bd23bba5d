//! S5, L7 and L9: which sessions can be resumed, and which tokens are revoked.

use std::sync::Arc;

use presence_hub::presence::{
    Answer, BackgroundReason, Cause, ENDED_MAX, EndReason, EventKind, Intent, Kicker, LoginPolicy,
    OnConflict, Platform, Preset, Refusal, State, Target, Victor, WebTabs,
};

use super::{DAY, Life, MILLI, MOBILE, SECOND, Seat, named};
use Platform::{Android, Ios, Mac, MiniProgram, Web};

#[test]
fn s5_login_replaces_the_phones_own_push_terminal() {
    for platform in MOBILE {
        for intent in [Intent::New, Intent::Resume(None)] {
            let mut life = Life::of(Preset::Single);
            let old = life.login(platform, "phone");
            life.close(old);
            let new = life.enter(platform, "phone", intent).expect("a login");
            assert_eq!((life.state(), life.record.terminals.len()), (State::Online, 1));
            assert_eq!((life.causes(), life.kicked()), (vec![Cause::Login], vec![]));
            let change = life.last.transitions[0].terminal.clone().expect("a terminal");
            assert_eq!((change.session, change.from), (new.session, Some(State::PushOnline)));
            assert_eq!(life.resume(old), Err(Refusal::Kicked), "the old session was replaced");
        }
    }
}

#[test]
fn l7_resume_moves_a_session_and_closes_its_old_connection_as_moved() {
    for platform in Platform::ALL {
        let mut life = Life::of(Preset::Single);
        let old = life.login(platform, "device");
        let new = life.resume(old).expect("a resume");
        assert_eq!((new.session, life.causes()), (old.session, vec![]));
        assert_eq!(life.ends(), [(old.connection, EndReason::Moved)]);
        assert!(!life.last.effects.status_changed);
        assert_eq!(life.close(old), Answer::Stale, "the old one never ends its successor");
    }
}

#[test]
fn l7_resume_within_a_grace_is_invisible() {
    let mut life = Life::of(Preset::Single);
    let page = life.login(Web, "page");
    life.close(page);
    assert_resume_is_invisible(life, page);

    let mut life = Life::of(Preset::Single);
    let program = life.login(MiniProgram, "program");
    life.background(program, BackgroundReason::Hide);
    life.close(program);
    assert_resume_is_invisible(life, program);
}

fn assert_resume_is_invisible(mut life: Life, old: Seat) {
    let again = life.resume(old).expect("a resume");
    assert_eq!((again.session, life.causes(), life.ends()), (old.session, vec![], vec![]));
    let Answer::Admitted { resumed, .. } = life.last.answer else { panic!("an admission") };
    assert!(resumed);
}

#[test]
fn l7_resume_of_a_push_online_session_is_logged_and_announced() {
    let mut life = Life::of(Preset::Single);
    let phone = life.login(Ios, "phone");
    life.close(phone);
    let again = life.resume(phone).expect("a resume");
    assert_eq!((again.session, life.causes()), (phone.session, vec![Cause::Resume]));
    let resumed = &life.last.transitions[0];
    assert_eq!((resumed.from, resumed.to), (State::PushOnline, State::Online));
    assert!(life.last.effects.status_changed);
}

#[test]
fn l7_resume_of_a_kicked_or_replaced_session_is_refused() {
    let kicked_by_login = |life: &mut Life| {
        life.login(Mac, "desktop");
    };
    let kicked_by_admin = |life: &mut Life| {
        life.kick(Target::default());
    };
    let replaced = |life: &mut Life| {
        life.login(Android, "phone");
    };
    for end in [kicked_by_login, kicked_by_admin, replaced] {
        let mut life = Life::of(Preset::Single);
        let phone = life.login(Android, "phone");
        end(&mut life);
        assert_eq!(life.resume(phone), Err(Refusal::Kicked));
        life.login(Android, "phone");
        assert_eq!(life.state(), State::Online, "its user may log in");
    }
}

#[test]
fn l7_kick_is_remembered_for_seven_days() {
    let mut life = Life::of(Preset::Single);
    let phone = life.login(Android, "phone");
    life.kick(Target { session: Some(phone.session), ..Target::default() });
    life.wait(7 * DAY - MILLI);
    assert_eq!(life.resume(phone), Err(Refusal::Kicked));
    life.wait(MILLI);
    assert!(life.resume(phone).is_ok(), "then it counts as ended, not as kicked");
}

#[test]
fn l7_last_64_kicks_of_a_user_are_remembered() {
    let mut life = Life::of(Preset::Single);
    let phones: Vec<_> = (0..=ENDED_MAX + 1).map(|_| life.login(Android, "phone")).collect();
    assert_eq!(life.record.ended.len(), 64);
    life.logout(phones[ENDED_MAX + 1]);
    assert_eq!(life.clone().resume(phones[1]), Err(Refusal::Kicked));
    assert!(life.resume(phones[0]).is_ok());
}

#[test]
fn l7_resume_of_an_ended_session_makes_a_new_one_unless_it_conflicts() {
    let logged_out = |life: &mut Life, seat| {
        life.logout(seat);
    };
    let silent = |life: &mut Life, seat| {
        life.silence(seat);
    };
    let closed = |life: &mut Life, seat| {
        life.close(seat);
    };
    for end in [logged_out, silent, closed] {
        let mut life = Life::of(Preset::Single);
        let old = life.login(Mac, "desktop");
        end(&mut life, old);
        let mut late = life.clone();

        let new = life.resume(old).expect("an admission");
        assert_ne!(new.session, old.session);
        assert_eq!(life.causes(), [Cause::Login]);
        let Answer::Admitted { resumed, .. } = life.last.answer else { panic!("an admission") };
        assert!(!resumed);

        let other = late.login(Ios, "phone");
        assert_eq!(late.resume(old), Err(Refusal::Superseded));
        assert!(late.stands(other));
    }
}

#[test]
fn l7_resume_does_not_kick_push_online_terminals() {
    for on_conflict in [OnConflict::KickOld, OnConflict::RejectNew] {
        let mut life = Life::of(Preset::Single);
        life.policy.login.on_conflict = on_conflict;
        let phone = life.login(Ios, "phone");
        life.close(phone);
        let answer = life.enter(Web, "page", Intent::Resume(None));
        assert_eq!(answer, Err(Refusal::Superseded));
        assert!(life.stands(phone));
    }
}

#[test]
fn l7_resume_does_not_replace_an_online_session_of_its_own_device() {
    let mut life = Life::of(Preset::Multi);
    life.policy.login.web_tabs = WebTabs::Replace;
    for platform in [Mac, Web, Android] {
        let stands = life.login(platform, "device");
        let answer = life.enter(platform, "device", Intent::Resume(None));
        assert_eq!(answer, Err(Refusal::Superseded), "{platform}");
        assert!(life.stands(stands));
    }
}

#[test]
fn l7_duplicated_tab_gets_its_own_session() {
    let mut life = Life::of(Preset::Single);
    let tab = life.login(Web, "browser");
    let moved = life.resume(tab).expect("the copy resumes");
    let back = life.enter(Web, "browser", Intent::Resume(None)).expect("the first comes back");
    assert_ne!(back.session, moved.session);
    assert!(life.stands(moved) && life.ends().is_empty());
}

#[test]
fn l7_only_the_same_platform_and_device_can_resume_a_session() {
    let mut life = Life::of(Preset::Single);
    let phone = life.login(Android, "phone");
    let thieves = [Seat { device: "other", ..phone }, Seat { platform: Ios, ..phone }];
    for thief in thieves {
        assert_eq!(life.resume(thief), Err(Refusal::Superseded), "as if it were gone");
    }
    life.kick(Target { session: Some(phone.session), ..Target::default() });
    for thief in thieves {
        let new = life.clone().resume(thief).expect("it does not learn of the kick");
        assert_ne!(new.session, phone.session);
    }
}

#[test]
fn l7_two_devices_that_both_reconnect_never_kick_each_other() {
    let mut life = Life::of(Preset::Single);
    let mac = life.login(Mac, "desktop");
    let page = life.login(Web, "page");
    for _ in 0..3 {
        assert_eq!(life.resume(mac), Err(Refusal::Kicked));
        assert!(life.resume(page).is_ok());
    }
}

#[test]
fn l7_resume_keeps_the_order_of_logins() {
    let policy = LoginPolicy::new(
        presence_hub::presence::Groups::Preset(Preset::Multi),
        &[(Android, 2)],
        true,
    );
    let mut life = Life::under(policy.expect("a policy"));
    let first = life.login(Android, "first");
    life.login(Android, "second");
    life.close(first);
    life.resume(first).expect("a resume");
    life.login(Android, "third");
    assert_eq!(life.kicked(), [first.session], "a resume does not count as a login");
}

/// Whether a token with this `iat` may log in.
fn admits(life: &Life, issued_at_secs: u64) -> bool {
    let mut life = life.clone();
    let fresh = life.fresh_login(Mac, "desktop", Intent::New);
    let login = presence_hub::presence::Login { issued_at_secs, ..fresh };
    let answer = life.apply(EventKind::Login(Box::new(login)));
    let revoked = answer == Answer::Refused(Refusal::TokenRevoked);
    assert!(revoked || matches!(answer, Answer::Admitted { .. }), "{answer:?}");
    !revoked
}

#[test]
fn l9_kick_of_all_revokes_tokens_issued_before_its_second() {
    let mut life = Life::of(Preset::Multi);
    let seats = [life.login(Android, "phone"), life.login(Web, "page")];
    life.wait(DAY + 500 * MILLI);
    let second = life.wall().as_secs();
    let answer = life.kick(Target::default());
    assert!(matches!(answer, Answer::Kicked { revoked: true, .. }));
    assert_eq!(life.kicked(), seats.map(|seat| seat.session));
    assert!(admits(&life, second) && admits(&life, second + 1));
    assert!(!admits(&life, second - 1) && !admits(&life, 0));
}

#[test]
fn l9_revocation_lasts_for_max_token_ttl_and_outlives_the_record() {
    let mut life = Life::of(Preset::Single);
    life.login(Mac, "desktop");
    let second = life.wall().as_secs();
    life.kick(Target::default());
    life.wait(31 * DAY);
    life.tick();
    assert_eq!(life.record.status().version, 0, "the user is forgotten");
    life.wait(334 * DAY - MILLI);
    life.tick();
    assert!(!admits(&life, second - 1));
    life.wait(MILLI);
    assert!(admits(&life, second - 1), "every such token has expired by then");
    life.tick();
    assert!(life.record.is_empty());
}

#[test]
fn l9_kick_of_an_unknown_user_revokes() {
    let mut life = Life::of(Preset::Single);
    let second = life.wall().as_secs();
    assert_eq!(life.kick(Target::default()), Answer::Kicked { kicked: vec![], revoked: true });
    assert_eq!((life.causes(), life.record.status().version), (vec![], 0));
    assert!(!admits(&life, second - 1) && admits(&life, second));
}

#[test]
fn l9_later_kick_does_not_weaken_an_earlier_one() {
    let mut life = Life::of(Preset::Single);
    let second = life.wall().as_secs();
    life.kick(Target::default());
    life.ahead -= 10 * SECOND;
    life.policy.max_token_ttl = SECOND;
    life.kick(Target::default());
    assert!(!admits(&life, second - 1), "even if another node's clock is behind");
    life.wait(DAY);
    assert!(!admits(&life, second - 1), "even if max_token_ttl was shortened meanwhile");
}

#[test]
fn l9_refresh_with_a_revoked_token_is_refused_and_changes_nothing() {
    let mut life = Life::of(Preset::Single);
    life.kick(Target::default());
    let seat = life.login(Mac, "desktop");
    let before = life.record.clone();
    let refresh = EventKind::Refresh {
        origin: seat.origin(),
        token_until: life.now + DAY,
        issued_at_secs: life.wall().as_secs() - 1,
    };
    assert_eq!(life.apply(refresh), Answer::Refused(Refusal::TokenRevoked));
    assert_eq!(life.record, before);
}

#[test]
fn l9_kick_that_names_a_target_ends_only_it_and_revokes_nothing() {
    let names: [fn(Seat) -> Target; 3] = [
        |seat| Target { platform: Some(seat.platform), ..Target::default() },
        |seat| Target { device: Some(named(seat.device)), ..Target::default() },
        |seat| Target { session: Some(seat.session), ..Target::default() },
    ];
    for name in names {
        let mut life = Life::of(Preset::Multi);
        let (phone, page) = (life.login(Android, "phone"), life.login(Web, "page"));
        let answer = life.kick(name(phone));
        assert!(matches!(answer, Answer::Kicked { revoked: false, .. }));
        assert_eq!(life.kicked(), [phone.session]);
        assert!(life.stands(page) && admits(&life, 0));
        assert_eq!(life.resume(phone), Err(Refusal::Kicked));
    }
    let mut life = Life::of(Preset::Single);
    let phone = life.login(Android, "phone");
    let no_match = Target { platform: Some(Ios), device: Some(named("phone")), session: None };
    assert_eq!(life.kick(no_match), Answer::Kicked { kicked: vec![], revoked: false });
    assert!(life.stands(phone), "all named fields must match");
}

#[test]
fn t9_kick_by_the_user_from_another_session_revokes_nothing() {
    let mut life = Life::of(Preset::Multi);
    let (phone, page) = (life.login(Android, "phone"), life.login(Web, "page"));
    let by = Kicker::Own(Victor { platform: Web, device: named("page"), session: page.session });
    let target = Target { session: Some(phone.session), ..Target::default() };
    let answer = life.apply(EventKind::Kick { target, by: by.clone() });
    assert!(matches!(answer, Answer::Kicked { revoked: false, .. }));
    assert_eq!(life.ends(), [(phone.connection, EndReason::OwnRequest)]);
    assert_eq!(life.last.transitions[0].by, Some(by.clone()));
    assert_eq!(life.resume(phone), Err(Refusal::Kicked));
    let everything = EventKind::Kick { target: Target::default(), by };
    let answer = life.apply(everything.clone());
    assert!(matches!(answer, Answer::Kicked { revoked: false, .. }), "only a back end revokes");
    life.login(Android, "phone");
    assert_eq!(life.apply(everything), Answer::Stale, "an ended session cannot kick");
}

#[test]
fn l6_message_of_the_back_end_reaches_the_kicked_session() {
    let mut life = Life::of(Preset::Single);
    life.login(Android, "phone");
    let by = Kicker::Admin { message: Some(Arc::from("bye")) };
    life.apply(EventKind::Kick { target: Target::default(), by: by.clone() });
    assert_eq!(life.last.effects.kick, Some(Box::new((by, life.wall()))));
}
