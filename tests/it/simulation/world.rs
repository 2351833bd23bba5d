//! The world: several hubs, their clients, and the time that passes for all of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use presence_hub::presence::{Cause, NodeId, Platform, SessionId};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use super::client::{Absence, Client, NodePlace, Notice};
use super::link::Link;
use super::network::Network;
use super::node::{HIDDEN, Node, Skew, silence_window};
use super::server::{Left, Server};
use super::switch::Switch;
use crate::lab::{EPOCH, SECOND};

pub(super) const USERS: usize = 5;
const NODES: usize = 3;
const PLATFORMS: [Platform; 4] =
    [Platform::Web, Platform::MiniProgram, Platform::Ios, Platform::Mac];
/// How far a node's clock may be ahead or behind, in milliseconds; and how far if the server loses commits: then
/// `store.max_clock_skew` matters, because versions follow the clocks.
const SKEW_MS: u64 = 180_000;
const SKEW_OF_LOSERS_MS: u64 = 2500;
/// How many seconds a node's clock counts in 1,000 true ones.
const RATES: [u32; 4] = [1000, 1000, 990, 1010];
/// Of how many lives one has hubs that compare everything with the server again and again.
const SEEDS_PER_SWEEP: u64 = 4;
/// How long a step takes while something is under way, and otherwise.
const SHORT_STEP: Duration = Duration::from_millis(20);
const LONG_STEP: Duration = Duration::from_millis(100);
/// How often the server says how many messages it has sent.
const NUMBERS_EVERY: Duration = Duration::from_millis(250);

/// By how much a window may seem shorter than it is: a clock that runs 1 % fast, and some steps.
fn slack(window: Duration) -> Duration {
    window / 50 + Duration::from_millis(300)
}

/// Several hubs over one server, and their clients.
pub(super) struct World {
    seed: u64,
    pub(super) broken: Option<Switch>,
    pub(super) random: StdRng,
    pub(super) network: Arc<Network>,
    pub(super) now: Duration,
    /// The nodes; `None` for those that are gone.
    pub(super) nodes: Vec<Option<Node>>,
    node_ids: Vec<NodeId>,
    pub(super) clients: Vec<Client>,
    /// When a session's client spoke last, to which node.
    spoken: BTreeMap<SessionId, Spoken>,
    /// When something was last wrong with a node, a link or the server.
    pub(super) troubled_at: Duration,
    /// Whether the server loses commits now and then. In half of the lives it does not, so that windows can be
    /// checked exactly.
    pub(super) loses_commits: bool,
    /// Whether the hubs compare one part after another with the server, whatever they have heard. Only in a
    /// few lives, because it heals what goes wrong, and so hides it.
    sweeps: bool,
    /// When the server last lost commits.
    pub(super) failed_over_at: Option<Duration>,
    numbers_at: Duration,
    pub(super) wrong: Vec<String>,
}

struct Spoken {
    at: Duration,
    node: NodeId,
    platform: Platform,
    /// When the session was first hidden.
    hidden_at: Option<Duration>,
}

pub(super) fn user(number: usize) -> String {
    format!("user-{number}")
}

impl World {
    pub(super) fn new(seed: u64, broken: Option<Switch>) -> Self {
        let network = Arc::new(Network::new(Server::new(broken), broken));
        let everybody: Vec<_> = (0..USERS).map(user).collect();
        let device = |place: usize, platform: Platform| {
            Client::new(user(place), platform, format!("{}-{place}", platform.name()))
        };
        let devices =
            (0..USERS).flat_map(|place| PLATFORMS.map(move |platform| device(place, platform)));
        let watchers = (0..NODES)
            .map(|number| Client::watcher(format!("watcher-{number}"), everybody.clone()));
        let clients = devices.chain(watchers).collect();
        let mut random = StdRng::seed_from_u64(seed);
        let mut world = Self {
            seed,
            broken,
            loses_commits: random.random(),
            sweeps: seed.is_multiple_of(SEEDS_PER_SWEEP),
            random,
            network,
            now: Duration::ZERO,
            nodes: Vec::new(),
            node_ids: Vec::new(),
            clients,
            spoken: BTreeMap::new(),
            troubled_at: Duration::ZERO,
            failed_over_at: None,
            numbers_at: Duration::ZERO,
            wrong: Vec::new(),
        };
        for _ in 0..NODES {
            world.start_node();
        }
        world
    }

