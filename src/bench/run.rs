//! A run of a scenario: its steps and figures.

use std::io;
use std::time::Duration;

use super::machine;
use super::order::{Change, Done, Latency, Open, Order, Watch};
use super::process::{GeneratorProcess, Server};
use super::redis::{Redis, RedisCounts};
use super::scenario::{BURST, Figure, STATUS_USERS, Scenario, median};
use super::write_calls::WriteCalls;

/// The timeout for deliveries.
const AWAIT_SECS: u64 = 60;
/// The server is idle if it used nearly no processor time for this long.
const SETTLE_MILLIS: u64 = 200;
/// The maximum number of such periods to wait for an idle server.
const SETTLE_MAX: u32 = 50;
/// The part of a processor that each idle server may use; pings continue.
const IDLE_CPU: f64 = 0.04;
/// Twice the hub's checkpoint interval (10 s), so that at every measurement the pending commits are in
/// the database and freed memory is returned.
const CHURN_REST: Duration = Duration::from_secs(20);
/// The hub returns freed memory after a second.
pub(super) const IDLE_REST: Duration = Duration::from_secs(3);
/// The maximum number of logins in flight.
const IN_FLIGHT: u32 = 200;
const SMALL_BURST: u32 = 20;
/// The number of users that each session of mesh watches.
const MESH_WATCHES: u32 = 20;
const CHANGES_PER_SECOND: u32 = 200;
/// The rate at which users are away and back.
const AWAY_CHANGES_PER_SECOND: u32 = 500;
/// The rate of the busy mesh.
const BUSY_CHANGES_PER_SECOND: u32 = 2_000;

/// A run: the servers and the generators that load them.
pub(super) struct Run<'a> {
    pub(super) scenario: Scenario,
    /// Several hubs, or one server.
    pub(super) servers: &'a [Server],
    pub(super) redis: Option<&'a Redis>,
    pub(super) workers: &'a mut [GeneratorProcess],
    pub(super) sessions: u32,
    pub(super) seconds: Option<u64>,
    pub(super) rounds: u32,
    pub(super) counts_writes: bool,
    /// The bytes that the generators have received so far.
    pub(super) received: u64,
    pub(super) figures: Vec<Figure>,
}

