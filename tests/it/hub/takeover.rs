//! Several nodes on one store: when one dies, the others take over its sessions (T11).

use std::sync::Arc;
use std::time::Duration;

use presence_hub::presence::{Cause, NodeId, Record, SignOfLife, Timestamp};
use presence_hub::store::{
    Commit, DEAD_AFTER, Lookout, MemoryStore, Nodes, Records, StoreError, Stored,
};
use serde_json::json;
use tokio::time::timeout;

use super::assert_chained;
use crate::lab::{EPOCH, Lab, SECOND, id, memory_store};
use crate::store_contract::{commit_of, present};

/// How far the clocks of the third node are apart from those of the first.
const SKEW: Duration = Duration::from_secs(180);

/// Three nodes: the clocks of the second are behind, those of the third ahead.
fn nodes() -> (Arc<MemoryStore>, [Lab; 3]) {
    let store = Arc::new(memory_store());
    let node = |now| Lab::node_at(now, Arc::clone(&store) as _, |_| ());
    let nodes = [EPOCH, EPOCH - SKEW, EPOCH + SKEW].map(node);
    (store, nodes)
}

#[tokio::test(start_paused = true)]
async fn t11_sessions_of_a_dead_node_end_with_their_windows_whatever_the_clocks_show() {
    for dead in 0..3 {
        let (_store, nodes) = nodes();
        let (dead, watching) = (&nodes[dead], &nodes[(dead + 1) % 3]);
        let mut watcher = watching.watcher(&["page", "app"]).await;
        let (_page, _) = dead.login("page", "web").await;
        let (_app, _) = dead.login("app", "linux").await;
        for user in ["page", "app"] {
            watcher.state(user, "Online").await;
        }
        dead.stand_still();
        let from = watching.now();
        for (user, window) in [("page", 60 * SECOND), ("app", 400 * SECOND)] {
            let (at, _) = watcher.state(user, "Offline").await;
            let took = at - from;
            // The last sign of life was given at most a second before, and seen at most a second later.
            assert!(took + SECOND >= window && took <= window + 2 * SECOND, "{user}: {took:?}");
            assert_eq!(watching.causes(user).await, [Cause::Login, Cause::NodeLost], "{user}");
        }
        assert_chained(&*watching.store).await;
    }
}

#[tokio::test(start_paused = true)]
async fn t11_session_of_a_dead_node_that_is_resumed_elsewhere_never_left() {
    for at_once in [true, false] {
        let (_store, [dead, other, watching]) = nodes();
        let mut watcher = watching.watcher(&["ana"]).await;
        let (_gone, ok) = dead.login("ana", "web").await;
        watcher.state("ana", "Online").await;
        dead.stand_still();
        // Before the others notice, or after they have taken it over.
        watcher.hears_nothing_for(if at_once { SECOND } else { 30 * SECOND }).await;
        let (client, again) = other.resume("ana", "web", &ok).await;
        assert_eq!((&again["resumed"], &again["session"]), (&json!(true), &ok["session"]));
        let _client = other.listen(client);
        watcher.hears_nothing_for(200 * SECOND).await;
        assert_eq!(other.causes("ana").await, [Cause::Login]);
    }
}

#[tokio::test(start_paused = true)]
async fn t6_t11_background_deadline_of_a_dead_node_is_kept_by_another() {
    let (_store, [other, watching, dead]) = nodes();
    let mut watcher = watching.watcher(&["ana"]).await;
    let (mut ana, _) = dead.login("ana", "miniprogram").await;
    watcher.state("ana", "Online").await;
    ana.ok(json!({ "type": "background" })).await;
    watcher.away("ana", true).await;
    let from = watching.now();
    dead.stand_still();
    let (at, _) = watcher.state("ana", "Offline").await;
    let took = at - from;
    assert!(took + SECOND >= 30 * SECOND && took <= 32 * SECOND, "{took:?}");
    assert_eq!(other.causes("ana").await, [Cause::Login, Cause::Idle, Cause::Background]);
}

