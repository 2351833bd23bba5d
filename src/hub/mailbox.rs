//! The mailbox of a connection: its writing half and its queue of unsent frames.

use std::future::poll_fn;
use std::io;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::task::yield_now;

use super::budget::{Budget, Share};
use super::send_queue::SendQueue;
use super::subscriptions::Subscriptions;
use super::write_half::WriteHalf;
use crate::presence::{Audience, ConnectionId, Timestamp, UserId, Watchable};
use crate::wire::{Close, close_frame};

/// How many mailboxes are flushed before other tasks run.
const FLUSHED_AT_ONCE: usize = 64;
/// How many bytes are corked, at most, before newer statuses replace older ones.
const CORKED_BYTES_MAX: usize = 16 * 1024;

/// The writing half of a connection and its queue of unsent frames.
///
/// ```text
///           reply ─────────────────────▶ socket
///   statuses ───▶ queue ───▶ flush_all ──▶ │
///                   └──── actor ◀── the rest, if it is full
/// ```
///
/// A reply is written to the socket at once (with TLS, by the actor). Statuses are queued until all ready
/// tasks have run, so that statuses of one moment go out in one write. If the socket is full, the
/// connection's actor flushes the queue later; until then the queue keeps only the latest status of each
/// watched user (V4). A status is never older than one that the connection has seen (V3).
pub struct Mailbox {
    id: ConnectionId,
    heard: AtomicU64,
    /// Wakes the actor to flush the queue or to end the connection.
    actor: AtomicWaker,
    /// Only set in development: the connection behaves as if its network had failed.
    cut: AtomicBool,
    /// The user who has logged in; set once.
    user: OnceLock<UserId>,
    inner: Mutex<Inner>,
}

struct Inner {
    /// `None` once the connection is broken or shut.
    writer: Option<WriteHalf>,
    queue: SendQueue,
    flusher: Flusher,
    /// The number of queued bytes that the actor has written.
    flushed: u64,
    /// The bytes of a message that has not arrived completely.
    unfinished: usize,
    /// These, and the bytes that are queued while the socket is full, as a share of the hub's budget.
    held: Share,
    watching: Subscriptions,
    /// Set once: no frame is accepted after it.
    closed_with: Option<Close>,
    /// Whether the actor must log its session in again.
    is_forgotten: bool,
    /// Only set in development: the clock was moved, and whether the client counts as heard meanwhile.
    clock_moved: Option<bool>,
}

/// Who flushes the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flusher {
    /// The queue is empty.
    Idle,
    /// [`flush_all`], soon.
    Corked,
    /// The actor, when the socket is writable.
    Blocked,
}

/// The result of a push to one watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// The status is queued.
    Sent {
        /// Whether the caller must schedule [`flush_all`].
        flush: bool,
    },
    /// The status replaced an unsent older one.
    Conflated,
    /// The connection has seen a newer status, no longer watches the user, or has ended.
    Skipped,
}

/// A signal from a mailbox to its actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// The hub ends the connection.
    End(Close),
    /// The store has lost the connection's session, which must be logged in again.
    Forgotten,
    /// The clock was moved, in development.
    ClockMoved {
        /// Whether the client answers, so that it counts as heard until now.
        is_heard: bool,
    },
    /// The socket is full; frames are queued.
    Blocked,
    /// A part of the queue was written.
    Progressed,
    /// The whole queue was written.
    Flushed,
}

impl Mailbox {
    pub(super) fn new(
        id: ConnectionId,
        writer: WriteHalf,
        now: Timestamp,
        budget: Arc<Budget>,
    ) -> Self {
        let inner = Inner {
            writer: Some(writer),
            queue: SendQueue::default(),
            flusher: Flusher::Idle,
            flushed: 0,
            unfinished: 0,
            held: Share::new(budget),
            watching: Subscriptions::default(),
            closed_with: None,
            is_forgotten: false,
            clock_moved: None,
        };
        Self {
            id,
            heard: AtomicU64::new(now.as_millis()),
            actor: AtomicWaker::new(),
            cut: AtomicBool::new(false),
            user: OnceLock::new(),
            inner: Mutex::new(inner),
        }
    }

