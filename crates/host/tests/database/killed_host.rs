//! A host that is killed with -9 while its plugin has a session at work.

use std::process::{Command, Stdio};

use temps_host::plugin::PluginState;
use temps_testkit::Postgres;
use temps_testkit::daemon::eventually;

use crate::rig::until_state;
use crate::scene::{NAME, Scene, on, rig};

const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'temps_keeper'";

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_killed_leaves_no_session_and_its_next_start_finds_the_data() {
    let test = "a_host_that_is_killed_leaves_no_session_and_its_next_start_finds_the_data";
    let Some(postgres) = Postgres::start(test) else { return };
    let rig = rig(on(&postgres));
    let scene = Scene { host: rig.host().await, rig };
    until_state(&scene.host, NAME, PluginState::Running).await;
    scene.grant("postgres").await;
    scene.sql("CREATE TABLE t (x int)");
    let Scene { rig, host } = scene;
    host.shutdown().await;

    let mut command = Command::new(env!("CARGO_BIN_EXE_temps-host-test-host"));
    command.arg(rig.home.path()).arg("0").env("TEMPS_TEST_PLUGIN_DATABASES", postgres.url(""));
    let mut killed = command.stdout(Stdio::null()).spawn().unwrap();
    let socket = rig.config.run_dir.join(NAME).join("plugin.sock");
    eventually("the plugin listens", || std::os::unix::net::UnixStream::connect(&socket).ok());
    // A statement that would run for ever, and that nobody waits for.
    let order = serde_json::json!({"argv": ["sh", "-c",
        "exec psql -X -d \"$TEMPS_DATABASE_URL\" -c 'SET statement_timeout = 0; SELECT pg_sleep(3600)'"]})
    .to_string();
    let head = format!("POST /run HTTP/1.0\r\nContent-Length: {}\r\n\r\n", order.len());
    let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    std::io::Write::write_all(&mut stream, (head + &order).as_bytes()).unwrap();
    let asleep = format!("{SESSIONS} AND query LIKE '%pg_sleep%'");
    eventually("the statement runs", || (postgres.run_sql("postgres", &asleep) == "1").then_some(()));
    killed.kill().unwrap();
    killed.wait().unwrap();
    // The server looks every few seconds whether its client is still there.
    eventually("no session is left", || (postgres.run_sql("postgres", SESSIONS) == "0").then_some(()));

    let scene = Scene { host: rig.host().await, rig };
    until_state(&scene.host, NAME, PluginState::Running).await;
    assert_eq!(scene.sql("SELECT count(*) FROM t"), "0");
    scene.end().await;
}
