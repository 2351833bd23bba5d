//! Frames: a connection's actor over a socket in memory, compared with a simple parser of RFC 6455.
//!
//! The same bytes must get the same answers however the network cuts them.

use std::str::from_utf8;

use presence_hub::wire::{Request, parse};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;

use super::engine::fuzz;
use crate::lab::Lab;

const MESSAGE_BYTES_MAX: usize = 1024;
/// More than the hub ever sends back for one input.
const SOCKET_BYTES: usize = 4 * 1024 * 1024;
/// Malformed messages that end a connection.
const MALFORMED_MAX: usize = 10;
/// Heads of frames with an empty mask, and what a client may send.
const WORDS: &str =
    r#"{"type":"ping","id":1} {"type":"login"} {"type":"set","id":2,"custom":""} nonsense ü"#;

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PONG: u8 = 0x8a;

#[test]
fn frames() {
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let lab = runtime.block_on(async {
        Lab::with(|config| {
            config.server.max_message_bytes = MESSAGE_BYTES_MAX;
            // The bounds on traffic have tests of their own.
            config.limits.messages_per_second = 1_000_000;
            config.limits.message_burst = 1_000_000;
        })
    });
    fuzz("frames", WORDS, |input| check(&runtime, &lab, input));
}

/// What the hub sends.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    Pong(Vec<u8>),
    Text,
    /// A Close frame, with its code if there is one.
    Close(Option<u16>),
}

/// What the hub must send.
struct Expected {
    said: Vec<Said>,
    /// The codes of which it may then send one; none: it sends nothing more.
    ends: Vec<u16>,
    /// Whether it must send one of them.
    must_end: bool,
}

fn check(runtime: &Runtime, lab: &Lab, input: &[u8]) -> String {
    let mut random = StdRng::seed_from_u64(crc32fast::hash(input).into());
    let whole = runtime.block_on(exchange(lab, &[input]));
    let mut pieces = Vec::new();
    let mut rest = input;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(random.random_range(1..=rest.len().min(40)));
        pieces.push(piece);
        rest = after;
    }
    let cut = runtime.block_on(exchange(lab, &pieces));
    assert_eq!(whole, cut, "the same bytes in pieces: {:?}", pieces_of(&pieces));

    let heard = said(&whole);
    let expected = Parser::default().read(input);
    let (kept, end) = match heard.split_last() {
        Some((Said::Close(Some(code)), kept)) if expected.said != heard => (kept, Some(*code)),
        _ => (heard.as_slice(), None),
    };
    assert_eq!(kept, expected.said, "then {end:?} of {:?}", expected.ends);
    match end {
        Some(code) => assert!(expected.ends.contains(&code), "{code} of {:?}", expected.ends),
        None => assert!(!expected.must_end, "no Close of {:?}", expected.ends),
    }
    let kinds = kept.iter().take(4).map(|said| match said {
        Said::Pong(payload) if payload.is_empty() => "empty pong".to_owned(),
        Said::Pong(_) => "pong".to_owned(),
        Said::Text => "text".to_owned(),
        Said::Close(code) => format!("close {code:?}"),
    });
    format!("{:?} {end:?}", kinds.collect::<Vec<_>>())
}

fn pieces_of(pieces: &[&[u8]]) -> Vec<usize> {
    pieces.iter().map(|piece| piece.len()).collect()
}

/// Sends pieces on a new connection, and returns all that the hub sends.
async fn exchange(lab: &Lab, pieces: &[&[u8]]) -> Vec<u8> {
    let (mut socket, serving) = lab.connect_raw(SOCKET_BYTES, None);
    for piece in pieces {
        socket.write_all(piece).await.expect("a large buffer");
        // Lets the actor read each piece by itself.
        yield_now().await;
        yield_now().await;
    }
    socket.shutdown().await.expect("an open socket");
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.expect("an answer");
    serving.await.expect("no panic");
    answer
}

/// Reads the hub's frames.
fn said(mut bytes: &[u8]) -> Vec<Said> {
    let mut said = Vec::new();
    while let [first, length, rest @ ..] = bytes {
        let (length, rest) = match (*length, rest) {
            (126, [a, b, rest @ ..]) => (usize::from(u16::from_be_bytes([*a, *b])), rest),
            (length @ 0..126, rest) => (usize::from(length), rest),
            (length, _) => panic!("a frame of {length}"),
        };
        let (payload, after) = rest.split_at_checked(length).expect("a whole frame");
        said.push(match *first {
            TEXT => {
                serde_json::from_slice::<serde_json::Value>(payload).expect("JSON");
                Said::Text
            }
            PONG => Said::Pong(payload.to_vec()),
            CLOSE => match payload {
                [a, b, ..] => Said::Close(Some(u16::from_be_bytes([*a, *b]))),
                _ => Said::Close(None),
            },
            other => panic!("a frame that begins with {other:#x}"),
        });
        bytes = after;
    }
    assert!(bytes.is_empty(), "half a frame: {bytes:?}");
    let ends = said.iter().position(|said| matches!(said, Said::Close(_)));
    assert!(ends.is_none_or(|end| end + 1 == said.len()), "a Close is the last: {said:?}");
    said
}

/// A frame of a client.
struct Frame<'a> {
    first: u8,
    is_masked: bool,
    length: u64,
    /// `None` if it has not arrived completely.
    payload: Option<Vec<u8>>,
    rest: &'a [u8],
}

