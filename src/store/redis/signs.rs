//! The nodes' signs of life, their cards, and the fence around dead nodes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::{join, join_all, try_join_all};
use redis::cmd;
use serde::{Deserialize, Serialize};

use super::router::At;
use super::scripts::{FENCE, LEAVE, SEAT, SIGN};
use super::state::{KnownNodes, State};
use crate::clock::monotonic;
use crate::presence::{NodeId, SignOfLife, Timestamp};
use crate::store::{Lost, NodeCard, StoreError};

/// How long a dead node stays fenced, so that it can write nothing when it wakes.
const FENCED_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long the node that posts webhooks may make no progress, while there is something to post.
const STUCK_MAX_MS: u64 = 30_000;

/// What a node saves each second.
#[derive(Serialize, Deserialize)]
struct Saved {
    sign: SignOfLife,
    card: Arc<str>,
    clock_ms: i64,
}

/// What a node has saved, with the server's time of it.
struct NodeSign<'a> {
    node: NodeId,
    saved: Saved,
    server_ms: u64,
    /// As the server has it.
    text: &'a str,
}

fn parse_node(text: &str) -> Option<NodeId> {
    u64::from_str_radix(text, 16).ok().map(NodeId)
}

fn parse_sign<'a>(node: &str, text: &'a str) -> Option<NodeSign<'a>> {
    let (server_ms, saved) = text.split_once(' ')?;
    let saved = serde_json::from_str(saved).ok()?;
    Some(NodeSign { node: parse_node(node)?, saved, server_ms: server_ms.parse().ok()?, text })
}

fn parse_signs(pairs: &[String]) -> Vec<NodeSign<'_>> {
    pairs.chunks_exact(2).filter_map(|pair| parse_sign(&pair[0], &pair[1])).collect()
}

impl KnownNodes {
    /// Notes the signs of all nodes; returns the dead nodes, and those that were known to be dead.
    fn look(
        &mut self,
        node: NodeId,
        signs: &[NodeSign<'_>],
        asked: Timestamp,
        now: Timestamp,
    ) -> (Vec<Lost>, Vec<NodeId>) {
        let others = signs.iter().filter(|other| other.node != node);
        let others = others.map(|other| (other.node, &other.saved.sign));
        let lost = self.lookout.look(others, asked, now);
        let is_lost = |node: NodeId| lost.iter().any(|it| it.node == node);
        let live = signs.iter().map(|sign| sign.node).filter(|node| !is_lost(*node));
        self.live = live.chain([node]).collect();
        let known = self.lost.iter().map(|it| it.node).collect();
        (lost, known)
    }
}

impl State {
    pub(super) async fn sign(
        &self,
        node: NodeId,
        sign: SignOfLife,
        card: Arc<str>,
    ) -> Result<Vec<Lost>, StoreError> {
        self.is_node(node);
        let (asked, wall, sent) = (sign.now, sign.wall, monotonic());
        let saved = Saved { sign, card, clock_ms: self.metrics.clock_ms() };
        let saved = serde_json::to_string(&saved);
        let saved = saved.unwrap_or_else(|error| unreachable!("a sign makes JSON: {error}"));
        let keys = &self.keys.hub;
        let mut call = SIGN.prepare_invoke();
        call.key(&keys.nodes).key(&keys.gone).key(&keys.unnamed.seat).key(&keys.latest);
        call.key(&keys.unnamed.progress);
        call.arg(node.to_string()).arg(saved).arg(asked.as_millis());
        call.arg(self.head.borrow().0).arg(STUCK_MAX_MS);
        call.arg(u8::from(!self.is_leaving.load(Ordering::Relaxed)));
        let answer: Vec<String> = self.call(At::Hub, &call).await?;
        let [holder, server_ms, signs @ ..] = &answer[..] else {
            return Err(StoreError::Retired);
        };
        let answered = monotonic();
        let server_ms = server_ms.parse().unwrap_or_default();
        self.router.link(At::Hub).clock.note(sent, answered, server_ms);
        let wall = wall + (answered - sent) / 2;
        self.metrics.set_clock_ms(wall.as_millis().cast_signed() - server_ms.cast_signed());
        let has_seat = *holder == node.to_string();
        self.turn.send_if_modified(|turn| std::mem::replace(turn, has_seat) != has_seat);
        self.works();
        let (signs, now) = (parse_signs(signs), asked + (answered - sent));
        let look = self.look(node, &signs, (asked, now), server_ms);
        let (lost, seats) = join(look, self.take_seats(node)).await;
        seats?;
        lost
    }

    /// Gives up the seats that this node has, and takes none any more.
    pub(super) async fn give_up_seats(&self) -> Result<(), StoreError> {
        // First: a sign of life that is under way is executed before the script, and no later one takes a seat.
        self.is_leaving.store(true, Ordering::Relaxed);
        let Some(node) = self.node() else { return Ok(()) };
        let hub = &self.keys.hub;
        let named: Vec<_> = self.named_turns.lock().keys().map(|it| hub.webhook(it)).collect();
        for seat in named.iter().map(|keys| &keys.seat).chain([&hub.unnamed.seat]) {
            let mut call = LEAVE.prepare_invoke();
            call.key(seat).arg(node.to_string());
            self.call::<()>(At::Hub, &call).await?;
        }
        Ok(())
    }

