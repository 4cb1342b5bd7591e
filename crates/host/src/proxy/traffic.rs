//! Traffic: what the proxy counts of one plugin, with the counters looked up once and not on every request.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::metrics::Metrics;

/// The words for the classes of an answer.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The counters of one plugin.
#[derive(Debug)]
pub(super) struct Traffic {
    answered: [Counter; 5],
    refused: Counter,
    seconds: Histogram,
    in_flight: Gauge,
    bytes_in: Counter,
    bytes_out: Counter,
    connections: Counter,
}

impl Traffic {
    pub(super) fn of(plugin: &str, metrics: &Metrics) -> Self {
        let name = Metrics::of(plugin);
        let and = |kind| Metrics::of_and(plugin, kind);
        Self {
            answered: CLASSES.map(|class| metrics.proxy_requests.get_or_create_owned(&and(class))),
            refused: metrics.proxy_requests.get_or_create_owned(&and("refused")),
            seconds: metrics.proxy_seconds.get_or_create_owned(&name),
            in_flight: metrics.proxy_in_flight.get_or_create_owned(&name),
            bytes_in: metrics.proxy_bytes.get_or_create_owned(&and("in")),
            bytes_out: metrics.proxy_bytes.get_or_create_owned(&and("out")),
            connections: metrics.proxy_connections.get_or_create_owned(&name),
        }
    }

    /// Counts an answer of the plugin, whose head came after `waited`.
    pub(super) fn answered(&self, status: http::StatusCode, waited: Duration) {
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len());
        self.answered[class - 1].inc();
        self.seconds.observe(waited.as_secs_f64());
    }

    /// Counts a request that the host answered itself.
    pub(super) fn refused(&self) {
        self.refused.inc();
    }

    pub(super) fn moved_in(&self, bytes: u64) {
        self.bytes_in.inc_by(bytes);
    }

    pub(super) fn moved_out(&self, bytes: u64) {
        self.bytes_out.inc_by(bytes);
    }

    pub(super) fn connected(&self) {
        self.connections.inc();
    }

    pub(super) fn begin(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }
}

/// Counts as one request under way until it is dropped.
#[derive(Debug)]
pub(super) struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}
