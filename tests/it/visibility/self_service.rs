//! P2, P3, P6: users who hide themselves and block viewers, and what the back end reads of it.

use rustix::process::Signal;
use serde_json::json;

use super::{done, heard, query, subscribe};
use crate::support::Server;

#[tokio::test]
async fn p2_p3_without_self_service_only_the_back_end_decides() {
    let hub = Server::start(&[]);
    let (mut ana, _) = hub.login("ana", "web").await;
    for request in [
        json!({ "type": "set", "hidden": true }),
        json!({ "type": "set", "custom": "x", "hidden": false }),
        json!({ "type": "block", "users": ["vic"] }),
        json!({ "type": "unblock", "users": ["vic"] }),
        json!({ "type": "blocked" }),
    ] {
        assert_eq!(ana.error(request).await, "forbidden");
    }
    assert_eq!(hub.user("ana").await["custom"], json!(null), "nothing of it was done");
}

#[tokio::test]
async fn p6_users_hide_and_block_and_see_themselves_as_they_are() {
    let hub = Server::start(&[("visibility.self_service", "true"), ("login.policy", "multi")]);
    let (mut vic, _) = hub.login("vic", "web").await;
    let (mut ana, _) = hub.login("ana", "web").await;
    let (mut phone, _) = hub.login("ana", "ios").await;
    vic.ok(subscribe(&["ana"])).await;
    phone.ok(subscribe(&["ana"])).await;

    let ok = ana.ok(json!({ "type": "set", "custom": "busy", "hidden": true })).await;
    assert_eq!((&ok["status"]["hidden"], &ok["status"]["custom"]), (&json!(true), &json!("busy")));
    let told = vic.message().await;
    assert_eq!((&told["user"], &told["state"]), (&json!("ana"), &json!("Offline")), "{told}");
    assert_eq!((told.get("hidden"), &told["custom"]), (None, &json!(null)));
    let own = phone.message().await;
    assert_eq!((&own["hidden"], &own["state"]), (&json!(true), &json!("Online")), "{own}");
    let (_again, ok) = hub.login("ana", "mac").await;
    assert_eq!(ok["status"]["hidden"], json!(true));
    assert_eq!(ana.ok(query(&["ana"])).await["statuses"][0]["state"], "Online");

    // The back end sees the truth, and what is hidden.
    let status = hub.user("ana").await;
    assert_eq!((&status["state"], &status["hidden"]), (&json!("Online"), &json!(true)));
    assert_eq!(hub.user("vic").await.get("hidden"), None);
    let (_, history) = hub.call("GET", "/v1/users/ana/history", None).await;
    let event = history["events"].as_array().expect("events").iter();
    let event = event.clone().find(|event| event["cause"] == "visibility").expect("an event");
    assert_eq!(event["state"], json!({ "from": "Online", "to": "Online" }));
    let (_, view) = hub.call("GET", "/v1/users/ana/visibility", None).await;
    assert_eq!(event["visibility"], view);
    assert_eq!((&view["hidden"], &view["blocked"]), (&json!(true), &json!([])));
    assert_eq!(view["hidden_since"], event["at"]);

    assert_eq!(
        ana.ok(json!({ "type": "block", "users": ["vic", "wen", "ana"] })).await["count"],
        2
    );
    assert_eq!(ana.ok(json!({ "type": "blocked" })).await["users"], json!(["vic", "wen"]));
    assert_eq!(ana.ok(json!({ "type": "unblock", "users": ["wen", "xia"] })).await["count"], 1);
    ana.ok(json!({ "type": "set", "hidden": false })).await;
    assert!(heard(&mut vic).await.is_empty(), "vic is still blocked");
    ana.ok(json!({ "type": "unblock", "users": ["vic"] })).await;
    assert_eq!(vic.message().await["state"], "Online");
}

