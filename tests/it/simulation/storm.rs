//! What users do, and what goes wrong.

use std::time::Duration;

use presence_hub::store::Part;
use rand::RngExt;
use rand::seq::IndexedRandom;
use serde_json::json;

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
/// How many nodes there may be at once.
const NODES_MAX: usize = 4;

/// A fault that ends by itself, and when.
enum Fault {
    Frozen(usize),
    Cut(usize),
    Weather(usize),
    Down,
    /// A node is to be started again.
    Gone,
    /// A part is about to fail over.
    FailingOver(Part),
}

/// Faults that have not ended.
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
                act(world);
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
        let now = world.now;
        let over = self.faults.extract_if(.., |(until, _)| is_over(*until)).collect::<Vec<_>>();
        for (_, fault) in over {
            match fault {
                Fault::Frozen(place) => {
                    world.note(&format!("node {place} goes on"));
                    if let Some(node) = &mut world.nodes[place] {
                        node.thaw(now);
                    }
                }
                Fault::Cut(place) => {
                    world.note(&format!("link {place} is mended"));
                    world.network.with(|state| state.set_cut(place, false));
                }
                Fault::Weather(place) => {
                    world.network.with(|state| state.set_weather(place, Weather::default()));
                }
                Fault::Down => {
                    world.note("the server is up");
                    world.network.with(|state| state.server.is_down = false);
                }
                Fault::Gone if world.living().len() < NODES_MAX => world.start_node(),
                Fault::Gone => (),
                Fault::FailingOver(part) => lose_commits(world, part),
            }
        }
    }

    fn add(&mut self, world: &mut World, longest_ms: u64, fault: Fault) {
        let time = Duration::from_millis(world.random.random_range(200..=longest_ms));
        self.faults.push((world.now + time, fault));
    }

    /// A part fails over in a moment, and until then a user of it does many things at once on a slow network.
    fn threaten(&mut self, world: &mut World) {
        let number = world.random.random_range(0..USERS);
        let user = user(number);
        let slow = Weather { delay_ms: 200, ..Weather::default() };
        for place in world.living() {
            world.network.with(|state| state.set_weather(place, slow));
            self.add(world, 1000, Fault::Weather(place));
        }
        let devices = (0..world.clients.len()).filter(|place| world.clients[*place].user == user);
        for place in devices.collect::<Vec<_>>() {
            act_with(world, place);
        }
        self.add(world, 700, Fault::FailingOver(part_of(&id(&user))));
    }

    fn is_frozen(&self, place: usize) -> bool {
        self.faults.iter().any(|(_, fault)| matches!(fault, Fault::Frozen(it) if *it == place))
    }

    fn go_wrong(&mut self, world: &mut World) {
        let living = world.living();
        let Some(&place) = living.choose(&mut world.random) else { return };
        match world.random.random_range(0..12) {
            0..4 => {
                let weather = weather(world);
                world.note(&format!("link {place} has {weather:?}"));
                world.network.with(|state| state.set_weather(place, weather));
                self.add(world, 8000, Fault::Weather(place));
            }
            4..6 if !self.is_frozen(place) => {
                world.note(&format!("node {place} stands still"));
                if let Some(node) = &mut world.nodes[place] {
                    node.is_frozen = true;
                }
                self.add(world, 9000, Fault::Frozen(place));
            }
            6 if living.len() > 1 => {
                world.kill(place);
                self.add(world, 6000, Fault::Gone);
            }
            7 | 8 => {
                world.note(&format!("link {place} is cut"));
                world.network.with(|state| state.set_cut(place, true));
                self.add(world, 9000, Fault::Cut(place));
            }
            9 => {
                world.note("the server is down");
                world.network.with(|state| state.server.is_down = true);
                self.add(world, 9000, Fault::Down);
            }
            10 | 11 if world.loses_commits => self.threaten(world),
            _ => (),
        }
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

/// A part of the users fails over to a replica that lacks the last commits, or loses everything.
fn lose_commits(world: &mut World, part: Part) {
    let lag = Duration::from_millis(world.random.random_range(0..=LAG_MS_MAX));
    let is_emptied = world.random.random_ratio(1, 8);
    let since = if is_emptied { Duration::ZERO } else { world.now.saturating_sub(lag) };
    world.failed_over_at = Some(world.now);
    world.network.with(|state| state.fail_over(part, since));
}

/// A user does something with a random device.
fn act(world: &mut World) {
    let devices = (0..world.clients.len()).filter(|place| !world.clients[*place].is_watcher());
    let devices: Vec<_> = devices.collect();
    if let Some(&place) = devices.choose(&mut world.random) {
        act_with(world, place);
    }
}

fn act_with(world: &mut World, place: usize) {
    let retry_at = world.now + Duration::from_millis(world.random.random_range(0..15_000));
    let (roll, number) = (world.random.random_range(0..10), world.random.random_range(0..100));
    let client = &mut world.clients[place];
    let name = client.name();
    if !client.wants_in && client.connection.is_some() {
        // It is still logging out.
        return;
    }
    if !client.wants_in {
        client.wants_in = true;
        client.session = None;
        client.absence = None;
        return world.network.note(&format_args!("{name} wants to log in"));
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
            client.ask(json!({ "type": "background" }));
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
