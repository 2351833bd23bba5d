//! What a node does after a store has lost commits that it had answered.

use std::sync::Arc;
use std::time::Duration;

use presence_hub::presence::{
    BlockedChange, Cause, EventKind, Record, State, VisibilityChange, WatchListChange,
};
use presence_hub::store::{Commit, Records, Stored, WatchLists};
use serde_json::json;
use tokio::time::sleep;

use super::frail::Frail;
use super::overflow;
use crate::lab::{Lab, Listener, SECOND, id};
use crate::store_contract::commit_of;

/// Two nodes on a store that can lose commits.
struct Forgetful {
    store: Arc<Frail>,
    one: Lab,
    other: Lab,
}

impl Forgetful {
    fn new() -> Self {
        let store = Frail::that_may_lose_commits();
        let (one, other) = (Frail::restart(&store), Frail::restart(&store));
        Self { store, one, other }
    }

    async fn stored(&self, user: &str) -> Stored {
        self.store.load(&id(user)).await.expect("a record")
    }

    /// Puts an earlier record in place of the present one, as a fail-over does.
    async fn roll_back(&self, user: &str, earlier: &Stored) {
        self.put(user, (*earlier.record).clone()).await;
    }

    async fn put(&self, user: &str, record: Record) {
        let base = self.stored(user).await;
        let wall_deadline = record.wall_deadline(&self.one.hub.policy());
        let commit = Commit { wall_deadline, ..commit_of(record, Vec::new()) };
        self.store.inner.commit(&id(user), &base, commit).await.expect("a commit");
    }

    /// Has both nodes compare what they know with the store.
    async fn miss_messages(&self) {
        overflow(&self.store.inner);
        sleep(3 * SECOND).await;
    }
}

/// Sets a custom status.
async fn set(client: &mut Listener, custom: &str) {
    client.send(json!({ "type": "set", "custom": custom })).await;
    let (_, reply) = client.message().await;
    assert_eq!(reply["type"], json!("reply"), "{reply}");
}

#[tokio::test(start_paused = true)]
async fn what_a_node_committed_last_is_restored_with_a_greater_version() {
    let hubs = Forgetful::new();
    let mut watcher = hubs.other.watcher(&["ana"]).await;
    let mut ana = hubs.one.listener("ana", "linux").await;
    watcher.state("ana", "Online").await;
    let earlier = hubs.stored("ana").await;
    set(&mut ana, "busy").await;
    let (_, seen) = watcher.state("ana", "Online").await;

    hubs.roll_back("ana", &earlier).await;
    hubs.miss_messages().await;
    let (_, status) = watcher.state("ana", "Online").await;
    assert_eq!(status["custom"], json!("busy"));
    assert!(status["version"].as_u64() > seen["version"].as_u64(), "{status} after {seen}");
    assert_eq!(hubs.one.causes("ana").await.last(), Some(&Cause::Recovered));
    assert_eq!(hubs.one.status("ana").await.custom.as_deref(), Some("busy"));
    watcher.hears_nothing_for(10 * SECOND).await;
    set(&mut ana, "still here").await;
}

