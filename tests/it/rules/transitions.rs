//! S1, S2 and T1 to T17: the effect of each event on each platform, and its time.

use std::time::Duration;

use presence_hub::presence::{
    Answer, BackgroundReason, Cause, EndReason, EventKind, Liveness, LivenessDue, Platform, Preset,
    State, Timestamp, Windows,
};

use super::{DAY, Life, MILLI, MOBILE, NATIVE, SECOND, Seat};
use BackgroundReason::{Exit, Hide};
use Platform::{Linux, Mac, MiniProgram, Web};

const DESKTOP: [Platform; 3] = [Platform::Windows, Mac, Linux];
const GRACE: Duration = SECOND;
const HIDDEN: Duration = Duration::from_secs(30);
const LEFT: Duration = Duration::from_secs(4);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

fn logged_in(platform: Platform) -> (Life, Seat) {
    let mut life = Life::of(Preset::Single);
    let seat = life.login(platform, "device");
    (life, seat)
}

/// Logs in a mini-program and sends it to the background.
fn suspended(reason: BackgroundReason) -> (Life, Seat) {
    let (mut life, program) = logged_in(MiniProgram);
    life.background(program, reason);
    (life, program)
}

/// The state of a platform's terminal after its connection is lost (S2).
fn without_connection(platform: Platform) -> State {
    if MOBILE.contains(&platform) { State::PushOnline } else { State::Offline }
}

#[test]
fn t1_login_makes_every_platform_online() {
    for platform in Platform::ALL {
        let (life, _) = logged_in(platform);
        assert_eq!((life.state(), life.causes()), (State::Online, vec![Cause::Login]));
        assert!(life.last.effects.status_changed);
    }
}

#[test]
fn t2_logout_makes_every_platform_offline() {
    for platform in Platform::ALL {
        let (mut life, seat) = logged_in(platform);
        assert_eq!(life.logout(seat), Answer::Done);
        assert_eq!((life.state(), life.causes()), (State::Offline, vec![Cause::Logout]));
    }
}

#[test]
fn t3_closed_connection_ends_online_at_once_except_on_web() {
    for platform in NATIVE.into_iter().chain([MiniProgram]) {
        let (mut life, seat) = logged_in(platform);
        life.close(seat);
        assert_eq!(
            (life.state(), life.causes()),
            (without_connection(platform), vec![Cause::Close])
        );
        assert_eq!(life.last.transitions[0].evidence.close_code, Some(1006));
    }
}

#[test]
fn t3_closed_page_ends_after_its_grace() {
    let (mut life, page) = logged_in(Web);
    life.close(page);
    assert!(life.causes().is_empty() && !life.last.effects.status_changed);
    assert_eq!(life.lasts(GRACE), [Cause::Close]);
    assert_eq!((life.state(), life.ends()), (State::Offline, vec![]));
    assert_eq!(life.last.transitions[0].evidence.close_code, Some(1006));
}

#[test]
fn t3_reload_within_the_grace_is_invisible() {
    let (mut life, page) = logged_in(Web);
    let seen = life.record.status();
    life.close(page);
    life.wait(GRACE - MILLI);
    let again = life.resume(page).expect("a resume");
    assert_eq!((again.session, life.causes()), (page.session, vec![]));
    life.wait(DAY);
    life.tick();
    assert_eq!(life.record.status(), seen);
}

#[test]
fn t3_closed_page_ends_at_once_without_a_grace() {
    let (mut life, page) = logged_in(Web);
    life.policy.windows.web_close_grace = Duration::ZERO;
    life.close(page);
    assert_eq!((life.state(), life.causes()), (State::Offline, vec![Cause::Close]));
}

/// The silence window and the ping interval of a platform, in seconds.
fn silence_and_ping(platform: Platform) -> (u32, u32) {
    if NATIVE.contains(&platform) { (400, 120) } else { (60, 20) }
}

/// Sleeps like an actor until the connection is silent; returns when, how late, and the pings.
fn run_until_silent(liveness: &mut Liveness) -> (Timestamp, Duration, Vec<Timestamp>) {
    let mut pings = Vec::new();
    for _ in 0..20 {
        let now = liveness.next();
        match liveness.poll(now) {
            Some(LivenessDue::Ping) => pings.push(now),
            Some(LivenessDue::Silent { late }) => return (now, late, pings),
            None => (),
        }
    }
    panic!("the connection never becomes silent")
}

