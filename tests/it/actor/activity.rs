//! A1 to A6: what sessions say of their devices, over a socket in memory.

use serde_json::{Value, json};
use tokio::io::DuplexStream;
use tokio::time::sleep;

use presence_hub::presence::{Cause, Timestamp};

use crate::lab::{Lab, SECOND};
use crate::support::Client;

const FIVE_MINUTES_MS: u64 = 300_000;

fn idle() -> Value {
    json!({ "type": "idle", "for_ms": FIVE_MINUTES_MS })
}

fn active() -> Value {
    json!({ "type": "active" })
}

/// The activity of a session's own terminal.
async fn own(client: &mut Client<DuplexStream>) -> (String, u64) {
    let all = client.ok(json!({ "type": "sessions" })).await["sessions"].clone();
    let all = all.as_array().expect("a list");
    let own = all.iter().find(|session| session["current"] == true).expect("this session");
    let activity = own["activity"].as_str().expect("an activity").to_owned();
    (activity, own["active_at"].as_u64().expect("a time"))
}

fn ms(at: Timestamp) -> u64 {
    at.as_millis()
}

#[tokio::test(start_paused = true)]
async fn a2_a6_watchers_are_told_once_that_a_user_is_away_and_once_that_the_user_is_back() {
    let lab = Lab::new();
    let mut watcher = lab.watcher(&["ana"]).await;
    let (mut page, ok) = lab.login("ana", "web").await;
    assert_eq!(ok["status"]["away"], json!(false));
    assert_eq!(own(&mut page).await, ("active".to_owned(), ms(lab.clock.wall())));
    let (_, online) = watcher.state("ana", "Online").await;
    assert_eq!(online["away"], json!(false));
    sleep(SECOND).await;

    assert_eq!(page.ok(idle()).await, json!({}));
    let (_, away) = watcher.state("ana", "Online").await;
    let expected = json!({ "away": true, "since": online["since"], "platforms": ["web"] });
    for (field, value) in expected.as_object().expect("fields") {
        assert_eq!(away[field], *value, "{away}");
    }
    assert!(away["version"].as_u64() > online["version"].as_u64());
    let touched = ms(lab.clock.wall()) - FIVE_MINUTES_MS;
    assert_eq!(own(&mut page).await, ("idle".to_owned(), touched));
    for again in [idle(), json!({ "type": "idle", "for_ms": 0 })] {
        assert_eq!(page.ok(again).await, json!({}));
    }
    assert_eq!(own(&mut page).await, ("idle".to_owned(), touched));

    sleep(SECOND).await;
    for _ in 0..2 {
        assert_eq!(page.ok(active()).await, json!({}));
    }
    let (_, back) = watcher.state("ana", "Online").await;
    assert_eq!(back["away"], json!(false));
    assert_eq!(own(&mut page).await, ("active".to_owned(), ms(lab.clock.wall())));
    watcher.hears_nothing_for(10 * SECOND).await;
    assert_eq!(lab.causes("ana").await, [Cause::Login, Cause::Idle, Cause::Active]);
}

#[tokio::test(start_paused = true)]
async fn a2_a_wrong_word_is_refused_and_a_long_time_counts_as_a_day() {
    let lab = Lab::new();
    let (mut page, _) = lab.login("ana", "web").await;
    for wrong in [json!(null), json!(-1), json!(1.5), json!("5m"), json!([])] {
        let error = page.error(json!({ "type": "idle", "for_ms": wrong })).await;
        assert_eq!(error, "bad_request", "{wrong}");
    }
    let missing = page.request(json!({ "type": "idle" })).await;
    let message = missing["error"]["message"].as_str().expect("a message");
    assert_eq!(message, "`for_ms` is missing, and is required");
    assert_eq!(own(&mut page).await.0, "active");
    page.ok(json!({ "type": "idle", "for_ms": u64::MAX })).await;
    let day_ago = ms(lab.clock.wall()) - 24 * 3600 * 1000;
    assert_eq!(own(&mut page).await, ("idle".to_owned(), day_ago));
}

