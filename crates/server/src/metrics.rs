//! What the daemon itself counts, put together with what the plugin host counts.

use std::sync::Arc;

use axum::response::Response;
use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Last line of an OpenMetrics text; it may stand only once.
const END: &str = "# EOF\n";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStatus {
    /// `2xx` to `5xx`.
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOutcome {
    /// `healthy` or `unhealthy`.
    outcome: &'static str,
}

/// The daemon's own metrics. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    requests: Family<OfStatus, Counter>,
    probes: Family<OfOutcome, Counter>,
    /// Connections that are open now.
    pub(crate) connections: Gauge,
    /// Deployments that are probed now.
    pub(crate) probed: Gauge,
    registry: Arc<Registry>,
}

impl Default for Metrics {
    fn default() -> Self {
        let requests = Family::<OfStatus, Counter>::default();
        let probes = Family::<OfOutcome, Counter>::default();
        let (connections, probed) = (Gauge::default(), Gauge::default());
        let mut registry = Registry::with_prefix("temps_server");
        registry.register("http_requests", "Requests by class of their answer", requests.clone());
        registry.register("probes", "Questions to deployments by what came back", probes.clone());
        registry.register("connections", "Connections that are open now", connections.clone());
        registry.register("probed_deployments", "Deployments that are probed now", probed.clone());
        Self { requests, probes, connections, probed, registry: Arc::new(registry) }
    }
}

impl Metrics {
    /// Counts an answer and passes it on.
    pub(crate) fn counted(&self, response: Response) -> Response {
        let status = match response.status().as_u16() / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        self.requests.get_or_create(&OfStatus { status }).inc();
        response
    }

    /// Counts a question to a deployment.
    pub(crate) fn count_probe(&self, healthy: bool) {
        let outcome = if healthy { "healthy" } else { "unhealthy" };
        self.probes.get_or_create(&OfOutcome { outcome }).inc();
    }

    /// The host's text and ours as one.
    pub(crate) fn text(&self, host: &str) -> String {
        let mut text = host.strip_suffix(END).unwrap_or(host).to_owned();
        let before = text.len();
        if let Err(error) = encode(&mut text, &self.registry) {
            tracing::error!(%error, "the daemon's metrics could not be written");
            text.truncate(before);
            text.push_str(END);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_texts_become_one_with_one_end() {
        let metrics = Metrics::default();
        metrics.count_probe(true);
        let text = metrics.text("# TYPE host counter\nhost_total 1\n# EOF\n");
        assert!(text.starts_with("# TYPE host"));
        assert!(text.contains("temps_server_probes_total{outcome=\"healthy\"} 1"));
        assert_eq!(text.matches("# EOF").count(), 1);
        assert!(text.ends_with(END));
    }
}
