//! The way to the host for whoever stands outside: HTTP over TCP, as a browser or a command would.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest body of an answer that is read, in bytes.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// How long an answer may take. Stopping a plugin that does not heed SIGTERM takes more than 10 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Somebody with an address and a token.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    address: String,
    pub(super) token: Option<String>,
}

/// What the host answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Caller {
    /// A caller of the host at this address; `None` when it is none.
    pub(super) fn new(url: &str, token: Option<String>) -> Option<Self> {
        let address = url.strip_prefix("http://")?.trim_end_matches('/');
        let named = address.contains(':') && !address.contains('/');
        named.then(|| Self { address: address.to_owned(), token })
    }

    /// The same without the token.
    pub(super) fn stranger(&self) -> Self {
        Self { token: None, ..self.clone() }
    }

    pub(super) async fn get(&self, path: &str) -> Result<Answer, String> {
        self.send("GET", path, &[], Vec::new()).await
    }

    /// Sends a request, and reads the whole answer.
    pub(super) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Answer, String> {
        let body = Full::new(Bytes::from(body));
        let work = async {
            let (head, body) = self.open(method, path, headers, body).await?.into_parts();
            let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| error.to_string())?;
            Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: body.to_bytes() })
        };
        timeout(ANSWER_TIMEOUT, work).await.unwrap_or_else(|_| Err("no answer within 60 s".to_owned()))
    }

    /// Sends a request, and returns the answer whose body is still to come.
    pub(super) async fn open<B>(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: B,
    ) -> Result<http::Response<Incoming>, String>
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: std::error::Error + Send + Sync,
    {
        let stream = TcpStream::connect(&self.address).await.map_err(|error| error.to_string())?;
        let (mut sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        // It ends with the connection; what went wrong is seen by the request.
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", &self.address);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .header("content-type", "application/json")
            .body(body)
            .map_err(|error| error.to_string())?;
        sender.send_request(request).await.map_err(|error| error.to_string())
    }
}
