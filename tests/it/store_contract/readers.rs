//! The part of the contract for lists and readers of the log.

use std::sync::Arc;

use presence_hub::presence::{Platform, State, Transition, UserId};
use presence_hub::store::{
    Among, Backlog, Cursor, Dead, DeadSelection, HeldUser, HistoryPart, Outbox, Progress, Save,
    Store, StoreError, WebhookName,
};

use super::{LOG_TTL, RETENTION, closed, commit_of, log, log_in, put, settle};
use crate::lab::{EPOCH, SECOND, id};

pub(super) async fn expired_entries_are_trimmed_and_their_cursors_expire(
    store: &Arc<dyn Store>,
    _: &Arc<dyn Outbox>,
) {
    let begin = *store.head().borrow();
    log_in(store, "ana", Platform::Web, EPOCH).await;
    log_in(store, "bo", Platform::Web, EPOCH + LOG_TTL / 2).await;
    settle(store).await;
    let all = store.entries(Some(begin), usize::MAX).await.expect("the log");
    let [first, second] = &all[..] else { panic!("{all:?}") };

    log_in(store, "cy", Platform::Web, EPOCH + LOG_TTL + SECOND).await;
    assert_eq!(store.trim(EPOCH + LOG_TTL).await, Ok(0));
    assert_eq!(log(store, Some(begin)).await.len(), 3, "nothing has expired yet");
    assert_eq!(store.trim(EPOCH + LOG_TTL + SECOND).await, Ok(0));
    let expired = store.entries(Some(begin), usize::MAX).await;
    assert_eq!(expired, Err(StoreError::CursorExpired));
    // A reader that has read all trimmed entries continues without a gap.
    let users = |entries: Vec<(Cursor, UserId, Transition)>| -> Vec<String> {
        entries.iter().map(|(_, user, _)| user.to_string()).collect()
    };
    assert_eq!(users(log(store, Some(first.cursor)).await), ["bo", "cy"]);
    assert_eq!(users(log(store, Some(second.cursor)).await), ["cy"]);
    assert_eq!(users(log(store, None).await), ["bo", "cy"]);
    let all = HistoryPart::After(Cursor::default());
    assert_eq!(store.history(&id("ana"), all, 10).await, Ok(Vec::new()));
}

async fn names(store: &Arc<dyn Store>, among: Among, limit: usize) -> Vec<String> {
    let users = store.users(&among, limit).await.expect("a list");
    users.iter().map(|(user, _)| user.to_string()).collect()
}

pub(super) async fn users_are_listed_in_order_by_prefix_and_state(
    store: &Arc<dyn Store>,
    _: &Arc<dyn Outbox>,
) {
    for user in ["b", "a%", "a", "ab", "a\u{10FFFF}", "a_b", "阿", "阿娜", "c"] {
        log_in(store, user, Platform::Ios, EPOCH).await;
    }
    let phone = store.load(&id("ab")).await.expect("a record").record;
    let (record, transitions) = closed(&phone, EPOCH + SECOND);
    put(store, &id("ab"), commit_of(record, transitions)).await.expect("a commit");
    let all = vec![State::Offline, State::PushOnline, State::Online];
    let of = |after: Option<&str>, prefix: &str, states: &[State]| Among {
        after: after.map(id),
        prefix: prefix.into(),
        states: states.to_vec(),
    };
    let sorted = ["a", "a%", "a_b", "ab", "a\u{10FFFF}", "b", "c", "阿", "阿娜"];
    let (push, none): (&[_], &[_]) = (&[State::PushOnline], &[]);
    let rows: [(_, _, &[_], _, &[&str]); 14] = [
        (None, "", &all, 100, &sorted),
        (None, "a", &all, 100, &sorted[..5]),
        (None, "a_", &all, 100, &["a_b"]),
        (None, "阿", &all, 100, &["阿", "阿娜"]),
        (None, "z", &all, 100, &[]),
        (Some("a%"), "a", &all, 2, &["a_b", "ab"]),
        // The cursor is before the prefix, or after all ids with the prefix.
        (Some("a"), "a_", &all, 2, &["a_b"]),
        (Some("b"), "a", &all, 2, &[]),
        (Some("ab"), "ab", &all, 2, &[]),
        (Some("a_b"), "", &all, 3, &["ab", "a\u{10FFFF}", "b"]),
        (None, "", push, 100, &["ab"]),
        (None, "", &[State::Offline], 100, &[]),
        (None, "", none, 100, &[]),
        (None, "", &[State::Online], 3, &["a", "a%", "a_b"]),
    ];
    for (after, prefix, states, limit, expected) in rows {
        let listed = names(store, of(after, prefix, states), limit).await;
        assert_eq!(listed, expected, "{after:?} {prefix:?} {states:?}");
    }
}

