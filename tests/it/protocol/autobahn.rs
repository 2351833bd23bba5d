//! The cases of the Autobahn test suite, as raw frames against the real binary.
//!
//! The suite expects an echo, which this protocol does not have. So a text here is a `ping` or `set`
//! message, the reply stands for the echo, and a binary message gets an error. The numbers are the
//! suite's. Of its group 9 the sizes are reduced to the largest message that the hub accepts; groups
//! 12 and 13 are about compression, which the hub never offers.

mod utf8;

use std::fmt::Write;

use serde_json::json;

use super::raw::{CLOSE, PING, PONG, Raw, TEXT, frame, head};
use crate::support::{Server, token};

/// First bytes of frames that are not the last of their message, and of their continuations.
const TEXT_BEGINS: u8 = 0x01;
const BINARY_BEGINS: u8 = 0x02;
const GOES_ON: u8 = 0x00;
const ENDS: u8 = 0x80;
const BINARY: u8 = 0x82;
/// The largest message.
const MESSAGE_BYTES_MAX: usize = 65_536;

/// What the hub sends.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    /// The reply to `ping`, with its id.
    Reply(u64),
    /// The reply to `set`, with the status that it set.
    Custom(String),
    /// An error: the message was whole and valid UTF-8, but not a request.
    Refused,
    Pong(Vec<u8>),
    Close(Option<u16>),
}
use Said::{Close, Custom, Pong, Refused, Reply};

/// How the bytes of a case are cut.
#[derive(Debug, Clone, Copy)]
enum Cut {
    Whole,
    Frames,
    Chops(usize),
}

struct Case {
    number: String,
    frames: Vec<Vec<u8>>,
    cut: Cut,
    /// Without a Close, the client then closes with 1000, and the hub must echo it.
    expected: Vec<Said>,
}

/// The cases so far.
#[derive(Default)]
struct Table(Vec<Case>);

impl Table {
    fn add(&mut self, number: impl Into<String>, frames: Vec<Vec<u8>>, expected: &[Said]) {
        self.cut(number, Cut::Whole, frames, expected);
    }

    fn cut(
        &mut self,
        number: impl Into<String>,
        cut: Cut,
        frames: Vec<Vec<u8>>,
        expected: &[Said],
    ) {
        let (number, expected) = (number.into(), expected.to_vec());
        self.0.push(Case { number, frames, cut, expected });
    }
}

/// A `ping` message of exactly this size.
fn ping(id: u64, size: usize) -> Vec<u8> {
    let message = json!({ "type": "ping", "id": id }).to_string();
    let padding = " ".repeat(size.checked_sub(message.len()).expect("room for the message"));
    (message + &padding).into_bytes()
}

/// A short `ping` message in one frame.
fn text(id: u64) -> Vec<u8> {
    frame(TEXT, &ping(id, 40))
}

