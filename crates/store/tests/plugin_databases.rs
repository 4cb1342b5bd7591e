//! Databases of plugins' own, on a real server: what a role can reach, and that making one can be done again and again.

#![cfg(feature = "postgres")]

use std::time::Duration;

use temps_store::plugin_databases::{ProvisionError, Server, Wanted};
use temps_testkit::Postgres;

fn wanted(name: &str) -> Wanted {
    Wanted {
        name: name.to_owned(),
        password: "plugin's own".to_owned(),
        connections: 3,
        statement_timeout: Duration::from_secs(7),
        end_sessions: true,
        isolate: true,
    }
}

/// What `psql` says to a role that tries something.
fn as_role(postgres: &Postgres, role: &str, database: &str, sql: &str) -> String {
    let url = format!("postgres://{role}:plugin%27s%20own@127.0.0.1:{}/{database}", postgres.port());
    let psql =
        std::process::Command::new("psql").args(["-X", "-q", "-A", "-t", "-d", &url, "-c", sql]).output();
    let ended = psql.expect("psql can be started");
    format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr))
        .trim()
        .to_owned()
}

#[tokio::test]
async fn a_role_reaches_its_own_database_and_no_other() {
    let Some(postgres) = Postgres::start("a_role_reaches_its_own_database_and_no_other") else { return };
    postgres.run_sql("postgres", "CREATE ROLE app LOGIN PASSWORD 'plugin''s own'");
    postgres.run_sql("postgres", "CREATE DATABASE app_data");
    let server = Server::parse(&postgres.url("")).unwrap();
    server.provision(&wanted("temps_a-b")).await.unwrap();
    server.provision(&wanted("temps_other")).await.unwrap();
    let role = |database: &str, sql: &str| as_role(&postgres, "temps_a-b", database, sql);
    assert_eq!(role("temps_a-b", "CREATE TABLE t (x int); INSERT INTO t VALUES (5); SELECT x FROM t"), "5");
    for database in ["postgres", "template1", "app_data", "temps_other"] {
        assert!(role(database, "SELECT 1").contains("permission denied for database"), "{database}");
    }
    for sql in ["CREATE ROLE evil", "CREATE DATABASE evil", "SELECT pg_read_file('/etc/passwd')"] {
        assert!(role("temps_a-b", sql).contains("permission denied"), "{sql}");
    }
    assert_eq!(role("temps_a-b", "SHOW statement_timeout"), "7s");
    assert_eq!(
        postgres.run_sql("postgres", "SELECT rolconnlimit FROM pg_roles WHERE rolname = 'temps_a-b'"),
        "3"
    );
    // Who could connect before still can.
    assert_eq!(as_role(&postgres, "app", "app_data", "SELECT 1"), "1");
    assert_eq!(as_role(&postgres, "app", "postgres", "SELECT 1"), "1");
    assert!(!postgres.log().contains("plugin's own"));
}

#[tokio::test]
async fn making_a_database_again_keeps_what_is_in_it_and_takes_over_nothing_foreign() {
    let test = "making_a_database_again_keeps_what_is_in_it_and_takes_over_nothing_foreign";
    let Some(postgres) = Postgres::start(test) else { return };
    let server = Server::parse(&postgres.url("")).unwrap();
    // A host that was killed after the role was made.
    server.provision(&wanted("temps_half")).await.unwrap();
    postgres.run_sql("postgres", "DROP DATABASE temps_half WITH (FORCE)");
    server.provision(&wanted("temps_half")).await.unwrap();
    assert_eq!(as_role(&postgres, "temps_half", "temps_half", "CREATE TABLE kept (); SELECT 1"), "1");
    // A plugin that changed its own role, and left a session.
    as_role(&postgres, "temps_half", "temps_half", "ALTER ROLE temps_half SET statement_timeout = 0");
    as_role(&postgres, "temps_half", "temps_half", "ALTER ROLE temps_half PASSWORD 'mine'");
    server.provision(&wanted("temps_half")).await.unwrap();
    assert_eq!(as_role(&postgres, "temps_half", "temps_half", "SELECT count(*) FROM kept"), "0");
    assert_eq!(as_role(&postgres, "temps_half", "temps_half", "SHOW statement_timeout"), "7s");

    postgres.run_sql("postgres", "CREATE ROLE temps_theirs");
    let error = server.provision(&wanted("temps_theirs")).await.unwrap_err();
    assert!(matches!(error, ProvisionError::Foreign { kind: "role", .. }), "{error}");
    postgres.run_sql("postgres", "CREATE ROLE someone");
    postgres.run_sql("postgres", "CREATE DATABASE temps_ours OWNER someone");
    let error = server.provision(&wanted("temps_ours")).await.unwrap_err();
    assert!(matches!(error, ProvisionError::Foreign { kind: "database", .. }), "{error}");

    server.remove("temps_half").await.unwrap();
    server.remove("temps_half").await.unwrap();
    let left = "SELECT count(*) FROM pg_database WHERE datname = 'temps_half'";
    assert_eq!(postgres.run_sql("postgres", left), "0");
}

#[tokio::test]
async fn an_administrator_without_superpowers_is_enough_where_the_server_is_closed_already() {
    let test = "an_administrator_without_superpowers_is_enough_where_the_server_is_closed_already";
    let Some(postgres) = Postgres::start(test) else { return };
    postgres.run_sql("postgres", "CREATE ROLE admin LOGIN CREATEDB CREATEROLE PASSWORD 'x'");
    let url = format!("postgres://admin:x@127.0.0.1:{}/", postgres.port());
    let server = Server::parse(&url).unwrap();
    let error = server.provision(&wanted("temps_a")).await.unwrap_err();
    assert!(matches!(&error, ProvisionError::NotIsolated { .. }), "{error}");
    assert!(error.to_string().contains("postgres, template1"), "{error}");
    postgres.run_sql("postgres", "GRANT CONNECT ON DATABASE postgres TO admin");
    postgres.run_sql("postgres", "REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC");
    server.provision(&wanted("temps_a")).await.unwrap();
    server.provision(&wanted("temps_a")).await.unwrap();
    assert_eq!(as_role(&postgres, "temps_a", "temps_a", "CREATE TABLE t (); SELECT 1"), "1");
    assert!(as_role(&postgres, "temps_a", "postgres", "SELECT 1").contains("permission denied"));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_without_its_password() {
    let server = Server::parse("postgres://admin:hunter2@127.0.0.1:1/").unwrap();
    let error = server.provision(&wanted("temps_a")).await.unwrap_err().to_string();
    assert!(error.contains("127.0.0.1:1") && !error.contains("hunter2"), "{error}");
}
