//! What users do, and what goes wrong.

use std::time::Duration;

use presence_hub::store::Part;
use rand::RngExt;
use rand::seq::IndexedRandom;
use serde_json::json;

use super::client::NodePlace;
use super::network::Weather;
use super::server::part_of;
use super::world::{USERS, World, user};
use crate::lab::id;

/// How long a step takes, and how many steps there are between two acts and two faults, on average.
const STEP: Duration = Duration::from_millis(20);
const STEPS_PER_ACT: u32 = 15;
const STEPS_PER_FAULT: u32 = 75;
/// By how much a replica lags at most, in milliseconds: Redis refuses to write if it lags more.
const LAG_MS_MAX: u64 = 2000;
/// In how many failovers one loses everything.
const FAILOVERS_PER_LOSS: u32 = 8;
/// How many nodes there may be at once.
const NODES_MAX: usize = 4;
/// The shortest fault, and the longest pause before a client connects again, in milliseconds.
const FAULT_MS_MIN: u64 = 200;
const PAUSE_MS_MAX: u64 = 15_000;

/// A fault that ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// A node stands still.
    Frozen(NodePlace),
    /// A node is cut off from the server.
    Cut(NodePlace),
    /// A node's link is slow or unreliable.
    Weather(NodePlace),
    /// The server is down.
    Down,
    /// A node was killed; at the end another one starts.
    Killed(NodePlace),
    /// At the end a part fails over.
    FailingOver(Part),
}

/// The faults that have not ended, and when they will.
#[derive(Default)]
pub(super) struct Storm {
    faults: Vec<(Duration, Fault)>,
}

impl Storm {
    /// Lets users act and things go wrong for some time.
    pub(super) fn rage(&mut self, world: &mut World, time: Duration) {
        let until = world.now + time;
        while world.now < until && world.wrong.is_empty() {
            if world.random.random_ratio(1, STEPS_PER_ACT) {
                let devices = world.clients.iter().filter(|client| !client.is_watcher()).count();
                let device = world.random.random_range(0..devices);
                act(world, device);
            }
            if world.random.random_ratio(1, STEPS_PER_FAULT) {
                self.go_wrong(world);
            }
            let now = world.now;
            self.heal(world, |until| until <= now);
            if !self.faults.is_empty() {
                world.troubled_at = now;
            }
            world.step(STEP);
        }
    }

    /// Ends all faults.
    pub(super) fn end(&mut self, world: &mut World) {
        self.heal(world, |_| true);
        while world.living().len() < 2 {
            world.start_node();
        }
        world.troubled_at = world.now;
        world.note("everything works again");
    }

    /// Ends the faults whose time has come.
    fn heal(&mut self, world: &mut World, is_over: impl Fn(Duration) -> bool) {
        let over: Vec<_> = self.faults.extract_if(.., |(until, _)| is_over(*until)).collect();
        for (_, fault) in over {
            end(world, fault);
        }
    }

    fn add(&mut self, world: &mut World, ms_max: u64, fault: Fault) {
        world.note(&format!("{fault:?}"));
        let time = Duration::from_millis(world.random.random_range(FAULT_MS_MIN..=ms_max));
        self.faults.push((world.now + time, fault));
    }

    /// Something goes wrong for a while, unless it is wrong already.
    fn go_wrong(&mut self, world: &mut World) {
        let living = world.living();
        let Some(&place) = living.choose(&mut world.random) else { return };
        let (fault, ms_max) = match world.random.random_range(0..12) {
            0..4 => (Fault::Weather(place), 8000),
            4 | 5 => (Fault::Frozen(place), 9000),
            6 if living.len() > 1 => (Fault::Killed(place), 6000),
            7 | 8 => (Fault::Cut(place), 9000),
            9 => (Fault::Down, 9000),
            10 | 11 if world.loses_commits => return self.threaten(world),
            _ => return,
        };
        if self.faults.iter().any(|(_, it)| *it == fault) {
            return;
        }
        self.add(world, ms_max, fault);
        let weather = weather(world);
        match fault {
            Fault::Weather(place) => {
                world.network.with(|state| state.set_weather(place, weather));
            }
            Fault::Frozen(place) => {
                if let Some(node) = &mut world.nodes[place] {
                    node.is_frozen = true;
                }
            }
            Fault::Killed(place) => world.nodes[place] = None,
            Fault::Cut(place) => world.network.with(|state| state.set_cut(place, true)),
            Fault::Down => world.network.with(|state| state.server.is_down = true),
            Fault::FailingOver(_) => (),
        }
    }

