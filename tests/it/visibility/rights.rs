//! P7: what narrows the right to watch ends at once what it no longer covers.

use std::fs;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::json;

use super::{heard, subscribe, viewer};
use crate::support::{SECRET, Server, command, now_secs, token_with, until};

#[tokio::test]
async fn p7_a_refresh_with_a_narrower_claim_ends_what_it_does_not_cover() {
    let hub = Server::start(&[]);
    let (mut ana, _) = hub.login("ana", "web").await;
    let (mut bo, _) = hub.login("bo", "web").await;
    let mut vic = viewer(&hub, "vic", json!(["*"])).await;
    vic.ok(subscribe(&["ana", "bo", "vic"])).await;
    let claims = json!({ "sub": "vic", "exp": now_secs() + 3600, "watch": ["bo"] });
    vic.send(&json!({ "type": "refresh", "id": 5, "token": token_with(claims) })).await;
    let unwatched = vic.message().await;
    assert_eq!(unwatched, json!({ "type": "unwatched", "users": ["ana"] }), "before the answer");
    assert_eq!(vic.message().await["id"], 5);
    ana.ok(json!({ "type": "set", "custom": "unseen" })).await;
    bo.ok(json!({ "type": "set", "custom": "seen" })).await;
    let told = vic.message().await;
    assert_eq!(told["user"], "bo", "{told}");
    let ok = vic.ok(subscribe(&["ana"])).await;
    assert_eq!(ok["errors"], json!([{ "user": "ana", "code": "forbidden" }]));
    let wide = json!({ "sub": "vic", "exp": now_secs() + 3600, "watch": ["*"] });
    vic.ok(json!({ "type": "refresh", "token": token_with(wide) })).await;
    assert_eq!(vic.ok(subscribe(&["ana"])).await["errors"], json!([]));
}

#[tokio::test]
async fn p7_a_reload_of_the_default_narrows_tokens_without_a_claim() {
    let hub = Server::with_file("[auth]\ndefault_watch = [\"*\"]\n", &[]);
    let (mut ana, _) = hub.login("ana", "web").await;
    let (mut vic, _) = hub.login("vic", "web").await;
    let mut wen = viewer(&hub, "wen", json!(["*"])).await;
    vic.ok(subscribe(&["ana", "team:1", "vic"])).await;
    wen.ok(subscribe(&["ana"])).await;
    let file = hub.directory.path().join("config.toml");
    fs::write(file, "[auth]\ndefault_watch = [\"team:*\"]\n").expect("to write");
    hub.signal(Signal::HUP);
    let mut told = Vec::new();
    until("the session to be told", async || {
        told.extend(heard(&mut vic).await);
        !told.is_empty()
    })
    .await;
    assert_eq!(told, [json!({ "type": "unwatched", "users": ["ana"] })]);
    ana.ok(json!({ "type": "set", "custom": "busy" })).await;
    assert!(heard(&mut vic).await.is_empty());
    assert_eq!(wen.message().await["user"], "ana", "a claim counts as before");
    let ok = vic.ok(subscribe(&["ana", "team:2"])).await;
    assert_eq!(ok["errors"], json!([{ "user": "ana", "code": "forbidden" }]));
}

#[tokio::test]
async fn p10_in_production_the_hub_says_that_every_user_may_watch_every_other() {
    const LINE: &str = "every user may watch every other";
    let wide = [("server.production", "true"), ("auth.default_watch", "[\"*\"]")];
    let narrow = [wide[0], ("auth.default_watch", "[\"team:*\"]")];
    let directory = tempfile::tempdir().expect("a directory");
    for (settings, is_said) in [(wide, true), (narrow, false)] {
        let mut check =
            command(directory.path(), &[&settings[..], &[("auth.secret", SECRET)]].concat());
        let output = check.arg("check-config").stderr(Stdio::inherit()).output();
        let printed = String::from_utf8(output.expect("the command").stdout).expect("text");
        assert_eq!(printed.matches(LINE).count(), usize::from(is_said), "{printed}");
        assert!(printed.parse::<toml::Table>().is_ok(), "{printed}");
        let hub = Server::start(&settings);
        hub.until_logged(&["listening"]).await;
        assert_eq!(hub.log().matches(LINE).count(), usize::from(is_said), "{}", hub.log());
    }
}
