//! A store in Redis, for several nodes. README.md says what is where.

mod change;
mod commit;
mod days;
mod fault;
mod feed;
mod grid;
mod keeper;
mod keys;
mod ledger;
mod link;
mod listeners;
mod lists;
mod log;
mod logins;
mod merge;
mod metrics;
mod open;
mod outbox;
mod place;
mod places;
mod reads;
mod router;
mod row;
mod scripts;
mod sequence;
mod server_clock;
mod settings;
mod signs;
mod state;
mod tags;
mod ticks;
mod trim;
mod watch_lists;

pub use self::open::RedisFault;
pub use self::settings::RedisSettings;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use self::outbox::LetterMove;
use self::state::State;
use crate::clock::Clock;
use crate::presence::{NodeId, SignOfLife, Timestamp, UserId, WatchList, WatchListChange};
use crate::store::{
    Among, Backlog, Commit, Cursor, Day, Days, Dead, DeadSelection, HistoryPart, Listed, Log,
    LogEntry, Lost, NodeCard, Nodes, Outbox, Part, Progress, Records, Retention, Save,
    ServerCounts, SharedLogin, SharedLogins, StoreError, Stored, Subscription, Totals, WatchLists,
    WebhookName,
};

/// A store in Redis, which several nodes share. One instance serves one node: the first that signs, listens,
/// commits or asks who is due.
pub struct RedisStore {
    state: Arc<State>,
    tasks: Vec<AbortHandle>,
}

impl RedisStore {
    /// Connects, checks the server, and begins to receive what other nodes commit. Must be called within a
    /// runtime.
    ///
    /// # Errors
    ///
    /// If Redis cannot be reached within 10 s, or cannot serve as a store; the message says what to change.
    pub async fn open(
        settings: RedisSettings,
        retention: Retention,
        clock: &Clock,
    ) -> Result<Self, RedisFault> {
        let state = open::open(settings, retention, clock).await?;
        let [feed, ticks, routes] = [Arc::clone(&state), Arc::clone(&state), Arc::clone(&state)];
        let tasks = [
            tokio::spawn(async move { feed.hear().await }),
            tokio::spawn(async move { ticks.keep_ticking().await }),
            tokio::spawn(async move { routes.router.keep_fresh().await }),
        ];
        let tasks = tasks.map(|task| task.abort_handle()).into();
        Ok(Self { state, tasks })
    }
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("settings", &self.state.settings).finish_non_exhaustive()
    }
}

impl Records for RedisStore {
    fn load<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<Stored, StoreError>> {
        self.state.load(user).boxed()
    }

    fn commit<'a>(
        &'a self,
        user: &'a UserId,
        base: &'a Stored,
        commit: Commit,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        async move { self.state.commit(user, base, &commit).await }.boxed()
    }

    fn listen(&self, node: NodeId) -> Subscription {
        self.state.is_node(node);
        self.state.listeners.subscribe()
    }

    fn due(
        &self,
        node: NodeId,
        now: Timestamp,
        wall: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<UserId>, StoreError>> {
        self.state.due(node, now, wall, limit).boxed()
    }

    fn held<'a>(
        &'a self,
        node: NodeId,
        part: Part,
        after: Option<&'a UserId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>> {
        self.state.held(node, part, after, limit).boxed()
    }

    fn users<'a>(
        &'a self,
        among: &'a Among,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>> {
        self.state.users(among, limit).boxed()
    }

    fn totals(&self) -> BoxFuture<'_, Result<Totals, StoreError>> {
        self.state.totals().boxed()
    }

    fn check(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        async {
            self.state.check()?;
            self.state.ping().await
        }
        .boxed()
    }

    fn parts(&self) -> Vec<Part> {
        self.state.grid.parts().map(|part| self.state.part(part)).collect()
    }

    fn server_counts(&self) -> Option<ServerCounts> {
        Some(self.state.metrics.counts())
    }

    fn may_lose_commits(&self) -> bool {
        true
    }

    fn damaged(&self) -> u64 {
        self.state.damaged.lock().len() as u64
    }

    fn latest(&self) -> Timestamp {
        self.state.latest
    }
}

impl WatchLists for RedisStore {
    fn watch_list<'a>(
        &'a self,
        user: &'a UserId,
    ) -> BoxFuture<'a, Result<Arc<WatchList>, StoreError>> {
        self.state.watch_list(user).boxed()
    }

    fn change_watch_list<'a>(
        &'a self,
        node: NodeId,
        user: &'a UserId,
        change: WatchListChange,
        max: usize,
    ) -> BoxFuture<'a, Result<Option<Arc<WatchList>>, StoreError>> {
        self.state.change_watch_list(node, user, change, max).boxed()
    }
}