impl Run<'_> {
    pub(super) fn measure(mut self) -> io::Result<Vec<Figure>> {
        match self.scenario {
            Scenario::Idle => self.idle(),
            Scenario::Pings => self.pings(),
            Scenario::Fanout => self.fanout(),
            Scenario::Mesh => self.mesh(MESH_WATCHES, CHANGES_PER_SECOND),
            Scenario::MeshBusy => self.mesh(MESH_WATCHES, BUSY_CHANGES_PER_SECOND),
            Scenario::Pairs => self.mesh(1, BUSY_CHANGES_PER_SECOND),
            Scenario::Away => self.away(),
            Scenario::Storm => self.storm(),
            Scenario::Kick => self.kick(),
            Scenario::Status => self.status(),
            Scenario::Churn => self.churn(),
            Scenario::Lists => self.lists(),
            Scenario::Twins => self.twins(),
        }?;
        Ok(self.figures)
    }

    fn idle(&mut self) -> io::Result<()> {
        self.rest(IDLE_REST)?;
        let empty = self.resident_kib();
        let in_redis = self.redis.map(Redis::memory_without_log).transpose()?;
        self.figure("RSS empty", "MiB", empty / 1024.0);
        self.open(0, self.sessions, "a", Watch::Next { count: 1, total: self.sessions })?;
        self.rest(IDLE_REST)?;
        let sessions = f64::from(self.sessions);
        self.figure("RSS a session", "KiB", (self.resident_kib() - empty) / sessions);
        if let Some((redis, before)) = self.redis.zip(in_redis) {
            let grown = (redis.memory_without_log()? - before) / sessions;
            self.figure("memory in Redis a user, log apart", "B", grown);
        }
        Ok(())
    }

    fn pings(&mut self) -> io::Result<()> {
        self.open(0, self.sessions, "a", Watch::Next { count: 1, total: self.sessions })?;
        let begun = self.begin()?;
        self.all(&Order::Idle { millis: self.seconds() * 1000 })?;
        let spent = self.spent(&begun);
        self.figure("idle CPU", "% of a core", spent.cpu / spent.wall * 100.0);
        if let Some(redis) = self.redis_since(&begun)? {
            self.figure("Redis commands a second", "", redis.commands / spent.wall);
            self.figure(
                "CPU of Redis",
                "% of a core",
                redis.cpu.as_secs_f64() / spent.wall * 100.0,
            );
        }
        Ok(())
    }

    fn fanout(&mut self) -> io::Result<()> {
        self.open(0, BURST, "a", Watch::Nobody)?;
        self.open(BURST, self.sessions, "a", Watch::First(BURST))?;
        let rounds = self.rounds;
        let singles = vec![vec![0]; rounds as usize];
        let single = self.change_all(&singles)?;
        self.figure("CPU a single delivery", "us", single.cpu_us());
        self.figure("p50 single", "ms", single.latency.quantile_ms(0.5));
        self.figure("p99 single", "ms", single.latency.quantile_ms(0.99));
        self.figure("generators busy", "% of a core", single.spent.busy());
        self.figure("stolen by the host", "% of a core", single.spent.stolen());
        let burst = vec![(0..BURST).collect(); (rounds as usize).div_ceil(4)];
        let burst = self.change_all(&burst)?;
        self.figure("CPU a delivery in a burst of 60", "us", burst.cpu_us());
        if self.counts_writes {
            self.write_calls("write calls a single delivery", &singles)?;
            let small: Vec<_> = vec![(0..SMALL_BURST).collect(); rounds as usize];
            self.write_calls("write calls a delivery in a burst of 20", &small)?;
        }
        Ok(())
    }

    fn write_calls(&mut self, name: &'static str, groups: &[Vec<u32>]) -> io::Result<()> {
        let [server, ..] = self.servers else { return Ok(()) };
        let calls = WriteCalls::begin(server.id())?;
        let done = self.change_all(groups)?;
        // Each change also has a reply, which is not a delivery.
        let replies = groups.iter().map(Vec::len).sum::<usize>() as f64;
        self.figure(name, "", (calls.end()? - replies) / done.deliveries);
        Ok(())
    }

    /// Each session watches some users; the users change one after another.
    fn mesh(&mut self, watches: u32, per_second: u32) -> io::Result<()> {
        let total = self.sessions;
        self.open(0, total, "a", Watch::Next { count: watches.min(total - 1), total })?;
        let begun = self.begin()?;
        let seconds = self.seconds();
        let change = Change::Custom;
        self.all(&Order::Change1By1 { users: total, per_second, seconds, change })?;
        let done = self.collect()?;
        let changed = self.changed(&begun, done)?;
        let changes = f64::from(per_second) * seconds as f64;
        self.figure("CPU a delivery", "us", changed.cpu_us());
        self.figure("p50", "ms", changed.latency.quantile_ms(0.5));
        self.figure("p99", "ms", changed.latency.quantile_ms(0.99));
        self.figure("generators busy", "% of a core", changed.spent.busy());
        self.figure("stolen by the host", "% of a core", changed.spent.stolen());
        self.redis_figures(&begun, changes)
    }

    /// The mesh, in turn with each kind of change: the first ones also give every user a custom status, by which the
    /// generators know a delivery.
    fn away(&mut self) -> io::Result<()> {
        let (total, per_second) = (self.sessions, AWAY_CHANGES_PER_SECOND);
        self.open(0, total, "a", Watch::Next { count: MESH_WATCHES.min(total - 1), total })?;
        let seconds = u64::from(total.div_ceil(per_second));
        let mut costs = [Vec::new(), Vec::new()];
        for _ in 0..self.rounds.div_ceil(10) {
            for (change, costs) in [Change::Custom, Change::Away].into_iter().zip(&mut costs) {
                let begun = self.begin()?;
                self.all(&Order::Change1By1 { users: total, per_second, seconds, change })?;
                let done = self.collect()?;
                costs.push(self.changed(&begun, done)?.cpu_us() * f64::from(MESH_WATCHES));
            }
        }
        let [custom, away] = costs.map(|costs| median(costs).unwrap_or_default());
        self.figure("CPU a custom status", "us", custom);
        self.figure("CPU of away or back", "us", away);
        self.figure("away / custom status", "", away / custom);
        Ok(())
    }

    fn storm(&mut self) -> io::Result<()> {
        let begun = self.begin()?;
        let overflows = machine::listen_overflows();
        let watch = Watch::Next { count: 1, total: self.sessions };
        let latency = self.open(0, self.sessions, "a", watch)?;
        let opened = self.spent(&begun);
        self.wait_until_idle()?;
        let (cpu, sessions) = (self.spent(&begun).cpu, f64::from(self.sessions));
        self.figure("CPU a login", "us", cpu / sessions * 1e6);
        self.figure("logins a CPU-second", "", sessions / cpu);
        self.figure("logins a second", "", sessions / opened.wall);
        self.figure("p50 login, connecting included", "ms", latency.quantile_ms(0.5));
        self.figure("p99 login, connecting included", "ms", latency.quantile_ms(0.99));
        self.figure("listen overflows", "", machine::listen_overflows() - overflows);
        self.figure("generators busy", "% of a core", opened.busy());
        self.figure("stolen by the host", "% of a core", opened.stolen());
        self.redis_figures(&begun, sessions)
    }

    fn kick(&mut self) -> io::Result<()> {
        self.open(0, self.sessions, "a", Watch::Nobody)?;
        let begun = self.begin()?;
        let latency = self.open(0, self.sessions, "b", Watch::Nobody)?;
        self.all(&Order::Await { seconds: AWAIT_SECS })?;
        self.wait_until_idle()?;
        let (cpu, sessions) = (self.spent(&begun).cpu, f64::from(self.sessions));
        self.figure("CPU a login that kicks", "us", cpu / sessions * 1e6);
        self.figure("p99 login, connecting included", "ms", latency.quantile_ms(0.99));
        self.redis_figures(&begun, sessions)
    }

    fn status(&mut self) -> io::Result<()> {
        self.open(0, self.sessions, "a", Watch::Nobody)?;
        let calls = self.rounds * 100;
        let begun = self.begin()?;
        let [asker, ..] = &mut *self.workers else { return Ok(()) };
        asker.order(&Order::Ask { users: STATUS_USERS, calls })?;
        let done = checked(asker.answer()?)?;
        let cpu = self.spent(&begun).cpu;
        self.figure("p50 call", "ms", done.latency.quantile_ms(0.5));
        self.figure("p99 call", "ms", done.latency.quantile_ms(0.99));
        self.figure("calls a CPU-second", "", f64::from(calls) / cpu);
        Ok(())
    }

    /// In each tenth of the time, logs in and leaves repeatedly, then rests and measures the memory. The
    /// rest lets the hub write pending commits into its database and return freed memory.
    fn churn(&mut self) -> io::Result<()> {
        let begin = machine::now_ns();
        let elapsed = || Duration::from_nanos(machine::now_ns() - begin);
        let tenth = Duration::from_secs(self.seconds()) / 10;
        let rest = CHURN_REST.min(tenth / 2);
        let (mut looks, mut logins) = ([0.0; 10], 0.0);
        for (tenths, look) in (1..).zip(&mut looks) {
            while elapsed() + rest < tenth * tenths {
                let watch = Watch::Next { count: 1, total: self.sessions };
                self.open(0, self.sessions, "a", watch)?;
                self.all(&Order::Leave { first: 0, count: self.sessions })?;
                logins += f64::from(self.sessions);
            }
            self.rest(rest)?;
            *look = self.resident_kib() / 1024.0;
        }
        let [early, .., late] = looks;
        let (first, last) = (median(looks[..3].to_vec()), median(looks[7..].to_vec()));
        let trend = last.zip(first).map_or(0.0, |(last, first)| last / first);
        self.figure("logins", "", logins);
        self.figure("RSS after a tenth of the time", "MiB", early);
        self.figure("RSS at the end", "MiB", late);
        self.figure("RSS at the end / after a tenth", "", late / early);
        self.figure("RSS, median of the last three tenths / of the first", "", trend);
        Ok(())
    }

    // The steps.

    /// Opens sessions, divided among the generators.
    pub(super) fn open(
        &mut self,
        first: u32,
        count: u32,
        device: &str,
        watch: Watch,
    ) -> io::Result<Latency> {
        let workers = u32::try_from(self.workers.len()).unwrap_or(1);
        let part = |worker: u32| first + count * worker / workers;
        for (worker, generator) in (0..).zip(&mut *self.workers) {
            let first = part(worker);
            generator.order(&Order::Open(Open {
                targets: self.servers.iter().map(|server| server.target.clone()).collect(),
                first,
                count: part(worker + 1) - first,
                in_flight: IN_FLIGHT.div_ceil(workers),
                device: device.into(),
                watch,
            }))?;
        }
        Ok(self.answers()?.latency)
    }

    pub(super) fn all(&mut self, order: &Order) -> io::Result<Done> {
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
            self.received += done.received;
        }
        Ok(all)
    }

    /// Changes users in groups, each group after all deliveries of the previous one.
    fn change_all(&mut self, groups: &[Vec<u32>]) -> io::Result<Changed> {
        let begun = self.begin()?;
        let mut all = Done::default();
        for users in groups {
            self.all(&Order::Change { users: users.clone() })?;
            let done = self.collect()?;
            all.deliveries += done.deliveries;
            all.latency.add(done.latency);
        }
        self.changed(&begun, all)
    }

    /// Waits for all deliveries that are due.
    fn collect(&mut self) -> io::Result<Done> {
        let done = self.all(&Order::Await { seconds: AWAIT_SECS })?;
        if done.deliveries == done.due && done.due > 0 {
            return Ok(done);
        }
        let Done { deliveries, due, .. } = done;
        Err(io::Error::other(format!("{deliveries} of {due} deliveries arrived")))
    }

    /// The costs of changes, including the server's work after the last delivery.
    fn changed(&mut self, begun: &Begun, done: Done) -> io::Result<Changed> {
        let during = self.spent(begun);
        self.wait_until_idle()?;
        let spent = Spent { cpu: self.spent(begun).cpu, ..during };
        Ok(Changed { deliveries: done.deliveries as f64, spent, latency: done.latency })
    }

    // Costs.

    /// Only answers pings.
    pub(super) fn rest(&mut self, time: Duration) -> io::Result<()> {
        let millis = time.as_millis().try_into().unwrap_or_default();
        self.all(&Order::Idle { millis }).map(drop)
    }

    /// Waits until the server is idle, so that no measurement includes earlier work. A server that never
    /// becomes idle is measured anyway.
    pub(super) fn wait_until_idle(&mut self) -> io::Result<()> {
        for _ in 0..SETTLE_MAX {
            let before = self.cpu_time();
            self.all(&Order::Idle { millis: SETTLE_MILLIS })?;
            let busy = self.cpu_time().saturating_sub(before).as_secs_f64();
            let allowed = SETTLE_MILLIS as f64 / 1000.0 * IDLE_CPU * self.servers.len() as f64;
            if busy < allowed {
                break;
            }
        }
        Ok(())
    }

    /// Starts a measurement with an idle server.
    pub(super) fn begin(&mut self) -> io::Result<Begun> {
        self.wait_until_idle()?;
        let redis = self.redis.map(|redis| redis.counts(self.servers)).transpose()?;
        Ok(Begun { redis, ..self.now() })
    }

    fn now(&self) -> Begun {
        let generators = self.workers.iter().map(|worker| machine::cpu_time(worker.id())).sum();
        let server = self.cpu_time();
        let wall = Duration::from_nanos(machine::now_ns());
        Begun { wall, server, generators, stolen: machine::stolen(), redis: None }
    }

    /// The processor time of all servers.
    fn cpu_time(&self) -> Duration {
        self.servers.iter().map(|server| machine::cpu_time(server.id())).sum()
    }

    /// The memory of all servers.
    fn resident_kib(&self) -> f64 {
        self.servers.iter().map(|server| machine::resident_kib(server.id())).sum()
    }

    pub(super) fn spent(&self, begun: &Begun) -> Spent {
        let now = self.now();
        let since = |now: Duration, begun| now.saturating_sub(begun).as_secs_f64();
        Spent {
            wall: since(now.wall, begun.wall),
            cpu: since(now.server, begun.server),
            generators: since(now.generators, begun.generators),
            stolen: since(now.stolen, begun.stolen),
        }
    }

    /// What Redis was asked and spent since the start of a measurement.
    fn redis_since(&self, begun: &Begun) -> io::Result<Option<RedisCounts>> {
        let Some((redis, before)) = self.redis.zip(begun.redis.as_ref()) else { return Ok(None) };
        let now = redis.counts(self.servers)?;
        Ok(Some(RedisCounts {
            commands: now.commands - before.commands,
            bytes: now.bytes - before.bytes,
            cpu: now.cpu.saturating_sub(before.cpu),
        }))
    }

    /// What each of some changes or logins cost Redis, including the hubs' ticks meanwhile.
    fn redis_figures(&mut self, begun: &Begun, count: f64) -> io::Result<()> {
        if let Some(redis) = self.redis_since(begun)? {
            self.figure("Redis commands each", "", redis.commands / count);
            self.figure("sent to Redis each", "B", redis.bytes / count);
            self.figure("CPU of Redis each", "us", redis.cpu.as_secs_f64() / count * 1e6);
        }
        Ok(())
    }

    fn seconds(&self) -> u64 {
        self.seconds.unwrap_or(self.scenario.seconds())
    }

    pub(super) fn figure(&mut self, name: &'static str, unit: &'static str, value: f64) {
        self.figures.push(Figure { name, unit, value });
    }
}

/// The clocks at the start of a measurement.
pub(super) struct Begun {
    wall: Duration,
    server: Duration,
    generators: Duration,
    stolen: Duration,
    redis: Option<RedisCounts>,
}

/// The time spent in a measurement, in seconds.
pub(super) struct Spent {
    pub(super) wall: f64,
    /// The server's processor time.
    pub(super) cpu: f64,
    /// The generators' processor time.
    generators: f64,
    /// The time that the host took from all processors; the other values include part of it.
    stolen: f64,
}

impl Spent {
    /// The generators' share of a processor, in percent.
    fn busy(&self) -> f64 {
        self.generators / self.wall * 100.0
    }

    /// The host's share of a processor, in percent.
    fn stolen(&self) -> f64 {
        self.stolen / self.wall * 100.0
    }
}

/// The costs of changes.
struct Changed {
    deliveries: f64,
    spent: Spent,
    latency: Latency,
}

impl Changed {
    fn cpu_us(&self) -> f64 {
        self.spent.cpu * 1e6 / self.deliveries
    }
}

pub(super) fn checked(done: Done) -> io::Result<Done> {
    match done.fault {
        None => Ok(done),
        Some(fault) => Err(io::Error::other(fault)),
    }
}
