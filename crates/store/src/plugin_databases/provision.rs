//! Makes a database and a role for one plugin, and keeps them as they should be.
//!
//! Every step can be done again, so a host that is killed between two of them does all of them at its next start. What was
//! not made by temps is never taken over: a role of ours carries a remark, a database of ours belongs to the administrator.

use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use super::server::{DialError, Server};

/// How long everything may take. Making a database copies a few megabytes.
const PROVISION_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the server works on one of our statements, and waits for one lock, in milliseconds.
const STATEMENT_TIMEOUT_MS: u64 = 20_000;

/// The remark by which our roles are known.
const REMARK: &str = "role of a plugin, made by temps";

/// Keeps hosts that share a server from making things at the same time. The number means nothing.
const LOCK: i64 = 0x7465_6d70_7364_6201;

/// How long the server goes on with a statement whose client is gone, in milliseconds, where it can tell.
const CLIENT_CHECK_MS: u64 = 5_000;

/// What is to be there afterwards.
#[derive(Clone)]
pub struct Wanted {
    /// Name of the database and of the role that may use it; at most 63 bytes.
    pub name: String,
    /// The role's new password.
    pub password: String,
    /// Sessions that the role may have at a time.
    pub connections: u32,
    /// How long one statement of the role may run unless the session itself says otherwise.
    pub statement_timeout: Duration,
    /// Whether to end sessions of an earlier host, and what they still do.
    pub end_sessions: bool,
    /// Whether to see to it that the role can connect to no other database of the server.
    pub isolate: bool,
}

/// Why there is no database.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// There is no way to the server.
    #[error("{0}")]
    Dial(DialError),
    /// The server did not do what it was asked to.
    #[error("the database server at {place} failed to {action}: {reason}")]
    Failed {
        /// Where the server is.
        place: String,
        /// What was being done.
        action: &'static str,
        /// What the server said.
        reason: String,
    },
    /// It took too long.
    #[error("the database server at {place} took longer than {} s", PROVISION_TIMEOUT.as_secs())]
    Timeout {
        /// Where the server is.
        place: String,
    },
    /// There is a role or database of that name which is not ours.
    #[error(
        "there is a {kind} {name:?} on the server at {place} that was not made by temps; rename it, or choose another prefix"
    )]
    Foreign {
        /// `role` or `database`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Where the server is.
        place: String,
    },
    /// Everybody may connect to other databases, and the administrator cannot change that.
    #[error(
        "everybody may connect to {databases} on the server at {place}, so the plugin's role could too; as their owner \
         REVOKE CONNECT ON DATABASE ... FROM PUBLIC, or set isolate = false to accept it"
    )]
    NotIsolated {
        /// The databases.
        databases: String,
        /// Where the server is.
        place: String,
    },
}

impl Server {
    /// Makes the database and the role, or sets right what is there. Everything in the database is kept.
    ///
    /// # Errors
    /// [`ProvisionError`]; what was done so far stays, and is completed by the next call.
    pub async fn provision(&self, wanted: &Wanted) -> Result<(), ProvisionError> {
        let work = Provision { server: self, wanted };
        let done = tokio::time::timeout(PROVISION_TIMEOUT, work.run()).await;
        done.unwrap_or_else(|_| Err(ProvisionError::Timeout { place: self.place() }))
    }

    /// The version of the server, as the administrator sees it.
    ///
    /// # Errors
    /// [`ProvisionError`]; no administrator can come in then.
    pub async fn version(&self) -> Result<String, ProvisionError> {
        let wanted = Wanted::nothing(String::new());
        let work = Provision { server: self, wanted: &wanted };
        let done = tokio::time::timeout(PROVISION_TIMEOUT, async {
            let admin = work.connect(Some(self.admin.get_dbname().unwrap_or("postgres"))).await?;
            let row = work.done("say its version", admin.query_one("SHOW server_version", &[]).await)?;
            Ok(row.get(0))
        });
        done.await.unwrap_or_else(|_| Err(ProvisionError::Timeout { place: self.place() }))
    }

    /// Removes a plugin's database and role with everything in it, for good. What is not there is fine.
    ///
    /// # Errors
    /// [`ProvisionError`].
    pub async fn remove(&self, name: &str) -> Result<(), ProvisionError> {
        let wanted = Wanted::nothing(name.to_owned());
        let work = Provision { server: self, wanted: &wanted };
        let done = tokio::time::timeout(PROVISION_TIMEOUT, work.remove()).await;
        done.unwrap_or_else(|_| Err(ProvisionError::Timeout { place: self.place() }))
    }
}

impl Wanted {
    /// Nothing is to be made.
    fn nothing(name: String) -> Self {
        Self {
            name,
            password: String::new(),
            connections: 0,
            statement_timeout: Duration::ZERO,
            end_sessions: false,
            isolate: false,
        }
    }
}

