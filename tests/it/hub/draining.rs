//! A drain waits for connections and for session ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::frail::Frail;
use crate::lab::{AT_ONCE, Lab, SECOND};

/// How long a drain may take.
const OVER: Duration = Duration::from_secs(20);

#[tokio::test(start_paused = true)]
async fn drain_ends_when_the_last_connection_is_closed() {
    let lab = Lab::new();
    let (mut session, _) = lab.login("ana", "web").await;
    let mut visitor = lab.connect().await;
    let hub = Arc::clone(&lab.hub);
    let drain = tokio::spawn(async move { hub.drain(OVER).await });
    for client in [&mut session, &mut visitor] {
        assert_eq!(client.until_closed().await.1, Some(1001));
    }
    drop(session);
    sleep(SECOND).await;
    assert!(!drain.is_finished(), "one connection is still open");
    drop(visitor);
    timeout(AT_ONCE, drain).await.expect("the drain's end").expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn drain_waits_for_session_ends_that_are_not_committed() {
    let (store, lab) = Frail::lab();
    let (client, _) = lab.login("ana", "web").await;
    store.set_down(true);
    drop(client);
    // Its end is pending, because the store is down.
    sleep(SECOND).await;
    let hub = Arc::clone(&lab.hub);
    let drain = hub.drain(OVER);
    tokio::pin!(drain);
    assert!(timeout(5 * SECOND, drain.as_mut()).await.is_err(), "the drain did not wait");
    store.set_down(false);
    timeout(6 * SECOND, drain).await.expect("the drain's end");
}
