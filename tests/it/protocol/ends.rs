//! How sessions end: kicks, expired and revoked tokens, logout, silence and background.

use serde_json::{Value, json};

use super::raw::Raw;
use crate::support::{
    Client, Heard, Server, lies_between, now_millis, now_secs, token, token_with,
};

/// Logs in with a token that expires at `exp`.
async fn login_until(server: &Server, user: &str, platform: &str, exp: u64) -> Client {
    let mut client = server.connect().await;
    let token = token_with(json!({ "sub": user, "iat": now_secs(), "exp": exp }));
    let login = json!({ "type": "login", "token": token, "platform": platform, "device": "d" });
    assert_eq!(client.ok(login).await["expires_at"], exp * 1000);
    client
}

/// Reads the last message and the close code.
async fn last_message(client: &mut Client) -> (Value, u16) {
    let (mut messages, code) = client.until_closed().await;
    assert_eq!(messages.len(), 1, "{messages:?}");
    (messages.remove(0), code.expect("a Close frame"))
}

#[tokio::test]
async fn kick_notices_have_the_reason_and_the_kicker() {
    let server = Server::start(&[("login.policy", "dual"), ("login.max_instances", "{ web = 2 }")]);
    let began = now_millis();
    let notice = |(mut notice, code): (Value, u16)| {
        assert_eq!(code, 4501, "{notice}");
        assert!(lies_between(&notice["at"], began, 0), "{notice}");
        notice.as_object_mut().expect("an object").remove("at");
        notice
    };

    let (mut phone, _) = server.login("ann", "android").await;
    let (mut desk, ok) = server.login("ann", "mac").await;
    assert_eq!(
        notice(last_message(&mut phone).await),
        json!({
            "type": "kicked", "reason": "login_elsewhere",
            "by": { "platform": "mac", "device": "mac" },
        })
    );
    let kicked = &ok["kicked"];
    assert_eq!(kicked[0]["platform"], "android");
    assert_eq!(kicked[0]["device"], "android");
    assert!(kicked[0]["session"].is_string() && kicked.as_array().map(Vec::len) == Some(1));

    let (mut again, ok) = server.login("ann", "mac").await;
    assert_eq!(ok["kicked"], json!([]), "the same device is replaced, not kicked");
    assert_eq!(
        notice(last_message(&mut desk).await),
        json!({
            "type": "kicked", "reason": "same_device",
            "by": { "platform": "mac", "device": "mac" },
        })
    );

    let (mut page, _) = server.login("ann", "web").await;
    let kick = json!({ "type": "kick", "session": ok["session"] });
    assert_eq!(page.ok(kick).await, json!({}));
    assert_eq!(
        notice(last_message(&mut again).await),
        json!({
            "type": "kicked", "reason": "own_request",
            "by": { "platform": "web", "device": "web" },
        })
    );

    let words = json!({ "all": true, "message": "the shop is closed" });
    let (status, _) = server.call("POST", "/v1/users/ann/kick", Some(words)).await;
    assert_eq!(status, 200);
    assert_eq!(
        notice(last_message(&mut page).await),
        json!({
            "type": "kicked", "reason": "admin", "by": null, "message": "the shop is closed",
        })
    );
    for (platform, device) in [("android", "android"), ("mac", "mac"), ("web", "web")] {
        let line = server
            .until_logged(&["session ended", "kicked", &format!("device=\"{device}\"")])
            .await;
        assert!(line.contains(&format!("platform={platform}")), "{line}");
    }
}

#[tokio::test]
async fn a_kick_notice_without_a_message_has_no_message_field() {
    let server = Server::start(&[]);
    let (mut client, _) = server.login("ann", "web").await;
    server.call("POST", "/v1/users/ann/kick", Some(json!({ "all": true }))).await;
    let (notice, code) = last_message(&mut client).await;
    assert_eq!((&notice["reason"], code), (&json!("admin"), 4501));
    assert_eq!(notice.get("message"), None);
    assert_eq!(notice.get("by"), Some(&Value::Null));
}

#[tokio::test]
async fn an_expired_token_ends_its_session_unless_it_is_refreshed() {
    let server = Server::start(&[("auth.leeway", "1s"), ("login.policy", "multi")]);
    let exp = now_secs() + 3;
    let mut phone = login_until(&server, "phone", "android", exp).await;
    let mut page = login_until(&server, "page", "web", exp).await;
    let mut fresh = login_until(&server, "fresh", "web", exp).await;
    let expiring = json!({ "type": "token_expiring", "expires_at": exp * 1000 });
    for client in [&mut phone, &mut page, &mut fresh] {
        assert_eq!(client.message().await, expiring, "less than a minute is left");
    }
    let later = now_secs() + 1800;
    let token = token_with(json!({ "sub": "fresh", "exp": later }));
    let ok = fresh.ok(json!({ "type": "refresh", "token": token })).await;
    assert_eq!(ok, json!({ "expires_at": later * 1000 }));

    for (user, client, state) in
        [("phone", &mut phone, "PushOnline"), ("page", &mut page, "Offline")]
    {
        assert_eq!(client.until_closed().await, (vec![], Some(4001)), "{user}");
        assert!(now_millis() + 100 >= (exp + 1) * 1000, "before the leeway was over");
        server.until_state(user, state).await;
        server.until_logged(&["session ended", "token_expired", user]).await;
    }
    fresh.ok(json!({ "type": "ping" })).await;
    assert_eq!(server.user("fresh").await["state"], "Online");
}

#[tokio::test]
async fn token_expiring_is_not_sent_with_more_than_a_minute_left() {
    let server = Server::start(&[]);
    let mut client = login_until(&server, "ann", "web", now_secs() + 90).await;
    for _ in 0..3 {
        client.send(&json!({ "type": "ping", "id": 1 })).await;
        assert_eq!(client.message().await["type"], "reply");
    }
}

