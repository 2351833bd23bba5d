//! Nodes: signs of life, the fence around dead nodes, the seat, and who keeps which partition.

use std::sync::Arc;
use std::time::Duration;

use presence_hub::clock::Clock;
use presence_hub::presence::{NodeId, Platform, SignOfLife, Timestamp};
use presence_hub::store::{
    Commit, Log, Lost, Nodes, Outbox, Part, Records, RedisSettings, RedisStore, Save, Store,
    StoreError, WebhookName,
};

use super::{login, put};
use crate::lab::{EPOCH, SECOND, id};
use crate::store_contract::{RETENTION, present};
use crate::support::{Held, Proxy, RedisServer, until};

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);

/// The sign of life of a node by whose time so many seconds have passed.
fn sign_after(secs: u32) -> SignOfLife {
    let now = EPOCH + SECOND * secs;
    SignOfLife { now, wall: now, up_ms: u64::from(secs) * 1000, ..present() }
}

async fn sign(store: &RedisStore, node: NodeId, secs: u32) -> Result<Vec<Lost>, StoreError> {
    let card = format!("{{\"name\":\"{node}\"}}");
    store.save_sign_of_life(node, sign_after(secs), card.into()).await
}

fn shared(store: &Arc<RedisStore>) -> Arc<dyn Store> {
    Arc::<RedisStore>::clone(store)
}

