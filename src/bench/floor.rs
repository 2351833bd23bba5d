//! The floor: the least that a server with this load can do, as a lower bound for the hub's costs.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use super::frame::{Frame, masked, unmasked};
use super::machine::raise_open_files;
use super::order::Watch;

/// The listen backlog; the same as the hub's.
const BACKLOG: i32 = 4096;
const LISTENER: Token = Token(usize::MAX);
/// An answer to the handshake, of about the same size as the hub's.
const UPGRADED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\
\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n";
/// The size of the hub's replies to a login and a subscription, about.
const REPLY_BYTES: usize = 320;
/// The hub's status push, before and after the change's text.
const STATUS: [&str; 2] = [
    r#"{"type":"status","user":"user-000000","state":"Online","platforms":["web"],"custom":""#,
    r#"","since":1700000000000,"last_seen":null,"version":1700000000000}"#,
];

/// A request to the floor: one byte for its kind, then numbers.
#[derive(Debug, Clone)]
pub(super) enum FloorRequest<'a> {
    Login,
    Watch(u32, Watch),
    Change(u32, &'a str),
}

impl FloorRequest<'_> {
    pub(super) fn frame(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        let mut numbers = |kind: u8, numbers: &[u32]| {
            payload.push(kind);
            numbers.iter().for_each(|number| payload.extend(number.to_be_bytes()));
        };
        match self {
            Self::Login => numbers(b'L', &[]),
            Self::Watch(own, Watch::Next { count, total }) => {
                numbers(b'W', &[*own + 1, *count, *total]);
            }
            Self::Watch(_, Watch::First(count)) => numbers(b'W', &[0, *count, u32::MAX]),
            // It has no lists.
            Self::Watch(_, Watch::Nobody | Watch::Contacts { .. } | Watch::List) => {
                numbers(b'W', &[0, 0, u32::MAX]);
            }
            Self::Change(user, text) => {
                numbers(b'C', &[*user]);
                payload.extend(text.as_bytes());
            }
        }
        masked(0x2, &payload)
    }
}

/// A server on one thread that writes framed bytes to one socket after another, without logins, JSON
/// or rules.
struct FloorServer {
    poll: Poll,
    listener: TcpListener,
    connections: Slab<FloorConnection>,
    /// The connections that watch each user.
    watchers: HashMap<u32, Vec<usize>>,
    reply: Vec<u8>,
}

struct FloorConnection {
    stream: TcpStream,
    inbox: Vec<u8>,
    upgraded: bool,
    watches: Vec<u32>,
}

/// Prints the server's address, then serves until the process is ended.
pub(super) fn run() -> io::Result<()> {
    raise_open_files();
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    // `bind` listens with mio's short backlog; listening again sets ours.
    rustix::net::listen(&listener, BACKLOG)?;
    writeln!(io::stdout(), "floor is at http://{}", listener.local_addr()?)?;
    let reply = format!(r#"{{"type":"reply","id":1,"ok":"{}"}}"#, "x".repeat(REPLY_BYTES));
    let mut floor = FloorServer {
        poll: Poll::new()?,
        listener,
        connections: Slab::new(),
        watchers: HashMap::new(),
        reply: unmasked(0x1, reply.as_bytes()),
    };
    floor.poll.registry().register(&mut floor.listener, LISTENER, Interest::READABLE)?;
    floor.serve()
}

impl FloorServer {
    fn serve(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                if event.token() == LISTENER {
                    self.accept()?;
                } else if !self.read(event.token().0, &mut buffer) {
                    self.close(event.token().0);
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let vacant = self.connections.vacant_entry();
            let token = Token(vacant.key());
            self.poll.registry().register(&mut stream, token, Interest::READABLE)?;
            vacant.insert(FloorConnection {
                stream,
                inbox: Vec::new(),
                upgraded: false,
                watches: Vec::new(),
            });
        }
    }

    fn close(&mut self, id: usize) {
        let Some(connection) = self.connections.try_remove(id) else { return };
        for user in connection.watches {
            if let Some(watchers) = self.watchers.get_mut(&user) {
                watchers.retain(|watcher| *watcher != id);
            }
        }
    }

    /// Reads and answers all pending requests; returns whether the connection stays open.
    fn read(&mut self, id: usize, buffer: &mut [u8]) -> bool {
        let Some(connection) = self.connections.get_mut(id) else { return true };
        loop {
            match connection.stream.read(buffer) {
                Ok(0) => return false,
                Ok(read) => {
                    connection.inbox.extend_from_slice(&buffer[..read]);
                    if read < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        let mut inbox = std::mem::take(&mut connection.inbox);
        if !connection.upgraded {
            let Some(end) = inbox.windows(4).position(|four| four == b"\r\n\r\n") else {
                connection.inbox = inbox;
                return true;
            };
            connection.upgraded = true;
            connection.stream.write_all(UPGRADED).ok();
            inbox.drain(..end + 4);
        }
        let mut rest = &inbox[..];
        while let Some((frame, after)) = Frame::first(rest) {
            rest = after;
            if frame.opcode == 0x8 {
                return false;
            }
            self.answer(id, frame.payload);
        }
        let rest = rest.to_vec();
        if let Some(connection) = self.connections.get_mut(id) {
            connection.inbox = rest;
        }
        true
    }

    fn answer(&mut self, id: usize, request: &[u8]) {
        let number = |at: usize| {
            let bytes = request.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map(u32::from_be_bytes).unwrap_or_default()
        };
        match request.first() {
            Some(b'W') => {
                let (first, count, total) = (number(1), number(5), number(9));
                let users: Vec<_> = (first..first + count).map(|user| user % total).collect();
                for user in &users {
                    self.watchers.entry(*user).or_default().push(id);
                }
                if let Some(connection) = self.connections.get_mut(id) {
                    connection.watches = users;
                }
            }
            Some(b'C') => {
                let text = String::from_utf8_lossy(request.get(5..).unwrap_or_default());
                let status = unmasked(0x1, format!("{}{text}{}", STATUS[0], STATUS[1]).as_bytes());
                for watcher in self.watchers.get(&number(1)).into_iter().flatten() {
                    // A watcher whose socket is full misses the push, and the run fails.
                    let watcher = self.connections.get_mut(*watcher);
                    watcher.map(|watcher| watcher.stream.write_all(&status));
                }
            }
            _ => (),
        }
        if let Some(connection) = self.connections.get_mut(id) {
            connection.stream.write_all(&self.reply).ok();
        }
    }
}
