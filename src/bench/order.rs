use std::io::{self, BufRead, Write};
use std::net::SocketAddr;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// What a generator is to do; it answers each with one [`Done`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub(super) enum Order {
    /// Open sessions.
    Open(Open),
    /// Change each of these users that it has, in one go.
    Change { users: Vec<u32> },
    /// Change users in turn, this many a second, for so long.
    Change1By1 { users: u32, per_second: u32, seconds: u64 },
    /// Wait until all that is due has come.
    Await { seconds: u64 },
    /// Answer pings.
    Idle { millis: u64 },
    /// Close every session, and wait until the server has.
    Leave,
    /// Ask for the statuses of this many users, this often, one call after the other.
    Ask { users: u32, calls: u32 },
}

/// Sessions to open.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Open {
    pub(super) target: Target,
    /// The number of the first user; the others follow.
    pub(super) first: u32,
    pub(super) count: u32,
    /// How many are on their way in at once.
    pub(super) in_flight: u32,
    pub(super) device: String,
    pub(super) watch: Watch,
}

/// Whom a session watches.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Watch {
    Nobody,
    /// The first users.
    First(u32),
    /// The users that follow its own, and after the last the first.
    Next {
        count: u32,
        total: u32,
    },
}

impl Watch {
    /// The users that a user's session watches.
    pub(super) fn users(self, own: u32) -> impl Iterator<Item = u32> {
        let (first, count, total) = match self {
            Self::Nobody => (0, 0, u32::MAX),
            Self::First(count) => (0, count, u32::MAX),
            Self::Next { count, total } => (own + 1, count, total),
        };
        (first..first + count).map(move |user| user % total)
    }
}

/// The server under load.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    /// What tokens are signed with; the floor wants none.
    pub(super) secret: Option<String>,
    pub(super) api_key: String,
}

/// What came of an order.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Done {
    /// Deliveries that were due, and that came.
    pub(super) due: u64,
    pub(super) deliveries: u64,
    /// From a change's request to the delivery, from connecting to a login's answer, or of a call.
    pub(super) latency: Latency,
    pub(super) fault: Option<String>,
}

/// Nanoseconds, each with how often they were measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Latency(Vec<(u64, u64)>);

impl Latency {
    pub(super) fn of(histogram: &Histogram<u64>) -> Self {
        let recorded = histogram.iter_recorded();
        Self(recorded.map(|step| (step.value_iterated_to(), step.count_at_value())).collect())
    }

    pub(super) fn add(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The latency that this part of all is not above, in milliseconds.
    pub(super) fn quantile_ms(&self, part: f64) -> f64 {
        let mut histogram = histogram();
        for (value, count) in &self.0 {
            histogram.record_n(*value, *count).ok();
        }
        histogram.value_at_quantile(part) as f64 / 1e6
    }
}

/// An empty histogram of nanoseconds, to a thousandth.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new(3).unwrap_or_else(|error| unreachable!("3 digits are few: {error}"))
}

/// Writes a value as a line.
pub(super) fn say(to: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}

/// Reads a value from a line; `None` at the end.
pub(super) fn hear<T: for<'de> Deserialize<'de>>(from: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&line)?))
}
