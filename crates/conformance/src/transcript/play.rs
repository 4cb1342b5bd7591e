//! One life, played: the host's steps are done in their order, and before each of them everything that the plugin is to have
//! done by then has come.

use std::collections::VecDeque;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use http_body_util::{BodyExt, Full};
use rustix::process::Signal;
use serde::Serialize;
use serde_json::{Map, Value};
use temps_protocol::limits::{MAX_MANIFEST_BYTES, MAX_READY_BYTES};
use temps_protocol::{PluginManifest, parse_manifest_line, parse_ready_line};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::Message;

use super::judge::{Judge, Wrong};
use super::read::{Body, CHANNEL_PATH, From, Kind, MASK, Request, Step};
use super::shape::{Difference, Shapes};
use super::wire::{self, Arrival, Sending};
use crate::life::{Life, Spawn};
use crate::settings;

/// How long each step of the plugin may take. A plugin that works takes milliseconds; one that shuts down has this long as well.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// How long a plugin has to close the channel from its side; then the connection is lost.
const CLOSING: Duration = Duration::from_secs(2);

/// Payload of the ping that the player sends on its own account, to know that everything sent before it has come.
const BARRIER: &[u8] = b"everything before this";

/// Headers that belong to the connection and not to the request.
const OF_THE_CONNECTION: [&str; 4] = ["connection", "content-length", "keep-alive", "transfer-encoding"];

/// Why a life was not played to its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// The plugin did something else.
    Wrong(Wrong),
    /// The step on this line cannot be done again.
    Cannot(usize, String),
}

impl std::convert::From<Wrong> for Stop {
    fn from(wrong: Wrong) -> Self {
        Stop::Wrong(wrong)
    }
}

/// What all lives of one transcript share.
#[derive(Debug)]
pub(super) struct Theatre<'a> {
    pub(super) program: &'a Path,
    /// Settings that stand for masked ones.
    pub(super) config: &'a Map<String, Value>,
    /// How the plugin is started, apart from what its step says. What a life leaves in its data directory the next one finds.
    pub(super) base: Spawn,
}

struct Player<'a> {
    theatre: &'a Theatre<'a>,
    steps: &'a [Step],
    judge: Judge<'a>,
    life: Option<Life>,
    exited: Option<ExitStatus>,
    manifest: Option<PluginManifest>,
    /// Lines of the handshake that came.
    lines: usize,
    sending: Option<Sending>,
    channel: usize,
    pings: VecDeque<Vec<u8>>,
    passed_barrier: bool,
    /// Whether the end of the channel is nothing to wonder about.
    ending: bool,
    tell: mpsc::UnboundedSender<Arrival>,
    arrivals: mpsc::UnboundedReceiver<Arrival>,
}

/// Plays one life.
pub(super) async fn play(theatre: &Theatre<'_>, steps: &[Step]) -> Result<(), Stop> {
    let (tell, arrivals) = mpsc::unbounded_channel();
    let shapes = Shapes::with_fresh(format!("fresh-{}", theatre.base.secret));
    let mut player = Player {
        theatre,
        steps,
        judge: Judge::new(steps, shapes),
        life: None,
        exited: None,
        manifest: None,
        lines: 0,
        sending: None,
        channel: 0,
        pings: VecDeque::new(),
        passed_barrier: false,
        ending: false,
        tell,
        arrivals,
    };
    let played = player.all().await;
    if let Some(life) = player.life.take() {
        life.kill().await;
    }
    played
}

