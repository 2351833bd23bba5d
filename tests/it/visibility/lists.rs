//! P8: the watch list that the back end keeps, and the sessions that follow it.

use serde_json::{Value, json};

use super::{done, heard, query, subscribe, viewer};
use crate::support::{Client, Server, until};

const LIST: &str = "/v1/users/vic/watch-list";

fn names(statuses: &Value) -> Vec<&str> {
    let statuses = statuses.as_array().expect("a list");
    statuses.iter().map(|status| status["user"].as_str().expect("a user")).collect()
}

async fn follow(client: &mut Client) -> Value {
    client.ok(json!({ "type": "subscribe", "watch_list": true })).await
}

#[tokio::test]
async fn p8_the_back_end_reads_replaces_and_changes_a_list() {
    let hub = Server::start(&[("limits.watch_list", "3")]);
    let (_, empty) = hub.call("GET", LIST, None).await;
    assert_eq!(empty, json!({ "users": [], "count": 0 }));
    let list = done(&hub, "PUT", LIST, json!({ "users": ["bo", "ana", "bo"] })).await;
    assert_eq!(list, json!({ "users": ["ana", "bo"], "count": 2 }));
    let patch = json!({ "add": ["cy", "dan"], "remove": ["ana", "dan"] });
    assert_eq!(done(&hub, "PATCH", LIST, patch).await, json!({ "count": 2 }));
    let (_, list) = hub.call("GET", LIST, None).await;
    assert_eq!(list["users"], json!(["bo", "cy"]));
    for (method, body, code) in [
        ("PATCH", json!({ "add": ["dan", "eve"] }), "too_many"),
        ("PUT", json!({ "users": ["1", "2", "3", "4"] }), "too_many"),
        ("PUT", json!({ "users": [""] }), "invalid_user"),
        ("PUT", json!({}), "bad_request"),
        ("PATCH", json!({ "ad": [] }), "bad_request"),
    ] {
        let (status, answer) = hub.call(method, LIST, Some(body)).await;
        assert_eq!((status, answer["error"]["code"].as_str()), (400, Some(code)), "{answer}");
    }
    let (_, list) = hub.call("GET", LIST, None).await;
    assert_eq!(list["users"], json!(["bo", "cy"]), "nothing was changed");
    let (_, events) = hub.call("GET", "/v1/events", None).await;
    assert_eq!(events["events"], json!([]), "a change of a list is no event");
}

#[tokio::test]
async fn p1_p8_the_list_gives_the_right_that_the_token_does_not() {
    let mut hub = Server::start(&[]);
    done(&hub, "PUT", LIST, json!({ "users": ["ana"] })).await;
    hub.restart(&[]);
    let mut vic = viewer(&hub, "vic", json!(["team:*"])).await;
    let ok = vic.ok(subscribe(&["ana", "bo", "team:1", "vic"])).await;
    assert_eq!(names(&ok["statuses"]), ["ana", "team:1", "vic"]);
    assert_eq!(ok["errors"], json!([{ "user": "bo", "code": "forbidden" }]));
    let ok = vic.ok(query(&["bo", "ana"])).await;
    assert_eq!(names(&ok["statuses"]), ["ana"]);
    let mut other = viewer(&hub, "wen", json!([])).await;
    assert_eq!(names(&other.ok(query(&["ana", "wen"])).await["statuses"]), ["wen"]);
}

