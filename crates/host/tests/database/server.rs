//! A database on the operator's server: what the plugin can do with it, and what is kept from it.

use std::path::Path;

use temps_host::plugin::PluginState;
use temps_host::sandbox::{Layer, LayerReport, Policies, Policy, State};
use temps_host::secrets::Secret;
use temps_testkit::Postgres;
use temps_testkit::authority::Authority;
use temps_testkit::daemon::eventually;

use crate::rig::{until, until_state};
use crate::scene::{NAME, Scene, on, rig};

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_works_with_its_database_on_the_server_and_finds_it_again() {
    let Some(postgres) = Postgres::start("a_plugin_works_with_its_database_on_the_server_and_finds_it_again")
    else {
        return;
    };
    let scene = Scene::with(&postgres).await;
    assert_eq!(
        scene.url(),
        format!("postgresql:///keeper?user=keeper&host={}", scene.socket("x").parent().unwrap().display())
    );
    assert_eq!(scene.sql("CREATE TABLE t (x int); INSERT INTO t VALUES (1), (2); SELECT sum(x) FROM t"), "3");
    // Copying in both directions, and a large answer.
    assert_eq!(scene.sql("\\copy (SELECT 7) TO STDOUT"), "7");
    assert_eq!(
        scene.sql("SELECT length(string_agg(x::text, ',')) FROM generate_series(1, 200000) x"),
        "1288894"
    );
    let shown = scene.host.database(NAME).unwrap();
    assert_eq!((shown.engine, shown.reachable, shown.reason), ("postgres", Some(true), None));
    assert_eq!(shown.place, format!("temps_keeper at 127.0.0.1:{}", postgres.port()));
    scene.host.restart_plugin(NAME, "ada").await.unwrap();
    until_state(&scene.host, NAME, PluginState::Running).await;
    assert_eq!(scene.sql("SELECT count(*) FROM t"), "2");
    scene.host.disable_plugin(NAME, "ada").await.unwrap();
    scene.host.enable_plugin(NAME, "ada").await.unwrap();
    until_state(&scene.host, NAME, PluginState::Running).await;
    assert_eq!(scene.sql("SELECT count(*) FROM t"), "2");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_reaches_its_own_database_whatever_it_asks_for() {
    let Some(postgres) = Postgres::start("a_plugin_reaches_its_own_database_whatever_it_asks_for") else {
        return;
    };
    postgres.run_sql("postgres", "CREATE TABLE hosts_own (x int)");
    // Without the layer that keeps it from the server's port, so that what is behind that layer is tried as well.
    let scene = Scene::new(|config| {
        on(&postgres)(config);
        config.sandbox.all.policies = Policies::unset().with(Layer::Network, Policy::Off);
    })
    .await;
    scene.grant("postgres").await;
    let directory = scene.socket("");
    for (user, database) in [("postgres", "postgres"), ("keeper", "template1"), ("x", "x")] {
        let url = format!("postgresql:///{database}?user={user}&host={}", directory.display());
        assert_eq!(
            scene.sql_at(&url, "SELECT current_user, current_database()"),
            "temps_keeper|temps_keeper"
        );
    }
    assert!(scene.sql("SELECT * FROM hosts_own").contains("does not exist"));
    for sql in [
        "SET ROLE postgres",
        "SET SESSION AUTHORIZATION postgres",
        "CREATE DATABASE x",
        "CREATE EXTENSION dblink",
    ] {
        assert!(scene.sql(sql).contains("ERROR"), "{sql}");
    }
    let url = format!("{}&options=-cstatement_timeout%3D0", scene.url());
    assert!(scene.sql_at(&url, "SELECT 1").contains("cannot be set when connecting"));
    let url = format!("{}&replication=database", scene.url());
    assert!(scene.sql_at(&url, "SELECT 1").contains("replication is not given"));
    // Directly, with all that it could know: its role has a password that it was never told.
    let direct = format!("postgresql://temps_keeper@127.0.0.1:{}/temps_keeper", postgres.port());
    assert!(scene.sql_at(&direct, "SELECT 1").contains("no password"));
    // A plugin that gives its role a password of its own still gets into no other database, and the host sets it right.
    scene.sql("ALTER ROLE temps_keeper PASSWORD 'mine'");
    for database in ["postgres", "template1"] {
        let direct = format!("postgresql://temps_keeper:mine@127.0.0.1:{}/{database}", postgres.port());
        assert!(scene.sql_at(&direct, "SELECT 1").contains("permission denied for database"), "{database}");
    }
    assert_eq!(scene.sql("SELECT 1"), "1");
    let direct = format!("postgresql://temps_keeper:mine@127.0.0.1:{}/temps_keeper", postgres.port());
    assert!(scene.sql_at(&direct, "SELECT 1").contains("password authentication failed"));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_in_its_own_network_does_not_reach_the_port_of_the_server() {
    let Some(postgres) = Postgres::start("a_plugin_in_its_own_network_does_not_reach_the_port_of_the_server")
    else {
        return;
    };
    let scene = Scene::with(&postgres).await;
    let layers = scene.host.explain(NAME).await.unwrap().layers;
    let is_enforced = |one: &LayerReport| one.layer == Layer::Network && one.state == State::InForce;
    if !layers.iter().any(is_enforced) {
        return temps_testkit::skip(
            "a_plugin_in_its_own_network_does_not_reach_the_port_of_the_server",
            "this machine can make no network namespace",
        );
    }
    let direct = format!("postgresql://temps_keeper@127.0.0.1:{}/temps_keeper", postgres.port());
    assert!(scene.sql_at(&direct, "SELECT 1").contains("Connection refused"));
    assert_eq!(scene.sql("SELECT 1"), "1");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_speaks_tls_to_a_server_whose_authority_is_trusted_and_to_no_other() {
    let test = "the_relay_speaks_tls_to_a_server_whose_authority_is_trusted_and_to_no_other";
    let (ours, strangers) = (Authority::new(), Authority::new());
    let Some(postgres) = Postgres::start_with_certificate(test, &ours.issue("localhost")) else { return };
    let trusting = |authority: &Authority| {
        let url = postgres.url("").replace("127.0.0.1", "localhost");
        let root = authority.root().display();
        Some(Secret::new(format!("{url}?sslmode=verify-full&sslrootcert={root}")))
    };
    let scene = Scene::new(|config| config.databases.postgres_url = trusting(&ours)).await;
    scene.grant("postgres").await;
    assert_eq!(scene.sql("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"), "t");
    scene.end().await;

    let scene = Scene::new(|config| config.databases.postgres_url = trusting(&strangers)).await;
    scene.host.grant(NAME, vec![("database".into(), "postgres".into())], "ada").await.unwrap();
    let why = eventually("the server is refused", || scene.host.database(NAME).unwrap().reason);
    assert!(why.contains("invalid peer certificate") && !why.contains(postgres.password()), "{why}");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_credential_reaches_the_plugin_or_a_file() {
    let Some(postgres) = Postgres::start("no_credential_reaches_the_plugin_or_a_file") else { return };
    let scene = Scene::with(&postgres).await;
    let secret = postgres.password();
    let said = scene.run(&["env"]);
    assert!(!said.env.to_string().contains(secret) && !said.out.contains(secret));
    // Everything that the server says to a new session passes the plugin.
    let heard = scene.python(
        "s = connect(); s.sendall(startup('user', 'x'))\nseen = b''\n\
         while not seen.endswith(b'Z\\0\\0\\0\\5I'): seen += s.recv(65536)\nprint(seen)",
    );
    assert!(heard[2..].starts_with("R\\x00\\x00\\x00\\x08\\x00\\x00\\x00\\x00"), "{heard}");
    assert!(!heard.contains(secret) && !heard.contains("SCRAM"), "{heard}");
    assert!(scene.sql("SELECT rolpassword FROM pg_authid").contains("permission denied"));
    assert!(!format!("{:?} {:?}", scene.rig.config, scene.host.database(NAME)).contains(secret));
    assert!(!holds(scene.rig.home.path(), secret));
    scene.end().await;
}

/// Whether any file below `directory` holds a text.
fn holds(directory: &Path, text: &str) -> bool {
    std::fs::read_dir(directory).expect("the directory can be read").flatten().any(|entry| {
        let kind = entry.file_type().expect("the entry can be looked at");
        if kind.is_dir() {
            return holds(&entry.path(), text);
        }
        let bytes = if kind.is_file() { std::fs::read(entry.path()).unwrap_or_default() } else { Vec::new() };
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_plugins_own_processes_come_to_its_database() {
    let Some(postgres) = Postgres::start("only_the_plugins_own_processes_come_to_its_database") else {
        return;
    };
    let scene = Scene::with(&postgres).await;
    let url = scene.url();
    let psql =
        std::process::Command::new("psql").args(["-X", "-d", &url, "-c", "SELECT 1"]).output().unwrap();
    let said = String::from_utf8_lossy(&psql.stderr).into_owned();
    assert!(said.contains("server closed the connection"), "{said}");
    assert_eq!(scene.sql("SELECT 1"), "1");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_back_is_used_again_and_one_that_is_away_holds_the_plugin() {
    let test = "a_server_that_comes_back_is_used_again_and_one_that_is_away_holds_the_plugin";
    let Some(postgres) = Postgres::start(test) else { return };
    let scene = Scene::with(&postgres).await;
    scene.sql("CREATE TABLE t (x int)");
    postgres.kill();
    assert!(scene.sql("SELECT 1").contains("the database cannot be reached now"));
    let shown = scene.host.database(NAME).unwrap();
    assert_eq!(shown.reachable, Some(false));
    assert!(shown.reason.unwrap().contains("127.0.0.1"));
    postgres.restart();
    assert_eq!(scene.sql("SELECT count(*) FROM t"), "0");
    assert_eq!(scene.host.plugin(NAME).unwrap().crashes, 0);
    let Scene { rig, host } = scene;
    host.shutdown().await;
    postgres.stop();
    let scene = Scene { host: rig.host().await, rig };
    let held =
        until(&scene.host, NAME, |seen| seen.state == PluginState::Held && seen.reason.is_some()).await;
    let reason = held.reason.clone().unwrap();
    assert!(reason.contains("its database cannot be had") && reason.contains("127.0.0.1"), "{reason}");
    assert!(!reason.contains(postgres.password()));
    postgres.restart();
    until_state(&scene.host, NAME, PluginState::Running).await;
    assert_eq!(scene.sql("SELECT count(*) FROM t"), "0");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_url_of_the_server_stops_the_host_with_a_reason_that_does_not_repeat_it() {
    let rig = rig(|config| {
        config.databases.postgres_url = Some(temps_host::secrets::Secret::new("mysql://a:hunter2@h/".into()));
    });
    let store = temps_host::store::sqlite::SqliteStore::open(&rig.home.path().join("temps.db")).unwrap();
    let builder = temps_host::PluginHost::builder().config(rig.config.clone()).store(store);
    let error = builder.platform(std::sync::Arc::new(crate::rig::EmptyPlatform)).build().await.err().unwrap();
    let text = error.to_string();
    assert!(text.contains("plugin_databases.postgres_url") && !text.contains("hunter2"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_removes_a_database_only_when_the_plugin_does_not_have_it() {
    let test = "an_operator_removes_a_database_only_when_the_plugin_does_not_have_it";
    let Some(postgres) = Postgres::start(test) else { return };
    let scene = Scene::with(&postgres).await;
    let error = scene.host.drop_database(NAME, "ada").await.unwrap_err();
    assert!(error.to_string().contains("revoke"), "{error}");
    let count =
        || postgres.run_sql("postgres", "SELECT count(*) FROM pg_database WHERE datname = 'temps_keeper'");
    scene.host.revoke(NAME, vec![("database".into(), "postgres".into())], "ada").await.unwrap();
    until_state(&scene.host, NAME, PluginState::Running).await;
    assert_eq!(count(), "1");
    scene.host.drop_database(NAME, "ada").await.unwrap();
    assert_eq!(count(), "0");
    // Granted again, it begins with an empty one.
    scene.grant("postgres").await;
    assert_eq!(scene.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "0");
    scene.end().await;
    eventually("all sessions of the plugin are gone", || {
        let left = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'temps_keeper'";
        (postgres.run_sql("postgres", left) == "0").then_some(())
    });
}
