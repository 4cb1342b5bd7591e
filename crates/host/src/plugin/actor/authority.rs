//! What a plugin may do: grants, held versions, and what operators say.

use std::time::{Duration, Instant};

use chrono::Utc;
use serde_json::json;
use temps_store::{GrantRecord, StoreError};
use tokio::sync::watch;

use super::{Actor, Authority, Version, Waiting, Wanted};
use crate::configuration::Injected;
use crate::grants::{Engine, Grants, Wish, judge};
use crate::operate::OperateError;
use crate::plugin::state::Input;

/// How long to wait before the store is asked again to take a version.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Who gave what the default policy gives.
const BY_DEFAULT: &str = "default";

impl Actor {
    /// Reads the grants from the store and makes them count at once.
    pub(super) async fn load_grants(&mut self) {
        match self.shared.store.grants(self.name.as_str()).await {
            Ok(granted) => {
                self.grants.send_replace(Grants::from_records(&granted).into());
                self.granted = granted;
            }
            // What was granted before stays in force: forgetting it would stop a plugin because of a full disk.
            Err(error) => tracing::warn!(plugin = %self.name, %error, "the grants could not be read"),
        }
    }

    /// A version was inspected: take it up, or hold it until an operator grants what it asks for.
    pub(super) async fn offer(&mut self, version: Version) {
        self.load_grants().await;
        let accepted = self
            .record
            .manifest
            .as_ref()
            .and_then(|json| serde_json::from_value::<temps_protocol::PluginManifest>(json.clone()).ok());
        let policy = self.shared.config().grants_default;
        let verdict = judge(&version.manifest, accepted.as_ref(), &self.granted, policy);
        if !verdict.missing.is_empty() {
            return self.hold(version, verdict.missing);
        }
        if let Err(error) = self.load_config().await {
            return self.put_off(version, &format!("it could not be taken up: {error}"));
        }
        let config = match self.configuration_of(&version.manifest) {
            Ok(config) => config,
            Err(problems) => return self.hold_for_settings(version, problems),
        };
        if let Err(why) = self.database_is_ready(&version).await {
            return self.put_off(version, &format!("its database cannot be had: {why}"));
        }
        match self.accept(&version, verdict.by_default).await {
            Ok(()) => self.take_up(version, config),
            Err(error) => self.put_off(version, &format!("it could not be taken up: {error}")),
        }
    }

    /// Keeps a version to be offered again in a while.
    fn put_off(&mut self, version: Version, why: &str) {
        self.waiting = Some(Waiting { version, wishes: Vec::new(), settings: Vec::new() });
        self.retry_at = Some(Instant::now() + RETRY_AFTER);
        let note = format!("{why}; it is tried again by itself");
        if self.note.as_ref() != Some(&note) {
            self.log.say("warn", note.clone());
        }
        self.note = Some(note);
        if self.version.is_none() {
            self.give(Input::Held);
        }
    }

    /// Makes sure of a database on a server; a file needs nothing.
    async fn database_is_ready(&self, version: &Version) -> Result<(), String> {
        if !version.manifest.requires_db || self.engine() != Some(Engine::Postgres) {
            return Ok(());
        }
        let told = self.shared.shutdown.told();
        tokio::select! {
            ready = self.shared.databases.ready(self.name.as_str()) => ready.map_err(|error| error.to_string()),
            () = told.cancelled() => Err("the host is ending".to_owned()),
        }
    }

    fn engine(&self) -> Option<Engine> {
        self.grants.borrow().database
    }

    /// After grants changed: a plugin whose database is another now, or is none any more, starts anew or is held.
    async fn follow_database(&mut self, before: Option<Engine>) {
        let needs_one = self.version.as_ref().is_some_and(|version| version.manifest.requires_db);
        if !needs_one || self.engine() == before {
            return;
        }
        if let Some(version) = self.version.take() {
            self.log
                .say("info", "its database is another from now on; what was in the one before stays there");
            self.offer(version).await;
        }
    }

