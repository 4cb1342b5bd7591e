//! The scenes: each is one or more lives of the plugin in which some promises are watched. Scenes share nothing, so they
//! run beside each other.

mod acks;
mod channel;
mod config;
mod endurance;
mod events;
mod handshake;
mod reconnect;
mod routes;
mod shutdown;
mod starts;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{Method, StatusCode};
use serde_json::Value;
use temps_protocol::Feature;

use crate::channel::{Channel, Notebook, Opened};
use crate::check::Check;
use crate::http::{Shown, ask};
use crate::life::{Life, Spawn};
use crate::patience::Patience;
use crate::platform::Platform;
use crate::report::{Finding, Sheet};
use crate::subject::{Profile, Subject};

pub(crate) use handshake::{CHECKS as HANDSHAKE_CHECKS, meet};

/// The scenes that follow the handshake, the longest first.
pub(crate) const ALL: &[Scene] = &[
    endurance::SCENE,
    shutdown::SCENE,
    acks::SCENE,
    channel::SCENE,
    events::SCENE,
    reconnect::SCENE,
    routes::SCENE,
    starts::RESTART,
    starts::OLD_HOST,
    starts::LATER_HOST,
    starts::STALE_SOCKET,
    starts::LONG_PATH,
    starts::UNKNOWN_ARGUMENT,
    config::SCENE,
];

/// How long `GET health_path` may take.
pub(crate) const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

/// How often health is asked in a row before a plugin counts as unwell.
const HEALTH_TRIES: u32 = 3;

/// How long a pong may take. The host waits longer, but a plugin that reads answers in milliseconds.
pub(crate) const PONG_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an event may take, by `POST` or until its ack.
pub(crate) const EVENT_TIMEOUT: Duration = temps_protocol::limits::EVENT_TIMEOUT;

/// One scene.
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    pub(crate) checks: &'static [Check],
    pub(crate) play: for<'a> fn(&'a Stage, &'a mut Sheet) -> BoxFuture<'a, ()>,
}

/// What all scenes play on.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) subject: Subject,
    pub(crate) profile: Profile,
    /// A directory of the kit's own.
    pub(crate) place: PathBuf,
    /// A configuration that keeps the plugin's schema.
    pub(crate) config: Value,
    /// Paths of the plugin's own routes.
    pub(crate) routes: Vec<String>,
    /// How lines of the handshake are waited for.
    pub(crate) patience: Patience,
}

/// The features of the played host.
pub(crate) fn all_features() -> String {
    Feature::format_list(&Feature::ALL)
}

impl Stage {
    /// How the plugin is started for a scene.
    pub(crate) fn how(&self, scene: &str) -> Spawn {
        let mut how = Spawn::in_place(&self.place.join(scene), &all_features());
        how.name = Some(self.profile.manifest.name.clone());
        how.database = self.profile.manifest.requires_db;
        how.patience = self.patience.of_scene(scene);
        how
    }

    /// Starts the plugin up to ready.
    pub(crate) async fn start(&self, how: &Spawn) -> Result<Life, String> {
        let started = Life::start(&self.subject.program, how).await;
        started.map(|(life, ..)| life).map_err(|error| format!("the plugin did not start: {error}"))
    }

    /// Starts the plugin and opens its channel, if it has one.
    pub(crate) async fn act(&self, how: &Spawn) -> Result<Act, String> {
        self.enter(self.start(how).await?, how).await
    }

    /// Opens the channel of a plugin that got ready, if it has one, and sees that it takes its configuration.
    pub(crate) async fn enter(&self, life: Life, how: &Spawn) -> Result<Act, String> {
        let mut act = Act {
            life,
            channel: None,
            platform: Arc::default(),
            health_path: self.profile.manifest.health_path.clone(),
            config: self.config.clone(),
            configured: self.has(Feature::Config) && how.features.contains(Feature::Config.as_str()),
            acks: self.has(Feature::Ack) && how.features.contains(Feature::Ack.as_str()),
        };
        act.platform.lock().unwrap_or_else(PoisonError::into_inner).config = self.config.clone();
        if self.profile.channel {
            act.channel = Some(act.open_channel().await?);
        }
        if act.configured {
            let taken = act.is_well().await;
            taken.map_err(|why| format!("the plugin did not take its configuration: {why}"))?;
        }
        Ok(act)
    }

