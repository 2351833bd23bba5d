//! The API compatible with Tencent Cloud IM.

use std::time::Duration;

use presence_hub::auth::{UserSigFault, UserSigVerifier};
use presence_hub::presence::Timestamp;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{ended, json_of, refusal, refused};
use crate::support::{API_KEY, SOON, Server, now_secs, token, token_with};
use crate::usersig::{SDK_APP_ID, SECRET_KEY, UserSig, packed, query};

const QUERY: &str = "openim/query_online_status";
const KICK: &str = "im_open_login_svc/kick";

/// UserSigs by tls-sig-api-v2 for `administrator` at 1,700,000,000, valid for an hour, without and
/// with a userbuf, and the key of its example.
const THEIRS: [&str; 2] = [
    "eJyrVgrxCdYrSy1SslJQMtIzUNJRAItkpqTmlWSmZUIkElNyM-Myi0uKEkvyi2BKilOyEwsKMlOACgxNDKAAKpdaUZBZ\
     lAqUMTaDi5Vk5oJEDM3R1BZnpoPsCItITSsPKSmp9AzwrCy3rCioKAnLsMg3SQzyzirMrKowCsr1Kw82ccnw9rRVqgUA\
     Q*g2rA__",
    "eJyrVgrxCdYrSy1SslJQMtIzUNJRAItkpqTmlWSmZUIkElNyM-Myi0uKEkvyi2BKilOyEwsKMlOACgxNDKAAKpdaUZBZ\
     lAqUMTaDi5Vk5oJEDM3R1JYWpxYllaaB7IkM98qCG5*ZDnZTuUm5iWNmpmGyfmGAQVZAsXthtrNbfra5QWRmWHKht3GZ\
     ZWBYjnelT0akrVItAAnqO-M_",
];
const THEIR_KEY: &str = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e";

/// Starts a hub configured with the tests' application.
fn start(settings: &[(&str, &str)]) -> Server {
    let app = SDK_APP_ID.to_string();
    let own = [("tencent.sdk_app_id", app.as_str()), ("tencent.secret_key", SECRET_KEY)];
    Server::start(&[&own, settings].concat())
}

/// Posts to a command; checks the documented format of the answer.
async fn post(server: &Server, command: &str, query: &str, body: &str) -> Value {
    let request = server.http("POST", &format!("/v4/{command}?{query}"));
    let answer = request.body(body.to_owned()).send().await.expect("an answer");
    assert_eq!(answer.status(), 200, "{command}");
    assert_eq!(answer.headers()["content-type"], "application/json", "{command}");
    let answer = json_of(answer).await;
    let succeeded = answer["ErrorCode"] == 0;
    assert_eq!(answer["ActionStatus"], if succeeded { "OK" } else { "FAIL" }, "{answer}");
    assert_eq!(answer["ErrorInfo"] == "", succeeded, "{answer}");
    answer
}

/// Posts as the administrator.
async fn ask(server: &Server, command: &str, body: &Value) -> Value {
    let usersig = UserSig::of("administrator").text();
    post(server, command, &query("administrator", &usersig), &body.to_string()).await
}

async fn code(server: &Server, command: &str, query: &str, body: &str) -> u64 {
    post(server, command, query, body).await["ErrorCode"].as_u64().expect("a code")
}