/// Reads the next frame; `None` if its head has not arrived completely.
fn next_frame(bytes: &[u8]) -> Option<Frame<'_>> {
    let [first, second, rest @ ..] = bytes else { return None };
    let (length, rest) = match second & 0x7f {
        126 => {
            let (length, rest) = rest.split_first_chunk()?;
            (u64::from(u16::from_be_bytes(*length)), rest)
        }
        127 => {
            let (length, rest) = rest.split_first_chunk()?;
            (u64::from_be_bytes(*length), rest)
        }
        length => (length.into(), rest),
    };
    let is_masked = second & 0x80 != 0;
    let (mask, rest) = if is_masked { rest.split_first_chunk()? } else { (&[0; 4], rest) };
    let payload = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
    let unmasked =
        |payload: &[u8]| payload.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b).collect();
    let (payload, rest) = match payload {
        Some((payload, rest)) => (Some(unmasked(payload)), rest),
        None => (None, &[][..]),
    };
    Some(Frame { first: *first, is_masked, length, payload, rest })
}

/// RFC 6455 as a server reads it, without its errors' details.
#[derive(Default)]
struct Parser {
    said: Vec<Said>,
    malformed: usize,
    /// The message that began in an earlier frame: whether it is text, and its bytes up to now.
    begun: Option<(bool, Vec<u8>)>,
}

/// How a frame ends the connection: one of these codes, or an echo.
type End = Option<Vec<u16>>;

impl Parser {
    fn read(mut self, mut bytes: &[u8]) -> Expected {
        while let Some(frame) = next_frame(bytes) {
            if let Some(ends) = faults(&frame) {
                // A frame that did not arrive completely may go unnoticed.
                let must_end = frame.payload.is_some() || frame.length > MESSAGE_BYTES_MAX as u64;
                return Expected { said: self.said, ends, must_end };
            }
            let Some(payload) = frame.payload else { break };
            if let Err(end) = self.take(frame.first, payload) {
                let must_end = end.is_some();
                return Expected { said: self.said, ends: end.unwrap_or_default(), must_end };
            }
            bytes = frame.rest;
        }
        Expected { said: self.said, ends: Vec::new(), must_end: false }
    }

    /// Takes a well-formed frame.
    fn take(&mut self, first: u8, payload: Vec<u8>) -> Result<(), End> {
        let is_last = first & 0x80 != 0;
        match (first & 0x0f, self.begun.take()) {
            (8, _) => return Err(self.close(&payload)),
            (9, begun) => {
                self.begun = begun;
                self.said.push(Said::Pong(payload));
            }
            (10, begun) => self.begun = begun,
            (0, Some((is_text, mut message))) => {
                message.extend(payload);
                return self.go_on(is_text, message, is_last);
            }
            (opcode @ 1..=2, None) => return self.go_on(opcode == 1, payload, is_last),
            _ => return Err(Some(vec![1002])),
        }
        Ok(())
    }

    fn go_on(&mut self, is_text: bool, message: Vec<u8>, is_last: bool) -> Result<(), End> {
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(Some(vec![1009]));
        }
        if is_text {
            // Invalid UTF-8 may become visible only in a later frame.
            if let Err(error) = from_utf8(&message)
                && (is_last || error.error_len().is_some())
            {
                return Err(Some(vec![1007]));
            }
        }
        if !is_last {
            self.begun = Some((is_text, message));
            return Ok(());
        }
        self.said.push(Said::Text);
        let text = is_text.then(|| from_utf8(&message).expect("checked"));
        let counts = match text.map(parse) {
            Some(Ok((_, Request::Login(_)))) => return Err(Some(vec![4502])),
            Some(Ok(_)) => false,
            Some(Err(malformed)) if malformed.is_login => return Err(Some(vec![4504])),
            Some(Err(malformed)) => malformed.counts,
            None => true,
        };
        self.malformed += usize::from(counts);
        if self.malformed == MALFORMED_MAX { Err(Some(vec![4504])) } else { Ok(()) }
    }

    fn close(&mut self, payload: &[u8]) -> End {
        let (code, reason) = match payload {
            [] => {
                self.said.push(Said::Close(None));
                return None;
            }
            [_] => return Some(vec![1002]),
            [a, b, reason @ ..] => (u16::from_be_bytes([*a, *b]), reason),
        };
        if from_utf8(reason).is_err() {
            return Some(vec![1007]);
        }
        // IANA has registered 1014 (bad gateway); tungstenite refuses it from a client.
        let may_be_sent = matches!(code, 1000..=1003 | 1007..=1013 | 3000..=4999);
        self.said.push(Said::Close(Some(if may_be_sent { code } else { 1002 })));
        None
    }
}

/// The codes that may answer a frame that is wrong by itself.
fn faults(frame: &Frame<'_>) -> Option<Vec<u16>> {
    let (opcode, is_last) = (frame.first & 0x0f, frame.first & 0x80 != 0);
    let is_control = opcode & 0x08 != 0;
    let is_wrong = frame.first & 0x70 != 0
        || !frame.is_masked
        || matches!(opcode, 3..=7 | 11..=15)
        || is_control && (!is_last || frame.length > 125);
    let is_large = frame.length > MESSAGE_BYTES_MAX as u64;
    let codes = [(is_wrong, 1002), (is_large, 1009)];
    let codes: Vec<_> = codes.into_iter().filter(|(is, _)| *is).map(|(_, code)| code).collect();
    (!codes.is_empty()).then_some(codes)
}
