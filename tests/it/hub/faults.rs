//! A store that fails, loses answers, or stalls.

use std::sync::atomic::Ordering;

use presence_hub::auth::UserSigVerifier;
use presence_hub::http::TencentApplication;
use presence_hub::presence::{Cause, EventKind, Kicker, State, Target};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::time::sleep;

use super::assert_chained;
use super::frail::{Fault, Frail};
use crate::lab::{AT_ONCE, EPOCH, Logged, SECOND, id};
use crate::support::http;
use crate::usersig::{SDK_APP_ID, SECRET_KEY, UserSig, query};

#[tokio::test(start_paused = true)]
async fn login_is_refused_without_effects_while_the_store_is_down() {
    let (store, lab) = Frail::lab();
    let mut watcher = lab.watcher(&["ana"]).await;
    store.set_down(true);
    let mut client = lab.connect().await;
    assert_eq!(client.error(lab.hello("ana", "web")).await, "unavailable");
    assert_eq!(client.until_closed().await.1, Some(4006));
    store.set_down(false);
    watcher.hears_nothing_for(100 * SECOND).await;
    assert_eq!(lab.causes("ana").await, []);
    let _again = lab.login("ana", "web").await;
    watcher.state("ana", "Online").await;
}

#[tokio::test(start_paused = true)]
async fn request_is_refused_while_the_store_is_down_and_the_session_survives() {
    let (store, lab) = Frail::lab();
    let (mut client, _) = lab.login("ana", "web").await;
    store.set_down(true);
    for request in [
        json!({ "type": "set", "custom": "x" }),
        json!({ "type": "subscribe", "users": ["bo"] }),
        json!({ "type": "background" }),
        json!({ "type": "logout" }),
    ] {
        assert_eq!(client.error(request).await, "unavailable");
    }
    store.set_down(false);
    assert_eq!(client.ok(json!({ "type": "set", "custom": "y" })).await["status"]["custom"], "y");
}

#[tokio::test]
async fn ready_is_503_and_logged_while_the_store_is_down() {
    let logged = Logged::here();
    let (store, lab) = Frail::lab();
    let (hub, _app) = lab.serve_http(|_| ());
    let ready = async || {
        let answer = http(hub, "GET", "/ready").send().await.expect("an answer");
        answer.status().as_u16()
    };
    assert_eq!(ready().await, 200);
    store.set_down(true);
    for _ in 0..3 {
        assert_eq!(ready().await, 503);
    }
    let lines = logged.lines("HTTP request refused: store unavailable");
    let [line] = &lines[..] else { panic!("{lines:?}") };
    assert!(line.contains("WARN") && line.contains("a test wants it so"), "{line}");
    store.set_down(false);
    assert_eq!(ready().await, 200);
}

#[tokio::test(start_paused = true)]
async fn revision_conflicts_are_retried() {
    let (store, lab) = Frail::lab();
    store.fail([Fault::Conflict; 20]);
    let (_client, ok) = lab.login("ana", "web").await;
    assert_eq!(ok["status"]["state"], json!("Online"));
    assert_eq!(lab.causes("ana").await, [Cause::Login]);
}

#[tokio::test(start_paused = true)]
async fn t11_slow_log_trim_does_not_delay_signs_of_life() {
    let (store, lab) = Frail::lab();
    let _trimming = store.trims.write().await;
    let mut watcher = lab.watcher(&["ana"]).await;
    let before = store.signs.load(Ordering::Relaxed);
    watcher.hears_nothing_for(60 * SECOND).await;
    assert!(store.signs.load(Ordering::Relaxed) - before >= 59);
}

#[tokio::test(start_paused = true)]
async fn session_end_is_retried_until_it_is_committed() {
    for platform in ["linux", "ios"] {
        let (store, lab) = Frail::lab();
        let mut watcher = lab.watcher(&["ana"]).await;
        let (client, _) = lab.login("ana", platform).await;
        watcher.state("ana", "Online").await;
        store.set_down(true);
        drop(client);
        watcher.hears_nothing_for(200 * SECOND).await;
        store.set_down(false);
        let from = lab.now();
        let left = if platform == "ios" { "PushOnline" } else { "Offline" };
        let (at, _) = watcher.state("ana", left).await;
        assert!(at - from <= 5 * SECOND + AT_ONCE, "{:?}", at - from);
        assert_eq!(lab.causes("ana").await, [Cause::Login, Cause::Close]);
    }
}