/// A `set` message whose status is these bytes.
fn set(custom: &[u8]) -> Vec<u8> {
    [br#"{"type":"set","id":1,"custom":""#, custom, br#""}"#].concat()
}

/// A message in frames of this size.
fn fragments(message: &[u8], size: usize) -> Vec<Vec<u8>> {
    let count = message.chunks(size).len();
    let pieces = message.chunks(size).enumerate().map(|(n, piece)| {
        let opcode = if n == 0 { TEXT_BEGINS } else { GOES_ON };
        frame(if n + 1 == count { opcode | 0x80 } else { opcode }, piece)
    });
    pieces.collect()
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(CLOSE, &[&code.to_be_bytes(), reason].concat())
}

fn bytes(hex: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(hex.replace(' ', "").as_bytes()).expect("hexadecimal")
}

#[tokio::test]
async fn framing_1() {
    let mut table = Table::default();
    table.add("1.1.1", vec![frame(TEXT, b"")], &[Refused]);
    let sizes = [(2, 125), (3, 126), (4, 127), (5, 128), (6, 65_535), (7, 65_536)];
    for (n, size) in sizes {
        table.add(format!("1.1.{n}"), vec![frame(TEXT, &ping(n, size))], &[Reply(n)]);
        table.add(format!("1.2.{n}"), vec![frame(BINARY, &vec![0xfe; size])], &[Refused]);
    }
    table.add("1.2.1", vec![frame(BINARY, b"")], &[Refused]);
    let chops = Cut::Chops(997);
    table.cut("1.1.8", chops, vec![frame(TEXT, &ping(8, 65_536))], &[Reply(8)]);
    table.cut("1.2.8", chops, vec![frame(BINARY, &vec![0xfe; 65_536])], &[Refused]);
    check(table).await;
}

#[tokio::test]
async fn pings_and_pongs_2() {
    let mut table = Table::default();
    let binary = bytes("00 ff fe fd fc fb 00 ff");
    for (n, payload) in
        [(1, vec![]), (2, b"Hello, world!".to_vec()), (3, binary), (4, vec![0xfe; 125])]
    {
        table.add(format!("2.{n}"), vec![frame(PING, &payload)], &[Pong(payload)]);
    }
    table.add("2.5", vec![frame(PING, &[0xfe; 126])], &[Close(Some(1002))]);
    let large = vec![0xfe; 125];
    table.cut("2.6", Cut::Chops(1), vec![frame(PING, &large)], &[Pong(large)]);
    table.add("2.7", vec![frame(PONG, b"")], &[]);
    table.add("2.8", vec![frame(PONG, b"unasked")], &[]);
    let asked = Pong(b"ping payload".to_vec());
    table.add("2.9", vec![frame(PONG, b"unasked"), frame(PING, b"ping payload")], &[asked]);
    let ten: Vec<_> = (0..10_u8).map(|n| frame(PING, &[b'p', n])).collect();
    let pongs: Vec<_> = (0..10_u8).map(|n| Pong(vec![b'p', n])).collect();
    table.add("2.10", ten.clone(), &pongs);
    table.cut("2.11", Cut::Chops(1), ten, &pongs);
    check(table).await;
}

#[tokio::test]
async fn reserved_bits_3() {
    let mut table = Table::default();
    let failed = Close(Some(1002));
    table.add("3.1", vec![frame(TEXT | 0x10, b"{}")], std::slice::from_ref(&failed));
    let second = |bits| vec![text(1), frame(TEXT | bits, &ping(2, 40)), frame(PING, b"")];
    let answers = [Reply(1), failed.clone()];
    table.add("3.2", second(0x20), &answers);
    table.cut("3.3", Cut::Frames, second(0x30), &answers);
    table.cut("3.4", Cut::Chops(1), second(0x40), &answers);
    for (n, first) in [(5, BINARY | 0x50), (6, PING | 0x60), (7, CLOSE | 0x70)] {
        table.add(format!("3.{n}"), vec![frame(first, b"")], std::slice::from_ref(&failed));
    }
    check(table).await;
}

#[tokio::test]
async fn opcodes_4() {
    let mut table = Table::default();
    let failed = Close(Some(1002));
    for (group, opcodes) in [(1, 3..=7_u8), (2, 11..=15)] {
        for (n, opcode) in (1..).zip(opcodes) {
            let number = format!("4.{group}.{n}");
            let payload: &[u8] = if n == 1 { b"" } else { b"reserved" };
            let reserved = frame(0x80 | opcode, payload);
            match n {
                1 | 2 => table.add(number, vec![reserved], std::slice::from_ref(&failed)),
                _ => {
                    let frames = vec![text(1), reserved, frame(PING, b"")];
                    let cut = [Cut::Whole, Cut::Frames, Cut::Chops(1)][n - 3];
                    table.cut(number, cut, frames, &[Reply(1), failed.clone()]);
                }
            }
        }
    }
    check(table).await;
}

#[tokio::test]
async fn fragmentation_5() {
    let mut table = Table::default();
    let failed = Close(Some(1002));
    let fail = std::slice::from_ref(&failed);
    let message = ping(1, 40);
    let halves = fragments(&message, 20);
    let pong = |text: &str| Pong(text.as_bytes().to_vec());
    table.add("5.1", vec![frame(0x09, b"frag"), frame(ENDS, b"ment")], fail);
    table.add("5.2", vec![frame(0x0a, b"frag"), frame(ENDS, b"ment")], fail);
    let cuts = [Cut::Whole, Cut::Frames, Cut::Chops(1)];
    let with_ping = vec![halves[0].clone(), frame(PING, b"ping"), halves[1].clone()];
    for (n, cut) in cuts.into_iter().enumerate() {
        table.cut(format!("5.{}", 3 + n), cut, halves.clone(), &[Reply(1)]);
        table.cut(format!("5.{}", 6 + n), cut, with_ping.clone(), &[pong("ping"), Reply(1)]);
        let stray = vec![frame(ENDS, b"stray"), text(2)];
        table.cut(format!("5.{}", 9 + n), cut, stray, fail);
        let stray = vec![frame(GOES_ON, b"stray"), text(2)];
        table.cut(format!("5.{}", 12 + n), cut, stray, fail);
    }
    let [first, last] = [halves[0].clone(), halves[1].clone()];
    let after = vec![first.clone(), last.clone(), frame(GOES_ON, b"stray"), text(2)];
    table.add("5.15", after, &[Reply(1), failed.clone()]);
    for (number, stray) in [("5.16", GOES_ON), ("5.17", ENDS)] {
        let round = [frame(stray, b"stray"), first.clone(), last.clone()];
        table.add(number, [round.clone(), round].concat(), fail);
    }
    let new = vec![first.clone(), frame(TEXT, &message)];
    table.add("5.18", new, fail);
    let pieces = fragments(&message, 8);
    let mut five = pieces[..2].to_vec();
    five.push(frame(PING, b"one"));
    five.extend_from_slice(&pieces[2..4]);
    five.push(frame(PING, b"two"));
    five.push(pieces[4].clone());
    let answers = [pong("one"), pong("two"), Reply(1)];
    table.cut("5.19", Cut::Frames, five.clone(), &answers);
    table.cut("5.20", Cut::Chops(1), five, &answers);
    let binary = vec![frame(BINARY_BEGINS, b"a"), frame(GOES_ON, b""), frame(ENDS, b"b")];
    table.add("binary in fragments", binary, &[Refused]);
    check(table).await;
}

#[tokio::test]
async fn closes_7() {
    let mut table = Table::default();
    let normal = Close(Some(1000));
    let end = close(1000, b"");
    table.add("7.1.1", vec![text(1), end.clone()], &[Reply(1), normal.clone()]);
    let after_close = [("7.1.2", end.clone()), ("7.1.3", frame(PING, b"late")), ("7.1.4", text(1))];
    for (number, late) in after_close {
        table.add(number, vec![end.clone(), late], std::slice::from_ref(&normal));
    }
    let halves = fragments(&ping(1, 40), 20);
    let within = vec![halves[0].clone(), end.clone(), halves[1].clone()];
    table.add("7.1.5", within, std::slice::from_ref(&normal));
    let large = vec![frame(TEXT, &ping(1, MESSAGE_BYTES_MAX)), end.clone(), frame(PING, b"")];
    table.add("7.1.6", large, &[Reply(1), normal.clone()]);

    let failed = Close(Some(1002));
    table.add("7.3.1", vec![frame(CLOSE, b"")], &[Close(None)]);
    table.add("7.3.2", vec![frame(CLOSE, b"a")], std::slice::from_ref(&failed));
    for (number, reason) in [("7.3.3", ""), ("7.3.4", "Hello World!"), ("7.3.5", &"*".repeat(123))]
    {
        let frames = vec![close(1000, reason.as_bytes())];
        table.add(number, frames, std::slice::from_ref(&normal));
    }
    table.add("7.3.6", vec![close(1000, &[b'*'; 124])], std::slice::from_ref(&failed));
    let not_utf8 = bytes("ce ba e1 bd b9 cf 83 ce bc ce b5 ed a0 80");
    table.add("7.5.1", vec![close(1000, &not_utf8)], &[Close(Some(1007))]);

    let valid = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999_u16];
    for (n, code) in (1..).zip(valid) {
        table.add(format!("7.7.{n}"), vec![close(code, b"")], &[Close(Some(code))]);
    }
    for (n, code) in (1..).zip([0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999_u16]) {
        table.add(format!("7.9.{n}"), vec![close(code, b"")], std::slice::from_ref(&failed));
    }
    // 7.13.2 sends 65,536, which does not fit into the two bytes of a code.
    for (n, code) in (1..).zip([5000, 65_535_u16]) {
        table.add(format!("7.13.{n}"), vec![close(code, b"")], std::slice::from_ref(&failed));
    }
    check(table).await;
}

