//! The commands `token`, `policy`, `health` and `check-config`.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::support::{SECRET, Server, command, make_certificate};

/// Runs a command of the hub until it exits.
pub(super) fn run(directory: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    command(directory, settings).args(arguments).output().expect("the command to run")
}

pub(super) fn said(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("a text")
}

pub(super) fn complained(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("a text")
}

#[tokio::test]
async fn the_token_command_mints_valid_tokens() {
    let server = Server::start(&[("auth.issuer", "us"), ("auth.audience", "presence")]);
    let directory = tempfile::tempdir().expect("a directory");
    let settings = [("auth.secret", SECRET), ("auth.issuer", "us"), ("auth.audience", "presence")];
    let mint = |arguments: &[&str]| {
        let output = run(directory.path(), &[&["token"], arguments].concat(), &settings);
        assert!(output.status.success(), "{}", complained(&output));
        said(&output).trim().to_owned()
    };
    let login = |token: &str, platform: &str| json!({ "type": "login", "token": token, "platform": platform, "device": "d" });
    let token = mint(&["--user", "ann"]);
    let mut client = server.connect().await;
    let ok = client.ok(login(&token, "web")).await;
    let lives = ok["expires_at"].as_u64().expect("a time") - ok["now"].as_u64().expect("a time");
    assert!((3_500_000..=3_601_000).contains(&lives), "an hour by default: {lives}");

    let token = mint(&[
        "--user",
        "bob",
        "--platform",
        "mac",
        "--ttl",
        "2m",
        "--watch",
        "team:*",
        "--watch",
        "eve",
    ]);
    let mut client = server.connect().await;
    assert_eq!(client.error(login(&token, "web")).await, "platform_not_allowed");
    let mut client = server.connect().await;
    let ok = client.ok(login(&token, "mac")).await;
    let lives = ok["expires_at"].as_u64().expect("a time") - ok["now"].as_u64().expect("a time");
    assert!(lives <= 121_000, "{lives}");
    let asked = client.ok(json!({ "type": "query", "users": ["team:1", "eve", "ann"] })).await;
    assert_eq!(asked["errors"], json!([{ "user": "ann", "code": "forbidden" }]));

    for arguments in
        [&["token"][..], &["token", "--user", ""], &["token", "--user", "a", "--ttl", "1"]]
    {
        let output = run(directory.path(), arguments, &settings);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(said(&output), "");
    }
}