#[tokio::test(start_paused = true)]
async fn pending_session_end_is_ignored_after_a_resume() {
    let (store, lab) = Frail::lab();
    let mut watcher = lab.watcher(&["ana"]).await;
    let (client, ok) = lab.login("ana", "linux").await;
    watcher.state("ana", "Online").await;
    store.set_down(true);
    drop(client);
    watcher.hears_nothing_for(60 * SECOND).await;
    store.set_down(false);
    let (client, again) = lab.resume("ana", "linux", &ok).await;
    assert_eq!((&again["session"], &again["resumed"]), (&ok["session"], &json!(true)));
    let _ana = lab.listen(client);
    watcher.hears_nothing_for(60 * SECOND).await;
    assert_eq!(lab.causes("ana").await, [Cause::Login]);
}

#[tokio::test(start_paused = true)]
async fn deadlines_missed_while_the_store_is_down_are_applied_afterwards() {
    let (store, lab) = Frail::lab();
    let mut watcher = lab.watcher(&["ana"]).await;
    let mut ana = lab.listener("ana", "miniprogram").await;
    watcher.state("ana", "Online").await;
    ana.send(json!({ "type": "background" })).await;
    watcher.away("ana", true).await;
    sleep(SECOND).await;
    store.set_down(true);
    watcher.hears_nothing_for(100 * SECOND).await;
    store.set_down(false);
    let from = lab.now();
    let (at, _) = watcher.state("ana", "Offline").await;
    assert!(at - from <= SECOND);
    assert_eq!(lab.causes("ana").await, [Cause::Login, Cause::Idle, Cause::Background]);
}

#[tokio::test(start_paused = true)]
async fn commit_with_a_lost_answer_is_not_applied_twice() {
    let (store, lab) = Frail::lab();
    let mut watcher = lab.watcher(&["ana"]).await;
    store.fail([Fault::AnswerLost]);
    let (mut loser, ok) = lab.login("ana", "ios").await;
    assert_eq!(ok["status"]["state"], json!("Online"));
    watcher.state("ana", "Online").await;

    // A takeover: the kicked device is notified, and the answer lists it.
    store.fail([Fault::AnswerLost]);
    let (mut client, ok) = lab.login("ana", "ipad").await;
    assert_eq!(ok["kicked"][0]["platform"], json!("ios"), "{ok}");
    watcher.state("ana", "Online").await;
    let (heard, code) = loser.until_closed().await;
    assert_eq!((heard.len(), code), (1, Some(4501)));

    store.fail([Fault::AnswerLost]);
    client.ok(json!({ "type": "set", "custom": "once" })).await;
    watcher.state("ana", "Online").await;
    store.fail([Fault::AnswerLost]);
    drop(client);
    watcher.state("ana", "PushOnline").await;
    watcher.hears_nothing_for(60 * SECOND).await;
    use Cause::{Close, Custom, Kicked, Login};
    assert_eq!(lab.causes("ana").await, [Login, Kicked, Login, Custom, Close]);
    assert_chained(&*lab.store).await;
}

#[tokio::test(start_paused = true)]
async fn change_that_failed_after_it_was_written_twice_is_pushed_after_the_outage() {
    let (store, lab) = Frail::lab();
    let mut watcher = lab.watcher(&["ana"]).await;
    let (mut client, _) = lab.login("ana", "mac").await;
    watcher.state("ana", "Online").await;
    store.fail([Fault::TwiceAndDown]);
    let set = json!({ "type": "set", "custom": "written" });
    assert_eq!(client.error(set).await, "unavailable");
    store.set_down(false);
    let (_, status) = watcher.state("ana", "Online").await;
    assert_eq!(status["custom"], json!("written"), "{status}");
}

