//! The tap: what goes between the host and its plugins, for somebody who watches: an author at the terminal, a recording.
//!
//! Steps are those of the specification's transcripts. Secrets are masked before a step leaves this file. Nobody waits for a
//! watcher, and without one nothing is done at all. It must not know what becomes of what it shows.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use temps_protocol::limits::MAX_READY_BYTES;
use temps_protocol::{PluginManifest, PluginName};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::{broadcast, watch};

use crate::artifacts::Artifact;
use crate::configuration::{ConfigSchema, Injected};
use crate::plugin::process::SpawnSpec;
use crate::secrets::Secret;

/// Steps that wait for a watcher; one that is further behind is told how many it missed. Steps are mostly a few hundred bytes.
const KEPT: usize = 1024;

/// What stands in the place of a secret.
const MASK: &str = "[masked]";

/// Shortest secret setting that is masked wherever it stands. Shorter ones (`1`, `on`) are part of everything, and are masked
/// only where their setting stands.
const SHORTEST_MASKED: usize = 4;

/// Where all plugins' traffic can be watched. Cheap to clone; the default one is closed, and costs nothing.
#[derive(Debug, Clone, Default)]
pub struct Tap(Option<broadcast::Sender<Arc<Observed>>>);

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
        Self(Some(broadcast::channel(KEPT).0))
    }

    /// Watches from now on; `None` when the tap is closed.
    #[must_use]
    pub fn watch(&self) -> Option<broadcast::Receiver<Arc<Observed>>> {
        self.0.as_ref().map(broadcast::Sender::subscribe)
    }

    /// The tap of one start of a plugin.
    pub(crate) fn of(
        &self,
        plugin: &PluginName,
        manifest: &PluginManifest,
        secret: &Secret,
        config: &watch::Receiver<Injected>,
    ) -> PluginTap {
        let open = self.0.clone().map(|sender| Open {
            sender,
            plugin: plugin.to_string(),
            inspection: false,
            secret: secret.clone(),
            schema: ConfigSchema::of(manifest).ok(),
            config: config.clone(),
        });
        PluginTap(open.map(Arc::new))
    }

    /// The tap of an inspection, which knows no name and gets no settings.
    pub(crate) fn of_inspection(&self, artifact: &Artifact, secret: &Secret) -> PluginTap {
        let open = self.0.clone().map(|sender| Open {
            sender,
            plugin: artifact.hash.clone(),
            inspection: true,
            secret: secret.clone(),
            schema: None,
            config: watch::channel(Injected::default()).1,
        });
        PluginTap(open.map(Arc::new))
    }
}

/// The tap of one start of a plugin. Cheap to clone; the default one is closed.
#[derive(Clone, Default)]
pub struct PluginTap(Option<Arc<Open>>);

struct Open {
    sender: broadcast::Sender<Arc<Observed>>,
    plugin: String,
    inspection: bool,
    secret: Secret,
    schema: Option<ConfigSchema>,
    config: watch::Receiver<Injected>,
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
            let env = json!({
                "TEMPS_API_VERSION": temps_protocol::API_VERSION.to_string(),
                "TEMPS_FEATURES": temps_protocol::Feature::format_list(crate::plugin::process::HOST_FEATURES),
                "TEMPS_PLUGIN_NAME": spec.name.as_ref().map(ToString::to_string),
            });
            json!({"from": "host", "kind": "spawn", "args": args, "env": env})
        });
    }

    /// The host asks over HTTP, with these headers that matter.
    pub(crate) fn request(&self, method: &str, path: &str) {
        self.tell(|| json!({"from": "host", "kind": "http_request", "method": method, "path": path, "headers": self.headers()}));
    }

    /// The plugin answered over HTTP.
    pub(crate) fn response(&self, status: u16) {
        self.tell(|| json!({"from": "plugin", "kind": "http_response", "status": status, "headers": {}}));
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

    /// The same stream, whose lines are told as they are read.
    pub(crate) fn over<R>(&self, inner: R) -> Tapped<R> {
        Tapped { inner, tap: self.clone(), line: Vec::new() }
    }

    fn headers(&self) -> Value {
        let plugin = self.0.as_ref().map(|open| open.plugin.as_str());
        json!({"Host": "localhost", "Authorization": format!("Bearer {MASK}"), "X-Temps-Plugin": plugin})
    }

    fn tell(&self, step: impl FnOnce() -> Value) {
        let Some(open) = &self.0 else { return };
        if open.sender.receiver_count() == 0 {
            return;
        }
        let mut step = step();
        for key in ["text", "line", "path"] {
            if let Some(Value::String(text)) = step.get_mut(key) {
                *text = open.masked(text);
            }
        }
        // Without a watcher, which may have gone just now, nobody misses it.
        let observed =
            Observed { plugin: open.plugin.clone(), inspection: open.inspection, at: Utc::now(), step };
        let _ = open.sender.send(Arc::new(observed));
    }
}

