//! Two hubs over one Redis, in real time.

use presence_hub::presence::{Cause, Link, State, Timestamp};
use presence_hub::store::NodeCard;
use serde_json::json;

use super::node;
use crate::lab::Lab;
use crate::store_contract::settle;
use crate::support::{RedisServer, now_millis, until};

async fn hub(server: &RedisServer) -> Lab {
    let lab = Lab::node_at(Timestamp::from_millis(now_millis()), node(server).await, |_| ());
    // The first sign of life is given before the first login.
    until("the first sign of life", async || !lab.store.cards().await.expect("cards").is_empty())
        .await;
    lab
}

async fn causes(lab: &Lab, user: &str) -> Vec<Cause> {
    settle(&lab.store).await;
    lab.causes(user).await
}

#[tokio::test(flavor = "multi_thread")]
async fn l3_takeover_across_hubs_is_one_change_and_notifies_the_kicked_session() {
    let server = RedisServer::start();
    let (one, other) = (hub(&server).await, hub(&server).await);
    super::until_heard(&server, 2).await;
    let (mut here, mut there) =
        (one.watcher_named("w-1", &["ana"]).await, other.watcher_named("w-2", &["ana"]).await);
    let (mut loser, _) = one.login("ana", "linux").await;
    here.state("ana", "Online").await;
    there.state("ana", "Online").await;
    let (_winner, ok) = other.login("ana", "mac").await;
    assert_eq!(ok["kicked"][0]["device"], json!("linux"), "{ok}");
    for watcher in [&mut here, &mut there] {
        let (_, status) = watcher.state("ana", "Online").await;
        assert_eq!(status["platforms"], json!(["mac"]), "no Offline in between");
    }
    let (heard, code) = loser.until_closed().await;
    assert_eq!((&heard[0]["reason"], code), (&json!("login_elsewhere"), Some(4501)));
    assert_eq!(causes(&one, "ana").await, [Cause::Login, Cause::Kicked, Cause::Login]);
    assert_eq!(causes(&other, "ana").await, [Cause::Login, Cause::Kicked, Cause::Login]);
}

#[tokio::test(flavor = "multi_thread")]
async fn t11_sessions_of_a_hub_that_stands_still_are_taken_over() {
    let server = RedisServer::start();
    let (one, other) = (hub(&server).await, hub(&server).await);
    let (_client, ok) = one.login("ana", "web").await;
    let cards = async || -> Vec<NodeCard> { other.store.cards().await.expect("cards") };
    until("both hubs", async || cards().await.len() == 2).await;
    one.stand_still();
    until("the takeover", async || cards().await.len() == 1).await;
    let record = other.record("ana").await;
    assert!(matches!(record.terminals[0].link, Link::Lost { .. }), "{record:?}");
    assert_eq!(record.state(), State::Online, "held until its own window ends");

    let (_client, again) = other.resume("ana", "web", &ok).await;
    assert_eq!((&again["session"], &again["resumed"]), (&ok["session"], &json!(true)));
    assert_eq!(causes(&other, "ana").await, [Cause::Login], "it has never left");
    let refused = one.connect().await.error(one.hello("bo", "web")).await;
    assert_eq!(refused, "unavailable", "nothing is accepted from the dead hub");
}
