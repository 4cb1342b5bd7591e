//! Traffic: what went through the proxy, counted per plugin. Written by the proxy, read by whoever shows metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

/// Counters of one plugin since the host started. They only grow, but for `in_flight`.
#[derive(Debug, Default)]
pub struct Traffic {
    classes: [AtomicU64; 5],
    refused: AtomicU64,
    in_flight: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    connections: AtomicU64,
}

/// What [`Traffic`] stands at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrafficCount {
    /// Answers of the plugin by class: `[0]` counts 1xx (upgrades), `[1]` 2xx, up to `[4]` for 5xx.
    pub classes: [u64; 5],
    /// Requests that the host answered instead of the plugin.
    pub refused: u64,
    /// Requests under way now, streams and upgrades included.
    pub in_flight: u64,
    /// Bytes of request bodies (and of upgraded connections) towards the plugin.
    pub bytes_in: u64,
    /// Bytes of response bodies (and of upgraded connections) from the plugin.
    pub bytes_out: u64,
    /// Connections that were opened to the plugin; far fewer than requests, since they are kept.
    pub connections: u64,
}

impl Traffic {
    /// Reads all counters. They are read one by one, so a sum may be off by what moves meanwhile.
    #[must_use]
    pub fn count(&self) -> TrafficCount {
        TrafficCount {
            classes: std::array::from_fn(|class| self.classes[class].load(Relaxed)),
            refused: self.refused.load(Relaxed),
            in_flight: self.in_flight.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
            connections: self.connections.load(Relaxed),
        }
    }

    pub(super) fn answered(&self, status: http::StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        self.classes[class].fetch_add(1, Relaxed);
    }

    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    pub(super) fn moved_in(&self, bytes: u64) {
        self.bytes_in.fetch_add(bytes, Relaxed);
    }

    pub(super) fn moved_out(&self, bytes: u64) {
        self.bytes_out.fetch_add(bytes, Relaxed);
    }

    pub(super) fn connected(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        InFlight(self.clone())
    }
}

/// Counts as one request under way until it is dropped.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Traffic>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// The counters of all plugins, by name. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct TrafficBoard {
    plugins: Arc<RwLock<BTreeMap<String, Arc<Traffic>>>>,
}

impl TrafficBoard {
    /// The counters of a plugin; they are made when they are first asked for, so ask only for plugins that exist.
    #[must_use]
    pub fn of(&self, plugin: &str) -> Arc<Traffic> {
        let read = self.plugins.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = read.get(plugin) {
            return found.clone();
        }
        drop(read);
        let mut write = self.plugins.write().unwrap_or_else(PoisonError::into_inner);
        write.entry(plugin.to_owned()).or_default().clone()
    }

    /// What all counters stand at, by plugin.
    #[must_use]
    pub fn counts(&self) -> Vec<(String, TrafficCount)> {
        let read = self.plugins.read().unwrap_or_else(PoisonError::into_inner);
        read.iter().map(|(name, traffic)| (name.clone(), traffic.count())).collect()
    }
}
