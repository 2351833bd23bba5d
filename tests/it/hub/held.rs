//! Sessions of an earlier run are held until their own deadlines.

use std::sync::Arc;
use std::time::Duration;

use presence_hub::clock::Clock;
use presence_hub::hub::Hub;
use presence_hub::presence::{
    Cause, EventKind, Kicker, NodeId, Platform, Stall, Target, Timestamp,
};
use tokio::time::advance;

use super::frail::{Fault, Frail};
use super::{assert_chained, login_at};
use crate::lab::{EPOCH, Lab, Listener, SECOND, assert_kept, defaults, id};
use crate::store_contract::present;

/// The node id of the earlier run.
pub(super) const BEFORE: NodeId = NodeId(77);

/// A store with users who were logged in on a run that gave its last sign of life at the epoch.
pub(super) async fn left_by_an_earlier_run(users: &[(&str, Platform)]) -> Arc<Frail> {
    let store = Frail::new();
    let earlier = hub_without_time(&store);
    for (serial, (user, platform)) in (0..).zip(users) {
        let (_, event) = login_at(&earlier, BEFORE, *platform, platform.name(), serial);
        earlier.apply(&id(user), event).await.expect("a login");
    }
    store.lost.lock().push((BEFORE, present()));
    store
}

/// A hub whose tasks do not run, like a dead one.
fn hub_without_time(store: &Arc<Frail>) -> Arc<Hub> {
    let policy = defaults().policy().expect("a policy");
    Hub::new(Arc::clone(store) as _, policy, Clock::simulated(EPOCH))
}

async fn offline(watcher: &mut Listener, user: &str) -> Timestamp {
    watcher.state(user, "Offline").await.0
}

#[tokio::test(start_paused = true)]
async fn t12_stall_extends_sessions_held_after_a_restart() {
    for (platform, window) in [(Platform::Web, 60 * SECOND), (Platform::Linux, 400 * SECOND)] {
        let store = left_by_an_earlier_run(&[("ana", platform)]).await;
        let lab = Frail::restart(&store);
        let mut watcher = lab.watcher(&["ana"]).await;
        watcher.hears_nothing_for(20 * SECOND).await;
        // A stall longer than the rest of the window.
        advance(window).await;
        watcher.hears_nothing_for(window - 21 * SECOND).await;
        let at = offline(&mut watcher, "ana").await;
        let running = at - EPOCH - window;
        assert!(running >= window, "ended after {running:?} of running time");
        assert!(running <= window + SECOND, "ended after {running:?} of running time");
        assert_eq!(lab.causes("ana").await, [Cause::Login, Cause::NodeLost]);
    }
}

#[tokio::test(start_paused = true)]
async fn t12_stall_extends_held_sessions_despite_store_failures() {
    let store = left_by_an_earlier_run(&[("ana", Platform::Web)]).await;
    let lab = Frail::restart(&store);
    let mut watcher = lab.watcher(&["ana"]).await;
    watcher.hears_nothing_for(50 * SECOND).await;
    store.set_down(true);
    advance(30 * SECOND).await;
    watcher.hears_nothing_for(5 * SECOND).await;
    store.set_down(false);
    // The first attempts fail, too.
    store.fail([Fault::Unavailable; 4]);
    watcher.hears_nothing_for(4 * SECOND).await;
    let at = offline(&mut watcher, "ana").await;
    let running = at - EPOCH - 30 * SECOND;
    assert!(running >= 60 * SECOND, "ended after {running:?} of running time");
    assert!(running <= 61 * SECOND, "ended after {running:?} of running time");
}

#[tokio::test(start_paused = true)]
async fn t12_each_of_many_stalls_extends_a_held_session() {
    let store = left_by_an_earlier_run(&[("ana", Platform::Web)]).await;
    let lab = Frail::restart(&store);
    let mut watcher = lab.watcher(&["ana"]).await;
    for _ in 0..5 {
        watcher.hears_nothing_for(10 * SECOND).await;
        advance(50 * SECOND).await;
    }
    watcher.hears_nothing_for(8 * SECOND).await;
    let at = offline(&mut watcher, "ana").await;
    let running = at - EPOCH - 250 * SECOND;
    assert!(running >= 60 * SECOND && running <= 61 * SECOND, "{running:?} of running time");
}

