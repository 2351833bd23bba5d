//! A store whose files may only be read from now on: no commit is acknowledged, and nothing is lost.

use super::{in_its_namespace, is_ready, may_mount, stays_unready, try_login};
use crate::support::{Server, until};

/// A mount with files that are open for writing cannot be made read-only, so these files are.
const FILES: &str = "data/presence.db data/presence.db-wal data/presence.mark";

#[tokio::test]
async fn files_that_become_read_only_stop_commits_until_they_can_be_written() {
    assert!(may_mount(), "this test needs permission to mount a file system in its own namespace");
    let script = "mkdir -p data && mount -t tmpfs -o size=64m tmpfs data && exec \"$0\"";
    let server = Server::under(&["unshare", "-m", "sh", "-c", script], &[]);
    let (_ana, _) = server.login("ana", "mac").await;
    in_its_namespace(&server, &format!("chattr +i {FILES}"));
    let mut clients = Vec::new();
    until("not ready", async || {
        let mut client = server.connect().await;
        let refusal = try_login(&mut client, &format!("user-{}", clients.len())).await;
        match refusal.as_deref() {
            None => clients.push(client),
            Some(code) => assert_eq!(code, "unavailable"),
        }
        !is_ready(&server).await
    })
    .await;
    let refused = format!("user-{}", clients.len());
    server.until_logged(&["ERROR", "store unavailable"]).await;
    let ready = server.http("GET", "/ready").send().await.expect("an answer");
    assert_eq!(ready.status(), 503);
    let mut late = server.connect().await;
    assert_eq!(try_login(&mut late, &refused).await.as_deref(), Some("unavailable"));
    assert_eq!(server.user("ana").await["state"], "Online", "statuses are still served");
    assert_eq!(server.user(&refused).await["state"], "Offline", "no false state");
    stays_unready(&server, 3000).await;

    in_its_namespace(&server, &format!("chattr -i {FILES}"));
    until("ready again", async || is_ready(&server).await).await;
    server.until_logged(&["INFO", "store available again"]).await;
    let (_late, _) = server.login(&refused, "mac").await;
    for user in (0..=clients.len()).map(|n| format!("user-{n}")).chain(["ana".to_owned()]) {
        assert_eq!(server.user(&user).await["state"], "Online", "{user}");
    }
    let (_, history) = server.call("GET", "/v1/users/ana/history", None).await;
    assert_eq!(history["events"][0]["cause"], "login", "{history}");
    assert!(!server.log().contains("panicked"), "{}", server.log());
}
