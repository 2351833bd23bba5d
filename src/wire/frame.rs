use bytes::Bytes;
use serde::Serialize;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::Close;

/// Frames a message, once for all the sockets it goes to.
pub fn text_frame(message: &impl Serialize) -> Bytes {
    let json = serde_json::to_vec(message)
        .unwrap_or_else(|error| unreachable!("hub messages are plain structs: {error}"));
    encode(Frame::message(json, OpCode::Data(Data::Text), true))
}

/// A protocol-level Ping, which browsers answer below JavaScript (T13).
pub fn ping_frame() -> Bytes {
    encode(Frame::ping(Bytes::new()))
}

/// A Close frame.
pub fn close_frame(close: Close) -> Bytes {
    let reason = close.reason().into();
    encode(Frame::close(Some(CloseFrame { code: close.code().into(), reason })))
}

fn encode(frame: Frame) -> Bytes {
    let mut bytes = Vec::with_capacity(frame.len());
    frame.format(&mut bytes).unwrap_or_else(|error| unreachable!("a vector takes it: {error}"));
    bytes.into()
}
