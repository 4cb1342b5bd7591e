//! The daemon's REST API as a run uses it: a client that outlives the daemon that it asks.

use std::time::Duration;

use axum::body::Body;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::sync::watch;

/// How long one answer may take. A daemon whose database is away answers within that, too.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Where the daemon is, and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its address, `http://…`.
    pub url: String,
    /// The token of its administrator.
    pub token: String,
}

/// Asks whatever daemon is there. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Rest {
    client: Client<HttpConnector, Body>,
    target: watch::Receiver<Option<Target>>,
}

impl Rest {
    /// A client for the daemon that `target` names at the time.
    #[must_use]
    pub fn new(target: watch::Receiver<Option<Target>>) -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build_http(), target }
    }

    /// Waits until there is a daemon to ask.
    pub async fn there(&mut self) {
        // The run ends before the sender does.
        let _ = self.target.wait_for(Option::is_some).await;
    }

    /// Asks, and returns status and JSON.
    ///
    /// # Errors
    /// Why there was no whole answer.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value), String> {
        let target = self.target.borrow().clone().ok_or("there is no daemon")?;
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", target.url))
            .header("authorization", format!("Bearer {}", target.token))
            .header("content-type", "application/json")
            .body(body.map_or_else(Body::empty, |body| Body::from(body.to_string())))
            .map_err(|error| error.to_string())?;
        let asking = async {
            let answer = self.client.request(request).await.map_err(|error| error.to_string())?;
            let status = answer.status();
            let body = answer.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
            Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
        };
        tokio::time::timeout(TIMEOUT, asking).await.unwrap_or_else(|_| Err("no answer in time".into()))
    }

    /// Gets JSON, which has to be there.
    ///
    /// # Errors
    /// Why it is not.
    pub async fn get(&self, path: &str) -> Result<Value, String> {
        match self.ask(Method::GET, path, None).await? {
            (status, value) if status.is_success() => Ok(value),
            (status, value) => Err(format!("GET {path} answered {status}: {value}")),
        }
    }

    /// Gets all items of a list, page by page. `path` has a query already.
    ///
    /// # Errors
    /// Why a page is not there.
    pub async fn all(&self, path: &str) -> Result<Vec<Value>, String> {
        let (mut items, mut cursor) = (Vec::new(), String::new());
        loop {
            let mut page = self.get(&format!("{path}{cursor}")).await?;
            if let Some(Value::Array(more)) = page.get_mut("items").map(Value::take) {
                items.extend(more);
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(items),
            }
        }
    }
}