#[tokio::test]
async fn a_refused_refresh_does_not_change_the_session() {
    let server = Server::start(&[]);
    let (mut client, ok) = server.login("ann", "web").await;
    let claims = |changes: Value| {
        let mut claims = json!({ "sub": "ann", "iat": now_secs(), "exp": now_secs() + 60 });
        for (name, value) in changes.as_object().expect("claims") {
            claims[name] = value.clone();
        }
        token_with(claims)
    };
    let rows = [
        ("another user", claims(json!({ "sub": "bob" })), "invalid_token"),
        ("another platform", claims(json!({ "platform": ["mac"] })), "platform_not_allowed"),
        ("another device", claims(json!({ "device": "other" })), "invalid_device"),
        ("expired", claims(json!({ "exp": now_secs() - 60 })), "token_expired"),
        ("garbage", "garbage".to_owned(), "invalid_token"),
    ];
    for (name, token, code) in rows {
        let refresh = json!({ "type": "refresh", "token": token });
        assert_eq!(client.error(refresh).await, code, "{name}");
    }
    client.ok(json!({ "type": "ping" })).await;
    let fit = claims(json!({ "platform": "web", "device": "web", "watch": ["bob"] }));
    client.ok(json!({ "type": "refresh", "token": fit })).await;
    let terminals = &server.user("ann").await["terminals"];
    assert_eq!(terminals[0]["session"], ok["session"]);
    let asked = client.ok(json!({ "type": "query", "users": ["bob", "eve"] })).await;
    let forbidden = json!([{ "user": "eve", "code": "forbidden" }]);
    assert_eq!(asked["errors"], forbidden, "the claims of the new token count");
}

#[tokio::test]
async fn a_kick_of_all_revokes_earlier_tokens() {
    let server = Server::start(&[]);
    let issued = |iat: Option<u64>| {
        let exp = now_secs() + 3600;
        token_with(match iat {
            Some(iat) => json!({ "sub": "ann", "iat": iat, "exp": exp }),
            None => json!({ "sub": "ann", "exp": exp }),
        })
    };
    let before = issued(Some(now_secs() - 1));
    let login =
        |token: &str| json!({ "type": "login", "token": token, "platform": "web", "device": "d" });
    let mut client = server.connect().await;
    client.ok(login(&before)).await;
    let (_, body) = server.call("POST", "/v1/users/ann/kick", Some(json!({ "all": true }))).await;
    assert_eq!(body["revoked"], true);
    assert_eq!(last_message(&mut client).await.1, 4501);

    for token in [before.clone(), issued(None), issued(Some(0))] {
        let mut client = server.connect().await;
        assert_eq!(client.error(login(&token)).await, "token_revoked");
        assert_eq!(client.until_closed().await, (vec![], Some(4502)));
    }
    let mut client = server.connect().await;
    client.ok(login(&issued(Some(now_secs())))).await;
    let refresh = json!({ "type": "refresh", "token": before });
    assert_eq!(client.error(refresh).await, "token_revoked");
    client.ok(json!({ "type": "ping" })).await;
}

#[tokio::test]
async fn a_kick_of_one_session_revokes_nothing() {
    let server = Server::start(&[]);
    let (mut client, ok) = server.login("ann", "web").await;
    let one = json!({ "session": ok["session"] });
    let (_, body) = server.call("POST", "/v1/users/ann/kick", Some(one)).await;
    assert_eq!(body["revoked"], false);
    assert_eq!(last_message(&mut client).await.1, 4501);
    let mut client = server.connect().await;
    let old = token_with(json!({ "sub": "ann", "exp": now_secs() + 3600 }));
    let login = json!({ "type": "login", "token": old, "platform": "web", "device": "web" });
    client.ok(login).await;
}

#[tokio::test]
async fn a_logout_is_answered_and_then_closed() {
    let server = Server::start(&[]);
    let (mut client, _) = server.login("ann", "android").await;
    assert_eq!(client.ok(json!({ "type": "logout" })).await, json!({}));
    assert_eq!(client.hear().await, Heard::Closed(1000));
    let status = server.until_state("ann", "Offline").await;
    assert_eq!(status["terminals"], json!([]));
    server.until_logged(&["session ended", "cause=\"logout\"", "close=1000"]).await;
}

#[tokio::test]
async fn silence_and_background_have_their_own_close_codes() {
    let server = Server::start(&[
        ("liveness.web_ping", "200ms"),
        ("liveness.web_silence", "1s"),
        ("liveness.background", "300ms"),
        ("liveness.exit", "200ms"),
        ("login.policy", "multi"),
        ("login.miniprogram_as_web", "false"),
    ]);
    let silent = async {
        let mut raw = Raw::upgrade(&server).await;
        let login = json!({ "type": "login", "id": 1, "token": token("ann"), "platform": "web", "device": "d" });
        raw.say(&login).await;
        // The raw client never answers pings.
        assert_eq!(raw.close_code().await, 4002);
        server.until_logged(&["session ended", "silence", "ann"]).await;
    };
    let hidden = async |user: &str, request: Value, window: u64| {
        let (mut client, _) = server.login(user, "miniprogram").await;
        let before = now_millis();
        let ok = client.ok(request).await;
        assert!(lies_between(&ok["deadline"], before + window, window), "{ok}");
        assert_eq!(client.until_closed().await, (vec![], Some(4003)));
        server.until_state(user, "Offline").await;
        server.until_logged(&["session ended", "background", user]).await;
    };
    let hide = hidden("bob", json!({ "type": "background" }), 300);
    let exit = hidden("eve", json!({ "type": "background", "reason": "exit" }), 200);
    tokio::join!(silent, hide, exit);
}
