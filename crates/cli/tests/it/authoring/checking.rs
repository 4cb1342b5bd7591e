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

/// What check says of a path: exit code, and its findings as text.
fn said(desk: &Desk, path: &Path) -> (i32, String) {
    let ended = run(desk.temps().args(["--json", "plugin", "check"]).arg(path));
    let report = ended.json();
    (ended.code, report["findings"].to_string())
}

#[test]
fn what_cannot_be_started_is_explained_with_the_path_of_the_author() {
    let desk = Desk::new();
    let file = |name: &str, text: &str| {
        use std::os::unix::fs::PermissionsExt;
        let path = desk.place.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let cases = [
        ("windows", "#!/bin/sh\r\nsleep 60\r\n", "save the file with LF as line ends"),
        ("lost", "#!/usr/bin/env python4\n", "names the interpreter python4"),
        ("text", "echo manifest\n", "does not begin with #!"),
        ("short", "#!/bin/sh\necho gone >&2\nexit 3\n", "start it by hand"),
        (
            "typed",
            "#!/bin/sh\necho '{\"type\":\"manifest\",\"name\":\"typed\",\"version\":5}'\nsleep 60\n",
            "expected a string",
        ),
        ("python", "#!/usr/bin/env python3\nimport nothere\n", "No module named 'nothere'"),
    ];
    for (name, text, words) in cases {
        let path = file(name, text);
        let (code, findings) = said(&desk, &path);
        assert_eq!(code, 1, "{name}: {findings}");
        assert!(findings.contains(words), "{name}: {findings}");
        assert!(
            !findings.contains("/artifacts/") && !findings.contains("no_interpreter"),
            "{name}: {findings}"
        );
    }
}

#[test]
fn a_directory_is_looked_at_with_its_links_and_never_leads_elsewhere() {
    let desk = Desk::new();
    let tree = desk.place.path().join("it");
    std::fs::create_dir_all(tree.join("plugin")).unwrap();
    let (code, findings) = said(&desk, &tree);
    assert!(code == 1 && findings.contains("no_program"), "a directory is no program: {findings}");
    std::fs::remove_dir(tree.join("plugin")).unwrap();
    let line = r#"{"type":"manifest","name":"it","version":"1.0.0","description":"d","health_path":"/h","permissions":{},"egress":[]}"#;
    printing(&tree, "plugin", line, 0o755);
    // A link to the directory itself would be copied for ever.
    std::os::unix::fs::symlink(".", tree.join("loop")).unwrap();
    assert_eq!(said(&desk, &tree), (0, "[]".to_owned()));
    std::fs::write(desk.place.path().join("outside"), "").unwrap();
    std::os::unix::fs::symlink("../outside", tree.join("link")).unwrap();
    let (code, findings) = said(&desk, &tree);
    assert!(code == 1 && findings.contains("leads out of the plugin"), "{findings}");
    std::fs::remove_file(tree.join("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", tree.join("link")).unwrap();
    let (code, findings) = said(&desk, &tree);
    assert!(code == 1 && findings.contains("leads nowhere"), "{findings}");
}
