//! Which plugins there are: name to handle, and a view of all of them.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use tokio::sync::watch;

use crate::grants::Grants;
use crate::plugin::actor::Control;
use crate::plugin::{Link, PluginSnapshot};

/// Everything that other rooms may use of one plugin.
#[derive(Debug, Clone)]
pub struct PluginHandle {
    /// What the plugin looks like now.
    pub view: watch::Receiver<Arc<PluginSnapshot>>,
    /// The link while the plugin runs, `None` otherwise.
    pub link: watch::Receiver<Option<Arc<Link>>>,
    /// What the plugin may do now; a revocation shows here at once.
    pub grants: watch::Receiver<Arc<Grants>>,
}

/// All plugins by name. Cheap to clone and to read.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    plugins: Arc<RwLock<BTreeMap<String, PluginHandle>>>,
    controls: Arc<RwLock<BTreeMap<String, Control>>>,
    changed: Arc<watch::Sender<u64>>,
}

impl Registry {
    /// The handle of a plugin.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<PluginHandle> {
        self.plugins.read().ok()?.get(name).cloned()
    }

    /// The link to a plugin that runs.
    #[must_use]
    pub fn link(&self, name: &str) -> Option<Arc<Link>> {
        self.get(name)?.link.borrow().clone()
    }

    /// All plugins, by name.
    #[must_use]
    pub fn all(&self) -> Vec<(String, PluginHandle)> {
        self.plugins
            .read()
            .map(|map| map.iter().map(|(name, handle)| (name.clone(), handle.clone())).collect())
            .unwrap_or_default()
    }

    /// Changes whenever a plugin was put in or taken out.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Puts a plugin in, replacing one of the same name.
    pub fn insert(&self, name: String, handle: PluginHandle) {
        if let Ok(mut map) = self.plugins.write() {
            map.insert(name, handle);
        }
        self.changed.send_modify(|count| *count += 1);
    }

    /// Puts a plugin in together with the way to its actor.
    pub(crate) fn insert_controlled(&self, name: String, handle: PluginHandle, control: Control) {
        if let Ok(mut map) = self.controls.write() {
            map.insert(name.clone(), control);
        }
        self.insert(name, handle);
    }

    /// The way to a plugin's actor; `None` for a file whose name is not known or not its own.
    pub(crate) fn control(&self, name: &str) -> Option<Control> {
        self.controls.read().ok()?.get(name).cloned()
    }

    /// Takes a plugin out.
    pub fn remove(&self, name: &str) {
        if let Ok(mut map) = self.controls.write() {
            map.remove(name);
        }
        if let Ok(mut map) = self.plugins.write() {
            map.remove(name);
        }
        self.changed.send_modify(|count| *count += 1);
    }
}