pub(super) async fn history_can_be_read_in_both_directions(
    store: &Arc<dyn Store>,
    _: &Arc<dyn Outbox>,
) {
    for n in 0..12 {
        let user = if n % 3 == 0 { "bo" } else { "ana" };
        log_in(store, user, Platform::ALL[n % 8], EPOCH).await;
    }
    let all = log(store, None).await;
    let of_ana = all.iter().filter(|(_, user, _)| *user == id("ana"));
    let cursors: Vec<_> = of_ana.map(|(cursor, ..)| *cursor).collect();
    let read = async |part, limit| -> Vec<Cursor> {
        let entries = store.history(&id("ana"), part, limit).await.expect("a history");
        assert!(entries.iter().all(|entry| entry.user == id("ana")));
        entries.iter().map(|entry| entry.cursor).collect()
    };
    let newest: Vec<_> = cursors.iter().rev().copied().collect();
    assert_eq!(read(HistoryPart::After(Cursor::default()), 100).await, cursors);
    assert_eq!(read(HistoryPart::Before(None), 100).await, newest);
    assert_eq!(read(HistoryPart::Before(None), 2).await, newest[..2]);
    assert_eq!(read(HistoryPart::Before(Some(newest[1])), 2).await, newest[2..4]);
    assert_eq!(read(HistoryPart::After(cursors[1]), 2).await, cursors[2..4]);
    assert_eq!(store.history(&id("nobody"), HistoryPart::Before(None), 9).await, Ok(Vec::new()));
}

pub(super) async fn backlog_is_measured_from_any_cursor(
    store: &Arc<dyn Store>,
    _: &Arc<dyn Outbox>,
) {
    let begin = *store.head().borrow();
    let mut head = store.head();
    assert_eq!(store.backlog(begin).await, Ok(Backlog::default()));
    for n in 0..7 {
        log_in(store, &format!("user-{n}"), Platform::Mac, EPOCH + n * SECOND).await;
    }
    settle(store).await;
    assert!(head.has_changed().expect("a log"), "readers are woken");
    let all = store.entries(None, 100).await.expect("the log");
    assert_eq!(*head.borrow_and_update(), all[6].cursor);
    for (place, entry) in all.iter().enumerate() {
        let rest = &all[place + 1..];
        let backlog = Backlog {
            entries: rest.len() as u64,
            bytes: rest.iter().map(|entry| entry.bytes() as u64).sum(),
            oldest: rest.first().map(|entry| entry.transition().expect("one").at),
        };
        assert_eq!(store.backlog(entry.cursor).await, Ok(backlog));
    }
    assert_eq!(store.backlog(begin).await.expect("a backlog").entries, 7);
}

fn held(user: &str, from: Cursor) -> HeldUser {
    let last_error = "no".into();
    HeldUser { user: id(user), from, refused: EPOCH, worked_ms: 5, attempts: 1, last_error }
}