#[tokio::test(start_paused = true)]
async fn t11_t12_stall_of_the_previous_run_extends_a_session_that_it_held() {
    let store = left_by_an_earlier_run(&[("ana", Platform::Web)]).await;
    let (since, stall) = (EPOCH + 10 * SECOND, 30 * SECOND);
    // The run that stalled held the session already.
    let between = hub_without_time(&store);
    let (node, successor) = (BEFORE, between.node());
    let lost =
        EventKind::NodeLost { node, successor, last: EPOCH, at: EPOCH, stalls: Arc::default() };
    between.apply(&id("ana"), lost).await.expect("a session that is held");
    let mut sign = present();
    sign.stalls = [Stall { from: since, until: since + stall }].into();
    sign.now = EPOCH + 50 * SECOND;
    *store.lost.lock() = vec![(successor, sign)];
    let lab = Frail::restart(&store);
    let mut watcher = lab.watcher(&["ana"]).await;
    let from = lab.now();
    let at = offline(&mut watcher, "ana").await;
    // The window ended at 60 s, the stall extended it to 90 s, and 50 s have passed.
    assert_kept(40 * SECOND, at - from, "the rest of the window");
}

#[tokio::test(start_paused = true)]
async fn t11_failed_takeover_of_one_user_does_not_delay_others() {
    let users = [("ana", Platform::Web), ("bo", Platform::Web)];
    let store = left_by_an_earlier_run(&users).await;
    store.refused.lock().insert(id("ana"));
    let lab = Frail::restart(&store);
    let mut watcher = lab.watcher(&["ana", "bo"]).await;
    let mut page = lab.watcher_named("second", &["cy"]).await;
    let (cy, _) = lab.login("cy", "web").await;
    page.state("cy", "Online").await;
    let from = lab.now();
    drop(cy);
    let (at, _) = page.state("cy", "Offline").await;
    assert_kept(SECOND, at - from, "the grace of a page");
    store.refused.lock().clear();
    let mut ended = Vec::new();
    for _ in 0..2 {
        let (at, status) = watcher.message().await;
        assert_kept(Duration::from_secs(60), at - EPOCH, "a held session");
        ended.push(status["user"].to_string());
    }
    ended.sort_unstable();
    assert_eq!(ended, ["\"ana\"", "\"bo\""]);
    assert_chained(&*lab.store).await;
}

#[tokio::test(start_paused = true)]
async fn deadlines_run_while_takeovers_are_pending() {
    let store = left_by_an_earlier_run(&[("ana", Platform::Web)]).await;
    store.damaged.lock().insert(id("ana"));
    let lab: Lab = Frail::restart(&store);
    let mut watcher = lab.watcher(&["bo"]).await;
    let (bo, _) = lab.login("bo", "web").await;
    watcher.state("bo", "Online").await;
    let from = lab.now();
    drop(bo);
    let (at, _) = watcher.state("bo", "Offline").await;
    assert_kept(SECOND, at - from, "the grace of a page");
}

#[tokio::test(start_paused = true)]
async fn t11_failed_takeover_from_one_dead_node_does_not_delay_another() {
    let store = left_by_an_earlier_run(&[("bo", Platform::Web)]).await;
    let (first, earlier) = (NodeId(78), hub_without_time(&store));
    let (_, event) = login_at(&earlier, first, Platform::Web, "web", 9);
    earlier.apply(&id("ana"), event).await.expect("a login");
    store.lost.lock().insert(0, (first, present()));
    store.refused.lock().insert(id("ana"));
    let lab: Lab = Frail::restart(&store);
    let mut watcher = lab.watcher(&["bo"]).await;
    let at = offline(&mut watcher, "bo").await;
    assert_kept(60 * SECOND, at - EPOCH, "a held session");
}

#[tokio::test(start_paused = true)]
async fn session_of_a_dead_node_that_is_kicked_first_was_last_seen_before_the_death() {
    let store = left_by_an_earlier_run(&[("ana", Platform::Web)]).await;
    advance(6 * 3600 * SECOND).await;
    let hub = hub_without_time(&store);
    hub.give_sign_of_life().await.expect("a sign of life");
    let target = Target::default();
    let kick = EventKind::Kick { target, by: Kicker::Admin { message: None } };
    let kicked = hub.apply(&id("ana"), kick).await.expect("a kick");
    assert_eq!(kicked.record.last_seen, Some(EPOCH), "not the time of the kick");
}
