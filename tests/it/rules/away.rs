//! A1 to A6: whether a user who is there is also at it.

use std::time::Duration;

use presence_hub::presence::{
    Activity, Answer, BackgroundReason, Cause, EventKind, Intent, LogQuota, Platform, Preset,
    Record, Refusal, State, Status, Timestamp,
};
use serde_json::{Value, json, to_value};

use super::{DAY, Life, MOBILE, SECOND, Seat};
use BackgroundReason::Hide;
use Platform::{Ios, Mac, MiniProgram, Web};

const FIVE_MINUTES: Duration = Duration::from_secs(300);

fn is_away(life: &Life) -> bool {
    life.record.status().away
}

/// A terminal's activity as its details show it.
fn shown(life: &Life, seat: Seat) -> Value {
    let terminal = life.record.terminal(seat.session).expect("a terminal");
    to_value(terminal.activity_view()).expect("JSON")
}

fn active(since: Timestamp) -> Value {
    json!({ "activity": "active", "active_at": since })
}

fn idle(since: Timestamp) -> Value {
    json!({ "activity": "idle", "active_at": since })
}

/// Resumes a session that was not touched for so long.
fn resume_idle(life: &mut Life, seat: Seat, untouched: Duration) -> Seat {
    let Seat { platform, device, session, .. } = seat;
    let mut login = life.fresh_login(platform, device, Intent::Resume(Some(session)));
    login.activity = Some(Activity::untouched_for(untouched, life.wall()));
    let connection = login.connection;
    let answer = life.apply(EventKind::Login(Box::new(login)));
    let Answer::Admitted { session, .. } = answer else { panic!("to a resume: {answer:?}") };
    Seat { session, connection, ..seat }
}

#[test]
fn a1_a_login_is_active_and_only_a_user_who_is_idle_everywhere_is_away() {
    let mut life = Life::of(Preset::Multi);
    let page = life.login(Web, "page");
    assert_eq!((is_away(&life), shown(&life, page)), (false, active(life.wall())));
    let desktop = life.login(Mac, "desk");
    life.idle(page, FIVE_MINUTES);
    assert!(!is_away(&life) && life.causes().is_empty(), "the desktop is in use");
    life.idle(desktop, FIVE_MINUTES);
    assert_eq!((is_away(&life), life.causes()), (true, vec![Cause::Idle]));
    life.active(page);
    assert_eq!((is_away(&life), life.causes()), (false, vec![Cause::Active]));
}

#[test]
fn a1_whoever_is_not_online_is_never_away() {
    for platform in MOBILE {
        let mut life = Life::of(Preset::Multi);
        let phone = life.login(platform, "phone");
        life.idle(phone, FIVE_MINUTES);
        assert!(is_away(&life));
        life.close(phone);
        assert_eq!((life.state(), is_away(&life)), (State::PushOnline, false));
        assert_eq!(shown(&life, phone), json!({ "activity": null, "active_at": null }));
        life.wait(7 * DAY);
        life.tick();
        assert_eq!((life.state(), is_away(&life)), (State::Offline, false));
    }
}

#[test]
fn a2_idle_says_since_when_and_counts_a_day_at_most() {
    for (untouched, counted) in
        [(FIVE_MINUTES, FIVE_MINUTES), (Duration::ZERO, Duration::ZERO), (3 * DAY, DAY)]
    {
        let mut life = Life::of(Preset::Multi);
        let page = life.login(Web, "page");
        assert_eq!(life.idle(page, untouched), Answer::Done);
        assert_eq!(shown(&life, page), idle(life.wall() - counted));
    }
    assert_eq!(
        Activity::untouched_for(Duration::MAX, Timestamp::from_millis(5)),
        Activity::Idle(Timestamp::default())
    );
}

#[test]
fn a2_saying_it_again_changes_nothing() {
    let mut life = Life::of(Preset::Multi);
    let page = life.login(Web, "page");
    let unchanged = |life: &mut Life, word: fn(&mut Life, Seat) -> Answer| {
        let before = life.record.clone();
        life.wait(SECOND);
        assert_eq!(word(life, page), Answer::Done);
        assert_eq!((&life.record, life.causes()), (&before, vec![]));
    };
    unchanged(&mut life, Life::active);
    life.idle(page, FIVE_MINUTES);
    unchanged(&mut life, |life, page| life.idle(page, SECOND));
    life.active(page);
    assert_eq!(shown(&life, page), active(life.wall()));
    unchanged(&mut life, Life::active);
}

