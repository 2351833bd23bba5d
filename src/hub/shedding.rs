//! Closes the connections that hold the most memory when all together hold too much.

use std::cmp::Reverse;
use std::sync::Arc;

use super::{Hub, Mailbox};
use crate::throttle::Throttle;
use crate::wire::Close;

/// More than most logins have.
const VISITOR_BYTES: usize = 4 * 1024;

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
            self.cut_holders(&mut warnings, enough, |_, bytes| bytes > 0);
        }
    }

    /// Closes connections without a login that hold much, if half of what all may hold is in use: from there
    /// on logins are refused. To be called each second.
    pub fn cut_visitors(&self, warnings: &mut Throttle) {
        if self.budget.is_half_used() {
            let is_greedy_visitor =
                |mailbox: &Mailbox, bytes| mailbox.user().is_none() && bytes > VISITOR_BYTES;
            self.cut_holders(warnings, self.budget.limit() / 4, is_greedy_visitor);
        }
    }

    /// Closes connections, those that hold the most first, until all together hold no more than `enough`.
    fn cut_holders(
        &self,
        warnings: &mut Throttle,
        enough: usize,
        is_meant: impl Fn(&Mailbox, usize) -> bool,
    ) {
        let all = self.registry.all().into_iter();
        let mut holders: Vec<(usize, Arc<Mailbox>)> = all
            .map(|mailbox| (mailbox.held_bytes(), mailbox))
            .filter(|(bytes, mailbox)| is_meant(mailbox, *bytes))
            .collect();
        holders.sort_unstable_by_key(|(bytes, _)| Reverse(*bytes));
        let mut cut = 0_u64;
        for (_, mailbox) in holders {
            if self.budget.held() <= enough {
                break;
            }
            cut += u64::from(mailbox.cut_off(Close::SlowConsumer));
        }
        if cut == 0 {
            return;
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
