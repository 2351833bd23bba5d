//! The dashboard's login, its cookie, and the audit log.

use std::net::SocketAddr;
use std::time::Duration;

use presence_hub::auth::{ApiKeys, Bucket, Buckets, LOGIN_TTL, LOGINS_MAX, Logins, Rate};
use presence_hub::presence::Timestamp;
use reqwest::Response;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{ADMIN_KEY, VIEWER_KEY, json_of, refusal, refused};
use crate::lab::Lab;
use crate::support::{API_KEY, Server, http, until};

const COOKIE: &str = "presence_hub_session";
const ACT: (&str, &str) = ("x-presence-hub", "dashboard");

fn server_with(settings: &[(&str, &str)]) -> Server {
    let (viewers, admins) = (format!("[\"{VIEWER_KEY}\"]"), format!("[\"{ADMIN_KEY}\"]"));
    let own = [("auth.viewer_keys", viewers.as_str()), ("auth.admin_keys", admins.as_str())];
    Server::start(&[&own, settings].concat())
}

async fn log_in(address: SocketAddr, key: &str) -> Response {
    let request = http(address, "POST", "/v1/admin/session");
    request.json(&json!({ "key": key })).send().await.expect("an answer")
}

/// The header that sets the cookie.
fn set_cookie(answer: &Response) -> String {
    answer.headers()["set-cookie"].to_str().expect("a text").to_owned()
}

/// Logs in; returns the cookie as a browser sends it.
async fn cookie(address: SocketAddr, key: &str) -> String {
    let answer = log_in(address, key).await;
    assert_eq!(answer.status(), 200);
    set_cookie(&answer).split(';').next().expect("the cookie").to_owned()
}

#[tokio::test]
async fn a_login_sets_a_cookie_that_scripts_and_other_sites_cannot_use() {
    let server = server_with(&[("server.trusted_proxies", "[\"127.0.0.1\"]")]);
    let before = crate::support::now_millis();
    let answer = log_in(server.address, ADMIN_KEY).await;
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let set = set_cookie(&answer);
    let (pair, attributes) = set.split_once("; ").expect("attributes");
    assert_eq!(attributes, "Path=/v1; HttpOnly; SameSite=Strict; Max-Age=28800");
    let (name, id) = pair.split_once('=').expect("a name");
    assert!(name.starts_with(COOKIE) && name.len() == COOKIE.len() + 9, "{name}");
    assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    let body = json_of(answer).await;
    assert_eq!(body["role"], "admin");
    assert_eq!(body["key"].as_str().map(str::len), Some(8), "{body}");
    let expires = body["expires"].as_u64().expect("a time");
    assert!(expires.abs_diff(before + 8 * 3600 * 1000) < 60_000, "{expires}");

    let proxied = |proto: &'static str| {
        let request = server.http("POST", "/v1/admin/session").json(&json!({ "key": ADMIN_KEY }));
        request.header("x-forwarded-proto", proto).send()
    };
    for (proto, is_secure) in [("https", true), ("HTTPS, http", true), ("http", false)] {
        let set = set_cookie(&proxied(proto).await.expect("an answer"));
        assert_eq!(set.ends_with("; Secure"), is_secure, "{proto}: {set}");
        assert!(!set.starts_with(pair), "each login has its own cookie");
    }
    // Headers of an untrusted peer are ignored.
    let untrusting = server_with(&[]);
    let request = untrusting.http("POST", "/v1/admin/session").json(&json!({ "key": ADMIN_KEY }));
    let answer = request.header("x-forwarded-proto", "https").send().await.expect("an answer");
    assert!(!set_cookie(&answer).contains("Secure"));
}

