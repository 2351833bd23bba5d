//! What clients and back ends see of several hubs that all work.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::Hubs;
use crate::support::{RedisServer, until};

#[tokio::test(flavor = "multi_thread")]
async fn c1_any_hub_serves_any_session_query_and_call() {
    let mut hubs = Hubs::start(RedisServer::start(), &["ana", "bo"], &[]).await;
    let (mut ana, ok) = hubs.login(0, "ana", "web").await;
    let (_bo, _) = hubs.login(1, "bo", "ios").await;
    ana.ok(json!({ "type": "set", "custom": "busy" })).await;
    hubs.agree().await;
    for hub in &hubs.hubs {
        assert_eq!(hub.user("ana").await["custom"], json!("busy"));
        let (_, users) = hub.call("GET", "/v1/users?state=Online&prefix=b", None).await;
        assert_eq!(users["statuses"][0]["user"], json!("bo"), "{users}");
        // Counts of all hubs may be a second old.
        until("all five sessions to be counted", async || {
            let (_, stats) = hub.call("GET", "/v1/stats", None).await;
            assert_eq!(stats["nodes"].as_array().map(Vec::len), Some(3), "{stats}");
            stats["sessions_by_state"]["Online"] == json!(5)
        })
        .await;
    }
    // A session moves to another hub, and nobody sees it.
    let told = hubs.watchers[2].all().len();
    let (mut moved, again) = hubs.resume(2, "ana", "web", &ok).await;
    assert_eq!((&again["session"], &again["resumed"]), (&ok["session"], &json!(true)));
    assert_eq!(ana.until_closed().await.1, Some(4007));
    // A kick through a hub reaches a session on another one.
    let (status, _) =
        hubs.hubs[1].call("POST", "/v1/users/ana/kick", Some(json!({ "all": true }))).await;
    assert_eq!(status, 200);
    let (messages, code) = moved.until_closed().await;
    assert_eq!((&messages[0]["reason"], code), (&json!("admin"), Some(4501)));
    hubs.agree().await;
    assert_eq!(hubs.watchers[2].all().len(), told + 1, "the move was not seen, the kick was");
    let server = hubs.remove(2);
    server.signal(Signal::TERM);
}