#[tokio::test]
async fn p8_a_session_follows_the_list_and_every_change_of_it() {
    let hub = Server::start(&[("limits.subscriptions", "1")]);
    let (mut ana, _) = hub.login("ana", "web").await;
    done(&hub, "PUT", LIST, json!({ "users": ["ana", "bo", "cy"] })).await;
    let mut vic = viewer(&hub, "vic", json!([])).await;
    let page = follow(&mut vic).await;
    assert_eq!((names(&page["statuses"]), &page["count"]), (vec!["ana"], &json!(3)));
    assert_eq!(page["next"], json!(null));
    let (_bo, _) = hub.login("bo", "web").await;
    let told = vic.message().await;
    assert_eq!((&told["type"], &told["user"]), (&json!("status"), &json!("bo")), "{told}");

    // Whoever is on the list takes no room, and may be named, too.
    let ok = vic.ok(subscribe(&["ana", "cy"])).await;
    assert_eq!(names(&ok["statuses"]), ["ana"]);
    assert_eq!(ok["errors"], json!([{ "user": "cy", "code": "too_many" }]));

    let (_dan, _) = hub.login("dan", "web").await;
    let patch = json!({ "add": ["dan", "eve"], "remove": ["ana", "cy"] });
    done(&hub, "PATCH", LIST, patch).await;
    let told = heard(&mut vic).await;
    let [unwatched, changed] = &told[..] else { panic!("{told:?}") };
    assert_eq!(*unwatched, json!({ "type": "unwatched", "users": ["ana"] }));
    assert_eq!(names(&changed["added"]), ["dan", "eve"], "`Offline` or not");
    assert_eq!(changed["removed"], json!(["ana", "cy"]));
    ana.ok(json!({ "type": "set", "custom": "unseen" })).await;
    assert!(heard(&mut vic).await.is_empty());
    let (_eve, _) = hub.login("eve", "web").await;
    assert_eq!(vic.message().await["user"], "eve");

    let ok = vic.ok(json!({ "type": "unsubscribe", "all": true })).await;
    assert_eq!(ok, json!({ "count": 0 }));
    done(&hub, "PATCH", LIST, json!({ "add": ["ana"] })).await;
    ana.ok(json!({ "type": "set", "custom": "seen by nobody" })).await;
    assert!(heard(&mut vic).await.is_empty(), "it follows the list no more");
}

#[tokio::test]
async fn p8_a_user_who_is_watched_by_name_and_by_right_stays() {
    let hub = Server::start(&[]);
    let (mut ana, _) = hub.login("ana", "web").await;
    done(&hub, "PUT", LIST, json!({ "users": ["ana"] })).await;
    let mut vic = viewer(&hub, "vic", json!(["*"])).await;
    follow(&mut vic).await;
    vic.ok(subscribe(&["ana"])).await;
    done(&hub, "PUT", LIST, json!({ "users": [] })).await;
    let told = heard(&mut vic).await;
    assert_eq!(told, [json!({ "type": "watch_list", "added": [], "removed": ["ana"] })]);
    ana.ok(json!({ "type": "set", "custom": "seen" })).await;
    assert_eq!(vic.message().await["custom"], "seen");
}

#[tokio::test]
async fn p8_a_long_list_is_read_in_pages_and_its_changes_come_from_the_first_on() {
    let hub = Server::start(&[]);
    let all: Vec<_> = (0..1000).map(|n| format!("u{n:04}")).collect();
    done(&hub, "PUT", LIST, json!({ "users": all })).await;
    let mut online = Vec::new();
    for n in (0..1000).step_by(4) {
        online.push(hub.login(&format!("u{n:04}"), "web").await.0);
    }
    // One of them is hidden: neither a page nor its end shows it.
    done(&hub, "PUT", "/v1/users/u0004/visibility", json!({ "hidden": true })).await;
    let mut vic = viewer(&hub, "vic", json!([])).await;
    let page = follow(&mut vic).await;
    assert_eq!(
        (page["statuses"].as_array().map(Vec::len), &page["count"]),
        (Some(200), &json!(1000))
    );
    let next = page["next"].clone();
    assert_eq!(next, "u0800");
    let (_late, _) = hub.login("u0999", "web").await;
    assert_eq!(vic.message().await["user"], "u0999");
    let rest = json!({ "type": "subscribe", "watch_list": true, "after": next });
    let page = vic.ok(rest).await;
    assert_eq!(
        (page["statuses"].as_array().map(Vec::len), &page["next"]),
        (Some(50), &json!(null))
    );
    let all = names(&page["statuses"]);
    assert_eq!((all[0], all[49]), ("u0804", "u0999"));
}

