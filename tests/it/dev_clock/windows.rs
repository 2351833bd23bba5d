//! The windows of the rules on a clock that is moved.

use serde_json::json;

use super::{Answering, DAY_MS, Dev, LATE_MS, SECOND_MS, millis, text};
use crate::receiver::{Act, Receiver};
use crate::support::{Heard, WEBHOOK_SECRET};

/// Long enough for the log to keep what happens in these tests.
const KEEPS_LOG: (&str, &str) = ("store.log_ttl", "400d");

#[tokio::test]
async fn t3_to_t8_come_due_in_their_order_and_are_delivered_before_the_answer() {
    let receiver = Receiver::start(|_| Act::Take(200)).await;
    let url = receiver.url();
    let secrets = format!("[\"{WEBHOOK_SECRET}\"]");
    let dev = Dev::start(&[("webhook.url", &url), ("webhook.secrets", &secrets), KEEPS_LOG]);
    let (mut watcher, _) = dev.login("watcher", "linux").await;
    let users = ["closed", "left", "hidden", "silent", "phone"];
    watcher.ok(json!({ "type": "subscribe", "users": users })).await;
    let mut watcher = Answering::new(watcher);
    let (closed, _) = dev.login("closed", "web").await;
    let (mut left, _) = dev.login("left", "miniprogram").await;
    let (mut hidden, _) = dev.login("hidden", "miniprogram").await;
    let (_silent, silent) = dev.login("silent", "web").await;
    let (_phone, phone) = dev.login("phone", "android").await;
    for user in users {
        assert_eq!(watcher.status().await, (user.to_owned(), "Online".to_owned()));
    }

    // What is due last begins first.
    dev.ignore("phone", &phone).await;
    dev.ignore("silent", &silent).await;
    let begun = millis(&phone["now"]);
    let hidden_until = millis(&hidden.ok(json!({ "type": "background" })).await["deadline"]);
    let exit = json!({ "type": "background", "reason": "exit" });
    let left_until = millis(&left.ok(exit).await["deadline"]);
    // Both are away now (A4).
    for user in ["hidden", "left"] {
        assert_eq!(watcher.status().await, (user.to_owned(), "Online".to_owned()));
    }
    drop(closed);
    let (_hidden, _left) = (Answering::new(hidden), Answering::new(left));
    let answer = dev.advance("8d").await;
    let posted = receiver.taken();
    let logged = dev.log().await;

    assert_eq!(answer["advanced_ms"], 8 * DAY_MS);
    // The first may come due before the call.
    assert!((4..=6).contains(&answer["changes"].as_u64().expect("a number")), "{answer}");
    assert_eq!(answer["webhook_events_pending"], 0);
    let now = millis(&answer["now"]);
    assert!((begun + 8 * DAY_MS..begun + 8 * DAY_MS + 60 * SECOND_MS).contains(&now), "{now}");
    let changes = &logged[logged.len() - 6..];
    let order: Vec<_> = changes.iter().map(|it| (text(&it["user"]), text(&it["cause"]))).collect();
    let expected = [
        ("closed", "close"),
        ("left", "exit"),
        ("hidden", "background"),
        ("silent", "silence"),
        ("phone", "silence"),
        ("phone", "expired"),
    ];
    assert_eq!(order, expected);
    let at = |place: usize| millis(&changes[place]["at"]);
    let heard = |place: usize| millis(&changes[place]["evidence"]["last_heard"]);
    for (what, at, due) in [
        ("exit", at(1), left_until),
        ("background", at(2), hidden_until),
        ("silence of a page", at(3), heard(3) + 60 * SECOND_MS),
        ("silence of a phone", at(4), heard(4) + 400 * SECOND_MS),
        ("seven days of push", at(5), at(4) + 7 * DAY_MS),
    ] {
        assert!((due..due + LATE_MS).contains(&at), "{what}: {at} instead of {due}");
    }
    // Everything was posted before the call was answered; requests may overtake each other.
    assert_eq!(posted.len(), logged.len(), "{posted:?}");
    for (user, state) in [
        ("closed", "Offline"),
        ("left", "Offline"),
        ("hidden", "Offline"),
        ("silent", "Offline"),
        ("phone", "PushOnline"),
        ("phone", "Offline"),
    ] {
        assert_eq!(watcher.status().await, (user.to_owned(), state.to_owned()));
    }
}

#[tokio::test]
async fn clients_that_answer_pings_stay_online_for_seven_days() {
    let dev = Dev::start(&[]);
    let mut stay = Vec::new();
    for platform in ["web", "miniprogram", "android", "windows"] {
        stay.push((platform, Answering::new(dev.login(platform, platform).await.0)));
    }
    let answer = dev.advance("7d").await;
    assert_eq!(answer["changes"], 0, "{answer}");
    for (user, client) in &mut stay {
        assert_eq!(dev.state(user).await, "Online");
        assert!(client.heard.try_recv().is_err(), "{user} was told nothing");
    }
    // They still count as heard, and their timers go on.
    assert_eq!(dev.advance("7d").await["changes"], 0);
}

