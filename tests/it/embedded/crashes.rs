//! Random commits, a crash at any byte of any file, and what the next run makes of it.
//!
//! The memory store gets the same commits, and says what must be there. Each failure names its seed.

use std::fs;
use std::path::Path;

use presence_hub::presence::{
    EventKind, NodeId, Origin, Platform, Record, State, Transition, UserId,
};
use presence_hub::store::{
    Among, Commit, EmbeddedStore, HeldUser, Log, MemoryStore, Nodes, OpenFault, Outbox, Records,
    Save, Store, StoreError, Totals, WebhookName,
};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tempfile::TempDir;

use super::{copy_of, open};
use crate::lab::{EPOCH, SECOND, id};
use crate::store_contract::{RETENTION, commit_of, happens, logged_in, policy, present};

const FILES: [&str; 3] = ["presence.db", "presence.db-wal", "presence.mark"];
const USERS: usize = 12;

/// Two stores that are told the same.
struct Pair {
    directory: TempDir,
    embedded: EmbeddedStore,
    memory: MemoryStore,
    random: StdRng,
    /// How many commits there were, which make the time.
    commits: u32,
}

/// Everything that callers can see, without revisions and cursors, which differ between stores. `None`
/// stands for what the store says is damaged.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    records: Vec<Option<Record>>,
    totals: Totals,
    online: Vec<UserId>,
    due: Vec<UserId>,
    /// With whom each event names: of a damaged one, the user's id may be damaged as well.
    log: Vec<Option<(UserId, Value)>>,
    /// How many entries come after what the webhook has dealt with, and whom it holds.
    webhook: Option<(usize, Vec<UserId>)>,
}

fn users() -> impl Iterator<Item = UserId> {
    (0..USERS).map(|n| id(&format!("user-{n}")))
}

async fn seen(store: &(impl Store + Outbox)) -> Seen {
    let mut records = Vec::new();
    for user in users() {
        records.push(match Records::load(store, &user).await {
            Ok(stored) => Some(Record::clone(&stored.record)),
            Err(StoreError::Damaged { .. }) => None,
            Err(error) => panic!("{user}: {error}"),
        });
    }
    let among = Among { states: vec![State::Online], ..Among::default() };
    let online = store.users(&among, 100).await.expect("a list");
    let mut due =
        store.due(NodeId(1), EPOCH + SECOND * 2000, EPOCH, 100).await.expect("who is due");
    due.sort();
    let entries = store.entries(None, usize::MAX).await.expect("the log");
    let log = entries.iter().map(|entry| {
        let event = entry.event.as_ref().ok()?;
        Some((entry.user.clone(), serde_json::from_str(event).expect("JSON")))
    });
    let webhook =
        store.progress(&WebhookName::UNNAMED).await.expect("the progress").map(|progress| {
            let after = entries.iter().filter(|entry| entry.cursor > progress.position).count();
            (after, progress.held.into_iter().map(|held| held.user).collect())
        });
    Seen {
        records,
        totals: store.totals().await.expect("totals"),
        online: online.into_iter().map(|(user, _)| user).collect(),
        due,
        log: log.collect(),
        webhook,
    }
}

impl Seen {
    /// Whether this is what was expected, but for what is said to be damaged; returns how much that is.
    fn holes_in(&self, expected: &Self) -> Option<usize> {
        let mut filled = self.clone();
        let mut holes = 0;
        for (found, expected) in filled.records.iter_mut().zip(&expected.records) {
            holes += usize::from(found.is_none());
            found.get_or_insert_with(|| expected.clone().expect("a whole record"));
        }
        for (found, expected) in filled.log.iter_mut().zip(&expected.log) {
            holes += usize::from(found.is_none());
            found.get_or_insert_with(|| expected.clone().expect("a whole event"));
        }
        (filled == *expected).then_some(holes)
    }
}

impl Pair {
    fn new(seed: u64) -> Self {
        let directory = TempDir::new().expect("a directory");
        Self {
            embedded: open(directory.path()).expect("a store"),
            directory,
            memory: MemoryStore::new(RETENTION, EPOCH),
            random: StdRng::seed_from_u64(seed),
            commits: 0,
        }
    }

    /// Does something to both.
    async fn act(&mut self) {
        match self.random.random_range(0..20) {
            0 => self.sign().await,
            1 | 2 => self.note_progress().await,
            3 => {
                let now = EPOCH + SECOND * self.random.random_range(0..2) * 4000;
                let embedded = self.embedded.trim(now).await;
                assert_eq!(embedded, self.memory.trim(now).await);
            }
            _ => self.commit().await,
        }
    }

