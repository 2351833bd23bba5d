//! Users with damaged records: they get a new record, are reported, and do not delay other users.

use presence_hub::clock::TICK;
use presence_hub::presence::{
    Cause, ConnectionId, EventKind, Kicker, Origin, Platform, State, Target,
};
use presence_hub::store::{Records, StoreError};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::frail::Frail;
use super::held::left_by_an_earlier_run;
use super::{assert_chained, login};
use crate::lab::{EPOCH, Lab, SECOND, assert_kept, id};
use crate::support::http;

const KEY: &str = "a-key-for-damaged-users";

#[tokio::test(start_paused = true)]
async fn damaged_record_of_an_earlier_run_goes_offline_after_the_longest_window() {
    let users = [("ana", Platform::Web), ("bo", Platform::Web)];
    let store = left_by_an_earlier_run(&users).await;
    store.damaged.lock().insert(id("ana"));
    let lab = Frail::restart(&store);
    let mut watcher = lab.watcher(&["ana", "bo"]).await;
    let (at, _) = watcher.state("bo", "Offline").await;
    assert_kept(60 * SECOND, at - EPOCH, "the undamaged user");
    let (at, status) = watcher.state("ana", "Offline").await;
    assert_kept(400 * SECOND, at - EPOCH, "the damaged user");
    assert_eq!((&status["platforms"], &status["custom"]), (&json!([]), &Value::Null));
    assert_eq!(lab.causes("ana").await, [Cause::Login, Cause::Recovered]);
    assert_eq!(store.damaged(), 0);
    assert_chained(&*lab.store).await;
}

#[tokio::test(start_paused = true)]
async fn v2_login_replaces_a_damaged_record_with_a_greater_version() {
    let (store, lab) = Frail::lab();
    let mut watcher = lab.watcher(&["ana"]).await;
    let (mut first, ok) = lab.login("ana", "linux").await;
    let (_, online) = watcher.state("ana", "Online").await;
    store.damaged.lock().insert(id("ana"));
    watcher.hears_nothing_for(SECOND).await;
    let (_second, again) = lab.resume("ana", "linux", &ok).await;
    assert_eq!(again["resumed"], json!(false), "the session is unknown");
    let (_, gone) = watcher.state("ana", "Offline").await;
    let (_, back) = watcher.state("ana", "Online").await;
    let version = |status: &Value| status["version"].as_u64().expect("a version");
    assert!(version(&online) < version(&gone) && version(&gone) < version(&back));
    assert_eq!(first.until_closed().await.1, Some(4006), "its session is gone");
    assert_eq!(lab.causes("ana").await, [Cause::Login, Cause::Recovered, Cause::Login]);
    assert_chained(&*lab.store).await;
}

#[tokio::test(start_paused = true)]
async fn watchers_of_a_damaged_user_see_its_last_logged_status() {
    let (store, lab) = Frail::lab();
    let mut ana = lab.listener("ana", "linux").await;
    ana.send(json!({ "type": "set", "custom": "busy" })).await;
    ana.message().await;
    store.damaged.lock().insert(id("ana"));
    let (mut watcher, _) = lab.login("watcher", "linux").await;
    for kind in ["subscribe", "query"] {
        let users = json!({ "type": kind, "users": ["ana", "nobody"] });
        let answer = watcher.ok(users).await;
        assert_eq!(answer["errors"], json!([]), "{answer}");
        let [ana, nobody] = [&answer["statuses"][0], &answer["statuses"][1]];
        assert_eq!((&ana["state"], &ana["custom"]), (&json!("Online"), &json!("busy")), "{answer}");
        assert_eq!(nobody["version"], 0);
    }
}

#[tokio::test(start_paused = true)]
async fn l9_kick_of_a_damaged_user_revokes_and_revocation_survives_damage() {
    let (store, lab) = Frail::lab();
    let kick =
        || EventKind::Kick { target: Target::default(), by: Kicker::Admin { message: None } };
    for _ in 0..2 {
        store.damaged.lock().insert(id("ana"));
        lab.hub.apply(&id("ana"), kick()).await.expect("a kick");
        assert!(lab.record("ana").await.revoked.is_some());
    }
    store.damaged.lock().insert(id("ana"));
    let event = EventKind::Set { origin: None, custom: Some(None), hidden: None };
    lab.hub.apply(&id("ana"), event).await.expect("an answer");
    assert!(lab.record("ana").await.revoked.is_some(), "the readable part is kept");
}

