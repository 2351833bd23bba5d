//! Encodes messages, pings and closes as WebSocket frames.

use std::cell::RefCell;

use bytes::Bytes;
use serde::Serialize;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};

use super::Close;

/// The maximum size of a server's frame header (RFC 6455, section 5.2).
const HEADER_BYTES_MAX: usize = 10;

thread_local! {
    /// A buffer that each thread reuses, so that the returned frame is allocated in its exact size.
    static DRAFT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Encodes a message as a text frame; the same bytes can go to many sockets.
pub fn text_frame(message: &impl Serialize) -> Bytes {
    DRAFT.with_borrow_mut(|draft| {
        // The header's size depends on the message's size, so room for the largest is left.
        draft.clear();
        draft.resize(HEADER_BYTES_MAX, 0);
        serde_json::to_writer(&mut *draft, message)
            .unwrap_or_else(|error| unreachable!("hub messages are plain structs: {error}"));
        let (room, message) = draft.split_at_mut(HEADER_BYTES_MAX);
        let header = FrameHeader { opcode: OpCode::Data(Data::Text), ..FrameHeader::default() };
        let length = message.len() as u64;
        let begin = HEADER_BYTES_MAX - header.len(length);
        header
            .format(length, &mut &mut room[begin..])
            .unwrap_or_else(|error| unreachable!("there is room: {error}"));
        Bytes::copy_from_slice(&draft[begin..])
    })
}

/// Makes a Ping frame, which browsers answer below JavaScript (T13).
pub fn ping_frame() -> Bytes {
    encode(Frame::ping(Bytes::new()))
}

/// Makes a Close frame.
pub fn close_frame(close: Close) -> Bytes {
    let reason = close.reason().into();
    encode(Frame::close(Some(CloseFrame { code: close.code().into(), reason })))
}

fn encode(frame: Frame) -> Bytes {
    let mut bytes = Vec::with_capacity(frame.len());
    frame.format(&mut bytes).unwrap_or_else(|error| unreachable!("a vector takes it: {error}"));
    bytes.into()
}
