//! `temps plugin check`: what a host would refuse in a built plugin, and what an operator would ask about, with the reason and
//! the way out of each.
//!
//! The file is looked at as discovery does, and its manifest is read as inspection does: by a host that runs it in the sandbox
//! of inspections and holds it afterwards. `lint` judges the manifest.

mod inspection;
mod lint;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use temps_host::discovery::{DIRECTORY_PROGRAM, scan};

use self::inspection::Inspection;
use super::build;
use super::project::Project;
use crate::exit::{Exit, Failure};
use crate::output::{Output, plain_lines};

/// Size from which on a plugin is large, in bytes: copying it takes a noticeable part of a start.
const LARGE: u64 = 512 * 1024 * 1024;

/// What is checked.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// A built plugin (file or directory), or a project, which is built first
    #[arg(value_name = "PATH", default_value = ".")]
    path: PathBuf,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Level {
    /// A host does not run it like this.
    Error,
    /// It runs, and something is probably not meant.
    Warning,
    /// Worth knowing.
    Note,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) level: Level,
    /// Short stable name.
    pub(super) code: &'static str,
    /// What was found.
    pub(super) message: String,
    /// Why it matters and what to do.
    pub(super) advice: String,
}

/// Everything that was found.
#[derive(Debug, Serialize)]
struct Report {
    path: PathBuf,
    /// Name and version, when the manifest could be read.
    plugin: Option<String>,
    findings: Vec<Finding>,
}

/// Checks; a finding that keeps the plugin from running is a failure.
pub(super) fn run(arguments: &Arguments, output: Output) -> Result<(), Failure> {
    let draft = tempfile::tempdir().map_err(|error| build::cannot(Path::new("/tmp"), &error))?;
    let path = built(&arguments.path, draft.path(), output)?;
    let mut findings = packaging(&path);
    let mut plugin = None;
    // What a host would not start is not asked.
    if findings.iter().all(|finding| finding.level != Level::Error) {
        match inspection::inspect(&path)? {
            Inspection::Refused { reason, printed } => {
                // A host says the same about an interpreter that is not there.
                findings.retain(|finding| finding.code != "no_interpreter");
                findings.push(lint::refused(&reason, &printed, &path));
            }
            Inspection::Read { manifest, line } => {
                plugin = Some(format!("{} {}", manifest.name, manifest.version));
                findings.extend(lint::manifest(&manifest, &line, &path));
            }
        }
    }
    findings.sort_by_key(|finding| finding.level);
    let report = Report { path, plugin, findings };
    let errors = report.findings.iter().filter(|finding| finding.level == Level::Error).count();
    output.data(&report, text)?;
    if errors == 0 {
        return Ok(());
    }
    let message = format!("{errors} finding(s) keep {} from running on a host", report.path.display());
    Err(Failure::new(Exit::Failure, "check_failed", message))
}

/// The plugin to look at: the path itself, or what its project is built to.
fn built(path: &Path, draft: &Path, output: Output) -> Result<PathBuf, Failure> {
    let path = path.canonicalize().map_err(|error| {
        let message = format!("cannot look at {}: {error}", path.display());
        Failure::new(Exit::NotFound, "no_path", message)
    })?;
    if !path.is_dir() || path.join(DIRECTORY_PROGRAM).is_file() {
        return Ok(path);
    }
    match Project::find(&path) {
        Ok(project) => Ok(build::build(&project, draft, true, output)?.path),
        Err(failure) if failure.exit == Exit::NotFound => Ok(path),
        Err(failure) => Err(failure),
    }
}

/// What discovery would say of the file.
fn packaging(path: &Path) -> Vec<Finding> {
    let error =
        |code, message: String, advice: String| Finding { level: Level::Error, code, message, advice };
    let program = if path.is_dir() { path.join(DIRECTORY_PROGRAM) } else { path.to_owned() };
    let metadata = std::fs::metadata(&program).ok().filter(std::fs::Metadata::is_file);
    let Some(metadata) = metadata else {
        let missing = if path.is_dir() {
            format!("{} has no file named {DIRECTORY_PROGRAM}", path.display())
        } else {
            format!("{} is neither a file nor a directory", path.display())
        };
        return vec![error(
            "no_program",
            missing,
            "a directory is a plugin when an executable of that name lies in it; `temps plugin build` makes one".into(),
        )];
    };
    let mut findings = Vec::new();
    if metadata.permissions().mode() & 0o111 == 0 {
        findings.push(error(
            "not_executable",
            format!("{} is not executable, so that no host takes it for a plugin", program.display()),
            format!("chmod +x {}", program.display()),
        ));
    }
    if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
        findings.push(error(
            "hidden",
            "its name begins with a dot; hosts pass over hidden files".into(),
            "give it another name".into(),
        ));
    }
    let parent = path.parent().unwrap_or(Path::new("/")).to_owned();
    let found = scan(&[parent]).found.remove(path);
    if let Some(reason) = found.and_then(|found| found.refusal) {
        let advice =
            "a host runs nothing that somebody else could change between its inspection and its start".into();
        findings.push(error("not_safe", reason, advice));
    }
    findings.extend(interpreter(&program));
    findings.extend(size(path));
    findings
}

/// A host copies what it runs, at each change.
fn size(path: &Path) -> Option<Finding> {
    let bytes = build::size(path).ok().filter(|bytes| *bytes > LARGE)?;
    Some(Finding {
        level: Level::Warning,
        code: "large",
        message: format!("it has {} MiB", bytes / (1024 * 1024)),
        advice: "a host reads and copies all of it before each new version starts; leave out what the plugin does not need"
            .into(),
    })
}

/// A script whose interpreter is not there ends with a message that names the script, which confuses everybody.
fn interpreter(program: &Path) -> Option<Finding> {
    use std::io::Read;
    let mut head = Vec::new();
    std::fs::File::open(program).ok()?.take(256).read_to_end(&mut head).ok()?;
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line).into_owned();
    let mut words = line.split_whitespace();
    let interpreter = words.next()?;
    let missing = match (interpreter.rsplit('/').next(), words.next()) {
        (Some("env"), Some(name)) if !name.starts_with('-') => {
            let places = temps_host::plugin::process::PLUGIN_PATH.split(':');
            (!places.clone().any(|place| Path::new(place).join(name).is_file()))
                .then(|| format!("{name}, which is in none of {}", places.collect::<Vec<_>>().join(", ")))
        }
        _ => (!Path::new(interpreter).is_file()).then(|| interpreter.to_owned()),
    }?;
    Some(Finding {
        level: Level::Warning,
        code: "no_interpreter",
        message: format!("its first line asks for {missing}"),
        advice: "install it on the machine of the host where plugins can find it, or build a plugin that needs none"
            .into(),
    })
}

fn text(report: &Report) -> String {
    let mut text = match &report.plugin {
        Some(plugin) => format!("{plugin} ({})\n", report.path.display()),
        None => format!("{}\n", report.path.display()),
    };
    for finding in &report.findings {
        let level = match finding.level {
            Level::Error => "error  ",
            Level::Warning => "warning",
            Level::Note => "note   ",
        };
        text.push_str(&format!(
            "{level}  {}: {}\n         {}\n",
            finding.code, finding.message, finding.advice
        ));
    }
    if report.findings.is_empty() {
        text.push_str("nothing to say: a host runs it\n");
    }
    plain_lines(&text)
}
