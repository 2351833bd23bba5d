//! The backlog and the dead letters of the webhook, and where they are shown.

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{come_and_go, contains_user, start, until_delivered};
use crate::crash::read_events;
use crate::receiver::{Act, Receiver};
use crate::support::{API_KEY, Server, WEBHOOK_SECRET, until};

/// The value of a metric.
async fn metric(server: &Server, name: &str) -> f64 {
    let request = server.http("GET", "/metrics").bearer_auth(API_KEY);
    let text = request.send().await.expect("an answer").text().await.expect("a text");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().expect("a number")
}

async fn get(server: &Server, path: &str) -> Value {
    let (status, body) = server.call("GET", path, None).await;
    assert_eq!(status, 200, "{path}: {body}");
    body
}

/// Asserts that the API, the statistics and the metrics show this backlog.
async fn assert_backlog(server: &Server, events: &[Value]) {
    let bytes: usize = events.iter().map(|event| event.to_string().len()).sum();
    let oldest = events.first().map_or(Value::Null, |event| event["at"].clone());
    let expected = json!({ "events": events.len(), "bytes": bytes, "oldest": oldest });
    let mut shown = Value::Null;
    until("the backlog", async || {
        let mut state = get(server, "/v1/webhooks").await;
        shown = state["backlog"].take();
        let age = shown.as_object_mut().and_then(|backlog| backlog.remove("age_ms"));
        assert!(age.is_some_and(|age| age.is_u64()));
        shown == expected
    })
    .await;
    let outbox = get(server, "/v1/stats").await["outbox"].take();
    assert_eq!((&outbox["depth"], &outbox["bytes"]), (&shown["events"], &shown["bytes"]));
    let named = [("backlog_events", events.len()), ("backlog_bytes", bytes)];
    for (name, value) in named {
        assert_eq!(metric(server, &format!("presence_hub_webhook_{name}")).await, value as f64);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backlog_counts_held_events_and_all_bytes_kept_for_them() {
    let (receiver, mut server) = start(&[("webhook.give_up_after", "1h")]).await;
    let (url, secrets) = (receiver.url(), format!("[\"{WEBHOOK_SECRET}\"]"));
    assert_backlog(&server, &[]).await;
    receiver.set(|_| Act::Refuse(500));
    for n in 0..60 {
        come_and_go(&server, &format!("user-{}", n % 7)).await;
    }
    let events = read_events(&server).await;
    assert_eq!(events.len(), 120);
    assert_backlog(&server, &events).await;
    // It must be the same after a restart, although every event was read before.
    let settings = [("webhook.url", url.as_str()), ("webhook.secrets", &secrets)];
    server.restart(&settings);
    assert_backlog(&server, &events).await;

    // Only one user is held, whose first event is in the middle of the log.
    receiver
        .set(|body| if contains_user(body, "user-3") { Act::Refuse(500) } else { Act::Take(200) });
    until("the others", async || {
        let state = get(&server, "/v1/webhooks").await;
        state["backlog"]["events"] == 18 && state["delivery"]["held"] == 1
    })
    .await;
    let first = events.iter().position(|event| event["user"] == "user-3").expect("an event");
    let kept: usize = events[first..].iter().map(|event| event.to_string().len()).sum();
    let backlog = get(&server, "/v1/webhooks").await["backlog"].take();
    assert_eq!((&backlog["bytes"], &backlog["oldest"]), (&json!(kept), &events[first]["at"]));
    receiver.set(|_| Act::Take(200));
    assert_backlog(&server, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undecided_dead_letters_are_counted_after_a_restart() {
    let (receiver, mut server) = start(&[("webhook.give_up_after", "500ms")]).await;
    let (url, secrets) = (receiver.url(), format!("[\"{WEBHOOK_SECRET}\"]"));
    receiver
        .set(|body| if contains_user(body, "poison") { Act::Refuse(422) } else { Act::Take(200) });
    let counts = async |server: &Server| {
        let stats = get(server, "/v1/stats").await;
        let gauge = metric(server, "presence_hub_webhook_dead_letters").await;
        let state = get(server, "/v1/webhooks").await;
        assert_eq!(stats["webhook"]["dead_waiting"], state["dead_waiting"]);
        assert_eq!(state["dead_waiting"].as_f64(), Some(gauge));
        (stats["webhook"]["dead"].clone(), state["dead_waiting"].clone())
    };
    assert_eq!(counts(&server).await, (json!(0), json!(0)));
    come_and_go(&server, "poison").await;
    let mut others = 0;
    until("both events of the poison to be given up", async || {
        others += 1;
        come_and_go(&server, &format!("other-{}", others % 100)).await;
        get(&server, "/v1/stats").await["webhook"]["dead_waiting"] == 2
    })
    .await;
    assert_eq!(counts(&server).await, (json!(2), json!(2)));
    server.restart(&[("webhook.url", url.as_str()), ("webhook.secrets", &secrets)]);
    assert_eq!(counts(&server).await, (json!(0), json!(2)), "`dead` counts since the start");
    // They are also counted without a webhook.
    server.restart(&[]);
    assert_eq!(counts(&server).await, (json!(0), json!(2)));
    let dead = get(&server, "/v1/webhooks/dead").await;
    let ids = json!({ "ids": [dead["dead"][0]["id"]] });
    assert_eq!(server.call("POST", "/v1/webhooks/dead/retry", Some(ids)).await.0, 200);
    assert_eq!(counts(&server).await, (json!(0), json!(1)));
    let all = json!({ "all": true });
    assert_eq!(server.call("POST", "/v1/webhooks/dead/drop", Some(all)).await.0, 200);
    assert_eq!(counts(&server).await, (json!(0), json!(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letter_damaged_after_it_was_put_back_is_a_dead_letter_again() {
    let (receiver, mut server) = start(&[("webhook.give_up_after", "500ms")]).await;
    let (url, secrets) = (receiver.url(), format!("[\"{WEBHOOK_SECRET}\"]"));
    receiver
        .set(|body| if contains_user(body, "poison") { Act::Refuse(422) } else { Act::Take(200) });
    come_and_go(&server, "poison").await;
    let mut others = 0;
    until("both events of the poison to be given up", async || {
        others += 1;
        come_and_go(&server, &format!("other-{}", others % 100)).await;
        get(&server, "/v1/stats").await["webhook"]["dead_waiting"] == 2
    })
    .await;
    // Without a webhook, letters that are put back stay in the store.
    server.restart(&[]);
    let all = Some(json!({ "all": true }));
    let (_, count) = server.call("POST", "/v1/webhooks/dead/retry", all).await;
    assert_eq!(count["count"], 2);
    server.signal(Signal::KILL);
    server.wait();
    let database = server.directory.path().join("data/presence.db");
    let database = Connection::open(database).expect("the database");
    let damage = "UPDATE dead SET event = '{' WHERE cursor = (SELECT min(cursor) FROM dead)";
    assert_eq!(database.execute(damage, ()).expect("a change"), 1);
    drop(database);
    receiver.set(|_| Act::Take(200));
    server.restart_dead(&[("webhook.url", url.as_str()), ("webhook.secrets", &secrets)]);
    until("the whole letter to be posted", async || {
        receiver.taken().iter().any(|event| event["user"] == "poison")
    })
    .await;
    until("the damaged letter to be dead", async || {
        get(&server, "/v1/webhooks").await["dead_waiting"] == 1
    })
    .await;
    let dead = get(&server, "/v1/webhooks/dead").await;
    assert_eq!(dead["dead"][0]["event"]["damaged"], true, "{dead}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_log_entry_becomes_a_dead_letter_and_delays_no_user() {
    let (receiver, mut server) = start(&[]).await;
    let (url, secrets) = (receiver.url(), format!("[\"{WEBHOOK_SECRET}\"]"));
    let settings = [("webhook.url", url.as_str()), ("webhook.secrets", &secrets)];
    receiver.set(|_| Act::Refuse(503));
    for n in 0..30 {
        come_and_go(&server, &format!("user-{}", n % 5)).await;
    }
    // The restart writes all events into the database.
    server.restart(&settings);
    let events = read_events(&server).await;
    server.signal(Signal::KILL);
    server.wait();
    damage(&server, &[2, 3, 17, 59]);
    receiver.set(|_| Act::Take(200));
    server.restart_dead(&settings);
    until_delivered(&server).await;

    let taken: Vec<_> = receiver.taken().iter().map(|event| event["id"].clone()).collect();
    for (place, event) in events.iter().enumerate() {
        let is_whole = ![2, 3, 17, 59].contains(&place);
        assert_eq!(taken.contains(&event["id"]), is_whole, "{place}: {event}");
    }
    until("the dead letters", async || {
        let state = get(&server, "/v1/webhooks").await;
        state["delivery"]["state"] == "up" && state["dead_waiting"] == 4
    })
    .await;
    let dead = get(&server, "/v1/webhooks/dead").await;
    let letters = dead["dead"].as_array().expect("dead letters");
    assert_eq!(letters.len(), 4, "{dead}");
    for (letter, place) in letters.iter().zip([2, 3, 17, 59]) {
        assert_eq!(letter["event"]["user"], events[place]["user"]);
        assert_eq!((&letter["event"]["damaged"], &letter["attempts"]), (&json!(true), &json!(0)));
        let error = letter["last_error"].as_str().expect("an error");
        assert!(error.contains("damaged on disk"), "{error}");
    }
    let user = format!("user={}", events[17]["user"]);
    server.until_logged(&["ERROR", "damaged log entry", &user]).await;

    // A damaged entry cannot be put back, because it cannot be posted; it can be dropped.
    let all = json!({ "all": true });
    let (_, count) = server.call("POST", "/v1/webhooks/dead/retry", Some(all.clone())).await;
    assert_eq!(count["count"], 0, "{count}");
    assert_eq!(get(&server, "/v1/webhooks").await["dead_waiting"], 4);
    let (_, count) = server.call("POST", "/v1/webhooks/dead/drop", Some(all)).await;
    assert_eq!(count["count"], 4, "{count}");
}

/// Changes log entries on disk, so that their checksums no longer match.
fn damage(server: &Server, places: &[usize]) {
    let directory = server.directory.path().join("data");
    let database = Connection::open(directory.join("presence.db")).expect("the database");
    for place in places {
        let changed = database.execute(
            "UPDATE log SET event = replace(event, 'evidence', 'evidunce')
             WHERE cursor = (SELECT cursor FROM log ORDER BY cursor LIMIT 1 OFFSET ?1)",
            (*place as i64,),
        );
        assert_eq!(changed.expect("to change it"), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhook_at_an_unknown_position_continues_with_the_next_kept_entry() {
    let (receiver, mut server) = start(&[]).await;
    let (url, secrets) = (receiver.url(), format!("[\"{WEBHOOK_SECRET}\"]"));
    let settings = [("webhook.url", url.as_str()), ("webhook.secrets", &secrets)];
    come_and_go(&server, "ana").await;
    until_delivered(&server).await;
    // Another run, whose cursors begin far beyond those of the first.
    receiver.set(|_| Act::Refuse(503));
    server.restart(&settings);
    come_and_go(&server, "bo").await;
    // And one more, so that everything is in the database.
    server.restart(&settings);
    server.signal(Signal::KILL);
    server.wait();
    // As after a restore: the position is one that is between the two runs.
    let database = server.directory.path().join("data/presence.db");
    let database = Connection::open(database).expect("the database");
    let lost = "UPDATE state SET position = (SELECT min(last) FROM runs) + 7; DELETE FROM held;";
    database.execute_batch(lost).expect("a position");
    drop(database);
    receiver.set(|_| Act::Take(200));
    server.restart_dead(&settings);
    until_delivered(&server).await;
    let taken: Vec<_> = receiver.taken().iter().map(|event| event["user"].clone()).collect();
    assert_eq!(taken, ["ana", "ana", "bo", "bo"], "nothing is posted twice or left out");
    let line = server.until_logged(&["ERROR", "webhook misses events"]).await;
    assert!(line.contains("from=") && line.contains("to="), "{line}");
    assert_eq!(server.log().matches("webhook misses events").count(), 1, "once");
    come_and_go(&server, "cy").await;
    until_delivered(&server).await;
    assert!(receiver.taken().iter().any(|event| event["user"] == "cy"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_that_causes_500_does_not_delay_other_users_in_its_request() {
    let receiver = Receiver::start(|body| {
        if contains_user(body, "poison") { Act::Refuse(500) } else { Act::Take(200) }
    });
    let receiver = receiver.await;
    let (url, secrets) = (receiver.url(), format!("[\"{WEBHOOK_SECRET}\"]"));
    let settings = [("webhook.url", url.as_str()), ("webhook.secrets", &secrets)];
    // All events are in the log before the first one is posted.
    let mut server = Server::start(&[("webhook.url", "http://127.0.0.1:1/"), settings[1]]);
    for n in 0..20 {
        come_and_go(&server, &format!("user-{n}")).await;
    }
    come_and_go(&server, "poison").await;
    server.restart(&settings);
    until("the others", async || {
        let state = get(&server, "/v1/webhooks").await;
        state["delivery"]["held"] == 1 && state["backlog"]["events"] == 2
    })
    .await;
    let events = receiver.taken();
    assert_eq!(events.len(), 40);
    assert!(!events.iter().any(|event| event["user"] == "poison"));
    receiver.set(|_| Act::Take(200));
    until_delivered(&server).await;
}
