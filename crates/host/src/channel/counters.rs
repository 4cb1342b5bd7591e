//! What a channel counts for the host's metrics.

use prometheus_client::metrics::counter::Counter;
use temps_protocol::ErrorCode;

use crate::metrics::Metrics;

/// Counters of one plugin's channel, looked up once.
pub(super) struct Counters {
    frames_in: Counter,
    frames_out: Counter,
    bytes_in: Counter,
    bytes_out: Counter,
    pub(super) refused: Counter,
    ok: Counter,
    errors: Vec<(ErrorCode, Counter)>,
}

impl Counters {
    pub(super) fn new(metrics: &Metrics, plugin: &str) -> Self {
        let frames = |kind| metrics.channel_frames.get_or_create(&Metrics::of_and(plugin, kind)).clone();
        let bytes = |kind| metrics.channel_bytes.get_or_create(&Metrics::of_and(plugin, kind)).clone();
        let calls = |kind| metrics.channel_calls.get_or_create(&Metrics::of_and(plugin, kind)).clone();
        Self {
            frames_in: frames("in"),
            frames_out: frames("out"),
            bytes_in: bytes("in"),
            bytes_out: bytes("out"),
            refused: frames("refused"),
            ok: calls("ok"),
            errors: ErrorCode::ALL.map(|code| (code, calls(code.as_str()))).to_vec(),
        }
    }

    /// Counts a frame of the plugin.
    pub(super) fn took(&self, bytes: usize) {
        self.frames_in.inc();
        self.bytes_in.inc_by(bytes as u64);
    }

    /// Counts a frame to the plugin.
    pub(super) fn sent(&self, bytes: usize) {
        self.frames_out.inc();
        self.bytes_out.inc_by(bytes as u64);
    }

    /// The counter of calls that ended with this error, or well.
    pub(super) fn call(&self, error: Option<ErrorCode>) -> &Counter {
        let found = error.and_then(|code| self.errors.iter().find(|(known, _)| *known == code));
        found.map_or(&self.ok, |(_, counter)| counter)
    }
}
