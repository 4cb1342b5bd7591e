//! Databases of plugins on the operator's PostgreSQL server: a role and a database for each, and the password, which is known
//! to nobody but the host and lives as long as it does.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use temps_store::plugin_databases::{ProvisionError, Server, Wanted};

use super::login::{self, LoginError, Session};
use super::startup::CancelKey;
use super::{DatabaseSettings, DatabaseView};
use crate::grants::Engine;
use crate::places::hex;
use crate::secrets::Secret;

/// Longest name on the server, in bytes; it cuts longer ones off without a word.
const MAX_NAME: usize = 63;

/// Hexadecimal digits that tell long names apart.
const DIGEST: usize = 16;

/// Sessions of a role beyond those of its plugin: some that are just ending, and the host's own look.
const SPARE_SESSIONS: u32 = 4;

/// All databases of plugins. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Databases {
    inner: Arc<Inner>,
}

struct Inner {
    server: Option<Server>,
    settings: DatabaseSettings,
    /// Passwords of roles, by plugin.
    passwords: Mutex<HashMap<String, Secret>>,
    /// What the last look at a plugin's database found, by plugin.
    seen: Mutex<HashMap<String, Result<(), String>>>,
    /// Held while a role and a database are made.
    making: tokio::sync::Mutex<()>,
}

/// Why a plugin has no database now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unavailable {
    #[error(
        "it was granted a PostgreSQL database, and no server is set; set postgres_url under [plugin_databases] in \
         temps.toml and restart, or grant database=own and revoke database=postgres"
    )]
    NoServer,
    #[error("{0}")]
    Login(LoginError),
    #[error("{0}")]
    Provision(ProvisionError),
    #[error("the system gave no randomness for a password")]
    NoRandomness,
}

impl Unavailable {
    /// A code of PostgreSQL's and a message that a plugin may see: nothing of the server but what concerns the plugin.
    pub(super) fn for_the_plugin(&self) -> (&'static str, String) {
        match self {
            Unavailable::Login(error) if error.is_about_room() => {
                ("53300", "there is no room for another session of this plugin's role".to_owned())
            }
            _ => ("57P03", "the database cannot be reached now; the host's operator sees why".to_owned()),
        }
    }
}

