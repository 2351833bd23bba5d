//! The order in which the queue delivers events, without a clock or a network.

use std::collections::BTreeSet;
use std::time::Duration;

use presence_hub::presence::Timestamp;
use presence_hub::store::{Cursor, HeldUser, LogEntry, Progress};
use presence_hub::webhook::{Batch, Blame, Queue, Setback};

use crate::lab::{EPOCH, SECOND, id};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn entry(cursor: u64, user: &str) -> LogEntry {
    LogEntry { cursor: Cursor(cursor), user: id(user), event: Ok("{}".into()) }
}

fn queue() -> Queue {
    Queue::new(Progress::default(), Duration::ZERO)
}

/// Scans entries into a batch: `(cursor, user)`.
fn scan(queue: &mut Queue, entries: &[(u64, &str)]) -> Batch {
    let mut batch = Batch::default();
    for (cursor, user) in entries {
        queue.scan(&mut batch, entry(*cursor, user));
    }
    batch
}

fn cursors(batch: &Batch) -> Vec<u64> {
    batch.entries.iter().map(|entry| entry.cursor.0).collect()
}

/// A failure while nothing else is accepted.
fn setback(blame: Blame) -> Setback {
    Setback {
        error: "no".into(),
        blame,
        retry_after: None,
        last_success: None,
        worked: Duration::ZERO,
        give_up_after: DAY,
    }
}

/// A failure while other requests are accepted, by a receiver that has worked this long.
fn worked(blame: Blame, worked: Duration) -> Setback {
    Setback { worked, last_success: Some(EPOCH + worked), ..setback(blame) }
}

#[test]
fn user_is_in_one_batch_at_a_time_and_later_events_are_read_again() {
    let mut queue = queue();
    let first = scan(&mut queue, &[(1, "ana"), (2, "bo"), (3, "ana")]);
    assert_eq!(cursors(&first), [1, 2, 3], "a batch may have several events of a user");
    let second = scan(&mut queue, &[(4, "ana"), (5, "cy"), (6, "bo")]);
    assert_eq!(cursors(&second), [5]);
    assert_eq!(queue.next_ready(), None, "every user has a batch in flight");
    assert_eq!(queue.position(), Cursor(0));
    queue.done(first);
    let (ana, from, alone) = queue.next_ready().expect("a user");
    assert_eq!((ana, from, alone), (id("ana"), Cursor(4), false));
    let mut third = Batch::default();
    queue.take_up(&mut third, &id("ana"), vec![entry(4, "ana")], true);
    queue.done(third);
    queue.done(second);
    assert_eq!(queue.position(), Cursor(2), "bo's sixth event is pending");
    let (bo, from, _) = queue.next_ready().expect("a user");
    assert_eq!((bo.clone(), from), (id("bo"), Cursor(3)));
    let mut last = Batch::default();
    queue.take_up(&mut last, &bo, vec![entry(6, "bo")], true);
    queue.done(last);
    assert_eq!(queue.position(), Cursor(6));
}

#[test]
fn halves_share_no_user_and_isolate_the_refused_event() {
    let mut queue = queue();
    let users = ["ana", "bo", "cy", "di"];
    let events: Vec<_> = (1..=20).map(|n| (n, users[n as usize % 4])).collect();
    let mut batches = vec![scan(&mut queue, &events)];
    let mut delivered = BTreeSet::new();
    let (poison, mut poisoned, mut rounds) = (7, None, 0);
    while poisoned.is_none() {
        rounds += 1;
        assert!(rounds < 50);
        let batch = match batches.pop() {
            Some(batch) => batch,
            None => match queue.due(EPOCH) {
                Some(batch) => batch,
                None => {
                    let (user, from, _) = queue.next_ready().expect("the rest of a user");
                    let rest = events.iter().filter(|(n, of)| *n >= from.0 && id(of) == user);
                    let rest = rest.map(|(n, of)| entry(*n, of)).collect();
                    let mut batch = Batch::default();
                    queue.take_up(&mut batch, &user, rest, true);
                    batch
                }
            },
        };
        if !cursors(&batch).contains(&poison) {
            delivered.extend(cursors(&batch));
            queue.done(batch);
        } else if batch.entries.len() == 1 {
            poisoned = Some(batch);
        } else {
            assert!(queue.set_back(batch, &setback(Blame::Event), EPOCH).is_none());
        }
    }
    assert_eq!(cursors(&poisoned.expect("the poison")), [poison]);
    let earlier = events.iter().filter(|(n, user)| *user == users[3] && *n < poison);
    assert!(earlier.into_iter().all(|(n, _)| delivered.contains(n)), "delivered in order");
}

