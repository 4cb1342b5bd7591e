//! `temps plugin check`: each mistake that a beginner makes is found and explained.

use std::path::{Path, PathBuf};

use super::{Desk, run};

/// A plugin that prints a line and waits.
fn printing(directory: &Path, name: &str, line: &str, mode: u32) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = directory.join(name);
    std::fs::write(&path, format!("#!/bin/sh\necho '{line}'\nexec sleep 60\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn check_finds_each_planted_problem_and_leaves_a_good_plugin_alone() {
    let desk = Desk::new();
    let place = desk.place.path();
    let manifest = |more: &str| format!(r#"{{"type":"manifest","name":"it","version":"1.0.0"{more}}}"#);
    let good = r#","description":"d","health_path":"/h","permissions":{},"egress":[]"#;
    let cases = [
        (manifest(good), 0o755, 0, None),
        (manifest(good), 0o644, 1, Some("not_executable")),
        (manifest(good), 0o777, 1, Some("not_safe")),
        (manifest(&format!(r#"{good},"evnets":["a.b"]"#)), 0o755, 0, Some("unknown_field")),
        (manifest(&format!(r#"{good},"events":["*"]"#)), 0o755, 0, Some("events_too_wide")),
        (manifest(&format!(r#"{good},"public_paths":["/hook"]"#)), 0o755, 0, Some("needs_grants")),
        (manifest(&format!(r#"{good},"config":{{"type":5}}"#)), 0o755, 1, Some("refused")),
        (
            manifest(&format!(
                r#"{good},"nav":[{{"label":"a","icon":"b","section":"platform","path":"x","order":1}}]"#
            )),
            0o755,
            1,
            Some("refused"),
        ),
        (manifest(""), 0o755, 0, Some("egress_too_wide")),
        (manifest(good).replace(r#""it""#, r#""temps""#), 0o755, 1, Some("refused")),
        (manifest(good).replace(r#""it""#, r#""other""#), 0o755, 0, Some("name_differs")),
        ("starting up".to_owned(), 0o755, 1, Some("printed_first")),
    ];
    for (line, mode, code, finding) in cases {
        let path = printing(place, "it", &line, mode);
        let ended = run(desk.temps().args(["--json", "plugin", "check"]).arg(&path));
        assert_eq!(ended.code, code, "{line}: {ended:?}");
        let report = ended.json();
        let codes: Vec<_> =
            report["findings"].as_array().unwrap().iter().map(|one| one["code"].as_str().unwrap()).collect();
        match finding {
            Some(finding) => assert!(codes.contains(&finding), "{line}: {ended:?}"),
            None => assert!(codes.is_empty(), "{line}: {ended:?}"),
        }
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn check_looks_at_what_a_project_is_built_to() {
    let desk = Desk::new();
    let project = desk.project("tidy", "python", &[]);
    let ended = run(desk.temps().args(["--json", "plugin", "check"]).arg(&project));
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.json()["plugin"], "tidy 0.1.0");
    assert_eq!(ended.json()["findings"], serde_json::json!([]), "{ended:?}");
}
