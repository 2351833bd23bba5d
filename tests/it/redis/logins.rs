//! Dashboard logins that several hubs share.

use std::time::Duration;

use presence_hub::store::SharedLogins;

use crate::store_contract::RETENTION;
use crate::support::{RedisServer, until};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn shared_logins_are_bounded_per_key_and_expire() {
    let server = RedisServer::start();
    let (one, two) = (server.open(RETENTION).await, server.open(RETENTION).await);
    one.save_login("other", "viewer", HOUR, 3).await.expect("saved");
    for (id, earlier) in [("a", 3), ("b", 2), ("c", 1), ("d", 0)] {
        let ttl = HOUR - Duration::from_millis(earlier);
        one.save_login(id, "admin", ttl, 3).await.expect("saved");
    }
    assert_eq!(two.login("a").await, Ok(None), "the earliest login was evicted");
    let found = two.login("b").await.expect("an answer").expect("a login");
    assert_eq!(found.key, "admin");
    assert!(found.left > HOUR - Duration::from_secs(60) && found.left <= HOUR, "{:?}", found.left);
    assert!(two.login("other").await.expect("an answer").is_some(), "not the login of another key");

    two.end_login("b").await.expect("ended");
    assert_eq!(one.login("b").await, Ok(None));

    one.save_login("short", "viewer", Duration::from_millis(1), 3).await.expect("saved");
    until("the login to expire", async || two.login("short").await == Ok(None)).await;
    one.save_login("next", "viewer", HOUR, 3).await.expect("saved");
    let left: u64 = server.run("HLEN test:{hub}logins");
    assert_eq!(left, 4, "expired logins are deleted: c, d, other and next stay");
}
