//! The login at the dashboard by the headers of a proxy with single sign-on.

use std::net::SocketAddr;

use reqwest::RequestBuilder;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::faces::face;
use super::{ADMIN_KEY, VIEWER_KEY, json_of, refusal, refused};
use crate::support::{API_KEY, Server, http, until};

const ACT: (&str, &str) = ("x-presence-hub", "dashboard");

/// A hub behind a proxy at this address.
async fn behind(proxy: &str) -> (Server, SocketAddr) {
    let server = Server::start(&[
        ("server.trusted_proxies", &format!("[\"{proxy}\"]")),
        ("server.admin_listen", "127.0.0.1:0"),
        ("auth.admin_keys", &format!("[\"{ADMIN_KEY}\"]")),
        ("auth.viewer_keys", &format!("[\"{VIEWER_KEY}\"]")),
        ("auth.proxy_user_header", "X-Forwarded-User"),
        ("auth.proxy_role_header", "X-Forwarded-Groups"),
        ("auth.proxy_admins", "[\"ops\", \"on call\"]"),
        ("auth.proxy_viewers", "[\"support\"]"),
    ]);
    let admin = face(&server, "Admin").await;
    (server, admin)
}

/// A request as the proxy passes it on for a user.
fn by(address: SocketAddr, method: &str, path: &str, user: &str, groups: &str) -> RequestBuilder {
    let request = http(address, method, path).header("x-forwarded-user", user);
    request.header("x-forwarded-groups", groups).header("x-forwarded-for", "203.0.113.7")
}

async fn who(address: SocketAddr, user: &str, groups: &str) -> Value {
    let answer = by(address, "GET", "/v1/admin/session", user, groups).send().await;
    json_of(answer.expect("an answer")).await
}

#[tokio::test]
async fn a_user_of_the_proxy_needs_no_key() {
    let (server, admin) = behind("127.0.0.1").await;
    let expected = |role: &str| json!({ "role": role, "expires": null, "key": null, "user": "ann@example.com" });
    for (groups, role) in [
        ("ops", "admin"),
        ("everybody, on call ,support", "admin"),
        ("support", "viewer"),
        ("ops-readers,support", "viewer"),
    ] {
        assert_eq!(who(admin, "ann@example.com", groups).await, expected(role), "{groups}");
    }
    for groups in ["", "everybody", "OPS", "ops support", "op"] {
        let request = by(admin, "GET", "/v1/stats", "ann@example.com", groups);
        assert_eq!(refused(request).await, refusal(403, "no_role"), "{groups}");
    }
    // Nobody has signed in.
    let request = http(admin, "GET", "/v1/stats").header("x-forwarded-user", "");
    assert_eq!(refused(request).await, refusal(401, "unauthorized"));
    // Only the dashboard's calls.
    for address in [admin, server.address] {
        let request = by(address, "GET", "/metrics", "ann", "ops");
        let answer = request.send().await.expect("an answer");
        assert!([401, 404].contains(&answer.status().as_u16()), "{}", answer.status());
    }
    // A key in a header takes precedence.
    let request = by(admin, "GET", "/v1/admin/session", "ann", "ops").bearer_auth(VIEWER_KEY);
    let answer = json_of(request.send().await.expect("an answer")).await;
    assert_eq!((&answer["role"], &answer["user"]), (&json!("viewer"), &Value::Null));
    let request = by(admin, "GET", "/v1/stats", "ann", "ops").bearer_auth("not-a-key-of-this-hub");
    assert_eq!(refused(request).await, refusal(401, "unauthorized"));
}

