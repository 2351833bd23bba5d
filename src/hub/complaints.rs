use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::Unavailable;
use crate::clock;
use crate::presence::UserId;

/// How often the same is said of a store that fails.
const EVERY: Duration = Duration::from_secs(60);

/// What was said last, and how much of the same was left out since.
static SAID: Mutex<BTreeMap<&str, Said>> = Mutex::new(BTreeMap::new());

struct Said {
    at: Duration,
    left_out: u64,
}

/// Warns that the store did not do something: of the same kind at most once a minute, however many
/// requests a failing store refuses meanwhile.
pub fn store_failed(what: &'static str, error: &Unavailable, user: Option<&UserId>) {
    let now = clock::elapsed();
    let mut all = SAID.lock();
    let left_out = match all.get_mut(what) {
        Some(said) if now < said.at + EVERY => {
            said.left_out += 1;
            return;
        }
        Some(said) => std::mem::take(&mut said.left_out),
        None => 0,
    };
    all.insert(what, Said { at: now, left_out: 0 });
    drop(all);
    let user = user.map(tracing::field::display);
    tracing::warn!(%error, user, left_out, "{what}");
}

/// Forgets what was said: the store works again. Returns how much was left out.
pub(super) fn over() -> u64 {
    std::mem::take(&mut *SAID.lock()).values().map(|said| said.left_out).sum()
}