#[test]
fn signatures_of_the_official_library_are_verified() {
    let verifier = UserSigVerifier::new(SDK_APP_ID, THEIR_KEY);
    let at = |secs: u64| Timestamp::from_millis(secs * 1000);
    for usersig in THEIRS {
        let verify = |app, identifier, secs| verifier.verify(usersig, app, identifier, at(secs));
        for secs in [1_700_000_000, 1_700_003_599] {
            assert_eq!(verify(SDK_APP_ID, "administrator", secs), Ok(()), "{secs}");
        }
        for secs in [1_700_003_600, 1_800_000_000] {
            let verified = verify(SDK_APP_ID, "administrator", secs);
            assert_eq!(verified, Err(UserSigFault::Expired), "{secs}");
        }
        let others = verify(SDK_APP_ID, "administrators", 1_700_000_000);
        assert_eq!(others, Err(UserSigFault::OtherIdentifier));
        let others = verify(SDK_APP_ID + 1, "administrator", 1_700_000_000);
        assert_eq!(others, Err(UserSigFault::OtherApp));
        let other = UserSigVerifier::new(SDK_APP_ID, SECRET_KEY);
        let others = other.verify(usersig, SDK_APP_ID, "administrator", at(1_700_000_000));
        assert_eq!(others, Err(UserSigFault::WrongKey));
    }
}

#[test]
fn a_usersig_changed_after_signing_is_refused() {
    let verifier = UserSigVerifier::new(SDK_APP_ID, SECRET_KEY);
    let verify = |claims: &Value| {
        let usersig = packed(claims.to_string().as_bytes());
        let identifier = claims["TLS.identifier"].as_str().expect("an identifier");
        let wall = Timestamp::from_millis(now_secs() * 1000);
        verifier.verify(&usersig, SDK_APP_ID, identifier, wall)
    };
    let signed = UserSig { userbuf: Some("YWJj"), ..UserSig::of("ann") };
    assert_eq!(verify(&signed.claims()), Ok(()));
    let changes = [
        ("TLS.identifier", json!("administrator")),
        ("TLS.time", json!(signed.time + 1)),
        ("TLS.expire", json!(7200)),
        ("TLS.userbuf", json!("YWJk")),
        ("TLS.userbuf", json!(null)),
        ("TLS.sig", json!("")),
        ("TLS.sig", json!("c2hvcnQ=")),
    ];
    for (field, value) in changes {
        let mut claims = signed.claims();
        claims[field] = value.clone();
        assert_eq!(verify(&claims), Err(UserSigFault::WrongKey), "{field} {value}");
    }

    // An identifier with line breaks must not pass for another identifier.
    let rest = format!("\nTLS.sdkappid:{SDK_APP_ID}\nTLS.time:{}\nTLS.expire:3600", signed.time);
    let lines = format!("administrator{rest}\nTLS.userbuf:x");
    let mut claims = UserSig { identifier: &lines, userbuf: None, ..signed }.claims();
    claims["TLS.identifier"] = json!("administrator");
    claims["TLS.userbuf"] = json!(format!("x{rest}"));
    assert_eq!(verify(&claims), Err(UserSigFault::Unreadable));
}

#[tokio::test]
async fn without_an_application_v4_is_not_found() {
    let server = Server::start(&[("tencent.secret_key", SECRET_KEY)]);
    let query = query("administrator", &UserSig::of("administrator").text());
    for command in [QUERY, KICK, "openim/nothing"] {
        for method in ["POST", "GET"] {
            let request = server.http(method, &format!("/v4/{command}?{query}"));
            assert_eq!(refused(request).await, refusal(404, "not_found"), "{command}");
        }
    }
}

