//! Runs a Redis Cluster for a test.

use redis::Value;

use super::redis_server::RedisServer;
use super::time::until;

/// The slots of each primary.
const SLOTS: [&str; 3] = ["0 5460", "5461 10922", "10923 16383"];
/// From this version on a slot is moved with all its keys at once.
const MOVES_AT_ONCE_FROM: (u32, u32) = (8, 4);

/// Three primaries, each with a third of the slots, and their replicas. Dropping it kills all of them.
pub(crate) struct RedisCluster {
    pub(crate) primaries: Vec<RedisServer>,
    /// The replica of each primary; none if it was started without replicas.
    pub(crate) replicas: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts three primaries without replicas.
    pub(crate) async fn of_primaries() -> Self {
        Self::start(0).await
    }

    /// Starts three primaries with a replica each.
    pub(crate) async fn with_replicas() -> Self {
        Self::start(SLOTS.len()).await
    }

    async fn start(replicas: usize) -> Self {
        let nodes: Vec<_> =
            (0..SLOTS.len() + replicas).map(|_| RedisServer::cluster_node()).collect();
        for ((server, _), slots) in nodes.iter().zip(SLOTS) {
            let () = server.run(&format!("CLUSTER ADDSLOTSRANGE {slots}"));
        }
        let (first, _) = &nodes[0];
        for (other, bus) in &nodes[1..] {
            let () = first.run(&format!("CLUSTER MEET 127.0.0.1 {} {bus}", other.port()));
        }
        let mut servers: Vec<_> = nodes.into_iter().map(|(server, _)| server).collect();
        until("the cluster", async || {
            let all = format!("cluster_known_nodes:{}", servers.len());
            servers.iter().all(|server| {
                let info: String = server.run("CLUSTER INFO");
                info.contains("cluster_state:ok")
                    && info.contains("cluster_size:3")
                    && info.contains(&all)
            })
        })
        .await;
        let replicas = servers.split_off(SLOTS.len());
        let cluster = Self { primaries: servers, replicas };
        for (replica, primary) in cluster.replicas.iter().zip(&cluster.primaries) {
            follow(replica, primary).await;
        }
        cluster
    }

    /// What `store.redis_url` is set to.
    pub(crate) fn seeds(&self) -> String {
        let urls = self.primaries.iter().map(|server| format!("\"{}\"", server.url()));
        format!("[{}]", urls.collect::<Vec<_>>().join(", "))
    }

    /// The slot of a key, and which primary has it.
    pub(crate) fn slot(&self, pattern: &str) -> (u32, usize) {
        let found = self.primaries.iter().enumerate().find_map(|(index, server)| {
            let keys: Vec<String> = server.run(&format!("KEYS {pattern}"));
            Some((server.run(&format!("CLUSTER KEYSLOT {}", keys.first()?)), index))
        });
        found.unwrap_or_else(|| panic!("no key is like {pattern}"))
    }

    /// Waits until the replica of a primary has taken its place, and swaps the two.
    pub(crate) async fn until_failed_over(&mut self, index: usize) {
        until("the replica to be a primary", async || {
            self.replicas[index].run::<String>("INFO replication").contains("role:master")
        })
        .await;
        std::mem::swap(&mut self.primaries[index], &mut self.replicas[index]);
    }
}

/// Makes a server the replica of another one, and waits until it has its data.
async fn follow(replica: &RedisServer, primary: &RedisServer) {
    let id: String = primary.run("CLUSTER MYID");
    until("the replica to know its primary", async || {
        let known: String = replica.run("CLUSTER NODES");
        known.contains(&id)
    })
    .await;
    let () = replica.run(&format!("CLUSTER REPLICATE {id}"));
    until_replicated(replica, primary).await;
}

/// Waits until a replica has the data of its primary.
pub(crate) async fn until_replicated(replica: &RedisServer, primary: &RedisServer) {
    until("the replica to have the data", async || {
        let is_linked = replica.run::<String>("INFO replication").contains("master_link_status:up");
        is_linked && primary.run::<String>("INFO replication").contains("state=online")
    })
    .await;
}

/// Cuts a replica off from its primary: it gets no more writes, and cannot connect again.
pub(crate) fn cut_off(replica: &RedisServer, primary: &RedisServer) {
    // The primary refuses a replica that gives a password.
    let () = replica.run("CONFIG SET masterauth wrong");
    let _: Value = primary.run("CLIENT KILL TYPE replica");
}

/// Moves a slot to another primary, one key after another.
pub(crate) fn move_slot(slot: u32, from: &RedisServer, to: &RedisServer) {
    let [from_id, to_id] = [from, to].map(|server| server.run::<String>("CLUSTER MYID"));
    let () = to.run(&format!("CLUSTER SETSLOT {slot} IMPORTING {from_id}"));
    let () = from.run(&format!("CLUSTER SETSLOT {slot} MIGRATING {to_id}"));
    let keys: Vec<String> = from.run(&format!("CLUSTER GETKEYSINSLOT {slot} 1000"));
    let mut migrate = redis::cmd("MIGRATE");
    migrate.arg("127.0.0.1").arg(to.port()).arg("").arg(0).arg(5000).arg("KEYS").arg(&keys);
    let () = migrate.query(&mut from.connection()).expect("to migrate");
    for server in [to, from] {
        let () = server.run(&format!("CLUSTER SETSLOT {slot} NODE {to_id}"));
    }
}

/// Why a server cannot move a slot with all its keys at once; `None` if it can.
pub(crate) fn cannot_move_at_once(server: &RedisServer) -> Option<String> {
    let info: String = server.run("INFO server");
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
    let version = version.expect("a version").trim();
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or_default());
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let (needed, least) = MOVES_AT_ONCE_FROM;
    let cannot = (major, minor) < MOVES_AT_ONCE_FROM;
    cannot.then(|| format!("redis-server is {version}, and {needed}.{least} is needed"))
}

/// Moves a slot to another primary, with all its keys at once.
pub(crate) async fn move_slot_at_once(slot: u32, to: &RedisServer) {
    let task: String = to.run(&format!("CLUSTER MIGRATION IMPORT {slot} {slot}"));
    until("the slot to be moved", async || {
        let status: Value = to.run(&format!("CLUSTER MIGRATION STATUS ID {task}"));
        format!("{status:?}").contains("completed")
    })
    .await;
}
