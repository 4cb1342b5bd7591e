//! What an operator can turn about plugins' databases.

use std::time::Duration;

use crate::secrets::Secret;

/// Most sessions that one plugin may be given.
const MAX_CONNECTIONS: u32 = 100;

/// Longest prefix of names on the server, in bytes; the rest of a name is the plugin's.
const MAX_PREFIX: usize = 20;

/// Where databases of plugins are made on request, and what bounds them.
#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    /// URL of the PostgreSQL server for its administrator; `None` where plugins can have SQLite only.
    pub postgres_url: Option<Secret>,
    /// What names of databases and roles begin with. Hosts that share a server need different ones.
    pub prefix: String,
    /// Sessions that one plugin may have at a time.
    pub connections: u32,
    /// How long one statement may take.
    pub statement_timeout: Duration,
    /// Whether to take CONNECT on the server's other databases away from PUBLIC; who had it keeps it by name.
    pub isolate: bool,
}

impl Default for DatabaseSettings {
    fn default() -> Self {
        Self {
            postgres_url: None,
            prefix: "temps_".to_owned(),
            connections: 10,
            statement_timeout: Duration::from_secs(30),
            isolate: true,
        }
    }
}

impl DatabaseSettings {
    /// Checks what cannot work.
    ///
    /// # Errors
    /// Which setting is wrong, and what would be right.
    pub fn check(&self) -> Result<(), String> {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if self.prefix.is_empty() || self.prefix.len() > MAX_PREFIX || !self.prefix.chars().all(good) {
            return Err(format!(
                "plugin_databases.prefix must have 1 to {MAX_PREFIX} of the characters a-z, 0-9 and _"
            ));
        }
        if !(1..=MAX_CONNECTIONS).contains(&self.connections) {
            return Err(format!("plugin_databases.connections must be 1 to {MAX_CONNECTIONS}"));
        }
        if self.statement_timeout.is_zero() {
            return Err("plugin_databases.statement_timeout is zero; it must be longer".to_owned());
        }
        Ok(())
    }
}

impl PartialEq for DatabaseSettings {
    fn eq(&self, other: &Self) -> bool {
        let same_url = match (&self.postgres_url, &other.postgres_url) {
            (Some(ours), Some(theirs)) => ours.matches(theirs.expose()),
            (None, None) => true,
            _ => false,
        };
        same_url
            && (&self.prefix, self.connections, self.statement_timeout, self.isolate)
                == (&other.prefix, other.connections, other.statement_timeout, other.isolate)
    }
}

impl Eq for DatabaseSettings {}