#[tokio::test]
async fn a_cookie_has_the_rights_of_its_role() {
    let server = server_with(&[]);
    let (_bob, _) = server.login("bob", "web").await;
    let admin = cookie(server.address, ADMIN_KEY).await;
    let viewer = cookie(server.address, VIEWER_KEY).await;
    let reads = [
        ("GET", "/v1/users/bob", ""),
        ("GET", "/v1/stats", ""),
        ("POST", "/v1/status", r#"{"users":["bob"]}"#),
        ("GET", "/v1/admin/session", ""),
    ];
    for (method, path, body) in reads {
        for cookie in [&admin, &viewer] {
            let (name, _) = cookie.split_once('=').expect("a name");
            let other = format!("a=b; {COOKIE}=0; {name}=0; {cookie}; c");
            for cookie in [cookie, &other] {
                let request = server.http(method, path).header("cookie", cookie).body(body);
                assert_eq!(request.send().await.expect("an answer").status(), 200, "{path}");
            }
        }
        for cookie in ["", &admin[..admin.len() - 1], &format!("{admin}0"), COOKIE] {
            let request = server.http(method, path).header("cookie", cookie).body(body);
            assert_eq!(refused(request).await, refusal(401, "unauthorized"), "{path} {cookie}");
        }
        // A key takes precedence over the cookie.
        let request = server.http(method, path).header("cookie", &admin).body(body);
        let request = request.bearer_auth("not-a-key-of-this-hub");
        assert_eq!(refused(request).await, refusal(401, "unauthorized"), "{path}");
    }
    let actions = [
        ("PUT", "/v1/users/bob/custom", r#"{"custom":"hi"}"#, 200),
        ("POST", "/v1/webhooks/dead/retry", r#"{"all":true}"#, 200),
        ("POST", "/v1/webhooks/dead/drop", r#"{"all":true}"#, 200),
        ("POST", "/v1/webhooks/test", "", 409),
        ("POST", "/v1/users/bob/kick", r#"{"all":true,"message":"bye"}"#, 200),
    ];
    for (method, path, body, status) in actions {
        let by = |cookie: &str| server.http(method, path).header("cookie", cookie).body(body);
        assert_eq!(refused(by(&admin)).await, refusal(403, "forbidden"), "{path}: no header");
        let viewers = by(&viewer).header(ACT.0, ACT.1);
        assert_eq!(refused(viewers).await, refusal(403, "forbidden"), "{path}: a viewer");
        let answer = by(&admin).header(ACT.0, ACT.1).send().await.expect("an answer");
        assert_eq!(answer.status(), status, "{path}");
    }
    assert_eq!(server.user("bob").await["state"], "Offline", "the kick worked");
}

#[tokio::test]
async fn the_cookie_is_accepted_only_under_v1() {
    let server = server_with(&[
        ("auth.secret", ""),
        ("tencent.sdk_app_id", "7"),
        ("tencent.secret_key", "what only the application knows"),
    ]);
    let cookie = cookie(server.address, ADMIN_KEY).await;
    let with = |method: &str, path: &str| {
        server.http(method, path).header("cookie", &cookie).header(ACT.0, ACT.1)
    };
    let body = json!({ "user": "ann" }).to_string();
    assert_eq!(refused(with("POST", "/dev/token").body(body)).await, refusal(401, "unauthorized"));
    let metrics = with("GET", "/metrics").header("x-forwarded-for", "192.0.2.1");
    assert_eq!(refused(metrics).await, refusal(401, "unauthorized"));
    let query = "/v4/openim/query_online_status?sdkappid=7&identifier=administrator&usersig=x";
    let answer = with("POST", query).body("{}").send().await.expect("an answer");
    assert_eq!(json_of(answer).await["ErrorCode"], 70003);

    let stream = tokio::net::TcpStream::connect(server.address).await.expect("a connection");
    let url = format!("ws://{}/ws", server.address);
    let mut request =
        tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(url)
            .expect("a request");
    request.headers_mut().insert("cookie", cookie.parse().expect("a header"));
    let (socket, _) = tokio_tungstenite::client_async(request, stream).await.expect("an upgrade");
    let mut client = crate::support::Client::over(socket, crate::support::SOON);
    assert_eq!(client.error(json!({ "type": "sessions" })).await, "not_logged_in");
}

#[tokio::test]
async fn two_hubs_on_one_host_use_different_cookies() {
    let mut one = server_with(&[]);
    let other = server_with(&[]);
    let logins = [cookie(one.address, ADMIN_KEY).await, cookie(other.address, ADMIN_KEY).await];
    let name = |cookie: &str| cookie.split_once('=').expect("a name").0.to_owned();
    assert_ne!(name(&logins[0]), name(&logins[1]), "one cookie would replace the other");
    // A browser sends both cookies to both hubs: cookies ignore the port.
    let both = logins.join("; ");
    let ask = async |server: &Server, method: &str| {
        let request = server.http(method, "/v1/admin/session").header("cookie", &both);
        request.send().await.expect("an answer")
    };
    for server in [&one, &other] {
        assert_eq!(ask(server, "GET").await.status(), 200);
    }
    let set = set_cookie(&ask(&one, "DELETE").await);
    assert_eq!(name(&set), name(&logins[0]), "only its own cookie is removed");
    assert_eq!(ask(&one, "GET").await.status(), 401);
    assert_eq!(ask(&other, "GET").await.status(), 200);
    one.restart(&[("auth.admin_keys", &format!("[\"{ADMIN_KEY}\"]"))]);
    let again = cookie(one.address, ADMIN_KEY).await;
    assert_eq!(name(&again), name(&logins[0]), "restarts do not change the cookie's name");
}

#[tokio::test]
async fn logout_ends_only_that_login() {
    let server = server_with(&[]);
    let [one, other] =
        [cookie(server.address, VIEWER_KEY).await, cookie(server.address, VIEWER_KEY).await];
    let who = |cookie: &str| server.http("GET", "/v1/admin/session").header("cookie", cookie);
    let answer = json_of(who(&one).send().await.expect("an answer")).await;
    assert_eq!((&answer["role"], answer["expires"].is_u64()), (&json!("viewer"), true), "{answer}");
    for _ in 0..2 {
        let request = server.http("DELETE", "/v1/admin/session").header("cookie", &one);
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let set = set_cookie(&answer);
        assert!(
            set.starts_with(COOKIE) && set.contains("=; ") && set.contains("Max-Age=0"),
            "{set}"
        );
        assert!(set.contains("Path=/v1;"), "{set}");
        assert_eq!(refused(who(&one)).await, refusal(401, "unauthorized"));
    }
    assert_eq!(who(&other).send().await.expect("an answer").status(), 200, "the other login stays");
    let by_key = server.http("GET", "/v1/admin/session").bearer_auth(API_KEY);
    let answer = json_of(by_key.send().await.expect("an answer")).await;
    assert_eq!((&answer["role"], &answer["expires"]), (&json!("api"), &Value::Null));
}

#[tokio::test]
async fn wrong_keys_are_rate_limited_and_correct_ones_are_not() {
    let server = server_with(&[("server.trusted_proxies", "[\"127.0.0.1\"]")]);
    let from = async |address: &str, key: &str| {
        let request = server.http("POST", "/v1/admin/session").json(&json!({ "key": key }));
        request.header("x-forwarded-for", address).send().await.expect("an answer")
    };
    // Correct keys do not count.
    for _ in 0..7 {
        assert_eq!(from("192.0.2.1", VIEWER_KEY).await.status(), 200);
    }
    for n in 0..5 {
        assert_eq!(from("192.0.2.1", &format!("not-a-key-{n}")).await.status(), 401);
    }
    let answer = from("192.0.2.1", "not-a-key").await;
    assert_eq!(answer.status(), 429);
    let wait: u64 = answer.headers()["retry-after"]
        .to_str()
        .ok()
        .and_then(|s| s.parse().ok())
        .expect("seconds");
    assert!((1..=12).contains(&wait), "{wait} s");
    assert_eq!(json_of(answer).await["error"]["code"], "rate_limited");
    assert_eq!(from("192.0.2.2", ADMIN_KEY).await.status(), 200, "another address");
    assert_eq!(from("2001:db8::1", "x").await.status(), 401);
    // Keys in headers are not limited: failed dashboard logins must not lock out a back end.
    let stats = server.http("GET", "/v1/stats").header("x-forwarded-for", "192.0.2.1");
    assert_eq!(stats.bearer_auth(API_KEY).send().await.expect("an answer").status(), 200);

    for body in ["", "{}", r#"{"key":7}"#, r#"{"key":"x","role":"admin"}"#, r#"["x"]"#] {
        let request = server.http("POST", "/v1/admin/session").body(body);
        assert_eq!(refused(request).await, refusal(400, "bad_request"), "{body}");
    }
    let long = server.http("POST", "/v1/admin/session").json(&json!({ "key": "x".repeat(4096) }));
    assert_eq!(refused(long).await, refusal(413, "too_large"));
    let back_end = server.http("POST", "/v1/admin/session").json(&json!({ "key": API_KEY }));
    assert_eq!(refused(back_end).await, refusal(403, "forbidden"));
}

/// Keys of each role.
fn keys(viewer: &[&str], admin: &[&str]) -> ApiKeys {
    let texts = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
    ApiKeys::new(&texts(viewer), &[], &texts(admin))
}

/// Advances the hub's time.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_login_expires_after_eight_hours_and_the_wrong_key_limit_refills() {
    let lab = Lab::new();
    let (address, _) = lab.serve_http(|settings| settings.keys = keys(&[VIEWER_KEY], &[ADMIN_KEY]));
    let admin = cookie(address, ADMIN_KEY).await;
    for _ in 0..5 {
        assert_eq!(log_in(address, "not-a-key-of-this-hub").await.status(), 401);
    }
    assert_eq!(log_in(address, ADMIN_KEY).await.status(), 429);
    pass(Duration::from_secs(12)).await;
    assert_eq!(log_in(address, ADMIN_KEY).await.status(), 200, "one more");

    let stats = async || {
        let request = http(address, "GET", "/v1/stats").header("cookie", &admin);
        request.send().await.expect("an answer").status().as_u16()
    };
    pass(LOGIN_TTL - Duration::from_secs(60)).await;
    assert_eq!(stats().await, 200);
    pass(Duration::from_secs(60)).await;
    assert_eq!(stats().await, 401);
}

#[tokio::test]
async fn a_login_ends_when_its_key_is_removed_and_follows_its_role() {
    let lab = Lab::new();
    let (address, app) = lab.serve_http(|settings| settings.keys = keys(&["viewer"], &["a", "b"]));
    let [a, b] = [cookie(address, "a").await, cookie(address, "b").await];
    let who = async |cookie: &str| {
        let request = http(address, "GET", "/v1/admin/session").header("cookie", cookie);
        json_of(request.send().await.expect("an answer")).await["role"].clone()
    };
    let reload = |keys: ApiKeys| {
        let mut settings = presence_hub::http::Settings::clone(&app.settings());
        settings.keys = keys;
        app.set_settings(settings);
    };
    reload(keys(&["a"], &["c"]));
    assert_eq!((who(&a).await, who(&b).await), (json!("viewer"), Value::Null));
    reload(keys(&[], &["a", "b", "c"]));
    assert_eq!(
        (who(&a).await, who(&b).await),
        (json!("admin"), Value::Null),
        "the login has ended"
    );
}

#[tokio::test]
async fn a_reload_ends_the_logins_and_streams_of_a_removed_key() {
    let file = |keys: &str| format!("[auth]\nadmin_keys = {keys}\n");
    let server =
        Server::with_file(&file("[\"the-first-of-two-keys\", \"the-second-of-two-keys\"]"), &[]);
    let first = cookie(server.address, "the-first-of-two-keys").await;
    let second = cookie(server.address, "the-second-of-two-keys").await;
    let config = server.directory.path().join("config.toml");
    std::fs::write(config, file("[\"the-second-of-two-keys\"]")).expect("to write");
    let stream = server.http("GET", "/v1/events").header("cookie", &first);
    let mut stream = stream.header("accept", "text/event-stream").send().await.expect("an answer");
    assert_eq!(stream.status(), 200);
    server.signal(Signal::HUP);
    let status = async |cookie: &str| {
        let request = server.http("GET", "/v1/stats").header("cookie", cookie);
        request.send().await.expect("an answer").status().as_u16()
    };
    until("the reload", async || status(&first).await == 401).await;
    assert_eq!(status(&second).await, 200);
    // Event streams of the removed key end with the next event.
    let _ann = server.login("ann", "web").await;
    let _bob = server.login("bob", "web").await;
    until("the end", async || matches!(stream.chunk().await, Ok(None) | Err(_))).await;
}

#[tokio::test]
async fn actions_are_audited_with_caller_user_and_reason() {
    let server = server_with(&[]);
    let (_bob, _) = server.login("bob", "web").await;
    let (_eve, _) = server.login("<img src=x>", "web").await;
    let answer = log_in(server.address, ADMIN_KEY).await;
    let cookie = set_cookie(&answer).split(';').next().expect("the cookie").to_owned();
    let mark = json_of(answer).await["key"].as_str().expect("a mark").to_owned();
    let act = async |method: &str, path: &str, body: &str| {
        let request = server.http(method, path).header("cookie", &cookie).header(ACT.0, ACT.1);
        let answer = request.body(body.to_owned()).send().await.expect("an answer");
        assert!(answer.status() == 200 || answer.status() == 409, "{path}");
    };
    let who = format!("key={mark} address=127.0.0.1");
    server.until_logged(&[" audit: ", "role=\"admin\"", &who, "action=\"log in\""]).await;
    act("PUT", "/v1/users/bob/custom", r#"{"custom":"away"}"#).await;
    let noted = [" audit: ", &who, "action=\"set custom\"", "whom=\"bob\"", "away"];
    server.until_logged(&noted).await;
    act("POST", "/v1/users/bob/kick", r#"{"platform":"web","message":"spam\nline"}"#).await;
    let noted = [
        " audit: ",
        &who,
        "action=\"kick\"",
        "whom=\"bob\"",
        "platform web: 1 ended",
        "why=\"spam\\nline\"",
        "done",
    ];
    server.until_logged(&noted).await;
    act("POST", "/v1/users/%3Cimg%20src=x%3E/kick", r#"{"all":true}"#).await;
    let noted = ["action=\"kick\"", "<img src=x>", "everything: 1 ended, tokens revoked"];
    server.until_logged(&noted).await;
    act("POST", "/v1/webhooks/dead/retry", r#"{"all":true}"#).await;
    server.until_logged(&[&who, "action=\"retry dead letters\"", "0 dead letters"]).await;
    act("POST", "/v1/webhooks/dead/drop", r#"{"all":true}"#).await;
    server.until_logged(&[&who, "action=\"drop dead letters\""]).await;
    act("POST", "/v1/webhooks/test", "").await;
    server.until_logged(&[&who, "action=\"test the webhook\"", "failed"]).await;

    let viewer = server.http("POST", "/v1/users/bob/kick").bearer_auth(VIEWER_KEY);
    assert_eq!(refused(viewer).await, refusal(403, "forbidden"));
    server
        .until_logged(&[" audit: ", "role=\"viewer\"", "POST /v1/users/bob/kick", "refused"])
        .await;
    assert_eq!(log_in(server.address, "a wrong key, typed in").await.status(), 401);
    server.until_logged(&[" audit: ", "address=127.0.0.1", "action=\"wrong key\""]).await;
    act("DELETE", "/v1/admin/session", "").await;
    server.until_logged(&[" audit: ", &who, "action=\"log out\""]).await;

    let log = server.log();
    let id = cookie.split('=').nth(1).expect("an id");
    for secret in [ADMIN_KEY, VIEWER_KEY, API_KEY, "a wrong key, typed in", id] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test]
async fn audit_lines_about_wrong_keys_are_rate_limited() {
    let server = server_with(&[]);
    for _ in 0..50 {
        let request = server.http("GET", "/v1/stats").bearer_auth("not-a-key-of-this-hub");
        assert_eq!(refused(request).await, refusal(401, "unauthorized"));
    }
    server.until_logged(&[" audit: ", "action=\"wrong key\""]).await;
    let noted = server.log().matches("action=\"wrong key\"").count();
    assert!((1..=10).contains(&noted), "{noted} lines");
}

#[test]
fn logins_are_bounded_per_key_and_expire() {
    let keys = keys(&["viewer"], &["admin"]);
    let mark = |key: &str| keys.bearer(key).expect("a key").mark;
    let logins = Logins::default();
    let at = |seconds: u64| Timestamp::from_millis(1_000_000 + seconds * 1000);
    let other = logins.begin(mark("viewer"), at(0));
    let ids: Vec<_> = (0..=LOGINS_MAX as u64).map(|n| logins.begin(mark("admin"), at(n))).collect();
    assert_eq!(logins.len(), LOGINS_MAX + 1);
    let now = at(LOGINS_MAX as u64);
    assert_eq!(logins.find(&ids[0], now), None, "the oldest login was evicted");
    assert_eq!(logins.find(&ids[1], now).map(|login| login.key), Some(mark("admin")));
    assert!(logins.find(&other, now).is_some(), "not the login of another key");
    let last = logins.find(&other, now).expect("a login").expires;
    assert_eq!(last, at(0) + LOGIN_TTL);
    assert!(logins.find(&other, last).is_none());
    logins.begin(mark("admin"), last + LOGIN_TTL);
    assert_eq!(logins.len(), 1, "expired logins are removed");
    logins.keep(|key| key != mark("admin"));
    assert!(logins.is_empty());
}

#[test]
fn a_bucket_accepts_unused_tokens_back() {
    let rate = Rate { burst: 2, per: 1, interval: Duration::from_secs(10) };
    let at = |seconds: u64| Timestamp::from_millis(seconds * 1000);
    let mut bucket = Bucket::default();
    for _ in 0..10 {
        assert!(bucket.take(&rate, at(1)));
        bucket.put_back();
    }
    assert!(bucket.take(&rate, at(1)) && bucket.take(&rate, at(1)) && !bucket.take(&rate, at(1)));
    assert!(!bucket.take(&rate, at(10)) && bucket.take(&rate, at(11)));
}

#[test]
fn buckets_are_evicted_only_when_full_again() {
    let rate = Rate { burst: 2, per: 1, interval: Duration::from_secs(10) };
    let at = |seconds: u64| Timestamp::from_millis(seconds * 1000);
    for begin in [1_000, 1_007, 1_019] {
        let buckets = Buckets::default();
        buckets.take(&0, &rate, at(1_000));
        let take = |seconds| buckets.take(&1, &rate, at(begin + seconds));
        assert!(take(0) && take(0) && !take(0), "from {begin} on");
        assert!(!take(9) && take(19) && !take(19), "one came back");
        assert!(take(39) && take(39) && !take(39), "no more than both");
        // Many other keys do not refill it.
        assert!((2..40_000).all(|other| buckets.take(&other, &rate, at(begin + 39))));
        assert!(!take(39));
        buckets.put_back(&1);
        assert!(take(39) && !take(39));
        // 60,000 keys evict the older half, but not this one; 160,000 evict it too.
        assert!((40_000..60_000).all(|other| buckets.take(&other, &rate, at(begin + 39))));
        assert!(!take(39));
        assert!((60_000..160_000).all(|other| buckets.take(&other, &rate, at(begin + 39))));
        assert!(take(39));
    }
}

#[test]
fn bucket_eviction_follows_the_current_rate() {
    let fast = Rate { burst: 1, per: 1, interval: Duration::from_secs(1) };
    let slow = Rate { burst: 1, per: 1, interval: Duration::from_secs(1000) };
    let at = |seconds: u64| Timestamp::from_millis(seconds * 1000);
    let buckets = Buckets::default();
    assert!(buckets.take(&0, &fast, at(1)));
    assert!(buckets.take(&1, &slow, at(2)) && !buckets.take(&1, &slow, at(3)));
    for seconds in (10..1000).step_by(10) {
        buckets.take(&0, &slow, at(seconds));
        assert!(!buckets.take(&1, &slow, at(seconds + 1)), "after {seconds} s");
    }
}
