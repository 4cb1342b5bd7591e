//! Node: one bundled file with a shebang, or a directory once there is a page, or a module that cannot be bundled.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::author::build::{DIRECTORY_PROGRAM, cannot, copy_tree};
use crate::author::project::{Project, json_file};
use crate::author::tool;
use crate::exit::Failure;
use crate::output::Output;

/// The folder of a page.
const PAGE: &str = "ui";

/// Where the plugin's source is, unless `package.json` says it with `temps.main`.
const ENTRIES: &[&str] =
    &["plugin.ts", "plugin.mts", "plugin.js", "plugin.mjs", "src/plugin.ts", "src/plugin.js"];

/// The bundler, as npm installs it into a project.
const BUNDLER: &str = "node_modules/.bin/esbuild";

/// Most files of a dependency that are looked at to find out whether it is native.
const MAX_LOOKED_AT: usize = 20_000;

/// What runs a bundle whose source does not say it: the source's own first line, `#!/usr/bin/env bun` for example, stays the first.
const SHEBANG: &str = "#!/usr/bin/env node\n";

/// What `import.meta.url` stands for in a bundle.
const MODULE_URL: &str = "const __module_url = require(\"node:url\").pathToFileURL(__filename).href;";

/// Bundles the project to `made`.
pub(super) fn build(project: &Project, made: &Path, debug: bool, output: Output) -> Result<(), Failure> {
    let directory = &project.directory;
    let package = json_file(&directory.join("package.json"))?;
    let entry = entry(directory, &package)?;
    if !directory.join("node_modules").is_dir() {
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
    if external.is_empty() { Ok(()) } else { install(directory, &external, made, output) }
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
        if !external.contains(name) && is_native(&directory.join("node_modules").join(name)) {
            external.push(name.clone());
        }
    }
    external
}

fn is_native(module: &Path) -> bool {
    let mut open = vec![module.to_owned()];
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
            // A link leads to a package that is worked on beside this one, with tools of its own inside.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(path);
            }
        }
    }
    false
}

/// Installs what was left out of the bundle beside it, in the versions that the project has.
fn install(directory: &Path, external: &[String], made: &Path, output: Output) -> Result<(), Failure> {
    let mut wanted = serde_json::Map::new();
    for name in external {
        let installed = json_file(&directory.join("node_modules").join(name).join("package.json"))?;
        wanted.insert(name.clone(), installed["version"].clone());
    }
    let file = made.join("package.json");
    let text = json!({ "private": true, "dependencies": wanted }).to_string();
    fs::write(&file, text).map_err(|error| cannot(&file, &error))?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--omit=dev", "--no-audit", "--no-fund", "--no-package-lock", "--no-bin-links"]);
    tool::run(npm.current_dir(made), output)
}