#[tokio::test(start_paused = true)]
async fn tick_does_not_replace_a_damaged_record_while_its_session_may_be_held() {
    let (store, lab) = Frail::lab();
    let _ana = lab.login("ana", "linux").await;
    store.damaged.lock().insert(id("ana"));
    let applied = lab.hub.apply(&id("ana"), EventKind::Tick).await;
    assert!(applied.expect_err("damage").is_damage());
    let loaded = lab.store.load(&id("ana")).await;
    assert!(matches!(loaded, Err(StoreError::Damaged { .. })));
}

/// More users than two batches of a deadline round.
const CROWD: u64 = 2 * 4096 + 100;

#[tokio::test(start_paused = true)]
async fn thousands_of_due_damaged_users_do_not_delay_other_deadlines() {
    let (store, lab) = Frail::lab();
    let mut watcher = lab.watcher(&["bo"]).await;
    let (bo, _) = lab.login("bo", "web").await;
    watcher.state("bo", "Online").await;
    // Between two ticks, so that all users become due in one round.
    sleep(TICK / 2).await;
    for serial in 0..CROWD {
        let user = id(&format!("crowd-{serial}"));
        let (session, event) = login(&lab.hub, Platform::Web, "page", 1_000_000 + serial);
        lab.hub.apply(&user, event).await.expect("a login");
        let connection = ConnectionId { node: lab.hub.node(), serial: 1_000_000 + serial };
        let origin = Origin { session, connection };
        let closed = EventKind::Closed { origin, close_code: None };
        lab.hub.apply(&user, closed).await.expect("an end");
        store.damaged.lock().insert(user);
    }
    // Bo becomes due a little after the crowd, so the crowd fills the first batches.
    watcher.hears_nothing_for(TICK / 10).await;
    drop(bo);
    let from = lab.now();
    let (at, _) = watcher.state("bo", "Offline").await;
    assert!((SECOND..=SECOND + TICK).contains(&(at - from)), "{:?}", at - from);
    assert_eq!(store.damaged(), CROWD, "they are not replaced yet");
}

async fn get(lab: &Lab, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let (address, _app) = lab.serve_http(|settings| {
        settings.keys = presence_hub::auth::ApiKeys::new(&[], &[], &[KEY.to_owned()]);
    });
    let mut request = http(address, method, path).bearer_auth(KEY);
    if let Some(body) = body {
        request = request.json(&body);
    }
    let answer = request.send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

#[tokio::test]
async fn server_api_lists_users_omitted_because_of_damage() {
    let (store, lab) = Frail::lab();
    let (mut ana, _) = lab.login("ana", "linux").await;
    let (mut bo, _) = lab.login("bo", "linux").await;
    for client in [&mut ana, &mut bo] {
        client.ok(json!({ "type": "subscribe", "users": ["bo"] })).await;
    }
    store.damaged.lock().insert(id("ana"));
    for (path, list, shown) in [
        ("/v1/users", "statuses", json!("bo")),
        ("/v1/users?limit=1", "statuses", Value::Null),
        ("/v1/snapshot", "statuses", json!("bo")),
        ("/v1/sessions", "sessions", json!("bo")),
        ("/v1/sessions?user=ana", "sessions", Value::Null),
        ("/v1/users/bo/watchers", "watchers", json!("bo")),
    ] {
        let (status, page) = get(&lab, "GET", path, None).await;
        assert_eq!((status, &page["damaged"]), (200, &json!(["ana"])), "{path}: {page}");
        assert_eq!(page[list][0]["user"], shown, "{path}: {page}");
    }
    let (status, answer) = get(&lab, "GET", "/v1/users/ana", None).await;
    assert_eq!((status, &answer["error"]["code"]), (500, &json!("damaged")), "{answer}");
    let users = json!({ "users": ["ana", "bo"] });
    let (status, answer) = get(&lab, "POST", "/v1/status", Some(users)).await;
    assert_eq!(status, 200);
    assert_eq!(answer["errors"], json!([{ "user": "ana", "code": "damaged" }]));
    assert_eq!(answer["statuses"][0]["user"], "bo");
    let (_, stats) = get(&lab, "GET", "/v1/stats", None).await;
    assert_eq!(stats["store"]["damaged_rows"], 1);

    let (status, kicked) =
        get(&lab, "POST", "/v1/users/ana/kick", Some(json!({ "all": true }))).await;
    assert_eq!((status, &kicked["revoked"]), (200, &json!(true)), "{kicked}");
    assert_eq!(lab.state("ana").await, State::Offline);
    let (_, page) = get(&lab, "GET", "/v1/users", None).await;
    assert_eq!(page["damaged"], Value::Null, "no user is omitted: {page}");
}
