//! The hub of a simulation: a process of its own in development mode, on a free port of this machine.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use toml::Table;
use url::Url;

use super::fault::{Fault, other};
use super::scenario::Scenario;
use crate::config::{Config, DevelopmentKeys, load};
use crate::outgoing::{Answer, Outgoing};
use crate::presence::Timestamp;
use crate::temporary::TemporaryDirectory;

/// The settings that a simulation needs itself.
const OWN: [&str; 16] = [
    "server.production",
    "server.listen",
    "server.admin_listen",
    "server.plain_listen",
    "server.tls_certificate",
    "server.tls_key",
    "auth.algorithm",
    "auth.secret",
    "auth.secrets",
    "auth.public_key",
    "auth.public_keys",
    "auth.jwks_url",
    "store.path",
    "store.redis_url",
    "webhook.url",
    "webhooks",
];
/// The longest time for an answer. A move of the clock waits for webhooks.
const ANSWER_MAX: Duration = Duration::from_secs(120);
/// How long the hub may take to stop.
const STOP_MAX: Duration = Duration::from_secs(30);
/// The interval at which it is checked whether it has stopped.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// The number of log lines in the error if the hub does not start.
const LOG_LINES_SHOWN: usize = 10;
/// The retention of the log: a simulation reads it after each step, which may take a year.
const LOG_TTL: &str = "3650d";

/// The hub of a simulation. It is killed when it is dropped.
pub(super) struct Hub {
    // Dropped in this order: the hub must end before its directory is removed.
    process: Process,
    pub(super) address: SocketAddr,
    pub(super) config: Config,
    keys: DevelopmentKeys,
    client: Outgoing,
    directory: TemporaryDirectory,
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Hub {
    /// Starts a hub with the settings of a scenario, which posts its webhooks to `receiver`.
    pub(super) async fn start(scenario: &Scenario, receiver: SocketAddr) -> Result<Self, Fault> {
        let directory = TemporaryDirectory::new();
        let directory = directory.map_err(|error| other("temporary directory", &error))?;
        let config = configure(scenario, receiver, directory.path())?;
        let client = Outgoing::new(true).map_err(|error| other("HTTP client", &error))?;
        let (process, address) = start(directory.path()).await?;
        let keys = DevelopmentKeys::in_directory(&config.store.path);
        let keys = keys.map_err(|(file, error)| other(&file, &error))?;
        Ok(Self { process, address, config, keys, client, directory })
    }

    /// Stops the hub with a signal, and starts it again.
    pub(super) async fn restart(&mut self, signal: Signal) -> Result<(), Fault> {
        let child = &mut self.process.0;
        kill_process(Pid::from_child(child), signal)
            .map_err(|error| other("cannot stop the hub", &error))?;
        let ended = async {
            while child.try_wait().is_ok_and(|status| status.is_none()) {
                sleep(LOOK_EVERY).await;
            }
        };
        let late = |_| Fault::Other(format!("the hub has not stopped within {STOP_MAX:?}"));
        timeout(STOP_MAX, ended).await.map_err(late)?;
        (self.process, self.address) = start(self.directory.path()).await?;
        Ok(())
    }

    /// Moves the hub's clock; returns what time it is then.
    pub(super) async fn advance(&self, by: Duration) -> Result<Timestamp, Fault> {
        #[derive(serde::Deserialize)]
        struct Moved {
            now: Timestamp,
        }
        let body = json!({ "advance": format!("{}ms", by.as_millis()) });
        let moved: Moved = self.development("clock", &body).await?;
        Ok(moved.now)
    }

    /// Calls a development call.
    pub(super) async fn development<T: DeserializeOwned>(
        &self,
        call: &str,
        body: &Value,
    ) -> Result<T, Fault> {
        self.post(&format!("dev/{call}"), ("x-dev-key", self.keys.dev_key.clone()), body).await
    }

    /// Posts to the server API.
    pub(super) async fn call(&self, path: &str, body: &Value) -> Result<Value, Fault> {
        let bearer = format!("Bearer {}", self.keys.admin_key);
        self.post(path, ("authorization", bearer), body).await
    }

    /// Gets from the server API.
    pub(super) async fn get(&self, path: &str) -> Result<Value, Fault> {
        let url = self.url(path)?;
        let answer = timeout(ANSWER_MAX, self.client.get_with_key(&url, &self.keys.admin_key));
        read(path, answer.await).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        key: (&str, String),
        body: &Value,
    ) -> Result<T, Fault> {
        let url = self.url(path)?;
        let headers = [key];
        let answer = self.client.post(&url, &headers, body.to_string().into());
        read(path, timeout(ANSWER_MAX, answer).await).await
    }

    fn url(&self, path: &str) -> Result<Url, Fault> {
        let url = format!("http://{}/{path}", self.address);
        url.parse().map_err(|error| other(path, &error))
    }
}

/// Reads an answer of the hub.
async fn read<T: DeserializeOwned>(
    path: &str,
    answer: Result<Result<Answer, crate::outgoing::Fault>, tokio::time::error::Elapsed>,
) -> Result<T, Fault> {
    let late = |_| Fault::Other(format!("/{path}: no answer within {ANSWER_MAX:?}"));
    let mut answer = answer.map_err(late)?.map_err(|error| other(path, &error))?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| other(path, &error))? {
        body.extend_from_slice(&chunk);
    }
    if !answer.status().is_success() {
        let body = String::from_utf8_lossy(&body);
        return Err(Fault::Other(format!("/{path}: status {}: {body}", answer.status())));
    }
    serde_json::from_slice(&body).map_err(|error| other(path, &error))
}

