//! V7: the quota of the transition log for each user.

use presence_hub::presence::{
    Answer, BackgroundReason, EventKind, LogQuota, Platform, Preset, Refusal, Target, entry_bytes,
};
use presence_hub::store::LogEntry;

use super::{DAY, Life, SECOND, Seat};
use crate::lab::id;

/// A life of a user who may write this much a day.
fn with_quota(bytes: u64) -> Life {
    let mut life = Life::of(Preset::Multi);
    life.policy.log_quota = LogQuota { bytes, within: DAY };
    life
}

/// Sets other custom statuses until one is refused; returns how many were accepted.
fn set_until_refused(life: &mut Life, seat: Seat) -> u32 {
    for n in 0..100_000 {
        let answer = life.set(Some(seat), Some(&format!("{n}")));
        if answer != Answer::Done {
            assert_eq!(answer, Answer::Refused(Refusal::LogQuota));
            return n;
        }
    }
    panic!("never refused")
}

fn background(life: &mut Life, seat: Seat) -> Answer {
    let reason = BackgroundReason::Hide;
    life.apply(EventKind::Background { origin: seat.origin(), reason })
}

#[test]
fn v7_over_quota_only_set_and_background_are_refused() {
    let mut life = with_quota(64 * 1024);
    let (phone, desktop) = (life.login(Platform::Ios, "phone"), life.login(Platform::Mac, "desk"));
    let accepted = set_until_refused(&mut life, phone);
    assert!((90..110).contains(&accepted), "{accepted} changes of about 600 bytes in 64 KiB");
    let before = life.record.clone();
    assert_eq!(background(&mut life, phone), Answer::Refused(Refusal::LogQuota));
    assert_eq!(life.record, before, "a refusal changes nothing");
    assert_eq!(life.foreground(phone), Answer::Done);
    assert_eq!(life.set(None, Some("by the back end")), Answer::Done);
    assert!(!life.last.transitions.is_empty());

    life.login(Platform::Linux, "another");
    assert_eq!(life.last.transitions.len(), 1, "logins are logged");
    life.close(phone);
    assert_eq!(life.last.transitions.len(), 1, "ends are logged");
    life.silence(desktop);
    assert_eq!(life.last.transitions.len(), 1);
    life.kick(Target::default());
    assert_eq!(life.last.transitions.len(), 2, "kicks are logged");
}

#[test]
fn v7_the_quota_refills_within_the_time_that_the_log_keeps_entries() {
    let mut life = with_quota(64 * 1024);
    let desktop = life.login(Platform::Mac, "desk");
    let whole = set_until_refused(&mut life, desktop);
    life.wait(DAY / 2);
    let half = set_until_refused(&mut life, desktop);
    assert!(half.abs_diff(whole / 2) <= 2, "{half} of {whole} after half the time");
    life.wait(3 * DAY);
    let again = set_until_refused(&mut life, desktop);
    assert!(again.abs_diff(whole) <= 2, "{again} of {whole}: unused time is not saved up");
}

#[test]
fn v7_logins_beyond_the_quota_do_not_lengthen_the_refusal() {
    let mut life = with_quota(64 * 1024);
    for _ in 0..1000 {
        let seat = life.login(Platform::Mac, "desk");
        life.logout(seat);
    }
    let seat = life.login(Platform::Mac, "desk");
    assert_eq!(life.set(Some(seat), Some("x")), Answer::Refused(Refusal::LogQuota));
    life.wait(DAY);
    assert_eq!(life.set(Some(seat), Some("x")), Answer::Done);
}

#[test]
fn v7_a_new_quota_counts_what_was_written_before() {
    let mut life = with_quota(64 * 1024);
    let seat = life.login(Platform::Mac, "desk");
    set_until_refused(&mut life, seat);
    life.policy.log_quota.bytes = 1024 * 1024;
    assert_eq!(life.set(Some(seat), Some("more")), Answer::Done);
    life.policy.log_quota.bytes = 32 * 1024;
    life.wait(SECOND);
    assert_eq!(life.set(Some(seat), Some("less")), Answer::Refused(Refusal::LogQuota));
}

#[test]
fn v7_the_estimate_is_near_the_size_of_the_entry() {
    let user = id("a-user-with-an-id-of-usual-length-36");
    let mut life = Life::of(Preset::Single);
    let check = |life: &Life| {
        assert!(!life.last.transitions.is_empty());
        for transition in &life.last.transitions {
            let json = LogEntry::encode(&user, transition).len() as u64;
            let estimate = entry_bytes(transition);
            assert!(
                (json..json + 250).contains(&estimate),
                "{estimate} bytes for {json} bytes of JSON: {transition:?}"
            );
        }
    };
    let page = life.login(Platform::Web, "a page");
    check(&life);
    for custom in ["away", &"x".repeat(256), &"\"".repeat(256), &"\u{1}".repeat(256), "离开\n"] {
        life.set(Some(page), Some(custom));
        check(&life);
    }
    life.login(Platform::Ios, "a phone that kicks the page");
    check(&life);
    life.kick(Target::default());
    check(&life);
}