#[tokio::test]
async fn t5_client_that_answers_no_ping_falls_silent() {
    let dev = Dev::start(&[]);
    let (mut frozen, _) = dev.login("frozen", "web").await;
    let _stays = Answering::new(dev.login("stays", "web").await.0);
    // The hub waits some seconds for an answer, in which its clock goes on.
    dev.advance("30s").await;
    assert_eq!(dev.state("frozen").await, "Online");
    dev.advance("31s").await;
    assert_eq!(dev.state("frozen").await, "Offline");
    assert_eq!(frozen.until_closed().await.1, Some(4002));
    assert_eq!(dev.state("stays").await, "Online");
}

#[tokio::test]
async fn t10_token_expires_on_the_moved_clock_unless_it_is_renewed() {
    let dev = Dev::start(&[KEEPS_LOG]);
    let (client, ok) = dev.login_for("forgetful", "web", "1h").await;
    let due = millis(&ok["expires_at"]) + 5 * SECOND_MS;
    let mut forgetful = Answering::new(client);
    let (mut renews, _) = dev.login_for("renews", "web", "1h").await;
    let token = dev.token("renews", "30d").await;
    let renewing = tokio::spawn(async move {
        let Heard::Message(told) = renews.hear().await else { panic!("the end") };
        assert_eq!(told["type"], "token_expiring");
        renews.ok(json!({ "type": "refresh", "token": token })).await;
        Answering::new(renews)
    });
    assert_eq!(dev.advance("7d").await["changes"], 1);
    let logged = dev.log().await;
    let last = logged.last().expect("an event");
    assert_eq!((text(&last["user"]), text(&last["cause"])), ("forgetful", "token_expired"));
    let at = millis(&last["at"]);
    assert!((due..due + LATE_MS).contains(&at), "{at} instead of {due}");
    assert!(
        matches!(forgetful.next().await, Heard::Message(told) if told["type"] == "token_expiring")
    );
    assert_eq!(forgetful.next().await, Heard::Closed(4001));
    assert_eq!(dev.state("renews").await, "Online");
    drop(renewing.await.expect("a client"));
}

#[tokio::test]
async fn user_is_forgotten_on_the_moved_clock() {
    let dev = Dev::start(&[]);
    let (mut client, _) = dev.login("ann", "mac").await;
    client.ok(json!({ "type": "logout" })).await;
    dev.advance("29d").await;
    assert_ne!(dev.server.user("ann").await["version"], 0);
    dev.advance("2d").await;
    assert_eq!(dev.server.user("ann").await["version"], 0);
}

#[tokio::test]
async fn call_is_answered_if_the_receiver_refuses() {
    let receiver = Receiver::start(|_| Act::Refuse(500)).await;
    let url = receiver.url();
    let secrets = format!("[\"{WEBHOOK_SECRET}\"]");
    let dev = Dev::start(&[("webhook.url", &url), ("webhook.secrets", &secrets)]);
    let (client, _) = dev.login("ann", "android").await;
    drop(client);
    let answer = dev.advance("1h").await;
    assert_ne!(answer["webhook_events_pending"], 0, "{answer}");
    assert!(!receiver.came().is_empty(), "the first attempt was made");
    // The receiver's clock has not moved: it would refuse a signature of the future.
    let signed = receiver.came()[0].headers["webhook-timestamp"].to_str().map(str::to_owned);
    let signed: u64 = signed.expect("a text").parse().expect("seconds");
    assert!(signed.abs_diff(crate::support::now_secs()) < 60, "{signed}");
}

#[tokio::test]
async fn restart_continues_on_the_moved_clock() {
    let mut dev = Dev::start(&[]);
    let (client, ok) = dev.login("ann", "android").await;
    let begun = millis(&ok["now"]);
    drop(client);
    dev.server.until_state("ann", "PushOnline").await;
    let _eve = Answering::new(dev.login("eve", "web").await.0);
    dev.advance("6d").await;
    dev.server.restart(&[("auth.secret", "")]);
    let now = millis(&dev.advance("0s").await["now"]);
    assert!((begun + 6 * DAY_MS..begun + 6 * DAY_MS + 60 * SECOND_MS).contains(&now), "{now}");
    // T11: a session that was Online is held for its window, which counts from the end of the move.
    assert_eq!(dev.state("eve").await, "Online");
    // A token of that time is valid; T8 has a day left.
    let _bob = Answering::new(dev.login("bob", "web").await.0);
    assert_eq!(dev.state("ann").await, "PushOnline");
    dev.advance("1d").await;
    assert_eq!(dev.state("ann").await, "Offline");
}
