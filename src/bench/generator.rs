//! A generator: one process that acts as many clients, as ordered.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::time::Duration;

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::calls::Caller;
use super::floor::FloorRequest;
use super::frame::{Frame, masked};
use super::machine::now_ns;
use super::order::{Change, Done, Latency, Look, Open, Order, ServerUnderLoad, Watch, histogram};
use super::tokens::{Tokens, name};

/// How long a server may take for one step before the run fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Many clients on one thread.
pub(super) struct Generator {
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    /// The first server; all are of the same kind.
    target: Option<ServerUnderLoad>,
    sessions: HashMap<usize, Client>,
    next: usize,
    /// The latest session of each user.
    by_user: HashMap<u32, usize>,
    /// The number of this generator's sessions that watch each user.
    watchers: HashMap<u32, u64>,
    /// The number of ordered sessions that are open or have failed.
    opened: u32,
    counts: DeliveryCounts,
    /// The bytes that arrived since the last answer.
    received: u64,
    latency: Histogram<u64>,
}

/// The deliveries and kicks that were due since the last answer, and those that arrived.
#[derive(Debug, Default)]
struct DeliveryCounts {
    due: u64,
    deliveries: u64,
    kicks_due: u64,
    kicked: u64,
    closed: u64,
    fault: Option<String>,
}

impl DeliveryCounts {
    fn is_missing_some(&self) -> bool {
        self.deliveries < self.due || self.kicked < self.kicks_due || self.closed < self.kicks_due
    }
}

struct Client {
    stream: TcpStream,
    user: u32,
    watch: Watch,
    stage: Stage,
    inbox: Vec<u8>,
    /// The frames to send when the stage is reached.
    login: Vec<u8>,
    subscribe: Vec<u8>,
    begun_at: u64,
    /// The bytes that arrived since the last turn.
    received: u64,
    /// The answers that arrived.
    replies: u64,
    is_idle: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Upgrading,
    LoggingIn,
    Subscribing,
    Open,
}

