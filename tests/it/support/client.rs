//! A WebSocket client that tests control step by step.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::canary::Canary;
use super::tokens::token;

/// A client that acts only when told to. Reading answers pings.
pub(crate) struct Client<S = TcpStream> {
    pub(crate) socket: WebSocketStream<S>,
    next_id: u64,
    /// The timeout for the next message.
    hear_timeout: Duration,
}

/// What a client receives.
#[derive(Debug, PartialEq)]
pub(crate) enum Heard {
    Message(Value),
    /// A Close frame with this code.
    Closed(u16),
    /// The end without a Close frame.
    Gone,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// A client on a socket whose handshake is done.
    pub(crate) fn over(socket: WebSocketStream<S>, hear_timeout: Duration) -> Self {
        Self { socket, next_id: 0, hear_timeout }
    }

    /// Sends a message as it is.
    pub(crate) async fn send(&mut self, message: &Value) {
        self.socket.send(Message::text(message.to_string())).await.expect("to send");
    }

    /// Returns the next message, or the end; answers pings meanwhile.
    pub(crate) async fn hear(&mut self) -> Heard {
        loop {
            let next = timeout(self.hear_timeout, self.socket.next()).await;
            let next = next.expect("something to be heard");
            match next {
                Some(Ok(Message::Text(text))) => {
                    Canary::default().assert_hidden(&text, "a message");
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

    /// Returns the next message.
    pub(crate) async fn message(&mut self) -> Value {
        match self.hear().await {
            Heard::Message(message) => message,
            end @ (Heard::Closed(_) | Heard::Gone) => panic!("{end:?} instead of a message"),
        }
    }

    /// Reads until the end; returns the messages and the close code.
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

    /// Sends a request and returns its reply; drops other messages.
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

    /// Like `request`, but returns `None` if the connection ends first.
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

    /// Sends a request that must succeed; returns its result.
    pub(crate) async fn ok(&mut self, message: Value) -> Value {
        let reply = self.request(message).await;
        assert!(reply.get("ok").is_some(), "{reply}");
        reply["ok"].clone()
    }

    /// Sends a request that must fail; returns the error code.
    pub(crate) async fn error(&mut self, message: Value) -> String {
        let reply = self.request(message).await;
        reply["error"]["code"].as_str().unwrap_or_else(|| panic!("{reply}")).to_owned()
    }

    pub(crate) async fn login(&mut self, user: &str, platform: &str, device: &str) -> Value {
        let token = token(user);
        let login =
            json!({ "type": "login", "token": token, "platform": platform, "device": device });
        self.ok(login).await
    }
}
