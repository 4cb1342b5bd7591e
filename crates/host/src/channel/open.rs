//! Opening a channel: connect to the plugin's socket, ask for the upgrade, start the session.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use temps_protocol::{PluginName, limits};
use temps_store::HostStore;
use tokio::net::UnixStream;
use tokio::sync::{Mutex, Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_util::sync::CancellationToken;

use super::patient::PatientStream;
use super::session::Session;
use super::{ACK_QUEUE, ChannelHandle, MAX_PINGS, SEND_QUEUE};
use crate::audit::Audit;
use crate::configuration::Injected;
use crate::grants::Grants;
use crate::metrics::Metrics;
use crate::platform::Platform;
use crate::plugin::socket::{self, ConnectError};
use crate::secrets::Secret;
use crate::tap::PluginTap;

/// Where a plugin serves its channel.
pub const CHANNEL_PATH: &str = "/_temps/channel";

/// How long the plugin's socket may take to be there and to take a connection. The plugin said that it is ready.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the plugin may take to answer the upgrade. Runtimes load code at the first request, on a machine that starts
/// many plugins at once; a plugin that hangs fails its start after this time.
pub const UPGRADE_TIMEOUT: Duration = Duration::from_secs(5);

/// Time between two tries while the socket is not there. Some plugins say ready right before they bind it.
const BIND_PAUSE: Duration = Duration::from_millis(20);

/// Buffer for reading in bytes. Frames are a few hundred bytes, and the library clears the buffer often.
const READ_BUFFER: usize = 8 * 1024;

/// Bytes that may wait in the library for the socket: one frame of the largest kind beyond what is written at once.
const MAX_WRITE_BUFFER: usize = 4 * limits::MAX_FRAME_BYTES;

/// Answers to the first upgrade by which a plugin says that it has no channel.
const NO_CHANNEL: [u16; 4] = [404, 400, 426, 501];

/// What a channel is opened with.
#[derive(Clone)]
pub struct ChannelSpec {
    /// Name of the plugin.
    pub name: PluginName,
    /// The secret of this start.
    pub secret: Secret,
    /// What the plugin may do, looked at for every request.
    pub grants: watch::Receiver<Arc<Grants>>,
    /// Whose data it may ask for.
    pub platform: Arc<dyn Platform>,
    /// Where the plugin's key-value storage is.
    pub store: Arc<dyn HostStore>,
    /// The plugin's configuration.
    pub config: watch::Receiver<Injected>,
    /// Whether the plugin and the host agreed on acks.
    pub acks: bool,
    /// Where refusals are recorded.
    pub audit: Audit,
    /// Where frames and calls are counted.
    pub metrics: Metrics,
    /// Where frames can be watched.
    pub tap: PluginTap,
}

/// What an attempt to open a channel led to.
#[derive(Debug, Clone)]
pub enum Opened {
    /// The channel is open.
    Channel(ChannelHandle),
    /// The plugin answered that it has none. At the first try it runs without one.
    Unsupported {
        /// The HTTP status that it answered.
        status: u16,
    },
}

/// Why a channel could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no connection.
    #[error("the channel could not be opened: {0}")]
    Connect(#[from] ConnectError),
    /// The plugin took the connection and did not answer.
    #[error("the plugin did not answer the channel's upgrade within {} s", UPGRADE_TIMEOUT.as_secs())]
    NoAnswer,
    /// The plugin refused.
    #[error(
        "the plugin answered the channel's upgrade with status {status}; accept it with 101, or answer 404 to run without a channel"
    )]
    Refused {
        /// The HTTP status.
        status: u16,
    },
    /// What the plugin answered is no answer to an upgrade.
    #[error("the plugin's answer to the channel's upgrade cannot be understood: {0}")]
    NotUnderstood(String),
}

/// Connects to a plugin's socket and opens its channel.
///
/// # Errors
/// [`OpenError`]: a start that gets this far and no further has failed.
pub async fn open(spec: ChannelSpec, path: &Path, launcher_pid: u32) -> Result<Opened, OpenError> {
    let stream = connect(path, launcher_pid).await?;
    open_over(spec, stream).await
}