    /// Offers once more what the store could not take.
    pub(super) async fn offer_again(&mut self) {
        self.retry_at = None;
        let waits_for_the_store =
            |waiting: &mut Waiting| waiting.wishes.is_empty() && waiting.settings.is_empty();
        if let Some(waiting) = self.waiting.take_if(waits_for_the_store) {
            self.offer(waiting.version).await;
        }
    }

    /// Another file holds the name from now on, with everything that belongs to it.
    pub(super) async fn adopt(&mut self, file: String) -> Result<(), StoreError> {
        let record = temps_store::PluginRecord { file, ..self.record.clone() };
        self.shared.store.put_plugin(record.clone()).await?;
        self.record = record;
        self.note = None;
        Ok(())
    }

    fn hold(&mut self, version: Version, missing: Vec<Wish>) {
        let texts: Vec<String> = missing.iter().map(ToString::to_string).collect();
        let what = texts.join(", ");
        self.audit("plugin.held", "host", json!({"missing": texts, "hash": version.artifact.hash}));
        self.log.say("warn", format!("it waits for an operator to grant: {what}"));
        self.waiting = Some(Waiting { version, wishes: missing, settings: Vec::new() });
        if self.version.is_none() {
            self.give(Input::Held);
        }
    }

    /// Remembers the version as the accepted one and gives what the default policy gives, in this order: a grant without a
    /// record would be given again after a revocation, a record without grants is mended by the operator.
    async fn accept(&mut self, version: &Version, by_default: Vec<Wish>) -> Result<(), StoreError> {
        self.add(by_default, BY_DEFAULT).await?;
        let hash = Some(version.artifact.hash.clone());
        let manifest = serde_json::to_value(&*version.manifest).ok();
        if self.record.hash != hash || self.record.manifest != manifest {
            self.record.hash = hash;
            self.record.manifest = manifest;
            self.shared.store.put_plugin(self.record.clone()).await?;
        }
        Ok(())
    }

    fn take_up(&mut self, version: Version, config: Injected) {
        self.waiting = None;
        self.note = None;
        let before = self.version.as_ref().map(|version| version.artifact.hash.clone());
        if before.as_deref() == Some(version.artifact.hash.as_str()) && self.life.start().is_some() {
            // Touched, and still the same program.
            self.version = Some(version);
            self.injected.send_replace(config);
            return;
        }
        // A watch of its own: what runs until now must not get what is meant for the next.
        self.injected = watch::channel(config).0;
        if before.is_some() {
            let detail =
                json!({"from": before, "to": version.artifact.hash, "version": version.manifest.version});
            self.audit("plugin.updated", "host", detail);
            self.log
                .say("info", format!("its file changed; version {} is taken up", version.manifest.version));
        }
        self.version = Some(version);
        self.give(Input::Accepted);
    }

    async fn add(&mut self, wishes: Vec<Wish>, by: &str) -> Result<(), StoreError> {
        if wishes.is_empty() {
            return Ok(());
        }
        let records: Vec<GrantRecord> = wishes
            .into_iter()
            .map(|wish| GrantRecord {
                plugin: self.name.to_string(),
                kind: wish.kind.to_owned(),
                value: wish.value,
                granted_by: by.to_owned(),
                granted_at: Utc::now(),
            })
            .collect();
        self.shared.store.add_grants(records.clone()).await?;
        for record in &records {
            self.audit("grant.added", by, json!({"kind": record.kind, "value": record.value}));
        }
        self.load_grants().await;
        Ok(())
    }

