//! For tests: a whole host that publishes events and is there to be killed.
//!
//! `host HOME NUMBER` starts a host on `HOME/plugins`, publishes events without end, and prints the id of each one that
//! was confirmed (`TEMPS_TEST_PLUGIN_DATABASES` is the URL of a server for plugins' databases), with a point at its end: `event-NUMBER-0.`, `event-NUMBER-1.` and so on. The point belongs to the id.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks with the test")]

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use temps_host::protocol::{PluginEvent, ProjectInfo};
use temps_host::store::sqlite::SqliteStore;
use temps_host::{HostConfig, Platform, PlatformError, PluginHost};

/// Time between two events, so that a journal of a few seconds stays small.
const PAUSE: Duration = Duration::from_millis(10);

/// A platform without any data.
struct Empty;

#[async_trait]
impl Platform for Empty {
    async fn get_project(&self, _: i32) -> Result<Option<ProjectInfo>, PlatformError> {
        Ok(None)
    }
    async fn list_projects(&self) -> Result<Vec<ProjectInfo>, PlatformError> {
        Ok(Vec::new())
    }
}

#[tokio::main]
async fn run(home: &Path, number: &str) -> Result<(), Box<dyn std::error::Error>> {
    let at = |name: &str| home.join(name);
    let mut config = HostConfig::for_places(at("plugins"), at("state"), at("run"));
    let databases = std::env::var("TEMPS_TEST_PLUGIN_DATABASES").ok();
    config.databases.postgres_url = databases.map(temps_host::secrets::Secret::new);
    let store = SqliteStore::open(&at("temps.db"))?;
    let host = PluginHost::builder().config(config).platform(Arc::new(Empty)).store(store).build().await?;
    for count in 0_u64.. {
        let id = format!("event-{number}-{count}.");
        let event = PluginEvent {
            id: id.clone(),
            event_type: "deployment.succeeded".into(),
            timestamp: chrono::Utc::now(),
            project_id: Some(1),
            data: serde_json::json!({}),
        };
        host.publish(event).await?;
        println!("{id}");
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

fn main() -> ExitCode {
    temps_host::launcher();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [home, number] = args.as_slice() else {
        eprintln!("usage: host HOME NUMBER");
        return ExitCode::from(2);
    };
    match run(Path::new(home), number) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
