//! The way to the daemon: one HTTP client, with the daemon's answers turned into values or failures.
//!
//! It knows addresses, tokens, pages and streams; what is asked stands in the file of each noun.

use std::time::Duration;

use reqwest::{Method, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use temps_server::api::page::{MAX_PAGE_LIMIT, Page};
use temps_server::api::problem::Problem;

use crate::exit::{Exit, Failure};
use crate::stream::EventStream;

/// How long connecting may take. The daemon is on this machine or near it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a request may take when the user sets no other time. Stopping a plugin takes at most 10 seconds.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Largest answer that is read, in bytes. A full page of the largest events is about 130 MB, so a page of them has to
/// be asked for in smaller pieces.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// A client for one daemon.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<String>,
}

impl Client {
    /// A client for the daemon at `base`.
    pub(crate) fn new(base: Url, token: Option<String>, timeout: Option<Duration>) -> Result<Self, Failure> {
        // The process has one TLS provider, chosen here; a second choice would be the same, so its error says nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(timeout.unwrap_or(REQUEST_TIMEOUT))
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("temps/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&base) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| Failure::other("client", reason(&error)))?;
        Ok(Self { http, base, token })
    }

    /// Where the daemon is.
    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    /// GET of one thing.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, Failure> {
        self.ask(Method::GET, path, &(), None::<&()>).await
    }

    /// GET with a query.
    pub(crate) async fn get_with<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &impl Serialize,
    ) -> Result<T, Failure> {
        self.ask(Method::GET, path, query, None::<&()>).await
    }

    /// POST with a body.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.ask(Method::POST, path, &(), Some(body)).await
    }

    /// PATCH with a body.
    pub(crate) async fn patch<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.ask(Method::PATCH, path, &(), Some(body)).await
    }

    /// PATCH with a query and a body.
    pub(crate) async fn patch_with<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &impl Serialize,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.ask(Method::PATCH, path, query, Some(body)).await
    }

    /// PUT with a query and a body.
    pub(crate) async fn put_with<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &impl Serialize,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.ask(Method::PUT, path, query, Some(body)).await
    }

    /// DELETE that answers with what is left.
    pub(crate) async fn delete<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &impl Serialize,
    ) -> Result<T, Failure> {
        self.ask(Method::DELETE, path, query, None::<&()>).await
    }

    /// The first `want` entries of a list, in as few pages as that takes.
    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &impl Serialize,
        want: u32,
    ) -> Result<Page<T>, Failure> {
        let mut query = object(query)?;
        let mut items: Vec<T> = Vec::new();
        loop {
            let missing = want - u32::try_from(items.len()).unwrap_or(want).min(want);
            query.insert("limit".into(), missing.clamp(1, MAX_PAGE_LIMIT).into());
            let page: Page<T> = self.ask(Method::GET, path, &query, None::<&()>).await?;
            let nothing_new = page.items.is_empty();
            items.extend(page.items);
            match page.next_cursor {
                Some(cursor) if !nothing_new && items.len() < want as usize => {
                    query.insert("cursor".into(), cursor.into());
                }
                next_cursor => return Ok(Page { items, next_cursor }),
            }
        }
    }

    /// A stream of server-sent events, which ends only with the daemon or the user.
    pub(crate) async fn stream(&self, path: &[&str], query: &impl Serialize) -> Result<EventStream, Failure> {
        let request = self.request(Method::GET, path)?.query(query).header("accept", "text/event-stream");
        let response = request.send().await.map_err(|error| self.unanswered(&error))?;
        if !response.status().is_success() {
            return Err(self.refused(path, response).await);
        }
        Ok(EventStream::new(response))
    }

    /// An answer of any size, taken as it comes.
    pub(crate) async fn download(&self, path: &[&str], query: &impl Serialize) -> Result<Download, Failure> {
        let request = self.request(Method::GET, path)?.query(query);
        let response = request.send().await.map_err(|error| self.unanswered(&error))?;
        if !response.status().is_success() {
            return Err(self.refused(path, response).await);
        }
        Ok(Download(response))
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &impl Serialize,
        body: Option<&impl Serialize>,
    ) -> Result<T, Failure> {
        let mut request = self.request(method, path)?.query(query);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| self.unanswered(&error))?;
        if !response.status().is_success() {
            return Err(self.refused(path, response).await);
        }
        let bytes = self.read(response).await?;
        // An answer without content stands for "done"; the caller asks for `()` or a `Value` then.
        let bytes: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        serde_json::from_slice(bytes).map_err(|error| {
            Failure::other(
                "unexpected_answer",
                format!("the daemon at {} answered with something else than expected: {error}", self.base),
            )
            .hint("`temps version` shows both versions; they should be the same")
        })
    }

    fn request(&self, method: Method, path: &[&str]) -> Result<reqwest::RequestBuilder, Failure> {
        let request = self.http.request(method, address(&self.base, path)?);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    async fn read(&self, mut response: Response) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unanswered(&error))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_ANSWER {
                return Err(Failure::other("too_large", "the daemon's answer has more than 64 MiB")
                    .hint("ask for less with --limit"));
            }
        }
        Ok(bytes)
    }

    /// What an answer other than success means.
    async fn refused(&self, path: &[&str], response: Response) -> Failure {
        let status = response.status();
        let problem = match self.read(response).await {
            Ok(bytes) => serde_json::from_slice::<Problem>(&bytes).ok(),
            Err(failure) => return failure,
        };
        let exit = exit_of(status);
        let mut failure = match problem {
            Some(problem) => {
                let message = if problem.detail.is_empty() { problem.title } else { problem.detail };
                Failure { exit, code: problem.code, message, hint: problem.hint }
            }
            None => Failure::new(
                exit,
                "unexpected_answer",
                format!("{} answered with status {status}", self.base),
            )
            .hint("is this the address of a temps daemon?"),
        };
        if let Some(hint) = self.hint(exit, path) {
            failure.hint = Some(hint);
        }
        failure
    }

    /// What somebody at a command line can do; the daemon's own hints are for those who write requests.
    fn hint(&self, exit: Exit, path: &[&str]) -> Option<String> {
        match exit {
            Exit::Auth if self.token.is_some() => {
                Some("`temps token create` on the daemon's machine makes another token".into())
            }
            Exit::Auth => Some(
                "give a token with --token or TEMPS_TOKEN; on the daemon's machine, run as the user that runs the daemon"
                    .into(),
            ),
            Exit::NotFound => {
                let noun = ["plugin", "project", "environment", "deployment", "event", "token"]
                    .into_iter()
                    .find(|noun| path.get(1).is_some_and(|part| part.strip_suffix('s') == Some(noun)))?;
                Some(format!("`temps {noun} list` shows what there is"))
            }
            _ => None,
        }
    }

    /// What it means that no answer came.
    fn unanswered(&self, error: &reqwest::Error) -> Failure {
        if error.is_timeout() {
            return Failure::new(
                Exit::Timeout,
                "timeout",
                format!("the daemon at {} did not answer in time", self.base),
            )
            .hint("--timeout gives it longer");
        }
        let message = format!("cannot reach the daemon at {}: {}", self.base, reason(error));
        Failure::new(Exit::Unreachable, "unreachable", message)
            .hint("start it with `temps serve`, or name another one with --url or TEMPS_URL")
    }
}

