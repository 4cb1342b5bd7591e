//! How a file is shown that is no plugin (yet): a line of its own in the registry.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use super::{File, Intake, Standing};
use crate::plugin::actor::Version;
use crate::plugin::{PluginSnapshot, PluginState};
use crate::registry::PluginHandle;

/// A line in the registry for a file that is no plugin (yet).
pub(super) struct Entry {
    pub(super) key: String,
    view: watch::Sender<Arc<PluginSnapshot>>,
}

impl Entry {
    fn handle(&self) -> PluginHandle {
        PluginHandle {
            view: self.view.subscribe(),
            link: watch::channel(None).1,
            grants: watch::channel(Arc::default()).1,
        }
    }

    pub(super) fn show(&self, state: PluginState, reason: Option<String>, version: Option<&Version>) {
        self.view.send_modify(|view| {
            *view = Arc::new(PluginSnapshot {
                state,
                reason,
                hash: version.map(|version| version.artifact.hash.clone()),
                manifest: version.map(|version| Arc::clone(&version.manifest)),
                allowed_actions: match state {
                    PluginState::Refused => vec!["start"],
                    PluginState::Held => vec!["adopt"],
                    _ => Vec::new(),
                },
                ..(**view).clone()
            });
        });
    }
}

impl Intake {
    /// The line of a file that is no plugin, new or as it is.
    pub(super) fn entry(&mut self, path: &Path) -> Entry {
        if let Some(File { standing: Standing::Unnamed(entry) | Standing::Claims(entry, _), .. }) =
            self.files.get(path)
        {
            return Entry { key: entry.key.clone(), view: entry.view.clone() };
        }
        let short = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let taken = self.shared.registry.get(&short).is_some() || self.records.contains_key(&short);
        let key = if taken { path.to_string_lossy().into_owned() } else { short };
        let view = watch::channel(Arc::new(PluginSnapshot::found(&key, path.to_owned()))).0;
        let entry = Entry { key, view };
        self.shared.registry.insert(entry.key.clone(), entry.handle());
        entry
    }

    /// A file that is shown under what turns out to be a plugin's name is shown under its whole path from now on.
    pub(super) fn make_room(&mut self, name: &str) {
        let shared = &self.shared;
        for (path, file) in &mut self.files {
            if let Standing::Unnamed(entry) | Standing::Claims(entry, _) = &mut file.standing
                && entry.key == name
            {
                shared.registry.remove(name);
                entry.key = path.to_string_lossy().into_owned();
                entry.view.send_modify(|view| {
                    *view = Arc::new(PluginSnapshot { name: entry.key.clone(), ..(**view).clone() });
                });
                shared.registry.insert(entry.key.clone(), entry.handle());
            }
        }
    }
}
