//! Who may move the clock, and what is refused.

use serde_json::json;

use super::Dev;
use crate::support::{Server, command, http};

#[tokio::test]
async fn invalid_durations_are_refused_with_what_was_expected() {
    let dev = Dev::start(&[]);
    for (body, expected) in [
        (json!({ "advance": "7" }), "`advance`: expected a duration such as"),
        (json!({ "advance": "-1d" }), "`advance`: expected a duration such as"),
        (json!({ "advance": 7 }), "`advance`: expected a duration such as"),
        (json!({ "advance": "401d" }), "`advance` must not exceed 400d in one call"),
        (json!({}), "`advance` is missing"),
        (json!({ "advance": "1s", "to": 5 }), "`to`"),
    ] {
        let (status, answer) = dev.call("clock", &body).await;
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(status == 400 && message.contains(expected), "{body}: {status} {message}");
    }
}

#[tokio::test]
async fn only_the_development_key_moves_the_clock() {
    let dev = Dev::start(&[]);
    let request = || http(dev.server.address, "POST", "/dev/clock").body(r#"{"advance":"1d"}"#);
    let status = async |request: reqwest::RequestBuilder| {
        request.send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(status(request()).await, 401);
    assert_eq!(status(request().header("x-dev-key", "a wrong key of some length")).await, 401);
    let foreign = request().header("x-dev-key", &dev.key).header("host", "hub.example.com");
    assert_eq!(status(foreign).await, 403);
}

#[tokio::test]
async fn clock_cannot_be_moved_in_production() {
    let server = Server::start(&[]);
    let request = http(server.address, "POST", "/dev/clock").body(r#"{"advance":"1d"}"#);
    let answer = request.header("x-dev-key", "a key of some length").send().await;
    assert_eq!(answer.expect("an answer").status().as_u16(), 404);
    assert!(!server.directory.path().join("data/dev-clock").exists());
}

#[tokio::test]
async fn token_command_uses_the_moved_clock() {
    let dev = Dev::start(&[]);
    dev.advance("30d").await;
    let mut mint = command(dev.server.directory.path(), &[]);
    let output = mint.args(["token", "--user", "ann"]).output().expect("the command to run");
    let token = String::from_utf8(output.stdout).expect("a text");
    let mut client = dev.server.connect().await;
    let login = json!({ "type": "login", "token": token.trim(), "platform": "web", "device": "d" });
    assert_eq!(client.ok(login).await["user"], "ann");
}
