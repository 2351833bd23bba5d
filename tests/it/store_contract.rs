//! The contract of stores, run for each adapter.

mod memory_only;
mod readers;
mod records;

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use presence_hub::presence::{
    Link, NodeId, Platform, Record, SignOfLife, State, Timestamp, Transition, UserId,
};
use presence_hub::store::{
    Among, Commit, Cursor, EmbeddedStore, HistoryPart, LogEntry, MemoryStore, Outbox, Part,
    Retention, Revision, Store, StoreError, Stored, Totals,
};
use tempfile::TempDir;

use self::readers::*;
pub(crate) use self::records::{closed, happens, logged_in, policy, turned};
use crate::lab::{EPOCH, SECOND, id};
use crate::support::{RedisServer, until};

const LOG_TTL: Duration = Duration::from_secs(3600);

/// A store by both interfaces, and what it needs: its directory or its server, if any.
struct Made {
    store: Arc<dyn Store>,
    outbox: Arc<dyn Outbox>,
    _needs: Box<dyn Any + Send>,
}

macro_rules! contract {
    ($adapter:ident: $make:expr => $($clause:ident)*) => {
        mod $adapter {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 8)]
                async fn $clause() {
                    let made: super::Made = $make;
                    super::$clause(&made.store, &made.outbox).await;
                }
            )*
        }
    };
}

/// The contract's tests for one adapter.
macro_rules! adapter {
    ($adapter:ident, $make:expr) => {
        contract! {
            $adapter: $make =>
                unknown_user_has_the_default_record
                committed_record_is_loaded
                stale_commit_is_refused_without_effects
                revisions_are_never_reused_after_a_record_was_emptied
                emptied_record_is_removed_from_totals_and_due_users
                most_overdue_users_come_first_on_both_clocks
                due_users_are_limited
                due_time_is_that_of_the_last_commit
                users_held_by_a_node_are_listed
                totals_equal_a_recount
                log_is_in_commit_order
                log_can_be_read_in_pages_from_any_cursor
                expired_entries_are_trimmed_and_their_cursors_expire
                users_are_listed_in_order_by_prefix_and_state
                history_can_be_read_in_both_directions
                backlog_is_measured_from_any_cursor
                log_is_kept_for_the_webhook_up_to_a_size
                webhook_progress_is_saved_and_cleared
                dead_letters_can_be_retried_or_dropped
                webhooks_have_progress_and_dead_letters_of_their_own
                racing_commits_are_each_applied_once
                racing_users_do_not_disturb_each_other
        }
    };
}

adapter!(memory, super::memory());
adapter!(embedded, super::embedded());
adapter!(redis, super::redis().await);

pub(crate) const RETENTION: Retention = Retention { log_ttl: LOG_TTL, backlog_bytes_max: 100_000 };

impl Made {
    fn of<T: Store + Outbox>(adapter: T, needs: impl Any + Send) -> Self {
        let adapter = Arc::new(adapter);
        Self { store: Arc::<T>::clone(&adapter), outbox: adapter, _needs: Box::new(needs) }
    }
}

fn memory() -> Made {
    Made::of(MemoryStore::new(RETENTION, EPOCH), ())
}

/// A sign of life at the epoch.
pub(crate) fn present() -> SignOfLife {
    SignOfLife { boot: "a".into(), up_ms: 0, wall: EPOCH, now: EPOCH, stalls: Arc::default() }
}

fn embedded() -> Made {
    let directory = TempDir::new().expect("a directory");
    let store = EmbeddedStore::open(directory.path(), RETENTION, SECOND / 20, &present());
    Made::of(store.expect("a store"), directory)
}

async fn redis() -> Made {
    let server = RedisServer::start();
    Made::of(server.open(RETENTION).await, server)
}

/// The node of every commit.
const NODE: NodeId = NodeId(1);

/// A commit that the wall clock does not make due.
pub(crate) fn commit_of(record: Record, transitions: Vec<Transition>) -> Commit {
    Commit {
        node: NODE,
        record: Arc::new(record),
        wall_deadline: None,
        transitions,
        sync: false,
        message: None,
    }
}

async fn put(store: &Arc<dyn Store>, user: &UserId, commit: Commit) -> Result<(), StoreError> {
    let base = store.load(user).await?;
    store.commit(user, &base, commit).await
}

