//! The PostgreSQL server of tests: what tests rely on when they kill it, restart it, or die themselves.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use temps_testkit::Postgres;
use temps_testkit::daemon::{eventually, runs};

fn postmaster(directory: &Path) -> u64 {
    let lock = std::fs::read_to_string(directory.join("data/postmaster.pid")).expect("the server runs");
    lock.lines().next().and_then(|pid| pid.parse().ok()).expect("its process id is in its lock file")
}

#[test]
fn what_was_written_is_there_after_a_kill_and_a_restart() {
    let Some(server) = Postgres::start("what_was_written_is_there_after_a_kill_and_a_restart") else {
        return;
    };
    let (one, two) = (server.fresh_database(), server.fresh_database());
    assert_ne!(one, two);
    server.run_sql(&one, "CREATE TABLE kept (id int); INSERT INTO kept VALUES (7)");
    server.kill();
    server.restart();
    assert_eq!(server.run_sql(&one, "SELECT id FROM kept"), "7");
    server.stop();
    server.restart();
    assert_eq!(server.run_sql(&one, "SELECT id FROM kept"), "7");
    let (pid, directory) = (postmaster(server.socket_dir()), server.socket_dir().to_owned());
    drop(server);
    assert!(!runs(pid));
    assert!(!directory.exists());
}

#[test]
fn nobody_gets_in_without_the_password() {
    let Some(server) = Postgres::shared("nobody_gets_in_without_the_password") else { return };
    let mut psql = Command::new("psql");
    psql.args(["-X", "-w", "-U", "postgres", "-p"]).arg(server.port().to_string());
    let ended =
        psql.arg("-h").arg(server.socket_dir()).args(["-c", "SELECT 1"]).output().expect("psql starts");
    assert!(String::from_utf8_lossy(&ended.stderr).contains("no password"), "{ended:?}");
}

#[test]
fn a_killed_test_leaves_no_server() {
    let me = std::env::current_exe().expect("this program has a path");
    let mut child = Command::new(me);
    child.args(["--ignored", "--exact", "a_test_that_waits_with_its_server", "--nocapture"]);
    let mut child = child.stdout(Stdio::piped()).spawn().expect("this program can be started");
    let lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines().map_while(Result::ok);
    let found = lines.map(|line| line.split("server in ").nth(1).map(PathBuf::from)).find_map(|found| found);
    let Some(directory) = found else {
        // The child has recorded what is missing.
        return child.wait().map(drop).expect("the child ends");
    };
    let pid = postmaster(&directory);
    kill_process(Pid::from_child(&child), Signal::KILL).expect("the child can be killed");
    child.wait().expect("the child ends");
    eventually("the server and its directory are gone", || (!runs(pid) && !directory.exists()).then_some(()));
}

#[test]
#[ignore = "the child of another test"]
fn a_test_that_waits_with_its_server() {
    let Some(server) = Postgres::start("a_killed_test_leaves_no_server") else { return };
    println!("server in {}", server.socket_dir().display());
    std::thread::park();
}
