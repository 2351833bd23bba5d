//! Token verification: algorithm, header, times and claims.

use jsonwebtoken::crypto::sign;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use crate::support::{SECRET, Server, now_secs};

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// Encodes bytes as base64url without padding (RFC 4648, section 5).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let byte = |n: usize| u32::from(three.get(n).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for n in 0..=three.len() {
            text.push(char::from(DIGITS[(bits >> (18 - 6 * n) & 63) as usize]));
        }
    }
    text
}

/// A token with this header and these claims, verbatim.
fn written(header: &str, claims: &str, secret: &str, algorithm: Algorithm) -> String {
    let signed = format!("{}.{}", base64(header.as_bytes()), base64(claims.as_bytes()));
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = sign(signed.as_bytes(), &key, algorithm).expect("a signature");
    format!("{signed}.{signature}")
}

/// A correctly signed token with this header.
fn headed(header: &Value) -> String {
    written(&header.to_string(), &usual().to_string(), SECRET, Algorithm::HS256)
}

/// A correctly signed token with changed claims; null removes a claim.
fn claiming(changes: &Value) -> String {
    let mut claims = usual();
    for (name, value) in changes.as_object().expect("claims") {
        claims[name] = value.clone();
    }
    claims.as_object_mut().expect("claims").retain(|_, value| !value.is_null());
    written(r#"{"alg":"HS256"}"#, &claims.to_string(), SECRET, Algorithm::HS256)
}

fn usual() -> Value {
    json!({ "sub": "ann", "iat": now_secs(), "exp": now_secs() + HOUR })
}

/// Logs in on `linux` as `desk`; if refused, returns the error code and the close code.
async fn attempt(server: &Server, token: &str) -> Option<(String, u16)> {
    let mut client = server.connect().await;
    let login = json!({ "type": "login", "token": token, "platform": "linux", "device": "desk" });
    let reply = client.request(login).await;
    let code = reply["error"]["code"].as_str()?.to_owned();
    let message = reply["error"]["message"].as_str().expect("words");
    assert!(token.is_empty() || !message.contains(token), "the token is told");
    let (messages, close) = client.until_closed().await;
    assert_eq!(messages, Vec::<Value>::new(), "after a refusal");
    Some((code, close.expect("a Close frame")))
}

async fn check(server: &Server, rows: &[(&str, String)], refusal: Option<(&str, u16)>) {
    for (name, token) in rows {
        let outcome = attempt(server, token).await;
        let outcome = outcome.as_ref().map(|(code, close)| (code.as_str(), *close));
        assert_eq!(outcome, refusal, "{name}");
    }
}

const INVALID: Option<(&str, u16)> = Some(("invalid_token", 4502));

#[tokio::test]
async fn only_the_configured_algorithm_and_key_are_accepted() {
    let server = Server::start(&[]);
    let claims = usual().to_string();
    let good = headed(&json!({ "alg": "HS256", "typ": "JWT" }));
    let unsigned = |alg: &str| {
        let header = json!({ "alg": alg }).to_string();
        format!("{}.{}.", base64(header.as_bytes()), base64(claims.as_bytes()))
    };
    let signature = good.rsplit_once('.').expect("a signature").1;
    let flipped = if good[good.len() - 5..].starts_with('A') { "E" } else { "A" };
    let rows = [
        ("none", unsigned("none")),
        ("None", unsigned("None")),
        ("none, and a signature", unsigned("none") + signature),
        ("HS256 without a signature", unsigned("HS256")),
        ("no alg", headed(&json!({ "typ": "JWT" }))),
        ("HS384 that is HS256", headed(&json!({ "alg": "HS384" }))),
        ("HS384", written(r#"{"alg":"HS384"}"#, &claims, SECRET, Algorithm::HS384)),
        ("HS512", written(r#"{"alg":"HS512"}"#, &claims, SECRET, Algorithm::HS512)),
        ("HS256 that is HS512", written(r#"{"alg":"HS256"}"#, &claims, SECRET, Algorithm::HS512)),
        ("RS256 that is HS256", headed(&json!({ "alg": "RS256" }))),
        ("EdDSA that is HS256", headed(&json!({ "alg": "EdDSA" }))),
        ("an algorithm made up", headed(&json!({ "alg": "XX256" }))),
        ("another key", written(r#"{"alg":"HS256"}"#, &claims, &SECRET[1..], Algorithm::HS256)),
        (
            "another signature",
            format!("{}{flipped}{}", &good[..good.len() - 5], &good[good.len() - 4..]),
        ),
        ("four segments", format!("{good}.{signature}")),
        ("two segments", good.rsplit_once('.').expect("two").0.to_owned()),
        ("padding", format!("{good}=")),
        ("a space before", format!(" {good}")),
        ("a line after", format!("{good}\n")),
        ("Bearer", format!("Bearer {good}")),
        ("nothing", String::new()),
        ("dots", "..".into()),
        ("garbage", "garbage".into()),
        ("more garbage", "a.b.c".into()),
        ("no text", "\u{0}\u{1f600}.é.\n".into()),
    ];
    check(&server, &rows, INVALID).await;
    check(&server, &[("the good one", good)], None).await;
}

#[tokio::test]
async fn token_headers_with_a_wrong_typ_or_crit_are_refused() {
    let server = Server::start(&[]);
    let typ = |typ: &str| (typ.to_owned(), headed(&json!({ "alg": "HS256", "typ": typ })));
    for (name, token) in [
        "JWT",
        "jwt",
        "at+jwt",
        "AT+JWT",
        "application/jwt",
        "application/at+jwt",
        "Application/AT+JWT",
    ]
    .map(typ)
    {
        check(&server, &[(&name, token)], None).await;
    }
    for (name, token) in [
        "secevent+jwt",
        "dpop+jwt",
        "application/dpop+jwt",
        "application/application/jwt",
        "application/",
        "text/jwt",
        "JWS",
        "",
    ]
    .map(typ)
    {
        check(&server, &[(&name, token)], INVALID).await;
    }
    let rows = [
        ("crit", headed(&json!({ "alg": "HS256", "crit": ["exp"], "exp": 1 }))),
        ("an empty crit", headed(&json!({ "alg": "HS256", "crit": [] }))),
        ("a crit of text", headed(&json!({ "alg": "HS256", "crit": "exp" }))),
    ];
    check(&server, &rows, INVALID).await;
    let unknown = headed(&json!({ "alg": "HS256", "kid": "../../etc/passwd", "x": "y" }));
    check(&server, &[("what is not understood", unknown)], None).await;
}

#[tokio::test]
async fn exp_nbf_and_iat_are_checked() {
    let server = Server::start(&[("auth.leeway", "60s"), ("auth.max_token_ttl", "30d")]);
    let now = now_secs();
    let expired = [
        ("long expired", claiming(&json!({ "exp": now - DAY }))),
        ("expired beyond the leeway", claiming(&json!({ "exp": now - 61 }))),
        ("the epoch", claiming(&json!({ "exp": 0 }))),
    ];
    check(&server, &expired, Some(("token_expired", 4001))).await;
    let invalid = [
        ("no exp", claiming(&json!({ "exp": null }))),
        ("a text", claiming(&json!({ "exp": (now + HOUR).to_string() }))),
        ("negative", claiming(&json!({ "exp": -1 }))),
        ("1e300", claiming(&json!({ "exp": 1e300 }))),
        ("the greatest", claiming(&json!({ "exp": u64::MAX }))),
        ("milliseconds", claiming(&json!({ "exp": (now + HOUR) * 1000 }))),
        ("too far off", claiming(&json!({ "exp": now + 31 * DAY }))),
        ("not yet", claiming(&json!({ "nbf": now + HOUR }))),
        ("a text for nbf", claiming(&json!({ "nbf": now.to_string() }))),
        ("a text for iat", claiming(&json!({ "iat": now.to_string() }))),
        ("a negative iat", claiming(&json!({ "iat": -1 }))),
        ("a list for iat", claiming(&json!({ "iat": [now] }))),
        ("issued beyond the leeway", claiming(&json!({ "iat": now + 120 }))),
        ("issued in a year", claiming(&json!({ "iat": now + 365 * DAY }))),
        ("issued in milliseconds", claiming(&json!({ "iat": now * 1000 }))),
    ];
    check(&server, &invalid, INVALID).await;
    let good = [
        ("expired within the leeway", claiming(&json!({ "exp": now - 20 }))),
        ("a fraction", claiming(&json!({ "exp": now as f64 + 100.5 }))),
        ("nearly too far", claiming(&json!({ "exp": now + 29 * DAY }))),
        ("just valid", claiming(&json!({ "nbf": now + 20 }))),
        ("valid", claiming(&json!({ "nbf": now - HOUR }))),
        ("no iat", claiming(&json!({ "iat": null }))),
        ("issued within the leeway", claiming(&json!({ "iat": now + 50 }))),
        ("issued at a fraction", claiming(&json!({ "iat": now as f64 + 0.5 }))),
    ];
    check(&server, &good, None).await;
}

#[tokio::test]
async fn token_errors_name_the_invalid_claim() {
    let server = Server::start(&[("auth.issuer", "us")]);
    let with = |changes: Value| {
        let mut all = json!({ "iss": "us" });
        all.as_object_mut().expect("claims").extend(changes.as_object().expect("claims").clone());
        claiming(&all)
    };
    let rows = [
        (with(json!({ "iat": now_secs() + 90 })), "`iat` is "),
        (with(json!({ "iat": now_secs() + 90 })), "the signer's clock is ahead"),
        (with(json!({ "nbf": now_secs() + 90 })), "`nbf`"),
        (with(json!({ "exp": null })), "has no `exp`"),
        (with(json!({ "exp": (now_secs() + 90) * 1000 })), "`exp` must be a time in seconds"),
        (with(json!({ "iat": now_secs() * 1000 })), "`iat` must be a time in seconds"),
        (with(json!({ "nbf": now_secs() * 1000 })), "not in milliseconds"),
        (with(json!({ "exp": "1795" })), "`exp` must be a time in seconds"),
        (with(json!({ "iat": -5 })), "`iat` must be a time in seconds"),
        (with(json!({ "nbf": true })), "`nbf` must be a time in seconds"),
        (with(json!({ "sub": null })), "has no `sub`"),
        (with(json!({ "sub": 7 })), "`sub` must be a text"),
        (with(json!({ "device": 7 })), "`device` must be a text"),
        (with(json!({ "platform": "nokia" })), "`platform` must be a platform"),
        (with(json!({ "watch": "*" })), "`watch` must be a list of user ids"),
        (with(json!({ "watch": [7] })), "`watch` must be a list of user ids"),
        (written(r#"{"alg":"HS256"}"#, "[]", SECRET, Algorithm::HS256), "not a JSON object"),
        (with(json!({ "iss": "them" })), "auth.issuer"),
        (with(json!({ "sub": "." })), "`.` and `..` are not allowed"),
        (headed(&json!({ "alg": "HS512" })), "`alg` must be HS256"),
        (
            written(r#"{"alg":"HS256"}"#, "{}", &SECRET[1..], Algorithm::HS256),
            "none of the hub's keys",
        ),
    ];
    for (token, part) in rows {
        let mut client = server.connect().await;
        let login = json!({ "type": "login", "token": token, "platform": "web", "device": "d" });
        let reply = client.request(login).await;
        let message = reply["error"]["message"].as_str().expect("words");
        assert!(message.contains(part), "{part}: {message}");
        for parsers in ["column", "invalid type", "expected a", "untagged", "missing field"] {
            assert!(!message.contains(parsers), "{message}");
        }
    }
}

#[tokio::test]
async fn the_subject_must_be_a_valid_user_id() {
    let server = Server::start(&[]);
    let sub = |sub: &str| claiming(&json!({ "sub": sub }));
    let claims = format!(r#"{{"sub":"ann","sub":"bob","exp":{}}}"#, now_secs() + HOUR);
    let rows = [
        ("no sub", claiming(&json!({ "sub": null }))),
        ("a number", claiming(&json!({ "sub": 7 }))),
        ("a list", claiming(&json!({ "sub": ["ann"] }))),
        ("empty", sub("")),
        ("a line", sub("ann\n")),
        ("a control character", sub("an\u{0}n")),
        ("another one", sub("an\u{85}n")),
        ("a space before", sub(" ann")),
        ("a space after", sub("ann\u{3000}")),
        ("one dot", sub(".")),
        ("two dots", sub("..")),
        ("129 bytes", sub(&"x".repeat(129))),
        ("130 bytes", sub(&"ü".repeat(65))),
        ("two of them", written(r#"{"alg":"HS256"}"#, &claims, SECRET, Algorithm::HS256)),
        ("no object", written(r#"{"alg":"HS256"}"#, "[]", SECRET, Algorithm::HS256)),
        ("no JSON", written(r#"{"alg":"HS256"}"#, "ann", SECRET, Algorithm::HS256)),
    ];
    check(&server, &rows, INVALID).await;
    let rows = [
        ("128 bytes", sub(&"x".repeat(128))),
        ("64 characters", sub(&"ü".repeat(64))),
        ("a space within", sub("ann lee")),
        ("markup", sub("<img src=x>")),
        ("three dots", sub("...")),
        ("a dot and a letter", sub(".a")),
    ];
    check(&server, &rows, None).await;
}

#[tokio::test]
async fn issuer_and_audience_are_checked_if_configured() {
    let server = Server::start(&[("auth.issuer", "us"), ("auth.audience", "presence")]);
    let rows = [
        ("neither", claiming(&json!({}))),
        ("no iss", claiming(&json!({ "aud": "presence" }))),
        ("no aud", claiming(&json!({ "iss": "us" }))),
        ("another iss", claiming(&json!({ "iss": "them", "aud": "presence" }))),
        ("another aud", claiming(&json!({ "iss": "us", "aud": "billing" }))),
        ("others", claiming(&json!({ "iss": "us", "aud": ["billing", "mail"] }))),
        ("an empty list", claiming(&json!({ "iss": "us", "aud": [] }))),
    ];
    check(&server, &rows, INVALID).await;
    let rows = [
        ("both", claiming(&json!({ "iss": "us", "aud": "presence" }))),
        ("one of many", claiming(&json!({ "iss": "us", "aud": ["billing", "presence"] }))),
    ];
    check(&server, &rows, None).await;

    let server = Server::start(&[]);
    let any = claiming(&json!({ "iss": "them", "aud": "billing" }));
    check(&server, &[("where none is configured", any)], None).await;
}

#[tokio::test]
async fn a_token_can_be_limited_to_platforms_and_a_device() {
    let server = Server::start(&[]);
    let refused = [
        ("a platform", claiming(&json!({ "platform": "web" }))),
        ("platforms", claiming(&json!({ "platform": ["web", "mac"] }))),
        ("no platform at all", claiming(&json!({ "platform": [] }))),
    ];
    check(&server, &refused, Some(("platform_not_allowed", 4502))).await;
    let refused = [
        ("a device", claiming(&json!({ "device": "lap" }))),
        ("another case", claiming(&json!({ "device": "Desk" }))),
        ("an empty one", claiming(&json!({ "device": "" }))),
    ];
    check(&server, &refused, Some(("invalid_device", 4502))).await;
    let good = [
        ("this platform", claiming(&json!({ "platform": "linux" }))),
        ("among others", claiming(&json!({ "platform": ["web", "linux"] }))),
        ("this device", claiming(&json!({ "device": "desk", "platform": "linux" }))),
    ];
    check(&server, &good, None).await;

    let mut phone = server.connect().await;
    let token = claiming(&json!({ "platform": "iphone" }));
    let login = json!({ "type": "login", "token": token, "platform": "ios", "device": "d" });
    assert_eq!(phone.ok(login).await["status"]["platforms"], json!(["ios"]));
}

#[tokio::test]
async fn a_token_has_at_most_8_kib() {
    let server = Server::start(&[]);
    let filled = |bytes: usize| claiming(&json!({ "fill": "x".repeat(bytes) }));
    let (base, most) = (filled(0).len(), 8 * 1024);
    let mut fill = (most - base) * 3 / 4;
    while filled(fill).len() <= most {
        fill += 1;
    }
    check(&server, &[("just more", filled(fill)), ("far more", filled(40_000))], INVALID).await;
    check(&server, &[("just not", filled(fill - 1))], None).await;
}

#[tokio::test]
async fn a_signed_token_with_a_deeply_nested_claim_is_refused_and_the_hub_lives_on() {
    let server = Server::start(&[]);
    let (opened, closed) = ("[".repeat(2500), "]".repeat(2500));
    let deep = |claims: String| {
        let claims = format!(r#"{{"exp":{},{claims}}}"#, now_secs() + HOUR);
        written(r#"{"alg":"HS256"}"#, &claims, SECRET, Algorithm::HS256)
    };
    let rows = [
        ("the user", deep(format!(r#""sub":{opened}{closed}"#))),
        ("the platforms", deep(format!(r#""sub":"ann","platform":{opened}{closed}"#))),
        ("whom to watch", deep(format!(r#""sub":"ann","watch":{opened}{closed}"#))),
        ("without an end", deep(format!(r#""sub":"ann","other":{opened}"#))),
    ];
    assert!(rows.iter().all(|(_, token)| token.len() < 8 * 1024), "short enough to be read");
    check(&server, &rows, INVALID).await;
    check(&server, &[("the next one", claiming(&json!({})))], None).await;
}