/// Logs a user in on a platform, in the store.
pub(crate) async fn log_in(
    store: &Arc<dyn Store>,
    user: &str,
    platform: Platform,
    at: Timestamp,
) -> Record {
    let record = store.load(&id(user)).await.expect("a record").record;
    let (record, transitions) = logged_in(&record, platform, at);
    put(store, &id(user), commit_of(record.clone(), transitions)).await.expect("a commit");
    record
}

/// Waits until readers of the log see all that was committed: where several nodes share a store, they may see it
/// later than the commit's answer.
pub(crate) async fn settle(store: &Arc<dyn Store>) {
    let states = vec![State::Offline, State::PushOnline, State::Online];
    let all = Among { states, ..Among::default() };
    until("the log", async || {
        let head = *store.head().borrow();
        for (user, _) in store.users(&all, usize::MAX).await.expect("a list") {
            let newest =
                store.history(&user, HistoryPart::Before(None), 1).await.expect("a history");
            if newest.iter().any(|entry| entry.cursor > head) {
                return false;
            }
        }
        true
    })
    .await;
}

async fn log(store: &Arc<dyn Store>, after: Option<Cursor>) -> Vec<(Cursor, UserId, Transition)> {
    settle(store).await;
    let entries = store.entries(after, usize::MAX).await.expect("the log");
    let transition = |entry: &LogEntry| entry.transition().expect("a transition");
    entries.iter().map(|entry| (entry.cursor, entry.user.clone(), transition(entry))).collect()
}

// The tests.

async fn unknown_user_has_the_default_record(store: &Arc<dyn Store>, _: &Arc<dyn Outbox>) {
    let stored = store.load(&id("nobody")).await.expect("a record");
    assert_eq!((&*stored.record, stored.revision), (&Record::default(), Revision::default()));
    assert_eq!(store.totals().await, Ok(Totals::default()));
    assert_eq!(store.due(NODE, EPOCH, EPOCH, 10).await, Ok(Vec::new()));
    assert_eq!(log(store, None).await, []);
}

async fn committed_record_is_loaded(store: &Arc<dyn Store>, _: &Arc<dyn Outbox>) {
    // `a\u{301}` and `\u{e1}` look alike, but are two users.
    let odd = ["ana", "ANA", "a n a", "阿娜", "a/../b", "a\u{301}", "\u{e1}", &"x".repeat(128)];
    let mut expected = BTreeMap::new();
    for user in odd {
        expected.insert(user, log_in(store, user, Platform::Web, EPOCH).await);
    }
    for (user, record) in expected {
        let stored = store.load(&id(user)).await.expect("a record");
        assert_eq!(*stored.record, record, "{user}");
        assert_ne!(stored.revision, Revision::default(), "{user}");
    }
}

async fn stale_commit_is_refused_without_effects(store: &Arc<dyn Store>, _: &Arc<dyn Outbox>) {
    let user = id("ana");
    let stale = store.load(&user).await.expect("a record");
    let first = log_in(store, "ana", Platform::Web, EPOCH).await;
    let before = (
        store.totals().await,
        store.due(NODE, EPOCH + LOG_TTL * 1000, EPOCH + LOG_TTL * 1000, 10).await,
        log(store, None).await,
    );

    let (record, transitions) = logged_in(&stale.record, Platform::Android, EPOCH + SECOND);
    let commit = Commit { wall_deadline: Some(EPOCH), ..commit_of(record, transitions) };
    let refused = store.commit(&user, &stale, commit.clone()).await;
    assert_eq!(refused, Err(StoreError::Conflict));
    let unheard_of =
        Stored { revision: Revision(1 << 40), ..store.load(&user).await.expect("a record") };
    let unheard_of = store.commit(&user, &unheard_of, commit).await;
    assert_eq!(unheard_of, Err(StoreError::Conflict));

    assert_eq!(*store.load(&user).await.expect("a record").record, first);
    let after = (
        store.totals().await,
        store.due(NODE, EPOCH + LOG_TTL * 1000, EPOCH + LOG_TTL * 1000, 10).await,
        log(store, None).await,
    );
    assert_eq!(after, before, "totals, due users and the log are unchanged");
    assert_eq!(store.due(NODE, EPOCH, EPOCH, 10).await, Ok(Vec::new()));
}

