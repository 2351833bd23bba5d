//! The scenarios about who may see whom: watch lists compared with named users, and twins.

use std::io;

use rand::RngExt;
use rand::seq::SliceRandom;
use serde_json::json;

use super::calls::Caller;
use super::order::{Look, Order, Watch};
use super::run::{IDLE_REST, Run, checked};
use super::scenario::median;
use super::tokens::name;

/// How many contacts each client of lists has.
const CONTACTS: u32 = 200;
/// One of so many of them is Online.
const ONLINE_OF: u32 = 10;
/// The user who looks at the twins.
const VIEWER: u32 = 0;

/// What it cost to reconnect all clients of lists once.
#[derive(Default)]
struct Reconnect {
    /// The hub's processor time, in seconds.
    cpu: f64,
    /// What the clients received.
    bytes: u64,
    /// How long it took until the last one was back, in seconds.
    wall: f64,
}

/// A user who is invisible to the viewer, and one who is really `Offline`.
struct Twins {
    users: [u32; 2],
    /// How long the answers about each of them took, in nanoseconds.
    times: [Vec<f64>; 2],
}

impl Run<'_> {
    /// Reconnects clients that name their contacts, and the same clients with watch lists, in turn.
    pub(super) fn lists(&mut self) -> io::Result<()> {
        let (first, count) = (self.sessions, self.sessions);
        let online = (count / ONLINE_OF).max(1);
        // All contacts have been here, and some have left.
        self.open(0, count, "a", Watch::Nobody)?;
        self.leave(online, count - online)?;
        let named =
            Watch::Contacts { count: CONTACTS.min(count), every: ONLINE_OF, online, total: count };
        let mut caller = Caller::new(&self.servers[0].target);
        for user in first..first + count {
            let users: Vec<_> = named.users(user).map(name).collect();
            let path = format!("/v1/users/{}/watch-list", name(user));
            caller.call("PUT", &path, &json!({ "users": users }).to_string())?;
        }
        // They have been here, too.
        self.reconnect(first, count, Watch::List)?;
        let mut costs = [Reconnect::default(), Reconnect::default()];
        // In this order a trend of the machine's speed affects both.
        for by_list in [false, true, true, false] {
            let watch = if by_list { Watch::List } else { named };
            let cost = self.reconnect(first, count, watch)?;
            let sum = &mut costs[usize::from(by_list)];
            sum.cpu += cost.cpu;
            sum.bytes += cost.bytes;
            sum.wall = sum.wall.max(cost.wall);
        }
        let [named, listed] = &costs;
        let reconnects = f64::from(count) * 2.0;
        self.figure("CPU a client that names 200", "us", named.cpu / reconnects * 1e6);
        self.figure("CPU a client with a list", "us", listed.cpu / reconnects * 1e6);
        self.figure("CPU list / named", "", listed.cpu / named.cpu);
        self.figure("sent to a client that names 200", "B", named.bytes as f64 / reconnects);
        self.figure("sent to a client with a list", "B", listed.bytes as f64 / reconnects);
        self.figure("sent list / named", "", listed.bytes as f64 / named.bytes as f64);
        self.figure("all named 200 after", "s", named.wall);
        self.figure("all had their lists after", "s", listed.wall);
        Ok(())
    }

    fn reconnect(&mut self, first: u32, count: u32, watch: Watch) -> io::Result<Reconnect> {
        let begun = self.begin()?;
        let received = self.received;
        self.open(first, count, "a", watch)?;
        let wall = self.spent(&begun).wall;
        self.wait_until_idle()?;
        let cpu = self.spent(&begun).cpu;
        let bytes = self.received - received;
        self.leave(first, count)?;
        Ok(Reconnect { cpu, bytes, wall })
    }

    /// Closes the sessions of users, and waits until the hub has noticed.
    fn leave(&mut self, first: u32, count: u32) -> io::Result<()> {
        self.all(&Order::Leave { first, count })?;
        self.rest(IDLE_REST)
    }

    /// Asks for one user of each pair after the other, and counts in how many pairs the invisible one was answered
    /// later.
    pub(super) fn twins(&mut self) -> io::Result<()> {
        let pairs = self.sessions / 2;
        self.open(VIEWER, 1 + 2 * pairs, "a", Watch::Nobody)?;
        // So that it is not always the one with the smaller id.
        let users = |pair: u32| match pair % 4 {
            0 | 1 => [2 * pair + 1, 2 * pair + 2],
            _ => [2 * pair + 2, 2 * pair + 1],
        };
        let mut caller = Caller::new(&self.servers[0].target);
        for pair in 0..pairs {
            let [invisible, offline] = users(pair).map(name);
            let change = match pair % 2 {
                0 => json!({ "hidden": true }),
                _ => json!({ "blocked": [name(VIEWER)] }),
            };
            let path = format!("/v1/users/{invisible}/visibility");
            caller.call("PUT", &path, &change.to_string())?;
            caller.call("POST", &format!("/v1/users/{offline}/kick"), r#"{"all":true}"#)?;
        }
        self.rest(IDLE_REST)?;
        let twins = |pair| Twins { users: users(pair), times: <_>::default() };
        for (look, slower, p50) in [
            (Look::Query, "query: the invisible twin was slower", "p50 query"),
            (Look::Subscribe, "subscribe: the invisible twin was slower", "p50 subscribe"),
        ] {
            let mut all: Vec<_> = (0..pairs).map(twins).collect();
            for _ in 0..self.rounds {
                self.look_at(look, &mut all)?;
            }
            let medians = all.into_iter().filter_map(|twins| {
                let [invisible, offline] = twins.times.map(median);
                invisible.zip(offline)
            });
            let medians: Vec<_> = medians.collect();
            let later = medians.iter().filter(|(invisible, offline)| invisible > offline).count();
            let times = medians.into_iter().map(|(_, offline)| offline).collect();
            self.figure(slower, "% of pairs", later as f64 / f64::from(pairs) * 100.0);
            self.figure(p50, "ms", median(times).unwrap_or_default() / 1e6);
        }
        Ok(())
    }

    /// Looks at all twins once, at pairs and at the two of each pair in a random order.
    fn look_at(&mut self, look: Look, all: &mut [Twins]) -> io::Result<()> {
        let mut rng = rand::rng();
        all.shuffle(&mut rng);
        let firsts: Vec<_> = all.iter().map(|_| usize::from(rng.random::<bool>())).collect();
        let both = all.iter().zip(&firsts).flat_map(|(twins, first)| {
            let [one, other] = [*first, 1 - *first];
            [twins.users[one], twins.users[other]]
        });
        let users = both.collect();
        let [viewer, ..] = &mut *self.workers else { return Ok(()) };
        viewer.order(&Order::Look { viewer: VIEWER, users, look })?;
        let times = checked(viewer.answer()?)?.times;
        for ((twins, first), times) in all.iter_mut().zip(firsts).zip(times.chunks(2)) {
            for (twin, time) in [first, 1 - first].into_iter().zip(times) {
                twins.times[twin].push(*time as f64);
            }
        }
        Ok(())
    }
}
