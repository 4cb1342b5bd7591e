//! Node: one bundled file with a shebang, or a directory once there is a page, or a module that cannot be bundled.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::author::build::{DIRECTORY_PROGRAM, cannot, copy_tree, install};
use crate::author::project::{Project, json_file};
use crate::author::tool;
use crate::exit::Failure;
use crate::output::Output;

/// Where npm installs, and Node looks.
const MODULES: &str = "node_modules";

/// The folder of a page.
const PAGE: &str = "ui";

/// Where the plugin's source is, unless `package.json` says it with `temps.main`.
const ENTRIES: &[&str] =
    &["plugin.ts", "plugin.mts", "plugin.js", "plugin.mjs", "src/plugin.ts", "src/plugin.js"];

/// The bundler, as npm installs it into a project.
const BUNDLER: &str = "node_modules/.bin/esbuild";

/// Most files of a dependency that are looked at to find out whether it is native.
const MAX_LOOKED_AT: usize = 20_000;

/// Most packages behind one dependency that are looked at.
const MAX_PACKAGES: usize = 2_000;

/// What runs a bundle whose source does not say it: the source's own first line, `#!/usr/bin/env bun` for example, stays the first.
const SHEBANG: &str = "#!/usr/bin/env node\n";

/// What `import.meta.url` stands for in a bundle.
const MODULE_URL: &str = "const __module_url = require(\"node:url\").pathToFileURL(__filename).href;";

/// Bundles the project to `made`; `kept` has packages of the build before.
pub(super) fn build(
    project: &Project,
    made: &Path,
    debug: bool,
    kept: Option<&Path>,
    output: Output,
) -> Result<(), Failure> {
    let directory = &project.directory;
    let package = json_file(&directory.join("package.json"))?;
    let entry = entry(directory, &package)?;
    if lacks_packages(directory, &package) {
        let mut npm = Command::new("npm");
        tool::run(npm.args(["install", "--no-audit", "--no-fund"]).current_dir(directory), output)?;
    }
    if !directory.join(BUNDLER).is_file() {
        return Err(Failure::usage(format!("{} has no esbuild, which bundles plugins", directory.display()))
            .hint("npm install --save-dev esbuild"));
    }
    let external = external(directory, &package);
    let page = directory.join(PAGE);
    let is_tree = !external.is_empty() || page.is_dir();
    let bundle = if is_tree { made.join(DIRECTORY_PROGRAM) } else { made.to_owned() };
    let source = directory.join(&entry);
    let text = fs::read(&source).map_err(|error| cannot(&source, &error))?;
    let shebang = if text.starts_with(b"#!") { "" } else { SHEBANG };
    let mut esbuild = Command::new(directory.join(BUNDLER));
    esbuild
        .current_dir(directory)
        .args(["--bundle", "--platform=node", "--target=node20", "--format=cjs", "--log-level=warning"])
        .arg(format!("--banner:js={shebang}{MODULE_URL}"))
        // Not JavaScript's name for it, because a bundle is no module and has none.
        .args(["--define:import.meta.url=__module_url"])
        .arg(if debug { "--sourcemap=inline" } else { "--minify-syntax" })
        .args(external.iter().map(|name| format!("--external:{name}")))
        .arg(format!("--outfile={}", bundle.display()))
        .arg(entry);
    tool::run(&mut esbuild, output)?;
    if page.is_dir() {
        copy_tree(&page, &made.join(PAGE))?;
    }
    if external.is_empty() {
        return Ok(());
    }
    install_external(directory, &external, made, kept, output)
}

/// Whether something that the project names was not installed; a package may have been added since the last time.
fn lacks_packages(directory: &Path, package: &Value) -> bool {
    let named = ["dependencies", "devDependencies"].map(|kind| package[kind].as_object());
    let mut names = named.into_iter().flatten().flat_map(|names| names.keys());
    names.any(|name| !directory.join(MODULES).join(name).exists())
}

fn entry(directory: &Path, package: &Value) -> Result<PathBuf, Failure> {
    let said = package["temps"]["main"].as_str().map(PathBuf::from);
    let usual = || ENTRIES.iter().map(PathBuf::from).find(|path| directory.join(path).is_file());
    said.or_else(usual).ok_or_else(|| {
        Failure::usage(format!("{} has no plugin.ts or plugin.js, which is the plugin", directory.display()))
            .hint("put `\"temps\": {\"main\": \"FILE\"}` into package.json when it has another name")
    })
}