    /// Takes the seat of each webhook with a name that this node has, if its holder is gone or stuck.
    async fn take_seats(&self, node: NodeId) -> Result<(), StoreError> {
        if self.is_leaving.load(Ordering::Relaxed) {
            return Ok(());
        }
        let turns = self.named_turns.lock().clone();
        let takes = turns.iter().map(async |(webhook, turn)| {
            let (hub, keys) = (&self.keys.hub, self.keys.hub.webhook(webhook));
            let mut call = SEAT.prepare_invoke();
            call.key(&hub.nodes).key(&hub.gone).key(&keys.seat).key(&keys.progress);
            call.arg(node.to_string()).arg(self.head.borrow().0).arg(STUCK_MAX_MS);
            let holder: String = self.call(At::Hub, &call).await?;
            let has_seat = holder == node.to_string();
            turn.send_if_modified(|turn| std::mem::replace(turn, has_seat) != has_seat);
            Ok::<_, StoreError>(())
        });
        try_join_all(takes).await.map(drop)
    }

    /// Looks which nodes are dead, and fences them before their sessions are taken over. The signs were asked for
    /// and answered at two times of this node.
    async fn look(
        &self,
        node: NodeId,
        signs: &[NodeSign<'_>],
        (asked, now): (Timestamp, Timestamp),
        server_ms: u64,
    ) -> Result<Vec<Lost>, StoreError> {
        let (mut lost, known) = self.nodes.lock().look(node, signs, asked, now);
        let mut alive = BTreeSet::new();
        for dead in &mut lost {
            let Some(sign) = signs.iter().find(|sign| sign.node == dead.node) else { continue };
            // This node may have seen the sign late, for example because it has just started. Both times
            // are the server's, so no two clocks are compared.
            let age = Duration::from_millis(server_ms.saturating_sub(sign.server_ms));
            dead.at = dead.at.min(now - age);
            if !known.contains(&dead.node) && !self.fence_dead(sign).await? {
                alive.insert(dead.node);
            }
        }
        lost.retain(|dead| !alive.contains(&dead.node));
        let mut nodes = self.nodes.lock();
        nodes.live.append(&mut alive);
        nodes.lost.clone_from(&lost);
        Ok(lost)
    }

    /// Fences a node that was found dead; returns whether it is. A node that was frozen may have given a sign of
    /// life meanwhile: then it lives, and its sessions' windows began anew.
    async fn fence_dead(&self, dead: &NodeSign<'_>) -> Result<bool, StoreError> {
        let at_ms = self.router.link(At::Hub).clock.now(monotonic());
        let mut call = FENCE.prepare_invoke();
        call.key(&self.keys.hub.nodes).key(&self.keys.hub.gone);
        call.arg(dead.node.to_string()).arg(dead.text).arg(at_ms);
        let is_fenced: bool = self.call(At::Hub, &call).await?;
        if is_fenced {
            self.fence(dead.node).await?;
        }
        Ok(is_fenced)
    }

    /// From now on no partition accepts anything from a node.
    async fn fence(&self, node: NodeId) -> Result<(), StoreError> {
        let at_ms = self.router.link(At::Hub).clock.now(monotonic());
        let parts = self.grid.parts().map(|part| (At::Part(part), &self.keys(part).gone));
        let fences = parts.chain([(At::Hub, &self.keys.hub.gone)]).map(async |(at, key)| {
            let mut add = cmd("ZADD");
            add.arg(key).arg(at_ms).arg(node.to_string());
            self.run::<()>(at, &add).await?;
            let mut forget = cmd("ZREMRANGEBYSCORE");
            let before =
                at_ms.saturating_sub(u64::try_from(FENCED_FOR.as_millis()).unwrap_or(u64::MAX));
            forget.arg(key).arg("-inf").arg(before);
            self.run::<()>(at, &forget).await
        });
        try_join_all(fences).await.map(drop)
    }

    pub(super) async fn retire(&self, node: NodeId) -> Result<(), StoreError> {
        self.fence(node).await?;
        let deletes = self.grid.parts().map(async |part| {
            let mut delete = cmd("DEL");
            delete.arg(self.keys(part).node(node));
            self.run::<()>(At::Part(part), &delete).await
        });
        try_join_all(deletes).await?;
        let mut remove = cmd("HDEL");
        remove.arg(&self.keys.hub.nodes).arg(node.to_string());
        self.run::<()>(At::Hub, &remove).await?;
        self.nodes.lock().live.remove(&node);
        Ok(())
    }

    pub(super) async fn cards(&self) -> Result<Vec<NodeCard>, StoreError> {
        let mut all = cmd("HGETALL");
        all.arg(&self.keys.hub.nodes);
        let signs: Vec<String> = self.run(At::Hub, &all).await?;
        let lost: Vec<_> = self.nodes.lock().lost.iter().map(|it| it.node).collect();
        let mut cards: Vec<_> = parse_signs(&signs)
            .into_iter()
            .map(|NodeSign { node, saved, .. }| NodeCard {
                node,
                card: saved.card,
                clock_ms: Some(saved.clock_ms),
                is_lost: lost.contains(&node),
            })
            .collect();
        cards.sort_by_key(|card| card.node);
        Ok(cards)
    }

    /// Checks that every primary answers.
    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        let links =
            self.router.shares().into_iter().filter_map(|(_, parts)| parts.first().copied());
        let pings =
            links.map(|part| async move { self.run::<()>(At::Part(part), &cmd("PING")).await });
        join_all(pings).await.into_iter().collect()
    }
}