/// Waits for the socket as well: a plugin may say ready a moment before it listens.
async fn connect(path: &Path, launcher_pid: u32) -> Result<UnixStream, ConnectError> {
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match socket::connect(path, launcher_pid, left).await {
            Err(ConnectError::Missing(_) | ConnectError::Refused(_)) if left > BIND_PAUSE => {
                sleep(BIND_PAUSE).await;
            }
            other => return other,
        }
    }
}

/// Opens a channel over a connection that is there.
///
/// # Errors
/// [`OpenError`], all but `Connect`.
pub async fn open_over(spec: ChannelSpec, stream: UnixStream) -> Result<Opened, OpenError> {
    let (stream, progress) = PatientStream::new(stream);
    let socket = match timeout(UPGRADE_TIMEOUT, upgrade(&spec.secret, stream)).await {
        Err(_) => return Err(OpenError::NoAnswer),
        Ok(Err(OpenError::Refused { status })) if NO_CHANNEL.contains(&status) => {
            return Ok(Opened::Unsupported { status });
        }
        Ok(upgraded) => upgraded?,
    };
    let (outgoing, queue) = mpsc::channel(SEND_QUEUE);
    let (tell_acks, acks) = mpsc::channel(ACK_QUEUE);
    let handle = ChannelHandle {
        closed: CancellationToken::new(),
        acks: Arc::new(Mutex::new(acks)),
        outgoing,
        closing: CancellationToken::new(),
        pings: Arc::new(Semaphore::new(MAX_PINGS)),
        end: Arc::new(OnceLock::new()),
    };
    tokio::spawn(Session::new(spec, socket, progress, &handle, queue, tell_acks).run());
    Ok(Opened::Channel(handle))
}

/// Asks for the upgrade. The answer is read by an HTTP client, not by the WebSocket library, because plugins without a channel
/// may answer in any version of HTTP/1.
async fn upgrade(
    secret: &Secret,
    stream: PatientStream,
) -> Result<WebSocketStream<PatientStream>, OpenError> {
    let not_understood = |error: &dyn std::fmt::Display| OpenError::NotUnderstood(error.to_string());
    let key = generate_key();
    let request = upgrade_request(secret, &key).map_err(|e| not_understood(&e))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| not_understood(&e))?;
    tokio::spawn(connection.with_upgrades());
    let response = sender.send_request(request).await.map_err(|e| not_understood(&e))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(OpenError::Refused { status: response.status().as_u16() });
    }
    let accepted = response.headers().get(header::SEC_WEBSOCKET_ACCEPT);
    if accepted.is_none_or(|accepted| accepted.as_bytes() != derive_accept_key(key.as_bytes()).as_bytes()) {
        return Err(not_understood(&"its Sec-WebSocket-Accept does not belong to the request's key"));
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(|e| not_understood(&e))?;
    let parts = upgraded
        .downcast::<TokioIo<PatientStream>>()
        .map_err(|_| not_understood(&"the connection is not the one that was opened"))?;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .max_write_buffer_size(MAX_WRITE_BUFFER)
        .max_message_size(Some(limits::MAX_FRAME_BYTES))
        .max_frame_size(Some(limits::MAX_FRAME_BYTES));
    let read = parts.read_buf.to_vec();
    Ok(WebSocketStream::from_partially_read(parts.io.into_inner(), read, Role::Client, Some(config)).await)
}

fn upgrade_request(secret: &Secret, key: &str) -> Result<http::Request<Empty<Bytes>>, http::Error> {
    let mut bearer = HeaderValue::from_str(&format!("Bearer {}", secret.expose()))?;
    bearer.set_sensitive(true);
    http::Request::get(CHANNEL_PATH)
        .header(header::HOST, "localhost")
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, key)
        .header(header::AUTHORIZATION, bearer)
        .body(Empty::new())
}
