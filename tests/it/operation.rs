//! Running the hub: commands, signals, configuration and log.

mod canary;
mod commands;
mod configuration;
mod failed_sync;
mod keys;
mod log_escaping;
mod memory;
mod output;
mod reload;
mod wall_clock;
mod wrong_settings;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::client_async;

use crate::support::{API_KEY, Heard, SECRET, SOON, Server, now_secs, token, token_with};

#[tokio::test]
async fn development_mode_makes_its_keys_and_keeps_them() {
    let settings = [("auth.secret", "")];
    let mut server = Server::start(&settings);
    let key = |server: &Server, name: &str| {
        let path = server.directory.path().join("data").join(name);
        let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
        std::fs::read_to_string(path).expect("a key").trim().to_owned()
    };
    let all =
        |server: &Server| ["dev-secret", "admin-key", "dev-key"].map(|name| key(server, name));
    let [secret, admin, dev] = all(&server);
    assert!(secret != admin && admin != dev && secret.len() >= 32 && admin.len() >= 32);
    for link in [format!("/static/#key={admin}"), format!("/static/demo.html#key={dev}")] {
        let line = server.greeting.lines().find(|line| line.contains(&link));
        let line = line.unwrap_or_else(|| panic!("{link} is not in {}", server.greeting));
        assert!(line.contains(&format!("http://{}", server.address)), "{line}");
    }
    assert!(!server.greeting.contains(&secret));
    server.until_logged(&["WARN", "development mode"]).await;

    server.restart(&settings);
    assert_eq!(all(&server), [secret.clone(), admin.clone(), dev.clone()]);
    let log = server.log();
    for key in [secret, admin, dev] {
        assert!(!log.contains(&key), "{log}");
    }
    let other = Server::start(&settings);
    assert_ne!(all(&other), all(&server), "another hub has others");
}

