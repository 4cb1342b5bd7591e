//! One life, played: the host's steps are done in their order, and before each of them everything that the plugin is to have
//! done by then has come.

use std::collections::VecDeque;
use std::path::Path;
use std::process::ExitStatus;

use serde_json::{Map, Value};
use temps_protocol::PluginManifest;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;

use super::judge::{Judge, Wrong};
use super::read::{From, Kind, Step};
use super::shape::{Difference, Shapes};
use super::wire::{AHEAD, Arrival, Sending};
use crate::life::{Life, Spawn};

/// Payload of the ping that the player sends on its own account, to know that everything sent before it has come.
pub(super) const BARRIER: &[u8] = b"everything before this";

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

pub(super) struct Player<'a> {
    pub(super) theatre: &'a Theatre<'a>,
    pub(super) steps: &'a [Step],
    pub(super) judge: Judge<'a>,
    pub(super) life: Option<Life>,
    pub(super) exited: Option<ExitStatus>,
    pub(super) manifest: Option<PluginManifest>,
    /// Lines of the handshake that came.
    pub(super) lines: usize,
    pub(super) sending: Option<Sending>,
    pub(super) channel: usize,
    pub(super) pings: VecDeque<Vec<u8>>,
    pub(super) passed_barrier: bool,
    /// Whether a frame was sent since the last ping of the player's own.
    pub(super) unread: bool,
    /// Whether the end of the channel is nothing to wonder about.
    pub(super) ending: bool,
    pub(super) tell: mpsc::Sender<Arrival>,
    pub(super) arrivals: mpsc::Receiver<Arrival>,
}

/// Plays one life.
pub(super) async fn play(theatre: &Theatre<'_>, steps: &[Step]) -> Result<(), Stop> {
    let (tell, arrivals) = mpsc::channel(AHEAD);
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
        unread: false,
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

    /// Takes in something that came, while the step at `now` is played.
    pub(super) async fn take(&mut self, arrival: Arrival, now: usize) -> Result<(), Stop> {
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
        opened: Result<Result<Box<WebSocketStream<UnixStream>>, u16>, String>,
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