    pub(super) fn note(&self, what: &str) {
        self.network.note(&what);
    }

    /// Starts a hub, whose clock differs from the true time.
    pub(super) fn start_node(&mut self) {
        let place = self.nodes.len();
        let seed = self.random.random();
        let skew = if self.loses_commits { SKEW_OF_LOSERS_MS } else { SKEW_MS };
        let ahead = Duration::from_millis(self.random.random_range(0..=2 * skew));
        let rate = RATES[self.random.random_range(0..RATES.len())];
        let now = EPOCH + self.now + ahead - Duration::from_millis(skew);
        self.network.with(|state| state.add_link(place, seed));
        let network = Arc::clone(&self.network);
        let link = Arc::new(Link::new(place, network, self.broken, self.sweeps));
        let node = Node::start(&link, seed, Skew { now, rate }, self.now);
        self.note(&format!("node {place} starts as {}, rate {rate}", node.id()));
        self.node_ids.push(node.id());
        self.nodes.push(Some(node));
    }

    /// The places of the nodes that run.
    pub(super) fn living(&self) -> Vec<NodePlace> {
        (0..self.nodes.len()).filter(|place| self.nodes[*place].is_some()).collect()
    }

    /// Lets some time pass, in steps.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until && self.wrong.is_empty() {
            let is_busy = self.network.with(|state| state.is_busy());
            let step = if is_busy { SHORT_STEP } else { LONG_STEP };
            self.step(step.min(until - self.now));
        }
    }

    /// Lets one step pass: the network delivers, each hub runs, and each client looks.
    pub(super) fn step(&mut self, step: Duration) {
        self.now += step;
        let says_numbers = self.now >= self.numbers_at;
        if says_numbers {
            self.numbers_at = self.now + NUMBERS_EVERY;
        }
        let now = self.now;
        self.network.with(|state| {
            state.server.now = now;
            if !state.server.is_down {
                state.server.up += step;
            }
            state.deliver();
            if says_numbers && !state.server.is_down {
                state.tell_numbers();
            }
        });
        let mut order = self.living();
        order.shuffle(&mut self.random);
        for place in order {
            let Some(node) = &self.nodes[place] else { continue };
            if !node.is_frozen {
                node.run(now);
            }
            if node.has_left() {
                self.note(&format!("node {place} stops: others have taken over its sessions"));
                self.nodes[place] = None;
            }
        }
        self.look();
        self.check_step();
    }

    /// Lets each client handle what it heard, and connect if it wants to.
    fn look(&mut self) {
        for place in 0..self.clients.len() {
            let pause = self.random.random();
            let was_in = self.clients[place].is_in();
            let notices = self.clients[place].look(self.now, pause);
            if was_in && self.clients[place].connection.is_none() {
                self.note_absence(place);
            }
            for notice in notices {
                match notice {
                    Notice::Wrong(wrong) => self.wrong.push(wrong),
                    Notice::In { resumed, absence } => self.note_login(place, resumed, absence),
                }
            }
            self.note_spoken(place);
            let client = &self.clients[place];
            if client.wants_in && client.connection.is_none() && client.retry_at <= self.now {
                self.connect(place);
            }
        }
    }

    /// Connects a client to any hub that has given a sign of life.
    pub(super) fn connect(&mut self, client: usize) {
        let living = self.living();
        let is_known = |place: &NodePlace| {
            self.network.with(|state| state.server.has_signed(self.node_ids[*place]))
        };
        let ready: Vec<_> = living.into_iter().filter(is_known).collect();
        if ready.is_empty() {
            return;
        }
        let place = ready[self.random.random_range(0..ready.len())];
        let Some(node) = &self.nodes[place] else { return };
        let client = &mut self.clients[client];
        client.connect(place, node, self.now);
        let what = format!("{} connects to node {place}: {:?}", client.name(), client.session);
        self.note(&what);
    }

    /// If the hub was killed, nobody told it that the connection ended.
    fn note_absence(&mut self, client: usize) {
        if let Some(absence) = &mut self.clients[client].absence {
            absence.is_silent |= self.nodes[absence.node].is_none();
        }
    }

    fn note_spoken(&mut self, client: usize) {
        let client = &self.clients[client];
        let (Some(session), Some(connection)) = (client.session_id(), &client.connection) else {
            return;
        };
        let Some(node) = self.nodes[connection.node].as_ref().filter(|_| connection.is_in) else {
            return;
        };
        let (at, platform, hidden_at) = (connection.spoke_at, client.platform, client.hidden_at);
        self.spoken.insert(session, Spoken { at, node: node.id(), platform, hidden_at });
    }

    /// A client that resumes in time was never seen `Offline`: its session continues.
    fn note_login(&mut self, client: usize, resumed: bool, absence: Option<Absence>) {
        let client = &self.clients[client];
        let name = client.name();
        self.network.note(&format_args!("{name} is in, resumed: {resumed}"));
        let Some(absence) = absence.filter(|it| it.is_silent && !resumed) else { return };
        let id = self.node_ids[absence.node];
        let signed_at = self.network.with(|state| state.server.signed_at(id));
        let window = silence_window(client.platform);
        let heard_at = absence.spoke_at.min(signed_at);
        let in_time = self.now + slack(window) + SECOND < heard_at + window;
        if in_time && self.failed_over_at.is_none() && client.platform != Platform::MiniProgram {
            self.wrong.push(format!("{name} came back in time, but its session was gone"));
        }
    }

    /// Checks what must hold at every step.
    fn check_step(&mut self) {
        let (left, wrong) = self.network.with(|state| {
            state.server.check_counts();
            let (left, wrong) = (&mut state.server.left, &mut state.server.wrong);
            (std::mem::take(left), std::mem::take(wrong))
        });
        self.wrong.extend(wrong);
        for left in left {
            self.check_window(&left);
        }
    }

    /// Checks that a session was not ended too early, nor too late for its silence, by the true time.
    fn check_window(&mut self, left: &Left) {
        let Some(spoken) = self.spoken.get(&left.session) else { return };
        let Spoken { at, node, platform, hidden_at } = *spoken;
        let silence = silence_window(platform);
        let (since, window) = if left.cause == Cause::Silence {
            (at, silence)
        } else if left.cause == Cause::NodeLost {
            // Counted from the last sign of life.
            (at.min(self.network.with(|state| state.server.signed_at(node))), silence)
        } else if left.cause == Cause::Background {
            (hidden_at.unwrap_or(self.now), HIDDEN)
        } else {
            return;
        };
        let (took, slack) = (self.now - since, slack(window));
        let is_early = took + slack < window && self.failed_over_at.is_none();
        let is_quiet = self.troubled_at < since && left.cause == Cause::Silence;
        if is_early || is_quiet && took > window + SECOND + slack {
            let Left { session, cause } = left;
            self.wrong.push(format!("{cause:?} ended session {session} after {took:?}"));
        }
    }

    /// The hash of what happened, or what went wrong.
    pub(super) fn outcome(self) -> Result<u64, String> {
        let (hash, tail) = self.network.with(|state| (state.trace.hash(), state.trace.tail()));
        if self.wrong.is_empty() {
            return Ok(hash);
        }
        let (seed, wrong) = (self.seed, self.wrong.join("\n"));
        Err(format!("{tail}SIMULATION_SEED={seed}: {wrong}"))
    }
}
