//! A blocked standard error: the hub keeps running, and counts and reports dropped lines.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::timeout;

use crate::support::{SOON, Server, until};

/// A hub that logs into a pipe without a reader.
struct Unread {
    server: Server,
    pipe: File,
    _directory: TempDir,
}

impl Unread {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("pipe");
        mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).expect("a pipe");
        // Also open for writing: a read-only open would block until there is a writer.
        let pipe = File::options().read(true).write(true).open(&path).expect("the pipe");
        let script = format!("exec \"$0\" \"$@\" 2>{}", path.display());
        let server = Server::under(&["sh", "-c", &script], &[("log.filter", "debug")]);
        Self { server, pipe, _directory: directory }
    }

    /// Makes the hub log until it drops lines.
    async fn fill(&self) {
        until("the log to be full", async || {
            log_lines(&self.server, 500).await;
            self.dropped().await > 0
        })
        .await;
    }

    /// The number of dropped lines in the metrics.
    async fn dropped(&self) -> usize {
        let answer = self.server.http("GET", "/metrics").send().await.expect("an answer");
        let text = answer.text().await.expect("a text");
        let line = text.lines().find(|l| l.starts_with("presence_hub_log_lines_dropped_total "));
        let count = line.and_then(|line| line.split(' ').nth(1)?.parse().ok());
        count.expect("a count of dropped lines")
    }

    /// Starts reading the log.
    fn read(&self) -> Receiver<String> {
        let (lines, read) = channel(1);
        let pipe = self.pipe.try_clone().expect("the pipe");
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if lines.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        read
    }
}

/// Makes the hub log so many lines: each broken connection logs one.
async fn log_lines(server: &Server, count: usize) {
    for _ in 0..count {
        let mut stream = TcpStream::connect(server.address).await.expect("to connect");
        stream.write_all(b"nonsense\r\n\r\n").await.expect("to send");
        stream.read_to_end(&mut Vec::new()).await.ok();
    }
}

#[tokio::test]
async fn a_hub_with_a_blocked_log_keeps_serving_and_counts_dropped_lines() {
    let unread = Unread::start();
    unread.fill().await;
    let (mut client, _) = unread.server.login("ann", "linux").await;
    client.ok(json!({ "type": "ping" })).await;
    let health = unread.server.http("GET", "/health").send().await.expect("an answer");
    assert_eq!(health.status(), 200);

    let mut lines = unread.read();
    let reported = async {
        loop {
            let line = lines.recv().await.expect("a line");
            if let Some((_, rest)) = line.split_once("log lines dropped") {
                return (line.clone(), rest.to_owned());
            }
        }
    };
    let (line, rest) = timeout(SOON, reported).await.expect("a line about it");
    let count: usize = rest
        .split_once("lines=")
        .and_then(|(_, count)| count.trim().parse().ok())
        .expect("a count");
    assert!(line.contains("WARN"), "{line}");
    assert_eq!(count, unread.dropped().await);
    // Logging works again.
    client.ok(json!({ "type": "logout" })).await;
    let ended = async { while !lines.recv().await.expect("a line").contains("session ended") {} };
    timeout(SOON, ended).await.expect("the end of the session");
}

#[tokio::test]
async fn a_hub_with_a_blocked_log_stops_on_sigterm() {
    let mut unread = Unread::start();
    unread.fill().await;
    unread.server.signal(Signal::TERM);
    assert!(unread.server.until_exit().await.success());
}

#[tokio::test]
async fn a_hub_whose_log_has_lost_its_reader_keeps_serving_and_stops_on_sigterm() {
    let Unread { mut server, pipe, _directory } = Unread::start();
    log_lines(&server, 1).await;
    // Dropped with the reader, this is the only open end for reading.
    let mut reader = BufReader::new(pipe);
    let mut first = String::new();
    reader.read_line(&mut first).expect("a line");
    assert!(first.ends_with('\n'), "{first}");
    drop(reader);
    log_lines(&server, 100).await;
    let (mut client, _) = server.login("ann", "linux").await;
    client.ok(json!({ "type": "ping" })).await;
    let health = server.http("GET", "/health").send().await.expect("an answer");
    assert_eq!(health.status(), 200);
    server.signal(Signal::TERM);
    assert!(server.until_exit().await.success());
}

#[tokio::test]
async fn a_startup_error_exits_even_if_the_log_is_blocked() {
    let unread = Unread::start();
    unread.fill().await;
    // The pipe is full. Another hub reports there that its address is in use, and must exit.
    let address = unread.server.address.to_string();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut command = crate::support::command(
        directory.path(),
        &[("server.listen", &address), ("auth.secret", crate::support::SECRET)],
    );
    let pipe = unread.pipe.try_clone().expect("the pipe");
    let mut child = command.stderr(pipe).spawn().expect("to start");
    let ended = async {
        loop {
            if let Some(status) = child.try_wait().expect("a child") {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let status = timeout(SOON, ended).await;
    child.kill().ok();
    child.wait().ok();
    assert_eq!(status.expect("to end").code(), Some(1));
}
