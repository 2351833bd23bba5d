//! Packets between a hub and Redis that do not arrive: those of the feed, or all.

use serde_json::{Value, json};

use super::faults::refuse_logins;
use super::{Hubs, nodes};
use crate::support::{Held, Proxy, RedisServer, now_millis, until};

const USERS: [&str; 3] = ["stays", "goes", "phone"];
/// Clients read only now and then.
const PATIENT: [(&str, &str); 1] = [("liveness.web_silence", "60s")];
/// How soon after the feed's connection has returned a watcher must be right.
const HEALED_MS: u64 = 2000;
/// How many times it is tried: on a busy machine one try may take longer.
const TRIES: u32 = 4;

/// Starts three hubs, of which the first reaches Redis through a proxy.
async fn first_behind_a_proxy(settings: &[(&'static str, &str)]) -> (Hubs, Proxy) {
    let redis = RedisServer::start();
    let proxy = Proxy::start(redis.port()).await;
    let mut hubs = Hubs::none(redis, &USERS, settings).await;
    hubs.add_with(&[], &[("store.redis_url", &proxy.url())]).await;
    hubs.add().await;
    hubs.add().await;
    (hubs, proxy)
}

/// How often the first hub has given up its feed's connection.
fn given_up(hubs: &Hubs) -> usize {
    hubs.hubs[0].log().matches("feed of Redis ended").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn feed_that_is_cut_off_leaves_no_watcher_wrong() {
    let (hubs, proxy) = first_behind_a_proxy(&PATIENT).await;
    let (mut stays, _) = hubs.login(1, "stays", "web").await;
    let (mut own, _) = hubs.login(0, "goes", "web").await;
    hubs.agree().await;
    let mut healed = Vec::new();
    for round in 0..TRIES {
        let before = given_up(&hubs);
        proxy.hold(Held::Feed);
        let custom = json!(round.to_string());
        stays.ok(json!({ "type": "set", "custom": custom })).await;
        // Commands go through, in both directions, also once the hub has given the feed's connection up.
        hubs.watchers[1].until_told("stays", "custom", &custom).await;
        until("the feed to be given up", async || given_up(&hubs) > before).await;
        own.ok(json!({ "type": "set", "custom": custom })).await;
        hubs.watchers[2].until_told("goes", "custom", &custom).await;
        assert_eq!(hubs.hubs[0].user("stays").await["custom"], custom, "a query reads the store");
        hubs.until_ready(0, 200).await;
        let last = json!(format!("last {round}"));
        stays.ok(json!({ "type": "set", "custom": last })).await;

        proxy.hold(Held::Nothing);
        let returned = now_millis();
        let told = hubs.watchers[0].until_told("stays", "custom", &last).await;
        healed.push(told.saturating_sub(returned));
        hubs.agree().await;
    }
    assert!(healed.iter().any(|ms| *ms <= HEALED_MS), "{healed:?} ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn hub_that_is_cut_off_for_longer_than_it_takes_to_notice_sends_its_clients_away() {
    let (mut hubs, proxy) = first_behind_a_proxy(&[]).await;
    let (mut stays, ok) = hubs.login(0, "stays", "ios").await;
    let (_goes, _) = hubs.login(0, "goes", "web").await;
    let (mut other, _) = hubs.login(1, "phone", "ios").await;
    hubs.agree().await;
    let mut cut_off = hubs.remove(0);
    let address = cut_off.address.to_string();

    proxy.hold(Held::All);
    let begun = now_millis();
    refuse_logins(&[cut_off.address]).await;
    assert_eq!(stays.error(json!({ "type": "set", "custom": "lost" })).await, "unavailable");
    stays.ok(json!({ "type": "ping" })).await;
    until("the hub to be given up", async || !nodes(&hubs.hubs[0]).await.contains_key(&address))
        .await;
    // The page was silent towards the others; its window of 5 s is over.
    let left = hubs.watchers[0].until_told("goes", "state", &json!("Offline")).await;
    assert!(left - begun >= 4000, "{} ms", left - begun);
    other.ok(json!({ "type": "set", "custom": "others go on" })).await;
    assert_eq!(stays.error(json!({ "type": "set", "custom": "lost" })).await, "unavailable");

    proxy.hold(Held::Nothing);
    let (messages, code) = stays.until_closed().await;
    assert_eq!(code, Some(1001), "{messages:?}");
    assert!(!cut_off.until_exit().await.success());
    assert!(cut_off.log().contains("other hubs have taken over"), "{}", cut_off.log());
    let (mut stays, again) = hubs.resume(0, "stays", "ios", &ok).await;
    assert_eq!(again["resumed"], json!(true), "its window of 400 s is not over: {again}");
    stays.ok(json!({ "type": "set", "custom": "here" })).await;
    hubs.agree().await;
    let states = hubs.watchers[0].states("stays");
    assert!(states.iter().skip(1).all(|state| state == "Online"), "{states:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hub_that_is_cut_off_for_a_shorter_time_stays() {
    let (hubs, proxy) = first_behind_a_proxy(&PATIENT).await;
    let (mut stays, _) = hubs.login(0, "stays", "web").await;
    let (mut goes, _) = hubs.login(1, "goes", "web").await;
    hubs.agree().await;
    for round in 0..2 {
        let told = hubs.watchers[1].states("stays").len();
        proxy.hold(Held::All);
        hubs.until_ready(0, 503).await;
        let custom = json!(round.to_string());
        goes.ok(json!({ "type": "set", "custom": custom })).await;
        if round == 1 {
            // The connections do not return, and it connects again.
            proxy.lead_to(hubs.redis.port());
        }
        proxy.hold(Held::Nothing);
        hubs.until_ready(0, 200).await;
        stays.ok(json!({ "type": "ping" })).await;
        hubs.watchers[0].until_told("goes", "custom", &custom).await;
        hubs.agree().await;
        assert_eq!(hubs.watchers[1].states("stays").len(), told, "nobody saw it leave");
    }
    stays.ok(json!({ "type": "set", "custom": "here" })).await;
    hubs.agree().await;
    for hub in &hubs.hubs {
        assert_eq!(nodes(hub).await.len(), 3, "no hub was given up");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_removal_from_a_list_that_a_cut_feed_missed_counts_once_it_has_returned() {
    let (hubs, proxy) = first_behind_a_proxy(&PATIENT).await;
    let (mut stays, _) = hubs.login(1, "stays", "web").await;
    let change = async |body: Value| {
        let (status, answer) =
            hubs.hubs[1].call("PATCH", "/v1/users/vic/watch-list", Some(body)).await;
        assert_eq!(status, 200, "{answer}");
    };
    let (mut vic, _) = hubs.login(0, "vic", "web").await;
    vic.ok(json!({ "type": "subscribe", "watch_list": true })).await;
    let mut healed = Vec::new();
    for round in 0..TRIES {
        change(json!({ "add": ["stays"] })).await;
        assert_eq!(vic.message().await["added"][0]["user"], "stays");
        let before = given_up(&hubs);
        proxy.hold(Held::Feed);
        change(json!({ "remove": ["stays"] })).await;
        until("the feed to be given up", async || given_up(&hubs) > before).await;
        proxy.hold(Held::Nothing);
        let returned = now_millis();
        assert_eq!(vic.message().await["removed"], json!(["stays"]));
        healed.push(now_millis() - returned);
        let custom = json!(round.to_string());
        stays.ok(json!({ "type": "set", "custom": custom })).await;
        hubs.watchers[0].until_told("stays", "custom", &custom).await;
        vic.send(&json!({ "type": "ping", "id": 77 })).await;
        assert_eq!(vic.message().await["id"], 77, "the removed user's change is not told");
    }
    assert!(healed.iter().any(|ms| *ms <= HEALED_MS), "{healed:?} ms");
}
