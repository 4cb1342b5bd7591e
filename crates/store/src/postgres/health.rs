//! What an operator wants to know of a server before trusting it with events: whether it can be reached, what it is, which
//! schema it has, and whether what it confirms is durable. Nothing is changed.

use tokio::sync::watch;
use tokio::time::Instant;

use super::connection::{Conn, Connector};
use super::{MAX_CONNECTIONS, migrations};
use crate::{Health, PostgresUrl, StoreError};

/// Connects once and looks.
///
/// # Errors
/// [`StoreError`] when the server cannot be reached or refuses.
pub(crate) async fn check(url: &PostgresUrl) -> Result<Health, StoreError> {
    let (head, _) = watch::channel(0);
    let conn = Connector::new(url, "doctor", head)?.connect(Instant::now()).await?;
    let sql = "SELECT current_setting('server_version'),
        coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), FALSE)";
    let row = conn.one(sql, &[]).await?;
    Ok(Health {
        engine: format!("PostgreSQL {}", row.try_get::<_, &str>(0)?),
        encrypted: Some(row.try_get(1)?),
        schema: migrations::versions(&conn).await?,
        warnings: warnings(&conn).await?,
    })
}

async fn warnings(conn: &Conn) -> Result<Vec<String>, StoreError> {
    // `reset_val` is what sessions begin with; ours turns synchronous_commit on again.
    let sql = "SELECT name, reset_val FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit')
               ORDER BY name";
    let mut warnings = Vec::new();
    for row in conn.query(sql, &[]).await? {
        let (name, value): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        let why = match (name, value) {
            ("fsync", "off") => {
                "a confirmed event is lost, and the database damaged, when the server's machine fails"
            }
            ("full_page_writes", "off") => "the database may be damaged when the server's machine fails",
            ("synchronous_commit", "off") => {
                "temps turns it on for itself; everything else on this server loses what it was told is written"
            }
            _ => continue,
        };
        warnings.push(format!("the server has {name} = {value}: {why}"));
    }
    let sql = "SELECT least(current_setting('max_connections')::INTEGER
                                - current_setting('superuser_reserved_connections')::INTEGER,
                            CASE WHEN rolconnlimit < 0 THEN 2147483647 ELSE rolconnlimit END,
                            CASE WHEN datconnlimit < 0 THEN 2147483647 ELSE datconnlimit END)
               FROM pg_roles, pg_database WHERE rolname = current_user AND datname = current_database()";
    let places: i32 = conn.one(sql, &[]).await?.try_get(0)?;
    if usize::try_from(places).unwrap_or(0) < MAX_CONNECTIONS {
        warnings
            .push(format!("the server takes {places} connections; one host needs up to {MAX_CONNECTIONS}"));
    }
    Ok(warnings)
}