async fn revisions_are_never_reused_after_a_record_was_emptied(
    store: &Arc<dyn Store>,
    _: &Arc<dyn Outbox>,
) {
    let user = id("ana");
    let mut seen = vec![Stored::default()];
    for round in 0..5 {
        log_in(store, "ana", Platform::Web, EPOCH + round * SECOND).await;
        let full = store.load(&user).await.expect("a record");
        let is_new = seen.iter().all(|earlier| earlier.revision != full.revision);
        assert!(is_new, "{:?} came back", full.revision);
        seen.push(full.clone());
        put(store, &user, commit_of(Record::default(), Vec::new())).await.expect("a commit");
        let emptied = store.load(&user).await.expect("a record");
        assert!(emptied.record.is_empty());
        // A commit with an old revision must conflict.
        for earlier in seen.iter().filter(|earlier| earlier.revision != emptied.revision) {
            let (record, transitions) = logged_in(&full.record, Platform::Mac, EPOCH);
            let late = store.commit(&user, earlier, commit_of(record, transitions)).await;
            assert_eq!(late, Err(StoreError::Conflict), "{:?}", earlier.revision);
        }
    }
}

async fn emptied_record_is_removed_from_totals_and_due_users(
    store: &Arc<dyn Store>,
    _: &Arc<dyn Outbox>,
) {
    log_in(store, "ana", Platform::Web, EPOCH).await;
    let late = EPOCH + 30 * 24 * 3600 * SECOND;
    assert_eq!(store.due(NODE, late, late, 10).await, Ok(vec![id("ana")]));
    settle(store).await;
    put(store, &id("ana"), commit_of(Record::default(), Vec::new())).await.expect("a commit");
    assert_eq!(store.due(NODE, late, late, 10).await, Ok(Vec::new()));
    assert_eq!(store.totals().await, Ok(Totals::default()));
    assert_eq!(log(store, None).await.len(), 1, "the log is kept");
}

/// Makes a user due at these seconds after the epoch, on the node's own time and on the wall clock.
async fn make_due(store: &Arc<dyn Store>, user: &str, running: Option<u64>, wall: Option<u64>) {
    let at = |secs: u64| EPOCH + Duration::from_secs(secs);
    let (mut record, transitions) = logged_in(&Record::default(), Platform::Ios, EPOCH);
    match running {
        Some(secs) => record.terminals[0].token_until = at(secs),
        // Only the wall clock ends it.
        None => record.terminals[0].link = Link::Push { until: EPOCH },
    }
    let commit = Commit { wall_deadline: wall.map(at), ..commit_of(record, transitions) };
    put(store, &id(user), commit).await.expect("a commit");
}

async fn due(store: &Arc<dyn Store>, running: u64, wall: u64, limit: usize) -> Vec<String> {
    let at = |secs| EPOCH + Duration::from_secs(secs);
    let users = store.due(NODE, at(running), at(wall), limit).await.expect("who is due");
    users.iter().map(ToString::to_string).collect()
}

async fn most_overdue_users_come_first_on_both_clocks(store: &Arc<dyn Store>, _: &Arc<dyn Outbox>) {
    make_due(store, "r10", Some(10), None).await;
    make_due(store, "w20", None, Some(20)).await;
    make_due(store, "r30", Some(30), None).await;
    make_due(store, "w40", None, Some(40)).await;
    make_due(store, "never", None, None).await;
    make_due(store, "both", Some(50), Some(35)).await;

    assert_eq!(due(store, 9, 19, 10).await, [""; 0]);
    assert_eq!(due(store, 10, 0, 10).await, ["r10"], "due exactly at the deadline");
    assert_eq!(due(store, 0, 20, 10).await, ["w20"]);
    // First with equal clocks, then with different ones.
    assert_eq!(due(store, 60, 60, 10).await, ["r10", "w20", "r30", "both", "w40"]);
    assert_eq!(due(store, 31, 100, 10).await, ["w20", "both", "w40", "r10", "r30"]);
    assert_eq!(due(store, 31, 100, 2).await, ["w20", "both"], "neither clock starves the other");
    assert_eq!(due(store, 100, 21, 2).await, ["r10", "r30"]);
}

async fn due_users_are_limited(store: &Arc<dyn Store>, _: &Arc<dyn Outbox>) {
    for n in 0..20 {
        make_due(store, &format!("user-{n:02}"), Some(100 + n), None).await;
    }
    assert_eq!(due(store, 200, 200, 0).await, [""; 0]);
    assert_eq!(due(store, 200, 200, 3).await, ["user-00", "user-01", "user-02"]);
    assert_eq!(due(store, 104, 104, 100).await.len(), 5);
    assert_eq!(due(store, 200, 200, usize::MAX).await.len(), 20);
}