impl Open {
    /// `text` without secrets: JSON is looked through value by value, so that no way to write a character hides one.
    fn masked(&self, text: &str) -> String {
        let config = self.config.borrow().clone();
        let secrets = self.secrets(&config.expose().config);
        let Ok(mut value) = serde_json::from_str::<Value>(text) else {
            return secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, MASK));
        };
        let before = value.clone();
        mask_words(&mut value, &secrets);
        self.mask_settings(&mut value);
        // What holds no secret stays exactly as it was on the wire.
        if value == before { text.to_owned() } else { value.to_string() }
    }

    fn secrets(&self, config: &Map<String, Value>) -> Vec<String> {
        let mut secrets = vec![self.secret.expose().to_owned()];
        let is_secret = |name: &str| self.schema.as_ref().is_some_and(|schema| schema.is_secret(name));
        for (_, value) in config.iter().filter(|(name, _)| is_secret(name)) {
            texts(value, &mut secrets);
        }
        secrets.retain(|secret| secret.len() >= SHORTEST_MASKED);
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

fn mask_words(value: &mut Value, secrets: &[String]) {
    match value {
        Value::String(text) => {
            for secret in secrets {
                if text.contains(secret.as_str()) {
                    *text = text.replace(secret.as_str(), MASK);
                }
            }
        }
        Value::Number(number) if secrets.contains(&number.to_string()) => *value = MASK.into(),
        Value::Array(values) => values.iter_mut().for_each(|value| mask_words(value, secrets)),
        Value::Object(values) => {
            let kept = std::mem::take(values);
            for (mut name, mut inner) in kept {
                for secret in secrets {
                    name = name.replace(secret.as_str(), MASK);
                }
                mask_words(&mut inner, secrets);
                values.insert(name, inner);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
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
        if this.tap.0.is_some() {
            this.take(buffer.filled().get(before..).unwrap_or_default());
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
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    fn tap() -> (PluginTap, broadcast::Receiver<Arc<Observed>>) {
        let manifest = PluginManifest::builder("told", "1.0.0")
            .config(json!({"type": "object", "properties": {
                "webhook": {"type": "string", "writeOnly": true},
                "pin": {"type": "integer", "writeOnly": true},
                "channel": {"type": "string"},
            }}))
            .build();
        let config = json!({"webhook": "https://hooks/\"T0\"", "pin": 7, "channel": "#general"});
        let Value::Object(config) = config else { panic!("not an object") };
        let config = watch::channel(Injected::new(config, 1)).1;
        let tap = Tap::open();
        let watched = tap.watch().unwrap();
        let name = PluginName::new("told").unwrap();
        (tap.of(&name, &manifest, &Secret::new("s3cret-of-start".into()), &config), watched)
    }

    fn next(watched: &mut broadcast::Receiver<Arc<Observed>>) -> String {
        watched.try_recv().unwrap().step.to_string()
    }

    #[test]
    fn no_secret_passes_the_tap_however_it_is_written() {
        let (tap, mut watched) = tap();
        for text in [
            r#"{"type":"config","config":{"webhook":"https://hooks/\"T0\"","pin":7,"channel":"\u0023general"}}"#,
            r#"{"type":"response","id":1,"result":{"config":{"webhook":"https:\/\/hooks\/\u0022T0\u0022","pin":7}}}"#,
            r#"{"type":"request","id":2,"method":"kv_put","params":{"key":"a","value":["s3cret-of-start","\u0073\u0033cret-of-start"]}}"#,
            r#"no json, but s3cret-of-start"#,
        ] {
            tap.frame("host", text);
            let told = next(&mut watched);
            assert!(told.contains(MASK), "{told}");
            for secret in ["T0", "s3cret", ":7", "u0073"] {
                assert!(!told.contains(secret), "{secret} in {told}");
            }
        }
    }

    #[test]
    fn what_holds_no_secret_is_told_as_it_was_sent() {
        let (tap, mut watched) = tap();
        let text = r#"{ "id":1,"z":1.0,  "a":"\u0041" }"#;
        tap.frame("plugin", text);
        assert_eq!(watched.try_recv().unwrap().step["text"], text);
    }

    #[tokio::test]
    async fn lines_are_told_as_they_are_read() {
        let (tap, mut watched) = tap();
        let mut read = String::new();
        let mut stream = tap.over(&b"{\"type\":\"ready\"}\nand s3cret-of-start\nunfinished"[..]);
        stream.read_to_string(&mut read).await.unwrap();
        assert!(read.ends_with("unfinished"));
        assert_eq!(watched.try_recv().unwrap().step["line"], "{\"type\":\"ready\"}");
        assert_eq!(watched.try_recv().unwrap().step["line"], format!("and {MASK}"));
        assert!(watched.try_recv().is_err());
    }
}