#[test]
fn t4_t5_t14_silence_is_detected_within_a_second_after_its_window_and_never_early() {
    for platform in Platform::ALL {
        let (seconds, _) = silence_and_ping(platform);
        let start = Timestamp::from_millis(7);
        let window_over = start + seconds * SECOND;
        let fresh = || Liveness::new(platform, &Windows::default(), start);

        let (at, late, _) = run_until_silent(&mut fresh());
        assert!(at >= window_over && at <= window_over + SECOND, "{platform}: {at}");
        assert_eq!(late, at - window_over);

        let mut early = fresh();
        for _ in 0..3 {
            let due = early.poll(window_over - MILLI);
            assert!(!matches!(due, Some(LivenessDue::Silent { .. })), "{platform}");
        }
        assert!(early.next() <= window_over);
    }
}

#[test]
fn t12_hearing_a_client_restarts_its_silence_window() {
    let start = Timestamp::from_millis(0);
    let mut liveness = Liveness::new(Web, &Windows::default(), start);
    let heard = start + 59 * SECOND;
    liveness.heard(heard);
    liveness.heard(start + SECOND);
    let (at, ..) = run_until_silent(&mut liveness);
    assert!(
        at >= heard + 60 * SECOND && at <= heard + 61 * SECOND,
        "an older time does not shorten the window"
    );
}

#[test]
fn t12_data_in_the_kernel_counts_as_heard_in_time_when_the_hub_is_late() {
    let start = Timestamp::from_millis(0);
    let mut liveness = Liveness::new(Web, &Windows::default(), start);
    let late = start + 70 * SECOND;
    let due = liveness.poll(late);
    assert!(!matches!(due, Some(LivenessDue::Silent { .. })), "the socket is read first");
    liveness.heard(late);
    let (at, ..) = run_until_silent(&mut liveness);
    assert!(at >= late + 60 * SECOND);
}

#[test]
fn t13_pings_keep_their_interval() {
    for platform in Platform::ALL {
        let (seconds, ping) = silence_and_ping(platform);
        let start = Timestamp::from_millis(0);
        let mut liveness = Liveness::new(platform, &Windows::default(), start);
        let (.., pings) = run_until_silent(&mut liveness);
        let due: Vec<_> = (1..=seconds / ping).map(|n| start + n * ping * SECOND).collect();
        assert_eq!(pings, due, "{platform}");
    }
}

#[test]
fn t4_t5_silence_makes_phones_push_online_and_ends_other_terminals() {
    for platform in Platform::ALL {
        let (mut life, seat) = logged_in(platform);
        life.hear(seat);
        let heard = life.wall();
        life.wait(400 * SECOND);
        life.silence(seat);
        assert_eq!(
            (life.state(), life.causes()),
            (without_connection(platform), vec![Cause::Silence])
        );
        let evidence = life.last.transitions[0].evidence;
        assert_eq!((evidence.heard, evidence.deadline), (Some(heard), Some(life.wall())));
    }
}

#[test]
fn t6_t7_mini_program_in_the_background_ends_after_its_window() {
    for (reason, window, cause) in [(Hide, HIDDEN, Cause::Background), (Exit, LEFT, Cause::Exit)] {
        let (mut life, program) = suspended(reason);
        assert_eq!(life.state(), State::Online);
        assert_eq!(life.lasts(window), [cause]);
        assert_eq!(life.state(), State::Offline);
        assert_eq!(
            life.ends(),
            [(program.connection, EndReason::Background)],
            "the hub closes it (T15)"
        );
        assert_eq!(life.last.transitions[0].evidence.background, Some(reason));
    }
}

#[test]
fn t6_t7_mini_program_that_returns_in_time_stays_online() {
    for (reason, window) in [(Hide, HIDDEN), (Exit, LEFT)] {
        let (mut life, program) = suspended(reason);
        life.wait(window - MILLI);
        assert_eq!(life.foreground(program), Answer::Done);
        life.wait(DAY);
        life.tick();
        assert_eq!((life.state(), life.causes()), (State::Online, vec![]));
    }
}

#[test]
fn t6_t15_background_sets_a_deadline_only_for_mini_programs() {
    for platform in NATIVE.into_iter().chain([Web]) {
        let (mut life, seat) = logged_in(platform);
        for reason in [Hide, Exit] {
            assert_eq!(life.background(seat, reason), None);
        }
        let shown = life.record.terminals[0].background.map(|background| background.reason);
        assert_eq!(shown, Some(Hide), "the details show it");
        life.wait(DAY);
        life.tick();
        assert_eq!(life.state(), State::Online);
        life.foreground(seat);
        assert_eq!(life.record.terminals[0].background, None);
    }
}

