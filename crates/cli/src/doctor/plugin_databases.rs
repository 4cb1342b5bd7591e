//! Whether plugins can have databases of their own: the server that is set, and what each plugin has.

use temps_host::database::{DatabaseSettings, server_version};
use temps_server::api::plugins::Plugin;

use super::{Check, Status};

/// Tries the server that is set, as the daemon would.
pub(super) async fn server(settings: &DatabaseSettings) -> Check {
    let name = "plugin databases";
    match server_version(settings).await {
        None => Check::new(name, Status::Ok, "SQLite files; no PostgreSQL server is set"),
        Some(Ok((place, version))) => {
            Check::new(name, Status::Ok, format!("SQLite files, or PostgreSQL {version} at {place}"))
        }
        Some(Err(reason)) => Check::new(name, Status::Problem, reason).hint(
            "see postgres_url under [plugin_databases] in temps.toml; plugins that were granted one are held",
        ),
    }
}

/// What the daemon last saw of a plugin's database; `None` for a plugin without one.
pub(super) fn of_plugin(plugin: &Plugin) -> Option<Check> {
    let database = plugin.database.as_ref()?;
    let name = format!("database of {}", plugin.name);
    let what = format!("{}, {}", database.engine, database.place);
    Some(match database.reachable {
        Some(true) => Check::new(name, Status::Ok, what),
        Some(false) => {
            let why = database.reason.as_deref().unwrap_or("it cannot be reached");
            Check::new(name, Status::Problem, format!("{what}: {why}"))
        }
        None => Check::new(name, Status::Unknown, format!("{what}: not tried yet")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_cannot_be_reached_is_a_problem_without_its_password() {
        assert_eq!(server(&DatabaseSettings::default()).await.status, Status::Ok);
        let url = temps_host::secrets::Secret::new("postgres://admin:hunter2@127.0.0.1:1/".to_owned());
        let found = server(&DatabaseSettings { postgres_url: Some(url), ..Default::default() }).await;
        assert_eq!(found.status, Status::Problem);
        assert!(found.found.contains("127.0.0.1:1") && !found.found.contains("hunter2"), "{found:?}");
    }
}
