//! Databases of plugins by command: which one a plugin has is granted, shown and taken away, and no credential is seen.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;
use temps_testkit::binaries::built_executable;
use temps_testkit::daemon::{Daemon, empty_home, eventually};
use temps_testkit::{Behaviour, Postgres, unruly};

const NAME: &str = "keeper";

fn mode(file: &Path, mode: u32) {
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn an_operator_gives_a_database_on_a_server_sees_it_and_removes_it() {
    let test = "an_operator_gives_a_database_on_a_server_sees_it_and_removes_it";
    let Some(postgres) = Postgres::start(test) else { return };
    let home = empty_home();
    let settings = home.path().join("temps.toml");
    std::fs::write(&settings, format!("[plugin_databases]\npostgres_url = \"{}\"\n", postgres.url("")))
        .unwrap();
    mode(&settings, 0o600);
    std::fs::create_dir(home.path().join("plugins")).unwrap();
    let mut order = Behaviour::honest(NAME);
    order.manifest.insert("requires_db".into(), json!(true));
    unruly::install(&built_executable("temps-testkit", "unruly"), &home.path().join("plugins"), NAME, &order)
        .unwrap();
    let daemon = Daemon::start_in(home, &[]);
    let info = daemon.wait_for(NAME, "running");
    assert_eq!(
        (&info["database"]["engine"], &info["database"]["reachable"]),
        (&json!("sqlite"), &json!(true))
    );

    daemon.json(&["plugin", "grant", NAME, "database=postgres"]);
    eventually("the plugin runs with a database on the server", || {
        let info = daemon.json(&["plugin", "info", NAME]);
        (info["state"] == "running" && info["database"]["reachable"] == true).then_some(())
    });
    let shown = daemon.run(&["plugin", "info", NAME]).stdout;
    assert!(
        shown.contains(&format!("postgres, temps_keeper at 127.0.0.1:{}; can be reached", postgres.port())),
        "{shown}"
    );
    let checked = daemon.run(&["--json", "doctor"]);
    let status = |name: &str| {
        let checks = checked.json()["checks"].as_array().unwrap().clone();
        let check = checks.into_iter().find(|check| check["name"] == name);
        check.unwrap_or_else(|| panic!("no check {name}: {checked:?}"))["status"].clone()
    };
    for name in ["settings", "plugin databases", "database of keeper"] {
        assert_eq!(status(name), "ok", "{name}: {checked:?}");
    }

    let refused = daemon.run(&["--json", "plugin", "drop-database", NAME]);
    assert_eq!(refused.code, 2, "{refused:?}");
    let refused = daemon.run(&["--json", "plugin", "drop-database", NAME, "--yes"]);
    assert!(refused.error()["message"].as_str().unwrap().contains("revoke"), "{refused:?}");
    daemon.json(&["plugin", "revoke", NAME, "database=postgres"]);
    daemon.json(&["plugin", "drop-database", NAME, "--yes"]);
    let left = "SELECT count(*) FROM pg_database WHERE datname = 'temps_keeper'";
    assert_eq!(postgres.run_sql("postgres", left), "0");

    mode(&settings, 0o644);
    let exposed = daemon.run(&["--json", "doctor"]);
    let all = [daemon.log(), shown, format!("{checked:?}"), format!("{exposed:?}")].concat();
    assert!(!all.contains(postgres.password()), "a credential was shown");
    assert!(exposed.stdout.contains("others can read it"), "{exposed:?}");
}
