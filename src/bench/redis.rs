//! The Redis of a measurement: a `redis-server` of its own, and what the hubs cost it.

use std::io;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use redis::{Client, Connection, FromRedisValue, RedisResult};

use super::kind::Pins;
use super::machine;
use super::process::{KillOnDrop, Running, Server};
use crate::temporary::TemporaryDirectory;

/// How often the server is asked whether it has started, and how many times.
const PAUSE: Duration = Duration::from_millis(20);
const ATTEMPTS: u32 = 500;

/// A `redis-server` that writes an append-only file, as it should in production.
pub(super) struct Redis {
    // Dropped in this order: the server must end before its directory is removed.
    process: KillOnDrop,
    pub(super) url: String,
    _directory: TemporaryDirectory,
}

impl Redis {
    /// Starts it on the processor of the generators.
    pub(super) fn start(pins: &Pins, running: &Running) -> io::Result<Self> {
        let directory = TemporaryDirectory::new()?;
        // Free for the moment; if another process takes it, redis-server does not start.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--dir"]);
        command.arg(directory.path()).args(["--appendonly", "yes", "--maxclients", "1000"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = KillOnDrop::start(&mut command, pins.generator, running)
            .map_err(|error| io::Error::other(format!("cannot run redis-server: {error}")))?;
        let redis =
            Self { process, url: format!("redis://127.0.0.1:{port}"), _directory: directory };
        for _ in 0..ATTEMPTS {
            let answer = redis.connect().and_then(|mut open| ask::<String>(&mut open, "PING"));
            if answer.is_ok() {
                return Ok(redis);
            }
            sleep(PAUSE);
        }
        Err(io::Error::other("redis-server does not answer"))
    }

    fn connect(&self) -> RedisResult<Connection> {
        Client::open(self.url.as_str())?.get_connection()
    }

    /// What it has done so far for these hubs.
    pub(super) fn counts(&self, hubs: &[Server]) -> io::Result<RedisCounts> {
        let mut commands = 0.0;
        for hub in hubs {
            commands += number(&hub.metrics()?, "presence_hub_redis_commands_total ")?;
        }
        let stats: String = self
            .connect()
            .and_then(|mut open| ask(&mut open, "INFO stats"))
            .map_err(|error| failed(&error))?;
        Ok(RedisCounts {
            commands,
            bytes: number(&stats, "total_net_input_bytes:")?,
            cpu: machine::cpu_time(self.process.id()),
        })
    }

    /// The memory of its data without the log, in bytes.
    pub(super) fn memory_without_log(&self) -> io::Result<f64> {
        let measure = || -> RedisResult<(String, f64)> {
            let mut open = self.connect()?;
            let memory: String = ask(&mut open, "INFO memory")?;
            let logs: Vec<String> = ask(&mut open, "KEYS *}log")?;
            let mut bytes = 0.0;
            for log in logs {
                let mut usage = redis::cmd("MEMORY");
                usage.arg("USAGE").arg(log).arg("SAMPLES").arg(0);
                bytes += usage.query::<f64>(&mut open)?;
            }
            Ok((memory, bytes))
        };
        let (memory, logs) = measure().map_err(|error| failed(&error))?;
        Ok(number(&memory, "used_memory:")? - logs)
    }
}

/// What the hubs have cost Redis.
pub(super) struct RedisCounts {
    /// The commands that hubs sent.
    pub(super) commands: f64,
    /// The bytes that it received.
    pub(super) bytes: f64,
    /// Its processor time.
    pub(super) cpu: Duration,
}

fn ask<T: FromRedisValue>(open: &mut Connection, command: &str) -> RedisResult<T> {
    let mut words = command.split(' ');
    let mut request = redis::cmd(words.next().unwrap_or_default());
    words.for_each(|word| {
        request.arg(word);
    });
    request.query(open)
}

fn failed(error: &redis::RedisError) -> io::Error {
    io::Error::other(format!("redis-server: {error}"))
}

/// The number after a name at the beginning of a line.
fn number(text: &str, name: &str) -> io::Result<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let value = value.and_then(|value| value.trim().parse().ok());
    value.ok_or_else(|| io::Error::other(format!("`{name}` is missing")))
}
