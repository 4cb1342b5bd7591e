//! `temps plugin build` with dependencies: what it makes runs where nothing can be fetched and nothing is installed.

use std::process::Command;

use temps_testkit::skip;

use super::developing::it_works_on_a_daemon;
use super::{Desk, edit, has, run, with_tools};

#[test]
fn a_node_plugin_with_a_native_module_is_a_directory_that_holds_it() {
    const NAME: &str = "a_node_plugin_with_a_native_module_is_a_directory_that_holds_it";
    if !has("npm", "--version") {
        return skip(NAME, "needs npm");
    }
    let desk = Desk::new();
    let project = desk.project("native", "node", &[]);
    // Its native part is a package of its own for each system, as with most modules that are written in Rust.
    let mut npm = with_tools(Command::new("npm"));
    npm.args(["install", "--no-audit", "--no-fund", "@node-rs/crc32@1.10.6"]).current_dir(&project);
    let installed = run(&mut npm);
    if installed.code != 0 {
        return skip(NAME, &format!("npm cannot install @node-rs/crc32: {}", installed.stderr.trim()));
    }
    let imported = "import { crc32 } from \"@node-rs/crc32\";\nimport { Plugin }";
    let summed = "project: lastProject, sum: crc32(lastProject) }";
    let changes = [("import { Plugin }", imported), ("project: lastProject }", summed)];
    edit(&project.join("plugin.ts"), &changes);
    let built = desk.build(&project);
    assert!(built.join("node_modules/@node-rs/crc32").is_dir(), "{built:?}");
    let answer = it_works_on_a_daemon(&built, "native");
    // The sum of \"my-app\".
    assert!(answer.contains("\"sum\":2501763495"), "{answer}");
}

#[test]
fn packages_of_a_quick_build_are_kept_for_the_next_one() {
    const NAME: &str = "packages_of_a_quick_build_are_kept_for_the_next_one";
    if !has("pip3", "--version") {
        return skip(NAME, "needs pip");
    }
    let desk = Desk::new();
    let project = desk.project("packed", "python", &[]);
    // A package of this machine, so that nothing has to be fetched.
    let package = desk.place.path().join("tiny");
    std::fs::create_dir(&package).unwrap();
    let described = "[build-system]\nrequires = []\nbuild-backend = \"backend\"\nbackend-path = [\".\"]\n\
                     [project]\nname = \"tiny\"\nversion = \"1\"\n";
    std::fs::write(package.join("pyproject.toml"), described).unwrap();
    std::fs::write(package.join("backend.py"), BACKEND).unwrap();
    let wanted = format!("dependencies = [\"tiny @ file://{}\"]", package.display());
    let text = std::fs::read_to_string(project.join("pyproject.toml")).unwrap();
    let line = text.lines().find(|line| line.starts_with("dependencies")).unwrap();
    edit(&project.join("pyproject.toml"), &[(line, &wanted)]);
    let built = desk.build(&project);
    assert!(built.join("lib/tiny.py").is_file(), "{built:?}");
    // It is not asked for again.
    std::fs::remove_dir_all(&package).unwrap();
    let again = desk.build(&project);
    assert!(again.join("lib/tiny.py").is_file(), "{again:?}");
    it_works_on_a_daemon(&again, "packed");
}

/// Builds a wheel with one empty module, without any package.
const BACKEND: &str = r#"
import zipfile

def build_wheel(directory, config_settings=None, metadata_directory=None):
    name = "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(directory + "/" + name, "w") as wheel:
        wheel.writestr("tiny.py", "")
        wheel.writestr("tiny-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1\n")
        wheel.writestr("tiny-1.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.dist-info/RECORD", "")
    return name
"#;