impl Databases {
    /// Reads the settings. The server is not asked yet.
    ///
    /// # Errors
    /// What is wrong with the settings, never a credential.
    pub(crate) fn new(settings: &DatabaseSettings) -> Result<Self, String> {
        let server = settings.postgres_url.as_ref().map(|url| Server::parse(url.expose())).transpose();
        let server = server.map_err(|error| format!("plugin_databases.postgres_url: {error}"))?;
        let inner = Inner {
            server,
            settings: settings.clone(),
            passwords: Mutex::default(),
            seen: Mutex::default(),
            making: tokio::sync::Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Makes sure that a plugin's database on the server is there and lets the plugin in.
    pub(crate) async fn ready(&self, plugin: &str) -> Result<(), Unavailable> {
        match self.open(plugin, &[]).await {
            Err(Unavailable::Login(error)) if error.is_about_room() => {
                self.note(plugin, Ok(()));
                Ok(())
            }
            opened => opened.map(drop),
        }
    }

    /// Opens a session of a plugin's role. A role or database that is not as it should be is made so first.
    pub(super) async fn open(
        &self,
        plugin: &str,
        settings: &[(String, String)],
    ) -> Result<Session, Unavailable> {
        let opened = self.try_open(plugin, settings).await;
        self.note(plugin, opened.as_ref().map(drop).map_err(ToString::to_string));
        opened
    }

    async fn try_open(&self, plugin: &str, settings: &[(String, String)]) -> Result<Session, Unavailable> {
        let server = self.inner.server.as_ref().ok_or(Unavailable::NoServer)?;
        let name = self.name(plugin);
        let known = lock(&self.inner.passwords).get(plugin).cloned();
        let password = match known {
            Some(password) => password,
            None => self.make(server, plugin, None).await?,
        };
        match login::login(server, &name, &password, settings).await {
            Err(error) if error.is_about_the_role() => {
                tracing::warn!(plugin, %error, "the plugin's role or database is not as it was made; it is set right");
                let password = self.make(server, plugin, Some(&password)).await?;
                login::login(server, &name, &password, settings).await.map_err(Unavailable::Login)
            }
            opened => opened.map_err(Unavailable::Login),
        }
    }

    /// Makes role and database with a new password, unless somebody else just did; `stale` is the one that does not work.
    async fn make(
        &self,
        server: &Server,
        plugin: &str,
        stale: Option<&Secret>,
    ) -> Result<Secret, Unavailable> {
        let _alone = self.inner.making.lock().await;
        let present = lock(&self.inner.passwords).get(plugin).cloned();
        if let Some(present) = present
            && stale.is_none_or(|stale| !stale.matches(present.expose()))
        {
            return Ok(present);
        }
        let password = Secret::generate().map_err(|_| Unavailable::NoRandomness)?;
        let settings = &self.inner.settings;
        let wanted = Wanted {
            name: self.name(plugin),
            password: password.expose().to_owned(),
            connections: settings.connections + SPARE_SESSIONS,
            statement_timeout: settings.statement_timeout,
            // Sessions that are there before the first password are an earlier host's.
            end_sessions: stale.is_none(),
            isolate: settings.isolate,
        };
        server.provision(&wanted).await.map_err(Unavailable::Provision)?;
        lock(&self.inner.passwords).insert(plugin.to_owned(), password.clone());
        Ok(password)
    }

    /// Removes a plugin's database on the server for good.
    ///
    /// # Errors
    /// Why it is still there.
    pub(crate) async fn remove(&self, plugin: &str) -> Result<(), Unavailable> {
        let server = self.inner.server.as_ref().ok_or(Unavailable::NoServer)?;
        let _alone = self.inner.making.lock().await;
        server.remove(&self.name(plugin)).await.map_err(Unavailable::Provision)?;
        lock(&self.inner.passwords).remove(plugin);
        lock(&self.inner.seen).remove(plugin);
        Ok(())
    }

    /// Asks the server to cancel what a session does.
    pub(super) async fn cancel(&self, key: CancelKey) {
        let Some(server) = &self.inner.server else { return };
        if let Err(error) = login::cancel(server, key).await {
            tracing::debug!(%error, "a statement could not be cancelled");
        }
    }

    /// Sessions that one plugin may have at a time.
    pub(super) fn connections(&self) -> usize {
        self.inner.settings.connections as usize
    }

    /// How long one statement may take.
    pub(super) fn statement_timeout(&self) -> Duration {
        self.inner.settings.statement_timeout
    }

    /// The name of a plugin's database and role on the server.
    fn name(&self, plugin: &str) -> String {
        server_name(&self.inner.settings.prefix, plugin)
    }

    fn note(&self, plugin: &str, found: Result<(), String>) {
        lock(&self.inner.seen).insert(plugin.to_owned(), found);
    }

    /// What a plugin's database is, as it was last seen.
    pub(crate) fn view(&self, plugin: &str, engine: Engine, data: &Path) -> DatabaseView {
        match engine {
            Engine::Sqlite => DatabaseView::of_file(data),
            Engine::Postgres => {
                let seen = lock(&self.inner.seen).get(plugin).cloned();
                let server = self.inner.server.as_ref().map_or_else(|| "no server".to_owned(), Server::place);
                DatabaseView {
                    engine: "postgres",
                    place: format!("{} at {server}", self.name(plugin)),
                    reachable: seen.as_ref().map(Result::is_ok),
                    reason: seen.and_then(Result::err),
                }
            }
        }
    }
}

/// Asks the server of these settings for its version: where it is, and the version; `None` when no server is set.
///
/// # Errors
/// Why it cannot be used, never a credential.
pub async fn server_version(settings: &DatabaseSettings) -> Option<Result<(String, String), String>> {
    let url = settings.postgres_url.as_ref()?;
    let server = match Server::parse(url.expose()) {
        Ok(server) => server,
        Err(error) => return Some(Err(format!("plugin_databases.postgres_url: {error}"))),
    };
    let version = server.version().await.map_err(|error| error.to_string());
    Some(version.map(|version| (server.place(), version)))
}

impl std::fmt::Debug for Databases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Databases").field("server", &self.inner.server).finish_non_exhaustive()
    }
}

/// The name of a plugin's database and role on the server.
fn server_name(prefix: &str, plugin: &str) -> String {
    let name = format!("{prefix}{plugin}");
    if name.len() <= MAX_NAME {
        return name;
    }
    let mut digest = hex(&Sha256::digest(plugin.as_bytes()));
    digest.truncate(DIGEST);
    // A prefix is ASCII and short; see `DatabaseSettings::check`.
    let kept: String = name.chars().take(MAX_NAME - DIGEST - 1).collect();
    format!("{kept}_{digest}")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half-changed by a panic in here.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn different_plugins_have_different_names_that_fit(
            a in "[a-z][a-z0-9-]{0,62}", b in "[a-z][a-z0-9-]{0,62}", prefix in "[a-z_]{1,20}",
        ) {
            let (left, right) = (server_name(&prefix, &a), server_name(&prefix, &b));
            prop_assert!(left.len() <= MAX_NAME);
            prop_assert_eq!(left == right, a == b);
        }
    }
}
