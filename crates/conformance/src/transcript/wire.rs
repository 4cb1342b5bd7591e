//! The host's hands while a transcript is played: a channel and requests that report whatever comes, and judge nothing.

use std::path::PathBuf;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Request};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::http::connect;

/// Longest body of an answer that is read, in bytes.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// Messages that wait to be sent.
const QUEUE: usize = 1024;

/// Messages that the plugin may be ahead of the play. One that floods is not read any further.
pub(super) const AHEAD: usize = 10_000;

/// Something of the plugin.
#[derive(Debug)]
pub(super) enum Arrival {
    /// A text message of the channel with this number.
    Frame(usize, String),
    /// A message that is no text.
    Binary(usize, usize),
    Pong(usize, Vec<u8>),
    Closed(usize, String),
    /// The answer to the request that is this step of the life.
    Answer(usize, Result<Answer, String>),
    /// How the request for the channel was answered, and the channel.
    Upgrade(usize, Result<Result<Box<WebSocketStream<UnixStream>>, u16>, String>),
}

/// A plugin's answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// What is sent over a channel. Dropped, it loses the connection.
#[derive(Debug)]
pub(super) struct Sending {
    orders: mpsc::Sender<Message>,
    task: tokio::task::JoinHandle<()>,
}

impl Sending {
    /// Serves the channel with this number.
    pub(super) fn over(
        socket: WebSocketStream<UnixStream>,
        number: usize,
        tell: mpsc::Sender<Arrival>,
    ) -> Self {
        let (orders, waiting) = mpsc::channel(QUEUE);
        Self { orders, task: tokio::spawn(serve(socket, number, waiting, tell)) }
    }

    pub(super) async fn send(&self, message: Message) {
        // When the channel is closed, its arrival says so.
        let _ = self.orders.send(message).await;
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut socket: WebSocketStream<UnixStream>,
    number: usize,
    mut orders: mpsc::Receiver<Message>,
    tell: mpsc::Sender<Arrival>,
) {
    let why = loop {
        let came = tokio::select! {
            order = orders.recv() => {
                let Some(order) = order else { return };
                match socket.send(order).await {
                    Ok(()) => continue,
                    Err(error) => break error.to_string(),
                }
            }
            came = socket.next() => came,
        };
        let arrival = match came {
            Some(Ok(Message::Text(text))) => Arrival::Frame(number, text.as_str().to_owned()),
            Some(Ok(Message::Binary(bytes))) => Arrival::Binary(number, bytes.len()),
            Some(Ok(Message::Pong(payload))) => Arrival::Pong(number, payload.to_vec()),
            Some(Ok(Message::Close(_))) => break "the plugin closed it".to_owned(),
            Some(Ok(_)) => continue,
            Some(Err(error)) => break error.to_string(),
            None => break "the connection ended".to_owned(),
        };
        match tell.try_send(arrival) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => break format!("it sent {AHEAD} messages that nobody waits for"),
            Err(TrySendError::Closed(_)) => return,
        }
    };
    drop(socket);
    // Nobody plays any more, otherwise.
    let _ = tell.send(Arrival::Closed(number, why)).await;
}

/// Asks on a connection of its own. Of a stream only the head is waited for.
pub(super) async fn ask(
    socket: PathBuf,
    request: Request<BoxBody<Bytes, std::convert::Infallible>>,
    is_stream: bool,
) -> Result<Answer, String> {
    let stream = connect(&socket).await.map_err(|error| format!("no connection ({error})"))?;
    let (mut sender, connection) =
        handshake(TokioIo::new(stream)).await.map_err(|error| format!("no connection ({error})"))?;
    // It ends with the connection; what went wrong is seen by the request.
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(|error| format!("no answer ({error})"))?;
    let (head, body) = response.into_parts();
    let body = if is_stream {
        Bytes::new()
    } else {
        let whole = Limited::new(body, MAX_BODY).collect().await;
        whole.map_err(|error| format!("a broken body ({error})"))?.to_bytes()
    };
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
}

#[cfg(test)]
mod tests {
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    #[tokio::test]
    async fn a_plugin_that_floods_loses_its_channel_and_is_told_of() {
        let (host, plugin) = UnixStream::pair().unwrap();
        let host = WebSocketStream::from_raw_socket(host, Role::Client, None).await;
        let mut plugin = WebSocketStream::from_raw_socket(plugin, Role::Server, None).await;
        let (tell, mut arrivals) = mpsc::channel(AHEAD);
        let _sending = Sending::over(host, 1, tell);
        // Until the other end is gone; nobody reads what arrives meanwhile.
        while plugin.send(Message::text("{}")).await.is_ok() {}
        for _ in 0..AHEAD {
            assert!(matches!(arrivals.recv().await, Some(Arrival::Frame(1, _))));
        }
        let Some(Arrival::Closed(1, why)) = arrivals.recv().await else { panic!("it goes on") };
        assert!(why.contains("nobody waits for"), "{why}");
    }
}
