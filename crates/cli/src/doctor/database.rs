//! The database: whether it can be reached, whether this program knows its schema, and whether what it confirms is kept.

use temps_host::store::{self, DatabaseAddress, Health, StoreError};
use temps_server::config::Config;

use super::{Check, Status};

/// Looks at the database.
pub(crate) async fn check(config: &Config) -> Check {
    let address = config.database();
    judge(&address, &config.node, store::check(&address).await)
}

fn judge(address: &DatabaseAddress, node: &str, found: Result<Health, StoreError>) -> Check {
    let health = match found {
        Ok(health) => health,
        Err(error) => return Check::new("database", Status::Problem, format!("{address}: {error}")),
    };
    let mut said = format!("{} at {address}", health.engine);
    if let DatabaseAddress::Postgres(_) = address {
        let encrypted = if health.encrypted == Some(true) { "encrypted" } else { "not encrypted" };
        said = format!("{said}, as node {node}, {encrypted}");
    }
    if let Some((door, found, known)) = health.schema.iter().find(|(_, found, known)| found > known) {
        return Check::new("database", Status::Problem, said).hint(format!(
            "schema `{door}` has version {found}, this temps knows up to {known}; use the newer temps"
        ));
    }
    if health.warnings.is_empty() {
        return Check::new("database", Status::Ok, said);
    }
    Check::new("database", Status::Warning, said).hint(health.warnings.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> Health {
        Health {
            engine: "PostgreSQL 15".into(),
            encrypted: Some(true),
            schema: vec![("host", 1, 1)],
            warnings: Vec::new(),
        }
    }

    #[test]
    fn a_server_that_loses_what_it_confirms_is_warned_about_and_a_later_schema_is_a_problem() {
        let address: DatabaseAddress = "postgres://temps:hunter2@db/temps".parse().unwrap();
        let judged = |found| judge(&address, "eu-1", found);
        let fine = judged(Ok(health()));
        assert_eq!((fine.status, &fine.hint), (Status::Ok, &None));
        assert!(fine.found.contains("eu-1") && !fine.found.contains("hunter2"), "{}", fine.found);
        let lossy = judged(Ok(Health { warnings: vec!["the server has fsync = off".into()], ..health() }));
        assert_eq!(lossy.status, Status::Warning);
        assert!(lossy.hint.unwrap().contains("fsync"));
        let newer = judged(Ok(Health { schema: vec![("host", 7, 1)], ..health() }));
        assert_eq!(newer.status, Status::Problem);
        let gone = judged(Err(StoreError::Unreachable { reason: "refused".into() }));
        assert_eq!(gone.status, Status::Problem);
        assert!(!gone.found.contains("hunter2"), "{}", gone.found);
    }
}
