//! Bodies of kicks: which kick, which revoke tokens, and which are refused.

use serde_json::{Value, json};

use crate::support::{API_KEY, Server};

/// Kicks bob with this body.
async fn kick(server: &Server, body: &str) -> (u16, Value) {
    let request = server.http("POST", "/v1/users/bob/kick").bearer_auth(API_KEY);
    let answer = request.body(body.to_owned()).send().await.expect("an answer");
    let status = answer.status().as_u16();
    (status, answer.json().await.expect("JSON"))
}

#[tokio::test]
async fn a_kick_without_a_target_is_refused_and_ends_no_session() {
    let server = Server::start(&[]);
    let (mut bob, _) = server.login("bob", "web").await;
    let session = "0".repeat(32);
    let rows = [
        ("", "names nothing"),
        ("{}", "names nothing"),
        (r#"{"session":null}"#, "names nothing"),
        (r#"{"platform":null,"device":null,"session":null,"all":null}"#, "names nothing"),
        (r#"{"all":false}"#, "names nothing"),
        (r#"{"message":"bye"}"#, "names nothing"),
        (r#"{"all":true,"platform":"web"}"#, "`all` stands beside"),
        (r#"{"all":true,"device":"web"}"#, "`all` stands beside"),
        (&format!(r#"{{"all":true,"session":"{session}"}}"#), "`all` stands beside"),
        (r#"{"sesion":"x"}"#, "sesion"),
        (r#"{"platform":"web","sesion":"x"}"#, "sesion"),
        (r#"{"all":true,"users":["bob"]}"#, "users"),
        (r#"{"all":"true"}"#, "all"),
        (r#"{"all":1}"#, "all"),
        (r#"{"platform":""}"#, "platform"),
        (r#"{"platform":["web"]}"#, "platform"),
        (r#"{"session":7}"#, "session"),
        (r#"{"session":""}"#, "session"),
        (r#"{"device":{}}"#, "device"),
        ("null", ""),
        ("[]", ""),
        ("true", ""),
    ];
    for (body, word) in rows {
        let (status, answer) = kick(&server, body).await;
        assert_eq!((status, &answer["error"]["code"]), (400, &json!("bad_request")), "{body}");
        let message = answer["error"]["message"].as_str().expect("words");
        for part in [word, r#"{"all":true}"#, r#"{"session":"..."}"#, r#"{"platform":"web"}"#] {
            assert!(message.contains(part), "{body}: {part} is not in {message}");
        }
    }
    bob.ok(json!({ "type": "ping" })).await;
    assert_eq!(server.user("bob").await["state"], "Online");
}

#[tokio::test]
async fn only_a_kick_of_all_revokes_tokens() {
    let server = Server::start(&[("login.policy", "multi")]);
    let (mut page, ok) = server.login("bob", "web").await;
    let (mut phone, _) = server.login("bob", "ios").await;
    let (mut desk, _) = server.login("bob", "mac").await;
    let (mut tablet, _) = server.login("bob", "ipad").await;
    let session = ok["session"].as_str().expect("a session");
    let narrow = [
        (format!(r#"{{"session":"{session}","platform":null,"all":false}}"#), &mut page),
        (r#"{"platform":"ios","all":null}"#.to_owned(), &mut phone),
        (r#"{"device":"mac","platform":"mac","message":"bye"}"#.to_owned(), &mut desk),
    ];
    for (body, client) in narrow {
        let (status, answer) = kick(&server, &body).await;
        assert_eq!((status, &answer["revoked"]), (200, &json!(false)), "{body}");
        assert_eq!(answer["kicked"].as_array().map(Vec::len), Some(1), "{body}: {answer}");
        assert_eq!(client.until_closed().await.1, Some(4501));
    }
    let (status, answer) = kick(&server, r#"{"all":true,"session":null,"message":"bye"}"#).await;
    assert_eq!((status, &answer["revoked"]), (200, &json!(true)));
    assert_eq!(answer["kicked"].as_array().map(Vec::len), Some(1), "{answer}");
    assert_eq!(tablet.until_closed().await.1, Some(4501));
    // An unknown user may also hold tokens.
    let (status, answer) =
        server.call("POST", "/v1/users/zed/kick", Some(json!({ "all": true }))).await;
    assert_eq!((status, answer), (200, json!({ "kicked": [], "revoked": true })));
}

#[tokio::test]
async fn dot_segments_are_not_valid_user_ids() {
    let server = Server::start(&[]);
    let (_, body) =
        server.call("POST", "/v1/status", Some(json!({ "users": [".", "..", "..."] }))).await;
    let errors = json!([
        { "user": ".", "code": "invalid_user" },
        { "user": "..", "code": "invalid_user" },
    ]);
    assert_eq!(body["errors"], errors);
    assert_eq!(body["statuses"][0]["user"], "...");
    let (mut client, _) = server.login("ann", "web").await;
    let subscribed = client.ok(json!({ "type": "subscribe", "users": [".", ".."] })).await;
    assert_eq!(subscribed["errors"], errors);

    let output = crate::support::command(server.directory.path(), &[])
        .args(["token", "--user", ".."])
        .output()
        .expect("the command to run");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).expect("a text");
    assert!(said.contains("`.` and `..` are not allowed"), "{said}");
}
