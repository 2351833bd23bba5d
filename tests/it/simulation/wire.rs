//! A client's connection to a hub: a task in the hub's runtime.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;

use futures::{SinkExt, StreamExt};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::lab::Lab;
use crate::support::Heard;

/// The buffer of a socket.
const SOCKET_BYTES: usize = 64 * 1024;
/// How many orders wait for a hub that stands still.
const ORDERS_MAX: usize = 1024;

/// A client's connection. Dropping it closes the socket.
pub(super) struct Wire {
    orders: mpsc::Sender<Order>,
    line: Arc<Mutex<Line>>,
}

enum Order {
    Send(Value),
    /// The network is lost: the socket stays open, but nothing is read or written.
    FallSilent,
}

/// What the connection noticed since the client last looked.
#[derive(Default)]
pub(super) struct Line {
    pub(super) heard: VecDeque<Heard>,
    /// Whether anything came from the hub.
    pub(super) has_heard: bool,
    /// Whether anything was sent to the hub, such as the answer to a ping.
    pub(super) has_spoken: bool,
}

impl Wire {
    /// Connects to a node. Must be called in the node's runtime.
    pub(super) fn connect(lab: &Lab) -> Self {
        let (near, _) = lab.connect_raw(SOCKET_BYTES, None);
        let (orders, received) = mpsc::channel(ORDERS_MAX);
        let line = Arc::<Mutex<Line>>::default();
        tokio::spawn(talk(near, received, Ended(Arc::clone(&line))));
        Self { orders, line }
    }

    pub(super) fn send(&self, message: Value) {
        self.order(Order::Send(message));
    }

    pub(super) fn fall_silent(&self) {
        self.order(Order::FallSilent);
    }

    fn order(&self, order: Order) {
        // Fails if the hub is gone.
        self.orders.try_send(order).ok();
    }

    /// What the connection noticed since the last call.
    pub(super) fn look(&self) -> Line {
        std::mem::take(&mut *self.line.lock())
    }
}

/// Notes the end of the connection, also if its hub is killed.
struct Ended(Arc<Mutex<Line>>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.lock().heard.push_back(Heard::Gone);
    }
}

async fn talk(near: DuplexStream, mut orders: mpsc::Receiver<Order>, line: Ended) {
    let mut socket = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
    loop {
        tokio::select! {
            biased;
            order = orders.recv() => match order {
                Some(Order::Send(message)) => {
                    line.0.lock().has_spoken = true;
                    if socket.send(Message::text(message.to_string())).await.is_err() {
                        return;
                    }
                }
                Some(Order::FallSilent) => return pending().await,
                None => return,
            },
            message = socket.next() => {
                let heard = match message {
                    Some(Ok(Message::Text(text))) => {
                        Some(Heard::Message(serde_json::from_str(&text).expect("JSON")))
                    }
                    Some(Ok(Message::Close(Some(frame)))) => Some(Heard::Closed(frame.code.into())),
                    Some(Ok(Message::Ping(_))) => None,
                    Some(Ok(other)) => panic!("{other:?}"),
                    Some(Err(_)) | None => return,
                };
                let mut line = line.0.lock();
                line.has_heard = true;
                // A ping is answered when the next message is awaited.
                line.has_spoken |= heard.is_none();
                line.heard.extend(heard);
            }
        }
    }
}