#[test]
fn the_token_command_refuses_an_invalid_ttl() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let settings = [("auth.secret", SECRET), ("auth.max_token_ttl", "1h")];
    for ttl in ["0s", "2h", "9999d"] {
        let output = run(directory.path(), &["token", "--user", "a", "--ttl", ttl], &settings);
        assert_eq!((output.status.code(), said(&output)), (Some(1), String::new()));
        let message = complained(&output);
        assert!(
            message.contains("--ttl: expected 1s to auth.max_token_ttl, which is 1h"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn the_token_command_uses_the_development_secret() {
    let server = Server::start(&[("auth.secret", "")]);
    let output = run(server.directory.path(), &["token", "--user", "ann"], &[]);
    assert!(output.status.success(), "{}", complained(&output));
    let token = said(&output);
    let mut client = server.connect().await;
    let login = json!({
        "type": "login", "token": token.trim(), "platform": "web", "device": "d",
    });
    assert_eq!(client.ok(login).await["user"], "ann");
}

#[tokio::test]
async fn the_policy_command_prints_what_the_api_call_returns() {
    let settings = [("login.policy", "dual"), ("login.max_instances", "{ web = 1, android = 2 }")];
    let server = Server::start(&settings);
    let rows =
        [("web,android:2", "ios"), ("", "web"), ("web:3,miniprogram", "web"), ("ios", "iphone")];
    for (existing, login) in rows {
        let path = format!("/v1/policy/explain?login={login}&existing={existing}");
        let (status, answer) = server.call("GET", &path, None).await;
        assert_eq!(status, 200, "{answer}");
        let arguments = ["policy", "--existing", existing, "--login", login];
        let output = run(server.directory.path(), &arguments, &settings);
        assert!(output.status.success(), "{}", complained(&output));
        let explained: Value = serde_json::from_str(&said(&output)).expect("JSON");
        assert_eq!(explained, answer, "{login} beside {existing}");
    }
    for arguments in [
        &["policy", "--existing", "toaster", "--login", "ios"],
        &["policy", "--existing", "web:0", "--login", "ios"],
        &["policy", "--existing", "web", "--login", "toaster"],
    ] {
        let output = run(server.directory.path(), arguments, &settings);
        assert!(!output.status.success(), "{arguments:?}");
        assert_eq!(said(&output), "");
    }
}

fn files(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    entries.map(|entry| entry.expect("an entry").file_name().display().to_string()).collect()
}

#[test]
fn the_token_command_prints_the_configuration_and_secret_it_used() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path().canonicalize().expect("a path");
    let other = "another secret of at least 32 bytes";
    let list = format!("[\"{SECRET}\", \"{other}\"]");
    let mint = |arguments: &[&str], settings: &[(&str, &str)]| {
        let output = run(&root, &[&["token", "--user", "ann"], arguments].concat(), settings);
        assert!(output.status.success(), "{}", complained(&output));
        // Standard output has only the token.
        let token = said(&output);
        assert_eq!(token.trim_end().split('.').count(), 3, "{token}");
        assert_eq!(token.lines().count(), 1, "{token}");
        let told = complained(&output);
        assert!(!told.contains(SECRET) && !told.contains(other), "{told}");
        told
    };
    let told = mint(&[], &[("auth.secrets", &list)]);
    for part in ["auth.secrets[0] of the variable PRESENCE_HUB__AUTH__SECRETS", "default"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let file = root.join("hub.toml");
    std::fs::write(&file, format!("[auth]\nsecret = \"{SECRET}\"\n")).expect("to write");
    let told = mint(&["--config", "hub.toml"], &[]);
    let part = format!("signed with auth.secret of {}", file.display());
    assert!(told.contains(&part), "{part}: {told}");
    let made = "0123456789012345678901234567890123456789";
    std::fs::create_dir(root.join("data")).expect("a directory");
    std::fs::write(root.join("data/dev-secret"), format!("{made}\n")).expect("to write");
    let told = mint(&[], &[]);
    let part = format!("the development secret {}", root.join("data/dev-secret").display());
    assert!(told.contains(&part) && !told.contains(made), "{part}: {told}");
    assert_eq!(files(&root.join("data")), ["dev-secret"], "nothing else is made");
}

#[test]
fn read_only_commands_create_no_files() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path().canonicalize().expect("a path");
    let output = run(&root, &["token", "--user", "ann"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(said(&output), "");
    let told = complained(&output);
    let looked = root.join("data/dev-secret").display().to_string();
    for part in ["no secret to sign with", "auth.secrets", "--config", &looked] {
        assert!(told.contains(part), "{part}: {told}");
    }
    for arguments in [&["check-config"][..], &["policy", "--login", "ios"], &["--help"]] {
        assert!(run(&root, arguments, &[]).status.success(), "{arguments:?}");
    }
    assert_eq!(files(&root), Vec::<String>::new());

    let settings = [("auth.algorithm", "ES256"), ("auth.jwks_url", "https://idp.example.com/")];
    let output = run(&root, &["token", "--user", "ann"], &settings);
    assert_eq!(output.status.code(), Some(1));
    assert!(complained(&output).contains("auth.algorithm is ES256"), "{}", complained(&output));
    assert!(files(&root).is_empty());
}

#[tokio::test]
async fn the_health_command_asks_the_hub_of_its_configuration() {
    let server = Server::start(&[]);
    let ask = |listen: &str, settings: &[(&str, &str)], arguments: &[&str]| {
        let settings = [&[("server.listen", listen), ("auth.secret", SECRET)], settings].concat();
        let directory = tempfile::tempdir().expect("a directory");
        let output = run(directory.path(), &[&["health"], arguments].concat(), &settings);
        (output.status.code(), said(&output), complained(&output))
    };
    let (own, port) = (server.address.to_string(), server.address.port());
    let everywhere = format!("0.0.0.0:{port}");
    let good = |answer: &str| (Some(0), format!("{{\"status\":\"{answer}\"}}\n"), String::new());
    for listen in [&own, &everywhere] {
        assert_eq!(ask(listen, &[], &[]), good("ok"));
        assert_eq!(ask(listen, &[], &["--ready"]), good("ready"));
    }

    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr();
    let gone = gone.expect("an address").to_string();
    let (code, said, told) = ask(&gone, &[], &[]);
    assert_eq!((code, said.as_str()), (Some(1), ""));
    assert!(told.starts_with(&format!("no answer from http://{gone}/health: ")), "{told}");
    let (code, _, told) = ask("127.0.0.1:0", &[], &[]);
    assert_eq!(code, Some(1));
    assert!(told.contains("server.listen is \"127.0.0.1:0\": a fixed port is needed"), "{told}");
}

#[tokio::test]
async fn the_health_command_fails_while_the_hub_is_not_ready() {
    let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let listen = other.local_addr().expect("an address").to_string();
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path().to_owned();
    let settings = [("server.listen", listen.clone()), ("auth.secret", SECRET.to_owned())];
    let asking = tokio::task::spawn_blocking(move || {
        let settings: Vec<_> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
        run(&root, &["health", "--ready"], &settings)
    });
    let (mut stream, _) = other.accept().await.expect("a connection");
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        let read = tokio::io::AsyncReadExt::read_buf(&mut stream, &mut asked).await;
        assert_ne!(read.expect("a request"), 0);
    }
    assert!(asked.starts_with(b"GET /ready HTTP/1.1\r\n"));
    let answer = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.expect("to answer");
    drop(stream);
    let output = asking.await.expect("the command to end");
    assert_eq!(output.status.code(), Some(1));
    let told = format!("http://{listen}/ready answered \"HTTP/1.1 503 Service Unavailable\"\n");
    assert_eq!(complained(&output), told);
}

#[test]
fn the_health_command_needs_an_address_without_tls() {
    let directory = tempfile::tempdir().expect("a directory");
    let (certificate, key) = make_certificate(directory.path());
    let settings = [
        ("server.listen", "127.0.0.1:7843"),
        ("server.tls_certificate", certificate.as_str()),
        ("server.tls_key", key.as_str()),
        ("auth.secret", SECRET),
    ];
    let output = run(directory.path(), &["health"], &settings);
    assert_eq!(output.status.code(), Some(1));
    assert!(complained(&output).contains("set server.plain_listen"), "{}", complained(&output));
}