/// Writes the configuration of the hub, and checks it.
fn configure(scenario: &Scenario, receiver: SocketAddr, directory: &Path) -> Result<Config, Fault> {
    let mut settings = scenario.hub.clone();
    for key in OWN {
        if is_set(&settings, key) {
            let place = scenario.place(key);
            let message = format!("{place}: hub.{key}: a simulation sets it itself: leave it out");
            return Err(Fault::Scenario(message));
        }
    }
    if text(&settings, "store", "kind") == Some("redis") {
        let place = scenario.place("store.kind");
        let message = "hub.store.kind: a simulation has one hub: use \"embedded\" or \"memory\"";
        return Err(Fault::Scenario(format!("{place}: {message}")));
    }
    let data = directory.join("data").display().to_string();
    put(&mut settings, "server", "listen", "127.0.0.1:0");
    put(&mut settings, "store", "path", data);
    put(&mut settings, "webhook", "url", format!("http://{receiver}/"));
    let is_native = text(&settings, "webhook", "format") != Some("tencent");
    if is_native && !is_set(&settings, "webhook.secrets") {
        let secret = format!("whsec_{}", BASE64_STANDARD.encode(rand::random::<[u8; 32]>()));
        put(&mut settings, "webhook", "secrets", vec![secret]);
    }
    if !is_set(&settings, "store.log_ttl") {
        put(&mut settings, "store", "log_ttl", LOG_TTL);
    }
    let file = directory.join("config.toml");
    let text = toml::to_string(&settings).map_err(|error| other("settings", &error))?;
    fs::write(&file, text).map_err(|error| other(&file.display().to_string(), &error))?;
    let loaded = load(Some(&file), &BTreeMap::new()).map_err(|faults| {
        let lines = faults.0.iter().map(|fault| {
            format!("{}: hub.{}: {}", scenario.place(&fault.key), fault.key, fault.message)
        });
        Fault::Scenario(lines.collect::<Vec<_>>().join("\n"))
    })?;
    Ok(loaded.config)
}

/// Whether a key is set. A section that is none is left to the check of the configuration.
fn is_set(settings: &Table, key: &str) -> bool {
    match key.split_once('.') {
        None => settings.contains_key(key),
        Some((section, key)) => {
            let section = settings.get(section).and_then(toml::Value::as_table);
            section.is_some_and(|section| section.contains_key(key))
        }
    }
}

fn text<'a>(settings: &'a Table, section: &str, key: &str) -> Option<&'a str> {
    settings.get(section)?.get(key)?.as_str()
}

fn put(settings: &mut Table, section: &str, key: &str, value: impl Into<toml::Value>) {
    let section = settings.entry(section).or_insert_with(|| Table::new().into());
    if let toml::Value::Table(section) = section {
        section.insert(key.into(), value.into());
    }
}

/// Starts the process, and waits until it listens.
async fn start(directory: &Path) -> Result<(Process, SocketAddr), Fault> {
    let log = directory.join("log");
    let started = spawn(directory, &log).map_err(|error| other("cannot start the hub", &error));
    let mut process = Process(started?);
    let said = process.0.stdout.take();
    let greeting = spawn_blocking(move || {
        let mut greeting = String::new();
        if let Some(said) = said {
            BufReader::new(said).read_line(&mut greeting)?;
        }
        Ok::<_, io::Error>(greeting)
    });
    let greeting = greeting.await.map_err(|error| other("the hub's greeting", &error))?;
    let greeting = greeting.map_err(|error| other("the hub's greeting", &error))?;
    let address = greeting.split("://").nth(1).and_then(|rest| rest.split_whitespace().next());
    let address = address.and_then(|address| address.parse().ok()).ok_or_else(|| {
        let log = fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n");
        Fault::Other(format!("the hub did not start:\n{last}"))
    })?;
    Ok((process, address))
}

fn spawn(directory: &Path, log: &Path) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["serve", "--config"]).arg(directory.join("config.toml"));
    let inherited = std::env::vars_os().map(|(name, _)| name);
    for name in inherited.filter(|name| name.to_string_lossy().starts_with("PRESENCE_HUB")) {
        command.env_remove(name);
    }
    let log = File::options().create(true).append(true).open(log)?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn()
}