#[tokio::test]
async fn limits_9_and_automatic_fragments_10() {
    let mut table = Table::default();
    let sizes = [16_384, 32_768, MESSAGE_BYTES_MAX];
    for (n, size) in (1..).zip(sizes) {
        table.add(format!("9.1.{n}"), vec![frame(TEXT, &ping(n, size))], &[Reply(n)]);
        table.add(format!("9.2.{n}"), vec![frame(BINARY, &vec![0; size])], &[Refused]);
    }
    let too_large = [Close(Some(1009))];
    let over = MESSAGE_BYTES_MAX + 1;
    table.add("9.1.4", vec![frame(TEXT, &ping(4, over))], &too_large);
    table.add("9.1.5", vec![head(TEXT, 16 * 1024 * 1024)], &too_large);
    table.add("9.2.4", vec![frame(BINARY, &vec![0; over])], &too_large);
    table.add("9.2.5", vec![head(BINARY, 16 * 1024 * 1024)], &too_large);
    for (n, size) in (1..).zip([256, 1024, 4096, 16_384, 32_768]) {
        let message = ping(n, MESSAGE_BYTES_MAX);
        table.add(format!("9.3.{n}"), fragments(&message, size), &[Reply(n)]);
        let message = ping(n, MESSAGE_BYTES_MAX + 1);
        table.add(format!("9.4.{n}"), fragments(&message, size), &too_large);
    }
    for (n, size) in (1..).zip([64, 128, 256, 512, 1024, 2048]) {
        let message = frame(TEXT, &ping(n, MESSAGE_BYTES_MAX));
        table.cut(format!("9.5.{n}"), Cut::Chops(size), vec![message], &[Reply(n)]);
    }
    for (n, size) in (1..).zip([40, 64, 256, 1024, 4096, 16_384]) {
        let messages = (0..40).map(|id| frame(TEXT, &ping(id, size)));
        let replies: Vec<_> = (0..40).map(Reply).collect();
        table.add(format!("9.7.{n}"), messages.collect(), &replies);
    }
    let automatic = fragments(&ping(1, MESSAGE_BYTES_MAX), 1300);
    table.add("10.1.1", automatic, &[Reply(1)]);
    check(table).await;
}

