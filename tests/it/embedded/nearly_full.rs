//! A disk that is nearly full: said loudly, before commits fail.

use serde_json::json;

use super::{in_its_namespace, is_ready, may_mount};
use crate::support::Server;

#[tokio::test]
async fn nearly_full_disk_is_said_loudly_and_refuses_what_can_wait() {
    assert!(may_mount(), "this test needs permission to mount a file system in its own namespace");
    let script = "mkdir -p data && mount -t tmpfs -o size=64m tmpfs data && exec \"$0\"";
    let wrapper = ["unshare", "-m", "sh", "-c", script];
    let server = Server::under(&wrapper, &[("store.min_free", "32MiB")]);
    let set = json!({ "type": "set", "custom": "x" });
    let (mut ana, _) = server.login("ana", "web").await;
    ana.ok(set.clone()).await;
    in_its_namespace(&server, "head -c 40000000 /dev/zero > data/other");
    let line = server.until_logged(&["ERROR", "disk nearly full"]).await;
    assert!(line.contains("min_free=\"32.0 MiB\"") && line.contains("free=\""), "{line}");
    assert_eq!(ana.error(set.clone()).await, "unavailable");
    assert_eq!(ana.error(json!({ "type": "background" })).await, "unavailable");
    assert!(is_ready(&server).await);
    let (_, stats) = server.call("GET", "/v1/stats", None).await;
    assert_eq!(
        (&stats["store"]["disk_low"], &stats["store"]["state"]),
        (&true.into(), &"up".into())
    );
    let (bo, _) = server.login("bo", "mac").await;
    drop(bo);
    server.until_state("bo", "Offline").await;
    let (_, history) = server.call("GET", "/v1/users/bo/history", None).await;
    assert_eq!(history["events"][0]["cause"], "close", "the end is logged");
    assert_eq!(server.log().matches("disk nearly full").count(), 1, "once a minute");
    in_its_namespace(&server, "rm data/other");
    server.until_logged(&["INFO", "disk has room again"]).await;
    ana.ok(set).await;
}
