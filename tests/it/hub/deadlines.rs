//! Deadlines are applied on time under load.

use std::time::Duration;

use presence_hub::presence::{EventKind, Origin, Platform};

use super::login;
use crate::lab::{Lab, SECOND, assert_kept, defaults, id};

/// More users than one batch of a deadline round.
const MANY: u64 = 5000;

#[tokio::test(start_paused = true)]
async fn longer_record_ttl_does_not_delay_deadlines() {
    let lab = Lab::with(|config| config.store.record_ttl = 4 * SECOND);
    let mut watcher = lab.watcher(&["ana"]).await;
    for serial in 0..MANY {
        let user = id(&format!("user-{serial}"));
        let (session, event) = login(&lab.hub, Platform::Web, "page", 1_000_000 + serial);
        let origin = Origin { session, connection: connection(&lab, serial) };
        lab.hub.apply(&user, event).await.expect("a login");
        lab.hub.apply(&user, EventKind::Logout(origin)).await.expect("a logout");
    }
    let mut longer = defaults();
    longer.store.record_ttl = Duration::from_secs(30 * 24 * 3600);
    lab.hub.set_policy(longer.policy().expect("a policy"));
    // All users are due by the committed deadlines, and none by the new policy.
    watcher.hears_nothing_for(5 * SECOND).await;

    let (ana, _) = lab.login("ana", "web").await;
    watcher.state("ana", "Online").await;
    let from = lab.now();
    drop(ana);
    let (at, _) = watcher.state("ana", "Offline").await;
    assert_kept(SECOND, at - from, "the grace of a page");
    assert!(lab.record("user-0").await.version > 0, "the record is kept");
}

fn connection(lab: &Lab, serial: u64) -> presence_hub::presence::ConnectionId {
    presence_hub::presence::ConnectionId { node: lab.hub.node(), serial: 1_000_000 + serial }
}
