//! The bounds of the proxy: how long it waits, and how much it holds, for one plugin.
//!
//! The constants are what runs. [`Bounds`] carries those that a test has to shorten; it has no other use.

use std::time::Duration;

/// How long connecting to a plugin's socket may take. The plugin is on this machine; its backlog is full otherwise.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a plugin may take for the head of its response, counted from the end of the request.
pub const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long nothing may move, in either direction, on a request that has begun.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// The same for server-sent events, WebSockets and other upgrades, which are silent by nature.
pub const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// Longest request body in bytes. A plugin has 256 MiB of memory by default, and many read a body whole.
pub const MAX_REQUEST_BODY: u64 = 64 * 1024 * 1024;

/// Requests of one plugin under way at the same time, streams and upgrades included.
pub const MAX_IN_FLIGHT: usize = 64;

/// Longest head of a response in bytes.
pub const MAX_RESPONSE_HEAD: usize = 64 * 1024;

/// Most header lines of a response.
pub const MAX_RESPONSE_HEADERS: usize = 128;

/// How long a connection to a plugin is kept for the next request.
pub const POOL_IDLE: Duration = Duration::from_secs(30);

/// Connections to one plugin that are kept for the next request; a burst beyond it pays for connecting.
pub const MAX_POOLED: usize = 16;

/// How long the platform may take to say who is calling.
pub const AUTHENTICATE_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest text about a caller (id, name, mail address) in a header, in bytes after encoding.
pub const MAX_CALLER_VALUE: usize = 256;

/// How long a page's token is valid. The frame page renews it long before.
pub const PAGE_TOKEN_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// Most page tokens at a time; the one that would end first makes room. Each open page holds one or two.
pub const MAX_PAGE_TOKENS: usize = 4096;

/// Those bounds that a test shortens so that it need not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// See [`CONNECT_TIMEOUT`].
    pub connect: Duration,
    /// See [`FIRST_BYTE_TIMEOUT`].
    pub first_byte: Duration,
    /// See [`IDLE_TIMEOUT`].
    pub idle: Duration,
    /// See [`STREAM_IDLE_TIMEOUT`].
    pub stream_idle: Duration,
    /// See [`MAX_REQUEST_BODY`].
    pub request_body: u64,
    /// See [`POOL_IDLE`].
    pub pool_idle: Duration,
    /// See [`PAGE_TOKEN_LIFETIME`].
    pub page_token: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connect: CONNECT_TIMEOUT,
            first_byte: FIRST_BYTE_TIMEOUT,
            idle: IDLE_TIMEOUT,
            stream_idle: STREAM_IDLE_TIMEOUT,
            request_body: MAX_REQUEST_BODY,
            pool_idle: POOL_IDLE,
            page_token: PAGE_TOKEN_LIFETIME,
        }
    }
}