#[tokio::test(start_paused = true)]
async fn failed_sync_is_not_reported_as_success_on_retry() {
    let (store, lab) = Frail::lab();
    let user = id("ana");
    let (_client, _) = lab.login("ana", "ios").await;
    store.fail([Fault::Unsafe]);
    let kick = EventKind::Kick { target: Target::default(), by: Kicker::Admin { message: None } };
    assert!(lab.hub.apply(&user, kick).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn session_end_with_a_lost_answer_is_applied_once_after_an_outage() {
    let (store, lab) = Frail::lab();
    let mut watcher = lab.watcher(&["ana"]).await;
    let (client, _) = lab.login("ana", "mac").await;
    watcher.state("ana", "Online").await;
    store.fail([Fault::AnswerLostAndDown]);
    drop(client);
    watcher.hears_nothing_for(30 * SECOND).await;
    store.set_down(false);
    watcher.state("ana", "Offline").await;
    watcher.hears_nothing_for(60 * SECOND).await;
    assert_eq!(lab.causes("ana").await, [Cause::Login, Cause::Close]);
}

#[tokio::test(start_paused = true)]
async fn login_with_a_lost_answer_leaves_no_stale_session() {
    let (store, lab) = Frail::lab();
    store.fail([Fault::AnswerLostAndDown]);
    let mut client = lab.connect().await;
    assert_eq!(client.error(lab.hello("ana", "linux")).await, "unavailable");
    assert_eq!(client.until_closed().await.1, Some(4006));
    store.set_down(false);
    sleep(10 * SECOND).await;
    assert_eq!(lab.state("ana").await, State::Offline);
    assert_chained(&*lab.store).await;
}

#[tokio::test(start_paused = true)]
async fn t3_session_whose_resume_lost_its_answer_is_held_for_its_client() {
    for (platform, window) in [("linux", 400 * SECOND), ("ios", 400 * SECOND), ("web", 60 * SECOND)]
    {
        let (store, lab) = Frail::lab();
        let mut watcher = lab.watcher(&["ana"]).await;
        let (client, ok) = lab.login("ana", platform).await;
        watcher.state("ana", "Online").await;
        // The socket stays half open, so the hub does not notice the loss.
        std::mem::forget(client);
        let mut hello = lab.hello("ana", platform);
        hello["resume"] = ok["session"].clone();
        let lose_answer = async || {
            store.fail([Fault::AnswerLostAndDown]);
            let mut client = lab.connect().await;
            assert_eq!(client.error(hello.clone()).await, "unavailable");
            assert_eq!(client.until_closed().await.1, Some(4006));
            store.set_down(false);
            lab.now()
        };
        lose_answer().await;
        sleep(10 * SECOND).await;
        let (resumed, again) = lab.resume("ana", platform, &ok).await;
        assert_eq!(again["resumed"], json!(true), "{platform}");
        std::mem::forget(resumed);
        let lost_at = lose_answer().await;
        let left = if platform == "ios" { "PushOnline" } else { "Offline" };
        let (at, _) = watcher.state("ana", left).await;
        let took = at - lost_at;
        assert!(took >= window && took < window + 6 * SECOND, "{platform}: {took:?}");
        assert_eq!(lab.causes("ana").await, [Cause::Login, Cause::Close], "{platform}");
        assert_chained(&*lab.store).await;
    }
}

#[tokio::test(start_paused = true)]
async fn l7_resume_that_waits_longer_than_its_client_is_not_executed() {
    for (wait, is_executed) in [(3 * SECOND, true), (5 * SECOND, false)] {
        let (store, lab) = Frail::lab();
        let mut watcher = lab.watcher(&["ana"]).await;
        let (client, ok) = lab.login("ana", "linux").await;
        watcher.state("ana", "Online").await;
        // The socket stays half open, so the hub does not notice the loss.
        std::mem::forget(client);
        let before = lab.record("ana").await;
        let mut hello = lab.hello("ana", "linux");
        hello["resume"] = ok["session"].clone();
        let mut late = lab.connect().await;
        let gate = store.gate.write().await;
        let (reply, ()) = tokio::join!(late.request(hello), async {
            sleep(wait).await;
            drop(gate);
        });
        assert_eq!(reply["ok"]["resumed"] == json!(true), is_executed, "{reply}");
        if !is_executed {
            assert_eq!(reply["error"]["code"], json!("unavailable"), "{reply}");
            assert_eq!(late.until_closed().await.1, Some(4006));
            assert_eq!(lab.record("ana").await, before);
        }
        let (_again, again) = lab.resume("ana", "linux", &ok).await;
        assert_eq!(again["resumed"], json!(true), "{again}");
        watcher.hears_nothing_for(300 * SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn repeated_store_failures_lose_nothing() {
    let (store, lab) = Frail::lab();
    let faults = [Fault::Unavailable, Fault::AnswerLost, Fault::Conflict];
    for round in 0..100 {
        store.fail((0..round % 5).map(|n| faults[(round + n) % 3]));
        let mut client = lab.connect().await;
        let mut hello = lab.hello("ana", "mac");
        hello["id"] = json!(1);
        client.send(&hello).await;
        client.message().await;
        drop(client);
        // Stay below the limit of changes for each user.
        sleep(11 * SECOND).await;
        assert_eq!(lab.state("ana").await, State::Offline, "round {round}");
    }
    assert_chained(&*lab.store).await;
}

#[tokio::test(start_paused = true)]
async fn stalled_store_loses_no_session_and_leaves_no_stale_one() {
    let (store, lab) = Frail::lab();
    let mut watcher = lab.watcher(&["ana", "bo", "cy"]).await;
    let mut ana = lab.listener("ana", "web").await;
    let (bo, _) = lab.login("bo", "linux").await;
    watcher.state("ana", "Online").await;
    watcher.state("bo", "Online").await;

    let gate = store.gate.write().await;
    ana.send(json!({ "type": "set", "custom": "late" })).await;
    drop(bo);
    let mut cy = lab.connect().await;
    let mut hello = lab.hello("cy", "linux");
    hello["id"] = json!(1);
    cy.send(&hello).await;
    sleep(SECOND).await;
    drop(cy);
    watcher.hears_nothing_for(50 * SECOND).await;
    drop(gate);

    let mut seen = Vec::new();
    for _ in 0..4 {
        let (_, status) = watcher.message().await;
        seen.push(format!("{} {}", status["user"], status["state"]).replace('"', ""));
    }
    seen.sort_unstable();
    assert_eq!(seen, ["ana Online", "bo Offline", "cy Offline", "cy Online"]);
    watcher.hears_nothing_for(200 * SECOND).await;
    watcher.hears_nothing_for(SECOND).await;
    let stalls = lab.hub.metrics().stalls.get();
    assert_eq!(stalls, 0, "the store stalled, not the hub");
}

#[tokio::test(start_paused = true)]
async fn commits_and_failures_are_counted() {
    let (store, lab) = Frail::lab();
    let counts = || {
        let counts = lab.hub.metrics().counts().store;
        (counts.commits, counts.failures)
    };
    store.fail([Fault::Unavailable, Fault::Unavailable]);
    lab.connect().await.request(lab.hello("ana", "mac")).await;
    assert_eq!(counts(), (0, 2), "the commit was retried once");
    store.fail([Fault::Conflict]);
    let _ana = lab.login("ana", "mac").await;
    assert_eq!(counts(), (1, 2), "a revision conflict is not a failure");
}

#[tokio::test]
async fn tencent_api_reports_that_the_store_is_down() {
    let (store, lab) = Frail::lab();
    let address = lab.answer_http(TencentApplication {
        verifier: UserSigVerifier::new(SDK_APP_ID, SECRET_KEY),
        administrators: vec!["root".into()],
        unknown_account_error: false,
    });
    let time = i64::try_from(EPOCH.as_secs()).expect("a time");
    let query = query("root", &UserSig { time, ..UserSig::of("root") }.text());
    let calls = [
        ("openim/query_online_status", json!({ "To_Account": ["ana"] }), 90994),
        ("im_open_login_svc/kick", json!({ "UserID": "ana" }), 70500),
    ];
    for (command, body, code) in calls {
        for (down, expected) in [(false, 0), (true, code), (false, 0)] {
            store.set_down(down);
            let request = http(address, "POST", &format!("/v4/{command}?{query}")).json(&body);
            let answer = request.send().await.expect("an answer");
            assert_eq!(answer.status(), 200);
            let answer: Value = answer.json().await.expect("JSON");
            assert_eq!(answer["ErrorCode"], expected, "{answer}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn session_end_is_retried_after_a_panic_in_commit() {
    let (store, lab) = Frail::lab();
    let (ana, _) = lab.login("ana", "mac").await;
    store.fail([Fault::Panic, Fault::Panic]);
    drop(ana);
    sleep(2 * SECOND).await;
    assert_eq!(lab.state("ana").await, State::Offline);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_connection_ends_its_session_and_disturbs_no_other() {
    let (store, lab) = Frail::lab();
    let mut watcher = lab.watcher(&["ana"]).await;
    let (mut bo, _) = lab.login("bo", "mac").await;
    let (mut ana, _) = lab.login("ana", "mac").await;
    watcher.state("ana", "Online").await;
    let connections = || lab.hub.metrics().connections.get();
    assert_eq!(connections(), 3);

    let gate = store.gate.write().await;
    store.fail([Fault::Panic]);
    // The request, and the first bytes of another one, which the hub holds.
    let request = br#"{"type":"set","id":1,"custom":"x"}"#;
    let length = u8::try_from(request.len()).expect("a short request");
    let head = [0x81, 0x80 | length, 0, 0, 0, 0];
    let bytes = [&head[..], request, &[0x81, 0x90, 0, 0, 0, 0, b'{']].concat();
    ana.socket.get_mut().write_all(&bytes).await.expect("to send");
    sleep(AT_ONCE).await;
    assert!(lab.hub.held_bytes() > 0, "a part of a request is held");
    drop(gate);

    watcher.state("ana", "Offline").await;
    assert_eq!(ana.until_closed().await, (Vec::new(), None));
    assert_eq!(lab.causes("ana").await, [Cause::Login, Cause::Close]);
    bo.ok(json!({ "type": "ping" })).await;
    bo.ok(json!({ "type": "set", "custom": "y" })).await;
    assert_eq!((connections(), lab.hub.held_bytes()), (2, 0));
    assert_chained(&*lab.store).await;
}