struct Provision<'a> {
    server: &'a Server,
    wanted: &'a Wanted,
}

impl Provision<'_> {
    async fn run(&self) -> Result<(), ProvisionError> {
        let admin = self.connect(None).await?;
        self.role(&admin).await?;
        self.database(&admin).await?;
        if self.wanted.end_sessions {
            self.end_sessions(&admin).await;
        }
        if self.wanted.isolate {
            self.isolate(&admin).await?;
        }
        let inside = self.connect(Some(&self.wanted.name)).await?;
        let role = quoted(&self.wanted.name);
        let sql = format!("REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT ALL ON SCHEMA public TO {role}");
        self.done("give it its schema", inside.batch_execute(&sql).await)
    }

    async fn role(&self, admin: &Client) -> Result<(), ProvisionError> {
        let wanted = self.wanted;
        let role = quoted(&wanted.name);
        let look = "SELECT shobj_description(oid, 'pg_authid') = $2 \
            AND NOT (rolsuper OR rolreplication OR rolbypassrls) FROM pg_roles WHERE rolname = $1";
        let found = self.done("look for the role", admin.query_opt(look, &[&wanted.name, &REMARK]).await)?;
        let verb = match found.map(|row| row.get::<_, Option<bool>>(0)) {
            None => "CREATE",
            Some(Some(true)) => "ALTER",
            Some(_) => return Err(self.foreign("role")),
        };
        // The server and its logs see the verifier only.
        let verifier = literal(&postgres_protocol::password::scram_sha_256(wanted.password.as_bytes()));
        let settings = self.settings(admin).await?;
        let sql = format!(
            "BEGIN; {verb} ROLE {role} LOGIN NOCREATEDB NOCREATEROLE NOINHERIT CONNECTION LIMIT {} PASSWORD {verifier}; \
             COMMENT ON ROLE {role} IS {}; {settings} COMMIT",
            wanted.connections,
            literal(REMARK),
        );
        self.done("make the role", admin.batch_execute(&sql).await)
    }

    async fn settings(&self, admin: &Client) -> Result<String, ProvisionError> {
        let role = quoted(&self.wanted.name);
        let timeout = self.wanted.statement_timeout.as_millis();
        let mut sql = format!("ALTER ROLE {role} SET statement_timeout = {timeout};");
        // Servers before version 14 do not look whether their client is there while they work.
        let look = "SELECT 1 FROM pg_settings WHERE name = 'client_connection_check_interval'";
        if self.done("look at its settings", admin.query_opt(look, &[]).await)?.is_some() {
            sql += &format!(" ALTER ROLE {role} SET client_connection_check_interval = {CLIENT_CHECK_MS};");
        }
        Ok(sql)
    }

    async fn database(&self, admin: &Client) -> Result<(), ProvisionError> {
        let name = &self.wanted.name;
        let look = "SELECT pg_get_userbyid(datdba) = current_user FROM pg_database WHERE datname = $1";
        let found = self.done("look for the database", admin.query_opt(look, &[name]).await)?;
        match found.map(|row| row.get::<_, bool>(0)) {
            Some(true) => {}
            Some(false) => return Err(self.foreign("database")),
            None => {
                // The empty template: nothing that the operator put into the usual one is handed on.
                let sql = format!("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'", quoted(name));
                self.done("make the database", admin.batch_execute(&sql).await)?;
            }
        }
        let it = quoted(name);
        let sql = format!(
            "REVOKE ALL ON DATABASE {it} FROM PUBLIC; GRANT CONNECT, TEMPORARY, CREATE ON DATABASE {it} TO {it}"
        );
        self.done("keep others out of the database", admin.batch_execute(&sql).await)
    }

    /// Takes CONNECT away from everybody, on each database that the role could connect to, and gives it by name to all other
    /// roles that had it: for them nothing changes.
    async fn isolate(&self, admin: &Client) -> Result<(), ProvisionError> {
        for database in self.reachable(admin).await? {
            let roles = "SELECT rolname FROM pg_roles WHERE rolcanlogin AND NOT rolsuper \
                AND shobj_description(oid, 'pg_authid') IS DISTINCT FROM $2 \
                AND has_database_privilege(oid, $1::text, 'CONNECT')";
            let roles = self.done("look who connects", admin.query(roles, &[&database, &REMARK]).await)?;
            let it = quoted(&database);
            let mut sql = String::from("BEGIN;");
            for role in roles {
                sql += &format!(" GRANT CONNECT ON DATABASE {it} TO {};", quoted(role.get(0)));
            }
            sql += &format!(" REVOKE CONNECT ON DATABASE {it} FROM PUBLIC; COMMIT");
            if let Err(error) = admin.batch_execute(&sql).await {
                // Somebody else's database; whether that matters is looked at below.
                tracing::debug!(%database, %error, "the database could not be closed to everybody");
                self.done("go on", admin.batch_execute("ROLLBACK").await)?;
            }
        }
        let databases = self.reachable(admin).await?;
        if databases.is_empty() {
            return Ok(());
        }
        Err(ProvisionError::NotIsolated { databases: databases.join(", "), place: self.server.place() })
    }

    /// Databases other than its own that the role may connect to.
    async fn reachable(&self, admin: &Client) -> Result<Vec<String>, ProvisionError> {
        let sql = "SELECT datname FROM pg_database WHERE datallowconn AND datname <> $1 \
            AND has_database_privilege($1::name, oid, 'CONNECT') ORDER BY datname";
        let rows = self.done("look at other databases", admin.query(sql, &[&self.wanted.name]).await)?;
        Ok(rows.into_iter().map(|row| row.get(0)).collect())
    }

    /// Ends what an earlier host left running. An administrator who may not is no reason to hold the plugin.
    async fn end_sessions(&self, admin: &Client) {
        let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = $1";
        if let Err(error) = admin.query(sql, &[&self.wanted.name]).await {
            tracing::warn!(role = %self.wanted.name, %error, "sessions of an earlier host could not be ended");
        }
    }

    async fn remove(&self) -> Result<(), ProvisionError> {
        let admin = self.connect(None).await?;
        let name = &self.wanted.name;
        let look = "SELECT pg_get_userbyid(datdba) = current_user FROM pg_database WHERE datname = $1";
        let found = self.done("look for the database", admin.query_opt(look, &[name]).await)?;
        match found.map(|row| row.get::<_, bool>(0)) {
            Some(false) => return Err(self.foreign("database")),
            Some(true) => {
                let sql = format!("DROP DATABASE {} WITH (FORCE)", quoted(name));
                self.done("remove the database", admin.batch_execute(&sql).await)?;
            }
            None => {}
        }
        let look = "SELECT shobj_description(oid, 'pg_authid') = $2 FROM pg_roles WHERE rolname = $1";
        let found = self.done("look for the role", admin.query_opt(look, &[name, &REMARK]).await)?;
        match found.map(|row| row.get::<_, Option<bool>>(0)) {
            None => Ok(()),
            Some(Some(true)) => {
                let sql = format!("DROP ROLE {}", quoted(name));
                self.done("remove the role", admin.batch_execute(&sql).await)
            }
            Some(_) => Err(self.foreign("role")),
        }
    }

    /// A session of the administrator's; the first, which waits for others that make something, or one inside `database`.
    async fn connect(&self, database: Option<&str>) -> Result<Client, ProvisionError> {
        let stream = self.server.dial().await.map_err(ProvisionError::Dial)?;
        let mut config = self.server.admin.clone();
        if let Some(database) = database {
            config.dbname(database);
        }
        let (client, connection) = self.done("let temps in", config.connect_raw(stream, NoTls).await)?;
        // It ends with the client.
        tokio::spawn(connection);
        let sql = format!(
            "SET statement_timeout = {STATEMENT_TIMEOUT_MS}; SET lock_timeout = {STATEMENT_TIMEOUT_MS}"
        );
        self.done("begin", client.batch_execute(&sql).await)?;
        if database.is_none() {
            self.done("wait for others", client.query("SELECT pg_advisory_lock($1)", &[&LOCK]).await)?;
        }
        Ok(client)
    }

    fn done<T>(
        &self,
        action: &'static str,
        result: Result<T, tokio_postgres::Error>,
    ) -> Result<T, ProvisionError> {
        result.map_err(|error| {
            let reason = match error.as_db_error() {
                Some(said) if *said.code() == SqlState::INSUFFICIENT_PRIVILEGE => {
                    format!("{} (the user in postgres_url needs CREATEDB and CREATEROLE)", said.message())
                }
                Some(said) => said.message().to_owned(),
                None => {
                    std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string)
                }
            };
            ProvisionError::Failed { place: self.server.place(), action, reason }
        })
    }

    fn foreign(&self, kind: &'static str) -> ProvisionError {
        ProvisionError::Foreign { kind, name: self.wanted.name.clone(), place: self.server.place() }
    }
}

/// A name as SQL takes it, whatever it holds.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL takes it. Backslashes mean nothing special on any server that is set up as PostgreSQL's are.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_quotes() {
        assert_eq!(quoted(r#"a"; DROP ROLE b; --"#), r#""a""; DROP ROLE b; --""#);
        assert_eq!(literal("it's"), "'it''s'");
    }
}
