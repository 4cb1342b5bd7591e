//! HTTP to a plugin, as a host sends it: `Host: localhost` and the auth secret.

use std::path::PathBuf;

use axum::body::Bytes;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::memory::MemoryConnector;
use super::{PATIENCE, TestError};

/// What a connection is made of.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Where the plugin listens.
#[derive(Debug, Clone)]
pub(super) enum Door {
    Memory(MemoryConnector),
    Socket(PathBuf),
}

impl Door {
    pub(super) async fn connect(&self) -> Result<Box<dyn Io>, TestError> {
        let wire = |e: std::io::Error| TestError::Wire(format!("connect: {e}"));
        Ok(match self {
            Door::Memory(connector) => Box::new(connector.connect().await.map_err(wire)?),
            Door::Socket(path) => Box::new(UnixStream::connect(path).await.map_err(wire)?),
        })
    }
}

/// Sends requests to a plugin.
#[derive(Debug, Clone)]
pub struct TestClient {
    pub(super) door: Door,
    authorization: Option<String>,
}

impl TestClient {
    pub(super) fn new(door: Door, secret: &str) -> Self {
        Self { door, authorization: Some(format!("Bearer {secret}")) }
    }

    /// The same client with another `Authorization` header, or none.
    #[must_use]
    pub fn with_authorization(&self, value: Option<&str>) -> Self {
        Self { door: self.door.clone(), authorization: value.map(str::to_owned) }
    }

    /// `GET path`.
    ///
    /// # Errors
    /// [`TestError`] when no answer came. A status like 500 is an answer.
    pub async fn get(&self, path: &str) -> Result<TestResponse, TestError> {
        self.send("GET", path, None).await
    }

    /// Any method, with a JSON body if given.
    ///
    /// # Errors
    /// [`TestError`] when no answer came. A status like 500 is an answer.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        json: Option<&Value>,
    ) -> Result<TestResponse, TestError> {
        let body = json.map(|value| value.to_string().into_bytes());
        self.send_bytes(method, path, json.map(|_| "application/json"), body.unwrap_or_default()).await
    }

    /// Any method, with any body, for requests that are wrong on purpose.
    ///
    /// # Errors
    /// [`TestError`] when no answer came.
    pub async fn send_bytes(
        &self,
        method: &str,
        path: &str,
        content_type: Option<&str>,
        body: Vec<u8>,
    ) -> Result<TestResponse, TestError> {
        let exchange = async {
            let (status, headers, mut body) = self.open(method, path, content_type, body).await?.into_parts();
            let mut bytes = Vec::new();
            while let Some(chunk) = body.next().await? {
                bytes.extend_from_slice(&chunk);
            }
            Ok(TestResponse { status, headers, body: bytes.into() })
        };
        timeout(PATIENCE, exchange).await.map_err(|_| TestError::Timeout("the answer to a request"))?
    }

    /// `GET path`, whose answer is read piece by piece: for server-sent events.
    ///
    /// # Errors
    /// [`TestError`] when no answer came.
    pub async fn stream(&self, path: &str) -> Result<Streaming, TestError> {
        let (_, _, streaming) = self.open("GET", path, None, Vec::new()).await?.into_parts();
        Ok(streaming)
    }

    async fn open(
        &self,
        method: &str,
        path: &str,
        content_type: Option<&str>,
        body: Vec<u8>,
    ) -> Result<Opened, TestError> {
        let wire = |e: &dyn std::fmt::Display| TestError::Wire(format!("{method} {path}: {e}"));
        let io = TokioIo::new(self.door.connect().await?);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(io).await.map_err(|e| wire(&e))?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        if let Some(value) = &self.authorization {
            request = request.header("authorization", value);
        }
        if let Some(value) = content_type {
            request = request.header("content-type", value);
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|e| wire(&e))?;
        let response = sender.send_request(request).await.map_err(|e| wire(&e))?;
        Ok(Opened(response))
    }
}

struct Opened(axum::http::Response<Incoming>);

impl Opened {
    fn into_parts(self) -> (StatusCode, HeaderMap, Streaming) {
        let (head, body) = self.0.into_parts();
        (head.status, head.headers, Streaming { body })
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct TestResponse {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl TestResponse {
    /// The status, for example 200.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// A header's value; empty when it is absent or not text.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as text; what is not UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// [`TestError::Wire`] when it is not JSON of this form; the text has the body.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, TestError> {
        serde_json::from_slice(&self.body)
            .map_err(|e| TestError::Wire(format!("{e} in the body {:?}", self.text())))
    }
}

/// An answer that is read piece by piece.
#[derive(Debug)]
pub struct Streaming {
    body: Incoming,
}

impl Streaming {
    /// The next piece, or `None` at the end.
    ///
    /// # Errors
    /// [`TestError`] when the connection broke, or nothing came for 30 s.
    pub async fn next(&mut self) -> Result<Option<Bytes>, TestError> {
        loop {
            let frame = timeout(PATIENCE, self.body.frame())
                .await
                .map_err(|_| TestError::Timeout("the next piece of an answer"))?;
            match frame {
                None => return Ok(None),
                Some(Err(e)) => return Err(TestError::Wire(format!("an answer broke off: {e}"))),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// Reads until the text read so far contains `wanted`, and returns it.
    ///
    /// # Errors
    /// [`TestError`] when the answer ends before, or nothing came for 30 s.
    pub async fn until(&mut self, wanted: &str) -> Result<String, TestError> {
        let mut text = String::new();
        while let Some(chunk) = self.next().await? {
            text.push_str(&String::from_utf8_lossy(&chunk));
            if text.contains(wanted) {
                return Ok(text);
            }
        }
        Err(TestError::Wire(format!("the answer ended without {wanted:?}; it was {text:?}")))
    }
}
