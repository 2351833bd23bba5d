//! What connections watch: by name or by the watch list, by what right (P1, P7, P8), and from which snapshot on.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::MutexGuard;

use super::registry::{Added, Removed};
use super::subscriptions::Reason;
use super::{Connection, Hub, Mailbox, Unavailable};
use crate::presence::{Policy, State, Status, UserId, WatchList, WatchListChange, Watchable};
use crate::wire::{Push, UserStatus, text_frame};

/// How many of those who were added to a watch list one message names.
const ADDED_AT_ONCE: usize = 200;

/// A page of a session's watch list.
#[derive(Debug)]
pub struct ListPage<'a> {
    /// The users of this page who are not `Offline`, with what the session's user sees.
    pub seen: Vec<UserStatus<'a>>,
    /// How many users are on the list.
    pub count: usize,
    /// After whom the next page begins; `None` at the end.
    pub next: Option<&'a UserId>,
}

/// Whom a connection may watch, for as long as this is kept: who begins to watch somebody meanwhile is found by
/// the next change of the right.
pub struct Rights<'a> {
    connection: &'a Connection,
    claim: Option<Arc<Watchable>>,
    policy: Arc<Policy>,
    list: Option<(Arc<WatchList>, MutexGuard<'a, ()>)>,
}

impl Rights<'_> {
    /// Whether the connection may watch a user (P1).
    pub fn cover(&self, user: &UserId) -> bool {
        covers(self.connection.mailbox.user(), self.claim.as_deref(), &self.policy, user)
            || self.list.as_ref().is_some_and(|(list, _)| list.has(user))
    }

    /// Whether no reload has changed what tokens without a claim may watch.
    fn is_current(&self) -> bool {
        Arc::ptr_eq(&self.policy, &self.connection.hub.policy())
    }
}

impl Mailbox {
    /// The users whom the session named and whom its token does not cover.
    fn uncovered(&self, policy: &Policy) -> Vec<UserId> {
        let (named, claim) = self.subscriptions(|it| (it.users(Reason::Named), it.claim.clone()));
        let users = named.iter().map(|watched| watched.user());
        let is_covered = |user: &UserId| covers(self.user(), claim.as_deref(), policy, user);
        users.filter(|user| !is_covered(user)).cloned().collect()
    }
}