#[tokio::test]
async fn p3_a_list_that_is_too_long_is_refused_whole() {
    let hub = Server::start(&[("visibility.self_service", "true")]);
    let (mut ana, _) = hub.login("ana", "web").await;
    let many: Vec<_> = (0..200).map(|n| format!("v{n}")).collect();
    assert_eq!(ana.ok(json!({ "type": "block", "users": many })).await["count"], 200);
    assert_eq!(ana.error(json!({ "type": "block", "users": ["one"] })).await, "too_many");
    let more: Vec<_> = (0..201).map(|n| format!("v{n}")).collect();
    assert_eq!(ana.error(json!({ "type": "block", "users": more })).await, "bad_request");
    assert_eq!(ana.error(json!({ "type": "block", "users": ["ok", ""] })).await, "bad_request");
    let path = "/v1/users/ana/visibility";
    let (status, answer) = hub.call("PUT", path, Some(json!({ "blocked": more }))).await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!("too_many")));
    assert_eq!(
        done(&hub, "PUT", path, json!({ "hidden": false })).await["blocked"]
            .as_array()
            .map(Vec::len),
        Some(200)
    );
    for (body, code) in [
        (json!({}), "bad_request"),
        (json!({ "hiden": true }), "bad_request"),
        (json!({ "blocked": ["", "x"] }), "invalid_user"),
    ] {
        let (status, answer) = hub.call("PUT", path, Some(body)).await;
        assert_eq!((status, answer["error"]["code"].as_str()), (400, Some(code)), "{answer}");
    }
}

#[tokio::test]
async fn p2_p3_hidden_and_blocked_outlive_a_kill_a_restart_and_forgetting() {
    let settings = [("store.record_ttl", "1s")];
    let mut hub = Server::start(&settings);
    let body = json!({ "hidden": true, "blocked": ["vic"] });
    let view = done(&hub, "PUT", "/v1/users/ana/visibility", body).await;
    let (mut ana, _) = hub.login("ana", "web").await;
    ana.ok(json!({ "type": "logout" })).await;
    crate::support::until("the user to be forgotten", async || {
        hub.user("ana").await["version"] == 0
    })
    .await;
    hub.restart(&settings);
    for after in ["a kill", "a restart"] {
        let (_, again) = hub.call("GET", "/v1/users/ana/visibility", None).await;
        assert_eq!(again, view, "after {after}");
        let (ana, _) = hub.login("ana", "web").await;
        let (mut wen, _) = hub.login("wen", "web").await;
        let seen = wen.ok(query(&["ana"])).await["statuses"][0].clone();
        assert_eq!(seen["state"], "Offline", "after {after}");
        drop((ana, wen));
        hub.signal(Signal::TERM);
        assert!(hub.until_exit().await.success());
        hub.restart_dead(&settings);
    }
}

#[tokio::test]
async fn erasing_a_user_ends_all_sessions_and_leaves_nothing() {
    let hub = Server::start(&[]);
    let (mut ana, ok) = hub.login("ana", "web").await;
    let version = ok["status"]["version"].as_u64().expect("a version");
    done(&hub, "PUT", "/v1/users/ana/visibility", json!({ "hidden": true })).await;
    done(&hub, "PUT", "/v1/users/ana/watch-list", json!({ "users": ["bo"] })).await;
    let (status, erased) = hub.call("DELETE", "/v1/users/ana", None).await;
    assert_eq!((status, &erased["erased"]), (200, &json!(true)), "{erased}");
    assert_eq!(erased["kicked"][0]["session"], ok["session"]);
    assert_eq!(ana.until_closed().await.1, Some(4501));
    let (_, view) = hub.call("GET", "/v1/users/ana/visibility", None).await;
    assert_eq!(view, json!({ "hidden": false, "hidden_since": null, "blocked": [] }));
    let (_, list) = hub.call("GET", "/v1/users/ana/watch-list", None).await;
    assert_eq!(list, json!({ "users": [], "count": 0 }));
    let (_, users) = hub.call("GET", "/v1/users", None).await;
    assert_eq!(users["statuses"], json!([]), "no list has the user");
    let (_, history) = hub.call("GET", "/v1/users/ana/history", None).await;
    assert_ne!(history["events"], json!([]), "the log keeps its entries");
    let later = crate::support::token_with(json!({
        "sub": "ana", "iat": crate::support::now_secs() + 1, "exp": crate::support::now_secs() + 600,
    }));
    let mut client = hub.connect().await;
    let login = json!({ "type": "login", "token": later, "platform": "web", "device": "d" });
    let ok = client.ok(login).await;
    assert!(ok["status"]["version"].as_u64() > Some(version));
    let (status, again) = hub.call("DELETE", "/v1/users/nobody", None).await;
    assert_eq!((status, again), (200, json!({ "kicked": [], "erased": true })));
}
