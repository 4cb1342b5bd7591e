//! What bounds a plugin on the operator's server: sessions, time, who cancels what, and the end of a grant.

use temps_host::plugin::PluginState;
use temps_testkit::Postgres;
use temps_testkit::daemon::eventually;

use crate::rig::until_state;
use crate::scene::{NAME, STATEMENT, Scene};

const BUSY: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE usename = 'temps_keeper' AND state = 'active'";
const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'temps_keeper'";

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_has_so_many_sessions_and_no_more() {
    let Some(postgres) = Postgres::start("a_plugin_has_so_many_sessions_and_no_more") else { return };
    let scene = Scene::with(&postgres).await;
    let said = scene.python(
        "held = []\n\
         for n in range(5):\n    s = connect(); s.sendall(startup('user', 'x')); kind, body = read(s)\n    \
             print(kind, b'C53300' in body); held.append(s)\n\
         held[0].close(); s = connect()\n\
         import time\n\
         while True:\n    s = connect(); s.sendall(startup()); kind, _ = read(s)\n    \
             if kind == 'R': break\n    time.sleep(0.02)\n\
         print(kind)",
    );
    assert_eq!(said.lines().collect::<Vec<_>>(), ["R False", "R False", "R False", "E True", "E True", "R"]);
    let limit =
        postgres.run_sql("postgres", "SELECT rolconnlimit FROM pg_roles WHERE rolname = 'temps_keeper'");
    assert_eq!(limit, "7");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_ends_in_time_also_when_the_plugin_turned_its_time_out_off() {
    let test = "a_statement_ends_in_time_also_when_the_plugin_turned_its_time_out_off";
    let Some(postgres) = Postgres::start(test) else { return };
    let scene = Scene::with(&postgres).await;
    assert!(scene.sql("SELECT pg_sleep(600)").contains("canceling statement due to statement timeout"));
    let begin = std::time::Instant::now();
    let said = scene.sql("SET statement_timeout = 0; SELECT pg_sleep(600)");
    assert!(said.contains("canceling statement due to user request"), "{said}");
    assert!(begin.elapsed() > STATEMENT);
    assert_eq!(postgres.run_sql("postgres", BUSY), "0");
    // A session that only waits is not at work.
    let said = scene.python(&format!(
        "import time\ns = connect(); s.sendall(startup()); until(s, 'Z')\ntime.sleep({})\n\
         s.sendall(b'Q' + struct.pack('!I', 13) + b'SELECT 1\\0'); print(until(s, 'Z')[0])",
        STATEMENT.as_secs() + 4,
    ));
    assert_eq!(said, "TDCZ");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_cancels_its_own_statements_and_nobody_elses() {
    let Some(postgres) = Postgres::start("a_plugin_cancels_its_own_statements_and_nobody_elses") else {
        return;
    };
    let scene = Scene::with(&postgres).await;
    let said = scene.python(
        "def key(s):\n    found = None\n    \
             while True:\n        kind, body = read(s)\n        \
                 if kind == 'K': found = body\n        if kind == 'Z': return found\n\
         def cancel(key):\n    s = connect(); s.sendall(struct.pack('!II', 16, 80877102) + key); s.recv(1)\n\
         a = connect(); a.sendall(startup()); mine = key(a)\n\
         sleep = b'SELECT pg_sleep(0.9)\\0'\n\
         a.sendall(b'Q' + struct.pack('!I', len(sleep) + 4) + sleep)\n\
         cancel(mine[:4] + b'none'); cancel(mine)\n\
         print(b'C57014' in until(a, 'E')[1]); until(a, 'Z')\n\
         a.close()\n\
         cancel(mine); print('nothing')",
    );
    assert_eq!(said, "True\nnothing");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_slow_or_talks_nonsense_is_sent_away() {
    let Some(postgres) = Postgres::start("a_client_that_is_slow_or_talks_nonsense_is_sent_away") else {
        return;
    };
    let scene = Scene::with(&postgres).await;
    let said = scene.python(
        "for first in (b'GET / HTTP/1.1\\r\\n\\r\\n', struct.pack('!I', 4), struct.pack('!I', 2**31), startup(version=131072)):\n    \
             s = connect(); s.sendall(first); kind, body = read(s); print(kind or 'closed')\n\
         s = connect(); s.sendall(startup()); until(s, 'Z'); s.sendall(b'Q\\0\\0\\0\\0'); print(read(s)[0] or 'closed')\n\
         s = connect(); s.sendall(struct.pack('!II', 8, 80877103)); print(s.recv(1)); s.sendall(startup(version=196610))\n\
         print(until(s, 'Z')[0].replace('S', ''))\n\
         s = connect(); print(s.recv(1))",
    );
    let expected = ["closed", "closed", "closed", "E", "closed", "b'N'", "vRKZ", "b''"];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_ends_every_session_at_once() {
    let Some(postgres) = Postgres::start("a_revocation_ends_every_session_at_once") else { return };
    let scene = Scene::with(&postgres).await;
    let waits = std::thread::scope(|threads| {
        let plugin = threads
            .spawn(|| scene.python("s = connect(); s.sendall(startup()); until(s, 'Z'); print(s.recv(1))"));
        eventually("the session is there", || (postgres.run_sql("postgres", SESSIONS) != "0").then_some(()));
        let revoke = scene.host.revoke(NAME, vec![("database".into(), "postgres".into())], "ada");
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(revoke)).unwrap();
        eventually("no session is left", || (postgres.run_sql("postgres", SESSIONS) == "0").then_some(()));
        plugin.join()
    });
    // The plugin was ended with its sessions, so perhaps nobody was left to say so.
    drop(waits);
    let running = until_state(&scene.host, NAME, PluginState::Running).await;
    assert!(scene.url().starts_with("sqlite:"), "{running:?}");
    scene.end().await;
}