impl Connection {
    /// Whom this connection may watch among these. The watch list is only read if it matters.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn rights(&self, users: &[UserId]) -> Result<Rights<'_>, Unavailable> {
        let policy = self.hub.policy();
        let claim = self.mailbox.subscriptions(|it| it.claim.clone());
        let mut rights = Rights { connection: self, claim, policy, list: None };
        if let Some(viewer) = self.mailbox.user()
            && !users.iter().all(|user| rights.cover(user))
        {
            let lane = self.hub.list_lanes.lock(viewer).await;
            rights.list = Some((self.hub.store.watch_list(viewer).await?, lane));
        }
        Ok(rights)
    }

    /// Starts to watch users by name; their changes are pushed after a snapshot of them was sent. Returns
    /// those who were not watched by name before.
    pub fn watch(&self, users: &[UserId]) -> Vec<UserId> {
        let is_new = |user: &&UserId| self.hub.watch(user, &self.mailbox, Reason::Named);
        users.iter().filter(is_new).cloned().collect()
    }

    /// Ends what a reload took the right to since `rights` were read.
    pub async fn settle(&self, rights: Rights<'_>) {
        let is_current = rights.is_current();
        // It may hold the lane that the next line needs.
        drop(rights);
        if !is_current {
            self.hub.narrow(&self.mailbox).await;
        }
    }

    /// Ends what the session's token no longer covers, and says so (P7).
    pub async fn narrow(&self) {
        self.hub.narrow(&self.mailbox).await;
    }

    /// Stops to watch users by name.
    pub fn unwatch(&self, users: &[UserId]) {
        users.iter().for_each(|user| self.hub.unwatch(user, &self.mailbox, Reason::Named));
    }

    /// Stops to watch all users, and the watch list. What was added to the list before is told before it returns.
    pub async fn unsubscribe(&self) {
        let Some(viewer) = self.mailbox.user() else { return };
        let _lane = self.hub.list_lanes.lock(viewer).await;
        self.unwatch_all();
    }

    /// Stops to watch all users, and the watch list.
    pub fn unwatch_all(&self) {
        self.mailbox.subscriptions(|it| it.follows_list = false);
        for reason in [Reason::Named, Reason::Listed] {
            let watched = self.mailbox.subscriptions(|it| it.users(reason));
            watched.iter().for_each(|it| self.hub.unwatch(it.user(), &self.mailbox, reason));
        }
    }

    /// The number of users that this connection watches by name.
    pub fn watching(&self) -> usize {
        self.mailbox.subscriptions(|it| it.count(Reason::Named))
    }

    /// Whether this connection watches a user by name.
    pub fn watches(&self, user: &UserId) -> bool {
        let place = self.hub.place(user, &self.mailbox);
        place.is_some_and(|place| {
            self.mailbox
                .subscriptions(|it| it.get_mut(place).is_some_and(|it| it.has(Reason::Named)))
        })
    }

    /// Sends the users' present statuses in one frame. Each is at least as new as every status of that
    /// user that this connection has seen, and all newer ones follow (V3).
    ///
    /// # Errors
    ///
    /// If the store fails; then nothing was sent.
    pub async fn send_snapshot(
        &self,
        users: &[UserId],
        frame: impl Fn(&[Status]) -> Bytes,
    ) -> Result<(), Unavailable> {
        self.hub.send_snapshot(&self.mailbox, users, frame).await
    }

    /// Sends a user's status, or the present one if this connection has seen a newer status (V3).
    ///
    /// # Errors
    ///
    /// If the store fails; then nothing was sent.
    pub async fn send_status(
        &self,
        user: &UserId,
        status: &Status,
        frame: impl Fn(&Status) -> Bytes,
    ) -> Result<(), Unavailable> {
        let place = self.hub.place(user, &self.mailbox);
        if self.mailbox.post_snapshot(&[place], &[0], &[status.version], frame(status)) {
            return Ok(());
        }
        self.send_snapshot(std::slice::from_ref(user), |statuses| frame(&statuses[0])).await
    }

    /// Starts to watch the user's watch list, unless it does already, and sends a page of it: up to `limit`
    /// users after `after` who are not `Offline` (P8). Returns how many users it looked at.
    ///
    /// # Errors
    ///
    /// If the store fails; then nothing was sent.
    pub async fn send_list_page(
        &self,
        after: Option<&UserId>,
        limit: usize,
        frame: impl Fn(&ListPage<'_>) -> Bytes,
    ) -> Result<usize, Unavailable> {
        let Some(viewer) = self.mailbox.user() else { return Ok(0) };
        let lane = self.hub.list_lanes.lock(viewer).await;
        let list = self.hub.store.watch_list(viewer).await?;
        let is_first = !self.mailbox.subscriptions(|it| it.follows_list);
        if is_first {
            self.mailbox.subscriptions(|it| it.follows_list = true);
            for user in list.users() {
                self.hub.watch(user, &self.mailbox, Reason::Listed);
            }
        }
        // With the lane: what a change takes away meanwhile must be taken away after the page.
        let sent = self.post_list_page(&list, after, limit, frame).await;
        drop(lane);
        if is_first && sent.is_err() {
            self.mailbox.subscriptions(|it| it.follows_list = false);
            list.users().iter().for_each(|it| self.hub.unwatch(it, &self.mailbox, Reason::Listed));
        }
        sent
    }

    async fn post_list_page(
        &self,
        list: &WatchList,
        after: Option<&UserId>,
        limit: usize,
        frame: impl Fn(&ListPage<'_>) -> Bytes,
    ) -> Result<usize, Unavailable> {
        let (hub, mailbox) = (&self.hub, &self.mailbox);
        let Some(viewer) = mailbox.user() else { return Ok(0) };
        let begin = after.map_or(0, |after| list.users().partition_point(|user| user <= after));
        let rest = &list.users()[begin..];
        loop {
            let (mut statuses, mut seen, mut places) = (Vec::new(), Vec::new(), Vec::new());
            let mut found = 0;
            for some in rest.chunks(limit) {
                let some_places: Vec<_> = some.iter().map(|it| hub.place(it, mailbox)).collect();
                seen.extend(mailbox.subscriptions(|it| it.seen(&some_places)));
                places.extend(some_places);
                for status in hub.statuses_for(Some(viewer), some).await? {
                    found += usize::from(status.state != State::Offline);
                    statuses.push(status);
                    if found == limit {
                        break;
                    }
                }
                if found == limit {
                    break;
                }
            }
            let looked_at = statuses.len();
            let versions: Vec<_> = statuses.iter().map(|status| status.version).collect();
            let listed = rest.iter().zip(&statuses).filter(|(_, it)| it.state != State::Offline);
            let page = ListPage {
                seen: listed.map(|(user, status)| UserStatus { user, status }).collect(),
                count: list.users().len(),
                next: rest[..looked_at].last().filter(|_| looked_at < rest.len()),
            };
            let places = &places[..looked_at];
            if mailbox.post_snapshot(places, &seen[..looked_at], &versions, frame(&page)) {
                mailbox.subscriptions(|it| it.open_list());
                return Ok(looked_at);
            }
        }
    }
}

impl Hub {
    /// Changes a user's watch list (P8). Returns the new list; `None` if it would have more than `max` users. On
    /// return, the sessions on this node have been told.
    ///
    /// # Errors
    ///
    /// If the store fails. Then the change may have been written.
    pub async fn change_watch_list(
        &self,
        user: &UserId,
        change: WatchListChange,
        max: usize,
    ) -> Result<Option<Arc<WatchList>>, Unavailable> {
        let changed = self.store.change_watch_list(self.node, user, change, max).await?;
        if changed.is_some() {
            self.follow_watch_list(user).await;
        }
        Ok(changed)
    }

    /// A user's watch list.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub async fn watch_list(&self, user: &UserId) -> Result<Arc<WatchList>, Unavailable> {
        Ok(self.store.watch_list(user).await?)
    }

    /// Makes the sessions of a user on this node follow the watch list as it is now (P7, P8).
    pub(super) async fn follow_watch_list(&self, viewer: &UserId) {
        let record = match self.record(viewer).await {
            Ok(record) => record,
            Err(error) => return self.note_list_failure(viewer, &error),
        };
        let here = record.terminals.iter().filter_map(|it| self.registry.get(it.connection));
        let here: Vec<_> = here.filter(|mailbox| mailbox.user() == Some(viewer)).collect();
        for mailbox in here {
            self.follow_list(&mailbox).await;
        }
    }

    /// Makes one session follow its user's watch list as it is now.
    async fn follow_list(&self, mailbox: &Arc<Mailbox>) {
        let Some(viewer) = mailbox.user() else { return };
        // Before it looks whether there is anything to do: a request may have read the list, and not yet begun to
        // watch, or not yet been answered.
        let _lane = self.list_lanes.lock(viewer).await;
        if !mailbox.subscriptions(|it| it.follows_list)
            && mailbox.uncovered(&self.policy()).is_empty()
        {
            return;
        }
        let list = match self.store.watch_list(viewer).await {
            Ok(list) => list,
            Err(error) => return self.note_list_failure(viewer, &error.into()),
        };
        self.end_uncovered(mailbox, &list);
        if mailbox.subscriptions(|it| it.follows_list)
            && let Err(error) = self.change_listed(mailbox, &list).await
        {
            self.note_list_failure(viewer, &error);
        }
    }

    /// Makes a session follow its user's watch list as it is now, after missed messages. If the store does not know
    /// the user any more, it has lost the list, too: then whom the list covered was not removed from it, but
    /// nobody covers them any more.
    pub(super) async fn follow_list_after(&self, mailbox: &Arc<Mailbox>, is_unknown: bool) {
        let listed = mailbox.subscriptions(|it| it.users(Reason::Listed));
        self.follow_list(mailbox).await;
        if is_unknown {
            let mut lost: Vec<_> = listed.iter().map(|watched| watched.user().clone()).collect();
            lost.retain(|user| self.place(user, mailbox).is_none());
            lost.sort_unstable();
            if !lost.is_empty() {
                mailbox.post(text_frame(&Push::Unwatched { users: &lost }));
            }
        }
    }

    /// Watches who was added to the list, and no longer who was removed, and tells the session.
    async fn change_listed(
        &self,
        mailbox: &Arc<Mailbox>,
        list: &WatchList,
    ) -> Result<(), Unavailable> {
        let watched = mailbox.subscriptions(|it| it.users(Reason::Listed));
        let gone = watched.iter().map(|it| it.user()).filter(|user| !list.has(user));
        let mut removed: Vec<_> = gone.cloned().collect();
        removed.sort_unstable();
        removed.iter().for_each(|user| self.unwatch(user, mailbox, Reason::Listed));
        let is_new = |user: &&UserId| self.watch(user, mailbox, Reason::Listed);
        let added: Vec<_> = list.users().iter().filter(is_new).cloned().collect();
        let mut removed = &removed[..];
        for some in added.chunks(ADDED_AT_ONCE) {
            let sent = self.send_snapshot(mailbox, some, |statuses| {
                let added = some.iter().zip(statuses);
                let added = added.map(|(user, status)| UserStatus { user, status }).collect();
                text_frame(&Push::WatchList { added, removed })
            });
            if let Err(error) = sent.await {
                // The next comparison with the store adds them again, and tells the session.
                let untold = added.iter().filter(|user| **user >= some[0]);
                untold.for_each(|user| self.unwatch(user, mailbox, Reason::Listed));
                tell_removed(mailbox, removed);
                return Err(error);
            }
            removed = &[];
        }
        tell_removed(mailbox, removed);
        Ok(())
    }

    /// Has the user's sessions compared with the store again.
    fn note_list_failure(&self, viewer: &UserId, error: &Unavailable) {
        self.store_failed("cannot read a watch list, retrying", error, Some(viewer));
        self.note_doubt(viewer);
    }

    /// Ends what a session watches by name without a right, and says so (P7). If the watch list cannot be read, it
    /// gives none.
    pub(super) async fn narrow(&self, mailbox: &Arc<Mailbox>) {
        let Some(viewer) = mailbox.user() else { return };
        if mailbox.uncovered(&self.policy()).is_empty() {
            return;
        }
        let _lane = self.list_lanes.lock(viewer).await;
        let list = self.store.watch_list(viewer).await.unwrap_or_else(|error| {
            self.store_failed("cannot read a watch list", &error.into(), Some(viewer));
            Arc::default()
        });
        self.end_uncovered(mailbox, &list);
    }

    fn end_uncovered(&self, mailbox: &Arc<Mailbox>, list: &WatchList) {
        let uncovered = mailbox.uncovered(&self.policy());
        let mut users: Vec<_> = uncovered.into_iter().filter(|user| !list.has(user)).collect();
        users.sort_unstable();
        if !users.is_empty() {
            users.iter().for_each(|user| self.unwatch(user, mailbox, Reason::Named));
            mailbox.post(text_frame(&Push::Unwatched { users: &users }));
        }
    }

    /// Ends what sessions without a `watch` claim may no longer watch after a reload (P7).
    pub async fn narrow_all(&self) {
        for mailbox in self.registry.all() {
            self.narrow(&mailbox).await;
        }
    }

    /// Starts to watch a user for a reason; returns whether it is new.
    fn watch(&self, user: &UserId, mailbox: &Arc<Mailbox>, reason: Reason) -> bool {
        let added = self.watchers.add(user, mailbox, reason);
        if added == Added::Watcher {
            self.metrics.subscriptions.inc();
        }
        added != Added::Nothing
    }

    fn unwatch(&self, user: &UserId, mailbox: &Mailbox, reason: Reason) {
        if self.watchers.remove(user, mailbox, reason) == Removed::Watcher {
            self.metrics.subscriptions.dec();
        }
    }

    fn place(&self, user: &UserId, mailbox: &Mailbox) -> Option<usize> {
        self.watchers.get(user)?.place(mailbox.id())
    }

    async fn send_snapshot(
        &self,
        mailbox: &Mailbox,
        users: &[UserId],
        frame: impl Fn(&[Status]) -> Bytes,
    ) -> Result<(), Unavailable> {
        let viewer = mailbox.user();
        let places: Vec<_> = users.iter().map(|user| self.place(user, mailbox)).collect();
        loop {
            let seen = mailbox.subscriptions(|it| it.seen(&places));
            let statuses = self.statuses_for(viewer, users).await?;
            let versions: Vec<_> = statuses.iter().map(|status| status.version).collect();
            if mailbox.post_snapshot(&places, &seen, &versions, frame(&statuses)) {
                return Ok(());
            }
        }
    }
}

/// Whether a viewer's token, or the default for those that do not say, lets the viewer watch a user. Everybody may
/// watch themselves (P1).
fn covers(
    viewer: Option<&UserId>,
    claim: Option<&Watchable>,
    policy: &Policy,
    user: &UserId,
) -> bool {
    viewer == Some(user) || claim.unwrap_or(&policy.default_watch).covers(user)
}

fn tell_removed(mailbox: &Mailbox, removed: &[UserId]) {
    if !removed.is_empty() {
        mailbox.post(text_frame(&Push::WatchList { added: Vec::new(), removed }));
    }
}
