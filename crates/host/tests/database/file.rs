//! The SQLite file that a plugin has by default.

use std::os::unix::fs::PermissionsExt;

use temps_host::plugin::PluginState;

use crate::rig::until_state;
use crate::scene::{NAME, Scene};

const SQLITE: &str = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); \
    db.execute('CREATE TABLE IF NOT EXISTS t (x)'); db.execute('INSERT INTO t VALUES (1)'); db.commit(); \
    print(db.execute('SELECT count(*) FROM t').fetchone()[0])";

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_needs_a_database_has_a_file_of_its_own_that_outlives_it() {
    let scene = Scene::new(|_| {}).await;
    let file = scene.rig.config.state_dir.join("data").join(NAME).join("plugin.db");
    assert_eq!(scene.url(), format!("sqlite:///{}", file.display()));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let path = file.display().to_string();
    assert_eq!(scene.run(&["python3", "-c", SQLITE, &path]).out, "1");
    let shown = scene.host.database(NAME).unwrap();
    assert_eq!((shown.engine, shown.place, shown.reachable), ("sqlite", path.clone(), Some(true)));
    scene.host.restart_plugin(NAME, "ada").await.unwrap();
    until_state(&scene.host, NAME, PluginState::Running).await;
    assert_eq!(scene.run(&["python3", "-c", SQLITE, &path]).out, "2");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_whose_database_was_revoked_is_held_until_it_has_one_again() {
    let scene = Scene::new(|_| {}).await;
    scene.host.revoke(NAME, vec![("database".into(), "own".into())], "ada").await.unwrap();
    let held = until_state(&scene.host, NAME, PluginState::Held).await;
    assert!(held.reason.as_deref().unwrap_or_default().contains("database own"), "{held:?}");
    assert_eq!(scene.host.database(NAME), None);
    let Scene { rig, host } = scene;
    host.shutdown().await;
    let scene = Scene { host: rig.host().await, rig };
    until_state(&scene.host, NAME, PluginState::Held).await;
    scene.host.grant(NAME, Vec::new(), "ada").await.unwrap();
    until_state(&scene.host, NAME, PluginState::Running).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_was_promised_a_server_is_held_while_there_is_none() {
    let scene = Scene::new(|_| {}).await;
    scene.host.grant(NAME, vec![("database".into(), "postgres".into())], "ada").await.unwrap();
    let held = until_state(&scene.host, NAME, PluginState::Held).await;
    assert!(held.reason.as_deref().unwrap_or_default().contains("postgres_url"), "{held:?}");
    scene.host.revoke(NAME, vec![("database".into(), "postgres".into())], "ada").await.unwrap();
    until_state(&scene.host, NAME, PluginState::Running).await;
    assert!(scene.url().starts_with("sqlite:"));
    scene.end().await;
}