async fn due_time_is_that_of_the_last_commit(store: &Arc<dyn Store>, _: &Arc<dyn Outbox>) {
    make_due(store, "ana", Some(10), Some(10)).await;
    make_due(store, "ana", Some(50), None).await;
    assert_eq!(due(store, 49, 49, 10).await, [""; 0]);
    assert_eq!(due(store, 50, 50, 10).await, ["ana"]);
    // A second commit of the same deadlines changes nothing.
    make_due(store, "ana", Some(50), None).await;
    assert_eq!(due(store, 50, 50, 10).await, ["ana"]);
    make_due(store, "ana", None, None).await;
    assert_eq!(due(store, 100, 100, 10).await, [""; 0]);
}

async fn users_held_by_a_node_are_listed(store: &Arc<dyn Store>, _: &Arc<dyn Outbox>) {
    for n in 0..9 {
        let (mut record, transitions) = logged_in(&Record::default(), Platform::Ios, EPOCH);
        let terminal = &mut record.terminals[0];
        match n % 3 {
            0 => (),
            1 => terminal.connection.node = NodeId(2),
            _ => terminal.link = Link::Push { until: EPOCH },
        }
        put(store, &id(&format!("user-{n}")), commit_of(record, transitions))
            .await
            .expect("a commit");
    }
    let held = async |node, after: Option<&str>, limit| {
        let after = after.map(id);
        let users = store.held(node, Part::ALL, after.as_ref(), limit).await.expect("users");
        users.iter().map(|(user, _)| user.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(held(NODE, None, 10).await, ["user-0", "user-3", "user-6"]);
    assert_eq!(held(NodeId(2), None, 10).await, ["user-1", "user-4", "user-7"]);
    assert_eq!(held(NodeId(3), None, 10).await, [""; 0]);
    assert_eq!(held(NODE, None, 2).await, ["user-0", "user-3"]);
    assert_eq!(held(NODE, Some("user-3"), 10).await, ["user-6"]);
    assert_eq!(held(NODE, Some("user-2"), 1).await, ["user-3"]);
}

async fn totals_equal_a_recount(store: &Arc<dyn Store>, _: &Arc<dyn Outbox>) {
    let users: Vec<_> = (0..12).map(|n| format!("user-{n}")).collect();
    for n in 0..400_u64 {
        let user = id(&users[(rand::random::<u32>() % 12) as usize]);
        let record = store.load(&user).await.expect("a record").record;
        let at = EPOCH + Duration::from_secs(n * 10);
        let (record, transitions) = match rand::random::<u32>() % 8 {
            0 => (Record::default(), Vec::new()),
            1..=3 if record.terminals.first().is_some_and(|t| t.state() == State::Online) => {
                let platform = record.terminals[0].platform;
                // The end of a page makes no log entry before its grace is over.
                if platform == Platform::Web { continue } else { closed(&record, at) }
            }
            _ if n % 3 > 0 && record.state() == State::Online => turned(&record, at),
            place => logged_in(&record, Platform::ALL[place as usize], at),
        };
        put(store, &user, commit_of(record, transitions)).await.expect("a commit");
    }
    let mut recount = Totals::default();
    for user in &users {
        let record = store.load(&id(user)).await.expect("a record").record;
        for terminal in &record.terminals {
            let counts = match terminal.state() {
                State::Online => &mut recount.online,
                State::PushOnline | State::Offline => &mut recount.push_online,
            };
            counts[terminal.platform as usize] += 1;
        }
        recount.away += u64::from(record.status().away);
        if record.version > 0 {
            recount.users[record.state() as usize] += 1;
        }
    }
    assert_eq!(store.totals().await, Ok(recount));
    assert!(recount.away > 0 && recount.users[State::Online as usize] > 0, "{recount:?}");
}

async fn log_is_in_commit_order(store: &Arc<dyn Store>, _: &Arc<dyn Outbox>) {
    let mut expected = Vec::new();
    for n in 0..30 {
        let user = format!("user-{}", n % 4);
        let record = store.load(&id(&user)).await.expect("a record").record;
        let platform = Platform::ALL[n as usize % Platform::ALL.len()];
        // A page and a mini-program share a slot, so this takeover commits two transitions at once.
        let (record, transitions) = logged_in(&record, platform, EPOCH + n * SECOND);
        expected.extend(transitions.iter().map(|t| (id(&user), t.clone())));
        put(store, &id(&user), commit_of(record, transitions)).await.expect("a commit");
    }
    let log = log(store, None).await;
    assert!(log.is_sorted_by(|one, next| one.0 < next.0), "cursors only grow");
    let log: Vec<_> = log.into_iter().map(|(_, user, transition)| (user, transition)).collect();
    assert_eq!(log, expected);
}

async fn log_can_be_read_in_pages_from_any_cursor(store: &Arc<dyn Store>, _: &Arc<dyn Outbox>) {
    for n in 0..23 {
        log_in(store, "ana", Platform::ALL[n % 8], EPOCH).await;
    }
    settle(store).await;
    let all = store.entries(None, usize::MAX).await.expect("the log");
    assert!(all.len() >= 23, "each login is logged");
    for piece in [1, 2, 5, all.len() - 1, all.len(), 100] {
        let (mut read, mut after) = (Vec::new(), None);
        loop {
            let some = store.entries(after, piece).await.expect("the log");
            assert!(some.len() <= piece);
            let Some(last) = some.last() else { break };
            after = Some(last.cursor);
            read.extend(some);
        }
        assert_eq!(read, all, "in pieces of {piece}");
    }
    assert_eq!(store.entries(None, 0).await, Ok(Vec::new()));
    for (place, LogEntry { cursor, .. }) in all.iter().enumerate() {
        let rest = store.entries(Some(*cursor), usize::MAX).await.expect("the log");
        assert_eq!(rest, all[place + 1..], "after {cursor:?}");
    }
    let head = *store.head().borrow();
    assert_eq!(Some(head), all.last().map(|entry| entry.cursor));
    let none_of_it = store.entries(Some(Cursor(head.0 + 1)), 10).await;
    assert_eq!(none_of_it, Err(StoreError::CursorExpired), "a cursor of another log");
}

async fn racing_commits_are_each_applied_once(store: &Arc<dyn Store>, _: &Arc<dyn Outbox>) {
    const THREADS: u64 = 8;
    const COMMITS: u64 = 50;
    let users = ["ana", "bo", "cy"];
    let threads = (0..THREADS).map(|thread| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            let mut landed = Vec::new();
            for n in 0..COMMITS {
                let user = id(users[((thread + n) % 3) as usize]);
                loop {
                    let stored = store.load(&user).await.expect("a record");
                    let at = EPOCH + Duration::from_millis(thread * 1000 + n);
                    let (record, transitions) =
                        logged_in(&stored.record, Platform::ALL[thread as usize], at);
                    let ids: Vec<_> = transitions.iter().map(|transition| transition.id).collect();
                    match store.commit(&user, &stored, commit_of(record, transitions)).await {
                        Ok(()) => break landed.extend(ids),
                        Err(StoreError::Conflict) => tokio::task::yield_now().await,
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            landed
        })
    });
    let threads: Vec<_> = threads.collect();
    let mut landed = Vec::new();
    for thread in threads {
        landed.extend(thread.await.expect("a thread that ends well"));
    }
    let log = log(store, None).await;
    let mut logged: Vec<_> = log.iter().map(|(_, _, transition)| transition.id).collect();
    landed.sort_unstable();
    logged.sort_unstable();
    assert!(logged.len() as u64 >= THREADS * COMMITS);
    assert_eq!(logged, landed, "every commit landed exactly once");
    for user in users {
        let mine: Vec<_> = log.iter().filter(|(_, of, _)| *of == id(user)).collect();
        // Each commit continues from the one before: none is lost, none is applied twice.
        let mut before = (State::Offline, 0);
        for (_, _, transition) in &mine {
            assert_eq!(transition.from, before.0, "{user}");
            assert!(transition.version > before.1, "{user}");
            before = (transition.to, transition.version);
        }
        let record = store.load(&id(user)).await.expect("a record").record;
        assert_eq!((record.state(), record.version), before, "{user}");
    }
}

async fn racing_users_do_not_disturb_each_other(store: &Arc<dyn Store>, _: &Arc<dyn Outbox>) {
    const USERS: u64 = 200;
    let racing = (0..USERS).map(|n| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            log_in(&store, &format!("user-{n}"), Platform::Mac, EPOCH).await;
            log_in(&store, &format!("user-{n}"), Platform::Ios, EPOCH + SECOND).await;
        })
    });
    let racing: Vec<_> = racing.collect();
    for user in racing {
        user.await.expect("a task without errors");
    }
    let totals = store.totals().await.expect("the counts");
    let logged_in = [Platform::Mac, Platform::Ios].map(|on| totals.online[on as usize]);
    assert_eq!((logged_in, totals.users), ([USERS, USERS], [0, 0, USERS]));
    assert_eq!(log(store, None).await.len() as u64, 2 * USERS);
}