#[tokio::test(flavor = "multi_thread")]
async fn node_that_gives_a_sign_of_life_after_it_was_found_dead_is_not_fenced() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port()).await;
    let settings =
        RedisSettings { urls: vec![proxy.url()], timeout: 30 * SECOND, ..server.settings() };
    let two = RedisStore::open(settings, RETENTION, &Clock::system()).await.expect("a store");
    let (one, two) = (Arc::new(server.open(RETENTION).await), Arc::new(two));
    assert_eq!(sign(&one, ONE, 0).await, Ok(Vec::new()));
    for secs in 0..4 {
        assert_eq!(sign(&two, TWO, secs).await, Ok(Vec::new()));
    }
    // The server answers that the sign of the first node stands still, and the answer takes a while.
    proxy.hold(Held::Answers);
    let looks = tokio::spawn({
        let two = Arc::clone(&two);
        async move { sign(&two, TWO, 4).await }
    });
    let saved = sign_after(4).now.as_millis().to_string();
    until("the look to be executed", async || {
        let signs: Vec<String> = server.run("HVALS test:{hub}nodes");
        signs.iter().any(|sign| sign.contains(&saved))
    })
    .await;
    assert_eq!(sign(&one, ONE, 5).await, Ok(Vec::new()));
    proxy.hold(Held::Nothing);
    assert_eq!(looks.await.expect("no panic"), Ok(Vec::new()), "it lives");
    put(&shared(&one), &id("ana"), login(Platform::Web, ONE)).await.expect("a commit");
    assert_eq!(sign(&two, TWO, 5).await, Ok(Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_sign_stands_still_is_fenced_and_loses_the_seat() {
    let server = RedisServer::start();
    let (one, two) =
        (Arc::new(server.open(RETENTION).await), Arc::new(server.open(RETENTION).await));
    assert_eq!(sign(&one, ONE, 0).await, Ok(Vec::new()));
    assert_eq!(sign(&two, TWO, 0).await, Ok(Vec::new()));
    assert_eq!(
        [*one.turn(&WebhookName::UNNAMED).borrow(), *two.turn(&WebhookName::UNNAMED).borrow()],
        [true, false],
        "the first node posts"
    );
    let position = *shared(&one).head().borrow();
    let save = Save { position, ..Save::default() };
    assert_eq!(two.save(save.clone()).await, Err(StoreError::Conflict));
    assert_eq!(one.save(save.clone()).await, Ok(()));
    put(&shared(&one), &id("ana"), login(Platform::Web, ONE)).await.expect("a commit");

    for secs in 1..4 {
        assert_eq!(sign(&two, TWO, secs).await, Ok(Vec::new()), "after {secs} s");
    }
    let lost = sign(&two, TWO, 4).await.expect("a sign of life");
    assert_eq!(lost.iter().map(|lost| lost.node).collect::<Vec<_>>(), [ONE]);
    assert_eq!(lost[0].last, EPOCH);
    // Its answer took some milliseconds.
    let seen = EPOCH + SECOND;
    assert!(lost[0].at < seen, "when it was seen first, or earlier by the server's clock");
    let late = put(&shared(&one), &id("bo"), login(Platform::Web, ONE)).await;
    assert_eq!(late, Err(StoreError::Retired));
    assert_eq!(sign(&one, ONE, 5).await, Err(StoreError::Retired));
    assert_eq!(one.save(save.clone()).await, Err(StoreError::Retired));
    assert_eq!(sign(&two, TWO, 5).await.expect("a sign").len(), 1, "until it is taken over");
    assert!(*two.turn(&WebhookName::UNNAMED).borrow(), "the seat moves");
    assert_eq!(two.save(save).await, Ok(()));

    let two = shared(&two);
    let cards = two.cards().await.expect("cards");
    let states: Vec<_> = cards.iter().map(|card| (card.node, card.is_lost)).collect();
    assert_eq!(states, [(ONE, true), (TWO, false)]);
    assert!(cards[0].card.contains("name"));
    assert_eq!(two.held(ONE, Part::ALL, None, 9).await.expect("users").len(), 1);
    two.retire(ONE).await.expect("to retire");
    assert_eq!(two.cards().await.expect("cards").len(), 1);
    assert_eq!(two.held(ONE, Part::ALL, None, 9).await, Ok(Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seat_leaves_a_node_that_makes_no_progress() {
    let server = RedisServer::start();
    let (one, two) =
        (Arc::new(server.open(RETENTION).await), Arc::new(server.open(RETENTION).await));
    sign(&one, ONE, 0).await.expect("a sign of life");
    let begin = *shared(&one).head().borrow();
    one.save(Save { position: begin, ..Save::default() }).await.expect("progress");
    let mut secs = 0;
    let mut two_posts = async || {
        secs += 1;
        sign(&two, TWO, secs).await.expect("a sign of life");
        *two.turn(&WebhookName::UNNAMED).borrow()
    };
    let age = || server.run::<u32>("HSET test:{hub}hook moved 1000");
    assert_eq!((age(), two_posts().await), (0, false), "there is nothing to post");
    put(&shared(&one), &id("ana"), login(Platform::Web, ONE)).await.expect("a commit");
    until("the commit to be readable", async || *two.head().borrow() > begin).await;
    let head = *two.head().borrow();
    one.save(Save { position: begin, ..Save::default() }).await.expect("no progress");
    assert!(two_posts().await, "the position has not moved for long");
    let refused = one.save(Save { position: head, ..Save::default() }).await;
    assert_eq!(refused, Err(StoreError::Conflict));
    sign(&one, ONE, 1).await.expect("a sign of life");
    assert!(!*one.turn(&WebhookName::UNNAMED).borrow(), "the next holder has the whole time, too");
    two.save(Save { position: head, ..Save::default() }).await.expect("progress");
    assert_eq!(age(), 0);
    sign(&one, ONE, 2).await.expect("a sign of life");
    assert!(!*one.turn(&WebhookName::UNNAMED).borrow(), "all is posted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_gives_up_the_seat_for_good() {
    let server = RedisServer::start();
    let (one, two) = (server.open(RETENTION).await, server.open(RETENTION).await);
    sign(&one, ONE, 0).await.expect("a sign of life");
    sign(&two, TWO, 0).await.expect("a sign of life");
    two.give_up_turn().await.expect("nothing to give up");
    sign(&two, TWO, 1).await.expect("a sign of life");
    assert_eq!(
        [*one.turn(&WebhookName::UNNAMED).borrow(), *two.turn(&WebhookName::UNNAMED).borrow()],
        [true, false],
        "the seat is of one"
    );
    one.give_up_turn().await.expect("to give it up");
    // Its last sign of life is given later.
    sign(&one, ONE, 1).await.expect("a sign of life");
    assert!(!*one.turn(&WebhookName::UNNAMED).borrow(), "nobody has the seat");
    let three = server.open(RETENTION).await;
    sign(&three, NodeId(3), 0).await.expect("a sign of life");
    assert!(*three.turn(&WebhookName::UNNAMED).borrow(), "a node that goes on takes the seat");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_part_is_kept_by_one_node() {
    let server = RedisServer::start();
    let (one, two) = (server.open(RETENTION).await, server.open(RETENTION).await);
    for secs in 0..2 {
        sign(&one, ONE, secs).await.expect("a sign of life");
        sign(&two, TWO, secs).await.expect("a sign of life");
    }
    let (by_one, by_two) = (one.kept_parts(), two.kept_parts());
    assert!(!by_one.is_empty() && !by_two.is_empty(), "{by_one:?} {by_two:?}");
    let mut all = [by_one, by_two].concat();
    all.sort();
    assert_eq!(all, one.parts());
    // The keeper of the others dies.
    for secs in 2..7 {
        sign(&two, TWO, secs).await.expect("a sign of life");
    }
    assert_eq!(two.kept_parts(), one.parts());
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_due_on_the_wall_clock_at_one_node() {
    let server = RedisServer::start();
    let (one, two) =
        (Arc::new(server.open(RETENTION).await), Arc::new(server.open(RETENTION).await));
    for secs in 0..2 {
        sign(&one, ONE, secs).await.expect("a sign of life");
        sign(&two, TWO, secs).await.expect("a sign of life");
    }
    let wall = EPOCH + SECOND;
    for n in 0..30 {
        let commit = Commit { wall_deadline: Some(wall), ..login(Platform::Web, ONE) };
        put(&shared(&one), &id(&format!("user-{n}")), commit).await.expect("a commit");
    }
    let due = async |store: &Arc<RedisStore>, node| {
        shared(store).due(node, Timestamp::default(), wall, 100).await.expect("users")
    };
    // A node learns from its ticks who is due in the partitions that it keeps.
    until("each user to be due at one node", async || {
        let (one, two) = (due(&one, ONE).await, due(&two, TWO).await);
        assert!(one.iter().all(|user| !two.contains(user)), "{one:?} {two:?}");
        one.len() + two.len() == 30 && !one.is_empty() && !two.is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_latest_time_is_found_by_the_next_node() {
    let server = RedisServer::start();
    let one = server.open(RETENTION).await;
    sign(&one, ONE, 7).await.expect("a sign of life");
    drop(one);
    let two = server.open(RETENTION).await;
    assert_eq!(two.latest(), EPOCH + Duration::from_secs(7));
    assert!(
        two.server_counts().expect("counts").commands > 64
            && two.server_counts().expect("counts").failures == 0,
        "{:?}",
        two.server_counts().expect("counts")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_nodes_send_few_commands() {
    const SECS: u64 = 3;
    let server = RedisServer::start();
    let stores = [Arc::new(server.open(RETENTION).await), Arc::new(server.open(RETENTION).await)];
    let commands =
        || stores.iter().map(|store| store.server_counts().expect("counts").commands).sum::<u64>();
    let mut before = 0;
    for secs in 0..=SECS {
        for (store, node) in stores.iter().zip([ONE, TWO]) {
            sign(store, node, u32::try_from(secs).expect("few")).await.expect("a sign of life");
            let due = shared(store).due(node, EPOCH, EPOCH, 9).await;
            assert_eq!((due, shared(store).trim(EPOCH).await), (Ok(Vec::new()), Ok(0)));
        }
        if secs == 0 {
            before = commands();
        }
        tokio::time::sleep(SECOND).await;
    }
    let each_second = (commands() - before) / (SECS + 1);
    assert!(each_second < 300, "{each_second} commands a second");
}
