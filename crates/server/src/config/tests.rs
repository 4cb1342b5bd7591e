//! What settings are read, and which are refused.

use super::*;

fn surroundings(dir: &std::path::Path, file: &str) -> Surroundings {
    std::fs::write(dir.join("temps.toml"), file).unwrap();
    let env = BTreeMap::from([("TEMPS_HOME".to_owned(), dir.display().to_string())]);
    Surroundings { env, ..Surroundings::default() }
}

#[test]
fn the_command_line_beats_the_environment_which_beats_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut from = surroundings(dir.path(), "listen = \"127.0.0.1:1\"\n[grants]\ndefault = \"hold\"\n");
    assert_eq!(Config::load(&from).unwrap().listen.port(), 1);
    assert_eq!(Config::load(&from).unwrap().grants_default, GrantsDefault::Hold);
    from.env.insert("TEMPS_LISTEN".into(), "127.0.0.1:2".into());
    assert_eq!(Config::load(&from).unwrap().listen.port(), 2);
    from.overrides.listen = Some("127.0.0.1:3".parse().unwrap());
    assert_eq!(Config::load(&from).unwrap().listen.port(), 3);
}

#[test]
fn only_this_machine_is_listened_to_unless_told_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::load(&surroundings(dir.path(), "")).unwrap();
    assert!(config.listen.ip().is_loopback());
    assert_eq!(config.grants_default, GrantsDefault::Allow);
}

#[test]
fn a_misspelled_key_is_refused_with_its_line_and_what_was_meant() {
    let dir = tempfile::tempdir().unwrap();
    let error =
        Config::load(&surroundings(dir.path(), "# mine\n[health]\nintervall = \"5s\"\n")).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("temps.toml:3: "), "{text}");
    assert!(text.contains("`intervall`") && text.contains("`interval`"), "{text}");
}

#[test]
fn settings_that_would_do_nothing_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = Config::load(&surroundings(dir.path(), "[limits]\nmemory = \"1G\"\n")).unwrap_err();
    assert!(error.to_string().contains("temps.toml:2: "), "{error}");
    for (file, expected) in [
        ("[limits]\nmemory_max = \"lots\"\n", "256M"),
        ("[limits]\ncpu_quota = 25\n", "string"),
        ("[limits]\ntasks_max = 1\n", "limits.tasks_max"),
        ("[sandbox.layers]\nfiels = \"require\"\n", "files"),
        ("[sandbox.layers]\nfiles = \"maybe\"\n", "prefer"),
    ] {
        let text = Config::load(&surroundings(dir.path(), file)).unwrap_err().to_string();
        assert!(text.contains(expected), "{file:?}: {text}");
    }
}

#[test]
fn a_wrong_value_is_refused_with_its_line_and_an_example() {
    let dir = tempfile::tempdir().unwrap();
    for (file, line, expected) in [
        ("\nlisten = \"here\"\n", 2, "127.0.0.1:6160"),
        ("[restart]\nbackoff_min = \"soon\"\n", 2, "500ms"),
        ("[grants]\n\ndefault = \"maybe\"\n", 3, "hold"),
        ("[health]\nfailures = 0\n", 2, "at least 1"),
        ("listen = \n", 1, ""),
    ] {
        let text = Config::load(&surroundings(dir.path(), file)).unwrap_err().to_string();
        assert!(text.contains(&format!("temps.toml:{line}: ")), "{file:?}: {text}");
        assert!(text.contains(expected), "{file:?}: {text}");
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = "[restart]\nbackoff_min = \"10s\"\nbackoff_max = \"1s\"\n";
    assert!(Config::load(&surroundings(dir.path(), file)).is_err());
    assert!(Config::load(&surroundings(dir.path(), "public_url = \"https://a.example/path\"")).is_err());
    assert!(Config::load(&surroundings(dir.path(), "plugins_dirs = [\"here\"]")).is_err());
}

#[test]
fn a_file_that_was_named_must_exist() {
    let dir = tempfile::tempdir().unwrap();
    let mut from = surroundings(dir.path(), "");
    from.overrides.config_file = Some(dir.path().join("other.toml"));
    assert!(matches!(Config::load(&from), Err(ConfigError::Unreadable { .. })));
}