/// Runs each case on a connection of its own, and reports all that fail.
async fn check(table: Table) {
    let server = Server::start(&[
        ("login.policy", "multi"),
        ("server.max_message_bytes", &MESSAGE_BYTES_MAX.to_string()),
        // The bounds on traffic have tests of their own.
        ("limits.messages_per_second", "1000000"),
        ("limits.message_burst", "1000000"),
        ("limits.changes_per_user_per_minute", "1000000"),
    ]);
    let mut wrong = String::new();
    for case in table.0 {
        let said = run(&server, &case).await;
        let mut expected = case.expected;
        if !matches!(expected.last(), Some(Close(_))) {
            expected.push(Close(Some(1000)));
        }
        if said != expected {
            let (number, cut) = (case.number, case.cut);
            writeln!(wrong, "{number} ({cut:?}): expected {expected:?}, got {said:?}").ok();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

async fn run(server: &Server, case: &Case) -> Vec<Said> {
    let mut raw = Raw::upgrade(server).await;
    let login = json!({
        "type": "login", "id": 1, "token": token("ann"), "platform": "linux", "device": "d",
    });
    raw.say(&login).await;
    assert_eq!(raw.message().await["ok"]["user"], "ann", "{}", case.number);

    let whole = case.frames.concat();
    let pieces: Vec<&[u8]> = match case.cut {
        Cut::Whole => vec![&whole],
        Cut::Frames => case.frames.iter().map(Vec::as_slice).collect(),
        Cut::Chops(size) => whole.chunks(size).collect(),
    };
    for piece in pieces {
        raw.send(piece).await;
    }
    if !matches!(case.expected.last(), Some(Close(_))) {
        raw.send(&close(1000, b"")).await;
    }
    let mut said = Vec::new();
    while let Some((first, payload)) = raw.frame().await {
        said.push(match first {
            TEXT => answer(&payload),
            PONG => Pong(payload),
            CLOSE => Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
            other => panic!("{}: a frame that begins with {other:#x}", case.number),
        });
    }
    said
}

fn answer(payload: &[u8]) -> Said {
    let answer: serde_json::Value = serde_json::from_slice(payload).expect("JSON");
    match (&answer["ok"], answer["id"].as_u64()) {
        (ok, Some(id)) if ok["now"].is_u64() => Reply(id),
        (ok, Some(_)) if ok["status"]["custom"].is_string() => {
            Custom(ok["status"]["custom"].as_str().expect("a text").to_owned())
        }
        _ if answer["error"]["code"] == "bad_request" => Refused,
        _ => panic!("{answer}"),
    }
}
