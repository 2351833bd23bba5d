//! A proxy that cuts idle connections before the hub's ping comes.

use std::time::Duration;

use presence_hub::session::IdleCuts;
use tokio::time::sleep;

use crate::lab::{EPOCH, Lab, Logged, SECOND};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn repeated_cuts_of_native_connections_at_a_minute_are_logged_once() {
    let logged = Logged::here();
    let told = || logged.lines("proxy's idle timeout");
    let lab = Lab::new();
    for n in 0..25 {
        let (client, _) = lab.login(&format!("user-{n}"), "android").await;
        sleep(MINUTE).await;
        drop(client);
        sleep(SECOND).await;
        // Cuts of pages do not count: pages are pinged more often.
        let (page, _) = lab.login(&format!("page-{n}"), "web").await;
        drop(page);
        assert_eq!(told().len(), usize::from(n >= 9), "after {n}");
    }
    let line = &told()[0];
    for part in ["WARN", "native_ping=2m", "liveness.native_ping", "proxy_read_timeout"] {
        assert!(line.contains(part), "{part}: {line}");
    }
}

#[test]
fn unstable_networks_are_not_reported_as_a_proxy() {
    let mut cuts = IdleCuts::default();
    for n in 0..10_000_u32 {
        let idle = SECOND * (n * 7 % 120);
        assert!(!cuts.count(idle, EPOCH + SECOND * n), "{n}");
    }
    let mut rare = IdleCuts::default();
    for n in 0..1000 {
        assert!(!rare.count(MINUTE, EPOCH + 2 * MINUTE * n), "five in ten minutes are few");
    }
    let mut cuts = IdleCuts::default();
    let told: Vec<_> = (0..30).filter(|n| cuts.count(MINUTE, EPOCH + SECOND * *n)).collect();
    assert_eq!(told, [9], "once");
}
