//! Runs the real binary for a test, with its log and calls of its server API.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::client_async;

use super::canary::Canary;
use super::client::Client;
use super::time::SOON;
use super::tokens::SECRET;

/// The key to the server API in tests.
pub(crate) const API_KEY: &str = "an-api-key-for-tests";
/// The webhook secret in tests.
pub(crate) const WEBHOOK_SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// A hub process in a temporary directory. Dropping it kills the process, and checks that its log has
/// none of its secrets.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) directory: TempDir,
    /// The greeting on standard output.
    pub(crate) greeting: String,
    canary: Canary,
}

impl Server {
    /// Starts a hub with settings such as `("liveness.web_silence", "2s")`.
    pub(crate) fn start(settings: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Self::of(spawn(directory.path(), settings), directory, settings)
    }

    /// Starts a hub with this `config.toml` in its working directory.
    pub(crate) fn with_file(file: &str, settings: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(directory.path().join("config.toml"), file).expect("to write");
        Self::of(spawn(directory.path(), settings), directory, settings)
    }

    /// Starts a hub through a command that executes it: `["unshare", "-m", …]`.
    pub(crate) fn under(wrapper: &[&str], settings: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Self::of(spawn_under(wrapper, directory.path(), settings), directory, settings)
    }

    fn of(
        (child, greeting): (Child, String),
        directory: TempDir,
        settings: &[(&str, &str)],
    ) -> Self {
        let address = address_in(&greeting);
        let mut server = Self { child, address, directory, greeting, canary: Canary::default() };
        server.plant(settings);
        server
    }

    fn plant(&mut self, settings: &[(&str, &str)]) {
        let own = [("auth.secret", SECRET), ("auth.api_keys", API_KEY)];
        self.canary.plant(&[&own, settings].concat(), self.directory.path());
    }

    /// Asserts that a text has none of the hub's secrets.
    #[track_caller]
    pub(crate) fn assert_hidden(&self, text: &str, what: &str) {
        self.canary.assert_hidden(text, what);
    }

    /// Kills the hub, and starts it again in the same directory.
    pub(crate) fn restart(&mut self, settings: &[(&str, &str)]) {
        self.child.kill().expect("the hub to be there");
        self.wait();
        self.restart_dead(settings);
    }

    /// Starts the hub again in the same directory, after it has exited.
    pub(crate) fn restart_dead(&mut self, settings: &[(&str, &str)]) {
        (self.child, self.greeting) = spawn(self.directory.path(), settings);
        self.address = address_in(&self.greeting);
        self.plant(settings);
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the hub to be there");
    }