impl Log for RedisStore {
    fn head(&self) -> watch::Receiver<Cursor> {
        self.state.head.subscribe()
    }

    fn entries(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<LogEntry>, StoreError>> {
        self.state.entries(after, limit).boxed()
    }

    fn left(
        &self,
        after: Cursor,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<LogEntry>, StoreError>> {
        self.state.left(after, limit).boxed()
    }

    fn history<'a>(
        &'a self,
        user: &'a UserId,
        part: HistoryPart,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<LogEntry>, StoreError>> {
        self.state.history(user, part, limit).boxed()
    }

    fn backlog(&self, after: Cursor) -> BoxFuture<'_, Result<Backlog, StoreError>> {
        self.state.backlog(after).boxed()
    }

    fn trim(&self, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.state.trim_log(now).boxed()
    }
}

impl Nodes for RedisStore {
    fn save_sign_of_life(
        &self,
        node: NodeId,
        sign: SignOfLife,
        card: Arc<str>,
    ) -> BoxFuture<'_, Result<Vec<Lost>, StoreError>> {
        self.state.sign(node, sign, card).boxed()
    }

    fn kept_parts(&self) -> Vec<Part> {
        self.state.kept().into_iter().map(|part| self.state.part(part)).collect()
    }

    fn retire(&self, node: NodeId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.state.retire(node).boxed()
    }

    fn cards(&self) -> BoxFuture<'_, Result<Vec<NodeCard>, StoreError>> {
        self.state.cards().boxed()
    }
}

impl Days for RedisStore {
    fn days(&self, from: u32) -> BoxFuture<'_, Result<Vec<Day>, StoreError>> {
        self.state.days(from).boxed()
    }

    fn save_day(
        &self,
        day: u32,
        figures: Arc<str>,
        keep_from: u32,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        async move { self.state.save_day(day, &figures, keep_from).await }.boxed()
    }

    fn days_turn(&self) -> watch::Receiver<bool> {
        self.state.turn_of(&WebhookName::of_figures())
    }
}

impl Outbox for RedisStore {
    fn progress<'a>(
        &'a self,
        webhook: &'a WebhookName,
    ) -> BoxFuture<'a, Result<Option<Progress>, StoreError>> {
        self.state.progress(webhook).boxed()
    }

    fn turn(&self, webhook: &WebhookName) -> watch::Receiver<bool> {
        self.state.turn_of(webhook)
    }

    fn give_up_turn(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.state.give_up_seats().boxed()
    }

    fn save(&self, save: Save) -> BoxFuture<'_, Result<(), StoreError>> {
        async move { self.state.save(&save).await }.boxed()
    }

    fn clear<'a>(&'a self, webhook: &'a WebhookName) -> BoxFuture<'a, Result<(), StoreError>> {
        self.state.clear(webhook).boxed()
    }

    fn webhooks(&self) -> BoxFuture<'_, Result<Vec<WebhookName>, StoreError>> {
        self.state.webhooks().boxed()
    }

    fn dead<'a>(
        &'a self,
        webhook: &'a WebhookName,
        after: Option<Cursor>,
        put_back: bool,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Dead>, StoreError>> {
        self.state.dead_letters(webhook, after, put_back, limit).boxed()
    }

    fn dead_waiting<'a>(
        &'a self,
        webhook: &'a WebhookName,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        self.state.dead_waiting(webhook).boxed()
    }

    fn put_back<'a>(
        &'a self,
        webhook: &'a WebhookName,
        which: DeadSelection,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        async move { self.state.move_letters(webhook, &which, LetterMove::Back).await }.boxed()
    }

    fn drop_dead<'a>(
        &'a self,
        webhook: &'a WebhookName,
        which: DeadSelection,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        async move { self.state.move_letters(webhook, &which, LetterMove::Drop).await }.boxed()
    }
}

impl SharedLogins for RedisStore {
    fn save_login<'a>(
        &'a self,
        id: &'a str,
        key: &'a str,
        ttl: Duration,
        most: usize,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.state.save_login(id, key, ttl, most).boxed()
    }

    fn login<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<SharedLogin>, StoreError>> {
        self.state.login(id).boxed()
    }

    fn end_login<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        self.state.end_login(id).boxed()
    }
}