/// An answer that is taken as it comes.
#[derive(Debug)]
pub(crate) struct Download(Response);

impl Download {
    /// The next bytes; `None` at the end. An answer that was broken off is a failure, never an end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let chunk = self.0.chunk().await.map_err(|error| {
            let exit = if error.is_timeout() { Exit::Timeout } else { Exit::Unreachable };
            Failure::new(
                exit,
                "broken_off",
                "the daemon's answer was broken off; what was written is not whole",
            )
        })?;
        Ok(chunk.map(Into::into))
    }
}

/// Whether an address is on this machine, so that neither a proxy nor a stranger is between.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback()),
        None => false,
    }
}

/// The exit code for a status of the daemon.
fn exit_of(status: StatusCode) -> Exit {
    match status {
        StatusCode::UNAUTHORIZED => Exit::Auth,
        StatusCode::FORBIDDEN => Exit::Refused,
        StatusCode::NOT_FOUND => Exit::NotFound,
        StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => Exit::Conflict,
        StatusCode::BAD_REQUEST
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::URI_TOO_LONG
        | StatusCode::UNPROCESSABLE_ENTITY => Exit::Usage,
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => Exit::Timeout,
        _ => Exit::Failure,
    }
}

/// `base` with these segments below it, each encoded, so that a name can never become another path.
fn address(base: &Url, path: &[&str]) -> Result<Url, Failure> {
    let mut url = base.clone();
    if let Some(part) = path.iter().find(|part| matches!(**part, "" | "." | "..")) {
        return Err(Failure::usage(format!("{part:?} cannot be a name")));
    }
    url.path_segments_mut()
        .map_err(|()| Failure::usage(format!("{base} cannot be the address of a daemon")))?
        .pop_if_empty()
        .extend(path);
    Ok(url)
}

/// A query as an object, without what is not set.
fn object(query: &impl Serialize) -> Result<serde_json::Map<String, Value>, Failure> {
    match serde_json::to_value(query) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(Value::Null) => Ok(serde_json::Map::new()),
        _ => Err(Failure::other("client", "the query of this command cannot be written")),
    }
}

/// The innermost reason of an error, which is the one that helps.
fn reason(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_never_becomes_another_path() {
        let base = Url::parse("http://127.0.0.1:6160").unwrap();
        let url = address(&base, &["api", "plugins", "a/../../tokens?x#y"]).unwrap();
        assert_eq!(url.as_str(), "http://127.0.0.1:6160/api/plugins/a%2F..%2F..%2Ftokens%3Fx%23y");
        for name in ["", ".", ".."] {
            assert_eq!(address(&base, &["api", "plugins", name]).unwrap_err().exit, Exit::Usage);
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for (url, expected) in [
            ("http://127.0.0.1:1", true),
            ("http://localhost", true),
            ("http://[::1]:6160", true),
            ("http://127.0.0.1.example.com", false),
            ("https://temps.example.com", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }
}
