//! Several webhooks: each has its own events, position, retries, dead letters and metrics.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{come_and_go, until_delivered};
use crate::crash::read_events;
use crate::receiver::{Act, Receiver};
use crate::support::{API_KEY, RedisServer, Server, WEBHOOK_SECRET, until};

/// One of `[[webhooks]]`.
fn section(name: &str, receiver: &Receiver, more: &str) -> String {
    let url = receiver.url();
    format!(
        "[[webhooks]]\nname = \"{name}\"\nurl = \"{url}\"\nsecrets = [\"{WEBHOOK_SECRET}\"]\n{more}\n"
    )
}

async fn receiver() -> Receiver {
    Receiver::start(|_| Act::Take(200)).await
}

/// The state of a webhook with a name.
async fn named(server: &Server, name: &str) -> Option<Value> {
    let (status, state) = server.call("GET", "/v1/webhooks", None).await;
    assert_eq!(status, 200, "{state}");
    let all = state["named"].as_array().expect("a list");
    all.iter().find(|webhook| webhook["name"] == name).cloned()
}

fn causes(receiver: &Receiver) -> Vec<String> {
    let cause = |event: &Value| event["cause"].as_str().expect("a cause").to_owned();
    receiver.taken().iter().map(cause).collect()
}

#[tokio::test]
async fn each_webhook_gets_its_events() {
    let [all, logins] = [receiver().await, receiver().await];
    let [words, phones] = [receiver().await, receiver().await];
    let file = section("logins", &logins, "causes = [\"login\"]")
        + &section("phones", &phones, "platforms = [\"ios\", \"android\"]")
        + &section("words", &words, "causes = [\"idle\", \"active\"]");
    let (url, secrets) = (all.url(), format!("[\"{WEBHOOK_SECRET}\"]"));
    let own = [("webhook.url", url.as_str()), ("webhook.secrets", secrets.as_str())];
    let server = Server::with_file(&file, &own);
    come_and_go(&server, "ana").await;
    let (mut phone, _) = server.login("bo", "ios").await;
    phone.ok(json!({ "type": "idle", "for_ms": 0 })).await;
    phone.ok(json!({ "type": "active" })).await;
    phone.ok(json!({ "type": "logout" })).await;
    let (status, body) =
        server.call("PUT", "/v1/users/bo/custom", Some(json!({ "custom": "x" }))).await;
    assert_eq!(status, 409, "bo is Offline: {body}");

    let log = read_events(&server).await;
    assert_eq!(log.len(), 6);
    until("all events", async || all.taken().len() == 6).await;
    until("two logins", async || logins.taken().len() == 2).await;
    until("the events of a phone", async || phones.taken().len() == 4).await;
    until("two words", async || words.taken().len() == 2).await;
    until("all positions", async || {
        let (one, two) = (named(&server, "logins").await, named(&server, "phones").await);
        [one, two].iter().flatten().all(|webhook| webhook["backlog"]["events"] == 0)
    })
    .await;
    assert_eq!(all.taken(), log);
    assert_eq!(causes(&logins), ["login", "login"]);
    assert_eq!(causes(&words), ["idle", "active"]);
    let away: Vec<_> = words.taken().iter().map(|event| event["status"]["away"].clone()).collect();
    assert_eq!(away, [json!(true), json!(false)]);
    // Only events that were posted are counted.
    until("the counts", async || {
        let metrics = server.http("GET", "/metrics").bearer_auth(API_KEY).send().await;
        let metrics = metrics.expect("an answer").text().await.expect("a text");
        let counts = ["_events_total{webhook=\"phones\"} 4\n", "_events_total 6\n"];
        counts.iter().all(|count| metrics.contains(count))
    })
    .await;
    assert!(phones.taken().iter().all(|event| event["user"] == "bo"), "{:?}", phones.taken());
}