#[test]
fn a2_a_word_of_a_connection_that_the_session_has_left_is_ignored() {
    let mut life = Life::of(Preset::Multi);
    let page = life.login(Web, "page");
    life.resume(page).expect("a resume");
    assert_eq!(life.idle(page, FIVE_MINUTES), Answer::Stale);
    assert_eq!(life.active(page), Answer::Stale);
    assert!(!is_away(&life));
}

#[test]
fn a3_a_resume_leaves_the_terminal_as_it_was() {
    let mut life = Life::of(Preset::Multi);
    let page = life.login(Web, "page");
    let since = life.wall();
    let page = life.resume(page).expect("a resume");
    assert_eq!((shown(&life, page), life.causes()), (active(since), vec![]));
    life.idle(page, FIVE_MINUTES);
    let seen = life.record.status();
    life.close(page);
    life.wait(SECOND / 2);
    let page = life.resume(page).expect("a resume");
    assert_eq!((life.record.status(), life.causes()), (seen, vec![]), "nobody is brought back");
    life.active(page);
    assert!(!is_away(&life));
}

#[test]
fn a3_a_phone_keeps_its_activity_while_it_is_push_online() {
    let mut life = Life::of(Preset::Multi);
    let phone = life.login(Ios, "phone");
    life.idle(phone, FIVE_MINUTES);
    let touched = life.wall() - FIVE_MINUTES;
    life.close(phone);
    life.wait(DAY);
    let phone = life.resume(phone).expect("a resume");
    assert_eq!((life.causes(), is_away(&life)), (vec![Cause::Resume], true));
    assert_eq!(shown(&life, phone), idle(touched));
    life.active(phone);
    life.close(phone);
    life.wait(DAY);
    let phone = life.resume(phone).expect("a resume");
    assert_eq!((shown(&life, phone), is_away(&life)), (active(life.wall()), false));
}

#[test]
fn a3_a_resume_with_idle_ms_makes_the_terminal_idle() {
    let mut life = Life::of(Preset::Multi);
    let page = life.login(Web, "page");
    life.close(page);
    let page = resume_idle(&mut life, page, FIVE_MINUTES);
    assert_eq!((life.causes(), is_away(&life)), (vec![Cause::Idle], true));
    assert_eq!(shown(&life, page), idle(life.wall() - FIVE_MINUTES));
    // Of a phone the resume itself is logged, and shows it.
    let mut life = Life::of(Preset::Multi);
    let phone = life.login(Ios, "phone");
    life.close(phone);
    resume_idle(&mut life, phone, SECOND);
    assert_eq!(life.causes(), [Cause::Resume]);
    assert!(life.last.transitions[0].status.away && is_away(&life));
}

#[test]
fn a3_a_resume_whose_session_is_gone_is_active_or_idle_as_it_says() {
    let mut life = Life::of(Preset::Multi);
    let page = life.login(Web, "page");
    life.idle(page, FIVE_MINUTES);
    life.logout(page);
    let again = life.resume(page).expect("a new session");
    assert_eq!((life.causes(), is_away(&life)), (vec![Cause::Login], false));
    life.logout(again);
    let again = resume_idle(&mut life, again, FIVE_MINUTES);
    assert_eq!((life.causes(), is_away(&life)), (vec![Cause::Login], true));
    assert_eq!(shown(&life, again), idle(life.wall() - FIVE_MINUTES));
}

#[test]
fn a3_idle_ms_of_a_login_without_a_resume_is_ignored() {
    let mut life = Life::of(Preset::Multi);
    let mut login = life.fresh_login(Web, "page", Intent::New);
    login.activity = Some(Activity::untouched_for(SECOND, life.wall()));
    life.apply(EventKind::Login(Box::new(login)));
    assert!(!is_away(&life), "A1: a login is active");
}

#[test]
fn a4_background_and_foreground_tell_of_apps_and_mini_programs_but_not_of_pages() {
    for platform in Platform::ALL {
        let mut life = Life::of(Preset::Multi);
        let seat = life.login(platform, "device");
        let is_page = platform == Web;
        life.background(seat, Hide);
        let causes = if is_page { vec![] } else { vec![Cause::Idle] };
        assert_eq!((is_away(&life), life.causes()), (!is_page, causes), "{platform}");
        life.background(seat, Hide);
        assert!(life.causes().is_empty(), "{platform}");
        life.wait(SECOND);
        life.foreground(seat);
        let causes = if is_page { vec![] } else { vec![Cause::Active] };
        assert_eq!((is_away(&life), life.causes()), (false, causes), "{platform}");
    }
    // What a page says of itself stays.
    let mut life = Life::of(Preset::Multi);
    let page = life.login(Web, "page");
    life.idle(page, FIVE_MINUTES);
    life.foreground(page);
    assert!(is_away(&life));
}

