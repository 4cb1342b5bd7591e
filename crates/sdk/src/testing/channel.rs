//! The host's end of a channel in a test: sends frames, answers questions from the script.

use axum::http::Request;
use futures_util::{SinkExt, StreamExt};
use serde_json::value::RawValue;
use temps_protocol::channel::Ack;
use temps_protocol::{HostFrame, PluginFrame};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::client::{Door, Io};
use super::platform::TestPlatform;
use super::{PATIENCE, TestError};

/// Frames that may wait to be sent.
const OUTGOING: usize = 64;

/// Confirmations that may wait to be looked at.
const ACKS: usize = 1024;

/// One channel. It is cut when this is dropped.
#[derive(Debug)]
pub(super) struct TestChannel {
    outgoing: mpsc::Sender<Order>,
    acks: Mutex<mpsc::Receiver<Ack>>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
enum Order {
    Send(Message, oneshot::Sender<()>),
    /// Answered when the plugin's pong came: everything sent before was read.
    Ping(oneshot::Sender<()>),
}

impl TestChannel {
    /// Connects as a host does, right after ready.
    pub(super) async fn connect(door: &Door, platform: TestPlatform) -> Result<Self, TestError> {
        let wire = |e: &dyn std::fmt::Display| TestError::Wire(format!("the channel was not accepted: {e}"));
        let request = Request::builder()
            .uri("ws://localhost/_temps/channel")
            .header("host", "localhost")
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(())
            .map_err(|e| wire(&e))?;
        let io = door.connect().await?;
        let (socket, _) = timeout(PATIENCE, tokio_tungstenite::client_async(request, io))
            .await
            .map_err(|_| TestError::Timeout("accepting the channel"))?
            .map_err(|e| wire(&e))?;
        let (outgoing, orders) = mpsc::channel(OUTGOING);
        let (ack, acks) = mpsc::channel(ACKS);
        let task = tokio::spawn(serve(socket, orders, platform, ack));
        Ok(Self { outgoing, acks: Mutex::new(acks), task })
    }

    /// Sends one text frame; returns when it is written.
    pub(super) async fn send(&self, text: String) -> Result<(), TestError> {
        let (done, written) = oneshot::channel();
        self.order(Order::Send(Message::text(text), done), written).await
    }

    /// Returns when the plugin has read everything that was sent before.
    pub(super) async fn ping(&self) -> Result<(), TestError> {
        let (done, ponged) = oneshot::channel();
        self.order(Order::Ping(done), ponged).await
    }

    /// The next confirmation of an event, in the order in which the plugin sent them.
    pub(super) async fn ack(&self) -> Result<Ack, TestError> {
        let mut acks = self.acks.lock().await;
        let next = timeout(PATIENCE, acks.recv()).await.map_err(|_| TestError::Timeout("an ack"))?;
        next.ok_or_else(|| TestError::Wire("the channel was lost".into()))
    }

    async fn order(&self, order: Order, done: oneshot::Receiver<()>) -> Result<(), TestError> {
        let lost = || TestError::Wire("the channel was lost".into());
        let work = async {
            self.outgoing.send(order).await.map_err(|_| lost())?;
            done.await.map_err(|_| lost())
        };
        timeout(PATIENCE, work).await.map_err(|_| TestError::Timeout("a frame on the channel"))?
    }

    /// Returns when the plugin, or a newer channel, has ended this one.
    pub(super) async fn ended(&mut self) -> Result<(), TestError> {
        timeout(PATIENCE, &mut self.task)
            .await
            .map(|_| ())
            .map_err(|_| TestError::Timeout("the end of the channel"))
    }
}

impl Drop for TestChannel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut socket: WebSocketStream<Box<dyn Io>>,
    mut orders: mpsc::Receiver<Order>,
    platform: TestPlatform,
    acks: mpsc::Sender<Ack>,
) {
    let mut pings = std::collections::VecDeque::new();
    loop {
        tokio::select! {
            order = orders.recv() => {
                let sent = match order {
                    Some(Order::Send(message, done)) => socket.send(message).await.map(|()| { let _ = done.send(()); }),
                    Some(Order::Ping(done)) => {
                        pings.push_back(done);
                        socket.send(Message::Ping(Vec::new().into())).await
                    }
                    None => return,
                };
                if sent.is_err() {
                    return;
                }
            }
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    if let Ok(PluginFrame::Ack(ack)) = PluginFrame::parse(&text) {
                        let _ = acks.try_send(ack);
                    } else if let Some(answer) = answer(&text, &platform)
                        && socket.send(Message::text(answer)).await.is_err()
                    {
                        return;
                    }
                }
                Some(Ok(Message::Pong(_))) => {
                    if let Some(done) = pings.pop_front() {
                        let _ = done.send(());
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            },
        }
    }
}

fn answer(text: &str, platform: &TestPlatform) -> Option<String> {
    let Ok(PluginFrame::Request { request, .. }) = PluginFrame::parse(text) else { return None };
    let outcome = platform
        .ask(&request.method, &request.params)?
        .map(|value| RawValue::from_string(value.to_string()).unwrap_or_default());
    Some(HostFrame::response_json(&request.id, &outcome))
}