impl Player<'_> {
    async fn all(&mut self) -> Result<(), Stop> {
        for (at, step) in self.steps.iter().enumerate() {
            match step.from {
                From::Host => self.act(at, step).await?,
                From::Plugin => self.wait_for(at, step).await?,
            }
        }
        // A recording may end while the plugin runs: everything that came is judged, and it is ended.
        self.barrier(self.steps.len()).await?;
        while let Ok(arrival) = self.arrivals.try_recv() {
            self.take(arrival, self.steps.len()).await?;
        }
        Ok(())
    }

    // ---- the host's steps

    async fn act(&mut self, at: usize, step: &Step) -> Result<(), Stop> {
        match &step.kind {
            Kind::Spawn { args, env } => self.spawn(step, args, env)?,
            Kind::HttpRequest(request) => self.request(at, step, request)?,
            Kind::Frame { text } => {
                let text = self.unmasked(text);
                let text = self.judge.shapes.send_frame(&text);
                self.send(Message::text(text)).await;
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
                let _ = tell.send(Arrival::Upgrade(at, opened.map(|opened| opened.map(Box::new))));
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
            let _ = tell.send(Arrival::Answer(at, answer));
        });
        Ok(())
    }

    fn built(
        &mut self,
        request: &Request,
        headers: Vec<(String, String)>,
    ) -> Result<http::Request<http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>>, String>
    {
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
    async fn barrier(&mut self, at: usize) -> Result<(), Stop> {
        if self.sending.is_none() || self.ending {
            return Ok(());
        }
        self.passed_barrier = false;
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

    // ---- the plugin's steps

    async fn wait_for(&mut self, at: usize, step: &Step) -> Result<(), Stop> {
        match &step.kind {
            Kind::Stdout { line } => self.line(at, step, line).await,
            Kind::Exit { code, signal } => self.exit(at, step, *code, signal.as_deref()).await,
            _ => self.arrival(at, step).await,
        }
    }

    async fn line(&mut self, at: usize, step: &Step, expected: &str) -> Result<(), Stop> {
        self.judge.comes(at);
        // What stands on stdout after the two lines is the plugin's log.
        let bound = match self.lines {
            0 => MAX_MANIFEST_BYTES,
            1 => MAX_READY_BYTES,
            _ => return Ok(()),
        };
        let Some(life) = &mut self.life else { return Ok(()) };
        let got = life.line(bound).await.map_err(|error| Wrong::instead(step, error.to_string()))?;
        let judged = if self.lines == 0 {
            self.manifest = parse_manifest_line(&got).ok();
            let wanted = parse_manifest_line(expected).ok();
            self.judge.shapes.handshake(expected, &got, wanted.as_ref(), self.manifest.as_ref())
        } else {
            let in_order = |mut ready: temps_protocol::Ready| {
                ready.features.sort();
                ready
            };
            let wanted = parse_ready_line(expected).ok().map(in_order);
            let came = parse_ready_line(&got).ok().map(in_order);
            life.drain();
            self.judge.shapes.handshake(expected, &got, wanted.as_ref(), came.as_ref())
        };
        self.lines += 1;
        judged.map_err(|difference| Wrong::at(step, difference).into())
    }

    async fn arrival(&mut self, at: usize, step: &Step) -> Result<(), Stop> {
        let until = Instant::now() + PATIENCE;
        while !self.judge.has_come(at) {
            if matches!(step.kind, Kind::ChannelClosed) && self.sending.is_none() {
                self.judge.comes(at);
                return Ok(());
            }
            let Some(life) = &mut self.life else { return Ok(()) };
            let ended =
                async { if self.exited.is_some() { std::future::pending().await } else { life.end().await } };
            tokio::select! {
                biased;
                arrival = self.arrivals.recv() => {
                    if let Some(arrival) = arrival {
                        self.take(arrival, at).await?;
                    }
                }
                status = ended => {
                    self.exited = status.ok();
                    self.after_the_end(at, step).await?;
                }
                () = tokio::time::sleep_until(until) => {
                    let words = life.last_words();
                    let nothing = format!("nothing within {} s{words}", PATIENCE.as_secs());
                    return Err(Wrong::instead(step, nothing).into());
                }
            }
        }
        Ok(())
    }

    /// The plugin ended while something else was expected. What it sent before may still be on its way.
    async fn after_the_end(&mut self, at: usize, step: &Step) -> Result<(), Stop> {
        let until = Instant::now() + Duration::from_millis(500);
        while !self.judge.has_come(at) {
            match timeout_at(until, self.arrivals.recv()).await {
                Ok(Some(arrival)) => self.take(arrival, at).await?,
                _ if matches!(step.kind, Kind::ChannelClosed) => self.judge.comes(at),
                _ => {
                    let fate = self.fate().await;
                    return Err(Wrong::instead(step, fate).into());
                }
            }
        }
        Ok(())
    }

    async fn exit(
        &mut self,
        at: usize,
        step: &Step,
        code: Option<i32>,
        signal: Option<&str>,
    ) -> Result<(), Stop> {
        let until = Instant::now() + PATIENCE;
        while self.exited.is_none() {
            let Some(life) = &mut self.life else { return Ok(()) };
            tokio::select! {
                status = life.end() => self.exited = status.ok(),
                Some(arrival) = self.arrivals.recv() => self.take(arrival, at).await?,
                () = tokio::time::sleep_until(until) => {
                    let runs = format!("it still runs after {} s{}", PATIENCE.as_secs(), life.last_words());
                    return Err(Wrong::instead(step, runs).into());
                }
            }
        }
        self.judge.comes(at);
        let asked = self.steps[..at]
            .iter()
            .any(|step| matches!(&step.kind, Kind::Signal { signal } if signal == "SIGTERM"));
        let status = self.exited.unwrap_or_default();
        // A plugin that is asked to end does so with 0 or of the signal itself.
        let orderly =
            |code: Option<i32>, signal: Option<i32>| asked && (code == Some(0) || signal == Some(15));
        let wanted = signal.map(number_of);
        let same = code == status.code() && wanted == status.signal();
        if same || orderly(code, wanted) && orderly(status.code(), status.signal()) {
            return Ok(());
        }
        let fate = self.fate().await;
        Err(Wrong::instead(step, fate).into())
    }

    async fn fate(&mut self) -> String {
        match &mut self.life {
            Some(life) => life.obituary().await.trim_start_matches("and ").to_owned(),
            None => "no plugin".into(),
        }
    }

    async fn take(&mut self, arrival: Arrival, now: usize) -> Result<(), Stop> {
        match arrival {
            Arrival::Frame(channel, text) if channel == self.channel => {
                self.judge.frame(channel, &text, now)?;
            }
            Arrival::Binary(channel, bytes) if channel == self.channel => {
                let what = format!("a binary message of {bytes} bytes");
                return Err(Wrong::unexpected("frame", what).into());
            }
            Arrival::Pong(channel, payload) if channel == self.channel => self.pong(channel, &payload)?,
            Arrival::Closed(channel, why) if channel == self.channel => {
                self.closed(channel, &why, now).await?
            }
            Arrival::Answer(request, answer) => self.judge.answer(request, answer)?,
            Arrival::Upgrade(request, opened) => self.opened(request, opened)?,
            // Of a channel that is gone.
            Arrival::Frame(..) | Arrival::Binary(..) | Arrival::Pong(..) | Arrival::Closed(..) => {}
        }
        Ok(())
    }

    fn pong(&mut self, channel: usize, payload: &[u8]) -> Result<(), Wrong> {
        if payload == BARRIER {
            self.passed_barrier = true;
            return Ok(());
        }
        // Of several pings that wait, a plugin may answer the last one only.
        let Some(place) = self.pings.iter().position(|ping| ping == payload) else {
            let got = format!("a pong with the payload {:?}", String::from_utf8_lossy(payload));
            return Err(Wrong::unexpected("pong", got));
        };
        for _ in self.pings.drain(..=place) {
            if let Some(at) = self.judge.open(channel, |kind| matches!(kind, Kind::Pong)) {
                self.judge.comes(at);
            }
        }
        Ok(())
    }

    async fn closed(&mut self, channel: usize, why: &str, now: usize) -> Result<(), Stop> {
        self.sending = None;
        let is_end = |kind: &Kind| matches!(kind, Kind::ChannelClosed);
        let before = |at: &usize| self.judge.open(channel, is_end).is_none_or(|end| *at < end);
        let missing =
            self.judge.open(channel, |kind| matches!(kind, Kind::Frame { .. } | Kind::Pong)).filter(before);
        match (missing, self.judge.open(channel, is_end)) {
            (None, Some(end)) => self.judge.comes(end),
            (None, None) if self.ending => {}
            (missing, _) => {
                let next = missing.map(|at| &self.steps[at]).or_else(|| self.judge.next(now));
                let fate = match &mut self.life {
                    Some(life) => {
                        let runs = life.runs();
                        if runs {
                            String::new()
                        } else {
                            format!("; {}", life.obituary().await.trim_start_matches("and "))
                        }
                    }
                    None => String::new(),
                };
                let got = format!("the end of the channel ({why}){fate}");
                return Err(match next {
                    Some(step) => Wrong::instead(step, got),
                    None => Wrong::unexpected("channel_closed", got),
                }
                .into());
            }
        }
        Ok(())
    }

    fn opened(
        &mut self,
        request: usize,
        opened: Result<Result<Box<tokio_tungstenite::WebSocketStream<tokio::net::UnixStream>>, u16>, String>,
    ) -> Result<(), Wrong> {
        let Some(at) = self.steps.iter().position(|step| step.answers == Some(request)) else {
            return Ok(());
        };
        let step = &self.steps[at];
        let Kind::HttpResponse(expected) = &step.kind else { return Ok(()) };
        let opened = opened.map_err(|why| Wrong::instead(step, why))?;
        let status = opened.as_ref().map_or_else(|status| *status, |_| 101);
        if status != expected.status {
            let (expected, got) = (expected.status.to_string(), status.to_string());
            return Err(Wrong::at(step, Difference { field: "status".into(), expected, got }));
        }
        if let Ok(stream) = opened {
            self.channel = step.channel;
            self.pings.clear();
            self.ending = false;
            self.judge.shapes.new_channel();
            self.sending = Some(Sending::over(*stream, self.channel, self.tell.clone()));
        }
        self.judge.comes(at);
        Ok(())
    }
}

fn number_of(signal: &str) -> i32 {
    match signal {
        "SIGTERM" => 15,
        "SIGKILL" => 9,
        other => other.parse().unwrap_or_default(),
    }
}

impl Shapes {
    /// A line of the handshake: read, so that fields that go without saying make no difference; or as it is.
    fn handshake<T: Serialize>(
        &mut self,
        expected: &str,
        got: &str,
        wanted: Option<&T>,
        came: Option<&T>,
    ) -> Result<(), Difference> {
        let json = |value: &T| serde_json::to_value(value).unwrap_or_default();
        let whole = || Difference { field: "line".into(), expected: expected.into(), got: got.into() };
        match (wanted, came) {
            (Some(wanted), Some(came)) => self.value("line", &json(wanted), &json(came)),
            (None, None) => {
                match (serde_json::from_str::<Value>(expected), serde_json::from_str::<Value>(got)) {
                    (Ok(wanted), Ok(came)) => self.value("line", &wanted, &came),
                    _ => self.text("line", expected, got),
                }
            }
            _ => Err(whole()),
        }
    }
}