    /// Does what an operator wants, if it can be done now.
    pub(super) async fn operate(&mut self, wanted: Wanted, by: &str) -> Result<(), OperateError> {
        match wanted {
            Wanted::Grant(wishes) => return self.grant(wishes, by).await,
            Wanted::Revoke(wishes) => return self.revoke(wishes, by).await,
            Wanted::Debug(on) => {
                self.audit("operator.debug", by, json!({"on": on}));
                self.debug.send_replace(on);
                return Ok(());
            }
            _ => {}
        }
        let (action, input) = match wanted {
            Wanted::Start => ("start", Input::Start),
            Wanted::Stop => ("stop", Input::Stop),
            Wanted::Restart => ("restart", Input::Restart),
            Wanted::Enable => ("enable", Input::Enable),
            _ => ("disable", Input::Disable),
        };
        let nothing_to_do = match input {
            Input::Enable => self.life.enabled,
            Input::Disable => !self.life.enabled,
            Input::Stop => self.life.shown() == crate::PluginState::Stopped,
            _ => false,
        };
        if nothing_to_do {
            return Ok(());
        }
        let allowed = self.life.allowed_actions();
        let restart_as_start = input == Input::Restart && allowed.contains(&"start");
        if !allowed.contains(&action) && !restart_as_start {
            return Err(self.not_now());
        }
        if matches!(input, Input::Start | Input::Restart | Input::Enable) && self.version.is_none() {
            // Enabling still counts; what is missing then shows as the reason.
            if input != Input::Enable {
                return Err(self.not_now());
            }
        }
        if matches!(input, Input::Enable | Input::Disable) {
            let record = temps_store::PluginRecord { enabled: input == Input::Enable, ..self.record.clone() };
            self.shared.store.put_plugin(record.clone()).await?;
            self.record = record;
        }
        self.audit(operator_kind(action), by, json!({}));
        self.log.say("info", format!("{by} asked for: {action}"));
        if input == Input::Enable && self.version.is_none() {
            self.life.enabled = true;
            self.give(if self.waiting.is_some() { Input::Held } else { Input::Refused });
            return Ok(());
        }
        self.note = None;
        self.give(input);
        Ok(())
    }

    fn not_now(&self) -> OperateError {
        let snapshot = self.view.borrow().clone();
        let hint = match (&snapshot.reason, snapshot.allowed_actions.as_slice()) {
            (Some(reason), _) if self.version.is_none() => reason.clone(),
            (_, []) => "nothing can be done with it now".to_owned(),
            (_, actions) => format!("what can be done now: {}", actions.join(", ")),
        };
        OperateError::NotNow { plugin: self.name.to_string(), state: self.life.shown().as_str(), hint }
    }

    /// Gives grants; an empty list gives everything that the present or the waiting version asks for.
    async fn grant(&mut self, wishes: Vec<Wish>, by: &str) -> Result<(), OperateError> {
        let wishes = if wishes.is_empty() { self.open_wishes() } else { wishes };
        let before = self.engine();
        self.add(wishes, by).await?;
        match self.waiting.take() {
            Some(waiting) => self.offer(waiting.version).await,
            None => self.follow_database(before).await,
        }
        Ok(())
    }

    async fn revoke(&mut self, wishes: Vec<Wish>, by: &str) -> Result<(), OperateError> {
        let before = self.engine();
        for wish in wishes {
            if self.shared.store.revoke_grant(self.name.as_str(), wish.kind, &wish.value).await? {
                self.audit("grant.revoked", by, json!({"kind": wish.kind, "value": wish.value}));
            }
        }
        self.load_grants().await;
        self.follow_database(before).await;
        Ok(())
    }

    /// Shows what operators ask for when they look at grants, and which programs are in use.
    pub(super) fn publish_authority(&self) {
        let (granted, missing) = (self.granted.clone(), self.open_wishes());
        self.authority.send_replace(Authority { granted, missing });
        let versions = self.version.iter().chain(self.waiting.iter().map(|waiting| &waiting.version));
        let running = self.current.iter().map(|current| &current.context.artifact);
        let artifacts = versions.map(|version| &version.artifact).chain(running);
        self.artifacts.send_replace(artifacts.map(|artifact| artifact.hash.clone()).collect());
    }

    /// What the version that waits, or else the one that runs, asks for and does not have.
    fn open_wishes(&self) -> Vec<Wish> {
        let version = self.waiting.as_ref().map(|waiting| &waiting.version).or(self.version.as_ref());
        version.map(|version| crate::grants::ungranted(&version.manifest, &self.granted)).unwrap_or_default()
    }
}

fn operator_kind(action: &str) -> &'static str {
    match action {
        "start" => "operator.start",
        "stop" => "operator.stop",
        "restart" => "operator.restart",
        "enable" => "operator.enable",
        _ => "operator.disable",
    }
}