    /// Whether the plugin announced a feature.
    pub(crate) fn has(&self, feature: Feature) -> bool {
        self.profile.ready.known_features().contains(&feature)
    }
}

/// A running plugin with its channel.
#[derive(Debug)]
pub(crate) struct Act {
    pub(crate) life: Life,
    pub(crate) channel: Option<Channel>,
    pub(crate) platform: Arc<Mutex<Platform>>,
    health_path: String,
    config: Value,
    configured: bool,
    acks: bool,
}

impl Act {
    /// Opens a channel, and sends the configuration over it if both sides have that feature.
    pub(crate) async fn open_channel(&self) -> Result<Channel, String> {
        let opened =
            Channel::open(&self.life.socket, Some(&self.life.secret), Arc::clone(&self.platform)).await?;
        let channel = match opened {
            Opened::Channel(channel) => channel,
            Opened::Refused(status) => return Err(format!("the status {status} instead of a channel")),
        };
        if self.configured {
            channel.configure(&self.config, 1).await;
        }
        Ok(channel)
    }

    /// Whether the plugin is well after these events. It is asked once it has acked them, if it acks, because until then it may not have
    /// looked at them. Whether acks come has a check elsewhere.
    pub(crate) async fn handles(&mut self, events: &[Value]) -> Result<(), String> {
        if let Some(channel) = &mut self.channel {
            for event in events {
                channel.event(event).await;
            }
            let acked = |seen: &Notebook| {
                events.iter().all(|event| seen.acks.iter().any(|ack| ack.id == crate::events::id(event)))
            };
            if self.acks {
                let _ = channel.until(PONG_TIMEOUT, acked).await;
            }
        }
        self.is_well().await
    }

    /// Whether the plugin runs, reads its channel, and answers its health request. The error says what is wrong.
    pub(crate) async fn is_well(&mut self) -> Result<(), String> {
        if let Some(channel) = &mut self.channel
            && let Err(why) = channel.ping(PONG_TIMEOUT).await
        {
            return Err(self.with_fate(why).await);
        }
        self.is_healthy().await
    }

    /// Whether the plugin runs and answers its health request.
    pub(crate) async fn is_healthy(&mut self) -> Result<(), String> {
        let mut last = String::new();
        for _ in 0..HEALTH_TRIES {
            match health(&self.life, &self.health_path, true).await {
                Ok(()) if self.life.runs() => return Ok(()),
                Ok(()) => break,
                Err(why) => last = why,
            }
        }
        Err(self.with_fate(last).await)
    }

    async fn with_fate(&mut self, why: String) -> String {
        if self.life.runs() { format!("{why}{}", self.life.last_words()) } else { self.fate().await }
    }

    async fn fate(&mut self) -> String {
        format!("the end of standard output, {}", self.life.obituary().await)
    }

    /// The plugin is well after this was sent.
    pub(crate) async fn survives(&mut self, sent: &str) -> Result<(), Finding> {
        self.is_well().await.map_err(|came| Finding { sent: sent.to_owned(), came })
    }
}

/// Asks for the plugin's health once.
pub(crate) async fn health(life: &Life, path: &str, with_secret: bool) -> Result<(), String> {
    let shown = if with_secret { Shown::Secret(&life.secret) } else { Shown::Nothing };
    let answer = ask(&life.socket, Method::GET, path, shown, None, HEALTH_TIMEOUT).await;
    match answer {
        Ok(answer) if answer.status == StatusCode::OK => Ok(()),
        Ok(answer) => Err(format!("GET {path} was answered {}", answer.status)),
        Err(why) => Err(format!("GET {path}: {why}")),
    }
}
