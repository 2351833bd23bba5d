//! The writing half of a connection, and what waits for it.

use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use slab::Slab;
use tokio::task::yield_now;

use super::registry::WatchedUser;
use super::send_queue::SendQueue;
use super::write_half::WriteHalf;
use crate::presence::{ConnectionId, Timestamp, UserId};
use crate::wire::{Close, close_frame};

/// How many mailboxes are flushed before others have their turn.
const FLUSHED_AT_ONCE: usize = 64;
/// How much waits, at most, for a socket that was not asked yet whether it takes it.
const CORKED_BYTES_MAX: usize = 16 * 1024;

/// What the hub holds of a connection: its writing half, and what waits for it.
///
/// ```text
///           reply ─────────────────────▶ socket
///   statuses ───▶ queue ───▶ flush_all ──▶ │
///                   └──── actor ◀── what it does not take now
/// ```
///
/// A reply goes straight to the socket. Statuses wait until whatever happens with them has its say,
/// so that what comes together goes out in one write; what the socket does not take, the connection's
/// actor flushes. Of each watched user only the latest unsent status waits for a socket that takes
/// nothing (V4), and none is older than what the connection has seen (V3).
pub struct Mailbox {
    id: ConnectionId,
    heard: AtomicU64,
    /// Wakes the actor: there is something to flush, or the connection is to end.
    actor: AtomicWaker,
    /// Set in development alone: the network is cut, and nobody notices.
    cut: AtomicBool,
    /// Whose session lives here; set once.
    user: OnceLock<UserId>,
    inner: Mutex<Inner>,
}

struct Inner {
    /// `None` once the connection is broken.
    writer: Option<WriteHalf>,
    queue: SendQueue,
    flusher: Flusher,
    /// How many bytes the socket has taken from the queue.
    flushed: u64,
    /// Each at a place that its user's watchers know.
    watching: Slab<Subscription>,
    /// Set once: nothing is accepted after it.
    ending: Option<Ending>,
}

/// Who sees to it that what waits goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flusher {
    /// Nobody has to.
    Idle,
    /// [`flush_all`] will try.
    Corked,
    /// The actor, as soon as the socket takes something.
    Blocked,
}

struct Subscription {
    user: Arc<WatchedUser>,
    /// The newest version that the connection has seen, or must at least see.
    seen: u64,
    /// Whether its first snapshot went out; until then pushes only raise what that must show.
    live: bool,
    /// Where its latest status may still wait.
    waiting: Option<u64>,
}

/// How the hub ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// What the peer is told.
    pub close: Close,
}

/// What became of a status on its way to one watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// It waits to be written.
    Sent {
        /// Whether [`flush_all`] must be told.
        flush: bool,
    },
    /// It took the place of an older one that still waited.
    Conflated,
    /// The connection has seen something newer, does not watch any more, or is gone.
    Needless,
}

/// What an actor hears from its mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// The connection is to end.
    End(Ending),
    /// Something waits that the socket does not take.
    Blocked,
    /// The socket has taken some of what waits.
    Progressed,
    /// The socket has taken all that waited.
    Flushed,
}

