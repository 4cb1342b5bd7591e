//! `temps serve`: how it starts, what it leaves behind, and what signals do.

use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;
use temps_testkit::daemon::{Daemon, empty_home, eventually, home_with_hello, state, temps};

#[test]
fn a_first_start_makes_a_token_only_its_owner_can_read() {
    let daemon = Daemon::start();
    let mode = std::fs::metadata(state(daemon.home.path(), "admin-token")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(daemon.login_url.starts_with(&daemon.url), "{} {}", daemon.login_url, daemon.url);
}

#[test]
fn on_the_daemons_machine_a_command_needs_no_address_and_no_token() {
    let home = home_with_hello();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    std::fs::write(home.path().join("temps.toml"), format!("listen = \"127.0.0.1:{port}\"\n")).unwrap();
    let daemon = Daemon::start_in(home, &["--listen", &format!("127.0.0.1:{port}")]);
    let output = temps(daemon.home.path()).args(["plugin", "list"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn sighup_takes_over_valid_settings_and_keeps_the_old_ones_otherwise() {
    let daemon = Daemon::start();
    let settings = daemon.home.path().join("temps.toml");
    std::fs::write(&settings, "[health]\nintervall = \"5s\"\n").unwrap();
    daemon.signal(Signal::HUP);
    eventually("the mistake is in the log", || daemon.log().contains("intervall").then_some(()));
    std::fs::write(&settings, "[health]\ninterval = \"5s\"\n").unwrap();
    daemon.signal(Signal::HUP);
    eventually("the settings are taken over", || daemon.log().contains("settings reloaded").then_some(()));
    assert_eq!(daemon.run(&["plugin", "list"]).code, 0, "it still answers");
}

#[test]
fn settings_that_make_no_sense_keep_it_from_starting() {
    let home = empty_home();
    std::fs::write(home.path().join("temps.toml"), "\nlisten = \"here\"\n").unwrap();
    let output = temps(home.path()).arg("serve").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("temps.toml:2:"), "the line is named: {said}");
}

#[test]
fn two_daemons_never_share_a_state() {
    let daemon = Daemon::start();
    let output = temps(daemon.home.path()).args(["serve", "--listen", "127.0.0.1:0"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("another"), "it says why: {said}");
}