/// Dependencies that stay outside of the bundle: native ones, and those that the project names.
fn external(directory: &Path, package: &Value) -> Vec<String> {
    let named = package["temps"]["external"].as_array().into_iter().flatten();
    let mut external: Vec<String> = named.filter_map(Value::as_str).map(str::to_owned).collect();
    for name in package["dependencies"].as_object().into_iter().flat_map(|names| names.keys()) {
        if !external.contains(name) && needs_native(&directory.join(MODULES), name) {
            external.push(name.clone());
        }
    }
    external
}

/// Whether a package, or one that it needs, is native. Many keep the native part in a package for each system, which the one
/// that has its name needs if it can be had.
fn needs_native(modules: &Path, name: &str) -> bool {
    let mut open = vec![modules.join(name)];
    let mut seen = BTreeSet::new();
    while let Some(package) = open.pop() {
        if !seen.insert(package.clone()) || seen.len() > MAX_PACKAGES {
            continue;
        }
        if is_native(&package) {
            return true;
        }
        let needs = json_file(&package.join("package.json")).unwrap_or_default();
        let kinds = ["dependencies", "optionalDependencies"].map(|kind| needs[kind].as_object());
        for needed in kinds.into_iter().flatten().flat_map(|names| names.keys()) {
            // Beside the others, or inside of the package when versions differ.
            let places = [package.join(MODULES).join(needed), modules.join(needed)];
            open.extend(places.into_iter().find(|place| place.is_dir()));
        }
    }
    false
}

fn is_native(package: &Path) -> bool {
    let mut open = vec![package.to_owned()];
    let mut looked_at = 0;
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            looked_at += 1;
            if looked_at > MAX_LOOKED_AT {
                return false;
            }
            let (path, name) = (entry.path(), entry.file_name());
            if name == "binding.gyp" || path.extension().is_some_and(|extension| extension == "node") {
                return true;
            }
            // Other packages inside are looked at when this one needs them; tools that it is worked on with are not its part.
            if name != MODULES && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(path);
            }
        }
    }
    false
}

/// Installs what was left out of the bundle beside it, in the versions that the project has.
fn install_external(
    directory: &Path,
    external: &[String],
    made: &Path,
    kept: Option<&Path>,
    output: Output,
) -> Result<(), Failure> {
    let mut wanted = serde_json::Map::new();
    for name in external {
        let installed = json_file(&directory.join(MODULES).join(name).join("package.json"))?;
        wanted.insert(name.clone(), installed["version"].clone());
    }
    let wanted = json!({ "private": true, "dependencies": wanted }).to_string();
    install(&wanted, &made.join(MODULES), kept, |modules| {
        // npm installs below the file that names what it installs.
        let root = modules.parent().unwrap_or(modules);
        let file = root.join("package.json");
        fs::write(&file, &wanted).map_err(|error| cannot(&file, &error))?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--omit=dev", "--no-audit", "--no-fund", "--no-package-lock", "--no-bin-links"]);
        tool::run(npm.current_dir(root), output)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_native_also_by_what_it_needs() {
        let place = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = place.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("own/build/Release/own.node", "");
        put("gyp/binding.gyp", "");
        put("split/package.json", r#"{"optionalDependencies": {"@split/linux": "1", "@split/other": "1"}}"#);
        put("@split/linux/split.node", "");
        put("above/package.json", r#"{"dependencies": {"split": "1", "circle": "1"}}"#);
        put("circle/package.json", r#"{"dependencies": {"circle": "1"}, "devDependencies": {"gyp": "1"}}"#);
        put("nested/package.json", r#"{"dependencies": {"circle": "1"}}"#);
        put("nested/node_modules/circle/c.node", "");
        put("tools/node_modules/tool/t.node", "");
        for (name, is) in [
            ("own", true),
            ("gyp", true),
            ("split", true),
            ("above", true),
            ("nested", true),
            ("circle", false),
            ("tools", false),
            ("absent", false),
        ] {
            assert_eq!(needs_native(place.path(), name), is, "{name}");
        }
    }
}
