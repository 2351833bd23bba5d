//! What the tests from outside share: a hub of their own, and clients of it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use jsonwebtoken::{EncodingKey, Header, encode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, client_async};

/// What tokens are signed with in tests.
pub(crate) const SECRET: &str = "a secret of at least thirty-two bytes";
/// The key to the server API in tests.
pub(crate) const API_KEY: &str = "an-api-key-for-tests";
/// What webhooks are signed with in tests.
pub(crate) const WEBHOOK_SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
/// How long a busy machine may take for what happens at once.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A hub of one's own: the real binary in a directory that goes away with it.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) directory: TempDir,
    /// What it said on standard output when it had started.
    pub(crate) greeting: String,
}

impl Server {
    /// Starts a hub with settings over the tests' own: `("liveness.web_silence", "2s")`.
    pub(crate) fn start(settings: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (child, greeting) = spawn(directory.path(), settings);
        let address = address_in(&greeting);
        Self { child, address, directory, greeting }
    }

    /// Starts a hub that finds this `config.toml` where it runs.
    pub(crate) fn with_file(file: &str, settings: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(directory.path().join("config.toml"), file).expect("to write");
        let (child, greeting) = spawn(directory.path(), settings);
        let address = address_in(&greeting);
        Self { child, address, directory, greeting }
    }

    /// Starts a hub under another command, which becomes it: `["unshare", "-m", …]`.
    pub(crate) fn under(wrapper: &[&str], settings: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (child, greeting) = spawn_under(wrapper, directory.path(), settings);
        let address = address_in(&greeting);
        Self { child, address, directory, greeting }
    }

    /// Stops it by force, and starts it again in the same directory.
    pub(crate) fn restart(&mut self, settings: &[(&str, &str)]) {
        self.child.kill().expect("the hub to be there");
        self.wait();
        self.restart_dead(settings);
    }

    /// Starts it again in the same directory, where it is gone.
    pub(crate) fn restart_dead(&mut self, settings: &[(&str, &str)]) {
        (self.child, self.greeting) = spawn(self.directory.path(), settings);
        self.address = address_in(&self.greeting);
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the hub to be there");
    }

    /// Waits for it to exit by itself.
    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        self.child.wait().expect("the hub to exit")
    }

    /// Waits until it has exited by itself.
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

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).expect("the log")
    }

    /// Waits until it has logged a line with all of these texts; returns the line.
    pub(crate) async fn until_logged(&self, texts: &[&str]) -> String {
        let wait = async {
            loop {
                let log = self.log();
                // The last line may not be whole yet.
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
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// A request without a key.
    pub(crate) fn http(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        http(self.address, method, path)
    }

    /// A user's status with detail.
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

    /// Connects and logs in; the device's name is its platform's.
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
    }
}

/// A request to an address, which follows no redirect.
pub(crate) fn http(address: SocketAddr, method: &str, path: &str) -> reqwest::RequestBuilder {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let client =
        reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build();
    let method = method.parse().expect("a method");
    client.expect("a client").request(method, format!("http://{address}{path}"))
}

/// The hub's command in a directory, with settings by variables alone.
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

/// Runs the hub with settings over the tests' own; returns what it says when it has started.
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

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(3 * SOON, wait).await.unwrap_or_else(|_| panic!("{what} took too long"));
}

/// A token for a user that lives for an hour.
pub(crate) fn token(user: &str) -> String {
    token_with(json!({ "sub": user, "iat": now_secs(), "exp": now_secs() + 3600 }))
}

/// A token with these claims.
#[expect(clippy::needless_pass_by_value, reason = "claims are made on the spot")]
pub(crate) fn token_with(claims: Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    encode(&Header::default(), &claims, &key).expect("a token")
}

/// Seconds since the Unix epoch.
pub(crate) fn now_secs() -> u64 {
    now_millis() / 1000
}

/// Milliseconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "a client has a clock of its own")]
pub(crate) fn now_millis() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("a time after 1970").as_millis() as u64
}

/// Whether a time that the hub tells lies between then and `later_ms` from now, but for what the
/// clocks may be apart.
pub(crate) fn lies_between(at: &Value, since: u64, later_ms: u64) -> bool {
    const APART_MS: u64 = 100;
    let range = since - APART_MS..=now_millis() + later_ms + APART_MS;
    at.as_u64().is_some_and(|at| range.contains(&at))
}

