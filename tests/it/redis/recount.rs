//! Counts and indexes, compared with a recount of all records.

use std::collections::{BTreeMap, BTreeSet};

use presence_hub::presence::{Link, NodeId, Platform, Record, State, Timestamp};
use presence_hub::store::{Among, Commit, Records, Totals};
use redis::Commands;

use super::node;
use crate::lab::{EPOCH, SECOND, id};
use crate::store_contract::{RETENTION, closed, commit_of, logged_in, policy};
use crate::support::RedisServer;

const STATES: [State; 3] = [State::Offline, State::PushOnline, State::Online];

/// One random change of a record.
fn changed(record: &Record, at: Timestamp) -> Commit {
    let (mut record, transitions) = match rand::random::<u32>() % 8 {
        0 => (Record::default(), Vec::new()),
        1..=3 if record.terminals.first().is_some_and(|t| t.state() == State::Online) => {
            let is_page = record.terminals[0].platform == Platform::Web;
            if is_page { (record.clone(), Vec::new()) } else { closed(record, at) }
        }
        place => logged_in(record, Platform::ALL[place as usize], at),
    };
    if let Some(terminal) = record.terminals.last_mut() {
        terminal.connection.node = NodeId(1 + u64::from(rand::random::<u32>() % 3));
    }
    let wall_deadline = record.wall_deadline(&policy());
    Commit { wall_deadline, ..commit_of(record, transitions) }
}

/// All members of the indexes with these names, of all partitions.
fn members(server: &RedisServer, name: &str) -> BTreeSet<String> {
    let mut connection = server.connection();
    let keys: Vec<String> = connection.keys(format!("test:*}}{name}")).expect("keys");
    let members = keys.into_iter().flat_map(|key| {
        let members: Vec<String> = connection.zrange(key, 0, -1).expect("members");
        members
    });
    members.collect()
}

fn users_where(
    records: &BTreeMap<String, Record>,
    is: impl Fn(&Record) -> bool,
) -> BTreeSet<String> {
    records.iter().filter(|(_, record)| is(record)).map(|(user, _)| user.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_and_indexes_equal_a_recount_after_random_commits() {
    let server = RedisServer::start();
    let store = node(&server).await;
    let users: Vec<_> = (0..40).map(|n| format!("user-{n}")).collect();
    for n in 0..1000 {
        let user = id(&users[rand::random::<u32>() as usize % users.len()]);
        let base = store.load(&user).await.expect("a record");
        let commit = changed(&base.record, EPOCH + n * SECOND);
        store.commit(&user, &base, commit).await.expect("a commit");
    }
    let (mut records, mut totals) = (BTreeMap::new(), Totals::default());
    for user in users {
        let record = store.load(&id(&user)).await.expect("a record").record;
        totals.replace(&Record::default().census(), &record.census());
        records.insert(user, Record::clone(&record));
    }
    // Another node has no cached counts.
    let other = server.open(RETENTION).await;
    assert_eq!((store.totals().await, other.totals().await), (Ok(totals), Ok(totals)));
    for state in STATES {
        let expected = users_where(&records, |record| record.census().state == Some(state));
        assert_eq!(members(&server, &format!("s{}", state as usize)), expected, "{state:?}");
        let among = Among { states: vec![state], ..Among::default() };
        let listed = other.users(&among, usize::MAX).await.expect("a list");
        let listed: BTreeSet<_> = listed.iter().map(|(user, _)| user.to_string()).collect();
        assert_eq!(listed, expected, "{state:?}");
    }
    for node in [1, 2, 3].map(NodeId) {
        let expected = users_where(&records, |record| record.is_held_by(node));
        assert_eq!(members(&server, &format!("n:{node}")), expected, "{node}");
        assert!(!expected.is_empty());
    }
    let expected = users_where(&records, |record| record.wall_deadline(&policy()).is_some());
    assert_eq!(members(&server, "wall"), expected);
    let is_push =
        |record: &Record| record.terminals.iter().any(|t| matches!(t.link, Link::Push { .. }));
    assert!(!users_where(&records, is_push).is_empty());
}
