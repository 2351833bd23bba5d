//! Reloads by SIGHUP: which settings they apply, and which they report as pending.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Server, until};

const ADMIN: &str = "an-admin-key-for-tests";

async fn configuration(server: &Server) -> Value {
    let request = server.http("GET", "/v1/config").bearer_auth(ADMIN);
    let text = request.send().await.expect("an answer").text().await.expect("a body");
    serde_json::from_str(&text).expect("JSON")
}

async fn reload(server: &Server, file: &str) {
    let said = "configuration reloaded";
    let before = server.log().matches(said).count();
    fs::write(server.directory.path().join("config.toml"), file).expect("to write");
    server.signal(Signal::HUP);
    until("the reload", async || server.log().matches(said).count() > before).await;
}

#[tokio::test]
async fn a_reload_reports_settings_that_need_a_restart() {
    let settings = [("auth.admin_keys", "[\"an-admin-key-for-tests\"]")];
    let server = Server::with_file("[server]\ndrain = \"1s\"\n", &settings);
    let before = configuration(&server).await;
    assert_eq!(before["pending_restart"], Value::Null);

    let file = "[server]\ndrain = \"2s\"\nmax_connections = 7\nadmin_listen = \"127.0.0.1:1\"\n\
                [store]\nlog_ttl = \"3d\"\n[log]\nformat = \"json\"\n";
    reload(&server, file).await;
    let pending = ["server.admin_listen", "server.max_connections", "store.log_ttl", "log.format"];
    server.until_logged(&["WARN", "changed settings need a restart", &pending.join(", ")]).await;
    let after = configuration(&server).await;
    assert_eq!(after["pending_restart"], json!(pending));
    assert_eq!(after["server"]["drain"], "2s", "a reload changes it");
    for key in ["max_connections", "admin_listen"] {
        assert_eq!(
            after["server"][key], before["server"][key],
            "{key} stays in effect until a restart"
        );
    }
    assert_eq!(after["store"]["log_ttl"], before["store"]["log_ttl"]);

    reload(&server, "[server]\ndrain = \"1s\"\n").await;
    assert_eq!(configuration(&server).await, before, "nothing is pending any more");
}

#[tokio::test]
async fn a_reload_changes_the_drain_time() {
    let mut server = Server::with_file("[server]\ndrain = \"100s\"\n", &[]);
    // A client that never reads its Close frame.
    let (_deaf, _) = server.login("ann", "linux").await;
    reload(&server, "[server]\ndrain = \"200ms\"\n").await;
    server.signal(Signal::TERM);
    assert!(server.until_exit().await.success());
    server.until_logged(&["drain timed out"]).await;
}