#[tokio::test]
async fn p8_malformed_subscriptions_are_refused() {
    let hub = Server::start(&[]);
    let (mut vic, _) = hub.login("vic", "web").await;
    for request in [
        json!({ "type": "subscribe", "watch_list": true, "users": ["ana"] }),
        json!({ "type": "subscribe", "watch_list": false }),
        json!({ "type": "subscribe", "watch_list": 1 }),
        json!({ "type": "subscribe", "watch_list": true, "after": "" }),
        json!({ "type": "subscribe" }),
    ] {
        assert_eq!(vic.error(request).await, "bad_request");
    }
}

#[tokio::test]
async fn p7_p8_nothing_is_lost_or_extra_while_a_list_changes_all_the_time() {
    let hub = Server::start(&[
        ("limits.requests_per_key_per_second", "100000"),
        ("limits.changes_per_user_per_minute", "100000"),
        ("limits.messages_per_second", "100000"),
    ]);
    let (mut ana, _) = hub.login("ana", "web").await;
    let mut vic = viewer(&hub, "vic", json!([])).await;
    follow(&mut vic).await;
    for round in 0..200 {
        let (field, last) = if round % 2 == 0 { ("add", true) } else { ("remove", false) };
        let changed = done(&hub, "PATCH", LIST, json!({ field: ["ana"] }));
        let custom = round.to_string();
        let set = ana.ok(json!({ "type": "set", "custom": custom }));
        tokio::join!(changed, set);
        if !last {
            // From the answer on, nothing more of the user comes.
            heard(&mut vic).await;
            ana.ok(json!({ "type": "set", "custom": "unseen" })).await;
            assert!(heard(&mut vic).await.is_empty(), "round {round}");
            continue;
        }
        let mut known = json!(null);
        until("the present status", async || {
            for message in heard(&mut vic).await {
                if message["type"] == "watch_list" {
                    known = message["added"][0]["custom"].clone();
                } else if message["type"] == "status" {
                    known = message["custom"].clone();
                }
            }
            known == json!(custom)
        })
        .await;
    }
}

#[tokio::test]
async fn p7_nothing_of_a_user_is_sent_after_the_removal_was_told() {
    let hub = Server::start(&[
        ("limits.requests_per_key_per_second", "100000"),
        ("limits.messages_per_second", "100000"),
        ("limits.lookups_per_user_per_minute", "100000"),
    ]);
    let (_ana, _) = hub.login("ana", "web").await;
    let mut vic = viewer(&hub, "vic", json!([])).await;
    for round in 0..100 {
        done(&hub, "PATCH", LIST, json!({ "add": ["ana"] })).await;
        let mut ask = match round % 3 {
            0 => json!({ "type": "subscribe", "watch_list": true }),
            1 => subscribe(&["ana"]),
            _ => query(&["ana"]),
        };
        ask["id"] = json!(1);
        let removed = done(&hub, "PATCH", LIST, json!({ "remove": ["ana"] }));
        tokio::join!(vic.send(&ask), removed);
        let all = heard(&mut vic).await;
        let tells = |message: &Value| {
            let names = |field: &str| message[field].to_string().contains("ana");
            message["type"] == "unwatched" && names("users")
                || message["type"] == "watch_list" && names("removed")
        };
        let told = all.iter().position(tells).unwrap_or(all.len());
        let late = all.iter().skip(told + 1).find(|message| {
            message["user"] == "ana" || message["ok"]["statuses"].to_string().contains("ana")
        });
        assert_eq!(late, None, "round {round}: {all:?}");
        vic.ok(json!({ "type": "unsubscribe", "all": true })).await;
    }
}