#[expect(clippy::cognitive_complexity, reason = "one story, told in order")]
pub(super) async fn log_is_kept_for_the_webhook_up_to_a_size(
    store: &Arc<dyn Store>,
    outbox: &Arc<dyn Outbox>,
) {
    for n in 0..10 {
        log_in(store, &format!("user-{n}"), Platform::Mac, EPOCH).await;
    }
    settle(store).await;
    let all = store.entries(None, 100).await.expect("the log");
    let (late, count) = (EPOCH + LOG_TTL * 2, async || log(store, None).await.len());
    let position = all[4].cursor;
    let save = Save { position, held: vec![held("user-2", all[2].cursor)], ..Save::default() };
    outbox.save(save).await.expect("progress");
    assert_eq!(store.trim(late).await, Ok(0));
    assert_eq!(count().await, 8, "held entries and those after them are kept");
    let save = Save { position, freed: vec![id("user-2")], ..Save::default() };
    outbox.save(save).await.expect("progress");
    assert_eq!(store.trim(late).await, Ok(0));
    assert_eq!(count().await, 5, "unread entries are kept");
    // Beyond the maximum size the oldest entries are deleted and counted.
    let each = all[9].bytes() as u64;
    let most = RETENTION.backlog_bytes_max / each;
    for n in 0..most {
        log_in(store, &format!("more-{n:03}"), Platform::Mac, EPOCH).await;
    }
    let lost = store.trim(late).await.expect("a count");
    assert!((1..=10).contains(&lost), "{lost}");
    assert_eq!(count().await as u64, 5 + most - lost);
    let kept = store.backlog(position).await.expect("a backlog").bytes;
    assert!(kept <= RETENTION.backlog_bytes_max && kept + each * 2 > RETENTION.backlog_bytes_max);
    outbox.clear(&WebhookName::UNNAMED).await.expect("to forget");
    while !log(store, None).await.is_empty() {
        assert_eq!(store.trim(late).await, Ok(0));
    }
}

pub(super) async fn webhook_progress_is_saved_and_cleared(
    store: &Arc<dyn Store>,
    outbox: &Arc<dyn Outbox>,
) {
    assert_eq!(outbox.progress(&WebhookName::UNNAMED).await, Ok(None));
    let position = Cursor(7);
    let (ana, bo) = (held("ana", Cursor(3)), held("bo", Cursor(5)));
    let save = Save { position, held: vec![ana.clone(), bo.clone()], ..Save::default() };
    outbox.save(save).await.expect("progress");
    let behind = [(id("ana"), 0), (id("bo"), 0)].into();
    let progress = Progress { position, held: vec![ana, bo.clone()], behind };
    assert_eq!(outbox.progress(&WebhookName::UNNAMED).await, Ok(Some(progress)));
    let bo = HeldUser { attempts: 9, ..bo };
    let (freed, held_now) = (vec![id("ana")], vec![bo.clone()]);
    let save = Save { position: Cursor(8), freed, held: held_now, ..Save::default() };
    outbox.save(save).await.expect("progress");
    let behind = [(id("bo"), 0)].into();
    let progress = Progress { position: Cursor(8), held: vec![bo], behind };
    assert_eq!(outbox.progress(&WebhookName::UNNAMED).await, Ok(Some(progress)));
    outbox.clear(&WebhookName::UNNAMED).await.expect("to forget");
    assert_eq!(outbox.progress(&WebhookName::UNNAMED).await, Ok(None));

    // Progress includes the number of pending entries of each held user.
    for n in 0..10 {
        let user = if n % 2 == 0 { "ana" } else { "bo" };
        log_in(store, user, Platform::ALL[n % 8], EPOCH).await;
    }
    settle(store).await;
    let all = store.entries(None, 100).await.expect("the log");
    let of_ana: Vec<_> = all.iter().filter(|entry| entry.user == id("ana")).collect();
    let (second, fourth) = (of_ana[1].cursor, of_ana[3].cursor);
    let save = Save { position: fourth, held: vec![held("ana", second)], ..Save::default() };
    outbox.save(save).await.expect("progress");
    let progress = outbox.progress(&WebhookName::UNNAMED).await.expect("progress").expect("some");
    assert_eq!(progress.behind, [(id("ana"), 3)].into(), "from the second to the fourth");
    assert_eq!(progress.kept_after(), Cursor(second.0 - 1));
}

