//! Whether the daemon can be reached and is well.

use std::time::Duration;

use serde_json::Value;
use temps_server::api::page::PageQuery;
use temps_server::api::plugins::Plugin;
use temps_server::api::version::Version;

use super::{Check, Status, plugin_databases};
use crate::arguments::Global;
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::target::Target;

/// How long the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks the daemon for its readiness, its version, and the databases of its plugins.
pub(crate) async fn checks(global: &Global) -> Vec<Check> {
    match ask(global).await {
        Ok(found) => found,
        Err(failure) => {
            let status = match failure.exit {
                // A daemon that is not started is not a fault of the machine.
                Exit::Unreachable | Exit::Auth => Status::Warning,
                _ => Status::Problem,
            };
            vec![Check { hint: failure.hint, ..Check::new("daemon", status, failure.message) }]
        }
    }
}

async fn ask(global: &Global) -> Result<Vec<Check>, Failure> {
    let Target { url, token } = Target::find(global)?;
    let client = Client::new(url, token, Some(PATIENCE))?;
    let _: Value = client.get(&["readyz"]).await?;
    let daemon: Version = client.get(&["api", "version"]).await?;
    let here = env!("CARGO_PKG_VERSION");
    let found = format!("version {} at {} is ready", daemon.version, client.base());
    let mut checks = vec![if daemon.version == here {
        Check::new("daemon", Status::Ok, found)
    } else {
        Check::new("daemon", Status::Warning, format!("{found}; this command is version {here}"))
            .hint("restart the daemon with the version that is installed")
    }];
    let plugins = client.list::<Plugin>(&["api", "plugins"], &PageQuery::default(), u32::MAX).await?;
    checks.extend(plugins.items.iter().filter_map(plugin_databases::of_plugin));
    Ok(checks)
}