#[tokio::test]
async fn a_receiver_that_refuses_delays_only_its_own_webhook() {
    let [good, bad] = [receiver().await, receiver().await];
    bad.set(|_| Act::Refuse(400));
    let file = section("good", &good, "") + &section("bad", &bad, "give_up_after = \"1ms\"");
    let mut server = Server::with_file(&file, &[]);
    // The timer of giving up runs only while other events are accepted.
    bad.set(|body| {
        let text = body.to_string();
        if text.contains("ana") { Act::Refuse(400) } else { Act::Take(200) }
    });
    come_and_go(&server, "ana").await;
    until("both events", async || good.taken().len() == 2).await;
    let mut users = 0;
    until("the dead letters", async || {
        users += 1;
        come_and_go(&server, &format!("user-{users}")).await;
        named(&server, "bad").await.expect("the webhook")["dead_waiting"] == 2
    })
    .await;
    assert_eq!(named(&server, "good").await.expect("the webhook")["dead_waiting"], 0);

    let metrics = server.http("GET", "/metrics").bearer_auth(API_KEY).send().await;
    let metrics = metrics.expect("an answer").text().await.expect("a text");
    for line in [
        "presence_hub_webhook_dead_letters 0",
        "presence_hub_webhook_dead_letters{webhook=\"bad\"} 2",
        "presence_hub_webhook_dead_letters{webhook=\"good\"} 0",
        "presence_hub_webhook_requests_total{result=\"refused\",webhook=\"bad\"} ",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    let letters = async |name: &str| {
        let (status, page) = server.call("GET", &format!("/v1/webhooks/dead{name}"), None).await;
        assert_eq!(status, 200, "{page}");
        page["dead"].as_array().expect("a list").len()
    };
    let found = (letters("").await, letters("?name=good").await, letters("?name=bad").await);
    assert_eq!(found, (0, 0, 2));
    let (status, _) = server.call("GET", "/v1/webhooks/dead?name=other", None).await;
    assert_eq!(status, 400);

    // They outlive a restart, and the webhook's removal from the configuration.
    bad.set(|_| Act::Take(200));
    // After a kill, the events of the last moment may come twice.
    server.signal(Signal::TERM);
    server.until_exit().await;
    server.restart_dead(&[]);
    let path = "/v1/webhooks/dead/retry?name=bad";
    let (status, body) = server.call("POST", path, Some(json!({ "all": true }))).await;
    assert_eq!((status, &body["count"]), (200, &json!(2)), "{body}");
    until("the letters", async || {
        bad.taken().iter().filter(|event| event["user"] == "ana").count() >= 2
    })
    .await;
    assert_eq!(good.taken(), read_events(&server).await, "nothing is repeated or missing");
}

#[tokio::test]
async fn a_reload_adds_and_removes_webhooks() {
    let [first, second] = [receiver().await, receiver().await];
    let server = Server::with_file(&section("first", &first, ""), &[]);
    come_and_go(&server, "ana").await;
    until("the events", async || first.taken().len() == 2).await;
    let write = |file: &str| {
        std::fs::write(server.directory.path().join("config.toml"), file).expect("to write");
        server.signal(Signal::HUP);
    };
    write(&(section("first", &first, "") + &section("second", &second, "")));
    until("the second webhook", async || named(&server, "second").await.is_some()).await;
    let ready = async || {
        let state = named(&server, "second").await.expect("the webhook");
        state["delivery"]["state"] == "up"
    };
    until("it to begin", ready).await;
    come_and_go(&server, "bo").await;
    until("the events at both", async || first.taken().len() == 4 && second.taken().len() == 2)
        .await;
    assert!(second.taken().iter().all(|event| event["user"] == "bo"), "from its begin on");

    write(&section("second", &second, ""));
    until("the end of the first", async || {
        named(&server, "first").await.expect("it is shown")["delivery"]["state"] == "off"
    })
    .await;
    come_and_go(&server, "cy").await;
    until("the events", async || second.taken().len() == 4).await;
    until_delivered(&server).await;
    assert_eq!(first.taken().len(), 4);
}

#[tokio::test]
async fn hubs_that_share_a_store_post_each_event_to_each_webhook_once() {
    let redis = RedisServer::start();
    let url = redis.url();
    let [one, two] = [receiver().await, receiver().await];
    let file = section("one", &one, "") + &section("two", &two, "");
    let settings = [("store.kind", "redis"), ("store.redis_url", url.as_str())];
    let hubs = [Server::with_file(&file, &settings), Server::with_file(&file, &settings)];
    let states = async |name: &str| {
        let mut states = Vec::new();
        for hub in &hubs {
            states.push(named(hub, name).await.expect("the webhook")["delivery"]["state"].clone());
        }
        states.sort_by_key(Value::to_string);
        states
    };
    for name in ["one", "two"] {
        until("one hub to post", async || states(name).await == ["elsewhere", "up"]).await;
    }
    for (n, hub) in hubs.iter().enumerate() {
        come_and_go(hub, &format!("user-{n}")).await;
    }
    until("the events", async || one.taken().len() == 4 && two.taken().len() == 4).await;
    assert_eq!(one.taken(), read_events(&hubs[0]).await);
    assert_eq!(two.taken(), one.taken());
}