    /// A part is about to fail over. Until then a user of it does many things at once on a slow network, so that
    /// commits are under way.
    fn threaten(&mut self, world: &mut World) {
        let user = user(world.random.random_range(0..USERS));
        let slow = Weather { delay_ms: 200, ..Weather::default() };
        for place in world.living() {
            world.network.with(|state| state.set_weather(place, slow));
            self.add(world, 1000, Fault::Weather(place));
        }
        let devices = (0..world.clients.len()).filter(|place| world.clients[*place].user == user);
        for device in devices.collect::<Vec<_>>() {
            act(world, device);
        }
        self.add(world, 700, Fault::FailingOver(part_of(&id(&user))));
    }
}

fn weather(world: &mut World) -> Weather {
    let calm = Weather { delay_ms: 30, ..Weather::default() };
    match world.random.random_range(0..4) {
        0 => Weather { delay_ms: 300, ..calm },
        1 => Weather { loses: 15, repeats: 10, ..calm },
        2 => Weather { late: 20, repeats: 10, ..calm },
        _ => calm,
    }
}

fn end(world: &mut World, fault: Fault) {
    let now = world.now;
    world.note(&format!("the end of {fault:?}"));
    match fault {
        Fault::Frozen(place) => {
            if let Some(node) = &mut world.nodes[place] {
                node.thaw(now);
            }
        }
        Fault::Cut(place) => world.network.with(|state| state.set_cut(place, false)),
        Fault::Weather(place) => {
            world.network.with(|state| state.set_weather(place, Weather::default()));
        }
        Fault::Down => world.network.with(|state| state.server.is_down = false),
        Fault::Killed(_) if world.living().len() < NODES_MAX => world.start_node(),
        Fault::Killed(_) => (),
        Fault::FailingOver(part) => fail_over(world, part),
    }
}

/// A part of the users fails over to a replica that lacks the last commits, or loses everything.
fn fail_over(world: &mut World, part: Part) {
    let lag = Duration::from_millis(world.random.random_range(0..=LAG_MS_MAX));
    let is_emptied = world.random.random_ratio(1, FAILOVERS_PER_LOSS);
    let since = if is_emptied { Duration::ZERO } else { world.now.saturating_sub(lag) };
    world.failed_over_at = Some(world.now);
    world.network.with(|state| state.fail_over(part, since));
}

/// A user does something with a device.
fn act(world: &mut World, device: usize) {
    let pause = Duration::from_millis(world.random.random_range(0..PAUSE_MS_MAX));
    let now = world.now;
    let retry_at = now + pause;
    let (roll, number) = (world.random.random_range(0..10), world.random.random_range(0..100));
    let client = &mut world.clients[device];
    let name = client.name();
    if !client.wants_in {
        // Unless it is still logging out.
        if client.connection.is_none() {
            client.begin();
            world.network.note(&format_args!("{name} wants to log in"));
        }
        return;
    }
    if !client.is_in() {
        return;
    }
    let what = match roll {
        0 | 1 => {
            client.fall_silent(retry_at);
            "loses its network"
        }
        2 => {
            client.give_up(false, retry_at);
            "closes"
        }
        3 => {
            client.log_out();
            "logs out"
        }
        4 => {
            client.hide(now);
            "is hidden"
        }
        5 => {
            client.ask(json!({ "type": "foreground" }));
            "is shown"
        }
        _ => {
            client.ask(json!({ "type": "set", "custom": number.to_string() }));
            "sets its text"
        }
    };
    world.network.note(&format_args!("{name} {what}"));
}