#[expect(clippy::cognitive_complexity, reason = "one story, told in order")]
pub(super) async fn dead_letters_can_be_retried_or_dropped(
    store: &Arc<dyn Store>,
    outbox: &Arc<dyn Outbox>,
) {
    for n in 0..4 {
        log_in(store, &format!("user-{n}"), Platform::Mac, EPOCH).await;
    }
    settle(store).await;
    let entries = store.entries(None, 10).await.expect("the log");
    let letter = |n: usize, attempts| Dead {
        entry: entries[n].clone(),
        at: EPOCH,
        attempts,
        last_error: "no".into(),
    };
    let letters: Vec<_> = (0..4).map(|n| letter(n, 1)).collect();
    let save = Save { dead: letters.clone(), ..Save::default() };
    assert_eq!(outbox.dead_waiting(&WebhookName::UNNAMED).await, Ok(0));
    outbox.save(save.clone()).await.expect("dead letters");
    outbox.save(save).await.expect("the same once more");
    assert_eq!(outbox.dead_waiting(&WebhookName::UNNAMED).await, Ok(4));
    assert_eq!(outbox.dead(&WebhookName::UNNAMED, None, false, 10).await, Ok(letters.clone()));
    assert_eq!(
        outbox.dead(&WebhookName::UNNAMED, Some(entries[0].cursor), false, 2).await,
        Ok(letters[1..3].to_vec())
    );

    let first = DeadSelection::These(vec![entries[0].cursor, entries[1].cursor, Cursor(1)]);
    assert_eq!(outbox.put_back(&WebhookName::UNNAMED, first.clone()).await, Ok(2));
    assert_eq!(
        outbox.put_back(&WebhookName::UNNAMED, first.clone()).await,
        Ok(0),
        "they were put back already"
    );
    assert_eq!(
        outbox.drop_dead(&WebhookName::UNNAMED, first).await,
        Ok(0),
        "letters that were put back are not dropped"
    );
    assert_eq!(outbox.dead_waiting(&WebhookName::UNNAMED).await, Ok(2));
    assert_eq!(outbox.dead(&WebhookName::UNNAMED, None, true, 10).await, Ok(letters[..2].to_vec()));
    assert_eq!(
        outbox.dead(&WebhookName::UNNAMED, None, false, 10).await,
        Ok(letters[2..].to_vec())
    );
    // One is delivered, one fails again.
    let again = letter(1, 7);
    let (revived, dead) = (vec![entries[0].cursor], vec![again.clone()]);
    outbox.save(Save { revived, dead, ..Save::default() }).await.expect("the results");
    assert_eq!(outbox.dead_waiting(&WebhookName::UNNAMED).await, Ok(3));
    assert_eq!(outbox.dead(&WebhookName::UNNAMED, None, true, 10).await, Ok(Vec::new()));
    let left = vec![again, letters[2].clone(), letters[3].clone()];
    assert_eq!(outbox.dead(&WebhookName::UNNAMED, None, false, 10).await, Ok(left));
    let third = DeadSelection::These(vec![entries[2].cursor]);
    assert_eq!(outbox.drop_dead(&WebhookName::UNNAMED, third).await, Ok(1));
    assert_eq!(outbox.drop_dead(&WebhookName::UNNAMED, DeadSelection::All).await, Ok(2));
    assert_eq!(outbox.dead(&WebhookName::UNNAMED, None, false, 10).await, Ok(Vec::new()));
    assert_eq!(outbox.dead_waiting(&WebhookName::UNNAMED).await, Ok(0));
}

/// The name of a webhook.
fn webhook(name: &str) -> WebhookName {
    name.to_owned().try_into().expect("a name")
}

