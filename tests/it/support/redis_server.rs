//! Runs a redis-server for a test.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use presence_hub::clock::Clock;
use presence_hub::store::{RedisSettings, RedisStore, Retention};
use redis::{Client, Connection, FromRedisValue};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::time::SOON;

/// How often another port is tried, if another process has taken the free one.
const ATTEMPTS: u32 = 5;

/// A redis-server in a temporary directory. Dropping it kills the process.
pub(crate) struct RedisServer {
    child: Child,
    port: u16,
    directory: TempDir,
    /// Further arguments, such as `--appendonly yes`.
    arguments: Vec<String>,
}

impl RedisServer {
    /// Starts a server that saves nothing.
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// Starts a server with further arguments.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        let arguments: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        for _ in 0..ATTEMPTS {
            let (port, directory) = (free_port(), TempDir::new().expect("a directory"));
            let child = spawn(port, &directory, &arguments);
            let mut server = Self { child, port, directory, arguments: arguments.clone() };
            if server.answers() {
                return server;
            }
        }
        panic!("redis-server did not start on {ATTEMPTS} ports");
    }

    /// Starts one server of a Redis Cluster that has no slots yet, with the port of its cluster bus.
    pub(crate) fn cluster_node() -> (Self, u16) {
        let bus = free_port();
        let port = bus.to_string();
        let arguments = ["--cluster-enabled", "yes", "--cluster-port", &port];
        // A replica stands in for its primary after about 4 s, however long it was cut off.
        let fails_over =
            ["--cluster-node-timeout", "2000", "--cluster-replica-validity-factor", "0"];
        (Self::with(&[&arguments[..], &fails_over].concat()), bus)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn settings(&self) -> RedisSettings {
        RedisSettings {
            urls: vec![self.url()],
            partitions: 64,
            timeout: Duration::from_secs(1),
            log_bytes: 1 << 30,
            key_prefix: "test".to_owned(),
            // Signs of life in tests are often of another time.
            max_clock_skew: Duration::ZERO,
        }
    }

    /// Opens a store over this server, for one node.
    pub(crate) async fn open(&self, retention: Retention) -> RedisStore {
        let store = RedisStore::open(self.settings(), retention, &Clock::system()).await;
        store.unwrap_or_else(|fault| panic!("{fault}"))
    }

    pub(crate) fn connection(&self) -> Connection {
        let client = Client::open(self.url()).expect("a URL");
        client.get_connection().expect("a connection")
    }

    /// Sends a command, such as `CONFIG SET maxmemory 1`.
    pub(crate) fn run<T: FromRedisValue>(&self, command: &str) -> T {
        let mut words = command.split(' ');
        let mut request = redis::cmd(words.next().expect("a command"));
        request.arg(words.collect::<Vec<_>>());
        request.query(&mut self.connection()).unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the server to be there");
    }

    /// Kills the server.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("the server to be there");
        self.child.wait().expect("the server to end");
    }

    /// Starts the server again, on the same port and in the same directory.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.port, &self.directory, &self.arguments);
        assert!(self.answers(), "redis-server did not start again");
    }

    /// Waits until the server answers; returns false if it has ended.
    fn answers(&mut self) -> bool {
        let client = Client::open(self.url()).expect("a URL");
        let pause = Duration::from_millis(10);
        for _ in 0..SOON.as_millis() / pause.as_millis() {
            if self.child.try_wait().expect("a child").is_some() {
                return false;
            }
            let answer = client
                .get_connection()
                .and_then(|mut c| redis::cmd("PING").query::<String>(&mut c));
            // A server that asks for a password answers, too.
            if answer.is_ok() || answer.is_err_and(|error| !error.is_io_error()) {
                return true;
            }
            std::thread::sleep(pause);
        }
        panic!("redis-server does not answer");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

fn spawn(port: u16, directory: &TempDir, arguments: &[String]) -> Child {
    let mut command = Command::new("redis-server");
    command.args([
        "--port",
        &port.to_string(),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        // A replica gets the data at once.
        "--repl-diskless-sync-delay",
        "0",
    ]);
    command.arg("--dir").arg(directory.path()).args(arguments);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    child.unwrap_or_else(|error| {
        let hint = if error.kind() == ErrorKind::NotFound {
            "; these tests need redis-server 7: install it, for example with `apt-get install redis-server`"
        } else {
            ""
        };
        panic!("cannot start redis-server: {error}{hint}")
    })
}