#[tokio::test]
async fn each_invalid_usersig_has_its_documented_code() {
    let server = start(&[]);
    let usual = UserSig::of("administrator");
    let unreadable = |change: &dyn Fn(&mut Value)| {
        let mut claims = usual.claims();
        change(&mut claims);
        packed(claims.to_string().as_bytes())
    };
    let good = usual.text();
    // Valid, except that it exceeds the size limit.
    let bomb = format!("{}{}", usual.claims(), " ".repeat(8 * 1024 * 1024));
    let rows = [
        (good.clone(), 0),
        (UserSig { userbuf: Some("YWJj"), ..usual }.text(), 0),
        (UserSig { time: usual.time - 3600, ..usual }.text(), 70001),
        (UserSig { expire: 0, ..usual }.text(), 70001),
        (UserSig { expire: -1, ..usual }.text(), 70001),
        (UserSig { time: i64::MIN, expire: i64::MIN, ..usual }.text(), 70001),
        (UserSig { time: i64::MAX, expire: i64::MAX, ..usual }.text(), 0),
        (String::new(), 70003),
        ("A".into(), 70003),
        ("AA__".into(), 70003),
        ("eJw_".into(), 70003),
        (good[..good.len() - 8].into(), 70003),
        (packed(b""), 70003),
        (packed(b"{}"), 70003),
        (packed(b"no JSON"), 70003),
        (packed(bomb.as_bytes()), 70003),
        (unreadable(&|claims| claims["TLS.ver"] = json!("1.0")), 70003),
        (unreadable(&|claims| claims["TLS.sig"] = json!("*")), 70003),
        (unreadable(&|claims| claims["TLS.sig"] = json!(null)), 70003),
        (unreadable(&|claims| claims["TLS.time"] = json!("now")), 70003),
        (unreadable(&|claims| claims["TLS.userbuf"] = json!("\n")), 70003),
        (UserSig { key: "another key", ..usual }.text(), 70009),
        (UserSig { key: "", ..usual }.text(), 70009),
        (UserSig::of("ann").text(), 70013),
        (UserSig { sdk_app_id: 7, ..usual }.text(), 70014),
    ];
    for (usersig, expected) in rows {
        let query = query("administrator", &usersig);
        for (command, body) in [(QUERY, r#"{"To_Account":["a"]}"#), (KICK, r#"{"UserID":"a"}"#)] {
            let found = code(&server, command, &query, body).await;
            assert_eq!(found, expected, "{usersig:.200}");
        }
    }
    let signed = |app: &str| format!("{app}identifier=administrator&usersig={good}");
    for (query, expected) in [
        (signed(""), 60012),
        (signed("sdkappid=&"), 60012),
        (signed("sdkappid=app&"), 60012),
        (signed("sdkappid=7&"), 70014),
        (format!("sdkappid={SDK_APP_ID}&usersig={good}"), 70013),
        (format!("sdkappid={SDK_APP_ID}&identifier=administrator"), 70003),
        (signed(&format!("sdkappid={SDK_APP_ID}&sdkappid={SDK_APP_ID}&")), 60002),
    ] {
        let found = code(&server, QUERY, &query, r#"{"To_Account":["a"]}"#).await;
        assert_eq!(found, expected, "{query}");
    }
}

#[tokio::test]
async fn only_administrators_may_call() {
    let server = start(&[("tencent.administrators", r#"["root", "ops"]"#)]);
    let calls = [(QUERY, r#"{"To_Account":["a"]}"#, 90009), (KICK, r#"{"UserID":"a"}"#, 70403)];
    for (command, body, refusal) in calls {
        let rows = [("root", 0), ("ops", 0), ("administrator", refusal), ("a", refusal)];
        for (identifier, expected) in rows {
            let query = query(identifier, &UserSig::of(identifier).text());
            assert_eq!(code(&server, command, &query, body).await, expected, "{identifier}");
        }
    }
}

#[tokio::test]
async fn unknown_commands_are_answered_in_the_documented_format() {
    let server = start(&[]);
    let query = query("administrator", &UserSig::of("administrator").text());
    for command in ["openim/nothing", "openim/kick", "im_open_login_svc/querystate", "x", "a/b/c"] {
        assert_eq!(code(&server, command, &query, "{}").await, 60002, "{command}");
        assert_eq!(code(&server, command, "", "").await, 60002, "{command}");
    }
    for method in ["GET", "PUT", "DELETE"] {
        let request = server.http(method, &format!("/v4/{QUERY}?{query}"));
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{method}");
        assert_eq!(json_of(answer).await["ErrorCode"], 60002, "{method}");
    }
    // A key of the server API is not accepted.
    let request = server.http("POST", &format!("/v4/{QUERY}")).bearer_auth(API_KEY);
    let answer = request.body(r#"{"To_Account":["a"]}"#).send().await.expect("an answer");
    assert_eq!(json_of(answer).await["ErrorCode"], 60012);
}

#[tokio::test]
async fn a_query_returns_states_in_the_order_of_the_request() {
    let server = start(&[]);
    let (_bob, _) = server.login("bob", "web").await;
    let (phone, _) = server.login("amy", "ios").await;
    drop(phone);
    server.until_state("amy", "PushOnline").await;
    for command in [QUERY, "openim/querystate"] {
        let asked = ["zoe", "bob", "amy", "", "bob"];
        let answer = ask(&server, command, &json!({ "To_Account": asked })).await;
        let account = |user: &str, state: &str| json!({ "To_Account": user, "Status": state, "State": state });
        let expected = json!({
            "ActionStatus": "OK", "ErrorInfo": "", "ErrorCode": 0,
            "QueryResult": [
                account("zoe", "Offline"), account("bob", "Online"), account("amy", "PushOnline"),
                account("bob", "Online"),
            ],
            "ErrorList": [{ "To_Account": "", "ErrorCode": 70107 }],
        });
        assert_eq!(answer, expected, "{command}");
    }
    let most: Vec<_> = (0..500).map(|n| format!("user{n}")).collect();
    let answer = ask(&server, QUERY, &json!({ "To_Account": most })).await;
    assert_eq!(answer["QueryResult"].as_array().map(Vec::len), Some(500));
    assert_eq!(
        (&answer["ErrorList"], &answer["QueryResult"][499]["To_Account"]),
        (&json!([]), &json!("user499"))
    );
}

#[tokio::test]
async fn unknown_accounts_can_be_reported_as_errors() {
    let server = start(&[("tencent.unknown_account_error", "true")]);
    let (mut bob, _) = server.login("bob", "web").await;
    bob.ok(json!({ "type": "logout" })).await;
    let answer = ask(&server, QUERY, &json!({ "To_Account": ["zoe", "bob", ""] })).await;
    let bob = json!({ "To_Account": "bob", "Status": "Offline", "State": "Offline" });
    assert_eq!(answer["QueryResult"], json!([bob]), "logged out, but known");
    let unknown = |user: &str| json!({ "To_Account": user, "ErrorCode": 70107 });
    assert_eq!(answer["ErrorList"], json!([unknown("zoe"), unknown("")]));
    assert_eq!(answer["ActionStatus"], "OK");
}

#[tokio::test]
async fn detail_uses_tencents_platform_names() {
    let server = start(&[("login.policy", "multi"), ("login.miniprogram_as_web", "false")]);
    let names = [
        ("android", "Android"),
        ("ios", "iPhone"),
        ("ipad", "iPad"),
        ("windows", "PC"),
        ("mac", "Mac"),
        ("linux", "PC"),
        ("web", "Web"),
        ("miniprogram", "Web"),
    ];
    let mut clients = Vec::new();
    for (platform, _) in names {
        clients.push(server.login("bob", platform).await.0);
    }
    let detail = async |more: Value| {
        let mut body = json!({ "To_Account": ["bob", "zoe"], "IsNeedDetail": 1 });
        body.as_object_mut().expect("a body").extend(more.as_object().expect("more").clone());
        let answer = ask(&server, QUERY, &body).await;
        assert_eq!(
            answer["QueryResult"][1].get("Detail"),
            None,
            "an unknown user has no terminals"
        );
        answer["QueryResult"][0]["Detail"].clone()
    };
    let online = names.map(|(_, name)| json!({ "Platform": name, "Status": "Online" }));
    assert_eq!(detail(json!({})).await, json!(online));

    // The phone disconnects, and the user stays Online elsewhere.
    drop(clients.remove(1));
    let gone = async {
        while detail(json!({})).await[1]["Status"] != "PushOnline" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, gone).await.expect("the phone to be gone");
    let bob = ask(&server, QUERY, &json!({ "To_Account": ["bob"] })).await;
    assert_eq!(bob["QueryResult"][0]["Status"], "Online");

    let devices = detail(json!({ "IsReturnInstid": 1 })).await;
    let mut instids: Vec<_> = devices.as_array().expect("a list").iter().collect();
    instids.sort_by_key(|device| device["Instid"].as_i64());
    instids.dedup_by_key(|device| device["Instid"].as_i64().expect("a number"));
    assert_eq!(instids.len(), names.len(), "each device has its own id: {devices}");
    clients.push(server.login("bob", "ios").await.0);
    let again = detail(json!({ "IsReturnInstid": 1 })).await;
    let phone = |detail: &Value| {
        let mut devices = detail.as_array().expect("a list").iter();
        devices.find(|device| device["Platform"] == "iPhone").expect("a phone")["Instid"].clone()
    };
    assert_eq!(phone(&again), phone(&devices), "a device keeps its id");
}

#[tokio::test]
async fn optional_fields_are_returned_only_on_request() {
    let server = start(&[]);
    let (mut bob, _) = server.login("bob", "web").await;
    let first = async |flags: Value| {
        let mut body = json!({ "To_Account": ["bob"] });
        body.as_object_mut().expect("a body").extend(flags.as_object().expect("flags").clone());
        ask(&server, QUERY, &body).await["QueryResult"][0].clone()
    };
    let state = json!({ "To_Account": "bob", "Status": "Online", "State": "Online" });
    let none = json!({ "IsNeedDetail": 0, "IsReturnInstid": 0, "IsReturnCustomStatus": 0 });
    let odd = json!({ "IsNeedDetail": null, "Other": [1], "IsReturnInstid": 1 });
    for flags in [none, odd] {
        assert_eq!(first(flags.clone()).await, state, "{flags}");
    }
    let custom = async || first(json!({ "IsReturnCustomStatus": 1 })).await["CustomStatus"].clone();
    assert_eq!(custom().await, "");
    bob.ok(json!({ "type": "set", "custom": "listening" })).await;
    assert_eq!(custom().await, "listening");
    let detail = first(json!({ "IsNeedDetail": 1, "IsReturnCustomStatus": 1 })).await;
    assert_eq!(detail["Detail"], json!([{ "Platform": "Web", "Status": "Online" }]));
}

#[tokio::test]
async fn a_kick_ends_every_terminal_and_revokes_tokens() {
    let server = start(&[("login.policy", "multi")]);
    for field in ["UserID", "Identifier"] {
        let old = json!({ "sub": "bob", "iat": now_secs() - 60, "exp": now_secs() + 3600 });
        let login = |token: &str, platform: &str| json!({ "type": "login", "token": token, "platform": platform, "device": platform });
        let (mut web, _) = server.login("bob", "web").await;
        let (mut mac, _) = server.login("bob", "mac").await;
        let answer = ask(&server, KICK, &json!({ field: "bob" })).await;
        assert_eq!(answer, json!({ "ActionStatus": "OK", "ErrorInfo": "", "ErrorCode": 0 }));
        for client in [&mut web, &mut mac] {
            assert_eq!(ended(client).await["reason"], "admin");
        }
        assert_eq!(server.user("bob").await["state"], "Offline");
        let mut client = server.connect().await;
        assert_eq!(client.error(login(&token_with(old), "web")).await, "token_revoked");
        let mut client = server.connect().await;
        client.ok(login(&token("bob"), "web")).await;
    }
    let both = json!({ "UserID": "bob", "Identifier": "ann" });
    let (mut ann, _) = server.login("ann", "web").await;
    assert_eq!(ask(&server, KICK, &both).await["ErrorCode"], 0);
    assert_eq!(server.user("bob").await["state"], "Offline");
    ann.ok(json!({ "type": "ping" })).await;
    assert_eq!(ask(&server, KICK, &json!({ "UserID": "nobody" })).await["ErrorCode"], 0);
}

#[tokio::test]
async fn invalid_bodies_have_their_documented_codes() {
    let server = start(&[]);
    let query = query("administrator", &UserSig::of("administrator").text());
    let many: Vec<_> = (0..501).map(|n| format!("user{n}")).collect();
    let large = format!(r#"{{"To_Account":["a"],"UserID":"a","x":"{}"}}"#, "x".repeat(1 << 20));
    let rows = [
        (QUERY, String::new(), 90001),
        (QUERY, "{".into(), 90001),
        (QUERY, r#"[["a"]]"#.into(), 90001),
        (QUERY, "{}".into(), 90001),
        (QUERY, r#"{"To_Account":null}"#.into(), 90001),
        (QUERY, r#"{"To_Account":[]}"#.into(), 90001),
        (QUERY, r#"{"To_Account":"a"}"#.into(), 90003),
        (QUERY, r#"{"To_Account":{"a":1}}"#.into(), 90003),
        (QUERY, r#"{"To_Account":["a",7]}"#.into(), 90003),
        (QUERY, r#"{"To_Account":[["a"]]}"#.into(), 90003),
        (QUERY, json!({ "To_Account": many }).to_string(), 90011),
        (QUERY, large.clone(), 60008),
        (KICK, String::new(), 70402),
        (KICK, "{".into(), 70402),
        (KICK, r#"["a"]"#.into(), 70402),
        (KICK, "{}".into(), 70402),
        (KICK, r#"{"UserID":7}"#.into(), 70402),
        (KICK, r#"{"UserID":""}"#.into(), 70402),
        (KICK, r#"{"Identifier":" a"}"#.into(), 70402),
        (KICK, r#"{"userid":"a"}"#.into(), 70402),
        (KICK, large, 60008),
    ];
    for (command, body, expected) in rows {
        let found = code(&server, command, &query, &body).await;
        assert_eq!(found, expected, "{command} {body:.60}");
    }
}

#[tokio::test]
async fn the_content_type_is_ignored() {
    let server = start(&[]);
    let query = query("administrator", &UserSig::of("administrator").text());
    let types =
        ["application/x-www-form-urlencoded", "text/plain", "nonsense", "", "multipart/form-data"];
    for said in types.map(Some).into_iter().chain([None]) {
        let mut request = server.http("POST", &format!("/v4/{QUERY}?{query}"));
        if let Some(said) = said {
            request = request.header("content-type", said);
        }
        let answer = request.body(r#"{"To_Account":["a"]}"#).send().await.expect("an answer");
        assert_eq!(json_of(answer).await["ErrorCode"], 0, "{said:?}");
    }
}

#[tokio::test]
async fn a_reload_changes_the_application() {
    let file =
        |key: &str| format!("[tencent]\nsdk_app_id = {SDK_APP_ID}\nsecret_key = \"{key}\"\n");
    let server = Server::with_file("", &[]);
    let query = query("administrator", &UserSig::of("administrator").text());
    let ask = async || {
        let request = server.http("POST", &format!("/v4/{QUERY}?{query}"));
        let answer = request.body(r#"{"To_Account":["a"]}"#).send().await.expect("an answer");
        (answer.status().as_u16(), json_of(answer).await["ErrorCode"].clone())
    };
    let until = async |expected: (u16, Value), text: &str| {
        std::fs::write(server.directory.path().join("config.toml"), text).expect("to write");
        server.signal(Signal::HUP);
        let changed = async {
            while ask().await != expected {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(SOON, changed).await.unwrap_or_else(|_| panic!("it never was {expected:?}"));
    };
    assert_eq!(ask().await, (404, json!(null)));
    until((200, json!(0)), &file(SECRET_KEY)).await;
    until((200, json!(70009)), &file("a new key")).await;
    until((404, json!(null)), "").await;
}