#[tokio::test(flavor = "multi_thread")]
async fn c3_of_200_logins_at_once_over_three_hubs_one_stays() {
    const LOGINS: usize = 200;
    let settings = [("login.policy", "single")];
    let hubs = Hubs::start(RedisServer::start(), &["ana"], &settings).await;
    let clients = (0..LOGINS).map(async |n| {
        let mut client = hubs.hubs[n % 3].connect().await;
        client.login("ana", "linux", &format!("device-{n}")).await;
        client
    });
    let observed = async {
        let mut seen = 0;
        while hubs.hubs[seen % 3].user("ana").await["terminals"]
            .as_array()
            .is_some_and(Vec::is_empty)
        {
            seen += 1;
        }
        for n in 0..100 {
            let status = hubs.hubs[n % 3].user("ana").await;
            let online = status["terminals"].as_array().expect("terminals");
            let online = online.iter().filter(|terminal| terminal["state"] == "Online").count();
            assert_eq!(online, 1, "{status}");
        }
    };
    let (clients, ()) = tokio::join!(join_all(clients), observed);
    hubs.agree().await;
    let status = hubs.hubs[0].user("ana").await;
    let stays = status["terminals"][0]["device"].as_str().expect("a device").to_owned();
    let (mut kicked, mut stayed) = (BTreeSet::new(), 0);
    for (n, mut client) in clients.into_iter().enumerate() {
        if format!("device-{n}") == stays {
            client.ok(json!({ "type": "ping" })).await;
            stayed += 1;
            continue;
        }
        let (messages, code) = client.until_closed().await;
        let notices = messages.iter().filter(|message| message["type"] == "kicked").count();
        assert_eq!((notices, code), (1, Some(4501)), "{n}: {messages:?}");
        kicked.insert(n);
    }
    assert_eq!((kicked.len(), stayed), (LOGINS - 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_cursor_of_one_hub_continues_on_another_in_one_order() {
    let users: Vec<_> = (0..20).map(|n| format!("user-{n}")).collect();
    let names: Vec<_> = users.iter().map(String::as_str).collect();
    let hubs = Hubs::start(RedisServer::start(), &names, &[]).await;
    let mut clients = Vec::new();
    for (n, user) in users.iter().enumerate() {
        clients.push(hubs.login(n % 3, user, "web").await.0);
    }
    for round in 0..10 {
        let set = |client| set_custom(client, round);
        join_all(clients.iter_mut().map(set)).await;
    }
    hubs.agree().await;
    let (_, whole) = hubs.hubs[0].call("GET", "/v1/events?limit=1000", None).await;
    let whole = ids(&whole);
    assert!(whole.len() >= 220, "{}", whole.len());
    let (mut pieces, mut after, mut turn) = (Vec::new(), String::new(), 0);
    loop {
        let path = format!("/v1/events?limit=7{after}");
        let (_, page) = hubs.hubs[turn % 3].call("GET", &path, None).await;
        let some = ids(&page);
        if some.is_empty() {
            break;
        }
        pieces.extend(some);
        after = format!("&after={}", page["next"].as_str().expect("a cursor"));
        turn += 1;
    }
    assert_eq!(pieces, whole);
}

async fn set_custom(client: &mut crate::support::Client, round: usize) {
    client.ok(json!({ "type": "set", "custom": round.to_string() })).await;
}

fn ids(page: &Value) -> Vec<String> {
    let events = page["events"].as_array().expect("events");
    events.iter().map(|event| event["id"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_another_hub_posts_when_the_one_that_posts_is_killed() {
    let mut hubs = Hubs::start(RedisServer::start(), &["ana"], &[]).await;
    let (mut ana, ok) = hubs.login(1, "ana", "web").await;
    let mut posting = Vec::new();
    for hub in &hubs.hubs {
        let (_, webhooks) = hub.call("GET", "/v1/webhooks", None).await;
        posting.push(webhooks["delivery"]["state"] == "up");
    }
    assert_eq!(posting.iter().filter(|posts| **posts).count(), 1, "{posting:?}");
    let posts = posting.iter().position(|posts| *posts).expect("a hub that posts");
    let mut killed = hubs.remove(posts);
    killed.signal(Signal::KILL);
    killed.wait();
    if posts == 1 {
        ana = hubs.resume(0, "ana", "web", &ok).await.0;
    }
    ana.ok(json!({ "type": "set", "custom": "after" })).await;
    until("the event to be posted", async || {
        hubs.receiver.taken().iter().any(|event| event["status"]["custom"] == "after")
    })
    .await;
    hubs.agree().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c6_every_hub_lists_all_and_says_who_is_lost() {
    let mut hubs = Hubs::start(RedisServer::start(), &["ana"], &[]).await;
    let (_ana, _) = hubs.login(0, "ana", "ios").await;
    let mut killed = hubs.remove(0);
    let address = killed.address.to_string();
    killed.signal(Signal::KILL);
    killed.wait();
    let is_killed = |node: &&Value| node["address"] == json!(address);
    for hub in &hubs.hubs {
        until("the hub to be lost", async || {
            let (_, nodes) = hub.call("GET", "/v1/nodes", None).await;
            let nodes = nodes["nodes"].as_array().expect("nodes");
            nodes.iter().find(is_killed).is_some_and(|node| node["state"] == json!("lost"))
        })
        .await;
    }
    let (_, nodes) = hubs.hubs[1].call("GET", "/v1/nodes", None).await;
    let nodes = nodes["nodes"].as_array().expect("nodes");
    assert_eq!(nodes.len(), 3, "{nodes:?}");
    let metrics = hubs.hubs[1].http("GET", "/metrics").send().await.expect("an answer");
    let metrics = metrics.text().await.expect("a text");
    let commands =
        metrics.lines().find_map(|it| it.strip_prefix("presence_hub_redis_commands_total "));
    assert!(
        commands.is_some_and(|count| count.parse::<u64>().is_ok_and(|it| it > 64)),
        "{metrics}"
    );
    for node in nodes.iter().filter(|node| !is_killed(node)) {
        assert_eq!(node["state"], json!("up"), "{node}");
        assert!(node["clock_ms"].as_i64().is_some_and(|ms| ms.abs() < 1000), "{node}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c8_rolling_restart_is_seen_by_no_watcher() {
    let users: Vec<_> = (0..30).map(|n| format!("user-{n}")).collect();
    let names: Vec<_> = users.iter().map(String::as_str).collect();
    let settings = [("server.drain", "1s"), ("liveness.web_silence", "20s")];
    let mut hubs = Hubs::start(RedisServer::start(), &names, &settings).await;
    hubs.add().await;
    let mut sessions = Vec::new();
    for user in &users {
        sessions.push(hubs.login(0, user, "web").await);
    }
    hubs.agree().await;
    for _ in 0..2 {
        let mut old = hubs.remove(0);
        old.signal(Signal::TERM);
        for (user, session) in users.iter().zip(&mut sessions) {
            assert_eq!(session.0.until_closed().await.1, Some(1001), "{user}");
            *session = hubs.resume(0, user, "web", &session.1).await;
            assert_eq!(session.1["resumed"], json!(true), "{user}");
        }
        assert!(old.until_exit().await.success());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    hubs.agree().await;
    for user in &users {
        let states = hubs.watchers[0].states(user);
        assert!(
            states.iter().skip_while(|it| *it == "Offline").all(|it| it == "Online"),
            "{states:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_a3_words_of_sessions_at_several_hubs_make_one_user_away() {
    let settings = [("login.policy", "multi")];
    let hubs = Hubs::start(RedisServer::start(), &["ana"], &settings).await;
    let (mut bo, _) = hubs.login(2, "bo", "web").await;
    let (mut page, ok) = hubs.login(0, "ana", "web").await;
    let (mut desktop, _) = hubs.login(1, "ana", "mac").await;
    hubs.agree().await;
    bo.ok(json!({ "type": "subscribe", "users": ["ana"] })).await;
    let idle = json!({ "type": "idle", "for_ms": 300_000 });
    page.ok(idle.clone()).await;
    desktop.ok(idle).await;
    let away = bo.message().await;
    assert_eq!((&away["away"], &away["state"]), (&json!(true), &json!("Online")), "{away}");
    for hub in &hubs.hubs {
        assert_eq!(hub.user("ana").await["away"], json!(true));
        until("one who is away, of three", async || {
            let (_, stats) = hub.call("GET", "/v1/stats", None).await;
            let users = (&stats["users_away"], &stats["users"]["Online"]);
            users == (&json!(1), &json!(5))
        })
        .await;
    }
    // At another hub the session is what it was; the first word that is told is `active`.
    let (mut moved, again) = hubs.resume(2, "ana", "web", &ok).await;
    assert_eq!((&again["resumed"], &again["status"]["away"]), (&json!(true), &json!(true)));
    moved.ok(json!({ "type": "active" })).await;
    let back = bo.message().await;
    assert_eq!((&back["away"], &back["state"]), (&json!(false), &json!("Online")), "{back}");
    assert!(back["version"].as_u64() > away["version"].as_u64());
    hubs.agree().await;
}
