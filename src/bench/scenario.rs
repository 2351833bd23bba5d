use std::fmt;
use std::io;
use std::time::Duration;

use clap::ValueEnum;

use super::machine;
use super::order::{Done, Latency, Open, Order, Watch};
use super::process::{Server, Worker};
use super::write_calls::WriteCalls;

/// How long deliveries may take to come.
const AWAIT_SECS: u64 = 60;
/// How many logins are on their way at once.
const IN_FLIGHT: u32 = 200;
/// Users whom every watcher of a fan-out watches.
const BURST: u32 = 60;
/// A smaller burst.
const SMALL_BURST: u32 = 20;
/// How many users a session of the mesh watches.
const MESH_WATCHES: u32 = 20;
const CHANGES_PER_SECOND: u32 = 200;
/// How many users one call asks about.
const STATUS_USERS: u32 = 500;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Scenario {
    /// Sessions that each watch one other: memory.
    Idle,
    /// Sessions that answer pings at their default interval: processor time.
    Pings,
    /// Many watchers of one user, and of sixty that change at once.
    Fanout,
    /// Users who watch each other, 200 changes a second.
    Mesh,
    /// Connect, log in, subscribe, 200 at once.
    Storm,
    /// Logins that each kick a session.
    Kick,
    /// The server API: POST /v1/status with 500 users.
    Status,
    /// Storm and leave, again and again: memory over time.
    Churn,
}

impl Scenario {
    /// How many sessions there are where the command does not say.
    pub(super) const fn sessions(self) -> u32 {
        match self {
            Self::Idle => 15_000,
            Self::Pings | Self::Storm => 10_000,
            Self::Fanout | Self::Mesh | Self::Kick => 5_000,
            Self::Status => STATUS_USERS,
            Self::Churn => 2_000,
        }
    }

    /// How many sessions it has open at once.
    pub(super) const fn open(self, sessions: u32) -> u32 {
        match self {
            Self::Fanout => sessions + BURST,
            Self::Kick => sessions * 2,
            Self::Idle | Self::Pings | Self::Mesh | Self::Storm | Self::Status | Self::Churn => {
                sessions
            }
        }
    }

    /// For how many seconds it goes on where the command does not say.
    const fn seconds(self) -> u64 {
        match self {
            Self::Pings => 40,
            Self::Churn => 600,
            Self::Idle | Self::Fanout | Self::Mesh | Self::Storm | Self::Kick | Self::Status => 15,
        }
    }

    /// Whether it says something of the store.
    pub(super) const fn is_of_the_store(self) -> bool {
        matches!(self, Self::Idle | Self::Storm)
    }

    /// Whether the floor can do it.
    pub(super) const fn has_floor(self) -> bool {
        !matches!(self, Self::Kick | Self::Status | Self::Pings)
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// Something that was measured.
#[derive(Debug, Clone, serde::Serialize)]
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) value: f64,
}

/// One server, and the generators that load it.
pub(super) struct Run<'a> {
    pub(super) scenario: Scenario,
    pub(super) server: &'a Server,
    pub(super) workers: &'a mut [Worker],
    pub(super) sessions: u32,
    pub(super) seconds: Option<u64>,
    pub(super) rounds: u32,
    pub(super) counts_writes: bool,
    pub(super) figures: Vec<Figure>,
}