    /// The connection's id.
    pub const fn id(&self) -> ConnectionId {
        self.id
    }

    /// Sets the user; called when the login is committed.
    pub fn belongs_to(&self, user: &UserId) {
        // A connection logs in once.
        self.user.set(user.clone()).ok();
    }

    /// Sets what the session's token lets it watch; `None` if the token does not say (P1).
    pub fn may_watch(&self, claim: Option<Arc<Watchable>>) {
        self.subscriptions(|subscriptions| subscriptions.claim = claim);
    }

    /// The user who has logged in.
    pub(super) fn user(&self) -> Option<&UserId> {
        self.user.get()
    }

    /// Whether the user of this connection belongs to an audience.
    pub(super) fn belongs_in(&self, audience: &Audience) -> bool {
        *audience == Audience::Everyone || self.user().is_some_and(|user| audience.has(user))
    }

    /// Notes that the connection was heard. Only the actor calls this.
    pub fn hear(&self, now: Timestamp) {
        self.heard.store(now.as_millis(), Ordering::Relaxed);
    }

    /// When the connection was last heard.
    pub fn heard(&self) -> Timestamp {
        Timestamp::from_millis(self.heard.load(Ordering::Relaxed))
    }

    /// Sends a frame after all frames that were sent before.
    pub fn post(&self, frame: Bytes) {
        let mut inner = self.inner.lock();
        inner.send(frame, &self.actor);
        inner.recount();
    }

    /// Ends the connection: sends the last frame, if any, then Close. Later calls have no effect.
    pub fn end(&self, close: Close, last: Option<Bytes>) {
        let mut inner = self.inner.lock();
        if inner.closed_with.is_some() {
            return;
        }
        if let Some(last) = last {
            inner.send(last, &self.actor);
        }
        inner.send(close_frame(close), &self.actor);
        inner.closed_with = Some(close);
        inner.recount();
        drop(inner);
        self.actor.wake();
    }

    /// Has the actor log its session in again, which the store has lost.
    pub(super) fn forgotten(&self) {
        self.inner.lock().is_forgotten = true;
        self.actor.wake();
    }

    /// Tells the actor that the clock was moved, and whether the client counts as heard meanwhile.
    pub(super) fn clock_moved(&self, is_heard: bool) {
        self.inner.lock().clock_moved = Some(is_heard);
        self.actor.wake();
    }

    /// Whether it takes frames.
    pub(super) fn is_open(&self) -> bool {
        self.inner.lock().closed_with.is_none()
    }

    /// Whether statuses are queued that [`flush_all`] will write.
    pub(super) fn is_corked(&self) -> bool {
        self.inner.lock().flusher == Flusher::Corked
    }

    /// Ends the connection, and drops what it holds: the frames that were not sent yet, and an unfinished
    /// message. Returns whether it was still open.
    pub(super) fn cut_off(&self, close: Close) -> bool {
        let mut inner = self.inner.lock();
        if inner.closed_with.is_some() {
            return false;
        }
        inner.queue.drop_queued();
        inner.unfinished = 0;
        drop(inner);
        self.end(close, None);
        true
    }

    /// The bytes that the connection holds: unsent, or of an unfinished message.
    pub(super) fn held_bytes(&self) -> usize {
        self.inner.lock().held.bytes()
    }

    /// Notes how many bytes of an unfinished message were read.
    pub fn set_unfinished(&self, bytes: usize) {
        let mut inner = self.inner.lock();
        // Once it is closed, nothing more is read for a message.
        inner.unfinished = if inner.closed_with.is_some() { 0 } else { bytes };
        inner.recount();
    }

