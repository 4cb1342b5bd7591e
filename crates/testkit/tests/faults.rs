//! Short runs of faults, as `make faults` makes long ones: real daemons, plugins and databases are killed while events flow.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may stop it")]

use std::process::Command;

use temps_testkit::binaries::{built_example, built_executable};

/// Exit code of a run that this machine cannot make.
const IMPOSSIBLE: i32 = 3;

/// Makes a run that must end well; `None` when this machine cannot make it.
fn run(test: &str, words: &[&str]) -> Option<String> {
    built_executable("temps-cli", "temps");
    built_example("temps-plugin-sdk", "ledger");
    let ended = Command::new(env!("CARGO_BIN_EXE_temps-faults")).args(words).output().unwrap();
    let said = String::from_utf8(ended.stdout).unwrap();
    let complaint = String::from_utf8(ended.stderr).unwrap();
    if ended.status.code() == Some(IMPOSSIBLE) {
        // The runner of PostgreSQL has recorded by itself that there is none.
        if !complaint.contains("PostgreSQL") {
            temps_testkit::skip(test, complaint.trim());
        }
        return None;
    }
    assert!(ended.status.success(), "{said}\n{complaint}");
    Some(said)
}

#[test]
fn nothing_is_lost_on_sqlite_while_hosts_and_plugins_are_killed_and_the_disk_is_full() {
    let words = ["EVENTS=300", "HOST_KILLS=3", "PLUGIN_KILLS=6", "PLUGIN_STOPS=3", "FULL_DISKS=2"];
    let Some(said) = run("nothing_is_lost_on_sqlite", &words) else { return };
    assert!(said.starts_with("seed ") && said.contains("quarantine is off"), "{said}");
    // A disk that is filled when everything is confirmed already meets no publish, and is counted apart.
    for fault in ["3 × host killed", "6 × plugin killed", "3 × plugin stopped, then killed", " × disk filled"]
    {
        assert!(said.contains(fault), "{fault}: {said}");
    }
    assert!(said.contains("disk_full"), "no publish met a full disk: {said}");
}

#[test]
fn nothing_is_lost_on_postgresql_while_hosts_plugins_connections_and_the_server_are_killed() {
    let words = [
        "STORE=postgres",
        "EVENTS=200",
        "HOST_KILLS=2",
        "PLUGIN_KILLS=3",
        "PLUGIN_STOPS=0",
        "FULL_DISKS=0",
        "CONNECTION_KILLS=2",
        "SERVER_KILLS=1",
    ];
    let Some(said) = run("nothing_is_lost_on_postgresql", &words) else { return };
    for fault in ["2 × host killed", "2 × database connections ended", "1 × database server killed"] {
        assert!(said.contains(fault), "{fault}: {said}");
    }
}

#[test]
fn a_run_that_is_not_understood_says_what_there_is() {
    let ended = Command::new(env!("CARGO_BIN_EXE_temps-faults")).arg("KILLS=7").output().unwrap();
    assert_eq!(ended.status.code(), Some(2));
    assert!(String::from_utf8(ended.stderr).unwrap().contains("HOST_KILLS"));
}
