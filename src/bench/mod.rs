//! `presence-hub bench`: measures what the hub costs, compared with the floor, a minimal server.
//!
//! ```text
//!   bench ─┬─▶ server, on one processor:  the hub, or the floor
//!          └─▶ generators, on another:    orders in, results out ─▶ figures ─▶ medians, ratios
//! ```
//!
//! The hub itself uses nothing of this module.

mod calls;
mod floor;
mod frame;
mod generator;
mod kind;
mod machine;
mod order;
mod process;
mod redis;
mod report;
mod run;
mod scenario;
mod sight;
mod tokens;
mod write_calls;

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};

use self::generator::Generator;
use self::kind::{Kind, Pins, Store};
use self::order::{Done, hear, say};
use self::process::{GeneratorProcess, Running, Server};
use self::redis::Redis;
use self::report::{Measured, Report};
use self::run::Run;
use self::scenario::{Figure, Scenario};

/// Open files that are not sessions.
const FILES_SPARE: u64 = 128;
/// The maximum number of sessions with one server: each needs a port.
const SESSIONS_MAX: u32 = 28_000;
/// The maximum number of hubs.
const HUBS_MAX: u32 = 16;

/// The options of the command.
#[derive(Debug, Args)]
pub struct Options {
    /// The scenarios to measure; default: all but churn, which takes ten minutes for each server,
    /// pairs, which is for several hubs, and lists and twins, which compare the hub with itself.
    scenarios: Vec<Scenario>,
    /// The number of sessions; default: the scenario's own number.
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..=i64::from(SESSIONS_MAX * HUBS_MAX)))]
    sessions: Option<u32>,
    /// The hub's stores; default: embedded, and also memory where the store matters. `redis` needs
    /// redis-server.
    #[arg(long, value_delimiter = ',')]
    store: Vec<Store>,
    /// The number of hubs over one Redis.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(HUBS_MAX)))]
    hubs: u32,
    /// The server to measure.
    #[arg(long, default_value = "both")]
    server: Servers,
    /// The number of runs of each scenario and server; the table shows medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// The number of generator processes; default: as many as the limit on open files requires.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
    processes: Option<u32>,
    /// The duration of mesh, pings and churn in seconds; default: 15, 40 and 600.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// The number of single changes in fanout; away takes a tenth as many turns of each kind.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// The processors of the server and of the generators; default: the first and the second.
    #[arg(long, value_delimiter = ',', num_args = 1.., value_name = "SERVER,GENERATORS")]
    cpus: Vec<usize>,
    /// Measures another build of the hub.
    #[arg(long, value_name = "FILE")]
    hub: Option<PathBuf>,
    /// Also counts the write calls of fanout, with strace, which must be installed.
    #[arg(long)]
    write_calls: bool,
    /// Writes the figures of every run to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A part of the benchmark that runs in its own process.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Part {
    /// The server that the hub is compared with.
    Floor,
    /// Clients that follow orders from standard input.
    Generator,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Servers {
    Both,
    Hub,
    Floor,
}

/// Runs a part until its input ends or it is killed.
///
/// # Errors
///
/// If a system call fails.
pub fn run_part(part: Part) -> io::Result<()> {
    match part {
        Part::Floor => floor::run(),
        Part::Generator => {
            machine::raise_open_files();
            let (mut orders, mut answers) = (io::stdin().lock(), io::stdout().lock());
            let mut generator = Generator::new()?;
            while let Some(order) = hear(&mut orders)? {
                let fault =
                    |error: io::Error| Done { fault: Some(error.to_string()), ..Done::default() };
                say(&mut answers, &generator.obey(order).unwrap_or_else(fault))?;
            }
            Ok(())
        }
    }
}

/// Measures and writes the table; if a run fails, the table of the runs before it.
///
/// # Errors
///
/// If a delivery is missing, or a server or generator fails.
pub fn run(options: &Options, out: &mut impl Write) -> io::Result<()> {
    if !cfg!(target_os = "linux") {
        return Err(io::Error::other("the benchmark runs only on Linux, because it reads /proc"));
    }
    let plan = options.plan()?;
    let running = Running::default();
    end_at_a_signal(running.clone())?;
    let mut runs = Vec::new();
    let measured = options.measure_all(&plan, &running, &mut runs);
    let report = Report::new(options.hub.as_deref(), runs);
    if let Some(file) = &options.json {
        fs::write(file, serde_json::to_vec_pretty(&report)?)?;
    }
    out.write_all(report.table().as_bytes())?;
    if running.was_interrupted() {
        return Err(io::Error::other("interrupted"));
    }
    measured
}