impl Run<'_> {
    pub(super) fn measure(mut self) -> io::Result<Vec<Figure>> {
        match self.scenario {
            Scenario::Idle => self.idle(),
            Scenario::Pings => self.pings(),
            Scenario::Fanout => self.fanout(),
            Scenario::Mesh => self.mesh(),
            Scenario::Storm => self.storm(),
            Scenario::Kick => self.kick(),
            Scenario::Status => self.status(),
            Scenario::Churn => self.churn(),
        }?;
        Ok(self.figures)
    }

    fn idle(&mut self) -> io::Result<()> {
        let empty = machine::resident_kib(self.server.id());
        self.figure("RSS empty", "MiB", empty / 1024.0);
        self.open(0, self.sessions, "a", Watch::Next { count: 1, total: self.sessions })?;
        self.all(&Order::Idle { seconds: 1 })?;
        let grown = machine::resident_kib(self.server.id()) - empty;
        self.figure("RSS a session", "KiB", grown / f64::from(self.sessions));
        Ok(())
    }

    fn pings(&mut self) -> io::Result<()> {
        self.open(0, self.sessions, "a", Watch::Next { count: 1, total: self.sessions })?;
        let seconds = self.seconds();
        let (begun, wall) = (self.cpu(), machine::now_ns());
        self.all(&Order::Idle { seconds })?;
        let wall = Duration::from_nanos(machine::now_ns() - wall).as_secs_f64();
        let part = (self.cpu() - begun).as_secs_f64() / wall;
        self.figure("idle CPU", "% of a core", part * 100.0);
        Ok(())
    }

    fn fanout(&mut self) -> io::Result<()> {
        self.open(0, BURST, "a", Watch::Nobody)?;
        self.open(BURST, self.sessions, "a", Watch::First(BURST))?;
        let rounds = self.rounds;
        let singles = vec![vec![0]; rounds as usize];
        let single = self.change_all(&singles)?;
        self.figure("CPU a single delivery", "us", single.cpu_us);
        self.figure("p50 single", "ms", single.latency.quantile_ms(0.5));
        self.figure("p99 single", "ms", single.latency.quantile_ms(0.99));
        let burst = vec![(0..BURST).collect(); (rounds as usize).div_ceil(4)];
        let burst = self.change_all(&burst)?;
        self.figure("CPU a delivery in a burst of 60", "us", burst.cpu_us);
        if self.counts_writes {
            let calls = WriteCalls::begin(self.server.id())?;
            let done = self.change_all(&singles)?;
            // The changed users' own replies are no deliveries.
            let calls = calls.end()? - f64::from(rounds);
            self.figure("write calls a single delivery", "", calls / done.deliveries);
            let calls = WriteCalls::begin(self.server.id())?;
            let small = vec![(0..SMALL_BURST).collect(); rounds as usize];
            let done = self.change_all(&small)?;
            let calls = calls.end()? - f64::from(rounds * SMALL_BURST);
            self.figure("write calls a delivery in a burst of 20", "", calls / done.deliveries);
        }
        Ok(())
    }

    fn mesh(&mut self) -> io::Result<()> {
        let total = self.sessions;
        self.open(0, total, "a", Watch::Next { count: MESH_WATCHES.min(total - 1), total })?;
        let begun = self.cpu();
        let seconds = self.seconds();
        let per_second = CHANGES_PER_SECOND;
        self.all(&Order::Change1By1 { users: total, per_second, seconds })?;
        let changed = self.collect(begun)?;
        self.figure("CPU a delivery", "us", changed.cpu_us);
        self.figure("p50", "ms", changed.latency.quantile_ms(0.5));
        self.figure("p99", "ms", changed.latency.quantile_ms(0.99));
        Ok(())
    }

    fn storm(&mut self) -> io::Result<()> {
        let (begun, wall) = (self.cpu(), machine::now_ns());
        let overflows = machine::listen_overflows();
        let watch = Watch::Next { count: 1, total: self.sessions };
        let latency = self.open(0, self.sessions, "a", watch)?;
        let wall = Duration::from_nanos(machine::now_ns() - wall).as_secs_f64();
        let cpu = (self.cpu() - begun).as_secs_f64();
        let sessions = f64::from(self.sessions);
        self.figure("CPU a login", "us", cpu / sessions * 1e6);
        self.figure("logins a CPU-second", "", sessions / cpu);
        self.figure("logins a second", "", sessions / wall);
        self.figure("p50 login", "ms", latency.quantile_ms(0.5));
        self.figure("p99 login", "ms", latency.quantile_ms(0.99));
        self.figure("listen overflows", "", machine::listen_overflows() - overflows);
        Ok(())
    }

    fn kick(&mut self) -> io::Result<()> {
        self.open(0, self.sessions, "a", Watch::Nobody)?;
        let begun = self.cpu();
        let latency = self.open(0, self.sessions, "b", Watch::Nobody)?;
        self.all(&Order::Await { seconds: AWAIT_SECS })?;
        let cpu = (self.cpu() - begun).as_secs_f64();
        self.figure("CPU a login that kicks", "us", cpu / f64::from(self.sessions) * 1e6);
        self.figure("p99 login", "ms", latency.quantile_ms(0.99));
        Ok(())
    }

    fn status(&mut self) -> io::Result<()> {
        self.open(0, self.sessions, "a", Watch::Nobody)?;
        let calls = self.rounds * 100;
        let begun = self.cpu();
        let order = Order::Ask { users: STATUS_USERS, calls };
        let [asker, ..] = &mut *self.workers else { return Ok(()) };
        asker.order(&order)?;
        let done = checked(asker.answer()?)?;
        let cpu = (self.cpu() - begun).as_secs_f64();
        self.figure("p50 call", "ms", done.latency.quantile_ms(0.5));
        self.figure("p99 call", "ms", done.latency.quantile_ms(0.99));
        self.figure("calls a CPU-second", "", f64::from(calls) / cpu);
        Ok(())
    }

    fn churn(&mut self) -> io::Result<()> {
        let (begin, seconds) = (machine::now_ns(), self.seconds());
        let elapsed = || Duration::from_nanos(machine::now_ns() - begin).as_secs();
        let (mut early, mut logins) = (None, 0.0);
        while elapsed() < seconds {
            let watch = Watch::Next { count: 1, total: self.sessions };
            self.open(0, self.sessions, "a", watch)?;
            self.all(&Order::Leave)?;
            logins += f64::from(self.sessions);
            if elapsed() >= seconds / 10 && early.is_none() {
                early = Some(machine::resident_kib(self.server.id()));
            }
        }
        let late = machine::resident_kib(self.server.id());
        let early = early.unwrap_or(late);
        self.figure("logins", "", logins);
        self.figure("RSS after a tenth of the time", "MiB", early / 1024.0);
        self.figure("RSS at the end", "MiB", late / 1024.0);
        self.figure("RSS at the end / after a tenth", "", late / early);
        Ok(())
    }

    // The steps.

    /// Opens sessions, a part of them from each generator.
    fn open(&mut self, first: u32, count: u32, device: &str, watch: Watch) -> io::Result<Latency> {
        let workers = u32::try_from(self.workers.len()).unwrap_or(1);
        let part = |worker: u32| first + count * worker / workers;
        for (worker, generator) in (0..).zip(&mut *self.workers) {
            let first = part(worker);
            generator.order(&Order::Open(Open {
                target: self.server.target.clone(),
                first,
                count: part(worker + 1) - first,
                in_flight: IN_FLIGHT.div_ceil(workers),
                device: device.into(),
                watch,
            }))?;
        }
        Ok(self.answers()?.latency)
    }

    fn all(&mut self, order: &Order) -> io::Result<Done> {
        for worker in &mut *self.workers {
            worker.order(order)?;
        }
        self.answers()
    }

    fn answers(&mut self) -> io::Result<Done> {
        let mut all = Done::default();
        for worker in &mut *self.workers {
            let done = checked(worker.answer()?)?;
            all.due += done.due;
            all.deliveries += done.deliveries;
            all.latency.add(done.latency);
        }
        Ok(all)
    }

    /// Changes users, one group after the other, each once all of the one before has come.
    fn change_all(&mut self, groups: &[Vec<u32>]) -> io::Result<Changed> {
        let begun = self.cpu();
        let mut all = Changed { deliveries: 0.0, cpu_us: 0.0, latency: Latency::default() };
        for users in groups {
            self.all(&Order::Change { users: users.clone() })?;
            let changed = self.collect(begun)?;
            all.deliveries += changed.deliveries;
            all.latency.add(changed.latency);
        }
        all.cpu_us = (self.cpu() - begun).as_secs_f64() * 1e6 / all.deliveries;
        Ok(all)
    }

    /// Waits for what is due.
    fn collect(&mut self, begun: Duration) -> io::Result<Changed> {
        let done = self.all(&Order::Await { seconds: AWAIT_SECS })?;
        if done.deliveries != done.due || done.due == 0 {
            let Done { deliveries, due, .. } = done;
            return Err(io::Error::other(format!("{deliveries} of {due} deliveries came")));
        }
        let deliveries = done.deliveries as f64;
        let cpu_us = (self.cpu() - begun).as_secs_f64() * 1e6 / deliveries;
        Ok(Changed { deliveries, cpu_us, latency: done.latency })
    }

    fn cpu(&self) -> Duration {
        machine::cpu_time(self.server.id())
    }

    fn seconds(&self) -> u64 {
        self.seconds.unwrap_or(self.scenario.seconds())
    }

    fn figure(&mut self, name: &'static str, unit: &'static str, value: f64) {
        self.figures.push(Figure { name, unit, value });
    }
}

/// Changes, and what they cost.
struct Changed {
    deliveries: f64,
    cpu_us: f64,
    latency: Latency,
}

fn checked(done: Done) -> io::Result<Done> {
    match done.fault {
        None => Ok(done),
        Some(fault) => Err(io::Error::other(fault)),
    }
}
