//! Delivery of statuses to sockets: batching, conflation, fairness.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::join_all;
use parking_lot::Mutex;
use presence_hub::hub::{Connection, TryWrite, WriteHalf};
use presence_hub::presence::{EventKind, Platform, Status, UserId};
use tokio::io::AsyncWrite;
use tokio::task::yield_now;

use super::login;
use crate::lab::{Lab, id};

/// A socket that records each write, unless it is full.
#[derive(Clone, Default)]
struct Writes(Arc<Mutex<(Vec<Vec<u8>>, bool)>>);

impl Writes {
    fn set_full(&self, is_full: bool) {
        self.0.lock().1 = is_full;
    }

    /// The writes since the last call.
    fn take(&self) -> Vec<String> {
        let writes = std::mem::take(&mut self.0.lock().0);
        writes.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }
}

impl TryWrite for Writes {
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock();
        if state.1 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.0.push(bytes.to_vec());
        Ok(bytes.len())
    }
}

impl AsyncWrite for Writes {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.try_write(bytes).map_or(Poll::Pending, |written| Poll::Ready(Ok(written)))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A watcher without an actor, after its snapshot was sent.
async fn watcher(lab: &Lab, users: &[UserId]) -> (Connection, Writes) {
    let writes = Writes::default();
    let connection = lab.hub.connect(WriteHalf::Other(Box::new(writes.clone())));
    connection.watch(users);
    let sent = connection.send_snapshot(users, |_| Bytes::from_static(b"snapshot")).await;
    sent.expect("a snapshot");
    assert_eq!(writes.take(), ["snapshot"], "a reply is written at once");
    (connection, writes)
}

async fn log_in(lab: &Lab, user: &UserId, serial: u64) {
    let (_, event) = login(&lab.hub, Platform::Android, "phone", serial);
    lab.hub.apply(user, event).await.expect("a login");
}

async fn set(lab: &Lab, user: &UserId, custom: usize) {
    let event = EventKind::Set {
        origin: None,
        custom: Some(Some(custom.to_string().into())),
        hidden: None,
    };
    lab.hub.apply(user, event).await.expect("a change");
}

/// How often each user occurs, in the order of the users.
fn named(writes: &[String], users: &[UserId]) -> Vec<usize> {
    let named = |user: &UserId| format!("\"user\":\"{user}\"");
    users.iter().map(|user| writes.concat().matches(&named(user)).count()).collect()
}

async fn settle() {
    for _ in 0..100 {
        yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn simultaneous_changes_go_out_in_one_write() {
    let lab = Lab::new();
    let users: Vec<_> = (0..20).map(|serial| id(&format!("user-{serial:02}"))).collect();
    let (_watcher, writes) = watcher(&lab, &users).await;
    let logins = users.iter().zip(100..).map(|(user, serial)| log_in(&lab, user, serial));
    join_all(logins).await;
    settle().await;
    let written = writes.take();
    assert_eq!((written.len(), named(&written, &users)), (1, vec![1; 20]));
}

#[tokio::test(start_paused = true)]
async fn writable_socket_gets_every_status() {
    let lab = Lab::new();
    let users = [id("ana")];
    log_in(&lab, &users[0], 100).await;
    let (_watcher, writes) = watcher(&lab, &users).await;
    for custom in 0..7 {
        set(&lab, &users[0], custom).await;
    }
    settle().await;
    assert_eq!(named(&writes.take(), &users), [7]);
    assert_eq!(lab.hub.metrics().counts().conflated, 0);
}

#[tokio::test(start_paused = true)]
async fn v4_full_socket_queues_only_the_latest_status_of_each_user() {
    let lab = Lab::new();
    let users = [id("ana"), id("bea")];
    for (user, serial) in users.iter().zip(100..) {
        log_in(&lab, user, serial).await;
    }
    let (connection, writes) = watcher(&lab, &users).await;
    writes.set_full(true);
    for custom in 0..1000 {
        set(&lab, &users[custom % 2], custom).await;
        settle().await;
    }
    let unsent = connection.mailbox().unsent();
    assert!(unsent < 2000, "{unsent} bytes are unsent");
    writes.set_full(false);
    let flush = std::future::poll_fn(|cx| connection.mailbox().poll_hang_up(cx));
    flush.await;
    let written = writes.take();
    let latest = |custom| written.concat().contains(&format!("\"custom\":\"{custom}\""));
    assert!(latest(998) && latest(999), "{written:?}");
    assert!(named(&written, &users).iter().all(|times| *times <= 2), "{written:?}");
}

#[tokio::test(start_paused = true)]
async fn v3_sent_status_is_never_older_than_a_seen_one() {
    let lab = Lab::new();
    let users = [id("ana")];
    log_in(&lab, &users[0], 100).await;
    let (connection, writes) = watcher(&lab, &users).await;
    let old = lab.status(users[0].as_str()).await;
    let frame = |status: &Status| Bytes::from(format!("{:?}", status.custom));
    connection.send_status(&users[0], &old, frame).await.expect("a status");
    assert_eq!(writes.take(), ["None"]);
    set(&lab, &users[0], 1).await;
    settle().await;
    writes.take();
    connection.send_status(&users[0], &old, frame).await.expect("a status");
    assert_eq!(writes.take(), ["Some(\"1\")"]);
}

#[tokio::test(start_paused = true)]
async fn many_watchers_do_not_delay_other_tasks() {
    let lab = Lab::new();
    let users = [id("ana")];
    let mut watchers = Vec::new();
    for _ in 0..1000 {
        watchers.push(watcher(&lab, &users).await);
    }
    log_in(&lab, &users[0], 100).await;
    let told = |watchers: &[(Connection, Writes)]| {
        watchers.iter().filter(|(_, writes)| !writes.0.lock().0.is_empty()).count()
    };
    yield_now().await;
    yield_now().await;
    let at_once = told(&watchers);
    assert!(at_once < 200, "{at_once} watchers were served before other tasks ran");
    settle().await;
    assert_eq!(told(&watchers), 1000);
    assert_eq!(lab.hub.metrics().counts().deliveries, 1000);
}
