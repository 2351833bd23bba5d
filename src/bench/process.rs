//! Starts and ends the processes of a measurement: servers and generators.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

use super::kind::{Kind, Pins, Store};
use super::machine;
use super::order::{Done, Order, ServerUnderLoad, hear, say};
use crate::temporary::TemporaryDirectory;

const SECRET: &str = "a secret that only the benchmark uses";
const API_KEY: &str = "a key of the benchmark";
/// The number of log lines in the error if a server does not start.
const LOG_LINES_SHOWN: usize = 10;

/// The running child processes, so that a signal can end them.
#[derive(Debug, Clone, Default)]
pub(super) struct Running(Arc<Mutex<ProcessList>>);

#[derive(Debug, Default)]
struct ProcessList {
    processes: Vec<u32>,
    was_interrupted: bool,
}

impl Running {
    /// Kills all processes, and every one started later, so that the measurement fails and cleans up.
    pub(super) fn interrupt(&self) {
        let mut state = self.0.lock();
        state.was_interrupted = true;
        for process in &state.processes {
            end(*process);
        }
    }

    pub(super) fn was_interrupted(&self) -> bool {
        self.0.lock().was_interrupted
    }
}

fn end(process: u32) {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    pid.map(|pid| kill_process(pid, Signal::KILL));
}

/// A child process that is killed when it is dropped.
pub(super) struct KillOnDrop {
    child: Child,
    running: Running,
}

impl KillOnDrop {
    pub(super) fn start(
        command: &mut Command,
        cpu: Option<usize>,
        running: &Running,
    ) -> io::Result<Self> {
        let mine = machine::cpus();
        // A child inherits the processors of the thread that starts it.
        if let Some(cpu) = cpu {
            machine::pin(&[cpu])?;
        }
        let child = command.spawn();
        machine::pin(&mine)?;
        let child = child?;
        let started = Self { child, running: running.clone() };
        let mut state = running.0.lock();
        state.processes.push(started.child.id());
        if state.was_interrupted {
            end(started.child.id());
        }
        drop(state);
        Ok(started)
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let process = self.child.id();
        self.child.kill().ok();
        self.child.wait().ok();
        self.running.0.lock().processes.retain(|running| *running != process);
    }
}

/// A server under load, with its own temporary directory.
pub(super) struct Server {
    // Dropped in this order: the server must end before its directory is removed.
    process: KillOnDrop,
    pub(super) target: ServerUnderLoad,
    _directory: TemporaryDirectory,
}

impl Server {
    pub(super) fn start(
        kind: Kind,
        hub: &Path,
        redis_url: Option<&str>,
        pins: &Pins,
        running: &Running,
    ) -> io::Result<Self> {
        let directory = TemporaryDirectory::new()?;
        let log = directory.path().join("log");
        let mut command = match kind {
            Kind::Floor => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["bench-part", "floor"]);
                command
            }
            Kind::Hub(store) => {
                let file = directory.path().join("config.toml");
                fs::write(&file, config(store, redis_url, directory.path()))?;
                let mut command = Command::new(hub);
                command.args(["serve", "--config"]).arg(file);
                command
            }
        };
        let inherited = std::env::vars_os().map(|(name, _)| name);
        for name in inherited.filter(|name| name.to_string_lossy().starts_with("PRESENCE_HUB")) {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(fs::File::create(&log)?);
        let mut process = KillOnDrop::start(&mut command, pins.server, running)?;
        let mut greeting = String::new();
        if let Some(said) = process.child.stdout.take() {
            BufReader::new(said).read_line(&mut greeting)?;
        }
        let address =
            greeting.trim().rsplit_once("://").and_then(|(_, address)| address.parse().ok());
        let address = address.ok_or_else(|| {
            let log = fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n");
            io::Error::other(format!("{kind} did not start:\n{last}"))
        })?;
        let secret = matches!(kind, Kind::Hub(_)).then(|| SECRET.to_owned());
        let target = ServerUnderLoad { address, secret, api_key: API_KEY.into() };
        Ok(Self { process, target, _directory: directory })
    }

    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Reads the hub's `/metrics`.
    pub(super) fn metrics(&self) -> io::Result<String> {
        let mut stream = TcpStream::connect(self.target.address)?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: hub\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

/// The default configuration without the limits that this load would reach from one address.
fn config(store: Store, redis_url: Option<&str>, directory: &Path) -> String {
    let redis = redis_url.map(|url| format!("redis_url = {url:?}\n")).unwrap_or_default();
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nproduction = true\nmax_connections = 100000\n\
         [auth]\nsecret = {SECRET:?}\napi_keys = [{API_KEY:?}]\n\
         [limits]\nmessages_per_second = 1000000\nmessage_burst = 1000000\n\
         work_per_second = 1000000000\nwork_burst = 1000000000\n\
         requests_per_key_per_second = 1000000000\nrequest_burst = 1000000000\n\
         changes_per_user_per_minute = 1000000\n\
         lookups_per_user_per_minute = 1000000\nlookups_burst = 1000000\n\
         [store]\nkind = \"{store}\"\n{redis}path = {:?}\n",
        directory.join("data")
    )
}

/// A generator in a process of its own.
pub(super) struct GeneratorProcess {
    process: KillOnDrop,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl GeneratorProcess {
    pub(super) fn start(pins: &Pins, running: &Running) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench-part", "generator"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = KillOnDrop::start(&mut command, pins.generator, running)?;
        let pipes = process.child.stdin.take().zip(process.child.stdout.take());
        let (orders, answers) =
            pipes.ok_or_else(|| io::Error::other("the generator has no pipes"))?;
        Ok(Self { process, orders, answers: BufReader::new(answers) })
    }

    pub(super) fn order(&mut self, order: &Order) -> io::Result<()> {
        say(&mut self.orders, order)
    }

    pub(super) fn answer(&mut self) -> io::Result<Done> {
        hear(&mut self.answers)?.ok_or_else(|| io::Error::other("a generator process ended"))
    }

    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }
}
