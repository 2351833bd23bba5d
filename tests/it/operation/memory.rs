//! What a connection costs: a budget for a socket that has not logged in, and for an idle session.

use std::fs;

use futures::future::join_all;

use crate::support::{Client, Server, until};

const SOCKETS: usize = 2_000;
/// The most resident memory of a WebSocket, whether or not its client has logged in. The build that is
/// published takes less than half of it.
const BYTES_MAX: u64 = 12 * 1024;

/// The hub's resident memory in bytes.
fn resident(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    let kib: u64 = line.trim_end_matches("kB").trim().parse().expect("a number");
    kib * 1024
}

async fn visitors(server: &Server, count: usize) -> Vec<Client> {
    join_all((0..count).map(|_| server.connect())).await
}

#[tokio::test]
async fn connection_that_has_not_logged_in_and_an_idle_session_cost_little_memory() {
    let server = Server::start(&[("store.kind", "memory"), ("login.timeout", "60s")]);
    // What is allocated once is not counted.
    drop(visitors(&server, 50).await);
    let gone = async || {
        let (_, stats) = server.call("GET", "/v1/stats", None).await;
        stats["connections"] == 0
    };
    until("the first visitors to be gone", gone).await;
    let before = resident(&server);
    // Freed memory goes back to the system a little later.
    let is_within = async || resident(&server).saturating_sub(before) <= SOCKETS as u64 * BYTES_MAX;
    let mut clients = visitors(&server, SOCKETS).await;
    until("the visitors to cost no more than their budget", is_within).await;
    for (n, client) in clients.iter_mut().enumerate() {
        client.login(&format!("user-{n}"), "mac", "mac").await;
    }
    until("the sessions to cost no more than their budget", is_within).await;
}
