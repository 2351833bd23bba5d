//! `presence-hub bench`: what the hub costs, beside a server that does the least there is to do.
//!
//! ```text
//!   bench ─┬─▶ server, on one processor:  the hub, or the floor
//!          └─▶ generators, on another:    orders in, what came out ─▶ figures ─▶ medians, ratios
//! ```
//!
//! Nothing of it is in the hub's paths.

mod floor;
mod frame;
mod generator;
mod kind;
mod machine;
mod order;
mod process;
mod report;
mod scenario;
mod tokens;
mod write_calls;

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};

use self::generator::Generator;
use self::kind::{Kind, Pins, Store};
use self::order::{Done, hear, say};
use self::process::{Running, Server, Worker};
use self::report::{Measured, Report};
use self::scenario::{Figure, Run, Scenario};

/// Open files that are not sessions.
const FILES_SPARE: u64 = 128;
/// The most sessions that one server can have from one address: a port each.
const SESSIONS_MAX: u32 = 28_000;

/// What to measure, and how.
#[derive(Debug, Args)]
pub struct Options {
    /// What to measure; else everything but churn, which takes ten minutes for each server.
    scenarios: Vec<Scenario>,
    /// How many sessions there are; else what each scenario is defined with.
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..=i64::from(SESSIONS_MAX)))]
    sessions: Option<u32>,
    /// The hub's store; else the embedded one, and the other too where the store matters.
    #[arg(long)]
    store: Option<Store>,
    /// Which server to measure.
    #[arg(long, default_value = "both")]
    server: Which,
    /// How often each is measured, in turn; medians are shown.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// How many processes generate load; else as many as the limit on open files asks for.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
    processes: Option<u32>,
    /// For how long mesh, pings and churn go on; else 15, 40 and 600.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// How many changes are fanned out singly.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// The processors of the server and of the generators; else the first and the second.
    #[arg(long, value_delimiter = ',', num_args = 1.., value_name = "SERVER,GENERATORS")]
    cpus: Vec<usize>,
    /// Another build of the hub to measure.
    #[arg(long, value_name = "FILE")]
    hub: Option<PathBuf>,
    /// Counts the write calls of a fan-out, too: with strace, which must be installed.
    #[arg(long)]
    write_calls: bool,
    /// Writes every run's figures to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A part of a benchmark, in a process of its own.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Part {
    /// The server that the hub is compared with.
    Floor,
    /// Clients, as ordered on standard input.
    Generator,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    Both,
    Hub,
    Floor,
}

/// Does a part's work, until its input ends or it is ended.
///
/// # Errors
///
/// The kernel's.
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

/// Measures, and writes the table: of what was measured until then, where something fails.
///
/// # Errors
///
/// Where something that was due did not come, or a server or generator failed.
pub fn run(options: &Options, out: &mut impl Write) -> io::Result<()> {
    if !cfg!(target_os = "linux") {
        return Err(io::Error::other("the benchmark reads /proc: it runs on Linux"));
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
    /// What is run, in order: hub and floor in turn, so that a machine's moods meet both.
    fn plan(&self) -> io::Result<Vec<(Scenario, Kind)>> {
        use ValueEnum as _;
        let all = Scenario::value_variants().iter().copied();
        let scenarios: Vec<_> = if self.scenarios.is_empty() {
            all.filter(|scenario| *scenario != Scenario::Churn).collect()
        } else {
            self.scenarios.clone()
        };
        let mut plan = Vec::new();
        for scenario in scenarios {
            let mut kinds = Vec::new();
            if self.server != Which::Floor {
                kinds.push(Kind::Hub(self.store.unwrap_or(Store::Embedded)));
                if self.store.is_none() && scenario.is_of_the_store() {
                    kinds.push(Kind::Hub(Store::Memory));
                }
            }
            if self.server != Which::Hub && scenario.has_floor() {
                kinds.push(Kind::Floor);
            }
            // Ten minutes say what there is to say.
            let repeat = if scenario == Scenario::Churn { 1 } else { self.repeat };
            for _ in 0..repeat {
                plan.extend(kinds.iter().map(|kind| (scenario, *kind)));
            }
        }
        if plan.is_empty() {
            return Err(io::Error::other("the floor can do none of these scenarios"));
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
                    Err(io::Error::other(format!("--cpus: these may be used: {cpus:?}")))
                }
            }
            ([], [server, generator, ..]) => {
                Ok(Pins { server: Some(*server), generator: Some(*generator) })
            }
            ([], _) => {
                let note = "there is one processor: servers and generators share it";
                writeln!(io::stderr(), "{note}")?;
                Ok(Pins { server: None, generator: None })
            }
            _ => Err(io::Error::other("--cpus wants two: that of servers, that of generators")),
        }
    }

    /// Measures one after the other.
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
            let server = || Server::start(kind, &hub, &pins, running);
            let figures = self.measure(scenario, sessions, server, &pins, running);
            let figures = figures.map_err(|error| {
                io::Error::other(format!("{scenario}, {sessions} sessions, {kind}: {error}"))
            })?;
            runs.push(Measured { scenario, sessions, kind, figures });
            progress.inc(1);
        }
        progress.finish_and_clear();
        Ok(())
    }

    fn measure(
        &self,
        scenario: Scenario,
        sessions: u32,
        server: impl Fn() -> io::Result<Server>,
        pins: &Pins,
        running: &Running,
    ) -> io::Result<Vec<Figure>> {
        let files = machine::raise_open_files().saturating_sub(FILES_SPARE);
        let open = u64::from(scenario.open(sessions));
        if open > files {
            let message = format!("a server may have {files} sessions: ulimit -n allows no more");
            return Err(io::Error::other(message));
        }
        let server = server()?;
        let processes = self.processes.map_or_else(|| open.div_ceil(files.max(1)), u64::from);
        let workers = (0..processes).map(|_| Worker::start(pins, running));
        let mut workers = workers.collect::<io::Result<Vec<_>>>()?;
        let run = Run {
            scenario,
            server: &server,
            workers: &mut workers,
            sessions,
            seconds: self.seconds,
            rounds: self.rounds,
            counts_writes: self.write_calls,
            figures: Vec::new(),
        };
        run.measure()
    }
}

/// Ends all children at a signal, so that whoever waits for them fails, and cleans up.
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

/// Shows how far it is, where somebody looks.
fn progress(runs: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} ({elapsed}, about {eta} more)");
    ProgressBar::new(runs).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
