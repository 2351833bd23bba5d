//! A client of a simulation: one device, its session, and its present connection.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::fault::{Fault, other};
use crate::presence::Platform;

/// The longest time for a reply.
const REPLY_MAX: Duration = Duration::from_secs(10);
/// The requests that a connection has not sent yet; who asks waits for the reply.
const ORDERS_MAX: usize = 4;
/// The interval at which it is checked whether a connection has ended.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// One device of a user.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) platform: Platform,
    /// The lifetime of its tokens, if the scenario says it.
    pub(super) token_ttl: Option<Duration>,
    /// The session that it resumes.
    pub(super) session: Option<String>,
    pub(super) line: Line,
}

/// Whether a device can reach the hub.
#[derive(Debug)]
pub(super) enum Line {
    Connected(Connection),
    /// Its network is cut. The socket stays open, so that the hub is not told.
    Cut(#[expect(dead_code, reason = "only held open")] Connection),
    Closed,
}

/// How the hub ended a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Ended {
    /// The reason of the kick, if there was one.
    pub(super) kicked: Option<String>,
    /// The close code, if there was one.
    pub(super) code: Option<u16>,
    pub(super) is_over: bool,
}

/// An open connection. It is dropped without a Close frame.
#[derive(Debug)]
pub(super) struct Connection {
    orders: mpsc::Sender<Order>,
    ended: Arc<Mutex<Ended>>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
enum Order {
    Ask(Value, oneshot::Sender<Value>),
    Close(u16),
}

/// A request without a reply: the hub has closed the connection.
#[derive(Debug)]
pub(super) struct NoReply;

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// Connects.
    pub(super) async fn open(hub: SocketAddr) -> Result<Self, Fault> {
        let stream = TcpStream::connect(hub).await;
        let stream = stream.map_err(|error| other("cannot connect to the hub", &error))?;
        let opened = client_async(format!("ws://{hub}/ws"), stream).await;
        let (socket, _) = opened.map_err(|error| other("cannot open a WebSocket", &error))?;
        let (orders, received) = mpsc::channel(ORDERS_MAX);
        let ended = Arc::<Mutex<Ended>>::default();
        let task = tokio::spawn(serve(socket, received, Arc::clone(&ended)));
        Ok(Self { orders, ended, task })
    }

    /// Sends a request; returns its reply.
    pub(super) async fn ask(&self, request: Value) -> Result<Value, NoReply> {
        let (reply, replied) = oneshot::channel();
        self.orders.send(Order::Ask(request, reply)).await.map_err(|_| NoReply)?;
        timeout(REPLY_MAX, replied).await.map_err(|_| NoReply)?.map_err(|_| NoReply)
    }

    /// Closes the connection with a Close frame, and waits for the hub's.
    pub(super) async fn close(mut self, code: u16) {
        self.orders.send(Order::Close(code)).await.ok();
        timeout(REPLY_MAX, &mut self.task).await.ok();
    }

    /// Waits until the hub has ended it.
    pub(super) async fn until_ended(&self) -> Ended {
        let over = async {
            while !self.ended().is_over {
                sleep(LOOK_EVERY).await;
            }
        };
        timeout(REPLY_MAX, over).await.ok();
        self.ended()
    }

    /// How it was ended, so far.
    pub(super) fn ended(&self) -> Ended {
        self.ended.lock().clone()
    }
}

/// Serves a connection until its end. Reading answers pings.
async fn serve(
    mut socket: WebSocketStream<TcpStream>,
    mut orders: mpsc::Receiver<Order>,
    ended: Arc<Mutex<Ended>>,
) {
    let (mut id, mut asked) = (0_u64, BTreeMap::new());
    loop {
        tokio::select! {
            Some(order) = orders.recv() => {
                let sent = match order {
                    Order::Ask(mut request, reply) => {
                        id += 1;
                        request["id"] = json!(id);
                        asked.insert(id, reply);
                        socket.send(Message::text(request.to_string())).await
                    }
                    Order::Close(code) => {
                        let frame = CloseFrame { code: CloseCode::from(code), reason: "".into() };
                        socket.close(Some(frame)).await
                    }
                };
                if sent.is_err() {
                    break;
                }
            }
            heard = socket.next() => match heard {
                Some(Ok(Message::Text(text))) => {
                    let Ok(message) = serde_json::from_str::<Value>(&text) else { continue };
                    match message["type"].as_str() {
                        Some("reply") => {
                            let reply = message["id"].as_u64().and_then(|id| asked.remove(&id));
                            // Who asked may not wait any more.
                            reply.map(|reply| reply.send(message));
                        }
                        Some("kicked") => {
                            ended.lock().kicked = message["reason"].as_str().map(str::to_owned);
                        }
                        Some(_) | None => (),
                    }
                }
                Some(Ok(Message::Close(frame))) => {
                    ended.lock().code = frame.map(|frame| frame.code.into());
                }
                Some(Ok(
                    Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_),
                )) => (),
                Some(Err(_)) | None => break,
            },
        }
    }
    ended.lock().is_over = true;
}
