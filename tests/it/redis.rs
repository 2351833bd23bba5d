//! What only the store in Redis promises: several nodes, and a server that fails.

mod cluster;
mod commits;
mod faults;
mod feed;
mod hubs;
mod log;
mod logins;
mod nodes;
mod recount;
mod start;

use std::sync::Arc;

use presence_hub::presence::{NodeId, Platform, Record, UserId};
use presence_hub::store::{Commit, Store, StoreError};

use crate::lab::EPOCH;
use crate::store_contract::{RETENTION, commit_of, logged_in};
use crate::support::{RedisServer, until};

/// Opens a store over a server for one node.
async fn node(server: &RedisServer) -> Arc<dyn Store> {
    Arc::new(server.open(RETENTION).await)
}

/// A first login, as a commit of a node.
fn login(platform: Platform, node: NodeId) -> Commit {
    let (mut record, transitions) = logged_in(&Record::default(), platform, EPOCH);
    record.terminals[0].connection.node = node;
    Commit { node, ..commit_of(record, transitions) }
}

/// Commits over what the store has.
async fn put(store: &Arc<dyn Store>, user: &UserId, commit: Commit) -> Result<(), StoreError> {
    let base = store.load(user).await?;
    store.commit(user, &base, commit).await
}

/// Waits until the feeds of so many nodes hear all 64 partitions.
async fn until_heard(server: &RedisServer, nodes: usize) {
    until("the feeds", async || {
        let clients: String = server.run("CLIENT LIST TYPE pubsub");
        clients.lines().filter(|client| client.contains("ssub=64")).count() == nodes
    })
    .await;
}