#[tokio::test(start_paused = true)]
async fn a3_after_all_sockets_were_cut_nobody_is_back_from_lunch() {
    let lab = Lab::new();
    let mut watcher = lab.watcher(&["ana", "bo"]).await;
    let (mut ana, ana_ok) = lab.login("ana", "web").await;
    watcher.state("ana", "Online").await;
    let (bo, bo_ok) = lab.login("bo", "web").await;
    watcher.state("bo", "Online").await;
    ana.ok(idle()).await;
    watcher.state("ana", "Online").await;
    drop((ana, bo));
    let (mut ana, again) = lab.resume("ana", "web", &ana_ok).await;
    assert_eq!(
        (&again["resumed"], &again["status"]["away"]),
        (&json!(true), &json!(true)),
        "{again}"
    );
    watcher.hears_nothing_for(SECOND / 2).await;
    // Whoever left meanwhile says so with the resume.
    let mut bo = lab.connect().await;
    let mut hello = lab.hello("bo", "web");
    hello["resume"] = bo_ok["session"].clone();
    hello["idle_ms"] = json!(FIVE_MINUTES_MS);
    assert_eq!(bo.ok(hello).await["status"]["away"], json!(true));
    let (_, away) = watcher.state("bo", "Online").await;
    assert_eq!(away["away"], json!(true));
    assert_eq!(lab.causes("bo").await, [Cause::Login, Cause::Idle]);
    ana.ok(active()).await;
    let (_, back) = watcher.state("ana", "Online").await;
    assert_eq!(back["away"], json!(false));
}

#[tokio::test(start_paused = true)]
async fn a3_a_login_is_active_whatever_it_says_and_a_wrong_idle_ms_is_refused() {
    let lab = Lab::new();
    let mut page = lab.connect().await;
    let mut hello = lab.hello("ana", "web");
    hello["idle_ms"] = json!(FIVE_MINUTES_MS);
    assert_eq!(page.ok(hello).await["status"]["away"], json!(false));
    let mut page = lab.connect().await;
    let mut hello = lab.hello("ana", "web");
    (hello["resume"], hello["idle_ms"]) = (json!(""), json!(-1));
    let refused = page.request(hello).await;
    assert_eq!(refused["error"]["code"], "bad_request", "{refused}");
    let message = refused["error"]["message"].as_str().expect("a message");
    assert_eq!(message, "`idle_ms`: expected a whole number, 0 or more, got the number -1");
}

/// A lab in which a user may make so many changes a minute.
fn lab_with(changes: u32) -> Lab {
    Lab::with(|config| {
        config.limits.changes_per_user_per_minute = changes;
        config.login.policy = presence_hub::config::PolicyName::Multi;
    })
}

#[tokio::test(start_paused = true)]
async fn a6_every_word_that_changes_the_terminal_counts_whether_or_not_it_changes_the_user() {
    let lab = lab_with(6);
    // The desktop is in use, so the user is never away.
    let (_desktop, _) = lab.login("ana", "mac").await;
    let (mut page, _) = lab.login("ana", "web").await;
    for word in [idle(), active()].into_iter().cycle().take(4) {
        for _ in 0..20 {
            page.ok(word.clone()).await;
        }
    }
    assert_eq!(page.error(idle()).await, "rate_limited");
    assert_eq!(own(&mut page).await.0, "active");
    page.ok(active()).await;
    assert_eq!(page.error(json!({ "type": "set", "custom": "x" })).await, "rate_limited");
    assert_eq!(lab.causes("ana").await, [Cause::Login; 2]);
    sleep(10 * SECOND).await;
    page.ok(idle()).await;
    assert_eq!(page.error(active()).await, "rate_limited");
    sleep(10 * SECOND).await;
    page.ok(active()).await;
}

#[tokio::test(start_paused = true)]
async fn a6_foreground_counts_where_it_changes_the_terminal_but_is_never_refused() {
    let lab = lab_with(3);
    let (mut program, _) = lab.login("ana", "miniprogram").await;
    for _ in 0..10 {
        program.ok(json!({ "type": "foreground" })).await;
    }
    program.ok(json!({ "type": "background" })).await;
    program.ok(json!({ "type": "foreground" })).await;
    assert_eq!(program.error(json!({ "type": "background" })).await, "rate_limited");
    sleep(20 * SECOND).await;
    program.ok(json!({ "type": "background" })).await;
    program.ok(json!({ "type": "foreground" })).await;
    assert_eq!(own(&mut program).await.0, "active");
    assert_eq!(program.error(json!({ "type": "background" })).await, "rate_limited");
}
