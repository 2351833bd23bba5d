//! Which servers and settings are refused at the start, and in which words.

use std::time::Duration;

use presence_hub::clock::Clock;
use presence_hub::presence::{NodeId, Platform};
use presence_hub::store::{Nodes, Records, RedisSettings, RedisStore};

use super::node;
use crate::lab::EPOCH;
use crate::store_contract::{RETENTION, log_in};
use crate::support::RedisServer;

/// Why a store does not open with these settings.
async fn refusal(settings: RedisSettings) -> String {
    let opened = RedisStore::open(settings, RETENTION, &Clock::system()).await;
    opened.expect_err("to be refused").to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_settings_are_refused_in_words_that_say_what_to_change() {
    let server = RedisServer::start();
    let with = |change: &dyn Fn(&mut RedisSettings)| {
        let mut settings = server.settings();
        change(&mut settings);
        settings
    };
    for partitions in [0, 8, 48, 2048] {
        let refused = refusal(with(&|it| it.partitions = partitions)).await;
        let expected =
            format!("store.partitions is {partitions}; it must be a power of two from 16 to 1024");
        assert_eq!(refused, expected);
    }
    assert!(refusal(with(&|it| it.urls.clear())).await.starts_with("store.redis_url is empty"));
    let refused = refusal(with(&|it| it.urls = vec!["http://:geheim@host".into()])).await;
    assert!(refused.starts_with("store.redis_url[0] is not a Redis URL"), "{refused}");
    assert!(!refused.contains("geheim"), "{refused}");

    drop(node(&server).await);
    let refused = refusal(with(&|it| it.partitions = 128)).await;
    assert!(refused.contains("format 1 with 64 partitions"), "{refused}");
    let () = server.run("CONFIG SET maxmemory-policy allkeys-lru");
    let refused = refusal(server.settings()).await;
    assert!(
        refused.contains("allkeys-lru") && refused.contains("set it to noeviction"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_server_is_refused_within_ten_seconds() {
    let mut server = RedisServer::start();
    server.kill();
    let settings = RedisSettings { timeout: Duration::from_millis(200), ..server.settings() };
    let refused = refusal(settings).await;
    assert!(
        refused.starts_with("cannot reach Redis within 10 s: Redis at 127.0.0.1:"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_said_and_not_shown() {
    let server = RedisServer::with(&["--requirepass", "right-one"]);
    let url = server.url().replace("redis://", "redis://:wrong-one@");
    let refused = refusal(RedisSettings { urls: vec![url], ..server.settings() }).await;
    assert!(refused.to_lowercase().contains("password"), "{refused}");
    assert!(!refused.contains("wrong-one"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hubs_with_different_prefixes_share_a_server() {
    let server = RedisServer::start();
    let one = node(&server).await;
    log_in(&one, "ana", Platform::Web, EPOCH).await;
    let settings =
        RedisSettings { key_prefix: "other".into(), partitions: 16, ..server.settings() };
    let other = RedisStore::open(settings, RETENTION, &Clock::system()).await.expect("a store");
    let totals = other.totals().await.expect("counts");
    assert_eq!(totals.users, [0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_far_away_is_refused_and_later_not_ready() {
    let server = RedisServer::start();
    let settings = RedisSettings { max_clock_skew: Duration::from_secs(5), ..server.settings() };
    let far = RedisStore::open(settings.clone(), RETENTION, &Clock::simulated(EPOCH)).await;
    let far = far.expect_err("another time").to_string();
    assert!(far.contains("differ by ") && far.contains("synchronize both with NTP"), "{far}");

    let store = RedisStore::open(settings, RETENTION, &Clock::system()).await.expect("a store");
    assert_eq!(store.check().await, Ok(()));
    let (node, clock) = (NodeId(1), Clock::system());
    let mut sign = clock.sign_of_life();
    store.save_sign_of_life(node, sign.clone(), "{}".into()).await.expect("a sign of life");
    assert_eq!(store.check().await, Ok(()));
    let cards = store.cards().await.expect("cards");
    assert!(cards[0].clock_ms.is_some_and(|ms| ms.abs() < 1000), "{cards:?}");
    sign.wall = EPOCH;
    store.save_sign_of_life(node, sign, "{}".into()).await.expect("a sign of life");
    let skewed = store.check().await.expect_err("not ready").to_string();
    assert!(skewed.contains("store.max_clock_skew"), "{skewed}");
}
