//! The tap: what goes between the host and its plugins, for somebody who watches: an author at the terminal, a recording.
//!
//! Steps are those of the specification's transcripts. Secrets are masked before a step leaves this file. Nobody waits for a
//! watcher, and without one nothing is done at all. It must not know what becomes of what it shows.

mod http;
mod mask;
mod queue;

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use temps_protocol::limits::MAX_READY_BYTES;
use temps_protocol::{PluginManifest, PluginName};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::watch;

use self::mask::{MASK, SHORTEST_MASKED};
use self::queue::Watchers;
pub use self::queue::{Told, Watcher};
use crate::artifacts::Artifact;
use crate::configuration::{ConfigSchema, Injected};
use crate::plugin::process::SpawnSpec;
use crate::secrets::Secret;

pub(crate) use self::http::{Answering, Exchange};

/// Where plugins' traffic can be watched. Cheap to clone; the default one is closed, and costs nothing.
#[derive(Debug, Clone, Default)]
pub struct Tap(Option<Arc<Watchers>>);

/// One step, as it was seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// Name of the plugin; of an inspection, the hash of what was inspected.
    pub plugin: String,
    /// Whether it is of an inspection, whose only steps are lines of its output.
    pub inspection: bool,
    /// When it was seen.
    pub at: DateTime<Utc>,
    /// The step as it stands in a transcript: an object with `from`, `kind`, and more.
    pub step: Value,
}

impl Tap {
    /// An open tap.
    #[must_use]
    pub fn open() -> Self {
        Self(Some(Arc::default()))
    }

    /// Watches all plugins from now on; `None` when the tap is closed.
    #[must_use]
    pub fn watch(&self) -> Option<Watcher> {
        self.0.as_ref().map(|watchers| watchers.watch(None))
    }

    /// Watches one plugin from now on, through all its starts; `None` when the tap is closed.
    #[must_use]
    pub fn watch_one(&self, plugin: &str) -> Option<Watcher> {
        self.0.as_ref().map(|watchers| watchers.watch(Some(plugin.to_owned())))
    }

    /// The tap of one start of a plugin.
    pub(crate) fn of(
        &self,
        plugin: &PluginName,
        manifest: &PluginManifest,
        secret: &Secret,
        config: &watch::Receiver<Injected>,
    ) -> PluginTap {
        let open = self.0.clone().map(|watchers| Open {
            watchers,
            plugin: plugin.to_string(),
            inspection: false,
            secret: secret.clone(),
            schema: ConfigSchema::of(manifest).ok(),
            config: config.clone(),
            known: Mutex::default(),
        });
        PluginTap(open.map(Arc::new))
    }

    /// The tap of an inspection, which knows no name and gets no settings.
    pub(crate) fn of_inspection(&self, artifact: &Artifact, secret: &Secret) -> PluginTap {
        let open = self.0.clone().map(|watchers| Open {
            watchers,
            plugin: artifact.hash.clone(),
            inspection: true,
            secret: secret.clone(),
            schema: None,
            config: watch::channel(Injected::default()).1,
            known: Mutex::default(),
        });
        PluginTap(open.map(Arc::new))
    }
}

/// The tap of one start of a plugin. Cheap to clone; the default one is closed.
#[derive(Clone, Default)]
pub struct PluginTap(Option<Arc<Open>>);

struct Open {
    watchers: Arc<Watchers>,
    plugin: String,
    inspection: bool,
    secret: Secret,
    schema: Option<ConfigSchema>,
    config: watch::Receiver<Injected>,
    /// Secrets of this start, also those that were settings before.
    known: Mutex<BTreeSet<String>>,
}

impl std::fmt::Debug for PluginTap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PluginTap").field(&self.0.is_some()).finish()
    }
}

impl PluginTap {
    /// The program is started.
    pub(crate) fn spawn(&self, spec: &SpawnSpec) {
        self.tell(|| {
            let args = [
                spec.program.to_string_lossy(),
                "--socket-path".into(),
                spec.socket.to_string_lossy(),
                "--auth-secret".into(),
                MASK.into(),
                "--data-dir".into(),
                spec.data_dir.to_string_lossy(),
            ];
            let mut env = json!({
                "TEMPS_API_VERSION": temps_protocol::API_VERSION.to_string(),
                "TEMPS_FEATURES": temps_protocol::Feature::format_list(crate::plugin::process::HOST_FEATURES),
                "TEMPS_PLUGIN_NAME": spec.name.as_ref().map(ToString::to_string),
            });
            // It may hold a password.
            if spec.env.contains_key("TEMPS_DATABASE_URL") {
                env["TEMPS_DATABASE_URL"] = MASK.into();
            }
            json!({"from": "host", "kind": "spawn", "args": args, "env": env})
        });
    }

