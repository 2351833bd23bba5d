//! Secret rotation: several secrets are valid at once, and sessions survive the change.

use jsonwebtoken::{EncodingKey, Header, encode};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{API_KEY, Client, SECRET, Server, now_secs, until};

const NEW: &str = "the new secret of at least 32 bytes";

/// A token for a user, signed with a secret.
fn signed(secret: &str, user: &str) -> String {
    let claims = json!({ "sub": user, "iat": now_secs(), "exp": now_secs() + 3600 });
    encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes()))
        .expect("a token")
}

/// Logs in; returns the client, or the error code.
async fn attempt(server: &Server, secret: &str, user: &str) -> Result<Client, String> {
    let mut client = server.connect().await;
    let token = signed(secret, user);
    let login = json!({ "type": "login", "token": token, "platform": "linux", "device": "desk" });
    let reply = client.request(login).await;
    match reply["error"]["code"].as_str() {
        None => Ok(client),
        Some(code) => {
            assert_eq!(client.until_closed().await.1, Some(4502));
            Err(code.to_owned())
        }
    }
}

fn invalid() -> Option<String> {
    Some("invalid_token".into())
}

/// A configuration file with these secrets.
fn with(secrets: &[&str]) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[auth]\napi_keys = [\"{API_KEY}\"]\nsecrets = {secrets:?}\n"
    )
}

async fn reload(server: &Server, secrets: &[&str]) {
    let read = || server.log().matches("configuration reloaded").count();
    let before = read();
    std::fs::write(server.directory.path().join("config.toml"), with(secrets)).expect("to write");
    server.signal(Signal::HUP);
    until("the configuration to be read again", async || read() > before).await;
}

#[tokio::test]
async fn a_token_that_any_of_the_secrets_signed_is_accepted() {
    let secrets = format!("[\"{NEW}\", \"{SECRET}\"]");
    let server = Server::start(&[("auth.secret", ""), ("auth.secrets", &secrets)]);
    for (n, secret) in [NEW, SECRET].into_iter().enumerate() {
        attempt(&server, secret, &format!("user-{n}")).await.expect("a login");
    }
    let refused = attempt(&server, "a secret that nobody configured", "zoe").await;
    assert_eq!(refused.err(), invalid());
}

#[tokio::test]
async fn rotating_the_secret_ends_no_session() {
    let server = Server::with_file(&with(&[SECRET]), &[("auth.secret", "")]);
    let mut early = attempt(&server, SECRET, "early").await.expect("a login");
    assert_eq!(attempt(&server, NEW, "eve").await.err(), invalid());

    reload(&server, &[NEW, SECRET]).await;
    let mut between = attempt(&server, NEW, "between").await.expect("a login");
    attempt(&server, SECRET, "late").await.expect("a login by the old secret");

    reload(&server, &[NEW]).await;
    assert_eq!(attempt(&server, SECRET, "eve").await.err(), invalid());
    attempt(&server, NEW, "eve").await.expect("a login by the new secret");
    // Sessions of the removed secret stay, and refresh with the new one.
    for (client, user) in [(&mut early, "early"), (&mut between, "between")] {
        client.ok(json!({ "type": "ping" })).await;
        assert_eq!(server.user(user).await["state"], "Online");
    }
    let refresh = |secret: &str| json!({ "type": "refresh", "token": signed(secret, "early") });
    assert_eq!(early.error(refresh(SECRET)).await, "invalid_token");
    early.ok(json!({ "type": "ping" })).await;
    let refreshed: Value = early.ok(refresh(NEW)).await;
    assert!(refreshed["expires_at"].is_u64(), "{refreshed}");
}

#[tokio::test]
async fn config_call_hides_every_secret_of_the_list() {
    let secrets = format!("[\"{NEW}\", \"{SECRET}\"]");
    let admin = "an-admin-key-for-tests";
    let keys = format!("[\"{admin}\"]");
    let server = Server::start(&[
        ("auth.secret", ""),
        ("auth.secrets", &secrets),
        ("auth.admin_keys", &keys),
    ]);
    let answer = server.http("GET", "/v1/config").bearer_auth(admin).send().await;
    let text = answer.expect("an answer").text().await.expect("a body");
    assert!(!text.contains(NEW) && !text.contains(SECRET), "{text}");
    let config: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(config["auth"]["secrets"], json!(["(hidden)", "(hidden)"]));
}