#[test]
fn a4_a_mini_program_that_is_resumed_is_in_the_foreground_but_still_idle() {
    let mut life = Life::of(Preset::Multi);
    let program = life.login(MiniProgram, "phone");
    life.background(program, Hide);
    life.close(program);
    let program = life.resume(program).expect("a resume");
    assert!(is_away(&life) && life.record.terminals[0].background.is_none());
    life.foreground(program);
    assert_eq!(life.causes(), [Cause::Active]);
}

#[test]
fn a5_terminals_that_come_and_go_leave_the_others_as_they_are() {
    let mut life = Life::of(Preset::Multi);
    let page = life.login(Web, "page");
    life.idle(page, FIVE_MINUTES);
    let kept = shown(&life, page);
    let desktop = life.login(Mac, "desk");
    // A6: the login's own status shows it, and there is no other event.
    assert_eq!(life.causes(), [Cause::Login]);
    assert!(!life.last.transitions[0].status.away && life.last.effects.status_changed);
    assert_eq!(shown(&life, page), kept);
    life.logout(desktop);
    assert_eq!(life.causes(), [Cause::Logout]);
    assert!(life.last.transitions[0].status.away && is_away(&life));
    assert_eq!(shown(&life, page), kept);
    let phone = life.login(Ios, "phone");
    life.silence(phone);
    assert_eq!((life.causes(), is_away(&life)), (vec![Cause::Silence], true));
}

#[test]
fn a6_a_word_that_changes_the_user_is_one_event_and_pushed() {
    let mut life = Life::of(Preset::Multi);
    let page = life.login(Web, "page");
    let before: Status = life.record.status();
    for (is_idle, cause) in [(true, Cause::Idle), (false, Cause::Active)] {
        let version = life.record.version;
        if is_idle {
            life.idle(page, FIVE_MINUTES)
        } else {
            life.active(page)
        };
        assert_eq!(life.causes(), [cause]);
        let event = &life.last.transitions[0];
        assert_eq!((event.from, event.to), (State::Online, State::Online));
        assert!(event.version > version && event.status.away == is_idle);
        let terminal = event.terminal.as_ref().expect("the terminal that spoke");
        assert_eq!(terminal.session, page.session);
        assert_eq!((terminal.from, terminal.to), (Some(State::Online), Some(State::Online)));
        assert!(life.last.effects.status_changed);
    }
    assert!(life.record.status().looks_like(&before), "`since` is that of the state");
}

#[test]
fn a6_a_word_that_changes_only_the_terminal_is_stored_and_neither_logged_nor_pushed() {
    let mut life = Life::of(Preset::Multi);
    life.login(Mac, "desk");
    let page = life.login(Web, "page");
    let edition = life.record.edition();
    life.idle(page, FIVE_MINUTES);
    assert!(life.causes().is_empty() && !life.last.effects.status_changed);
    assert_eq!(shown(&life, page), idle(life.wall() - FIVE_MINUTES));
    assert!(life.record.edition() > edition);
}

#[test]
fn v7_over_quota_idle_is_refused_and_active_is_not() {
    let mut life = Life::of(Preset::Multi);
    life.policy.log_quota = LogQuota { bytes: 64 * 1024, within: DAY };
    let page = life.login(Web, "page");
    life.idle(page, FIVE_MINUTES);
    let refused = Answer::Refused(Refusal::LogQuota);
    while life.set(Some(page), Some(&life.now.as_millis().to_string())) != refused {
        life.wait(SECOND / 1000);
    }
    assert_eq!(life.active(page), Answer::Done);
    let before = life.record.clone();
    assert_eq!(life.idle(page, FIVE_MINUTES), refused);
    assert_eq!(life.record, before);
    assert!(!is_away(&life));
}

#[test]
fn a_record_has_no_byte_of_activity_unless_it_is_used_and_reads_what_it_wrote() {
    let mut life = Life::of(Preset::Multi);
    let page = life.login(Web, "page");
    let json = |life: &Life| serde_json::to_string(&life.record).expect("JSON");
    assert!(!json(&life).contains("activity"), "{}", json(&life));
    life.idle(page, FIVE_MINUTES);
    let idle: Record = serde_json::from_str(&json(&life)).expect("a record");
    assert_eq!(idle, life.record);
    life.active(page);
    let active: Record = serde_json::from_str(&json(&life)).expect("a record");
    assert_eq!(active, life.record);
}