#[tokio::test(start_paused = true)]
async fn what_a_node_committed_last_is_restored_even_if_it_reaches_the_store_later_than_others() {
    let hubs = Forgetful::new();
    let mut watcher = hubs.other.watcher(&["ana"]).await;
    let mut ana = hubs.one.listener("ana", "android").await;
    watcher.state("ana", "Online").await;
    let earlier = hubs.stored("ana").await;
    set(&mut ana, "busy").await;
    watcher.state("ana", "Online").await;
    drop(ana);
    let (_, seen) = watcher.state("ana", "PushOnline").await;

    hubs.roll_back("ana", &earlier).await;
    hubs.store.cut_off.lock().insert(hubs.one.hub.node());
    hubs.miss_messages().await;
    assert_eq!(hubs.one.status("ana").await.custom, None, "the other node waits for the first");
    hubs.store.cut_off.lock().clear();
    sleep(10 * SECOND).await;
    let status = hubs.one.status("ana").await;
    assert_eq!((status.state, status.custom.as_deref()), (State::PushOnline, Some("busy")));
    let (_, again) = watcher.state("ana", "PushOnline").await;
    assert!(again["version"].as_u64() > seen["version"].as_u64(), "{again} after {seen}");
    watcher.hears_nothing_for(10 * SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn next_event_of_a_user_comes_after_what_was_lost() {
    let hubs = Forgetful::new();
    let mut ana = hubs.one.listener("ana", "linux").await;
    let earlier = hubs.stored("ana").await;
    set(&mut ana, "busy").await;
    hubs.roll_back("ana", &earlier).await;
    let (_again, _) = hubs.one.login("ana", "linux").await;
    assert_eq!(hubs.one.status("ana").await.custom.as_deref(), Some("busy"));
    let causes = [Cause::Login, Cause::Custom, Cause::Recovered, Cause::Login];
    assert_eq!(hubs.one.causes("ana").await, causes);
}

#[tokio::test(start_paused = true)]
async fn event_at_a_node_that_only_heard_of_a_lost_commit_keeps_its_custom_status() {
    let hubs = Forgetful::new();
    let mut ana = hubs.one.listener("ana", "linux").await;
    let earlier = hubs.stored("ana").await;
    set(&mut ana, "busy").await;
    hubs.roll_back("ana", &earlier).await;
    // Before the node that made the commit can restore it.
    let hide = VisibilityChange { hidden: Some(true), blocked: None };
    let hide = EventKind::Visibility { origin: None, change: hide };
    hubs.other.hub.apply(&id("ana"), hide).await.expect("a change");
    assert_eq!(hubs.one.status("ana").await.custom.as_deref(), Some("busy"));
    hubs.miss_messages().await;
    assert_eq!(hubs.one.status("ana").await.custom.as_deref(), Some("busy"));
    set(&mut ana, "still here").await;
}

#[tokio::test(start_paused = true)]
async fn watchers_are_told_what_a_lost_commit_leaves_also_if_it_looks_like_what_was_stored() {
    let hubs = Forgetful::new();
    let mut watcher = hubs.other.watcher(&["ana"]).await;
    let (_desk, _) = hubs.one.login("ana", "linux").await;
    watcher.state("ana", "Online").await;
    let earlier = hubs.stored("ana").await;
    let (_phone, _) = hubs.one.login("ana", "ios").await;
    let (seen_at, seen) = watcher.state("ana", "Online").await;
    assert_eq!(seen["platforms"], json!(["ios"]), "the phone has kicked it");

    hubs.roll_back("ana", &earlier).await;
    // This changes nothing. But the node has heard of a later version, so it raises the version of the record.
    let set = EventKind::Set { origin: None, custom: Some(None), hidden: None };
    hubs.other.hub.apply(&id("ana"), set).await.expect("a change");
    let (told_at, status) = watcher.state("ana", "Online").await;
    assert_eq!(status["platforms"], json!(["linux"]));
    assert_eq!(told_at, seen_at, "not only when the nodes compare what they know");
    assert!(status["version"].as_u64() > seen["version"].as_u64(), "{status} after {seen}");
}

#[tokio::test(start_paused = true)]
async fn p2_p3_who_may_not_see_a_user_outlives_a_store_that_was_emptied() {
    let hubs = Forgetful::new();
    let mut ana = hubs.one.listener("ana", "linux").await;
    let mut watcher = hubs.other.watcher(&["ana"]).await;
    let hide = |hidden, viewer: &str| EventKind::Visibility {
        origin: None,
        change: VisibilityChange {
            hidden: Some(hidden),
            blocked: Some(BlockedChange::Replace(vec![id(viewer)])),
        },
    };
    // At the node of the session, then at another one; long before the store is emptied.
    for (lab, viewer) in [(&hubs.one, "bo"), (&hubs.other, "cem")] {
        lab.hub.apply(&id("ana"), hide(true, viewer)).await.expect("a change");
        sleep(60 * SECOND).await;
        let before = hubs.one.record("ana").await.visibility_view();
        hubs.put("ana", Record::default()).await;
        hubs.miss_messages().await;
        assert_eq!(hubs.one.record("ana").await.visibility_view(), before);
        assert_eq!(before.blocked, [id(viewer)]);
        set(&mut ana, viewer).await;
    }
    watcher.state("ana", "Offline").await;
    watcher.hears_nothing_for(10 * SECOND).await;
    // What was taken back stays so.
    let see = EventKind::Visibility {
        origin: None,
        change: VisibilityChange {
            hidden: Some(false),
            blocked: Some(BlockedChange::Replace(Vec::new())),
        },
    };
    hubs.other.hub.apply(&id("ana"), see).await.expect("a change");
    sleep(60 * SECOND).await;
    hubs.put("ana", Record::default()).await;
    hubs.miss_messages().await;
    assert_eq!(hubs.one.record("ana").await.visibility, None);
}

#[tokio::test(start_paused = true)]
async fn p7_watch_list_that_the_store_has_lost_covers_nobody_any_more() {
    let hubs = Forgetful::new();
    let change = WatchListChange::Replace(vec![id("ana")]);
    hubs.one.hub.change_watch_list(&id("vic"), change, 9).await.expect("a list");
    let (_ana, _) = hubs.other.login("ana", "linux").await;
    let mut vic = hubs.one.listener("vic", "web").await;
    vic.send(json!({ "type": "subscribe", "watch_list": true })).await;
    assert_eq!(vic.message().await.1["type"], json!("reply"));
    sleep(60 * SECOND).await;
    hubs.put("vic", Record::default()).await;
    let nobody = WatchListChange::Replace(Vec::new());
    let lists = &hubs.store.inner;
    lists.change_watch_list(hubs.other.hub.node(), &id("vic"), nobody, 9).await.expect("a list");
    hubs.miss_messages().await;
    let (_, removed) = vic.message().await;
    assert_eq!((&removed["type"], &removed["removed"]), (&json!("watch_list"), &json!(["ana"])));
    let (_, unwatched) = vic.message().await;
    assert_eq!((&unwatched["type"], &unwatched["users"]), (&json!("unwatched"), &json!(["ana"])));
    set(&mut vic, "still here").await;
}

#[tokio::test(start_paused = true)]
async fn version_that_a_node_only_heard_of_is_never_undercut() {
    let hubs = Forgetful::new();
    let mut watcher = hubs.other.watcher(&["ana"]).await;
    let (ana, _) = hubs.one.login("ana", "android").await;
    watcher.state("ana", "Online").await;
    drop(ana);
    let (_, seen) = watcher.state("ana", "PushOnline").await;
    // Long after both nodes remembered it: only the watcher has seen it.
    sleep(60 * SECOND).await;
    hubs.put("ana", Record::default()).await;
    hubs.miss_messages().await;
    // No node has the record. They wait for the one that might.
    sleep(3 * SECOND).await;
    let (_, status) = watcher.state("ana", "Offline").await;
    assert!(status["version"].as_u64() > seen["version"].as_u64(), "{status} after {seen}");
    assert_eq!(hubs.one.state("ana").await, State::Offline);
}

#[tokio::test(start_paused = true)]
async fn session_that_the_store_lost_is_logged_in_again_on_its_connection() {
    let hubs = Forgetful::new();
    let mut watcher = hubs.other.watcher(&["ana"]).await;
    let mut hello = hubs.one.hello("ana", "ios");
    hello["app"] = json!("shop 1.2");
    let mut ana = hubs.one.connect().await;
    let ok = ana.ok(hello).await;
    let (_, seen) = watcher.state("ana", "Online").await;
    let mut ana = hubs.one.listen(ana);
    sleep(60 * SECOND).await;
    hubs.put("ana", Record::default()).await;
    hubs.miss_messages().await;
    let (_, status) = watcher.state("ana", "Online").await;
    assert!(status["version"].as_u64() > seen["version"].as_u64(), "{status} after {seen}");
    let terminal = hubs.one.record("ana").await.terminals[0].clone();
    assert_eq!(json!(terminal.session), ok["session"]);
    assert_eq!(terminal.app.as_deref(), Some("shop 1.2"));
    set(&mut ana, "here").await;
    watcher.state("ana", "Online").await;
    drop(ana);
    watcher.state("ana", "PushOnline").await;
}

#[tokio::test(start_paused = true)]
async fn login_that_the_store_lost_while_its_answer_was_under_way_is_repeated() {
    let hubs = Forgetful::new();
    let delayed = hubs.store.answers.write().await;
    let fails_over = async {
        sleep(SECOND / 2).await;
        assert_eq!(hubs.one.state("ana").await, State::Online, "the login is written");
        hubs.put("ana", Record::default()).await;
        hubs.miss_messages().await;
        drop(delayed);
    };
    let ((ana, ok), ()) = futures::join!(hubs.one.login("ana", "linux"), fails_over);
    sleep(3 * SECOND).await;
    let terminal = hubs.one.record("ana").await.terminals[0].clone();
    assert_eq!(json!(terminal.session), ok["session"]);
    drop(ana);
}

#[tokio::test(start_paused = true)]
async fn a3_session_that_the_store_lost_is_as_idle_or_active_as_it_was() {
    for is_idle in [true, false] {
        let hubs = Forgetful::new();
        let mut watcher = hubs.other.watcher(&["ana"]).await;
        let mut ana = hubs.one.listener("ana", "web").await;
        watcher.state("ana", "Online").await;
        let say = async |ana: &mut Listener, word: &str| {
            ana.send(json!({ "type": word, "for_ms": 300_000 })).await;
            assert_eq!(ana.message().await.1["ok"], json!({}));
        };
        say(&mut ana, "idle").await;
        watcher.state("ana", "Online").await;
        if !is_idle {
            say(&mut ana, "active").await;
            watcher.state("ana", "Online").await;
        }
        sleep(60 * SECOND).await;
        hubs.put("ana", Record::default()).await;
        hubs.miss_messages().await;
        let (_, status) = watcher.state("ana", "Online").await;
        assert_eq!(status["away"], json!(is_idle), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn session_that_has_moved_to_another_node_is_not_taken_back() {
    let hubs = Forgetful::new();
    let (old, ok) = hubs.one.login("ana", "linux").await;
    let mut old = hubs.one.listen(old);
    hubs.store.set_silent(true);
    let (new, _) = hubs.other.resume("ana", "linux", &ok).await;
    let mut new = hubs.other.listen(new);
    // Until the record no longer holds the event that moved the session.
    for custom in 0..10 {
        set(&mut new, &custom.to_string()).await;
    }
    hubs.miss_messages().await;
    assert_eq!(old.close().await.1, 4007);
    set(&mut new, "still here").await;
}

#[tokio::test(start_paused = true)]
async fn lost_change_that_is_not_logged_is_restored() {
    for is_hidden in [true, false] {
        let hubs = Forgetful::new();
        // Of a page this is no event (A4).
        let mut ana = hubs.one.listener("ana", "web").await;
        let ask = async |ana: &mut Listener, kind: &str| {
            ana.send(json!({ "type": kind })).await;
            assert_eq!(ana.message().await.1["type"], json!("reply"));
        };
        ask(&mut ana, "background").await;
        ask(&mut ana, "foreground").await;
        let shown = hubs.stored("ana").await;
        ask(&mut ana, "background").await;
        let hidden = hubs.stored("ana").await;
        let earlier = if is_hidden {
            shown
        } else {
            ask(&mut ana, "foreground").await;
            hidden
        };
        hubs.roll_back("ana", &earlier).await;
        hubs.miss_messages().await;
        let terminal = hubs.one.record("ana").await.terminals[0].clone();
        assert_eq!(terminal.background.is_some(), is_hidden);
        assert_eq!(hubs.one.causes("ana").await, [Cause::Login, Cause::Recovered]);
    }
}

#[tokio::test(start_paused = true)]
async fn connection_of_a_resume_that_the_store_lost_stays() {
    // As long as its node remembers the commit, and long after.
    for after in [Duration::ZERO, 60 * SECOND] {
        let hubs = Forgetful::new();
        let (_old, ok) = hubs.one.login("ana", "linux").await;
        let earlier = hubs.stored("ana").await;
        let (new, _) = hubs.other.resume("ana", "linux", &ok).await;
        let mut new = hubs.other.listen(new);
        sleep(after).await;
        hubs.roll_back("ana", &earlier).await;
        hubs.miss_messages().await;
        set(&mut new, "still here").await;
        let terminal = hubs.one.record("ana").await.terminals[0].clone();
        assert_eq!(json!(terminal.session), ok["session"]);
        assert_eq!(terminal.connection.node, hubs.other.hub.node());
    }
}

#[tokio::test(start_paused = true)]
async fn resume_that_the_store_lost_is_repeated_if_the_user_has_changed_since() {
    let hubs = Forgetful::new();
    let (_old, ok) = hubs.one.login("ana", "linux").await;
    let earlier = hubs.stored("ana").await;
    let (new, _) = hubs.other.resume("ana", "linux", &ok).await;
    let mut new = hubs.other.listen(new);
    hubs.roll_back("ana", &earlier).await;
    let set_by_back_end =
        EventKind::Set { origin: None, custom: Some(Some("busy".into())), hidden: None };
    hubs.one.hub.apply(&id("ana"), set_by_back_end).await.expect("a change");
    hubs.miss_messages().await;
    set(&mut new, "still here").await;
    let terminal = hubs.one.record("ana").await.terminals[0].clone();
    assert_eq!(json!(terminal.session), ok["session"]);
    assert_eq!(terminal.connection.node, hubs.other.hub.node());
}

#[tokio::test(start_paused = true)]
async fn t11_takeover_that_the_store_lost_is_repeated_while_a_node_may_remember_what_was_before() {
    let hubs = Forgetful::new();
    let dead = Frail::restart(&hubs.store);
    let (_ana, _) = dead.login("ana", "web").await;
    let earlier = hubs.stored("ana").await;
    dead.stand_still();
    sleep(27 * SECOND).await;
    hubs.roll_back("ana", &earlier).await;
    sleep(40 * SECOND).await;
    assert_eq!(hubs.one.state("ana").await, State::Offline);
    assert_eq!(hubs.one.causes("ana").await.last(), Some(&Cause::NodeLost));
}

#[tokio::test(start_paused = true)]
async fn session_without_a_connection_on_its_node_is_ended() {
    let hubs = Forgetful::new();
    let (ana, _) = hubs.one.login("ana", "linux").await;
    let earlier = hubs.stored("ana").await;
    drop(ana);
    sleep(60 * SECOND).await;
    assert_eq!(hubs.one.state("ana").await, State::Offline);
    hubs.roll_back("ana", &earlier).await;
    assert_eq!(hubs.one.state("ana").await, State::Online, "a ghost");
    hubs.miss_messages().await;
    assert_eq!(hubs.one.state("ana").await, State::Offline);
    assert_eq!(hubs.one.causes("ana").await.last(), Some(&Cause::Close));
}

#[tokio::test(start_paused = true)]
async fn store_that_keeps_everything_is_not_second_guessed() {
    let store = Frail::new();
    let lab = Frail::restart(&store);
    let (_, event) = super::login(&lab.hub, presence_hub::presence::Platform::Mac, "mac", 1 << 40);
    lab.hub.apply(&id("ana"), event).await.expect("a login");
    let set = EventKind::Set { origin: None, custom: Some(Some("busy".into())), hidden: None };
    lab.hub.apply(&id("ana"), set).await.expect("a change");
    sleep(60 * SECOND).await;
    assert_eq!(lab.causes("ana").await, [Cause::Login, Cause::Custom]);
}