impl Generator {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            buffer: vec![0; 256 * 1024],
            target: None,
            sessions: HashMap::new(),
            next: 0,
            by_user: HashMap::new(),
            watchers: HashMap::new(),
            opened: 0,
            counts: DeliveryCounts::default(),
            received: 0,
            latency: histogram(),
        })
    }

    pub(super) fn obey(&mut self, order: Order) -> io::Result<Done> {
        let done = self.execute(order)?;
        Ok(Done { received: std::mem::take(&mut self.received), ..done })
    }

    fn execute(&mut self, order: Order) -> io::Result<Done> {
        match order {
            Order::Open(open) => {
                self.open(&open)?;
                // Kicks may still be in flight; the next `Await` waits for them.
                let (latency, fault) = (self.latencies(), self.counts.fault.take());
                return Ok(Done { latency, fault, ..Done::default() });
            }
            Order::Change { users } => {
                users.into_iter().for_each(|user| self.change(user, Change::Custom));
                return Ok(Done::default());
            }
            Order::Change1By1 { users, per_second, seconds, change } => {
                self.change_1_by_1(users, per_second, seconds, change)?;
                return Ok(Done::default());
            }
            Order::Await { seconds } => {
                self.turn_while(Duration::from_secs(seconds), |this| {
                    this.counts.is_missing_some()
                })?;
            }
            Order::Idle { millis } => {
                self.turn_while(Duration::from_millis(millis), |_| true)?;
                return Ok(Done::default());
            }
            Order::Leave { first, count } => self.leave(&(first..first + count))?,
            Order::Ask { users, calls } => self.ask(users, calls)?,
            Order::Look { viewer, users, look } => {
                let (times, fault) = (self.look(viewer, &users, look)?, self.counts.fault.take());
                return Ok(Done { times, fault, ..Done::default() });
            }
        }
        Ok(self.done())
    }

    /// Takes the results since the last call.
    fn done(&mut self) -> Done {
        let (counts, latency) = (std::mem::take(&mut self.counts), self.latencies());
        let missing = (counts.kicked < counts.kicks_due || counts.closed < counts.kicks_due)
            .then(|| format!("{} of {} kicks arrived", counts.kicked, counts.kicks_due));
        let DeliveryCounts { due, deliveries, fault, .. } = counts;
        Done { due, deliveries, latency, fault: fault.or(missing), ..Done::default() }
    }

    fn latencies(&mut self) -> Latency {
        let latency = Latency::of(&self.latency);
        self.latency.reset();
        latency
    }

    fn open(&mut self, open: &Open) -> io::Result<()> {
        self.target = open.targets.first().cloned();
        let mut tokens = Tokens::new(open);
        let mut asked: Range<u32> = 0..open.count;
        self.opened = 0;
        loop {
            while asked.start < asked.end && asked.start - self.opened < open.in_flight {
                let user = open.first + asked.start;
                asked.start += 1;
                let id = self.connect(open, user, &mut tokens)?;
                for watched in open.watch.users(user) {
                    *self.watchers.entry(watched).or_default() += 1;
                }
                if self.by_user.insert(user, id).is_some() {
                    self.counts.kicks_due += 1;
                }
            }
            if self.opened == open.count {
                return Ok(());
            }
            let before = self.opened;
            self.turn_while(PATIENCE, |this| this.opened == before)?;
            if self.opened == before {
                return Err(io::Error::other(format!("only {before} sessions could be opened")));
            }
        }
    }

    fn connect(&mut self, open: &Open, user: u32, tokens: &mut Tokens) -> io::Result<usize> {
        let id = self.next;
        self.next += 1;
        let mut stream = TcpStream::connect(open.target(user).address)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(id), interest)?;
        let (login, subscribe) = tokens.next();
        let session = Client {
            stream,
            user,
            watch: open.watch,
            stage: Stage::Connecting,
            inbox: Vec::new(),
            login,
            subscribe,
            begun_at: now_ns(),
            received: 0,
            replies: 0,
            is_idle: false,
        };
        self.sessions.insert(id, session);
        Ok(id)
    }

    /// Changes a user if its session is here, and counts the deliveries due to watchers here in any case.
    fn change(&mut self, user: u32, change: Change) {
        self.counts.due += self.watchers.get(&user).copied().unwrap_or_default();
        let Some(session) = self.by_user.get(&user).and_then(|id| self.sessions.get_mut(id)) else {
            return;
        };
        let text = format!("{:020}", now_ns());
        let request = match self.target.as_ref().and_then(|target| target.secret.as_ref()) {
            Some(_) if change == Change::Away => {
                session.is_idle = !session.is_idle;
                let word = if session.is_idle { "idle" } else { "active" };
                let word = format!(r#"{{"type":"{word}","id":3,"for_ms":300000}}"#);
                masked(0x1, word.as_bytes())
            }
            Some(_) => {
                masked(0x1, format!(r#"{{"type":"set","id":3,"custom":"{text}"}}"#).as_bytes())
            }
            None => FloorRequest::Change(user, &text).frame(),
        };
        session.say(&request, &mut self.counts.fault);
    }

    fn change_1_by_1(
        &mut self,
        users: u32,
        per_second: u32,
        seconds: u64,
        change: Change,
    ) -> io::Result<()> {
        let begin = now_ns();
        for turn in 0..u64::from(per_second) * seconds {
            let at = begin + turn * 1_000_000_000 / u64::from(per_second);
            while let Some(left) = at.checked_sub(now_ns()).filter(|left| *left > 0) {
                self.turn(Duration::from_nanos(left))?;
            }
            // 7919 is a prime, so the sequence visits every user before it repeats.
            let user = u32::try_from(turn * 7_919 % u64::from(users)).unwrap_or_default();
            self.change(user, change);
        }
        Ok(())
    }

    /// Closes the sessions of these users.
    fn leave(&mut self, users: &Range<u32>) -> io::Result<()> {
        let close = masked(0x8, &1000_u16.to_be_bytes());
        for session in self.sessions.values_mut().filter(|it| users.contains(&it.user)) {
            session.say(&close, &mut self.counts.fault);
            for watched in session.watch.users(session.user) {
                self.watchers.entry(watched).and_modify(|count| *count -= 1);
            }
        }
        let is_there = |this: &Self| this.sessions.values().any(|it| users.contains(&it.user));
        self.turn_while(PATIENCE, is_there)?;
        self.by_user.retain(|user, _| !users.contains(user));
        Ok(())
    }

    fn ask(&mut self, users: u32, calls: u32) -> io::Result<()> {
        let Some(target) = &self.target else { return Ok(()) };
        let names: Vec<_> = (0..users).map(name).collect();
        let body = serde_json::json!({ "users": names }).to_string();
        let mut caller = Caller::new(target);
        for _ in 0..calls {
            let begin = now_ns();
            caller.call("POST", "/v1/status", &body)?;
            self.latency.record(now_ns() - begin).ok();
        }
        Ok(())
    }

    /// Asks for one user after the other; returns how long each answer took, in nanoseconds.
    fn look(&mut self, viewer: u32, users: &[u32], look: Look) -> io::Result<Vec<u64>> {
        let mut times = Vec::with_capacity(users.len());
        for user in users {
            let request = |kind| {
                let request = serde_json::json!({ "type": kind, "id": 4, "users": [name(*user)] });
                masked(0x1, request.to_string().as_bytes())
            };
            match look {
                Look::Query => times.push(self.request(viewer, &request("query"))?),
                Look::Subscribe => {
                    times.push(self.request(viewer, &request("subscribe"))?);
                    self.request(viewer, &request("unsubscribe"))?;
                }
            }
        }
        Ok(times)
    }

    /// Sends a request of a session; returns how long the answer took, in nanoseconds.
    fn request(&mut self, user: u32, request: &[u8]) -> io::Result<u64> {
        let gone = || io::Error::other(format!("{} is not answered", name(user)));
        let id = *self.by_user.get(&user).ok_or_else(gone)?;
        let session = self.sessions.get_mut(&id).ok_or_else(gone)?;
        let (replies, begin) = (session.replies, now_ns());
        session.say(request, &mut self.counts.fault);
        let is_pending =
            |this: &Self| this.sessions.get(&id).is_some_and(|it| it.replies == replies);
        self.turn_while(PATIENCE, is_pending)?;
        let took = now_ns() - begin;
        match self.sessions.get(&id) {
            Some(session) if session.replies > replies => Ok(took),
            Some(_) | None => Err(gone()),
        }
    }

    /// Serves the sessions while a condition holds, for at most `most`.
    fn turn_while(&mut self, most: Duration, holds: impl Fn(&Self) -> bool) -> io::Result<()> {
        let until = now_ns() + u64::try_from(most.as_nanos()).unwrap_or(u64::MAX / 2);
        while holds(self) {
            let left = until.saturating_sub(now_ns());
            if left == 0 {
                break;
            }
            self.turn(Duration::from_nanos(left))?;
        }
        Ok(())
    }

    fn turn(&mut self, most: Duration) -> io::Result<()> {
        // The kernel counts in milliseconds and mio rounds up, which would make changes late.
        let most = Some(most).filter(|most| *most >= Duration::from_millis(1));
        match self.poll.poll(&mut self.events, most.or(Some(Duration::ZERO))) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            polled => polled?,
        }
        for event in &self.events {
            let id = event.token().0;
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            let was_open = session.stage == Stage::Open;
            let goes_on = session.serve(&mut self.buffer, &mut self.counts, &mut self.latency);
            self.received += std::mem::take(&mut session.received);
            if !was_open && (session.stage == Stage::Open || !goes_on) {
                self.opened += 1;
            }
            if !goes_on {
                self.sessions.remove(&id);
            }
        }
        Ok(())
    }
}

impl Client {
    /// Continues with what the socket is ready for; returns whether the connection stays open.
    fn serve(
        &mut self,
        buffer: &mut [u8],
        counts: &mut DeliveryCounts,
        times: &mut Histogram<u64>,
    ) -> bool {
        if self.stage == Stage::Connecting {
            if let Ok(Some(error)) | Err(error) = self.stream.take_error() {
                counts.fault = Some(format!("a connection failed: {error}"));
                return false;
            }
            if self.stream.peer_addr().is_err() {
                return true;
            }
            self.stream.set_nodelay(true).ok();
            self.stage = Stage::Upgrading;
            let handshake = "GET /ws HTTP/1.1\r\nHost: hub\r\nConnection: Upgrade\r\nUpgrade: \
                             websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: \
                             dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
            self.say(handshake.as_bytes(), &mut counts.fault);
        }
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return self.broke("the server closed a connection", counts),
                Ok(read) => {
                    self.received += read as u64;
                    if !self.take(&buffer[..read], counts, times) {
                        return false;
                    }
                    if read < buffer.len() {
                        return true;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) => return self.broke(&format!("a connection broke: {error}"), counts),
            }
        }
    }

    fn broke(&self, how: &str, counts: &mut DeliveryCounts) -> bool {
        if self.stage != Stage::Open {
            counts.fault = Some(how.to_owned());
        }
        false
    }

    fn take(
        &mut self,
        read: &[u8],
        counts: &mut DeliveryCounts,
        times: &mut Histogram<u64>,
    ) -> bool {
        let mut inbox = std::mem::take(&mut self.inbox);
        let mut rest = if inbox.is_empty() {
            read
        } else {
            inbox.extend_from_slice(read);
            &inbox[..]
        };
        if self.stage == Stage::Upgrading {
            let Some(end) = rest.windows(4).position(|four| four == b"\r\n\r\n") else {
                self.inbox = rest.to_vec();
                return true;
            };
            if !rest.starts_with(b"HTTP/1.1 101") {
                counts.fault = Some(String::from_utf8_lossy(rest).into_owned());
                return false;
            }
            rest = &rest[end + 4..];
            self.stage = Stage::LoggingIn;
            let login = std::mem::take(&mut self.login);
            self.say(&login, &mut counts.fault);
        }
        while let Some((frame, after)) = Frame::first(rest) {
            rest = after;
            match frame.opcode {
                0x1 => self.hear(frame.payload, counts, times),
                0x8 => {
                    let code = frame.payload.get(..2).and_then(|code| code.try_into().ok());
                    counts.closed += u64::from(code.map(u16::from_be_bytes) == Some(4501));
                    return false;
                }
                0x9 => self.say(&masked(0xa, frame.payload), &mut counts.fault),
                _ => (),
            }
        }
        self.inbox = rest.to_vec();
        true
    }

    fn hear(&mut self, message: &[u8], counts: &mut DeliveryCounts, times: &mut Histogram<u64>) {
        let text = std::str::from_utf8(message).unwrap_or_default();
        if text.starts_with(r#"{"type":"status""#) {
            let (_, custom) = text.split_once(r#""custom":""#).unwrap_or_default();
            // Only ordered changes carry a time; a push about a login does not.
            if let Some(sent) = custom.get(..20).and_then(|sent| sent.parse::<u64>().ok()) {
                counts.deliveries += 1;
                times.record(now_ns().saturating_sub(sent)).ok();
            }
        } else if text.starts_with(r#"{"type":"kicked""#) {
            counts.kicked += 1;
        } else if text.starts_with(r#"{"type":"reply""#) {
            self.replies += 1;
            if !text.contains(r#","ok":"#) {
                counts.fault = Some(format!("{}: {text}", name(self.user)));
            }
            match self.stage {
                Stage::LoggingIn => {
                    times.record(now_ns() - self.begun_at).ok();
                    let subscribe = std::mem::take(&mut self.subscribe);
                    self.stage = Stage::Subscribing;
                    if subscribe.is_empty() {
                        self.stage = Stage::Open;
                    } else {
                        self.say(&subscribe, &mut counts.fault);
                    }
                }
                Stage::Subscribing => self.stage = Stage::Open,
                Stage::Connecting | Stage::Upgrading | Stage::Open => (),
            }
        }
    }

    fn say(&mut self, bytes: &[u8], fault: &mut Option<String>) {
        if let Err(error) = self.stream.write_all(bytes) {
            *fault = Some(format!("{} could not write: {error}", name(self.user)));
        }
    }
}