#[test]
fn t3_t15_background_changes_a_close_only_for_mini_programs() {
    for platform in NATIVE.into_iter().chain([Web]) {
        let (mut life, seat) = logged_in(platform);
        life.background(seat, Hide);
        life.close(seat);
        let causes = if platform == Web { life.lasts(GRACE) } else { life.causes() };
        assert_eq!((life.state(), causes), (without_connection(platform), vec![Cause::Close]));
    }
}

#[test]
fn t15_repeated_background_does_not_restart_the_deadline() {
    let (mut life, program) = suspended(Hide);
    life.wait(10 * SECOND);
    assert_eq!(life.background(program, Hide), Some(HIDDEN - 10 * SECOND));
    life.foreground(program);
    assert_eq!(life.background(program, Hide), Some(HIDDEN), "foreground restarts it");
}

#[test]
fn t15_exit_after_hide_takes_the_earlier_deadline() {
    let (mut life, program) = suspended(Hide);
    life.wait(10 * SECOND);
    assert_eq!(life.background(program, Exit), Some(LEFT));
    assert_eq!(life.lasts(LEFT), [Cause::Exit]);

    let (mut life, program) = suspended(Hide);
    life.wait(HIDDEN - 2 * SECOND);
    assert_eq!(life.background(program, Exit), Some(2 * SECOND));
    assert_eq!(life.lasts(2 * SECOND), [Cause::Background]);
}

#[test]
fn t15_hide_after_exit_does_not_extend_the_deadline() {
    let (mut life, program) = suspended(Exit);
    life.wait(SECOND);
    assert_eq!(life.background(program, Hide), Some(LEFT - SECOND));
    assert_eq!(life.lasts(LEFT - SECOND), [Cause::Exit]);
}

#[test]
fn t17_mini_program_closed_in_the_background_keeps_its_deadline() {
    for (reason, window, cause) in [(Hide, HIDDEN, Cause::Background), (Exit, LEFT, Cause::Exit)] {
        let (mut life, program) = suspended(reason);
        life.wait(SECOND);
        life.close(program);
        assert_eq!((life.state(), life.causes()), (State::Online, vec![]));
        assert_eq!(life.lasts(window - SECOND), [cause]);
        assert_eq!((life.state(), life.ends()), (State::Offline, vec![]));
    }
}

#[test]
fn t17_resume_before_the_deadline_is_invisible_and_returns_to_the_foreground() {
    let (mut life, program) = suspended(Hide);
    life.close(program);
    life.wait(HIDDEN - MILLI);
    let again = life.resume(program).expect("a resume");
    assert_eq!((again.session, life.causes()), (program.session, vec![]));
    assert_eq!(life.record.terminals[0].background, None);
    life.wait(DAY);
    life.tick();
    assert_eq!(life.state(), State::Online);
}

#[test]
fn t17_silence_ends_a_mini_program_before_its_background_deadline() {
    let (mut life, program) = suspended(Hide);
    life.wait(10 * SECOND);
    life.silence(program);
    assert_eq!((life.state(), life.causes()), (State::Offline, vec![Cause::Silence]));
}

#[test]
fn t8_push_online_lasts_seven_days() {
    for platform in MOBILE {
        let (mut life, phone) = logged_in(platform);
        life.close(phone);
        assert_eq!(life.lasts(WEEK), [Cause::Expired]);
        assert_eq!(life.state(), State::Offline);
    }
}

#[test]
fn t8_resume_stops_the_seven_days() {
    let (mut life, phone) = logged_in(Platform::Ios);
    life.close(phone);
    life.wait(WEEK - MILLI);
    life.resume(phone).expect("a resume");
    life.wait(MILLI);
    life.tick();
    assert_eq!(life.state(), State::Online);
}

#[test]
fn t9_kick_ends_terminals_on_every_platform_without_push() {
    for platform in Platform::ALL {
        let (mut life, seat) = logged_in(platform);
        life.kick(super::Target::default());
        assert_eq!((life.state(), life.causes()), (State::Offline, vec![Cause::Kicked]));
        assert_eq!(life.ends(), [(seat.connection, EndReason::Admin)]);
    }
}

#[test]
fn t10_expired_token_ends_a_session_like_a_close() {
    for platform in Platform::ALL {
        let (mut life, seat) = logged_in(platform);
        assert_eq!(life.lasts(300 * DAY), [Cause::TokenExpired]);
        assert_eq!(life.state(), without_connection(platform));
        assert_eq!(life.ends(), [(seat.connection, EndReason::TokenExpired)]);
    }
}