#[test]
fn downtime_of_the_receiver_gives_nothing_up() {
    let mut queue = queue();
    let batch = scan(&mut queue, &[(1, "ana")]);
    assert!(queue.set_back(batch, &setback(Blame::Receiver), EPOCH).is_none());
    let back = EPOCH + 3 * DAY;
    let batch = queue.due(back).expect("to try again");
    let why = worked(Blame::Event, SECOND);
    assert!(queue.set_back(batch, &why, back).is_none(), "it has only worked for a second");
    let batch = queue.due(back + DAY).expect("to try again");
    let dead = queue.set_back(batch, &worked(Blame::Event, DAY), back + DAY);
    let dead = dead.expect("to be given up");
    assert_eq!((cursors(&dead), dead.attempts()), (vec![1], 3));
}

#[test]
fn batch_that_fails_for_long_is_halved_so_that_only_the_bad_event_dies() {
    let mut queue = queue();
    let batch = scan(&mut queue, &[(1, "ana"), (2, "bo")]);
    assert!(queue.set_back(batch, &setback(Blame::Receiver), EPOCH).is_none());
    let later = EPOCH + DAY;
    let batch = queue.due(later).expect("to try again");
    let over = worked(Blame::Receiver, DAY);
    assert!(queue.set_back(batch, &over, later).is_none());
    let (one, other) = (queue.due(later).expect("a half"), queue.due(later).expect("a half"));
    assert_eq!((one.entries.len(), other.entries.len()), (1, 1));
    queue.done(one);
    assert!(queue.set_back(other, &over, later).is_some());
}

#[test]
fn progress_saves_held_users_and_continues_from_them() {
    let mut queue = queue();
    let batch = scan(&mut queue, &[(1, "ana")]);
    assert!(queue.set_back(batch, &setback(Blame::Event), EPOCH).is_none());
    let accepted = scan(&mut queue, &[(2, "bo"), (3, "ana")]);
    queue.done(accepted);
    assert_eq!(queue.kept_after(), Cursor(0), "held events and all later ones are kept");
    let save = queue.save(SECOND);
    assert_eq!(save.position, Cursor(3), "a held user does not hold back the position");
    let [held] = &save.held[..] else { panic!("{save:?}") };
    let expected = HeldUser {
        user: id("ana"),
        from: Cursor(1),
        refused: EPOCH,
        worked_ms: 1000,
        attempts: 1,
        last_error: "no".into(),
    };
    assert_eq!(*held, expected);
    assert_eq!(queue.save(SECOND).held, [], "saved only once");

    let behind = [(id("ana"), 2)].into();
    let progress = Progress { position: save.position, held: save.held, behind };
    assert_eq!(progress.kept_after(), Cursor(0));
    let mut next = Queue::new(progress, SECOND);
    assert_eq!((next.left_in_log(), next.kept_after()), (2, Cursor(0)));
    assert_eq!(next.next_ready(), Some((id("ana"), Cursor(1), true)), "in a batch of its own");
    let mut batch = Batch::default();
    next.take_up(&mut batch, &id("ana"), vec![entry(1, "ana"), entry(3, "ana")], true);
    let second = scan(&mut next, &[(4, "ana")]);
    assert!(second.entries.is_empty(), "its later events wait");
    // One second of the time to give up had passed before the restart.
    let over = next.set_back(batch, &worked(Blame::Event, DAY - SECOND), EPOCH);
    assert!(over.is_none());
    let first = next.due(EPOCH).expect("the first half");
    assert!(next.set_back(first, &worked(Blame::Event, DAY), EPOCH).is_some());
}

#[test]
fn waiting_events_are_bounded_and_become_due_when_the_receiver_works() {
    let mut queue = queue();
    let mut cursor = 0;
    while queue.has_room() {
        let users: Vec<_> = (0..100).map(|n| format!("user-{}", cursor + n)).collect();
        let events: Vec<_> =
            users.iter().map(|user| (cursor + 1, user)).map(|(_, user)| user).collect();
        let mut batch = Batch::default();
        for user in events {
            cursor += 1;
            queue.scan(&mut batch, entry(cursor, user));
        }
        assert!(queue.set_back(batch, &setback(Blame::Receiver), EPOCH).is_none());
        assert!(cursor <= 10_000, "it is bounded");
    }
    assert_eq!(queue.waiting_events(), 10_000);
    queue.hurry(EPOCH);
    let batch = queue.due(EPOCH).expect("a batch is due once the receiver works");
    let asked = Setback { retry_after: Some(60 * SECOND), ..setback(Blame::Receiver) };
    assert!(queue.set_back(batch, &asked, EPOCH).is_none());
    queue.hurry(EPOCH);
    let mut due = 0;
    while queue.due(EPOCH + 59 * SECOND).is_some() {
        due += 1;
    }
    assert_eq!(due, 99, "all but the one with a requested pause");
}

