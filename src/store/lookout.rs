//! Which nodes are dead: those whose sign of life stands still.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Lost;
use crate::presence::{NodeId, SignOfLife, Timestamp};

/// How long a sign of life must stand still, on the observer's own time.
pub const DEAD_AFTER: Duration = Duration::from_secs(4);
/// Looks come once a second, some milliseconds early or late: without this tolerance every other death would be
/// noticed a look later.
const LOOK_EARLY: Duration = Duration::from_millis(200);
/// The longest time between two looks. After a longer one the observer may have been suspended, or the store
/// away, so that no node could give a sign: each node gets the whole time again.
const GAP_MAX: Duration = Duration::from_secs(2);

/// One node's observation of the others. It compares no clock of another machine with its own: it only sees
/// whether a sign changes.
#[derive(Debug, Default)]
pub struct Lookout {
    last_look: Timestamp,
    seen: BTreeMap<NodeId, Seen>,
}

/// What the observer knows of another node.
#[derive(Debug)]
struct Seen {
    sign: SignOfLife,
    /// When the sign was first seen, on the observer's time; not earlier than it was given.
    at: Timestamp,
    /// Since when it has been observed to stand still.
    still_since: Timestamp,
}

impl Lookout {
    /// Looks at the signs of life of all other nodes; returns the dead nodes.
    ///
    /// The store was read between `asked` and `now`, on the observer's time. A sign may be as young as `now` when it
    /// is first seen, and what has not changed had not when it was asked for. So a slow answer makes nobody dead
    /// earlier, and shortens no window.
    pub fn look<'a>(
        &mut self,
        signs: impl IntoIterator<Item = (NodeId, &'a SignOfLife)>,
        asked: Timestamp,
        now: Timestamp,
    ) -> Vec<Lost> {
        let is_gap = now - self.last_look > GAP_MAX;
        self.last_look = now;
        let mut seen = BTreeMap::new();
        for (node, sign) in signs {
            let before = self.seen.remove(&node).filter(|it| it.sign == *sign);
            let now_seen = match before {
                Some(before) if is_gap => Seen { still_since: now, ..before },
                Some(before) => before,
                None => Seen { sign: sign.clone(), at: now, still_since: now },
            };
            seen.insert(node, now_seen);
        }
        self.seen = seen;
        let is_dead = |seen: &Seen| asked - seen.still_since + LOOK_EARLY >= DEAD_AFTER;
        let dead = self.seen.iter().filter(|(_, seen)| is_dead(seen));
        let lost = dead.map(|(node, Seen { sign, at, .. })| Lost {
            node: *node,
            last: sign.now,
            at: *at,
            stalls: sign.stalls.clone(),
        });
        lost.collect()
    }
}
