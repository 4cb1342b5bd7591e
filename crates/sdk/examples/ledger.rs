//! A plugin whose handling of an event is a line in a file, synced before the event counts as handled: what it confirmed
//! stands there, however it ended. The fault runs start it as the plugin with acks.

use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use temps_plugin_sdk::prelude::*;

#[derive(Default)]
struct Ledger {
    file: OnceLock<Mutex<File>>,
    life: OnceLock<u64>,
}

impl Ledger {
    fn write(&self, before: &str, event: Option<&str>) -> Result<(), BoxError> {
        let file = self.file.get().ok_or("the ledger is not open")?;
        let line = serde_json::json!({"life": self.life.get(), "at": now(), "event": event});
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(format!("{before}{line}\n").as_bytes())?;
        Ok(file.sync_data()?)
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64)
}

impl ExternalPlugin for Ledger {
    fn manifest(&self) -> PluginManifest {
        PluginManifest::builder("acks", "1.0.0").event("*").build()
    }

    async fn on_start(&self, ctx: &PluginContext) -> Result<(), BoxError> {
        let file = File::options().create(true).append(true).open(ctx.data_dir().join("ledger.jsonl"))?;
        self.file.get_or_init(|| Mutex::new(file));
        self.life.get_or_init(now);
        // Behind whatever the last life left half written.
        self.write("\n", None)
    }

    async fn handle_event(&self, _ctx: &PluginContext, event: PluginEvent) -> Result<(), BoxError> {
        self.write("", Some(&event.id))
    }
}

temps_plugin_sdk::main!(Ledger::default());