#[tokio::test(start_paused = true)]
async fn node_that_stood_still_too_long_is_told_that_it_was_given_up() {
    let (_store, [one, other, still]) = nodes();
    let (mut ana, _) = still.login("ana", "linux").await;
    assert!(still.hub.give_sign_of_life().await.is_ok());
    still.stand_still();
    let mut watcher = one.watcher(&["ana"]).await;
    watcher.hears_nothing_for(10 * SECOND).await;
    // The node wakes. Other nodes have its sessions, and the store refuses its commits.
    assert_eq!(ana.error(json!({ "type": "set", "custom": "late" })).await, "not_logged_in");
    let mut late = still.connect().await;
    assert_eq!(late.error(still.hello("bo", "linux")).await, "unavailable");
    assert!(still.hub.give_sign_of_life().await.is_err());
    timeout(SECOND, still.hub.retired()).await.expect("the node to know");
    assert_eq!(other.record("ana").await.custom, None);
    // It can stop at once: nothing that it has left can be stored.
    drop((ana, late));
    timeout(SECOND, still.hub.drain(60 * SECOND)).await.expect("nothing to wait for");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_accepted_from_a_node_once_another_has_found_it_dead() {
    let store = memory_store();
    let sign = |second: u64| SignOfLife { now: EPOCH + Duration::from_secs(second), ..present() };
    let (alive, dead) = (NodeId(1), NodeId(2));
    store.save_sign_of_life(dead, sign(0), "{}".into()).await.expect("a sign");
    for second in 0..4 {
        assert_eq!(store.save_sign_of_life(alive, sign(second), "{}".into()).await, Ok(Vec::new()));
    }
    let lost = store.save_sign_of_life(alive, sign(4), "{}".into()).await.expect("a sign");
    assert_eq!(lost[0].node, dead);
    // The takeover has not begun. A session that the dead node began now would be missed by it.
    let commit = Commit { node: dead, ..commit_of(Record::default(), Vec::new()) };
    let late = store.commit(&id("ana"), &Stored::default(), commit).await;
    assert_eq!(late, Err(StoreError::Retired));
    assert_eq!(store.save_sign_of_life(dead, sign(5), "{}".into()).await, Err(StoreError::Retired));
    store.retire(dead).await.expect("a retired node");
    assert_eq!(store.save_sign_of_life(alive, sign(6), "{}".into()).await, Ok(Vec::new()));
}

/// A sign of life that is given at this second.
fn sign(second: u64) -> SignOfLife {
    SignOfLife { now: EPOCH + Duration::from_secs(second), ..present() }
}

/// Looks once a second, where `signs` says what is seen; returns when the node was first found dead.
fn found_dead(looks: impl IntoIterator<Item = (Timestamp, SignOfLife)>) -> Option<Timestamp> {
    let mut lookout = Lookout::default();
    looks.into_iter().find_map(|(now, sign)| {
        let lost = lookout.look([(NodeId(2), &sign)], now, now);
        (!lost.is_empty()).then_some(now)
    })
}

#[test]
fn node_is_dead_once_its_sign_has_stood_still_for_long_enough() {
    let at = |second: u64| EPOCH + Duration::from_secs(second);
    let stops_at_10 = (0..60).map(|second| (at(second), sign(second.min(10))));
    assert_eq!(found_dead(stops_at_10), Some(at(10) + DEAD_AFTER));
    let lives = (0..60).map(|second| (at(second), sign(second)));
    assert_eq!(found_dead(lives), None);
    let gives_a_sign_every_third_second = (0..60).map(|second| (at(second), sign(second / 3)));
    assert_eq!(found_dead(gives_a_sign_every_third_second), None);
}

#[test]
fn nobody_is_dead_because_the_observer_or_the_store_stood_still() {
    let at = |second: u64| EPOCH + Duration::from_secs(second);
    // For 20 s there are no looks, as when the store is away, and no node can give a sign.
    let pause = |second: u64| if second < 10 { second } else { second + 20 };
    let all_paused = (0..30).map(|second| (at(pause(second)), sign(second)));
    assert_eq!(found_dead(all_paused), None);
    let dead_meanwhile = (0..30).map(|second| (at(pause(second)), sign(second.min(9))));
    assert_eq!(found_dead(dead_meanwhile), Some(at(pause(10)) + DEAD_AFTER));
}

#[test]
fn dead_node_is_described_on_the_time_of_its_observer() {
    let mut lookout = Lookout::default();
    // The dead node's own time is an hour ahead.
    let theirs = SignOfLife { now: EPOCH + 3600 * SECOND, ..present() };
    let at = |second: u32| EPOCH + second * SECOND;
    for second in 7..11 {
        assert_eq!(lookout.look([(NodeId(2), &theirs)], at(second), at(second)), []);
    }
    let lost = lookout.look([(NodeId(2), &theirs)], at(11), at(11));
    let [lost] = &lost[..] else { panic!("{lost:?}") };
    assert_eq!((lost.node, lost.last, lost.at), (NodeId(2), theirs.now, at(7)));
    assert_eq!(lookout.look([], at(12), at(12)), [], "it was retired");
}

#[test]
fn t11_slow_answer_of_the_store_makes_nobody_dead_earlier() {
    let mut lookout = Lookout::default();
    let at = |millis: u64| EPOCH + Duration::from_millis(millis);
    let sign = sign(0);
    // The sign may have been given just before the first answer.
    assert_eq!(lookout.look([(NodeId(2), &sign)], at(0), at(900)), []);
    for second in 1..4 {
        let asked = at(1000 * second);
        assert_eq!(lookout.look([(NodeId(2), &sign)], asked, asked), []);
    }
    // It may have changed just after the question.
    assert_eq!(lookout.look([(NodeId(2), &sign)], at(4000), at(4950)), []);
    let lost = lookout.look([(NodeId(2), &sign)], at(5000), at(5000));
    let [lost] = &lost[..] else { panic!("{lost:?}") };
    assert_eq!(lost.at, at(900));
}