impl Options {
    /// The runs, in order. Hub and floor alternate, so that changes of the machine's speed affect both.
    fn plan(&self) -> io::Result<Vec<(Scenario, Kind)>> {
        use ValueEnum as _;
        let all = Scenario::value_variants().iter().copied();
        let scenarios: Vec<_> = if self.scenarios.is_empty() {
            all.filter(|scenario| scenario.is_default()).collect()
        } else {
            self.scenarios.clone()
        };
        let mut plan = Vec::new();
        for scenario in scenarios {
            let mut kinds = Vec::new();
            if self.server != Servers::Floor {
                let default: &[_] = match scenario.is_of_the_store() {
                    true => &[Store::Embedded, Store::Memory],
                    false => &[Store::Embedded],
                };
                let stores = if self.store.is_empty() { default } else { &self.store };
                kinds.extend(stores.iter().copied().map(Kind::Hub));
            }
            if self.server != Servers::Hub && scenario.has_floor() {
                kinds.push(Kind::Floor);
            }
            // One churn takes ten minutes and shows the trend; it is not repeated.
            let repeat = if scenario == Scenario::Churn { 1 } else { self.repeat };
            for _ in 0..repeat {
                plan.extend(kinds.iter().map(|kind| (scenario, *kind)));
            }
        }
        if plan.is_empty() {
            return Err(io::Error::other("the floor supports none of these scenarios"));
        }
        if self.hubs > 1 && !self.store.contains(&Store::Redis) {
            return Err(io::Error::other("--hubs: several hubs need `--store redis`"));
        }
        Ok(plan)
    }

    fn pins(&self) -> io::Result<Pins> {
        let cpus = machine::cpus();
        match (&self.cpus[..], &cpus[..]) {
            ([server, generator], _) => {
                if [server, generator].into_iter().all(|cpu| cpus.contains(cpu)) {
                    Ok(Pins { server: Some(*server), generator: Some(*generator) })
                } else {
                    Err(io::Error::other(format!("--cpus: expected two of {cpus:?}")))
                }
            }
            ([], [server, generator, ..]) => {
                Ok(Pins { server: Some(*server), generator: Some(*generator) })
            }
            ([], _) => {
                let note = "only one processor is available: servers and generators share it";
                writeln!(io::stderr(), "{note}")?;
                Ok(Pins { server: None, generator: None })
            }
            _ => Err(io::Error::other(
                "--cpus: expected two processors: the server's and the generators'",
            )),
        }
    }

    /// Measures all runs, one after another.
    fn measure_all(
        &self,
        plan: &[(Scenario, Kind)],
        running: &Running,
        runs: &mut Vec<Measured>,
    ) -> io::Result<()> {
        let pins = self.pins()?;
        let hub = self.hub.clone().map_or_else(std::env::current_exe, Ok)?;
        let progress = progress(plan.len() as u64);
        for (scenario, kind) in plan.iter().copied() {
            progress.set_message(format!("{scenario}, {kind}"));
            let sessions = self.sessions.unwrap_or(scenario.sessions());
            let hubs = self.hubs_of(kind);
            let figures = self.measure((scenario, kind), sessions, &hub, &pins, running);
            let figures = figures.map_err(|error| {
                io::Error::other(format!("{scenario}, {sessions} sessions, {kind}: {error}"))
            })?;
            runs.push(Measured { scenario, sessions, hubs, kind, figures });
            progress.inc(1);
        }
        progress.finish_and_clear();
        Ok(())
    }

    /// How many servers of a kind are started.
    fn hubs_of(&self, kind: Kind) -> u32 {
        if kind == Kind::Hub(Store::Redis) { self.hubs } else { 1 }
    }

    fn measure(
        &self,
        (scenario, kind): (Scenario, Kind),
        sessions: u32,
        hub: &Path,
        pins: &Pins,
        running: &Running,
    ) -> io::Result<Vec<Figure>> {
        let files = machine::raise_open_files().saturating_sub(FILES_SPARE);
        let (open, hubs) = (u64::from(scenario.open(sessions)), self.hubs_of(kind));
        let of_hub = open.div_ceil(u64::from(hubs));
        if of_hub > files {
            let message =
                format!("the limit on open files allows {files} sessions: raise it with ulimit -n");
            return Err(io::Error::other(message));
        }
        if of_hub > u64::from(SESSIONS_MAX) {
            let message = format!("more than {SESSIONS_MAX} sessions need more hubs: `--hubs`");
            return Err(io::Error::other(message));
        }
        // Dropped after the servers.
        let redis =
            (kind == Kind::Hub(Store::Redis)).then(|| Redis::start(pins, running)).transpose()?;
        let url = redis.as_ref().map(|redis| &*redis.url);
        let servers = (0..hubs).map(|_| Server::start(kind, hub, url, pins, running));
        let servers = servers.collect::<io::Result<Vec<_>>>()?;
        let processes = self.processes.map_or_else(|| open.div_ceil(files.max(1)), u64::from);
        let workers = (0..processes).map(|_| GeneratorProcess::start(pins, running));
        let mut workers = workers.collect::<io::Result<Vec<_>>>()?;
        let run = Run {
            scenario,
            servers: &servers,
            redis: redis.as_ref(),
            workers: &mut workers,
            sessions,
            seconds: self.seconds,
            rounds: self.rounds,
            counts_writes: self.write_calls,
            received: 0,
            figures: Vec::new(),
        };
        run.measure()
    }
}

/// Kills all child processes at a signal, so that the measurement fails and cleans up.
fn end_at_a_signal(running: Running) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let guard = runtime.enter();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    drop(guard);
    let wait = async move {
        tokio::select! {
            _ = terminate.recv() => (),
            _ = interrupt.recv() => (),
            _ = hangup.recv() => (),
        }
        running.interrupt();
    };
    std::thread::Builder::new().name("signals".into()).spawn(move || runtime.block_on(wait))?;
    Ok(())
}

/// A progress bar; hidden unless standard error is a terminal.
fn progress(runs: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} ({elapsed}, about {eta} more)");
    ProgressBar::new(runs).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
