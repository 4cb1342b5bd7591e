//! From the save of a source file to the new version running, under `temps plugin dev`, for a new project in each language.
//!
//! The projects are those of `temps plugin new`, and the time is what an author waits: from the write of the file until the
//! line that says that the new version is running. Its floor is the build in it, as the tool reports it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use crate::Outcome;
use crate::languages::{Language, built_node_sdk, checkout, require_all, run};
use crate::rig::beside;
use crate::stats::{Figure, Samples};

/// Edits of each project.
const EDITS: usize = 9;

/// How long a version may take to run; the first build of a project in Rust compiles all that it stands on.
const PATIENCE: Duration = Duration::from_secs(600);

pub(crate) async fn measure() -> Outcome<Vec<Figure>> {
    require_all()?;
    let temps = beside("temps")?;
    let mut figures = Vec::new();
    for language in Language::ALL {
        figures.push(edits(&temps, language).await?);
    }
    Ok(figures)
}

async fn edits(temps: &Path, language: Language) -> Outcome<Figure> {
    let place = tempfile::Builder::new().prefix("tb").tempdir()?;
    let project = Project::make(temps, language, place.path())?;
    let mut dev = Dev::start(temps, &project.directory)?;
    dev.until_ready("0.1.0").await?;
    let (mut waits, mut builds) = (Vec::new(), Vec::new());
    for edit in 1..=EDITS {
        let version = format!("0.1.{edit}");
        let text = project.text_of(&version);
        let begin = Instant::now();
        std::fs::write(&project.source, text)?;
        let build = dev.until_ready(&version).await?;
        waits.push(begin.elapsed().as_nanos() as u64);
        builds.push(build.as_nanos() as u64);
    }
    dev.end().await?;
    let millis = |nanos| Samples::from_nanos(nanos).quantile(0.5) / 1e6;
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    Ok(Figure::new(
        &format!("{}: save to running under plugin dev, median, temps built for {profile}", language.word()),
        "ms",
        millis(waits),
        "the build in it",
        millis(builds),
    ))
}

/// A new project, and the one file that is edited.
struct Project {
    directory: PathBuf,
    source: PathBuf,
    text: String,
    /// The version as it stands in the source.
    version: &'static str,
}

impl Project {
    fn make(temps: &Path, language: Language, place: &Path) -> Outcome<Self> {
        let name = format!("edit-{}", language.word());
        let directory = place.join(&name);
        let mut new = Command::new(temps);
        new.args(["--quiet", "plugin", "new", &name, "--lang", language.word(), "--sdk-path"]);
        run(new.arg(checkout()).arg("--dir").arg(&directory))?;
        if language == Language::Node {
            install_packages(&directory)?;
        }
        let (file, version) = match language {
            Language::Rust => ("src/main.rs", "env!(\"CARGO_PKG_VERSION\")"),
            Language::Python => ("plugin.py", "\"0.1.0\""),
            Language::Node => ("plugin.ts", "\"0.1.0\""),
            Language::Go => ("main.go", "\"0.1.0\""),
        };
        let source = directory.join(file);
        let text = std::fs::read_to_string(&source)?;
        if text.matches(version).count() != 1 {
            return Err(format!("{} does not say {version} once", source.display()).into());
        }
        Ok(Self { directory, source, text, version })
    }

    fn text_of(&self, version: &str) -> String {
        self.text.replace(self.version, &format!("\"{version}\""))
    }
}

/// What `npm install` does in a new project, with the packages that the SDK was built with, so that no registry is asked.
fn install_packages(project: &Path) -> Outcome<()> {
    let (sdk, own) = (built_node_sdk()?, project.join("node_modules"));
    std::fs::create_dir(&own)?;
    for name in ["esbuild", "@esbuild", ".bin"] {
        std::os::unix::fs::symlink(sdk.join("node_modules").join(name), own.join(name))?;
    }
    Ok(std::os::unix::fs::symlink(sdk, own.join("temps-plugin"))?)
}

/// A running `temps plugin dev`.
struct Dev {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Dev {
    fn start(temps: &Path, project: &Path) -> Outcome<Self> {
        let mut command = tokio::process::Command::new(temps);
        command
            .args(["--json", "--quiet", "plugin", "dev"])
            .arg(project)
            // What projects in Rust stand on is compiled once for all runs of the rig.
            .env("CARGO_TARGET_DIR", checkout().join("target/bench-dev"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let mut process = command.spawn()?;
        let lines = BufReader::new(process.stdout.take().ok_or("no stdout")?).lines();
        Ok(Self { process, lines })
    }

    /// Waits until a version runs, and returns how long its build took.
    async fn until_ready(&mut self, version: &str) -> Outcome<Duration> {
        let mut build = Duration::ZERO;
        loop {
            let line = tokio::time::timeout(PATIENCE, self.lines.next_line())
                .await
                .map_err(|_| format!("version {version} did not run in {} s", PATIENCE.as_secs()))??
                .ok_or_else(|| format!("`temps plugin dev` ended before version {version} ran"))?;
            let line: Value = serde_json::from_str(&line)?;
            match line["what"].as_str() {
                Some("built") => {
                    build = Duration::from_millis(line["milliseconds"].as_u64().unwrap_or_default());
                }
                Some("build_failed" | "problem") => return Err(format!("version {version}: {line}").into()),
                Some("ready") if line["version"] == version => return Ok(build),
                _ => {}
            }
        }
    }

    /// Ends it as Ctrl-C does.
    async fn end(mut self) -> Outcome<()> {
        let id = self.process.id().and_then(|id| i32::try_from(id).ok());
        let id = id.and_then(rustix::process::Pid::from_raw).ok_or("`temps plugin dev` has ended")?;
        rustix::process::kill_process(id, rustix::process::Signal::INT)?;
        self.process.wait().await?;
        Ok(())
    }
}
