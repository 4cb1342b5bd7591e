//! The host's steps of a life, done again with what is new in this one: its secret, its paths, and settings for masked ones.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use rustix::process::Signal;
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::Message;

use super::expect::PATIENCE;
use super::play::{BARRIER, Player, Stop};
use super::read::{Body, CHANNEL_PATH, Kind, MASK, Request, Step};
use super::wire::{self, Arrival};
use crate::life::Life;
use crate::settings;

/// How long a plugin has to close the channel from its side; then the connection is lost.
const CLOSING: Duration = Duration::from_secs(2);

/// Headers that belong to the connection and not to the request.
const OF_THE_CONNECTION: [&str; 4] = ["connection", "content-length", "keep-alive", "transfer-encoding"];

impl Player<'_> {
    pub(super) async fn act(&mut self, at: usize, step: &Step) -> Result<(), Stop> {
        match &step.kind {
            Kind::Spawn { args, env } => self.spawn(step, args, env)?,
            Kind::HttpRequest(request) => {
                // Over HTTP a request could overtake a frame that stands before it.
                if self.unread {
                    self.barrier(at).await?;
                }
                self.request(at, step, request)?;
            }
            Kind::Frame { text } => {
                let text = self.unmasked(text);
                let text = self.judge.shapes.send_frame(&text);
                self.send(Message::text(text)).await;
                self.unread = true;
            }
            Kind::Ping => {
                let payload = format!("line {}", step.line).into_bytes();
                self.pings.push_back(payload.clone());
                self.send(Message::Ping(payload.into())).await;
            }
            Kind::ChannelClosed => {
                self.barrier(at).await?;
                self.close(at).await?;
            }
            Kind::Signal { signal } => {
                self.ending = true;
                let signal = if signal == "SIGKILL" { Signal::KILL } else { Signal::TERM };
                if let Some(life) = &self.life {
                    life.signal(signal);
                }
            }
            Kind::Lost { steps } => {
                return Err(Stop::Cannot(step.line, format!("the recording lost {steps} steps here")));
            }
            other => return Err(Stop::Cannot(step.line, format!("no host does {}", other.name()))),
        }
        self.judge.comes(at);
        Ok(())
    }

    fn spawn(&mut self, step: &Step, args: &[String], env: &Map<String, Value>) -> Result<(), Stop> {
        let variable = |name: &str| env.get(name).and_then(Value::as_str).map(str::to_owned);
        let mut how = self.theatre.base.clone();
        how.features = variable("TEMPS_FEATURES").unwrap_or_default();
        how.api_version = variable("TEMPS_API_VERSION").unwrap_or_default();
        how.name = variable("TEMPS_PLUGIN_NAME");
        how.database = env.contains_key("TEMPS_DATABASE_URL");
        let recorded = |option: &str| {
            let value = args.iter().skip_while(|arg| *arg != option).nth(1);
            value.map(String::as_str).unwrap_or_default()
        };
        let shapes = &mut self.judge.shapes;
        shapes.place(recorded("--socket-path"), &how.socket.to_string_lossy());
        shapes.place(recorded("--auth-secret"), &how.secret);
        shapes.place(recorded("--data-dir"), &how.data.to_string_lossy());
        let life = Life::spawn(self.theatre.program, &how)
            .map_err(|error| Stop::Cannot(step.line, format!("the plugin cannot be started: {error}")))?;
        self.life = Some(life);
        Ok(())
    }

    fn request(&mut self, at: usize, step: &Step, request: &Request) -> Result<(), Stop> {
        let Some(life) = &self.life else { return Ok(()) };
        let (socket, secret, tell) = (life.socket.clone(), life.secret.clone(), self.tell.clone());
        let mut headers = Vec::new();
        for (name, value) in &request.headers {
            let value = value.as_str().unwrap_or_default();
            let value = if value == format!("Bearer {MASK}") {
                format!("Bearer {secret}")
            } else {
                self.judge.shapes.send_text(value)
            };
            headers.push((name.to_ascii_lowercase(), value));
        }
        if request.path == CHANNEL_PATH {
            let own = |name: &str| {
                name == "host"
                    || name == "connection"
                    || name == "upgrade"
                    || name.starts_with("sec-websocket-")
            };
            let lines = headers.iter().filter(|(name, _)| !own(name));
            let lines: String = lines.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            tokio::spawn(async move {
                let opened = crate::channel::upgrade(&socket, &lines).await;
                // Nobody plays any more, otherwise.
                let _ = tell.send(Arrival::Upgrade(at, opened.map(|opened| opened.map(Box::new)))).await;
            });
            return Ok(());
        }
        let built = self.built(request, headers).map_err(|reason| Stop::Cannot(step.line, reason))?;
        let is_stream = self.steps.iter().any(|other| {
            other.answers == Some(at)
                && matches!(&other.kind, Kind::HttpResponse(response) if response.stream || response.status == 101)
        });
        tokio::spawn(async move {
            let answer = wire::ask(socket, built, is_stream).await;
            let _ = tell.send(Arrival::Answer(at, answer)).await;
        });
        Ok(())
    }

    fn built(
        &mut self,
        request: &Request,
        headers: Vec<(String, String)>,
    ) -> Result<http::Request<BoxBody<Bytes, std::convert::Infallible>>, String> {
        let upgrades = headers.iter().any(|(name, _)| name == "upgrade");
        let is_json = headers.iter().any(|(name, value)| name == "content-type" && value.contains("json"));
        let body = self.body(&request.body, is_json)?;
        let path = self.judge.shapes.send_text(&request.path);
        let mut built = http::Request::builder().method(request.method.as_str()).uri(path);
        for (name, value) in headers {
            if OF_THE_CONNECTION.contains(&name.as_str()) && !(upgrades && name == "connection") {
                continue;
            }
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
            let value = HeaderValue::from_str(&value).map_err(|error| error.to_string())?;
            built = built.header(name, value);
        }
        built.body(Full::new(Bytes::from(body)).boxed()).map_err(|error| error.to_string())
    }

    fn body(&mut self, body: &Body, is_json: bool) -> Result<Vec<u8>, String> {
        use base64::Engine;
        if let Some(bytes) = body.body_bytes {
            return Err(format!("the request's body of {bytes} bytes was not kept whole"));
        }
        match (&body.body, &body.body_base64) {
            (Some(Value::String(text)), _) if !is_json => Ok(self.judge.shapes.send_text(text).into_bytes()),
            (Some(value), _) => Ok(self.judge.shapes.send_value(value).to_string().into_bytes()),
            (None, Some(encoded)) => {
                let decoded = base64::engine::general_purpose::STANDARD.decode(encoded);
                decoded.map_err(|error| format!("body_base64: {error}"))
            }
            (None, None) => Ok(Vec::new()),
        }
    }

    /// A frame with settings in the place of masked ones: those that were given, or such as keep the plugin's schema.
    fn unmasked(&self, text: &str) -> String {
        let Ok(mut frame) = serde_json::from_str::<Value>(text) else { return text.to_owned() };
        let schema = self.manifest.as_ref().and_then(|manifest| manifest.config.as_ref());
        let mut changed = false;
        for pointer in ["/config", "/result/config"] {
            let Some(Value::Object(fields)) = frame.pointer_mut(pointer) else { continue };
            for (name, value) in fields.iter_mut().filter(|(_, value)| **value == *MASK) {
                let rule = schema.map(|schema| &schema["properties"][name.as_str()]);
                let stands =
                    self.theatre.config.get(name).cloned().or_else(|| rule.and_then(settings::value));
                if let Some(stands) = stands {
                    (*value, changed) = (stands, true);
                }
            }
        }
        if changed { frame.to_string() } else { text.to_owned() }
    }

    async fn send(&self, message: Message) {
        if let Some(sending) = &self.sending {
            sending.send(message).await;
        }
    }

    /// Waits until everything has come that the plugin sent so far over the channel.
    pub(super) async fn barrier(&mut self, at: usize) -> Result<(), Stop> {
        if self.sending.is_none() || self.ending {
            return Ok(());
        }
        (self.passed_barrier, self.unread) = (false, false);
        self.send(Message::Ping(BARRIER.into())).await;
        let until = Instant::now() + PATIENCE;
        while !self.passed_barrier && self.sending.is_some() {
            match timeout_at(until, self.arrivals.recv()).await {
                Ok(Some(arrival)) => self.take(arrival, at).await?,
                // A plugin that answers no ping may stand still because of what was played; that is seen by its steps.
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    /// Closes the channel, and waits for the plugin to do so as well.
    async fn close(&mut self, at: usize) -> Result<(), Stop> {
        self.ending = true;
        self.send(Message::Close(None)).await;
        let until = Instant::now() + CLOSING;
        while self.sending.is_some() {
            match timeout_at(until, self.arrivals.recv()).await {
                Ok(Some(arrival)) => self.take(arrival, at).await?,
                _ => self.sending = None,
            }
        }
        Ok(())
    }
}
