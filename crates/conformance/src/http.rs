//! Requests to a plugin's socket, as a host sends them.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited, combinators::BoxBody};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

/// Longest body of an answer that is read, in bytes. Pages and lists are far smaller.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// What a request says of the auth secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown<'a> {
    Secret(&'a str),
    Nothing,
}

/// A plugin's answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) version: http::Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// How long a plugin has to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause before another try while as many connections wait to be accepted as the plugin lets wait.
const CONNECT_PAUSE: Duration = Duration::from_millis(5);

/// Connects to the plugin's socket. A full line of connections is waited for, as a host does.
pub(crate) async fn connect(socket: &Path) -> std::io::Result<UnixStream> {
    let patiently = async {
        loop {
            match UnixStream::connect(socket).await {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => sleep(CONNECT_PAUSE).await,
                outcome => return outcome,
            }
        }
    };
    timeout(CONNECT_TIMEOUT, patiently).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
}

/// One connection to the plugin.
pub(crate) struct Connection {
    sender: SendRequest<BoxBody<Bytes, std::convert::Infallible>>,
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(socket: &Path) -> Result<Self, String> {
        let stream = connect(socket).await.map_err(|e| format!("no connection ({e})"))?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|e| format!("no connection ({e})"))?;
        // It ends with the connection; what went wrong is seen by the request.
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    /// Sends a request and reads the whole answer within the time.
    pub(crate) async fn send(
        &mut self,
        request: Request<BoxBody<Bytes, std::convert::Infallible>>,
        within: Duration,
    ) -> Result<Answer, String> {
        let work = async {
            self.sender.ready().await.map_err(|e| format!("the connection is closed ({e})"))?;
            let response = self.sender.send_request(request).await.map_err(|e| format!("no answer ({e})"))?;
            let (head, body) = response.into_parts();
            let body =
                Limited::new(body, MAX_BODY).collect().await.map_err(|e| format!("a broken body ({e})"))?;
            Ok(Answer {
                status: head.status,
                version: head.version,
                headers: head.headers,
                body: body.to_bytes(),
            })
        };
        timeout(within, work)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} ms", within.as_millis())))
    }
}

/// A request as a host sends it.
pub(crate) fn request(
    method: Method,
    path: &str,
    shown: Shown<'_>,
    body: Option<Bytes>,
) -> Request<BoxBody<Bytes, std::convert::Infallible>> {
    let mut builder = Request::builder().method(method).uri(path).header(HOST, "localhost");
    builder = builder.header("x-temps-request-id", "0197a5c8-8b11-7f02-8e1c-64a6f0c1d2e3");
    if let Shown::Secret(secret) = shown {
        builder = builder.header(AUTHORIZATION, format!("Bearer {secret}"));
    }
    let body = match body {
        Some(bytes) => {
            builder = builder.header(CONTENT_TYPE, "application/json");
            Full::new(bytes).boxed()
        }
        None => Full::default().boxed(),
    };
    builder.body(body).unwrap_or_default()
}

/// Sends one request on a connection of its own.
pub(crate) async fn ask(
    socket: &Path,
    method: Method,
    path: &str,
    shown: Shown<'_>,
    body: Option<Bytes>,
    within: Duration,
) -> Result<Answer, String> {
    let request = request(method, path, shown, body);
    Connection::open(socket).await?.send(request, within).await
}
