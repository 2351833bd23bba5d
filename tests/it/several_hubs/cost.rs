//! What hubs ask of Redis.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::Command;

use serde_json::{Value, json};

use super::Hubs;
use crate::support::{RedisServer, Server};

/// The commands of clients that Redis has executed since the monitor was opened, until a command with this text.
fn monitored(monitor: &mut impl BufRead, until: &str) -> Vec<String> {
    let mut commands = Vec::new();
    loop {
        let mut line = String::new();
        monitor.read_line(&mut line).expect("a line");
        if line.contains(until) {
            return commands;
        }
        // Commands of scripts are not sent by anybody.
        if !line.contains(" lua] ") {
            commands.push(line);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn login_and_change_send_redis_two_commands_and_at_most_2_5_kb() {
    let redis = RedisServer::start();
    let url = redis.url();
    let hub = Server::start(&[("store.kind", "redis"), ("store.redis_url", &url)]);
    // Loads the scripts.
    let (mut first, _) = hub.login("first", "web").await;
    first.ok(json!({ "type": "set", "custom": "busy" })).await;
    let mut monitor = TcpStream::connect(("127.0.0.1", redis.port())).expect("a connection");
    monitor.write_all(b"MONITOR\r\n").expect("a request");
    let mut monitor = BufReader::new(monitor);
    let mut answer = String::new();
    monitor.read_line(&mut answer).expect("an answer");
    assert_eq!(answer, "+OK\r\n");

    let (mut ana, _) = hub.login("ana", "web").await;
    let _: String = redis.run("ECHO logged-in");
    let login = monitored(&mut monitor, "logged-in");
    ana.ok(json!({ "type": "set", "custom": "busy" })).await;
    let _: String = redis.run("ECHO changed");
    let change = monitored(&mut monitor, "changed");
    for (commands, most) in [(login, 2), (change, 2)] {
        let of_ana: Vec<_> = commands.iter().filter(|line| line.contains("u:ana")).collect();
        // All others are ticks and signs of life.
        let others = commands.iter().filter(|line| !line.contains("u:ana"));
        let others: Vec<_> = others
            .filter(|line| !["at\"", "{hub}", "PING"].iter().any(|known| line.contains(known)))
            .collect();
        assert!(others.is_empty(), "{others:#?}");
        assert!((1..=most).contains(&of_ana.len()), "{of_ana:#?}");
        let bytes: usize = of_ana.iter().map(|line| line.len()).sum();
        assert!(bytes <= 2_500, "{bytes} bytes: {of_ana:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn benchmark_measures_hubs_over_redis_beside_the_embedded_store() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("figures.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_presence-hub"));
    command.args(["bench", "idle", "pings", "pairs", "storm", "kick", "--server", "hub"]);
    command.args(["--store", "embedded,redis", "--hubs", "3", "--sessions", "30"]);
    command.args(["--repeat", "1", "--seconds", "1", "--json"]).arg(&file);
    let said = tokio::task::spawn_blocking(move || command.output()).await.expect("a benchmark");
    let said = said.expect("a benchmark");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let report: Value = serde_json::from_str(&fs::read_to_string(file).expect("the figures"))
        .unwrap_or_else(|error| panic!("{error}"));
    for (scenario, figure) in [
        ("idle", "memory in Redis a user, log apart"),
        ("pings", "Redis commands a second"),
        ("pairs", "Redis commands each"),
        ("storm", "sent to Redis each"),
        ("kick", "CPU of Redis each"),
    ] {
        let runs = report["runs"].as_array().expect("runs");
        let run = runs.iter().find(|run| run["scenario"] == scenario && run["hubs"] == 3);
        let figures = run.expect("a run with three hubs")["figures"].as_array().expect("figures");
        let found = figures.iter().find(|it| it["name"] == figure).expect("the figure");
        assert!(found["value"].as_f64().is_some_and(|value| value > 0.0), "{found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metric_counts_the_commands_of_a_hub() {
    let hubs = Hubs::start(RedisServer::start(), &["ana"], &[]).await;
    let count = async || {
        let metrics = hubs.hubs[0].http("GET", "/metrics").send().await.expect("an answer");
        let metrics = metrics.text().await.expect("a text");
        let line =
            metrics.lines().find_map(|it| it.strip_prefix("presence_hub_redis_commands_total "));
        line.expect("the metric").parse::<u64>().expect("a number")
    };
    let before = count().await;
    let (mut ana, _) = hubs.login(0, "ana", "web").await;
    for custom in 0..100 {
        ana.ok(json!({ "type": "set", "custom": custom.to_string() })).await;
    }
    let after = count().await;
    assert!(after - before >= 101, "{before}, then {after}");
}
