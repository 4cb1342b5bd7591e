//! Bounds of the protocol, each with its unit and its reason. Both sides keep to them.

use std::time::Duration;

/// Longest manifest line in bytes, newline included. A manifest is a page of JSON; more is a mistake or an attack.
pub const MAX_MANIFEST_BYTES: usize = 64 * 1024;

/// Longest ready line in bytes, newline included. It may carry an OpenAPI document.
pub const MAX_READY_BYTES: usize = 1024 * 1024;

/// How long a plugin has for each of its two handshake lines. Interpreters on a loaded machine need seconds.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest channel frame in bytes, in either direction.
pub const MAX_FRAME_BYTES: usize = 1024 * 1024;

/// Longest event in bytes, as it stands on the wire. It leaves room for the frame around it.
pub const MAX_EVENT_BYTES: usize = 256 * 1024;

/// Requests of one plugin that the host works on at the same time; further ones are refused with `busy`.
pub const MAX_REQUESTS_IN_FLIGHT: usize = 32;

/// How long the host, and so an SDK, gives one channel request.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a plugin has to settle one event: to answer `POST /_events`, or to send its ack. Handlers call other services.
pub const EVENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Events that a plugin which acks may have in hand: sent, and neither acked nor failed.
pub const MAX_UNACKED_EVENTS: usize = 64;

/// Longest reason in a negative ack, in characters; a host cuts off the rest. It is read by people, in a list.
pub const MAX_ACK_REASON_CHARS: usize = 1_024;

/// Most entries that `list_deployments` returns.
pub const MAX_LIST_LIMIT: u32 = 100;

/// Entries that `list_deployments` returns when the plugin names no limit.
pub const DEFAULT_LIST_LIMIT: u32 = 20;

/// Longest list of events, navigation entries, permissions, egress names or public paths in a manifest.
pub const MAX_MANIFEST_ENTRIES: usize = 100;

/// Longest single text in a manifest (a description, a label, a path), in bytes.
pub const MAX_MANIFEST_TEXT: usize = 2 * 1024;

/// Longest key of key-value storage, in bytes.
pub const MAX_KV_KEY_BYTES: usize = 256;

/// Longest value of key-value storage, in bytes of JSON. Storage is for what a plugin remembers, not for files.
pub const MAX_KV_VALUE_BYTES: usize = 64 * 1024;

/// Bytes of keys and values that one plugin may keep.
pub const MAX_KV_TOTAL_BYTES: u64 = 10 * 1024 * 1024;

/// Entries that one plugin may keep. Small entries cost the host more than their bytes.
pub const MAX_KV_ENTRIES: u64 = 10_000;

/// Longest life of an entry that ends, in seconds: ten years. What lives longer need not end.
pub const MAX_KV_TTL_SECONDS: u64 = 10 * 366 * 24 * 60 * 60;

/// Most entries that `kv_list` returns.
pub const MAX_KV_LIST_LIMIT: u32 = 1_000;

/// Entries that `kv_list` returns when the plugin names no limit.
pub const DEFAULT_KV_LIST_LIMIT: u32 = 100;
