//! Client messages: malformed ones, invalid fields, and rate limits.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::raw::{Raw, TEXT, frame};
use crate::support::{Client, Heard, Server, now_millis};

async fn say(client: &mut Client, text: &str) -> Value {
    client.socket.send(Message::text(text)).await.expect("to send");
    client.message().await
}

/// Checks an error: a reply to `id`, or a push without one.
fn check_error(heard: &Value, id: Option<u64>, code: &str, of: &str) {
    match id {
        Some(id) => {
            assert_eq!(heard["type"], "reply", "{of}");
            assert_eq!(heard["id"], id, "{of}");
        }
        None => {
            assert_eq!(heard["type"], "error", "{of}");
            assert_eq!(heard.get("id"), None, "{of}");
        }
    }
    assert_eq!(heard["error"]["code"], code, "{of}");
    assert!(heard["error"]["message"].is_string(), "{of}");
}

#[tokio::test]
async fn malformed_messages_get_an_error_and_keep_the_connection() {
    let server = Server::start(&[]);
    let deep = format!(r#"{{"id":3,"type":{}{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
    let rows = [
        ("", None, "bad_request"),
        ("{", None, "bad_request"),
        ("no JSON", None, "bad_request"),
        ("null", None, "bad_request"),
        ("7", None, "bad_request"),
        (r#""ping""#, None, "bad_request"),
        ("[]", None, "bad_request"),
        (r#"["ping",3]"#, None, "bad_request"),
        (r#"[{"type":"ping","id":3}]"#, None, "bad_request"),
        (r#"{"type":"ping","id":3} {}"#, None, "bad_request"),
        (r#"{"type":"ping","type":"ping","id":3}"#, None, "bad_request"),
        (r#"{"type":"ping","id":3,"id":4}"#, None, "bad_request"),
        ("{}", None, "bad_request"),
        (r#"{"id":3}"#, Some(3), "bad_request"),
        (r#"{"id":3,"type":null}"#, Some(3), "bad_request"),
        (r#"{"id":3,"type":7}"#, Some(3), "bad_request"),
        (r#"{"id":3,"type":["ping"]}"#, Some(3), "bad_request"),
        (&deep, Some(3), "bad_request"),
        (r#"{"id":3,"type":"nonsense"}"#, Some(3), "unknown_type"),
        (r#"{"id":3,"type":"PING"}"#, Some(3), "unknown_type"),
        (r#"{"id":3,"type":"status"}"#, Some(3), "unknown_type"),
        (r#"{"type":"nonsense"}"#, None, "unknown_type"),
    ];
    for (n, rows) in rows.chunks(8).enumerate() {
        let (mut client, _) = server.login(&format!("user{n}"), "linux").await;
        for (text, id, code) in rows {
            let heard = say(&mut client, text).await;
            let of: String = text.chars().take(60).collect();
            check_error(&heard, *id, code, &of);
        }
        client.ok(json!({ "type": "ping" })).await;
    }
}

#[tokio::test]
async fn invalid_fields_get_an_error_and_do_not_count_as_malformed() {
    let server = Server::start(&[]);
    let rows = [
        (r#"{"type":"ping"}"#, None),
        (r#"{"type":"ping","id":null}"#, None),
        (r#"{"type":"ping","id":"3"}"#, None),
        (r#"{"type":"ping","id":-1}"#, None),
        (r#"{"type":"ping","id":1.5}"#, None),
        (r#"{"type":"ping","id":9007199254740992}"#, None),
        (r#"{"type":"ping","id":[3]}"#, None),
        (r#"{"type":"subscribe","id":3}"#, Some(3)),
        (r#"{"type":"subscribe","id":3,"users":"bob"}"#, Some(3)),
        (r#"{"type":"subscribe","id":3,"users":[7]}"#, Some(3)),
        (r#"{"type":"query","id":3,"users":["\ud800"]}"#, Some(3)),
        (r#"{"type":"query","id":3,"users":{}}"#, Some(3)),
        (r#"{"type":"unsubscribe","id":3}"#, Some(3)),
        (r#"{"type":"unsubscribe","id":3,"all":false}"#, Some(3)),
        (r#"{"type":"unsubscribe","id":3,"all":"yes"}"#, Some(3)),
        (r#"{"type":"background","id":3,"reason":"sleep"}"#, Some(3)),
        (r#"{"type":"set","id":3}"#, Some(3)),
        (r#"{"type":"set","id":3,"custom":7}"#, Some(3)),
        (r#"{"type":"refresh","id":3}"#, Some(3)),
        (r#"{"type":"kick","id":3}"#, Some(3)),
        (r#"{"type":"kick","id":3,"session":"me"}"#, Some(3)),
        (r#"{"type":"kick","id":3,"session":7}"#, Some(3)),
    ];
    let (mut client, _) = server.login("ann", "linux").await;
    for (text, id) in rows {
        check_error(&say(&mut client, text).await, id, "bad_request", text);
    }
    client.ok(json!({ "type": "ping" })).await;
}

#[tokio::test]
async fn unknown_fields_escapes_and_all_integer_ids_are_accepted() {
    let server = Server::start(&[]);
    let (mut client, _) = server.login("ann", "linux").await;
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let texts = [
        r#"{"type":"ping","id":0}"#.to_owned(),
        r#"{"type":"ping","id":9007199254740991}"#.to_owned(),
        r#"{"x":1e400,"type":"ping","y":[1,{"z":null}],"id":7,"users":3}"#.to_owned(),
        format!(r#"{{"type":"ping","id":8,"deep":{deep}}}"#),
        r#"{"\u0074ype":"p\u0069ng","id":9}"#.to_owned(),
    ];
    for (text, id) in texts.iter().zip([0, 9_007_199_254_740_991_u64, 7, 8, 9]) {
        let heard = say(&mut client, text).await;
        assert_eq!(heard["id"], id, "{heard}");
        assert!(heard["ok"]["now"].is_u64(), "{heard}");
    }
}

#[tokio::test]
async fn the_tenth_malformed_message_closes_the_connection() {
    let server = Server::start(&[]);
    let (mut client, _) = server.login("ann", "linux").await;
    for n in 0..9 {
        let heard = match n % 3 {
            0 => say(&mut client, "nonsense").await,
            1 => say(&mut client, r#"{"type":"nonsense","id":5}"#).await,
            _ => {
                client.socket.send(Message::binary(vec![1, 2, 3])).await.expect("to send");
                client.message().await
            }
        };
        assert!(heard["error"]["code"].is_string(), "{heard}");
        // Invalid fields do not count as malformed.
        let wrong = say(&mut client, r#"{"type":"set","id":6}"#).await;
        check_error(&wrong, Some(6), "bad_request", "set");
    }
    client.ok(json!({ "type": "ping" })).await;
    check_error(&say(&mut client, "nonsense").await, None, "bad_request", "the tenth");
    assert_eq!(client.hear().await, Heard::Closed(4504));
    let ended = server.until_logged(&["session ended", "ann"]).await;
    assert!(ended.contains("4504"), "{ended}");
}

#[tokio::test]
async fn ten_malformed_messages_close_a_connection_before_login() {
    let server = Server::start(&[]);
    let mut client = server.connect().await;
    for _ in 0..10 {
        client.socket.send(Message::binary(vec![0])).await.expect("to send");
    }
    let (messages, code) = client.until_closed().await;
    assert_eq!((messages.len(), code), (10, Some(4504)));
    for message in &messages {
        check_error(message, None, "bad_request", "binary");
    }
}

#[tokio::test]
async fn messages_over_the_rate_are_refused_without_closing() {
    let server =
        Server::start(&[("limits.messages_per_second", "5"), ("limits.message_burst", "10")]);
    let mut raw = Raw::upgrade(&server).await;
    let pings: Vec<_> = (0..60)
        .flat_map(|id| frame(TEXT, json!({ "type": "ping", "id": id }).to_string().as_bytes()))
        .chain(frame(TEXT, b"no JSON"))
        .collect();
    raw.send(&pings).await;
    let mut taken = 0;
    for id in 0..60 {
        let reply = raw.message().await;
        assert_eq!(reply["id"], id, "each gets its one reply: {reply}");
        match reply["error"]["code"].as_str() {
            Some("not_logged_in") => taken += 1,
            Some("rate_limited") => (),
            _ => panic!("{reply}"),
        }
        assert!(id >= 10 || taken == id + 1, "the burst is taken");
    }
    assert!(taken < 60, "nothing was refused");
    check_error(&raw.message().await, None, "rate_limited", "what has no id");
    // The bucket refills over time.
    let mut id = 100;
    loop {
        id += 1;
        raw.say(&json!({ "type": "ping", "id": id })).await;
        if raw.message().await["error"]["code"] == "not_logged_in" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn ten_seconds_over_the_rate_close_the_connection() {
    let server =
        Server::start(&[("limits.messages_per_second", "1"), ("limits.message_burst", "1")]);
    let began = now_millis();
    let (client, _) = server.login("ann", "linux").await;
    let (mut sink, mut stream) = client.socket.split();
    let flood = async {
        let ping = json!({ "type": "ping", "id": 1 }).to_string();
        // Until the hub closes the connection.
        while sink.send(Message::text(ping.clone())).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let listen = async {
        loop {
            if let Some(Ok(Message::Close(Some(frame)))) = stream.next().await {
                return u16::from(frame.code);
            }
        }
    };
    let code = tokio::select! {
        code = listen => code,
        () = flood => panic!("closed without a Close frame"),
    };
    let lasted = now_millis() - began;
    assert_eq!(code, 4004);
    assert!((10_000..20_000).contains(&lasted), "after {lasted} ms");
    let ended = server.until_logged(&["session ended", "ann"]).await;
    assert!(ended.contains("4004"), "{ended}");
}
