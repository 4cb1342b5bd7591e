//! TLS to a real PostgreSQL server with a certificate of a test's own authority: the store's connections, and those that
//! are made for plugins' databases.

#![cfg(feature = "postgres")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Display;

use temps_store::DatabaseAddress;
use temps_store::plugin_databases::Server;
use temps_testkit::Postgres;
use temps_testkit::authority::Authority;

/// What each of the two ways to the server says to a URL with these parameters; `Ok` is whether the session is encrypted.
async fn both(server: &Postgres, host: &str, parameters: &str) -> [Result<bool, String>; 2] {
    let url = server.url("postgres").replace("127.0.0.1", host) + parameters;
    let ways = [store(&url).await, for_plugins(server, &url).await];
    for way in &ways {
        let said = format!("{way:?}");
        assert!(!said.contains(server.password()), "a password is in no error: {said}");
    }
    ways
}

async fn store(url: &str) -> Result<bool, String> {
    let address: DatabaseAddress = url.parse().unwrap();
    let health = temps_store::check(&address).await.map_err(whole)?;
    Ok(health.encrypted.unwrap())
}

async fn for_plugins(postgres: &Postgres, url: &str) -> Result<bool, String> {
    let server = Server::parse(url).map_err(whole)?;
    server.version().await.map_err(whole)?;
    // The bytes of a connection on which nothing was said yet are read by the server: it knows how it was opened.
    let stream = server.dial().await.map_err(whole)?;
    let config: tokio_postgres::Config = postgres.url("postgres").parse().unwrap();
    let (client, connection) = config.connect_raw(stream, tokio_postgres::NoTls).await.map_err(whole)?;
    tokio::spawn(connection);
    let row =
        client.query_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[]).await.unwrap();
    Ok(row.get(0))
}

fn whole(error: impl Display) -> String {
    error.to_string()
}

fn each_says(ways: &[Result<bool, String>; 2], words: &str) {
    for way in ways {
        assert!(way.as_ref().is_err_and(|said| said.contains(words)), "{words:?} is not in {way:?}");
    }
}

#[tokio::test]
async fn a_server_is_trusted_by_its_authority_and_its_name_and_by_nothing_else() {
    let test = "a_server_is_trusted_by_its_authority_and_its_name_and_by_nothing_else";
    let (ours, strangers) = (Authority::new(), Authority::new());
    let Some(server) = Postgres::start_with_certificate(test, &ours.issue("localhost")) else { return };
    let checked = |mode: &str, authority: &Authority| {
        format!("?sslmode={mode}&sslrootcert={}", authority.root().display())
    };
    let yes = [Ok(true), Ok(true)];
    assert_eq!(both(&server, "localhost", &checked("verify-full", &ours)).await, yes);
    // The certificate is of another name: that matters to verify-full alone.
    each_says(&both(&server, "127.0.0.1", &checked("verify-full", &ours)).await, "not valid for name");
    assert_eq!(both(&server, "127.0.0.1", &checked("verify-ca", &ours)).await, yes);
    assert_eq!(both(&server, "127.0.0.1", &checked("require", &ours)).await, yes);
    // The certificate is of another authority: that matters as soon as one is named.
    for mode in ["verify-full", "verify-ca", "require"] {
        each_says(&both(&server, "localhost", &checked(mode, &strangers)).await, "invalid peer certificate");
    }
    each_says(&both(&server, "localhost", "?sslmode=verify-full").await, "UnknownIssuer");
    // No authority is named.
    assert_eq!(both(&server, "localhost", "?sslmode=require").await, yes);
    assert_eq!(both(&server, "localhost", "?sslmode=prefer").await, yes);
    assert_eq!(both(&server, "localhost", "?sslmode=disable").await, [Ok(false), Ok(false)]);
}

#[tokio::test]
async fn a_certificate_for_an_address_is_good_for_that_address() {
    let test = "a_certificate_for_an_address_is_good_for_that_address";
    let authority = Authority::new();
    let Some(server) = Postgres::start_with_certificate(test, &authority.issue("127.0.0.1")) else { return };
    let checked = format!("?sslmode=verify-full&sslrootcert={}", authority.root().display());
    assert_eq!(both(&server, "127.0.0.1", &checked).await, [Ok(true), Ok(true)]);
    each_says(&both(&server, "localhost", &checked).await, "not valid for name");
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_it_is_required_and_nowhere_else() {
    let test = "a_server_without_tls_is_refused_where_it_is_required_and_nowhere_else";
    let Some(server) = Postgres::start(test) else { return };
    let authority = Authority::new();
    let checked = format!("?sslmode=verify-full&sslrootcert={}", authority.root().display());
    for parameters in ["?sslmode=require", &checked] {
        each_says(&both(&server, "127.0.0.1", parameters).await, "TLS");
    }
    for parameters in ["?sslmode=prefer", "?sslmode=disable", ""] {
        assert_eq!(both(&server, "127.0.0.1", parameters).await, [Ok(false), Ok(false)], "{parameters}");
    }
}