#[expect(clippy::cognitive_complexity, reason = "one story, told in order")]
pub(super) async fn webhooks_have_progress_and_dead_letters_of_their_own(
    store: &Arc<dyn Store>,
    outbox: &Arc<dyn Outbox>,
) {
    let (one, two) = (webhook("one"), webhook("two"));
    for n in 0..6 {
        log_in(store, &format!("user-{n}"), Platform::Mac, EPOCH).await;
    }
    settle(store).await;
    let all = store.entries(None, 10).await.expect("the log");
    let save = |webhook: &WebhookName, last: usize| Save {
        webhook: webhook.clone(),
        position: all[last].cursor,
        ..Save::default()
    };
    assert_eq!(outbox.webhooks().await, Ok(Vec::new()));
    outbox.save(save(&WebhookName::UNNAMED, 5)).await.expect("progress");
    let holding = vec![held("user-1", all[1].cursor)];
    outbox.save(Save { held: holding.clone(), ..save(&one, 4) }).await.expect("progress");
    outbox.save(save(&two, 3)).await.expect("progress");
    assert_eq!(outbox.webhooks().await, Ok(vec![one.clone(), two.clone()]));
    let progress = async |webhook| outbox.progress(webhook).await.expect("progress");
    let positions = async || {
        let [a, b, c] = [&WebhookName::UNNAMED, &one, &two];
        [progress(a).await, progress(b).await, progress(c).await].map(|it| it.map(|it| it.position))
    };
    let of = |n: usize| Some(all[n].cursor);
    assert_eq!(positions().await, [of(5), of(4), of(3)]);
    assert_eq!(progress(&one).await.expect("progress").held, holding);
    assert_eq!(progress(&two).await.expect("progress").held, []);

    // The log is kept from the first entry on that some webhook has not dealt with.
    let (late, count) = (EPOCH + LOG_TTL * 2, async || log(store, None).await.len());
    assert_eq!(store.trim(late).await, Ok(0));
    assert_eq!(count().await, 5, "from the entry that one webhook holds");
    let freed = Save { freed: vec![id("user-1")], ..save(&one, 4) };
    outbox.save(freed).await.expect("progress");
    assert_eq!(store.trim(late).await, Ok(0));
    assert_eq!(count().await, 2, "from the entry that the other webhook has not read");

    let letter =
        |n: usize| Dead { entry: all[n].clone(), at: EPOCH, attempts: 1, last_error: "no".into() };
    let dead = vec![letter(4), letter(5)];
    outbox.save(Save { dead: dead.clone(), ..save(&one, 5) }).await.expect("dead letters");
    outbox.save(Save { dead: vec![letter(5)], ..save(&two, 5) }).await.expect("a dead letter");
    assert_eq!(outbox.dead(&one, None, false, 10).await, Ok(dead));
    assert_eq!(outbox.dead(&two, None, false, 10).await, Ok(vec![letter(5)]));
    assert_eq!(outbox.dead_waiting(&WebhookName::UNNAMED).await, Ok(0));
    assert_eq!(outbox.put_back(&two, DeadSelection::All).await, Ok(1));
    assert_eq!(outbox.dead_waiting(&one).await, Ok(2), "those of the other webhook");
    let first = DeadSelection::These(vec![all[4].cursor]);
    assert_eq!(outbox.drop_dead(&one, first).await, Ok(1));
    let revived = vec![all[5].cursor];
    outbox.save(Save { revived, ..save(&two, 5) }).await.expect("a delivery");
    assert_eq!(outbox.dead(&one, None, false, 10).await, Ok(vec![letter(5)]));

    outbox.clear(&one).await.expect("to forget");
    outbox.clear(&two).await.expect("to forget");
    assert_eq!(positions().await, [of(5), None, None]);
    assert_eq!(outbox.webhooks().await, Ok(vec![one.clone()]), "it has a dead letter");
    assert_eq!(outbox.drop_dead(&one, DeadSelection::All).await, Ok(1));
}
