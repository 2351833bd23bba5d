//! Error messages for invalid calls, word for word: each must say what to change.

use futures::SinkExt;
use reqwest::RequestBuilder;
use tokio_tungstenite::tungstenite::Message;

use super::{ADMIN_KEY, VIEWER_KEY, json_of};
use crate::support::{API_KEY, Server};

/// JSON that is nested too deeply.
const DEEP: &str = "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\
                    [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[";
const NOT_AN_ID: &str = "`user`: a user id has 1 to 128 bytes, no control characters, and no white \
                         space at its ends; `.` and `..` are not allowed, because clients remove \
                         them from a URL's path; got \".\"";
const NOT_AN_ID_EITHER: &str = "`user`: a user id has 1 to 128 bytes, no control characters, and no \
                                white space at its ends; `.` and `..` are not allowed, because \
                                clients remove them from a URL's path; got \"..\"";

/// Invalid calls: method, path, body, and the error message.
const CALLS: &[(&str, &str, &str, &str)] = &[
    ("POST", "/v1/status", r#"{"users":"bob"}"#, r#"`users`: expected a list, got "bob""#),
    (
        "POST",
        "/v1/status",
        r#"{"users":["bob",7]}"#,
        "`users[1]`: expected a text, got the number 7",
    ),
    ("POST", "/v1/status", r#"{"users":[]}"#, "`users`: expected 1 to 500 ids, got 0"),
    (
        "POST",
        "/v1/status",
        r#"{"users":["bob"],"detail":"yes"}"#,
        r#"`detail`: expected true or false, got "yes""#,
    ),
    ("POST", "/v1/status", r#"{"user":["bob"]}"#, "`users` is missing, and is required"),
    ("POST", "/v1/status", r#"["bob"]"#, r#"the body must be a JSON object, got the list ["bob"]"#),
    (
        "POST",
        "/v1/status",
        r#"{"users":["bob",]}"#,
        "the body is not valid JSON: trailing comma in a list or an object (line 1, column 17)",
    ),
    (
        "POST",
        "/v1/status",
        r#"{"users":["bob""#,
        "the body is not valid JSON: it ends inside a list (line 1, column 15)",
    ),
    (
        "POST",
        "/v1/status",
        r#"{"users":["bob"]} {}"#,
        "the body is not valid JSON: unexpected text after the end (line 1, column 19)",
    ),
    (
        "POST",
        "/v1/status",
        r#"{"\ud800":1}"#,
        "the body is not valid JSON: incomplete Unicode escape in a text (line 1, column 9)",
    ),
    (
        "POST",
        "/v1/status",
        r#"{"users":["\x"]}"#,
        "the body is not valid JSON: invalid escape in a text (line 1, column 13)",
    ),
    (
        "POST",
        "/v1/status",
        "{\"users\":[\"a\tb\"]}",
        "the body is not valid JSON: control character in a text: write it as an escape, such as \\n (line 1, column 13)",
    ),
    (
        "POST",
        "/v1/status",
        r#"{users:["bob"]}"#,
        "the body is not valid JSON: a field name must be a text in quotes (line 1, column 2)",
    ),
    (
        "PUT",
        "/v1/users/bob/custom",
        r#"{"custom":1e999}"#,
        "the body is not valid JSON: number too large (line 1, column 15)",
    ),
    (
        "POST",
        "/v1/status",
        r#"{"users":["bob"],"n":-}"#,
        "the body is not valid JSON: invalid number (line 1, column 23)",
    ),
    (
        "POST",
        "/v1/status",
        DEEP,
        "the body is not valid JSON: nested too deeply (line 1, column 128)",
    ),
    ("POST", "/v1/status", r#"{"users":["a"],"users":["b"]}"#, "`users` is given twice"),
    ("GET", "/v1/sessions?user=.", "", NOT_AN_ID),
    ("GET", "/v1/refusals?user=..", "", NOT_AN_ID_EITHER),
    ("PUT", "/v1/users/bob/custom", r#"{}"#, "`custom` is missing, and is required"),
    (
        "PUT",
        "/v1/users/bob/custom",
        r#"{"custom":{"text":"hi"}}"#,
        r#"`custom`: expected a text, got the object {"text":"hi"}"#,
    ),
    (
        "GET",
        "/v1/users/%20bob",
        r#""#,
        r#"a user id has 1 to 128 bytes, no control characters, and no white space at its ends; `.` and `..` are not allowed, because clients remove them from a URL's path; got " bob""#,
    ),
    (
        "GET",
        "/v1/users?limit=many",
        r#""#,
        r#"`limit`: expected a whole number from 1 to 1000, got "many""#,
    ),
    (
        "GET",
        "/v1/users?limit=0",
        r#""#,
        r#"`limit`: expected a whole number from 1 to 1000, got "0""#,
    ),
    (
        "GET",
        "/v1/users?lmit=5",
        r#""#,
        "`lmit` is not known here: expected one of `prefix`, `contains`, `state`, `cursor`, `limit`",
    ),
    (
        "GET",
        "/v1/users?state=online",
        r#""#,
        r#"`state`: expected one of "Offline", "PushOnline", "Online", got "online""#,
    ),
    (
        "GET",
        "/v1/sessions?address=localhost",
        r#""#,
        r#"`address`: expected an IP address such as 203.0.113.7 or 2001:db8::1, got "localhost""#,
    ),
    (
        "GET",
        "/v1/sessions?platform=toaster",
        r#""#,
        r#"`platform`: expected one of android, ios, ipad, linux, mac, miniprogram, web, windows, got "toaster""#,
    ),
    (
        "GET",
        "/v1/snapshot?page=xx",
        r#""#,
        r#"`page`: expected the `next` of a page of this list, as it was given out, got "xx""#,
    ),
    (
        "GET",
        "/v1/events?after=yesterday",
        r#""#,
        r#"`after`: expected a cursor of the log, as it was given out, or "now", got "yesterday""#,
    ),
    (
        "GET",
        "/v1/stats/series?minutes=90",
        r#""#,
        r#"`minutes`: expected a whole number from 1 to 60, got "90""#,
    ),
    ("GET", "/v1/policy/explain?existing=web", r#""#, "`login` is missing, and is required"),
    (
        "GET",
        "/v1/policy/explain?login=ios&existing=web:many",
        r#""#,
        r#"`existing`: expected platforms with counts such as "web,android:2", got "web:many""#,
    ),
    (
        "POST",
        "/v1/webhooks/dead/retry",
        r#"{}"#,
        "`ids` is missing: expected a list of the ids of dead letters, or `all: true`",
    ),
    (
        "POST",
        "/v1/webhooks/dead/drop",
        r#"{"ids":["x"]}"#,
        r#"`ids[0]`: expected a cursor of the log, as it was given out, got "x""#,
    ),
];

/// Invalid messages, and their error messages.
const MESSAGES: [(&str, &str); 18] = [
    (r#"nonsense"#, "the message is not valid JSON: expected a value (line 1, column 2)"),
    (r#"["ping",3]"#, r#"the message must be a JSON object, got the list ["ping",3]"#),
    (r#"{"id":3}"#, "`type` is missing: expected a text"),
    (r#"{"id":3,"type":7}"#, "`type`: expected a text, got the number 7"),
    (
        r#"{"id":3,"type":"pong"}"#,
        r#"`type`: expected one of login, subscribe, unsubscribe, query, background, foreground, idle, active, set, block, unblock, blocked, refresh, ping, sessions, kick, logout; got "pong""#,
    ),
    (r#"{"type":"ping","id":"3"}"#, r#"`id`: expected a whole number from 0 to 2^53 - 1, got "3""#),
    (r#"{"type":"ping"}"#, "`id` is missing: expected a whole number from 0 to 2^53 - 1"),
    (
        r#"{"type":"subscribe","id":3}"#,
        "`users` is missing: expected a list of user ids, or `watch_list: true`",
    ),
    (r#"{"type":"subscribe","id":3,"users":"bob"}"#, r#"`users`: expected a list, got "bob""#),
    (
        r#"{"type":"subscribe","id":3,"users":["bob",7]}"#,
        "`users[1]`: expected a text, got the number 7",
    ),
    (r#"{"type":"query","id":3,"users":[]}"#, "`users`: expected 1 to 200 ids, got 0"),
    (
        r#"{"type":"unsubscribe","id":3}"#,
        "`users` is missing: expected a list of user ids, or `all: true`",
    ),
    (r#"{"type":"unsubscribe","id":3,"all":"yes"}"#, r#"`all`: expected true or false, got "yes""#),
    (
        r#"{"type":"background","id":3,"reason":"sleep"}"#,
        r#"`reason`: expected "hide" or "exit", got "sleep""#,
    ),
    (r#"{"type":"set","id":3}"#, "`custom` is missing: expected a text or null, or `hidden`"),
    (r#"{"type":"set","id":3,"custom":7}"#, "`custom`: expected a text, got the number 7"),
    (r#"{"type":"refresh","id":3,"token":12345}"#, "`token`: expected a text"),
    (r#"{"type":"ping","id":3,"id":4}"#, "`id` is given twice"),
];

#[tokio::test]
async fn errors_name_the_field_the_given_value_and_the_expected_one() {
    let server = Server::start(&[]);
    let mut wrong = Vec::new();
    for (method, path, body, expected) in CALLS {
        let request = server.http(method, path).bearer_auth(API_KEY).body(*body);
        let answer = request.send().await.expect("an answer");
        let (status, body) = (answer.status(), json_of(answer).await);
        assert_eq!(status, 400, "{path}: {body}");
        if body["error"]["message"] != *expected {
            wrong.push(format!("{method} {path}: {}", body["error"]["message"]));
        }
    }
    assert_eq!(wrong, [""; 0]);
}

/// A refused request: headers, method, path, status and message.
type Refused =
    (&'static [(&'static str, &'static str)], &'static str, &'static str, u16, &'static str);

/// Requests whose key is missing, unknown or not allowed.
const KEYS: &[Refused] = &[
    (&[], "GET", "/v1/stats", 401, MISSING),
    (&[("authorization", "Bearer ")], "GET", "/v1/stats", 401, UNREADABLE),
    (&[("authorization", "Basic YTpi")], "GET", "/v1/stats", 401, UNREADABLE),
    (&[("authorization", "Bearer not-a-key-of-this-hub")], "GET", "/v1/stats", 401, UNKNOWN),
    (&[("x-api-key", "not-a-key-of-this-hub")], "GET", "/v1/stats", 401, UNKNOWN),
    (
        &[("x-api-key", VIEWER_KEY)],
        "POST",
        "/v1/users/bob/kick",
        403,
        "this key may only read: use one of auth.api_keys or auth.admin_keys",
    ),
    (&[("x-api-key", VIEWER_KEY)], "GET", "/v1/config", 403, ADMINS_ONLY),
    (&[("x-api-key", API_KEY)], "GET", "/v1/audit", 403, ADMINS_ONLY),
];
const MISSING: &str = "missing API key: send \"Authorization: Bearer <key>\" or \"X-API-Key: <key>\", \
                       with a key of auth.api_keys, auth.admin_keys or auth.viewer_keys";
const UNREADABLE: &str =
    "the Authorization header cannot be read: expected \"Authorization: Bearer <key>\"";
const UNKNOWN: &str = "unknown API key: it is not one of auth.api_keys, auth.admin_keys or \
                       auth.viewer_keys of this hub";
const ADMINS_ONLY: &str = "this call needs a key of auth.admin_keys";

#[tokio::test]
async fn api_key_errors_distinguish_missing_unknown_and_forbidden() {
    let (viewers, admins) = (format!("[\"{VIEWER_KEY}\"]"), format!("[\"{ADMIN_KEY}\"]"));
    let server = Server::start(&[("auth.viewer_keys", &viewers), ("auth.admin_keys", &admins)]);
    let said = async |request: RequestBuilder| {
        let answer = request.send().await.expect("an answer");
        let challenge = answer.headers().contains_key("www-authenticate");
        let (status, body) = (answer.status().as_u16(), json_of(answer).await);
        assert_eq!(challenge, status == 401, "{body}");
        (status, body["error"]["message"].as_str().expect("a message").to_owned())
    };
    for (headers, method, path, status, message) in KEYS {
        let request = headers.iter().fold(server.http(method, path), |r, (k, v)| r.header(*k, *v));
        assert_eq!(said(request).await, (*status, (*message).to_owned()), "{headers:?} {path}");
    }
    let log_in = |key: &str| {
        server.http("POST", "/v1/admin/session").json(&serde_json::json!({ "key": key }))
    };
    let message = "a key of auth.api_keys does not open the dashboard: log in with one of \
                   auth.admin_keys or auth.viewer_keys";
    assert_eq!(said(log_in(API_KEY)).await, (403, message.to_owned()));
    let answer = log_in(ADMIN_KEY).send().await.expect("an answer");
    let cookie = answer.headers()["set-cookie"].to_str().expect("a text").to_owned();
    let cookie = cookie.split(';').next().expect("a cookie");
    let message = "the header X-Presence-Hub is missing: a request that acts by the dashboard's cookie \
                   or by a proxy's login must have it";
    let kick = server.http("POST", "/v1/users/bob/kick").header("cookie", cookie);
    assert_eq!(said(kick).await, (403, message.to_owned()));
}

#[tokio::test]
async fn websocket_errors_name_the_field_the_given_value_and_the_expected_one() {
    let server = Server::start(&[]);
    for (n, (message, expected)) in MESSAGES.into_iter().enumerate() {
        let (mut client, _) = server.login(&format!("user-{n}"), "linux").await;
        client.socket.send(Message::text(message)).await.expect("to send");
        let heard = client.message().await;
        assert_eq!(heard["error"]["message"], expected, "{message}");
    }
}