    async fn sign(&self) {
        self.embedded
            .save_sign_of_life(NodeId(1), present(), "{}".into())
            .await
            .expect("a sign of life");
    }

    async fn commit(&mut self) {
        let user = users().nth(self.random.random_range(0..USERS)).expect("a user");
        let record = Records::load(&self.memory, &user).await.expect("a record").record;
        self.commits += 1;
        let at = EPOCH + SECOND * self.commits;
        let (record, transitions): (Record, Vec<Transition>) =
            match (record.terminals.first(), self.random.random_range(0..4)) {
                // A user is forgotten.
                (_, 0) if record.version > 0 => (Record::default(), Vec::new()),
                (Some(terminal), 1) => {
                    let (session, connection) = (terminal.session, terminal.connection);
                    happens(&record, EventKind::Logout(Origin { session, connection }), at)
                }
                _ => {
                    let platforms = [Platform::Mac, Platform::Ios, Platform::Web];
                    let platform = *platforms.choose(&mut self.random).expect("a platform");
                    logged_in(&record, platform, at)
                }
            };
        let wall_deadline = record.wall_deadline(&policy());
        let sync = self.random.random_range(0..10) == 0;
        let commit = Commit { wall_deadline, sync, ..commit_of(record, transitions) };
        for store in [&self.embedded as &dyn Store, &self.memory] {
            let base = store.load(&user).await.expect("a record");
            store.commit(&user, &base, commit.clone()).await.expect("a commit");
        }
    }

    async fn note_progress(&mut self) {
        let place: usize = self.random.random_range(0..1000);
        let holds = self.random.random();
        for store in [&self.embedded as &dyn Both, &self.memory] {
            let log = store.entries(None, usize::MAX).await.expect("the log");
            let Some(entry) = log.get(place % log.len().max(1)) else { return };
            let held = HeldUser {
                user: entry.user.clone(),
                from: entry.cursor,
                refused: EPOCH,
                worked_ms: 0,
                attempts: 1,
                last_error: "no".into(),
            };
            let (held, freed) =
                if holds { (vec![held], Vec::new()) } else { (Vec::new(), vec![held.user]) };
            let save = Save { position: entry.cursor, held, freed, ..Save::default() };
            store.save(save).await.expect("progress");
        }
    }

    /// What a kill leaves now.
    fn killed(&self) -> TempDir {
        copy_of(self.directory.path())
    }

    fn checkpoint(&self) {
        let database = rusqlite::Connection::open(self.directory.path().join("presence.db"));
        let database = database.expect("the database");
        database.busy_timeout(20 * SECOND).expect("a time");
        let run = "PRAGMA wal_checkpoint(PASSIVE)";
        database.query_row(run, (), |_| Ok(())).expect("a checkpoint");
    }
}

/// A store by both its ports.
trait Both: Store + Outbox {}

impl<T: Store + Outbox> Both for T {}

fn read(directory: &Path, name: &str) -> Vec<u8> {
    fs::read(directory.join(name)).unwrap_or_default()
}

