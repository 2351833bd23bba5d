//! The counts of the last hour: one point each five seconds.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;

use crate::presence::Timestamp;

/// How many minutes are kept.
pub(super) const MINUTES_MAX: u32 = 60;

/// The points that are kept.
///
/// In one text, for a point lives an hour among what lives for seconds: by itself it would keep the
/// page of memory that it shares with them from being given back.
#[derive(Default)]
pub(super) struct Points(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// The oldest first.
    points: VecDeque<Point>,
    /// Their JSON, with a comma after each.
    text: String,
}

/// The counts at a time.
struct Point {
    at: Timestamp,
    /// On the process's own time, which does not jump.
    taken: Timestamp,
    /// How many bytes of the text are its own.
    bytes: usize,
}

impl Points {
    pub(super) fn push(&self, at: Timestamp, taken: Timestamp, json: &str) {
        let mut kept = self.0.lock();
        let Kept { points, text } = &mut *kept;
        points.push_back(Point { at, taken, bytes: json.len() + 1 });
        text.push_str(json);
        text.push(',');
        let oldest = taken - Duration::from_secs(60) * MINUTES_MAX;
        while let Some(aged) = points.pop_front_if(|first| first.taken <= oldest) {
            text.drain(..aged.bytes);
        }
    }

    /// The points from one on, as a JSON array.
    pub(super) fn since(&self, taken: Timestamp, after: Option<Timestamp>) -> String {
        let kept = self.0.lock();
        let is_older =
            |point: &&Point| point.taken < taken || after.is_some_and(|after| point.at <= after);
        let older: usize = kept.points.iter().take_while(is_older).map(|point| point.bytes).sum();
        let wanted = &kept.text[older..];
        format!("[{}]", wanted.strip_suffix(',').unwrap_or_default())
    }
}
