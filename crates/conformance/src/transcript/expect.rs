//! The plugin's steps of a life: each is waited for, and what comes instead is told.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use temps_protocol::limits::{MAX_MANIFEST_BYTES, MAX_READY_BYTES};
use temps_protocol::{Ready, parse_manifest_line, parse_ready_line};
use tokio::time::{Instant, timeout_at};

use super::judge::Wrong;
use super::play::{Player, Stop};
use super::read::{Kind, Step};
use super::shape::{Difference, Shapes};

/// How long each step of the plugin may take. A plugin that works takes milliseconds; one that shuts down has this long as well.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// How long what a plugin sent before its end may be on its way.
const LATE: Duration = Duration::from_millis(500);

impl Player<'_> {
    pub(super) async fn wait_for(&mut self, at: usize, step: &Step) -> Result<(), Stop> {
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
            let in_order = |mut ready: Ready| {
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
        let until = Instant::now() + LATE;
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