fn seed() -> u64 {
    let given = std::env::var("CRASH_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(rand::random)
}

/// The files of a store that a kill left, and what must be in them.
pub(crate) struct Sample {
    /// `presence.db`, its write-ahead log, and the mark.
    pub(crate) files: [Vec<u8>; 3],
    whole: Seen,
}

impl Sample {
    pub(crate) async fn new(seed: u64, is_checkpointed: bool) -> Self {
        let mut pair = Pair::new(seed);
        for _ in 0..60 {
            pair.act().await;
        }
        if is_checkpointed {
            pair.checkpoint();
        }
        let killed = pair.killed();
        let files = FILES.map(|name| read(killed.path(), name));
        Self { files, whole: seen(&pair.memory).await }
    }

    /// Opens a store with these files in place of the sample's; panics if something is missing in
    /// silence. Returns what was found.
    pub(crate) async fn check(&self, files: &[Vec<u8>; 3]) -> String {
        let directory = TempDir::new().expect("a directory");
        for (name, bytes) in FILES.iter().zip(files) {
            fs::write(directory.path().join(name), bytes).expect("to write");
        }
        let is_marked = files[2] == self.files[2];
        if is_marked || files[..2] == self.files[..2] {
            return check(directory.path(), &[&self.whole], "these files").await.to_string();
        }
        // Without its mark, a log that is cut looks like the log of an earlier time. The start logs that.
        match open(directory.path()) {
            Ok(store) => format!("no mark: {} damaged", store.damaged()),
            Err(fault) => format!("no mark: {fault}").chars().take(40).collect(),
        }
    }
}

/// Opens what a crash left: all that was acknowledged is there, or the store says what is damaged.
/// Returns whether nothing is.
async fn check(directory: &Path, expected: &[&Seen], what: &str) -> bool {
    match open(directory) {
        Ok(store) => {
            let found = seen(&store).await;
            let holes = expected.iter().find_map(|expected| found.holes_in(expected));
            let holes =
                holes.unwrap_or_else(|| panic!("{what}: {found:#?}\nis none of {expected:#?}"));
            assert!(store.damaged() >= holes as u64, "{what}: each is counted");
            holes == 0
        }
        Err(OpenFault::Damaged(said)) => {
            assert!(!said.is_empty(), "{what}");
            false
        }
        Err(fault @ (OpenFault::Foreign | OpenFault::Database(_))) => {
            assert!(!fault.to_string().is_empty(), "{what}");
            false
        }
        Err(fault) => panic!("{what}: {fault}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_moment_loses_nothing_that_was_acknowledged() {
    let seed = seed();
    let mut pair = Pair::new(seed);
    for step in 0..60 {
        let before = (seen(&pair.memory).await, pair.killed());
        pair.act().await;
        if pair.random.random_range(0..8) == 0 {
            pair.checkpoint();
        }
        let (after, killed) = (seen(&pair.memory).await, pair.killed());
        let what = format!("seed {seed}, step {step}");
        assert!(
            check(killed.path(), &[&after], &what).await,
            "{what}: a kill was reported as damage"
        );

        // A kill while the kernel was given the log's new pages: any part of them is there.
        let (old, new) = (read(before.1.path(), FILES[1]), read(pair.directory.path(), FILES[1]));
        let first = old.iter().zip(&new).position(|(one, other)| one != other);
        let first = first.unwrap_or(old.len().min(new.len()));
        for _ in 0..3 {
            let torn = before.1.path();
            let until = pair.random.random_range(first..=new.len().max(first));
            let mut log = new[..until].to_vec();
            log.extend(old.get(until..).unwrap_or_default());
            let copy = copy_of(torn);
            fs::write(copy.path().join(FILES[1]), log).expect("to write");
            let what = format!("{what}, torn at {until}");
            let opened = check(copy.path(), &[&before.0, &after], &what).await;
            assert!(opened, "{what}: a commit that was not answered may be there, or not");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_cut_or_damaged_lose_nothing_in_silence() {
    let seed = seed();
    let mut pair = Pair::new(seed);
    let mut refused = 0;
    for round in 0..40 {
        for _ in 0..pair.random.random_range(1..20) {
            pair.act().await;
        }
        if pair.random.random_range(0..3) == 0 {
            pair.checkpoint();
        }
        let whole = seen(&pair.memory).await;
        for name in FILES {
            let copy = pair.killed();
            let mut bytes = read(copy.path(), name);
            let at = pair.random.random_range(0..bytes.len());
            let what = if name == FILES[1] && pair.random.random() {
                bytes[at] ^= 1 << pair.random.random_range(0..8);
                format!("seed {seed}, round {round}: {name} is damaged at {at}")
            } else {
                bytes.truncate(at);
                format!("seed {seed}, round {round}: {name} is cut at {at}")
            };
            fs::write(copy.path().join(name), bytes).expect("to write");
            refused += usize::from(!check(copy.path(), &[&whole], &what).await);
        }
    }
    assert!(refused >= 20, "most of this is damage: {refused}");
}

/// The damaged id is a valid id, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_letter_of_a_user_id_anywhere_loses_nothing_in_silence() {
    let sample = Sample::new(seed(), true).await;
    let database = &sample.files[0];
    let ids = (0..database.len() - 5).filter(|at| database[*at..].starts_with(b"user-"));
    let mut damaged = 0;
    for at in ids {
        let mut files = sample.files.clone();
        // The checkpoint has moved all of the log; with it SQLite would not read the damaged pages.
        files[1].clear();
        files[0][at + 2] = b'd';
        damaged += usize::from(sample.check(&files).await != "true");
    }
    assert!(damaged > USERS, "only {damaged} were noticed");
}