#[tokio::test]
async fn sigterm_drains_all_clients() {
    let mut server = Server::start(&[("server.drain", "5s")]);
    let (mut phone, _) = server.login("ann", "android").await;
    let mut visitor = server.connect().await;
    let (mut deaf, _) = server.login("bob", "linux").await;
    server.signal(Signal::TERM);
    for client in [&mut phone, &mut visitor] {
        let (messages, code) = client.until_closed().await;
        assert_eq!(code, Some(1001));
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert_eq!(
            (&messages[0]["type"], &messages[0]["reason"]),
            (&json!("closing"), &json!("drain"))
        );
        assert!(messages[0]["reconnect_ms"].as_u64().is_some_and(|ms| ms <= 5000), "{messages:?}");
    }
    // The hub waits for the client that has not read its Close frame, so it can still be asked.
    let ready = server.http("GET", "/ready").send().await.expect("an answer");
    assert_eq!(ready.status(), 503);
    let health = server.http("GET", "/health").send().await.expect("an answer");
    assert_eq!(health.status(), 200);
    assert_eq!(server.user("ann").await["state"], "Online", "a restart ends nothing");
    let upgrade = server
        .http("GET", "/ws")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let refused = upgrade.send().await.expect("an answer");
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(deaf.until_closed().await.1, Some(1001));
    drop(deaf);
    assert!(server.until_exit().await.success());
    for user in ["ann", "bob"] {
        server.until_logged(&["session ended", user, "cause=\"drain\"", "close=1001"]).await;
    }
    server.until_logged(&["drained"]).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_cannot_delay_shutdown_beyond_the_drain() {
    let mut server = Server::start(&[("server.drain", "300ms")]);
    let (_deaf, _) = server.login("ann", "linux").await;
    server.signal(Signal::INT);
    assert!(server.until_exit().await.success());
    server.until_logged(&["drain timed out"]).await;
}

#[tokio::test]
async fn a_second_signal_stops_at_once() {
    let mut server = Server::start(&[("server.drain", "60s")]);
    let (_deaf, _) = server.login("ann", "linux").await;
    server.signal(Signal::TERM);
    server.until_logged(&["draining"]).await;
    // SIGHUP does not count as a second stop signal.
    server.signal(Signal::HUP);
    server.signal(Signal::TERM);
    assert!(server.until_exit().await.success());
    server.until_logged(&["drain aborted"]).await;
}

#[tokio::test]
async fn sighup_reloads_the_configuration() {
    let write = |server: &Server, text: &str| {
        std::fs::write(server.directory.path().join("config.toml"), text).expect("to write");
        server.signal(Signal::HUP);
    };
    let server = Server::with_file("[login]\npolicy = \"multi\"\n", &[]);
    let origin = async || {
        let upgrade = server
            .http("GET", "/ws")
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("origin", "https://app.example.com");
        upgrade.send().await.expect("an answer").status().as_u16()
    };
    let (mut phone, _) = server.login("ann", "android").await;
    let (mut desk, _) = server.login("ann", "mac").await;
    assert_eq!(origin().await, 403);

    let text = "[login]\npolicy = \"single\"\n[limits]\nsubscriptions = 1\n\
                [server]\nallowed_origins = [\"https://app.example.com\"]\n\
                [auth]\nviewer_keys = [\"a-viewer-key-from-now-on\"]\n";
    write(&server, text);
    server.until_logged(&["configuration reloaded"]).await;
    for client in [&mut phone, &mut desk] {
        client.ok(json!({ "type": "ping" })).await;
    }
    assert_eq!(origin().await, 101);
    let stats = server.http("GET", "/v1/stats").bearer_auth("a-viewer-key-from-now-on");
    assert_eq!(stats.send().await.expect("an answer").status(), 200);
    let (mut page, ok) = server.login("ann", "web").await;
    assert_eq!(ok["kicked"].as_array().map(Vec::len), Some(2), "the next login knows");
    let subscribed = page.ok(json!({ "type": "subscribe", "users": ["a", "b"] })).await;
    assert_eq!(subscribed["errors"], json!([{ "user": "b", "code": "too_many" }]));

    for faulty in ["[login]\npolicy = \"multy\"\n", "[login\n", "[log]\nfilter = \"multi=lots\"\n"]
    {
        let before = server.log().matches("reload failed, configuration unchanged").count();
        write(&server, faulty);
        let said = async {
            while server.log().matches("reload failed, configuration unchanged").count() == before {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(SOON, said).await.expect("a log line about the failed reload");
    }
    server.until_logged(&["ERROR", "configuration unchanged", "config.toml:2:1", "multy"]).await;
    let (_, ok) = server.login("ann", "mac").await;
    assert_eq!(ok["kicked"].as_array().map(Vec::len), Some(1), "the policy is as it was");

    write(&server, &format!("{text}[log]\nfilter = \"warn\"\n"));
    let quiet = async {
        loop {
            let (mut client, ok) = server.login("zoe", "linux").await;
            client.ok(json!({ "type": "logout" })).await;
            client.until_closed().await;
            let session = ok["session"].as_str().expect("a session").to_owned();
            if !server.log().contains(&session) {
                return;
            }
        }
    };
    timeout(SOON, quiet).await.expect("less to be logged");
}

#[tokio::test]
async fn no_secret_is_ever_logged() {
    for format in ["text", "json"] {
        let server = Server::start(&[("log.filter", "trace"), ("log.format", format)]);
        let good = token("ann");
        let fresh = token_with(json!({ "sub": "ann", "iat": 7, "exp": now_secs() + 1000 }));
        let expired = token_with(json!({ "sub": "ann", "exp": 1000 }));
        let mut client = server.connect().await;
        let login = |token: &str| json!({ "type": "login", "token": token, "platform": "linux", "device": "d" });
        client.ok(login(&good)).await;
        client.ok(json!({ "type": "refresh", "token": fresh })).await;
        client.ok(json!({ "type": "set", "custom": "words of my own" })).await;
        for refused in [&expired, "canary.in.token"] {
            let mut client = server.connect().await;
            client.request(login(refused)).await;
            client.until_closed().await;
        }
        let mut stream = TcpStream::connect(server.address).await.expect("a connection");
        let url = format!("ws://{}/ws?token={fresh}&key=canary-in-query", server.address);
        client_async(url, &mut stream).await.expect("an upgrade");
        server.user("ann").await;
        for key in [API_KEY, "canary-in-key"] {
            let request = server.http("GET", "/v1/stats").bearer_auth(key);
            request.send().await.expect("an answer");
        }
        server.call("POST", "/v1/users/ann/kick", Some(json!({ "all": true }))).await;
        client.until_closed().await;
        server.until_logged(&["session ended", "ann"]).await;
        let said = server.log() + &server.greeting;
        for secret in [SECRET, API_KEY, &good, &fresh, &expired, "canary"] {
            let signature = secret.rsplit('.').next().expect("the last part");
            let line = said.lines().find(|line| line.contains(signature));
            assert_eq!(line, None, "{format}");
        }
        assert!(!said.contains("words of my own"), "custom statuses are private");
        if format == "json" {
            for line in server.log().lines() {
                let line: Value = serde_json::from_str(line).expect("JSON");
                assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
            }
        }
    }
}

#[tokio::test]
async fn each_session_logs_its_begin_and_its_end_with_the_cause() {
    let server = Server::start(&[("login.policy", "multi")]);
    let mut ended = Vec::new();
    let mut note = |ok: &Value, cause: &'static str| {
        ended.push((ok["session"].as_str().expect("a session").to_owned(), cause));
    };
    let (mut client, ok) = server.login("ann", "linux").await;
    client.ok(json!({ "type": "logout" })).await;
    note(&ok, "logout");

    let (client, ok) = server.login("bob", "linux").await;
    drop(client);
    note(&ok, "close");

    let (mut client, ok) = server.login("eve", "linux").await;
    server.call("POST", "/v1/users/eve/kick", Some(json!({ "all": true }))).await;
    assert!(matches!(client.hear().await, Heard::Message(_)));
    note(&ok, "kicked");

    let (mut client, ok) = server.login("zoe", "linux").await;
    for _ in 0..10 {
        client.send(&json!({ "type": "nonsense", "id": 1 })).await;
    }
    assert_eq!(client.until_closed().await.1, Some(4504));
    note(&ok, "close");
    let visitor = server.connect().await;
    drop(visitor);

    for (session, cause) in &ended {
        server.until_logged(&["session began", session, "resumed=false"]).await;
        server.until_logged(&["session ended", session, &format!("cause=\"{cause}\"")]).await;
    }
    let log = server.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("session ended")).collect();
    assert_eq!(lines.len(), ended.len(), "{lines:#?}");
    let began = log.lines().filter(|line| line.contains("session began"));
    assert_eq!(began.count(), ended.len(), "{log}");
    let begins = |line: &&str| {
        line.contains("connection{id=") && line.contains(" address=127.0.0.1 user=\"")
    };
    assert!(lines.iter().all(begins), "the connection's span: {lines:#?}");
    for part in ["user=\"", "platform=linux", "device=\"linux\"", "address=", "close=", "by="] {
        assert!(lines.iter().all(|line| line.contains(part)), "{part}: {lines:#?}");
    }
}

#[tokio::test]
async fn the_hub_survives_running_out_of_file_descriptors() {
    let server = Server::start(&[]);
    let mut kept = TcpStream::connect(server.address).await.expect("a connection");
    let mut ask = async || {
        let request =
            b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text\r\n\r\n";
        kept.write_all(request).await.expect("to send");
        let mut answer = String::new();
        while !answer.contains("# EOF") {
            let mut chunk = [0; 4096];
            let read = timeout(SOON, kept.read(&mut chunk)).await.expect("an answer");
            let read = read.expect("an answer");
            assert!(read > 0, "{answer}");
            answer.push_str(std::str::from_utf8(&chunk[..read]).expect("a text"));
        }
        answer
    };
    assert!(ask().await.contains("presence_hub_accept_errors_total 0"));

    let pid = Pid::from_raw(i32::try_from(server.pid()).expect("a pid"));
    let open = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("/proc").count();
    let limit = Rlimit { current: Some(open as u64 + 2), maximum: Some(1000) };
    prlimit(pid, Resource::Nofile, limit).expect("a limit");
    let mut crowd = Vec::new();
    for _ in 0..20 {
        crowd.push(TcpStream::connect(server.address).await.expect("a place in the backlog"));
    }
    server.until_logged(&["accept failed"]).await;
    assert!(
        !ask().await.contains("presence_hub_accept_errors_total 0"),
        "failed accepts are counted"
    );
    drop(crowd);
    let (mut client, _) = timeout(SOON, server.login("ann", "web")).await.expect("a login");
    client.ok(json!({ "type": "ping" })).await;
}

#[tokio::test]
async fn a_low_open_file_limit_lowers_max_connections() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("log");
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 68 && exec \"$0\"", env!("CARGO_BIN_EXE_presence-hub")])
        .current_dir(directory.path())
        .env("PRESENCE_HUB__SERVER__LISTEN", "127.0.0.1:0")
        .env("PRESENCE_HUB__AUTH__SECRET", SECRET)
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&log).expect("a log"));
    let mut child = command.spawn().expect("a shell");
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().expect("its output"));
    output.read_line(&mut line).expect("a greeting");
    let address = line.trim().rsplit("//").next().expect("an address").to_owned();
    let mut held = Vec::new();
    let refused = loop {
        let stream = TcpStream::connect(&address).await.expect("a connection");
        match client_async(format!("ws://{address}/ws"), stream).await {
            Ok(client) => held.push(client),
            Err(error) => break error.to_string(),
        }
    };
    child.kill().expect("the hub to be there");
    child.wait().expect("the hub to exit");
    assert_eq!(held.len(), 4, "64 of 68 are reserved");
    assert!(refused.contains("503"), "{refused}");
    let log = std::fs::read_to_string(log).expect("the log");
    let warning = log.lines().find(|line| line.contains("WARN")).expect("a warning");
    for part in ["max_connections=4", "200064", "68", "ulimit -n"] {
        assert!(warning.contains(part), "{part}: {warning}");
    }
}
