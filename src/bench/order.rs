//! The orders to generators, their results, and the lines that carry both between processes.

use std::io::{self, BufRead, Write};
use std::net::SocketAddr;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// An order to a generator, which answers each with one [`Done`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub(super) enum Order {
    /// Open sessions.
    Open(Open),
    /// Change each of these users whose session this generator has, all at once.
    Change { users: Vec<u32> },
    /// Change users one after another, at a rate, for some seconds.
    Change1By1 { users: u32, per_second: u32, seconds: u64, change: Change },
    /// Wait until all deliveries that are due have arrived.
    Await { seconds: u64 },
    /// Only answer pings.
    Idle { millis: u64 },
    /// Close the sessions of these users, and wait until the server has closed them.
    Leave { first: u32, count: u32 },
    /// Call `POST /v1/status` for this many users, one call after another.
    Ask { users: u32, calls: u32 },
    /// Ask for one user after the other, in a session of the viewer.
    Look { viewer: u32, users: Vec<u32>, look: Look },
}

/// How a session asks for a user.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Look {
    Query,
    /// And unsubscribes again, which is not timed.
    Subscribe,
}

/// How a user changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Change {
    /// Another custom status, which says when it was ordered.
    Custom,
    /// Away, or back. The status still has the custom status of an earlier change.
    Away,
}

/// The sessions to open.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Open {
    /// The servers; consecutive users are on consecutive servers.
    pub(super) targets: Vec<ServerUnderLoad>,
    /// The number of the first user; the others are numbered on from it.
    pub(super) first: u32,
    pub(super) count: u32,
    /// The maximum number of logins in flight.
    pub(super) in_flight: u32,
    pub(super) device: String,
    pub(super) watch: Watch,
}

/// The users that a session watches.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Watch {
    Nobody,
    /// The first users, by number.
    First(u32),
    /// The users after its own, continuing with the first after the last.
    Next {
        count: u32,
        total: u32,
    },
    /// Some of the first `total` users. One of `every` is among the first `online` users.
    Contacts {
        count: u32,
        every: u32,
        online: u32,
        total: u32,
    },
    /// Its watch list, whoever is on it.
    List,
}

impl Open {
    /// The server of a user.
    pub(super) fn target(&self, user: u32) -> &ServerUnderLoad {
        &self.targets[user as usize % self.targets.len()]
    }
}

impl Watch {
    /// The users that the session of user `own` watches.
    pub(super) fn users(self, own: u32) -> impl Iterator<Item = u32> {
        let count = match self {
            Self::Nobody | Self::List => 0,
            Self::First(count) | Self::Next { count, .. } | Self::Contacts { count, .. } => count,
        };
        (0..count).map(move |n| match self {
            Self::Nobody | Self::List | Self::First(_) => n,
            Self::Next { total, .. } => (own + 1 + n) % total,
            Self::Contacts { every, online, total, .. } => match n % every {
                0 => (own + n / every) % online,
                _ => online + (own + n) % (total - online),
            },
        })
    }
}

/// The server under load.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ServerUnderLoad {
    pub(super) address: SocketAddr,
    /// The secret that signs tokens; `None` for the floor, which needs no token.
    pub(super) secret: Option<String>,
    pub(super) api_key: String,
}

/// The result of an order.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Done {
    /// The number of deliveries that were due.
    pub(super) due: u64,
    /// The number of deliveries that arrived.
    pub(super) deliveries: u64,
    /// From a change's request to its delivery, from connecting to a login's answer, or of a call.
    pub(super) latency: Latency,
    /// How long each of the answers to [`Order::Look`] took, in nanoseconds.
    pub(super) times: Vec<u64>,
    /// The bytes that arrived since the last order was answered.
    pub(super) received: u64,
    pub(super) fault: Option<String>,
}

/// A histogram: latencies in nanoseconds, each with its count.
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

    /// A quantile in milliseconds; `part` is between 0 and 1.
    pub(super) fn quantile_ms(&self, part: f64) -> f64 {
        let mut histogram = histogram();
        for (value, count) in &self.0 {
            histogram.record_n(*value, *count).ok();
        }
        histogram.value_at_quantile(part) as f64 / 1e6
    }
}

/// An empty histogram of nanoseconds, with three significant digits.
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

/// Reads a value from a line; `None` at the end of the input.
pub(super) fn hear<T: for<'de> Deserialize<'de>>(from: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&line)?))
}