#[test]
fn put_back_letters_go_in_order_and_never_beside_the_users_other_events() {
    let mut queue = queue();
    let under_way = scan(&mut queue, &[(5, "ana")]);
    for (cursor, user) in [(2, "ana"), (1, "ana"), (3, "bo"), (1, "ana")] {
        queue.revive(entry(cursor, user), EPOCH);
    }
    let bo = queue.due(EPOCH).expect("bo's");
    assert_eq!(cursors(&bo), [3]);
    assert!(queue.due(EPOCH).is_none(), "one of ana's events is in flight");
    assert_eq!(queue.next_due(), None);
    queue.done(under_way);
    let first = queue.due(EPOCH).expect("ana's first");
    assert_eq!(cursors(&first), [1]);
    queue.revive(entry(1, "ana"), EPOCH);
    assert!(queue.due(EPOCH).is_none(), "one by one");

    let beside = scan(&mut queue, &[(6, "ana"), (7, "cy"), (8, "ana")]);
    assert_eq!(cursors(&beside), [7]);
    assert_eq!(queue.next_ready(), None, "ana's new events wait for the letter");
    assert!(queue.set_back(first, &setback(Blame::Event), EPOCH).is_none());
    assert_eq!(queue.next_ready(), Some((id("ana"), Cursor(6), false)), "until it fails");
    assert!(queue.due(EPOCH + DAY).is_none(), "now the new events are in flight");
    let mut news = Batch::default();
    queue.take_up(&mut news, &id("ana"), vec![entry(6, "ana"), entry(8, "ana")], true);
    queue.done(news);
    let first = queue.due(EPOCH + DAY).expect("the first once more");
    assert_eq!(queue.done(first), [Cursor(1)]);
    assert_eq!(cursors(&queue.due(EPOCH + DAY).expect("the second")), [2]);
    assert_eq!(queue.waiting_events(), 0);
}

/// A batch of one event that was set back this often while nothing was accepted; with the time.
fn tried(queue: &mut Queue, attempts: u32) -> (Batch, Timestamp) {
    let (mut batch, mut now) = (scan(queue, &[(1, "ana")]), EPOCH);
    for _ in 0..attempts {
        assert!(queue.set_back(batch, &setback(Blame::Receiver), now).is_none());
        now = queue.next_due().expect("an attempt");
        batch = queue.due(now).expect("an attempt");
    }
    (batch, now)
}

#[test]
fn back_off_begins_anew_once_the_receiver_is_back() {
    // A pause is a random part of the longest, so many are looked at.
    for _ in 0..40 {
        let mut queue = queue();
        let (batch, now) = tried(&mut queue, 12);
        assert!(queue.set_back(batch, &setback(Blame::Receiver), now).is_none());
        queue.hurry(now);
        let batch = queue.due(now).expect("to be due: the receiver is back");
        assert_eq!(batch.attempts(), 13, "attempts count all the same");
        assert!(queue.set_back(batch, &setback(Blame::Unclear), now).is_none());
        let pause = queue.next_due().expect("an attempt") - now;
        assert!(pause <= SECOND, "{pause:?} is not a first pause");
    }
}

#[test]
fn last_attempt_is_made_as_soon_as_the_time_to_give_up_has_passed() {
    for left in [10 * SECOND, 60 * SECOND] {
        for _ in 0..40 {
            let mut queue = queue();
            let (batch, now) = tried(&mut queue, 12);
            let late = worked(Blame::Event, DAY - left);
            assert!(queue.set_back(batch, &late, now).is_none());
            let due = queue.next_due().expect("an attempt");
            assert!(due - now <= left, "{:?} instead of the {left:?} left", due - now);
            let batch = queue.due(due).expect("the attempt");
            // Only a receiver that asks for it is left alone for longer.
            let asked = Setback { retry_after: Some(2 * left), ..late };
            assert!(queue.set_back(batch, &asked, due).is_none());
            assert!(queue.next_due() >= Some(due + 2 * left));
            let batch = queue.due(due + DAY).expect("the last attempt");
            assert!(queue.set_back(batch, &worked(Blame::Event, DAY), due + DAY).is_some());
        }
    }
}

#[test]
fn event_that_is_almost_given_up_is_not_tried_without_a_pause() {
    let mut queue = queue();
    let (mut batch, mut now) = tried(&mut queue, 12);
    let from = now;
    // The receiver accepts nothing else, so the time that counts stands still just before its end.
    let stuck = worked(Blame::Event, DAY - SECOND / 1000);
    for _ in 0..200 {
        assert!(queue.set_back(batch, &stuck, now).is_none());
        now = queue.next_due().expect("an attempt");
        batch = queue.due(now).expect("an attempt");
    }
    assert!(now - from > 50 * SECOND, "200 attempts within {:?}", now - from);
}
