//! A client that sends raw bytes, and reads HTTP answers and WebSocket frames.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{SOON, Server};

/// The example key of RFC 6455 (section 1.3), and its accept value.
pub(super) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(super) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// First bytes of unfragmented frames.
pub(super) const TEXT: u8 = 0x81;
pub(super) const CLOSE: u8 = 0x88;
pub(super) const PING: u8 = 0x89;
pub(super) const PONG: u8 = 0x8a;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A connection that sends raw bytes.
pub(super) struct Raw {
    pub stream: TcpStream,
    received: Vec<u8>,
}

/// The head of an answer, and its body.
#[derive(Debug)]
pub(super) struct Head {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Head {
    /// A header, its name in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The error code in the body.
    pub(super) fn code(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).expect("JSON");
        assert!(body["error"]["message"].is_string(), "{body}");
        body["error"]["code"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned()
    }
}

impl Raw {
    /// Connects, and sends nothing.
    pub(super) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        Self::over(stream)
    }

    /// Uses an open connection.
    pub(super) fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("no delay");
        Self { stream, received: Vec::new() }
    }

    /// Connects and upgrades.
    pub(super) async fn upgrade(server: &Server) -> Self {
        let mut raw = Self::connect(server.address).await;
        raw.send(handshake(server, &[]).as_bytes()).await;
        let head = raw.head().await;
        assert_eq!(head.status, 101, "{head:?}");
        raw
    }

    /// Sends bytes. Errors are ignored: the hub may have closed the connection.
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.ok();
    }

    /// Sends a text message.
    pub(super) async fn say(&mut self, message: &Value) {
        self.send(&frame(TEXT, message.to_string().as_bytes())).await;
    }

    /// Reads an answer's head and body.
    pub(super) async fn head(&mut self) -> Head {
        let end = loop {
            let end = self.received.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                break end;
            }
            assert!(self.read().await, "an end instead of {:?}", self.received);
        };
        let rest = self.received.split_off(end + 4);
        let head = String::from_utf8(std::mem::replace(&mut self.received, rest)).expect("a head");
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status");
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers: Vec<_> =
            headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        let mut head = Head { status: status.parse().expect("a number"), headers, body: vec![] };
        let length = head.header("content-length").map_or(0, |n| n.parse().expect("a number"));
        while self.received.len() < length {
            assert!(self.read().await, "an end within a body");
        }
        let rest = self.received.split_off(length);
        head.body = std::mem::replace(&mut self.received, rest);
        head
    }

    /// Reads the next frame: its first byte and its payload; `None` at the end.
    pub(super) async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((start, length)) = head_of(&self.received)
                && self.received.len() >= start + length
            {
                let rest = self.received.split_off(start + length);
                let frame = std::mem::replace(&mut self.received, rest);
                return Some((frame[0], frame[start..].to_vec()));
            }
            if !self.read().await {
                assert!(self.received.is_empty(), "an end within a frame");
                return None;
            }
        }
    }

    /// Reads the next text message.
    pub(super) async fn message(&mut self) -> Value {
        match self.frame().await {
            Some((TEXT, payload)) => serde_json::from_slice(&payload).expect("JSON"),
            other => panic!("{other:?} instead of a message"),
        }
    }

    /// Reads until the Close frame, which must be the last frame; returns its code.
    pub(super) async fn close_code(&mut self) -> u16 {
        loop {
            match self.frame().await {
                Some((CLOSE, payload)) => {
                    assert_eq!(self.frame().await, None, "something after the Close frame");
                    return u16::from_be_bytes([payload[0], payload[1]]);
                }
                Some(_) => (),
                None => panic!("an end without a Close frame"),
            }
        }
    }

    /// Whether the peer ends the connection without another byte.
    pub(super) async fn is_cut(&mut self) -> bool {
        self.received.is_empty() && !self.read().await
    }

    /// Reads until the peer ends the connection.
    pub(super) async fn rest(&mut self) -> Vec<u8> {
        while self.read().await {}
        std::mem::take(&mut self.received)
    }

    /// Reads some bytes; returns `false` at the end.
    async fn read(&mut self) -> bool {
        let mut chunk = [0; 4096];
        let read = timeout(SOON, self.stream.read(&mut chunk)).await.expect("an answer or an end");
        let read = read.unwrap_or_default();
        self.received.extend_from_slice(&chunk[..read]);
        read > 0
    }
}

/// A handshake with additional or replaced headers.
pub(super) fn handshake(server: &Server, headers: &[(&str, &str)]) -> String {
    let host = server.address.to_string();
    let usual = [
        ("Host", host.as_str()),
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", KEY),
    ];
    let usual = usual.into_iter().filter(|(name, _)| !headers.iter().any(|(own, _)| own == name));
    get("/ws", &usual.chain(headers.iter().copied()).collect::<Vec<_>>())
}

/// A GET request with exactly these headers; those without a value are left out.
pub(super) fn get(path: &str, headers: &[(&str, &str)]) -> String {
    let given = headers.iter().filter(|(_, value)| !value.is_empty());
    let lines: String = given.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("GET {path} HTTP/1.1\r\n{lines}\r\n")
}

/// A frame as clients send them.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = head(first, payload.len() as u64);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// The head of a frame as clients send them, its mask included.
pub(super) fn head(first: u8, length: u64) -> Vec<u8> {
    let mut head = vec![first];
    match length {
        0..126 => head.push(0x80 | u8::try_from(length).expect("a small one")),
        126..0x1_0000 => {
            head.push(0x80 | 126);
            head.extend_from_slice(&u16::try_from(length).expect("a short one").to_be_bytes());
        }
        0x1_0000.. => {
            head.push(0x80 | 127);
            head.extend_from_slice(&length.to_be_bytes());
        }
    }
    head.extend_from_slice(&MASK);
    head
}

/// Where the payload of an unmasked frame begins, and how long it is.
fn head_of(bytes: &[u8]) -> Option<(usize, usize)> {
    match (*bytes.get(1)?, bytes) {
        (126, [_, _, a, b, ..]) => Some((4, usize::from(u16::from_be_bytes([*a, *b])))),
        (126, _) => None,
        (length @ 0..126, _) => Some((2, usize::from(length))),
        (length, _) => panic!("a frame of {length:#x}"),
    }
}