    /// Makes the hub treat this connection as if its network had failed.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
        let mut inner = self.inner.lock();
        let writer = inner.writer.take();
        inner.writer = writer.map(|writer| WriteHalf::Cut(Box::new(writer)));
        drop(inner);
        self.actor.wake();
    }

    /// Whether [`cut`](Self::cut) was called.
    pub fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    // Watching.

    /// Reads or changes what the connection watches. Pushes of a user are not sent until a snapshot of it is.
    pub(super) fn subscriptions<T>(&self, act: impl FnOnce(&mut Subscriptions) -> T) -> T {
        act(&mut self.inner.lock().watching)
    }

    /// Removes a subscription and its unsent status.
    pub(super) fn unwatch(&self, place: usize) {
        let mut inner = self.inner.lock();
        let watch = inner.watching.remove(place);
        if let Some(queued) = watch.and_then(|watch| watch.queued) {
            inner.queue.take_back(queued);
            inner.recount();
        }
    }

    /// Sends a snapshot of users; returns `false` if it is stale ([`Subscriptions::note_snapshot`]).
    pub(super) fn post_snapshot(
        &self,
        places: &[Option<usize>],
        seen: &[u64],
        versions: &[u64],
        frame: Bytes,
    ) -> bool {
        let mut inner = self.inner.lock();
        if !inner.watching.note_snapshot(places, seen, versions) {
            return false;
        }
        inner.send(frame, &self.actor);
        inner.recount();
        true
    }

    /// Queues a watched user's new status.
    pub(super) fn push(&self, place: usize, version: u64, frame: &Bytes) -> Delivery {
        let mut inner = self.inner.lock();
        let Inner { writer, queue, flusher, watching, closed_with, .. } = &mut *inner;
        let Some(watch) = watching.get_mut(place) else { return Delivery::Skipped };
        if version <= watch.seen || writer.is_none() || closed_with.is_some() {
            return Delivery::Skipped;
        }
        watch.seen = version;
        if !watch.is_snapshot_sent {
            return Delivery::Skipped;
        }
        let is_slow = *flusher == Flusher::Blocked || queue.len() > CORKED_BYTES_MAX;
        let older = watch.queued.filter(|_| is_slow);
        let is_conflated = older.is_some_and(|place| queue.take_back(place));
        watch.queued = Some(queue.push(frame.clone()));
        if is_conflated {
            return Delivery::Conflated;
        }
        let flush = *flusher == Flusher::Idle;
        if flush {
            *flusher = Flusher::Corked;
        } else {
            inner.recount();
        }
        Delivery::Sent { flush }
    }

    // For the actor.

    /// Waits for a signal, and flushes the queue meanwhile. `blocked` says whether the last signal was
    /// `Blocked` or `Progressed`.
    pub fn poll_signal(&self, cx: &mut Context<'_>, blocked: bool) -> Poll<Signal> {
        self.actor.register(cx.waker());
        let mut inner = self.inner.lock();
        if let Some(close) = inner.closed_with {
            return Poll::Ready(Signal::End(close));
        }
        if mem::take(&mut inner.is_forgotten) {
            return Poll::Ready(Signal::Forgotten);
        }
        if let Some(is_heard) = inner.clock_moved.take() {
            return Poll::Ready(Signal::ClockMoved { is_heard });
        }
        let before = inner.flushed;
        let polled = inner.poll_flush(cx);
        inner.recount();
        match polled {
            Poll::Pending if !blocked => Poll::Ready(Signal::Blocked),
            Poll::Pending if inner.flushed > before => Poll::Ready(Signal::Progressed),
            Poll::Ready(()) if blocked => Poll::Ready(Signal::Flushed),
            Poll::Pending | Poll::Ready(()) => Poll::Pending,
        }
    }

    /// The number of unsent bytes.
    pub fn unsent(&self) -> usize {
        self.inner.lock().queue.len()
    }

    /// Flushes the queue, then shuts the writing half.
    pub fn poll_hang_up(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.inner.lock();
        let polled = inner.poll_flush(cx);
        inner.recount();
        ready!(polled);
        if let Some(writer) = &mut inner.writer {
            // An error means that the peer is gone already.
            ready!(writer.poll_shutdown(cx)).ok();
        }
        inner.writer = None;
        Poll::Ready(())
    }
}

