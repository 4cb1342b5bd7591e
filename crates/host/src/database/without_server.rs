//! A build without feature `postgres`: plugins have files, and whoever asks for a database on a server is told why there is
//! none.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use super::{DatabaseSettings, DatabaseView};
use crate::grants::{Engine, Grants};

/// What is missing, and what brings it.
const WHY: &str = "this build has no PostgreSQL; build it with feature `postgres`";

/// Databases of plugins, all of them files.
#[derive(Debug, Clone)]
pub(crate) struct Databases;

/// Why a plugin has no database on a server.
#[derive(Debug, thiserror::Error)]
#[error(
    "it was granted a PostgreSQL database, and {WHY}, or grant database=own and revoke database=postgres"
)]
pub(crate) struct Unavailable;

/// A relay, of which there can be none.
pub(crate) struct Relay(Infallible);

impl Databases {
    /// # Errors
    /// When the settings name a server.
    pub(crate) fn new(settings: &DatabaseSettings) -> Result<Self, String> {
        match settings.postgres_url {
            None => Ok(Self),
            Some(_) => Err(format!("plugin_databases.postgres_url: {WHY}, or take the setting out")),
        }
    }

    pub(crate) async fn ready(&self, _: &str) -> Result<(), Unavailable> {
        Err(Unavailable)
    }

    pub(crate) async fn remove(&self, _: &str) -> Result<(), Unavailable> {
        Err(Unavailable)
    }

    pub(crate) fn view(&self, _: &str, engine: Engine, data: &Path) -> DatabaseView {
        match engine {
            Engine::Sqlite => DatabaseView::of_file(data),
            Engine::Postgres => DatabaseView {
                engine: "postgres",
                place: "no server".to_owned(),
                reachable: Some(false),
                reason: Some(Unavailable.to_string()),
            },
        }
    }
}

impl Relay {
    pub(crate) fn bind(_: &Path) -> io::Result<Self> {
        Err(io::Error::new(io::ErrorKind::Unsupported, WHY))
    }

    pub(crate) async fn serve(
        self,
        _: Databases,
        _: &str,
        _: u32,
        _: watch::Receiver<Arc<Grants>>,
        _: impl Future<Output = ()>,
    ) {
        match self.0 {}
    }
}

/// The version of the server of these settings, which cannot be asked for.
///
/// # Errors
/// Always, when a server is set: this build cannot use it.
pub async fn server_version(settings: &DatabaseSettings) -> Option<Result<(String, String), String>> {
    settings.postgres_url.as_ref().map(|_| Err(format!("plugin_databases.postgres_url: {WHY}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::Secret;

    #[tokio::test]
    async fn whoever_wants_a_server_is_told_which_feature_is_missing() {
        assert!(Databases::new(&DatabaseSettings::default()).is_ok());
        let url = Some(Secret::new("postgres://admin:hunter2@localhost/".to_owned()));
        let settings = DatabaseSettings { postgres_url: url, ..DatabaseSettings::default() };
        let refused = Databases::new(&settings).unwrap_err();
        assert!(refused.contains("feature `postgres`") && !refused.contains("hunter2"), "{refused}");
        let held = Databases.ready("hello").await.unwrap_err().to_string();
        assert!(held.contains("feature `postgres`") && held.contains("database=own"), "{held}");
    }
}