    /// A text message of the channel.
    pub(crate) fn frame(&self, from: &'static str, text: &str) {
        self.tell(|| json!({"from": from, "kind": "frame", "text": text}));
    }

    /// Something of the channel that has no content: `ping`, `pong`, `channel_closed`.
    pub(crate) fn sign(&self, from: &'static str, kind: &'static str) {
        self.tell(|| json!({"from": from, "kind": kind}));
    }

    /// A signal of the host.
    pub(crate) fn signal(&self, signal: &'static str) {
        self.tell(|| json!({"from": "host", "kind": "signal", "signal": signal}));
    }

    /// The process ended.
    pub(crate) fn exit(&self, code: Option<i32>, signal: Option<i32>) {
        self.tell(|| {
            let signal = signal.map(|number| match number {
                9 => "SIGKILL".to_owned(),
                15 => "SIGTERM".to_owned(),
                number => number.to_string(),
            });
            let mut step = json!({"from": "plugin", "kind": "exit"});
            match (code, signal) {
                (_, Some(signal)) => step["signal"] = signal.into(),
                (code, None) => step["code"] = code.into(),
            }
            step
        });
    }

    /// What is known of the plugin, when somebody watches it.
    fn watched(&self) -> Option<&Open> {
        self.0.as_deref().filter(|open| open.watchers.want(&open.plugin))
    }

    /// The same stream, whose lines are told as they are read.
    pub(crate) fn over<R>(&self, inner: R) -> Tapped<R> {
        Tapped { inner, tap: self.clone(), line: Vec::new() }
    }

    /// Tells a step whose texts are masked here.
    fn tell(&self, step: impl FnOnce() -> Value) {
        self.tell_with(|open| {
            let mut step = step();
            for key in ["text", "line"] {
                if let Some(Value::String(text)) = step.get_mut(key) {
                    *text = open.masked(text);
                }
            }
            step
        });
    }

    /// Tells a step that is masked already.
    fn tell_with(&self, step: impl FnOnce(&Open) -> Value) {
        let Some(open) = self.watched() else { return };
        let (plugin, inspection, step) = (open.plugin.clone(), open.inspection, step(open));
        open.watchers.tell(Observed { plugin, inspection, at: Utc::now(), step });
    }
}

impl Open {
    fn masked(&self, text: &str) -> String {
        mask::text(text, &self.secrets(), |frame| self.mask_settings(frame))
    }

    /// Everything that is masked wherever it stands.
    fn secrets(&self) -> Vec<String> {
        let config = self.config.borrow().clone();
        let mut secrets = vec![self.secret.expose().to_owned()];
        let is_secret = |name: &str| self.schema.as_ref().is_some_and(|schema| schema.is_secret(name));
        for (_, value) in config.expose().config.iter().filter(|(name, _)| is_secret(name)) {
            texts(value, &mut secrets);
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(secrets.into_iter().filter(|secret| secret.len() >= SHORTEST_MASKED));
        let mut secrets: Vec<String> = known.iter().cloned().collect();
        // One that holds another one goes first, or its rest would stay.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets
    }

    /// The configuration in a frame of its own, or in an answer to `get_config`.
    fn mask_settings(&self, frame: &mut Value) {
        let Some(schema) = &self.schema else { return };
        for pointer in ["/config", "/result/config"] {
            if let Some(Value::Object(settings)) = frame.pointer_mut(pointer) {
                for (_, value) in settings.iter_mut().filter(|(name, _)| schema.is_secret(name)) {
                    *value = MASK.into();
                }
            }
        }
    }
}

/// All texts inside of a value.
fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| texts(value, found)),
        Value::Object(values) => values.values().for_each(|value| texts(value, found)),
        Value::Number(number) => found.push(number.to_string()),
        Value::Null | Value::Bool(_) => {}
    }
}

/// A stream whose lines are told as they are read.
pub(crate) struct Tapped<R> {
    inner: R,
    tap: PluginTap,
    line: Vec<u8>,
}

impl<R: AsyncRead + Unpin> AsyncRead for Tapped<R> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.inner).poll_read(cx, buffer);
        if this.tap.watched().is_some() {
            this.take(buffer.filled().get(before..).unwrap_or_default());
        } else {
            this.line.clear();
        }
        polled
    }
}

impl<R> Tapped<R> {
    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                let line = String::from_utf8_lossy(&line).into_owned();
                self.tap.tell(|| json!({"from": "plugin", "kind": "stdout", "line": line}));
            } else if self.line.len() < MAX_READY_BYTES {
                self.line.push(*byte);
            }
        }
    }
}

#[cfg(test)]
mod tests;