    /// Blocks until the hub has exited.
    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        self.child.wait().expect("the hub to exit")
    }

    /// Waits until the hub has exited.
    pub(crate) async fn until_exit(&mut self) -> std::process::ExitStatus {
        let wait = async {
            loop {
                if let Some(status) = self.child.try_wait().expect("a child") {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(SOON, wait).await.expect("the hub to exit")
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).expect("the log")
    }

    /// A listening address, from the log line with these texts.
    pub(crate) async fn listening(&self, texts: &[&str]) -> SocketAddr {
        let line = self.until_logged(&[&["listening"], texts].concat()).await;
        let address = line.split("address=").nth(1).expect("an address");
        address.split(' ').next().and_then(|address| address.parse().ok()).expect("an address")
    }

    /// Waits for a log line with all of these texts; returns the line.
    pub(crate) async fn until_logged(&self, texts: &[&str]) -> String {
        let wait = async {
            loop {
                let log = self.log();
                // The last line may be incomplete.
                let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
                let found = whole.lines().find(|line| texts.iter().all(|t| line.contains(t)));
                if let Some(line) = found {
                    return line.to_owned();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(SOON, wait)
            .await
            .unwrap_or_else(|_| panic!("no line with {texts:?} in:\n{}", self.log()))
    }

    /// Calls the server API; returns the status and the body.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.http(method, path).bearer_auth(API_KEY);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("a body");
        self.assert_hidden(&text, path);
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// A request without a key.
    pub(crate) fn http(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        http(self.address, method, path)
    }

    /// A user's status with its terminals.
    pub(crate) async fn user(&self, user: &str) -> Value {
        let (status, body) = self.call("GET", &format!("/v1/users/{user}"), None).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    /// Waits until a user is in a state.
    pub(crate) async fn until_state(&self, user: &str, state: &str) -> Value {
        let wait = async {
            loop {
                let status = self.user(user).await;
                if status["state"] == state {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(SOON, wait).await.unwrap_or_else(|_| panic!("{user} never was {state}"))
    }

    /// Connects without logging in.
    pub(crate) async fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).await.expect("a connection");
        let url = format!("ws://{}/ws", self.address);
        let (socket, _) = client_async(url, stream).await.expect("an upgrade");
        Client::over(socket, SOON)
    }

    /// Connects and logs in, with the platform's name as the device.
    pub(crate) async fn login(&self, user: &str, platform: &str) -> (Client, Value) {
        let mut client = self.connect().await;
        let ok = client.login(user, platform, platform).await;
        (client, ok)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have exited already.
        self.child.kill().ok();
        self.child.wait().ok();
        if !std::thread::panicking() {
            // A reload may have brought new secrets.
            self.plant(&[]);
            let log = std::fs::read(self.directory.path().join("log")).unwrap_or_default();
            self.assert_hidden(&String::from_utf8_lossy(&log), "the log");
        }
    }
}

/// A request to an address. Redirects are not followed.
pub(crate) fn http(address: SocketAddr, method: &str, path: &str) -> reqwest::RequestBuilder {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let client =
        reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build();
    let method = method.parse().expect("a method");
    client.expect("a client").request(method, format!("http://{address}{path}"))
}

/// The hub's command in a directory, with settings as environment variables.
pub(crate) fn command(directory: &Path, settings: &[(&str, &str)]) -> Command {
    with_settings(Command::new(env!("CARGO_BIN_EXE_presence-hub")), directory, settings)
}

fn with_settings(mut command: Command, directory: &Path, settings: &[(&str, &str)]) -> Command {
    command.current_dir(directory).env_remove("PRESENCE_HUB_CONFIG");
    for (key, value) in settings {
        command.env(format!("PRESENCE_HUB__{}", key.replace('.', "__").to_uppercase()), value);
    }
    command
}

/// Starts the hub with the tests' settings and these; returns the process and its greeting.
fn spawn(directory: &Path, settings: &[(&str, &str)]) -> (Child, String) {
    spawn_under(&[], directory, settings)
}

fn spawn_under(wrapper: &[&str], directory: &Path, settings: &[(&str, &str)]) -> (Child, String) {
    let keys = format!("[\"{API_KEY}\"]");
    let own = [("server.listen", "127.0.0.1:0"), ("auth.secret", SECRET), ("auth.api_keys", &keys)];
    let mut options = std::fs::File::options();
    let log = options.create(true).append(true).open(directory.join("log")).expect("a log file");
    let settings = &[&own, settings].concat();
    let mut command = match wrapper {
        [] => command(directory, settings),
        [program, arguments @ ..] => {
            let mut wrapped = Command::new(program);
            wrapped.args(arguments).arg(env!("CARGO_BIN_EXE_presence-hub"));
            with_settings(wrapped, directory, settings)
        }
    };
    let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().expect("the hub to start");
    let mut output = BufReader::new(child.stdout.take().expect("its output"));
    let mut greeting = String::new();
    output.read_line(&mut greeting).expect("a greeting");
    if greeting.contains("development mode") {
        output.read_line(&mut greeting).expect("the dashboard's address");
        output.read_line(&mut greeting).expect("the demo's address");
    }
    (child, greeting)
}

fn address_in(greeting: &str) -> SocketAddr {
    let address = greeting.split("://").nth(1).expect("an address");
    let address = address.split_whitespace().next().and_then(|address| address.parse().ok());
    address.expect("an address")
}
