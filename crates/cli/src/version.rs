//! `temps version`: which versions talk to each other.

use serde::Serialize;
use temps_server::api::version::Version;

use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::output::{Output, or_dash, record};

#[derive(Serialize)]
struct Versions {
    /// Version of this command.
    command: &'static str,
    /// Version of the daemon; `null` when it cannot be reached.
    daemon: Option<String>,
    /// Newest version of the plugin protocol that the daemon speaks.
    protocol: Option<String>,
}

/// Shows both versions. A daemon that is not there is no failure: this command's version is an answer too.
pub(crate) async fn run(client: &Client, output: Output) -> Result<(), Failure> {
    let daemon = match client.get::<Version>(&["api", "version"]).await {
        Ok(daemon) => Some(daemon),
        Err(failure) if failure.exit == Exit::Unreachable => {
            output.say(&failure.message);
            None
        }
        Err(failure) => return Err(failure),
    };
    let (daemon, protocol) = daemon.map(|daemon| (daemon.version, daemon.protocol)).unzip();
    let versions = Versions { command: env!("CARGO_PKG_VERSION"), daemon, protocol };
    output.data(&versions, |versions| {
        record([
            ("command", Some(versions.command.to_owned())),
            ("daemon", Some(or_dash(versions.daemon.as_deref()))),
            ("protocol", versions.protocol.clone()),
        ])
    })
}
