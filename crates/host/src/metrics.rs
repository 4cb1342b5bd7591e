//! Metrics of the host in the Prometheus text format.
//!
//! Each room gets the typed families that it feeds; nothing here measures anything by itself. Labels hold plugin names and
//! closed lists of words only, so the number of series is bounded by the number of plugins.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::usage::Usage;

/// Upper bounds of the latency buckets in seconds: from a call over a local socket to a slow page.
const LATENCY_BUCKETS: [f64; 12] =
    [0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0];

/// Names a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfPlugin {
    /// Name of the plugin.
    pub plugin: String,
}

/// Names a plugin and one word of a closed list.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfPluginAnd {
    /// Name of the plugin.
    pub plugin: String,
    /// What the metric is split by: a state, a direction, an outcome, a status class.
    pub kind: &'static str,
}

type Latency = Family<OfPlugin, Histogram, fn() -> Histogram>;

/// The families that rooms feed. Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// 1 for the state that the plugin is in (`kind`), 0 for those that it was in before.
    pub plugin_state: Family<OfPluginAnd, Gauge>,
    /// Starts since the host started.
    pub plugin_starts: Family<OfPlugin, Counter>,
    /// Crashes since the host started.
    pub plugin_crashes: Family<OfPlugin, Counter>,
    /// Processor seconds that a plugin's processes used, as measured each half minute.
    pub plugin_cpu_seconds: Family<OfPlugin, Counter<f64, AtomicU64>>,
    /// Bytes of memory that a running plugin's processes use; absent while it is not known.
    pub plugin_memory_bytes: Family<OfPlugin, Gauge>,
    /// Tasks of a running plugin; absent while it is not known.
    pub plugin_tasks: Family<OfPlugin, Gauge>,
    /// Open descriptors of a running plugin; absent while it is not known.
    pub plugin_descriptors: Family<OfPlugin, Gauge>,
    /// Bytes that a plugin's data directory takes.
    pub plugin_disk_bytes: Family<OfPlugin, Gauge>,
    /// Limits of which a plugin uses 90 % or more.
    pub plugin_near_limits: Family<OfPlugin, Gauge>,
    /// Log lines that were dropped because a plugin wrote too many.
    pub log_lines_dropped: Family<OfPlugin, Counter>,
    /// Events that the journal took.
    pub events_published: Counter,
    /// Events that retention dropped although some plugin had not settled them.
    pub events_dropped_unsettled: Counter,
    /// Delivery attempts by outcome (`kind`): `settled`, `failed`, `dead`.
    pub deliveries: Family<OfPluginAnd, Counter>,
    /// Seconds from sending an event to the proof that it was handled.
    pub delivery_seconds: Latency,
    /// Acks of events that the plugin did not have in hand.
    pub delivery_stray_acks: Family<OfPlugin, Counter>,
    /// Deliveries that are open by state (`kind`): `retrying`, `dead`, `held`.
    pub deliveries_open: Family<OfPluginAnd, Gauge>,
    /// Events of the journal that the plugin's deliveries have not passed.
    pub delivery_lag_events: Family<OfPlugin, Gauge>,
    /// Age in seconds of the oldest event that the plugin has not settled; dead letters apart.
    pub delivery_lag_seconds: Family<OfPlugin, Gauge>,
    /// 1 while nothing is sent to the plugin.
    pub deliveries_paused: Family<OfPlugin, Gauge>,
    /// Channel frames by `kind`: `in`, `out`, `refused`.
    pub channel_frames: Family<OfPluginAnd, Counter>,
    /// Bytes of channel frames by `kind`: `in`, `out`.
    pub channel_bytes: Family<OfPluginAnd, Counter>,
    /// Connections to hosts outside by outcome (`kind`): `closed`, or why it was refused or cut.
    pub egress_connections: Family<OfPluginAnd, Counter>,
    /// Bytes of connections to hosts outside by direction (`kind`): `in` to the plugin, `out` from it.
    pub egress_bytes: Family<OfPluginAnd, Counter>,
    /// Data calls by outcome (`kind`): `ok`, or the code of the error.
    pub channel_calls: Family<OfPluginAnd, Counter>,
    /// Proxied requests by class of the answer (`kind`): `1xx` (upgrades) to `5xx`, `refused` for those that the host answered itself.
    pub proxy_requests: Family<OfPluginAnd, Counter>,
    /// Seconds from a proxied request to the first byte of its answer.
    pub proxy_seconds: Latency,
    /// Proxied requests under way now, streams and upgrades included.
    pub proxy_in_flight: Family<OfPlugin, Gauge>,
    /// Bytes of bodies and upgraded connections by direction (`kind`): `in` to the plugin, `out` from it.
    pub proxy_bytes: Family<OfPluginAnd, Counter>,
    /// Connections that the proxy opened to the plugin; far fewer than requests, since they are kept.
    pub proxy_connections: Family<OfPlugin, Counter>,
    registry: Arc<Mutex<Registry>>,
}