/// A client that does what it is told and nothing more; reading answers pings.
pub(crate) struct Client<S = TcpStream> {
    pub(crate) socket: WebSocketStream<S>,
    next_id: u64,
    /// How long it waits to hear something.
    patience: Duration,
}

/// What a client hears.
#[derive(Debug, PartialEq)]
pub(crate) enum Heard {
    /// A message.
    Message(Value),
    /// The Close frame's code.
    Closed(u16),
    /// The end without a Close frame.
    Gone,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// A client on a socket whose handshake is done.
    pub(crate) fn over(socket: WebSocketStream<S>, patience: Duration) -> Self {
        Self { socket, next_id: 0, patience }
    }

    /// Sends a message as it is.
    pub(crate) async fn send(&mut self, message: &Value) {
        self.socket.send(Message::text(message.to_string())).await.expect("to send");
    }

    /// Hears the next message, or the end; answers pings meanwhile.
    pub(crate) async fn hear(&mut self) -> Heard {
        loop {
            let next = timeout(self.patience, self.socket.next()).await;
            let next = next.expect("something to be heard");
            match next {
                Some(Ok(Message::Text(text))) => {
                    return Heard::Message(serde_json::from_str(&text).expect("JSON"));
                }
                Some(Ok(Message::Close(Some(CloseFrame { code, .. })))) => {
                    return Heard::Closed(code.into());
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => (),
                Some(Ok(other)) => panic!("{other:?}"),
                Some(Err(_)) | None => return Heard::Gone,
            }
        }
    }

    /// Hears the next message.
    pub(crate) async fn message(&mut self) -> Value {
        match self.hear().await {
            Heard::Message(message) => message,
            end @ (Heard::Closed(_) | Heard::Gone) => panic!("{end:?} instead of a message"),
        }
    }

    /// Hears messages until the end; returns them and the close code.
    pub(crate) async fn until_closed(&mut self) -> (Vec<Value>, Option<u16>) {
        let mut messages = Vec::new();
        loop {
            match self.hear().await {
                Heard::Message(message) => messages.push(message),
                Heard::Closed(code) => return (messages, Some(code)),
                Heard::Gone => return (messages, None),
            }
        }
    }

    /// Sends a request and hears its answer; what else is heard meanwhile is lost.
    pub(crate) async fn request(&mut self, mut message: Value) -> Value {
        self.next_id += 1;
        message["id"] = json!(self.next_id);
        self.send(&message).await;
        loop {
            let heard = self.message().await;
            if heard["type"] == "reply" && heard["id"] == self.next_id {
                return heard;
            }
        }
    }

    /// Sends a request and hears its answer, unless the connection ends first.
    pub(crate) async fn try_request(&mut self, mut message: Value) -> Option<Value> {
        self.next_id += 1;
        message["id"] = json!(self.next_id);
        self.socket.send(Message::text(message.to_string())).await.ok()?;
        loop {
            let Heard::Message(heard) = self.hear().await else { return None };
            if heard["type"] == "reply" && heard["id"] == self.next_id {
                return Some(heard);
            }
        }
    }

    /// Sends a request that succeeds.
    pub(crate) async fn ok(&mut self, message: Value) -> Value {
        let reply = self.request(message).await;
        assert!(reply.get("ok").is_some(), "{reply}");
        reply["ok"].clone()
    }

    /// Sends a request that fails; returns its code.
    pub(crate) async fn error(&mut self, message: Value) -> String {
        let reply = self.request(message).await;
        reply["error"]["code"].as_str().unwrap_or_else(|| panic!("{reply}")).to_owned()
    }

    /// Logs in.
    pub(crate) async fn login(&mut self, user: &str, platform: &str, device: &str) -> Value {
        let token = token(user);
        let login =
            json!({ "type": "login", "token": token, "platform": platform, "device": device });
        self.ok(login).await
    }
}

/// Makes a certificate for localhost and its key, as PEM files in a directory.
pub(crate) fn make_certificate(directory: &Path) -> (String, String) {
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| directory.join(name));
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-out"])
        .args([certificate.as_os_str(), "-keyout".as_ref(), key.as_os_str()])
        .output();
    let output = output.expect("openssl to run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (certificate.display().to_string(), key.display().to_string())
}
