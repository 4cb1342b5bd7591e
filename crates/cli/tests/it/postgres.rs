//! The daemon on a PostgreSQL server: two hosts on one database, a server that is killed, and no password in sight.

use temps_testkit::Postgres;
use temps_testkit::daemon::{Daemon, eventually, home_with_hello, temps};

/// A home with `hello` whose settings name a database and a node.
fn home(server: &Postgres, database: &str, node: &str) -> tempfile::TempDir {
    let home = home_with_hello();
    let settings = format!("database = \"{}\"\nnode = \"{node}\"\n", server.url(database));
    let file = home.path().join("temps.toml");
    std::fs::write(&file, settings).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    home
}

/// Reports a deployment; a server that is away for a moment makes the command fail, and then it is run again.
fn report(daemon: &Daemon, id: &str) {
    eventually("the deployment is reported", || {
        let report = ["deployment", "report", "--project", "shop", "--external-id", id, "--state", "ready"];
        (daemon.run(&report).code == 0).then_some(())
    });
}

/// The ids of the events that `hello` asks for; `None` while the daemon cannot say.
fn events_for_hello(daemon: &Daemon) -> Option<Vec<String>> {
    let listed = daemon.run(&["--json", "event", "list", "--type", "deployment.*", "--limit", "1000"]);
    let found = (listed.code == 0).then(|| listed.json())?;
    found["items"].as_array()?.iter().map(|event| Some(event["id"].as_str()?.to_owned())).collect()
}

/// Waits until `hello` of this daemon has settled all these events.
fn hello_gets(daemon: &Daemon, events: &[String]) {
    eventually("hello settles every event", || {
        let list =
            ["--json", "delivery", "list", "--plugin", "hello", "--state", "settled", "--limit", "1000"];
        let listed = daemon.run(&list);
        let found = (listed.code == 0).then(|| listed.json())?;
        let settled = found["items"].as_array().or_else(|| found.as_array())?;
        events.iter().all(|id| settled.iter().any(|delivery| delivery["event_id"] == **id)).then_some(())
    });
}

#[test]
fn two_daemons_share_a_database_and_each_delivers_what_both_publish() {
    let test = "two_daemons_share_a_database_and_each_delivers_what_both_publish";
    let Some(server) = Postgres::shared(test) else { return };
    let database = server.fresh_database();
    let one = Daemon::start_in(home(server, &database, "eu-1"), &[]);
    let two = Daemon::start_in(home(server, &database, "eu-2"), &[]);
    one.wait_for("hello", "running");
    two.wait_for("hello", "running");
    report(&one, "ci-1");
    report(&two, "ci-2");
    let events = events_for_hello(&one).unwrap();
    assert!(events.len() >= 2, "{events:?}");
    hello_gets(&one, &events);
    hello_gets(&two, &events);

    // A third one under a name that is taken is refused, and says what to do.
    let third = home(server, &database, "eu-1");
    let refused = temps(third.path()).args(["serve", "--listen", "127.0.0.1:0"]).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("eu-1") && said.contains("`node`"), "{said}");

    let doctor = one.run(&["doctor"]);
    assert!(doctor.stdout.contains("PostgreSQL"), "{doctor:?}");
    let trail = one.run(&["--json", "audit", "list"]);
    let arguments = std::fs::read(format!("/proc/{}/cmdline", one.process.id())).unwrap();
    let arguments = String::from_utf8_lossy(&arguments).into_owned();
    for shown in [one.log(), said, doctor.stdout, doctor.stderr, trail.stdout, arguments] {
        assert!(!shown.contains(server.password()), "the password is shown: {shown}");
    }
}

#[test]
fn a_daemon_outlives_its_database_and_delivers_everything_once_it_is_back() {
    let test = "a_daemon_outlives_its_database_and_delivers_everything_once_it_is_back";
    let Some(server) = Postgres::start_with(test, &["fsync=on"]) else { return };
    let daemon = Daemon::start_in(home(&server, &server.fresh_database(), "eu-1"), &[]);
    daemon.wait_for("hello", "running");
    for round in 0..3 {
        report(&daemon, &format!("before-{round}"));
        server.kill();
        let away = daemon.run(&["event", "list"]);
        assert!(away.code != 0 && away.stderr.contains("database"), "it says what is wrong: {away:?}");
        server.restart();
        report(&daemon, &format!("after-{round}"));
    }
    let events = eventually("the daemon answers", || events_for_hello(&daemon));
    assert!(events.len() >= 6, "{events:?}");
    hello_gets(&daemon, &events);
    daemon.wait_for("hello", "running");
}

#[test]
fn a_trail_on_a_server_is_verified_with_and_without_the_daemon_and_one_changed_byte_is_found() {
    let test = "a_trail_on_a_server_is_verified_with_and_without_the_daemon_and_one_changed_byte_is_found";
    let Some(server) = Postgres::shared(test) else { return };
    let database = server.fresh_database();
    let daemon = Daemon::start_in(home(server, &database, "eu-1"), &[]);
    daemon.wait_for("hello", "running");
    assert_eq!(daemon.json(&["audit", "verify"])["state"], "intact");
    let offline = || -> temps_testkit::daemon::Ended {
        let verify = ["--json", "audit", "verify", "--offline"];
        temps(daemon.home.path()).args(verify).output().unwrap().into()
    };
    let found = offline();
    assert_eq!((found.code, &found.json()["state"]), (0, &"intact".into()), "beside the daemon: {found:?}");
    assert!(found.json()["records"].as_u64().unwrap() >= 3, "{found:?}");
    let byte =
        "UPDATE temps.audit SET kind = 'plugin.starteD' WHERE kind = 'plugin.started' AND node = 'eu-1'";
    server.run_sql(&database, byte);
    for found in [offline(), daemon.run(&["--json", "audit", "verify"])] {
        assert_eq!(found.code, 6, "{found:?}");
        assert!(found.json()["wrong"]["message"].as_str().unwrap().contains("audit records"), "{found:?}");
        assert!(!format!("{found:?}").contains(server.password()));
    }
}