impl Inner {
    /// Writes a frame, or queues it after the frames that are queued already.
    fn send(&mut self, frame: Bytes, actor: &AtomicWaker) {
        if self.closed_with.is_some() {
            return;
        }
        let Some(writer) = &mut self.writer else { return };
        if !self.queue.is_empty() {
            self.queue.push(frame);
            return;
        }
        match writer.try_write(&frame) {
            Ok(written) if written == frame.len() => return,
            Ok(written) => self.queue.push_rest(frame.slice(written..)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.queue.push(frame);
            }
            Err(_) => return self.fail(actor),
        }
        self.leave_to_actor(actor);
    }

    /// Writes the corked queue; if the socket is full, the actor writes the rest.
    fn flush(&mut self, actor: &AtomicWaker) {
        if self.flusher != Flusher::Corked {
            return;
        }
        self.flusher = Flusher::Idle;
        let Some(writer) = &mut self.writer else { return };
        while !self.queue.is_empty() {
            match writer.try_write(self.queue.chunk()) {
                Ok(written) => self.queue.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.leave_to_actor(actor);
                }
                Err(_) => return self.fail(actor),
            }
        }
    }

    /// Counts what the connection holds. Bytes that wait for the next flush do not count: that would cost
    /// each delivery, and there are few of them.
    fn recount(&mut self) {
        let is_blocked = self.flusher == Flusher::Blocked;
        let unsent = if is_blocked { self.queue.len() } else { 0 };
        self.held.set(unsent + self.unfinished);
    }

    fn leave_to_actor(&mut self, actor: &AtomicWaker) {
        self.flusher = Flusher::Blocked;
        actor.wake();
    }

    fn fail(&mut self, actor: &AtomicWaker) {
        self.hang_up();
        actor.wake();
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(writer) = &mut self.writer else { return Poll::Ready(()) };
            let chunk = self.queue.chunk();
            if chunk.is_empty() {
                if ready!(writer.poll_flush(cx)).is_err() {
                    self.hang_up();
                }
                self.flusher = Flusher::Idle;
                return Poll::Ready(());
            }
            match ready!(writer.poll_write(cx, chunk)) {
                Ok(written) if written > 0 => {
                    self.queue.advance(written);
                    self.flushed += written as u64;
                }
                Ok(_) | Err(_) => self.hang_up(),
            }
        }
    }

    /// Drops the writer after an error. The reading half detects the end of the connection.
    fn hang_up(&mut self) {
        self.writer = None;
        self.queue.clear();
    }
}

/// Flushes mailboxes after all ready tasks have run, so that statuses of one moment go out in one
/// write. Flushes in batches, so that many watchers do not delay other tasks.
pub(super) async fn flush_all(mailboxes: Vec<Arc<Mailbox>>) {
    let is_short = mailboxes.len() <= FLUSHED_AT_ONCE;
    for some in mailboxes.chunks(FLUSHED_AT_ONCE) {
        if is_short {
            // Polling the sockets for input would cost more than the few writes that it could save.
            pending_once().await;
        } else {
            yield_now().await;
        }
        for mailbox in some {
            let mut inner = mailbox.inner.lock();
            inner.flush(&mailbox.actor);
            inner.recount();
        }
    }
}

/// Lets all ready tasks run once, without polling for I/O.
pub async fn pending_once() {
    let mut is_over = false;
    poll_fn(|cx| {
        if mem::replace(&mut is_over, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