impl Mailbox {
    pub(super) fn new(id: ConnectionId, writer: WriteHalf, now: Timestamp) -> Self {
        let inner = Inner {
            writer: Some(writer),
            queue: SendQueue::default(),
            flusher: Flusher::Idle,
            flushed: 0,
            watching: Slab::new(),
            ending: None,
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

    /// The connection it belongs to.
    pub const fn id(&self) -> ConnectionId {
        self.id
    }

    /// Notes whose session lives here, as soon as that is committed.
    pub fn belongs_to(&self, user: &UserId) {
        // A connection logs in once.
        self.user.set(user.clone()).ok();
    }

    /// Whose session lives here.
    pub(super) fn user(&self) -> Option<&UserId> {
        self.user.get()
    }

    /// Notes that the connection was heard; only its actor says so.
    pub fn hear(&self, now: Timestamp) {
        self.heard.store(now.as_millis(), Ordering::Relaxed);
    }

    /// When the connection was last heard.
    pub fn heard(&self) -> Timestamp {
        Timestamp::from_millis(self.heard.load(Ordering::Relaxed))
    }

    /// Sends a frame, after all that was sent before.
    pub fn post(&self, frame: Bytes) {
        self.inner.lock().send(frame, &self.actor);
    }

    /// Ends the connection: sends a last frame, if any, then Close. Only the first end counts.
    pub fn end(&self, ending: Ending, last: Option<Bytes>) {
        let mut inner = self.inner.lock();
        if inner.ending.is_some() {
            return;
        }
        if let Some(last) = last {
            inner.send(last, &self.actor);
        }
        inner.send(close_frame(ending.close), &self.actor);
        inner.ending = Some(ending);
        drop(inner);
        self.actor.wake();
    }

    /// Makes the hub ignore this connection as if its network were cut.
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

    /// Starts watching; until a snapshot of the user is sent, pushes are held back.
    pub(super) fn watch(&self, user: Arc<WatchedUser>) -> usize {
        let mut inner = self.inner.lock();
        // Most watch few, and what is kept for more is kept for each connection.
        inner.watching.reserve_exact(1);
        inner.watching.insert(Subscription { user, seen: 0, live: false, waiting: None })
    }

    /// Stops watching: nothing of that user follows.
    pub(super) fn unwatch(&self, place: usize) {
        let mut inner = self.inner.lock();
        let watch = inner.watching.try_remove(place);
        if let Some(waiting) = watch.and_then(|watch| watch.waiting) {
            inner.queue.take_back(waiting);
        }
    }

    /// Whom it watches.
    pub(super) fn watched(&self) -> Vec<Arc<WatchedUser>> {
        let inner = self.inner.lock();
        inner.watching.iter().map(|(_, watch)| Arc::clone(&watch.user)).collect()
    }

    /// How many users it watches.
    pub(super) fn watching(&self) -> usize {
        self.inner.lock().watching.len()
    }

    /// The newest versions seen of the users at these places; 0 where there is none.
    pub(super) fn seen(&self, places: &[Option<usize>]) -> Vec<u64> {
        let inner = self.inner.lock();
        let seen = |place: &Option<usize>| inner.watching.get((*place)?).map(|watch| watch.seen);
        places.iter().map(|place| seen(place).unwrap_or_default()).collect()
    }

    /// Sends a snapshot of users, unless something newer was pushed since `seen` was asked: then it
    /// must be taken again, for a snapshot is never older than what the connection has seen (V3).
    pub(super) fn post_snapshot(
        &self,
        places: &[Option<usize>],
        seen: &[u64],
        versions: &[u64],
        frame: Bytes,
    ) -> bool {
        let mut inner = self.inner.lock();
        let outrun = places.iter().zip(seen).zip(versions).any(|((place, seen), version)| {
            let watch = place.and_then(|place| inner.watching.get(place));
            watch.is_some_and(|watch| watch.seen != *seen && watch.seen > *version)
        });
        if outrun {
            return false;
        }
        for (place, version) in places.iter().zip(versions) {
            if let Some(watch) = place.and_then(|place| inner.watching.get_mut(place)) {
                watch.seen = watch.seen.max(*version);
                watch.live = true;
            }
        }
        inner.send(frame, &self.actor);
        true
    }

    /// Takes in a watched user's new status.
    pub(super) fn push(&self, place: usize, version: u64, frame: &Bytes) -> Delivery {
        let mut inner = self.inner.lock();
        let Inner { writer, queue, flusher, watching, ending, .. } = &mut *inner;
        let Some(watch) = watching.get_mut(place) else { return Delivery::Needless };
        if version <= watch.seen || writer.is_none() || ending.is_some() {
            return Delivery::Needless;
        }
        watch.seen = version;
        if !watch.live {
            return Delivery::Needless;
        }
        let is_slow = *flusher == Flusher::Blocked || queue.len() > CORKED_BYTES_MAX;
        let older = watch.waiting.filter(|_| is_slow);
        let is_conflated = older.is_some_and(|place| queue.take_back(place));
        watch.waiting = Some(queue.push(frame.clone()));
        if is_conflated {
            return Delivery::Conflated;
        }
        let flush = *flusher == Flusher::Idle;
        if flush {
            *flusher = Flusher::Corked;
        }
        Delivery::Sent { flush }
    }

    // For the actor.

    /// Waits for a signal, flushing what waits meanwhile; `blocked` is whether something did when
    /// this was last asked.
    pub fn poll_signal(&self, cx: &mut Context<'_>, blocked: bool) -> Poll<Signal> {
        self.actor.register(cx.waker());
        let mut inner = self.inner.lock();
        if let Some(ending) = inner.ending {
            return Poll::Ready(Signal::End(ending));
        }
        let before = inner.flushed;
        match inner.poll_flush(cx) {
            Poll::Pending if !blocked => Poll::Ready(Signal::Blocked),
            Poll::Pending if inner.flushed > before => Poll::Ready(Signal::Progressed),
            Poll::Ready(()) if blocked => Poll::Ready(Signal::Flushed),
            Poll::Pending | Poll::Ready(()) => Poll::Pending,
        }
    }

    /// How many bytes wait.
    pub fn unsent(&self) -> usize {
        self.inner.lock().queue.len()
    }

    /// Flushes all that waits, then shuts the writing half.
    pub fn poll_hang_up(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.inner.lock();
        ready!(inner.poll_flush(cx));
        if let Some(writer) = &mut inner.writer {
            // The peer may be gone already; there is nobody left to tell.
            ready!(writer.poll_shutdown(cx)).ok();
        }
        inner.writer = None;
        Poll::Ready(())
    }
}

impl Inner {
    /// Sends a frame, after all that waits.
    fn send(&mut self, frame: Bytes, actor: &AtomicWaker) {
        if self.ending.is_some() {
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
            Err(_) => return self.break_off(actor),
        }
        self.leave_to(actor);
    }

    /// Writes what waits, and leaves to the actor what the socket does not take.
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
                    return self.leave_to(actor);
                }
                Err(_) => return self.break_off(actor),
            }
        }
    }

    fn leave_to(&mut self, actor: &AtomicWaker) {
        self.flusher = Flusher::Blocked;
        actor.wake();
    }

    fn break_off(&mut self, actor: &AtomicWaker) {
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

    /// The peer takes nothing any more; that the connection is gone, the reading half will tell.
    fn hang_up(&mut self) {
        self.writer = None;
        self.queue.clear();
    }
}

/// Writes what waits in mailboxes once whatever else happens now has put in what it has for them:
/// what comes together goes out in one write, and none of many watchers holds up anything else.
pub(super) async fn flush_all(mailboxes: Vec<Arc<Mailbox>>) {
    let is_short = mailboxes.len() <= FLUSHED_AT_ONCE;
    for some in mailboxes.chunks(FLUSHED_AT_ONCE) {
        if is_short {
            // To ask the sockets for more costs as much as some of the writes that it may spare.
            pending_once().await;
        } else {
            yield_now().await;
        }
        for mailbox in some {
            mailbox.inner.lock().flush(&mailbox.actor);
        }
    }
}

/// Lets those have their turn who are ready already.
pub async fn pending_once() {
    let mut is_over = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut is_over, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
