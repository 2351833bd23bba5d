//! The figures of each day.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use presence_hub::clock::Clock;
use presence_hub::figures::{Count, DAY, Figures, Sketch};
use presence_hub::presence::{Platform, SignOfLife, Timestamp};
use presence_hub::store::{Days, Nodes, Store, StoreError, Totals};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::embedded::open;
use crate::lab::{EPOCH, SECOND, id, memory_store};
use crate::store_contract::{RETENTION, log_in, present};
use crate::support::{RedisServer, Server, until};

#[test]
fn sketch_counts_distinct_users_within_its_error() {
    for count in [0_u64, 1, 10, 100, 1000, 10_000, 100_000] {
        let mut sketch = Sketch::default();
        for n in 0..count {
            sketch.add(&id(&format!("user-{n}")));
            sketch.add(&id(&format!("user-{}", n / 2)));
        }
        let (counted, most) = (sketch.count() as f64, (count as f64 * 0.05).max(0.5));
        assert!((counted - count as f64).abs() <= most, "{counted} of {count}");
        let text = String::from(sketch.clone());
        assert!(text.len() < 6000);
        assert_eq!(Sketch::try_from(text), Ok(sketch), "{count}");
    }
    for text in ["", "AAAA", "?"] {
        assert!(Sketch::try_from(text.to_owned()).is_err(), "{text}");
    }
}

#[test]
fn peaks_and_online_time_come_from_samples() {
    let mut count = Count::of_day(EPOCH, None);
    let mut totals = Totals::default();
    totals.online[Platform::Ios as usize] = 3;
    totals.push_online[Platform::Ios as usize] = 2;
    totals.online[Platform::Web as usize] = 1;
    totals.users = [9, 2, 4];
    count.sample(&totals, Duration::from_secs(5));
    totals.online[Platform::Ios as usize] = 1;
    totals.users = [9, 2, 2];
    count.sample(&totals, Duration::from_secs(5));
    let figures = &count.figures;
    assert_eq!((figures.peak_users, figures.peak_sessions), (4, 6));
    let platforms = [("ios".to_owned(), 5), ("web".to_owned(), 1)];
    assert_eq!(figures.peak_sessions_by_platform, platforms.into());
    assert_eq!((figures.online_ms, figures.session_ms), (30_000, None), "no login");
    assert_eq!(figures.day, EPOCH.round_down(DAY));
    assert!(!count.is_over_at(EPOCH) && count.is_over_at(EPOCH + DAY));
}

async fn keeps_days(days: &dyn Days) {
    assert_eq!(days.days(0).await, Ok(Vec::new()));
    let text = |n: u32| -> Arc<str> { format!("{{\"n\":{n}}}").into() };
    for day in [7, 5, 6] {
        days.save_day(day, text(day), 0).await.expect("to save");
    }
    days.save_day(6, text(66), 0).await.expect("to replace");
    assert_eq!(days.days(6).await, Ok(vec![(6, text(66)), (7, text(7))]));
    days.save_day(8, text(8), 7).await.expect("to save");
    assert_eq!(days.days(0).await, Ok(vec![(7, text(7)), (8, text(8))]), "old days are deleted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_store_keeps_days() {
    keeps_days(&memory_store()).await;
    let directory = TempDir::new().expect("a directory");
    keeps_days(&open(directory.path()).expect("a store")).await;
    let server = RedisServer::start();
    let (one, two) = (server.open(RETENTION).await, server.open(RETENTION).await);
    let turns = [one.days_turn(), two.days_turn()];
    let sign = async |store: &dyn Nodes, node, now| {
        let sign = SignOfLife { now, ..present() };
        store.save_sign_of_life(presence_hub::presence::NodeId(node), sign, "{}".into()).await
    };
    sign(&one, 1, EPOCH).await.expect("a sign of life");
    sign(&two, 2, EPOCH).await.expect("a sign of life");
    assert_eq!(turns.map(|turn| *turn.borrow()), [true, false], "one node counts");
    keeps_days(&one).await;
    assert_eq!(two.save_day(9, "{}".into(), 0).await, Err(StoreError::Conflict));
    assert_eq!(two.days(8).await.expect("days").len(), 1, "the other one reads them");
}

/// The last days as the hub shows them.
async fn shown(hub: &Server) -> Vec<Value> {
    let (status, page) = hub.call("GET", "/v1/figures?days=400", None).await;
    assert_eq!(status, 200, "{page}");
    page["days"].as_array().expect("days").clone()
}

fn sum(days: &[Value], name: &str) -> u64 {
    days.iter().map(|day| day[name].as_u64().expect("a number")).sum()
}

#[tokio::test]
async fn logins_kicks_and_blinks_are_counted_once_over_a_restart() {
    let mut hub = Server::start(&[]);
    for user in ["ann", "bob", "ann"] {
        let (mut client, _) = hub.login(user, "mac").await;
        client.ok(json!({ "type": "logout" })).await;
    }
    let (_phone, _) = hub.login("eve", "ios").await;
    let (_other, _) = hub.login("eve", "android").await;
    let counted = async |hub: &Server, logins: u64| {
        until("the figures", async || sum(&shown(hub).await, "logins") >= logins).await;
        let days = shown(hub).await;
        assert_eq!(sum(&days, "logins"), logins, "{days:?}");
        assert_eq!(sum(&days, "kicks"), 1, "{days:?}");
        // `ann` was Offline for a moment.
        assert_eq!(sum(&days, "blinks"), 1, "{days:?}");
        days
    };
    let days = counted(&hub, 5).await;
    let starts: BTreeSet<_> = days.iter().map(|day| day["day"].as_u64().expect("a time")).collect();
    assert!(starts.iter().all(|day| day % 86_400_000 == 0), "{days:?}");
    if let [day] = &days[..] {
        assert_eq!(day["users"], 3, "{day}");
    }
    until("a sample", async || sum(&shown(&hub).await, "peak_users") >= 1).await;

    hub.restart(&[]);
    let (_late, _) = hub.login("zoe", "mac").await;
    counted(&hub, 6).await;
    let (status, body) = hub.call("GET", "/v1/figures?days=401", None).await;
    assert_eq!(status, 400, "{body}");
}

/// Events of earlier days that the log still has count for their day.
#[tokio::test(start_paused = true)]
async fn events_count_for_their_day() {
    let store = Arc::new(memory_store());
    let port: Arc<dyn Store> = Arc::clone(&store) as _;
    let days: Arc<dyn Days> = Arc::clone(&store) as _;
    let clock = Clock::simulated(EPOCH + DAY * 2);
    let first: Timestamp = EPOCH;
    for (n, at) in [first, first + SECOND, first + DAY, first + DAY * 2].into_iter().enumerate() {
        log_in(&port, &format!("user-{n}"), Platform::Mac, at).await;
    }
    let figures = Figures::new(port, days, clock);
    let running = tokio::spawn(Arc::clone(&figures).run());
    let mut shown = Vec::new();
    until("three days", async || {
        shown = figures.last(400).await.expect("the figures");
        shown.len() == 3 && shown[2].logins == 1
    })
    .await;
    let logins: Vec<_> = shown.iter().map(|day| (day.day, day.logins, day.users)).collect();
    let day = |n: u32| (first + DAY * n).round_down(DAY);
    assert_eq!(logins, [(day(0), 2, 2), (day(1), 1, 1), (day(2), 1, 1)]);
    running.abort();
}
