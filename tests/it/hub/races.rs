//! Racing events on one and on several nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use presence_hub::config::PolicyName;
use presence_hub::presence::{Answer, EventKind, Kicker, Origin, Platform, Record, State, Target};
use presence_hub::store::Store;
use serde_json::json;
use tokio::sync::Barrier;

use super::{assert_chained, login};
use crate::lab::{Lab, id, memory_store};

/// Makes nodes that share one store.
fn nodes(count: usize, policy: PolicyName) -> Vec<Arc<Lab>> {
    let store: Arc<dyn Store> = Arc::new(memory_store());
    let node = |_| Arc::new(Lab::node(Arc::clone(&store), |config| config.login.policy = policy));
    (0..count).map(node).collect()
}

/// Checks a user's record until `done` is set; returns how many versions it saw.
fn observe(
    lab: &Arc<Lab>,
    done: &Arc<AtomicBool>,
    mut check: impl FnMut(&Record) + Send + 'static,
) -> tokio::task::JoinHandle<usize> {
    let (lab, done) = (Arc::clone(lab), Arc::clone(done));
    tokio::spawn(async move {
        let (mut seen, mut version) = (0, 0);
        loop {
            let last = done.load(Ordering::Acquire);
            let record = lab.record("ana").await;
            assert!(record.version >= version, "versions of one user only grow");
            seen += usize::from(record.version > version);
            version = record.version;
            check(&record);
            if last {
                return seen;
            }
            tokio::task::yield_now().await;
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn l8_racing_logins_under_single_never_show_two_terminals() {
    const LOGINS: usize = 200;
    for count in [1, 2] {
        let nodes = nodes(count, PolicyName::Single);
        let done = Arc::new(AtomicBool::new(false));
        let observers: Vec<_> = (0..2)
            .map(|_| {
                let mut before = 0;
                observe(&nodes[0], &done, move |record| {
                    let online = record.terminals.len();
                    assert!((before..=1).contains(&online), "{record:?}");
                    before = online;
                })
            })
            .collect();
        let start = Arc::new(Barrier::new(LOGINS));
        let logins = (0..LOGINS).map(|n| {
            let (lab, start) = (Arc::clone(&nodes[n % count]), Arc::clone(&start));
            tokio::spawn(async move {
                let platform = Platform::ALL[n % Platform::ALL.len()];
                let (session, event) = login(&lab.hub, platform, &format!("d{n}"), n as u64);
                start.wait().await;
                let applied = lab.hub.apply(&id("ana"), event).await.expect("a login");
                let Answer::Admitted { session: admitted, resumed: false, kicked } = applied.answer
                else {
                    panic!("{:?}", applied.answer)
                };
                assert_eq!(admitted, session);
                kicked.into_iter().map(|victim| victim.session).collect::<Vec<_>>()
            })
        });
        let logins: Vec<_> = logins.collect();
        let mut kicked = Vec::new();
        for login in join_all(logins).await {
            kicked.extend(login.expect("a login"));
        }
        done.store(true, Ordering::Release);
        for observer in observers {
            assert!(observer.await.expect("one terminal in every observation") > 0);
        }
        kicked.sort_unstable();
        kicked.dedup();
        assert_eq!(kicked.len(), LOGINS - 1, "all but the last were kicked, each once");
        let record = nodes[0].record("ana").await;
        assert!(!kicked.contains(&record.terminals[0].session));
        assert_chained(&*nodes[0].store).await;
    }
}

/// L1, L2, V2, V5 with all kinds of events at once, on two nodes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_events_keep_the_log_chained_and_the_policy_enforced() {
    for policy in [PolicyName::Single, PolicyName::Dual, PolicyName::Triple, PolicyName::Multi] {
        let nodes = nodes(2, policy);
        let rules = nodes[0].hub.policy();
        let done = Arc::new(AtomicBool::new(false));
        let observer = observe(&nodes[1], &done, move |record| {
            let login = &rules.login;
            for (place, one) in record.terminals.iter().enumerate() {
                for other in &record.terminals[..place] {
                    let side_by_side = one.device == other.device
                        && (one.platform, other.platform) == (Platform::Web, Platform::Web);
                    let conflict = login.share_group(one.platform, other.platform);
                    assert!(side_by_side || !conflict, "{one:?} beside {other:?}");
                }
            }
        });
        let lives = (0..8_u64).map(|life| {
            let lab = Arc::clone(&nodes[life as usize % 2]);
            tokio::spawn(async move {
                for n in 0..60 {
                    let platform = Platform::ALL[rand::random_range(0..Platform::ALL.len())];
                    let device = ["one", "other"][rand::random_range(0..2)];
                    let serial = life * 1000 + n;
                    let (session, event) = login(&lab.hub, platform, device, serial);
                    lab.hub.apply(&id("ana"), event).await.expect("a login");
                    let node = lab.hub.node();
                    let connection = presence_hub::presence::ConnectionId { node, serial };
                    let origin = Origin { session, connection };
                    let next = match rand::random_range(0..5) {
                        0 => EventKind::Logout(origin),
                        1 => EventKind::Closed { origin, close_code: None },
                        2 => EventKind::Set {
                            origin: Some(origin),
                            custom: Some(Some(n.to_string().into())),
                            hidden: None,
                        },
                        3 => EventKind::Kick {
                            target: Target { platform: Some(platform), ..Target::default() },
                            by: Kicker::Admin { message: None },
                        },
                        _ => continue,
                    };
                    lab.hub.apply(&id("ana"), next).await.expect("a change");
                }
            })
        });
        for life in join_all(lives.collect::<Vec<_>>()).await {
            life.expect("a life");
        }
        done.store(true, Ordering::Release);
        assert!(observer.await.expect("no policy is exceeded") > 0);
        assert_chained(&*nodes[0].store).await;
    }
}

/// L6: a kicked client gets its reply, then the notice, then the Close.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn l6_reply_precedes_the_kick_notice_and_the_notice_precedes_the_close() {
    const LOGINS: usize = 100;
    for round in 0..3 {
        let nodes = nodes(1, PolicyName::Single);
        let start = Arc::new(Barrier::new(LOGINS));
        let logins = (0..LOGINS).map(|n| {
            let (lab, start) = (Arc::clone(&nodes[0]), Arc::clone(&start));
            tokio::spawn(async move {
                let mut client = lab.connect().await;
                let mut hello = lab.hello("ana", Platform::ALL[n % 8].name());
                (hello["id"], hello["device"]) = (json!(7), json!(format!("d{n}-{round}")));
                start.wait().await;
                client.send(&hello).await;
                let reply = client.message().await;
                assert_eq!((&reply["type"], &reply["id"]), (&json!("reply"), &json!(7)), "{reply}");
                assert_eq!(reply["ok"]["status"]["state"], json!("Online"), "{reply}");
                (client, reply["ok"]["session"].clone())
            })
        });
        let clients = join_all(logins.collect::<Vec<_>>()).await;
        let mut online = Vec::new();
        let winner = json!(nodes[0].record("ana").await.terminals[0].session);
        for client in clients {
            let (mut client, session) = client.expect("a login");
            if session == winner {
                client.ok(json!({ "type": "ping" })).await;
                online.push(client);
                continue;
            }
            let (heard, code) = client.until_closed().await;
            let [notice] = &heard[..] else { panic!("{heard:?}") };
            assert_eq!(
                (&notice["type"], &notice["reason"]),
                (&json!("kicked"), &json!("login_elsewhere")),
                "{notice}"
            );
            assert_eq!(code, Some(4501));
        }
        assert_eq!((online.len(), nodes[0].state("ana").await), (1, State::Online));
        assert_chained(&*nodes[0].store).await;
    }
}