#[test]
fn t10_refresh_sets_the_expiry_of_the_new_token() {
    let (mut life, seat) = logged_in(Mac);
    let token_until = life.now + DAY;
    let issued_at_secs = life.wall().as_secs();
    life.apply(EventKind::Refresh { origin: seat.origin(), token_until, issued_at_secs });
    assert_eq!(life.lasts(DAY), [Cause::TokenExpired]);
}

#[test]
fn t6_t10_earliest_deadline_wins_and_gives_the_cause() {
    for (lasts, cause) in [(10, Cause::TokenExpired), (40, Cause::Background)] {
        let (mut life, program) = suspended(Hide);
        let token_until = life.now + lasts * SECOND;
        let issued_at_secs = life.wall().as_secs();
        life.apply(EventKind::Refresh { origin: program.origin(), token_until, issued_at_secs });
        assert_eq!(life.lasts(HIDDEN.min(lasts * SECOND)), [cause]);
    }
}

#[test]
fn t12_stall_extends_only_windows_that_were_open() {
    let stall = 5 * SECOND;
    let still = |life: &mut Life, from| life.stall(from, stall);
    let (mut open, _) = suspended(Hide);
    open.wait(10 * SECOND);
    let from = open.now;
    still(&mut open, from);
    assert_eq!(open.lasts(HIDDEN - 10 * SECOND + stall), [Cause::Background]);

    let (mut page, seat) = logged_in(Web);
    page.close(seat);
    let from = page.now;
    still(&mut page, from);
    assert_eq!(page.lasts(GRACE + stall), [Cause::Close]);

    let (mut meanwhile, _) = suspended(Exit);
    let from = meanwhile.now - SECOND;
    still(&mut meanwhile, from);
    assert_eq!(meanwhile.lasts(LEFT + stall - SECOND), [Cause::Exit], "only the rest counts");

    let (mut later, _) = suspended(Exit);
    let from = later.now - stall;
    still(&mut later, from);
    assert_eq!(later.lasts(LEFT), [Cause::Exit], "it opened after the stall");
}

#[test]
fn t8_t12_push_expires_by_the_wall_clock_and_windows_by_process_time() {
    let (mut life, _) = suspended(Hide);
    life.ahead += DAY;
    assert_eq!(life.lasts(HIDDEN), [Cause::Background], "a jump of the wall clock moves no window");

    let (mut life, phone) = logged_in(Platform::Ios);
    life.close(phone);
    life.ahead += DAY;
    assert_eq!(life.lasts(WEEK - DAY), [Cause::Expired]);
}

#[test]
fn t16_events_of_an_old_connection_are_ignored() {
    for platform in Platform::ALL {
        let (mut life, old) = logged_in(platform);
        life.close(old);
        life.resume(old)
            .or_else(|_| life.enter(platform, "device", super::Intent::New))
            .expect("back");
        assert_all_stale(life, old);
    }
}

#[test]
fn t16_a_session_that_ended_stays_ended() {
    for platform in Platform::ALL {
        let (mut life, seat) = logged_in(platform);
        life.silence(seat);
        assert_all_stale(life, seat);
    }
}

fn assert_all_stale(mut life: Life, old: Seat) {
    let before = life.record.clone();
    let origin = old.origin();
    let (token_until, issued_at_secs) = (life.now + DAY, u64::MAX);
    for kind in [
        EventKind::Logout(origin),
        EventKind::Closed { origin, close_code: None },
        EventKind::Silent { origin, deadline: life.now },
        EventKind::Background { origin, reason: Exit },
        EventKind::Foreground(origin),
        EventKind::Refresh { origin, token_until, issued_at_secs },
        EventKind::Set { origin: Some(origin), custom: Some(Some("late".into())), hidden: None },
    ] {
        assert_eq!(life.apply(kind.clone()), Answer::Stale, "{kind:?}");
        assert_eq!(life.record, before, "{kind:?}");
    }
}

#[test]
fn s2_only_phones_can_be_push_online() {
    assert!(Platform::ALL.iter().all(|p| p.is_mobile() == MOBILE.contains(p)));
    assert!(Platform::ALL.iter().all(|p| p.is_native() == NATIVE.contains(p)));
    assert!(DESKTOP.iter().all(|p| p.is_native() && !p.is_mobile()));
    assert_eq!("iphone".parse(), Ok(Platform::Ios));
}