fn latency() -> Histogram {
    Histogram::new(LATENCY_BUCKETS)
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            plugin_state: Family::default(),
            plugin_starts: Family::default(),
            plugin_crashes: Family::default(),
            plugin_cpu_seconds: Family::default(),
            plugin_memory_bytes: Family::default(),
            plugin_tasks: Family::default(),
            plugin_descriptors: Family::default(),
            plugin_disk_bytes: Family::default(),
            plugin_near_limits: Family::default(),
            log_lines_dropped: Family::default(),
            events_published: Counter::default(),
            events_dropped_unsettled: Counter::default(),
            deliveries: Family::default(),
            delivery_seconds: Family::new_with_constructor(latency),
            delivery_stray_acks: Family::default(),
            deliveries_open: Family::default(),
            delivery_lag_events: Family::default(),
            delivery_lag_seconds: Family::default(),
            deliveries_paused: Family::default(),
            channel_frames: Family::default(),
            channel_bytes: Family::default(),
            egress_connections: Family::default(),
            egress_bytes: Family::default(),
            channel_calls: Family::default(),
            proxy_requests: Family::default(),
            proxy_seconds: Family::new_with_constructor(latency),
            proxy_in_flight: Family::default(),
            proxy_bytes: Family::default(),
            proxy_connections: Family::default(),
            registry: Arc::new(Mutex::new(Registry::with_prefix("temps"))),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&self) {
        let Ok(mut registry) = self.registry.lock() else { return };
        let r = &mut *registry;
        r.register("plugin_state", "1 for the state that a plugin is in", self.plugin_state.clone());
        r.register("plugin_starts", "Starts of a plugin", self.plugin_starts.clone());
        r.register("plugin_crashes", "Crashes of a plugin", self.plugin_crashes.clone());
        r.register("plugin_cpu_seconds", "Processor time of a plugin", self.plugin_cpu_seconds.clone());
        r.register("plugin_memory_bytes", "Memory of a running plugin", self.plugin_memory_bytes.clone());
        r.register("plugin_tasks", "Tasks of a running plugin", self.plugin_tasks.clone());
        r.register(
            "plugin_disk_bytes",
            "Bytes of a running plugin's data directory",
            self.plugin_disk_bytes.clone(),
        );
        r.register(
            "plugin_near_limits",
            "Limits of which a plugin uses 90 % or more",
            self.plugin_near_limits.clone(),
        );
        r.register("plugin_descriptors", "Descriptors of a running plugin", self.plugin_descriptors.clone());
        r.register("log_lines_dropped", "Log lines over a plugin's rate", self.log_lines_dropped.clone());
        r.register("events_published", "Events that the journal took", self.events_published.clone());
        r.register(
            "events_dropped_unsettled",
            "Events dropped that a plugin had not settled",
            self.events_dropped_unsettled.clone(),
        );
        r.register("deliveries", "Delivery attempts by outcome", self.deliveries.clone());
        r.register("delivery_seconds", "From sending to handled", self.delivery_seconds.clone());
        r.register("delivery_stray_acks", "Acks without an event in hand", self.delivery_stray_acks.clone());
        r.register("deliveries_open", "Deliveries that are open by state", self.deliveries_open.clone());
        r.register("delivery_lag_events", "Events not passed yet", self.delivery_lag_events.clone());
        r.register("delivery_lag_seconds", "Age of the oldest open event", self.delivery_lag_seconds.clone());
        r.register("deliveries_paused", "1 while deliveries are paused", self.deliveries_paused.clone());
        r.register("channel_frames", "Channel frames by direction", self.channel_frames.clone());
        r.register("channel_bytes", "Bytes of channel frames by direction", self.channel_bytes.clone());
        r.register("egress_connections", "Connections to hosts outside", self.egress_connections.clone());
        r.register("egress_bytes", "Bytes of connections to hosts outside", self.egress_bytes.clone());
        r.register("channel_calls", "Data calls by outcome", self.channel_calls.clone());
        r.register("proxy_requests", "Proxied requests by answer", self.proxy_requests.clone());
        r.register("proxy_seconds", "From request to first byte", self.proxy_seconds.clone());
        r.register("proxy_in_flight", "Proxied requests under way", self.proxy_in_flight.clone());
        r.register("proxy_bytes", "Bytes of bodies by direction", self.proxy_bytes.clone());
        r.register("proxy_connections", "Connections opened to a plugin", self.proxy_connections.clone());
    }

    /// Shows what a plugin used last; `None` when it does not run. What is not known is not shown.
    pub fn show_usage(&self, plugin: &str, usage: Option<&Usage>) {
        let labels = Self::of(plugin);
        if let Some(cpu) = usage.and_then(|usage| usage.cpu) {
            self.plugin_cpu_seconds.get_or_create(&labels).inc_by(cpu.as_secs_f64());
        }
        let show = |family: &Family<OfPlugin, Gauge>, value: Option<u64>| match value {
            Some(value) => {
                family.get_or_create(&labels).set(i64::try_from(value).unwrap_or(i64::MAX));
            }
            None => {
                family.remove(&labels);
            }
        };
        show(&self.plugin_memory_bytes, usage.and_then(|usage| usage.memory_bytes));
        show(&self.plugin_tasks, usage.and_then(|usage| usage.tasks.map(u64::from)));
        show(&self.plugin_disk_bytes, usage.and_then(|usage| usage.disk_bytes));
        show(&self.plugin_near_limits, usage.map(|usage| usage.near_limits.len() as u64));
        show(&self.plugin_descriptors, usage.and_then(|usage| usage.descriptors.map(u64::from)));
    }

    /// Labels for a family that is split by plugin.
    #[must_use]
    pub fn of(plugin: &str) -> OfPlugin {
        OfPlugin { plugin: plugin.to_owned() }
    }

    /// Labels for a family that is split by plugin and one word of a closed list.
    #[must_use]
    pub fn of_and(plugin: &str, kind: &'static str) -> OfPluginAnd {
        OfPluginAnd { plugin: plugin.to_owned(), kind }
    }

    /// Everything, in the text format that Prometheus reads.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        if let Ok(registry) = self.registry.lock()
            && let Err(error) = encode(&mut text, &registry)
        {
            tracing::warn!(%error, "the metrics could not be written");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_room_counts_is_in_the_text() {
        let metrics = Metrics::default();
        metrics.clone().plugin_starts.get_or_create(&Metrics::of("hello")).inc();
        metrics.proxy_requests.get_or_create(&Metrics::of_and("hello", "2xx")).inc();
        let usage = Usage {
            at: chrono::Utc::now(),
            over: std::time::Duration::from_secs(30),
            cpu: Some(std::time::Duration::from_millis(1500)),
            memory_bytes: Some(4096),
            processes: Some(1),
            tasks: None,
            descriptors: Some(9),
            most_descriptors: None,
            disk_bytes: Some(8192),
            near_limits: Vec::new(),
            traffic: crate::usage::Traffic::default(),
        };
        metrics.show_usage("hello", Some(&usage));
        let text = metrics.encode();
        assert!(text.contains("temps_plugin_memory_bytes{plugin=\"hello\"} 4096"), "{text}");
        assert!(text.contains("temps_plugin_cpu_seconds_total{plugin=\"hello\"} 1.5"), "{text}");
        assert!(!text.contains("temps_plugin_tasks{"), "what is not known is not shown: {text}");
        metrics.show_usage("hello", None);
        assert!(!metrics.encode().contains("temps_plugin_memory_bytes{"), "what does not run uses nothing");
        assert!(text.contains("temps_plugin_starts_total{plugin=\"hello\"} 1"), "{text}");
        assert!(text.contains("temps_proxy_requests_total{plugin=\"hello\",kind=\"2xx\"} 1"), "{text}");
    }
}