#[tokio::test]
async fn a_client_cannot_smuggle_the_header_in() {
    // The peer of these requests, 127.0.0.1, is no proxy of this hub.
    let (server, admin) = behind("192.0.2.1").await;
    let request = by(admin, "GET", "/v1/stats", "ann", "ops");
    assert_eq!(refused(request).await, refusal(401, "unauthorized"));
    let request = by(admin, "POST", "/v1/users/bob/kick", "ann", "ops").header(ACT.0, ACT.1);
    assert_eq!(refused(request.body(r#"{"all":true}"#)).await, refusal(401, "unauthorized"));
    // What a client says about its own address does not make it a proxy.
    let request = by(admin, "GET", "/v1/stats", "ann", "ops").header("forwarded", "for=192.0.2.1");
    assert_eq!(refused(request).await, refusal(401, "unauthorized"));
    drop(server);

    let (server, admin) = behind("127.0.0.1").await;
    // On the clients' address nothing takes the header, whoever sends it.
    for path in ["/v1/stats", "/v1/admin/session", "/v1/config"] {
        let request = by(server.address, "GET", path, "ann", "ops");
        assert_eq!(refused(request).await, refusal(404, "not_found"), "{path}");
    }
    // A proxy that adds its line to the client's.
    for name in ["x-forwarded-user", "x-forwarded-groups"] {
        for value in ["ann", "ops", ""] {
            let request = by(admin, "GET", "/v1/stats", "ann", "support").header(name, value);
            assert_eq!(refused(request).await, refusal(401, "unauthorized"), "{name}: {value}");
        }
    }
    // Names that only look like the header's.
    for name in ["x_forwarded_user", "x-forwarded-users", "x-forwarded-user-"] {
        let request = http(admin, "GET", "/v1/stats").header(name, "ann");
        let request = request.header("x-forwarded-groups", "ops");
        assert_eq!(refused(request).await, refusal(401, "unauthorized"), "{name}");
    }
    let request = http(admin, "GET", "/v1/stats").header("x-forwarded-groups", "ops");
    assert_eq!(refused(request).await, refusal(401, "unauthorized"), "no user");
    for user in [&b"\xff\xfe"[..], "x".repeat(257).as_bytes()] {
        let request = http(admin, "GET", "/v1/stats").header("x-forwarded-user", user);
        let request = request.header("x-forwarded-groups", "ops");
        assert_eq!(refused(request).await, refusal(401, "unauthorized"), "{user:?}");
    }
}

#[tokio::test]
async fn without_the_setting_the_headers_mean_nothing() {
    let server = Server::start(&[("server.trusted_proxies", "[\"127.0.0.1\"]")]);
    let request = by(server.address, "GET", "/v1/stats", "ann", "ops");
    assert_eq!(refused(request).await, refusal(401, "unauthorized"));
}

#[tokio::test]
async fn a_proxys_user_acts_only_with_the_header_against_cross_site_requests() {
    let (server, admin) = behind("127.0.0.1").await;
    let (_bob, _) = server.login("bob", "web").await;
    let set = |groups: &str| {
        by(admin, "PUT", "/v1/users/bob/custom", "ann@example.com", groups)
            .body(r#"{"custom":"away"}"#)
    };
    assert_eq!(refused(set("ops")).await, refusal(403, "forbidden"));
    assert_eq!(refused(set("support").header(ACT.0, ACT.1)).await, refusal(403, "forbidden"));
    let answer = set("ops").header(ACT.0, ACT.1).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let noted = [
        " audit: ",
        "role=\"admin\"",
        "identifier=\"ann@example.com\"",
        "address=203.0.113.7",
        "action=\"set custom\"",
        "done",
    ];
    let line = server.until_logged(&noted).await;
    assert!(!line.contains("key="), "{line}");
    let request = http(admin, "GET", "/v1/audit").bearer_auth(ADMIN_KEY);
    let audit = json_of(request.send().await.expect("an answer")).await;
    let latest = &audit["entries"][0];
    assert_eq!(latest["identifier"], "ann@example.com", "{audit}");
    assert_eq!((&latest["role"], &latest["key"]), (&json!("admin"), &Value::Null), "{audit}");
    let entries = audit["entries"].as_array().expect("entries");
    let refused = entries.iter().filter(|entry| entry["outcome"] == "refused");
    assert_eq!(refused.count(), 2, "{audit}");
}

#[tokio::test]
async fn a_reload_takes_a_role_away() {
    let file = |admins: &str| {
        format!(
            "[server]\ntrusted_proxies = [\"127.0.0.1\"]\nadmin_listen = \"127.0.0.1:0\"\n\
             [auth]\nproxy_user_header = \"Remote-User\"\nproxy_role_header = \"Remote-User\"\n\
             proxy_admins = {admins}\n"
        )
    };
    let server = Server::with_file(&file("[\"ann\", \"bo, the second\"]"), &[]);
    let admin = face(&server, "Admin").await;
    let status = async |user: &str| {
        let request = http(admin, "GET", "/v1/config").header("remote-user", user);
        request.send().await.expect("an answer").status().as_u16()
    };
    // One header for both: the lists name users, and a name is not split at its commas.
    assert_eq!((status("ann").await, status("bo, the second").await), (200, 200));
    assert_eq!((status("bo").await, status("cy, ann").await), (403, 403));
    let stream = http(admin, "GET", "/v1/events").header("remote-user", "ann");
    let mut stream = stream.header("accept", "text/event-stream").send().await.expect("a stream");
    assert_eq!(stream.status(), 200);
    let config = server.directory.path().join("config.toml");
    std::fs::write(config, file("[\"bo, the second\"]")).expect("to write");
    server.signal(Signal::HUP);
    until("the reload", async || status("ann").await == 403).await;
    assert_eq!(status("bo, the second").await, 200);
    let (_dee, _) = server.login("dee", "web").await;
    let (_eli, _) = server.login("eli", "web").await;
    until("the end", async || matches!(stream.chunk().await, Ok(None) | Err(_))).await;
    // Back ends are not affected.
    let stats = http(admin, "GET", "/v1/stats").bearer_auth(API_KEY).send().await;
    assert_eq!(stats.expect("an answer").status(), 200);
}
