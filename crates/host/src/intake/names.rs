//! Who holds a name: the file that first did, until an operator gives it to another one.

use std::path::{Path, PathBuf};

use chrono::Utc;
use serde_json::json;
use temps_protocol::PluginName;
use temps_store::{PluginRecord, StoreError};
use tokio::sync::oneshot;

use super::{File, Intake, Standing};
use crate::discovery;
use crate::operate::OperateError;
use crate::plugin::PluginState;
use crate::plugin::actor::{Actor, Command, Control, Version};

impl Intake {
    /// A file was inspected: its manifest says which name it claims.
    pub(super) async fn taken(&mut self, path: &Path, version: Version) {
        let Ok(name) = PluginName::new(version.manifest.name.as_str()) else { return };
        self.leave_other_name(path, name.as_str()).await;
        let record = match self.records.get(name.as_str()) {
            Some(record) if Path::new(&record.file) == path => record.clone(),
            Some(record) => {
                let holder = record.file.clone();
                return self.claims(path, &name, &holder, version);
            }
            None => match self.first_held(path, &name).await {
                Ok(record) => record,
                Err(error) => {
                    self.again.insert(path.to_owned());
                    return self.refused(path, error.to_string()).await;
                }
            },
        };
        if self.actor(&record).is_some() {
            self.stands_for(path, name.as_str());
            self.tell(name.as_str(), Command::Offer(version)).await;
        }
    }

    /// A file that claims another name than before gives up the one that it stood for.
    async fn leave_other_name(&mut self, path: &Path, name: &str) {
        let Some(Standing::Plugin(before)) = self.files.get(path).map(|file| &file.standing) else { return };
        if before != name {
            let before = before.clone();
            self.tell(&before, Command::Gone).await;
            let entry = self.entry(path);
            if let Some(file) = self.files.get_mut(path) {
                file.standing = Standing::Unnamed(entry);
            }
        }
    }

    /// The name is free: it belongs to this file from now on.
    async fn first_held(&mut self, path: &Path, name: &PluginName) -> Result<PluginRecord, StoreError> {
        let record = PluginRecord {
            name: name.to_string(),
            file: path.to_string_lossy().into_owned(),
            hash: None,
            manifest: None,
            enabled: true,
            first_seen_at: Utc::now(),
            subscribed_from: *self.shared.store.head().borrow(),
        };
        self.shared.store.put_plugin(record.clone()).await?;
        self.records.insert(name.to_string(), record.clone());
        Ok(record)
    }

    /// The name belongs to another file.
    fn claims(&mut self, path: &Path, name: &PluginName, holder: &str, version: Version) {
        let why = format!(
            "it claims the name {name}, which belongs to {holder}; \
             `temps plugin adopt {name} --file {}` gives it the name with its data and grants",
            path.display()
        );
        tracing::warn!(file = %path.display(), reason = why, "a file waits for an operator");
        self.audit(
            "plugin.held",
            Some(name.as_str()),
            json!({"file": path.to_string_lossy(), "reason": why}),
        );
        let entry = self.entry(path);
        entry.show(PluginState::Held, Some(why), Some(&version));
        if let Some(file) = self.files.get_mut(path) {
            file.standing = Standing::Claims(entry, version);
        }
    }

    pub(super) async fn adopt(
        &mut self,
        name: &str,
        file: Option<&str>,
        by: &str,
    ) -> Result<(), OperateError> {
        let record = self.records.get(name).cloned();
        let record = record.ok_or_else(|| OperateError::UnknownPlugin(name.to_owned()))?;
        let path = self.claimant(name, file)?;
        let before = PathBuf::from(&record.file);
        if self.actor(&record).is_none() {
            return Err(OperateError::UnknownPlugin(name.to_owned()));
        }
        // The actor has the record as it is now; the one here only says which file holds which name.
        let file = path.to_string_lossy().into_owned();
        let (reply, adopted) = oneshot::channel();
        self.tell(name, Command::Adopt { file: file.clone(), reply }).await;
        adopted.await.map_err(|_| OperateError::UnknownPlugin(name.to_owned()))??;
        self.records.insert(name.to_owned(), PluginRecord { file, ..record });
        self.shared.audit.record(
            "plugin.adopted",
            Some(name),
            by,
            json!({"from": before.to_string_lossy(), "to": path.to_string_lossy()}),
        );
        let standing = self
            .files
            .get_mut(&path)
            .map(|file| std::mem::replace(&mut file.standing, Standing::Plugin(name.to_owned())));
        let Some(Standing::Claims(entry, version)) = standing else { return Ok(()) };
        self.shared.registry.remove(&entry.key);
        self.tell(name, Command::Offer(version)).await;
        // The file that held the name is one that claims it now; looking at it again says so.
        if let Some(file) = self.files.get(&before)
            && matches!(&file.standing, Standing::Plugin(held) if held == name)
        {
            let entry = self.entry(&before);
            if let Some(file) = self.files.get_mut(&before) {
                file.standing = Standing::Unnamed(entry);
            }
            discovery::tell_again(&mut self.seen, &before);
        }
        Ok(())
    }

    /// The one file that claims a name, or the one of them that the operator means.
    fn claimant(&self, name: &str, file: Option<&str>) -> Result<PathBuf, OperateError> {
        let claims = |(path, file): (&PathBuf, &File)| match &file.standing {
            Standing::Claims(_, version) if version.manifest.name == name => Some(path.clone()),
            _ => None,
        };
        let is_meant = |path: &PathBuf| {
            file.is_none_or(|file| path == Path::new(file) || path.file_name().is_some_and(|own| own == file))
        };
        let all: Vec<PathBuf> = self.files.iter().filter_map(claims).collect();
        let meant: Vec<&PathBuf> = all.iter().filter(|path| is_meant(path)).collect();
        match meant.as_slice() {
            [one] => Ok((*one).clone()),
            [] if all.is_empty() => {
                Err(OperateError::Invalid(format!("no other file claims the name {name}")))
            }
            _ => {
                let list: Vec<String> = all.iter().map(|path| path.display().to_string()).collect();
                Err(OperateError::Invalid(format!("say which file with --file: {}", list.join(", "))))
            }
        }
    }

    /// The actor of a plugin, started when there is none yet; `None` when the record's name is not one of today's rules.
    pub(super) fn actor(&mut self, record: &PluginRecord) -> Option<&Control> {
        if !self.actors.contains_key(&record.name) {
            let name = PluginName::new(record.name.as_str()).ok()?;
            self.make_room(&record.name);
            let control = Actor::start(&self.shared, &name, record.clone());
            self.actors.insert(record.name.clone(), control);
        }
        self.actors.get(&record.name)
    }

    pub(super) fn stands_for(&mut self, path: &Path, name: &str) {
        let Some(file) = self.files.get_mut(path) else { return };
        if let Standing::Unnamed(entry) | Standing::Claims(entry, _) = &file.standing {
            // Its own line may have had the very name that it stands for now.
            if entry.key != name {
                self.shared.registry.remove(&entry.key);
            }
        }
        file.standing = Standing::Plugin(name.to_owned());
    }
}
