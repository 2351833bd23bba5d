//! Closes the connections that hold the most memory when all together hold too much.

use std::cmp::Reverse;
use std::sync::Arc;

use super::{Hub, Mailbox};
use crate::throttle::Throttle;
use crate::wire::Close;

impl Hub {
    /// Sets how many bytes all connections together may hold.
    pub fn set_held_bytes_max(&self, bytes: usize) {
        self.budget.set_limit(bytes);
    }

    /// How many bytes all connections hold: unsent, or of unfinished messages.
    pub fn held_bytes(&self) -> usize {
        self.budget.held()
    }

    /// Closes the connections that hold the most whenever all together hold too much; runs for ever.
    pub async fn cut_greediest(&self) {
        let mut warnings = Throttle::default();
        loop {
            self.budget.exceeded().await;
            let enough = self.budget.limit() / 4 * 3;
            let mut holders: Vec<(usize, Arc<Mailbox>)> = self
                .registry
                .all()
                .into_iter()
                .map(|mailbox| (mailbox.held_bytes(), mailbox))
                .filter(|(bytes, _)| *bytes > 0)
                .collect();
            holders.sort_unstable_by_key(|(bytes, _)| Reverse(*bytes));
            let mut cut = 0_u64;
            for (_, mailbox) in holders {
                if self.budget.held() <= enough {
                    break;
                }
                mailbox.cut_off(Close::SlowConsumer);
                cut += 1;
            }
            if cut == 0 {
                continue;
            }
            self.metrics.greedy_cut.inc_by(cut);
            if let Some(suppressed) = warnings.admit(self.clock.now()) {
                let (held, limit) = (self.budget.held(), self.budget.limit());
                tracing::warn!(
                    connections = cut,
                    held,
                    limit,
                    suppressed,
                    "connections held too much memory: closed those that held the most"
                );
            }
        }
    }
}
