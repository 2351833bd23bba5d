//! The time series behind `/v1/stats/series`: one point every five seconds, for an hour.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;

use crate::presence::Timestamp;

/// The minutes that are kept.
pub(super) const MINUTES_MAX: u32 = 60;

/// The points of the last hour.
///
/// All are in one text: allocated one by one, points that live for an hour would keep memory pages
/// alive that they share with short-lived data.
#[derive(Default)]
pub(super) struct StatsSeries(Mutex<Points>);

#[derive(Default)]
struct Points {
    /// The oldest first.
    points: VecDeque<Point>,
    /// The points' JSON, with a comma after each.
    text: String,
}

/// One point of the series.
struct Point {
    at: Timestamp,
    /// On the hub's steady clock, which does not jump.
    taken: Timestamp,
    /// The length of this point in the text.
    bytes: usize,
}

impl StatsSeries {
    pub(super) fn push(&self, at: Timestamp, taken: Timestamp, json: &str) {
        let mut kept = self.0.lock();
        let Points { points, text } = &mut *kept;
        points.push_back(Point { at, taken, bytes: json.len() + 1 });
        text.push_str(json);
        text.push(',');
        let oldest = taken - Duration::from_secs(60) * MINUTES_MAX;
        while let Some(aged) = points.pop_front_if(|first| first.taken <= oldest) {
            text.drain(..aged.bytes);
        }
    }

    /// The points taken since a time, and after a point's wall clock time, as a JSON array.
    pub(super) fn since(&self, taken: Timestamp, after: Option<Timestamp>) -> String {
        let kept = self.0.lock();
        let is_older =
            |point: &&Point| point.taken < taken || after.is_some_and(|after| point.at <= after);
        let older: usize = kept.points.iter().take_while(is_older).map(|point| point.bytes).sum();
        let wanted = &kept.text[older..];
        format!("[{}]", wanted.strip_suffix(',').unwrap_or_default())
    }
}
