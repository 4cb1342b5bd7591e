//! `temps plugin test`: shows what the conformance kit finds out about a plugin.
//!
//! The kit plays a host by itself; no daemon is asked, and nothing of the host's code is used.

use std::path::{Path, PathBuf};

use temps_conformance::{
    Entry, KitError, Level, Options, Outcome, PlayOptions, Playback, Played, Progress, Report, Verdict, Wait,
};

use crate::exit::{Exit, Failure};
use crate::output::{Output, plain, plain_lines, table};

/// What is to be tested, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The plugin: an executable file, or a directory with an executable `plugin`
    plugin: PathBuf,
    /// Only what is checked at this level: article, or the name of a feature (ack, reconnect, config, kv)
    #[arg(long = "level", value_name = "LEVEL")]
    levels: Vec<Level>,
    /// Only what is checked for this clause of PROTOCOL.md, for example H-1
    #[arg(long = "clause", value_name = "CLAUSE")]
    clauses: Vec<String>,
    /// Settings of the plugin as a JSON object, when it needs some that cannot be made up
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A path of the plugin's own that answers GET with 200, to see whether it asks for the auth secret
    #[arg(long = "route", value_name = "PATH")]
    routes: Vec<String>,
    /// Play this transcript (a recording, or one of the specification) against the plugin, instead of checking clauses
    #[arg(long = "transcript", value_name = "FILE", conflicts_with_all = ["levels", "clauses", "routes", "strict"])]
    transcripts: Vec<PathBuf>,
    /// Write the results as JUnit XML, too
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Count warnings as failures
    #[arg(long)]
    strict: bool,
}

/// Tests a plugin. Ends with 1 when it breaks a promise.
pub(crate) async fn run(arguments: Arguments, output: Output) -> Result<(), Failure> {
    let config = match &arguments.config {
        Some(file) => settings(file)?,
        None => serde_json::Map::new(),
    };
    if !arguments.transcripts.is_empty() {
        let (plugin, transcripts) = (arguments.plugin, arguments.transcripts);
        return play(PlayOptions { plugin, transcripts, config }, arguments.junit, output).await;
    }
    let options = Options {
        plugin: arguments.plugin,
        levels: arguments.levels,
        clauses: arguments.clauses,
        config,
        routes: arguments.routes,
    };
    let report = temps_conformance::run(&options, |progress| output.say(&step(&progress))).await;
    let report = report.map_err(|error| refusal(&error))?;
    write_junit(arguments.junit.as_deref(), || report.to_junit())?;
    output.data(&report, shown)?;
    verdict(&report, arguments.strict)
}

/// Writes the results for a CI system, if that is wanted.
pub(crate) fn write_junit(file: Option<&Path>, text: impl FnOnce() -> String) -> Result<(), Failure> {
    let Some(file) = file else { return Ok(()) };
    std::fs::write(file, text())
        .map_err(|error| Failure::other("junit", format!("{} cannot be written: {error}", file.display())))
}

/// Plays transcripts. Ends with 1 when the plugin does something else than what stands in one of them.
async fn play(options: PlayOptions, junit: Option<PathBuf>, output: Output) -> Result<(), Failure> {
    let told = |played: &Played| output.say(&format!("[{}] {}", played.outcome.word(), played.transcript));
    let playback = temps_conformance::play(&options, told).await.map_err(|error| refusal(&error))?;
    write_junit(junit.as_deref(), || playback.to_junit())?;
    output.data(&playback, played)?;
    let broken =
        playback.transcripts.iter().filter(|played| matches!(played.outcome, Outcome::Failed(_))).count();
    let not_run =
        playback.transcripts.iter().filter(|played| matches!(played.outcome, Outcome::NotRun { .. })).count();
    if broken > 0 {
        let message = format!("{} does something else than {broken} transcript(s) say", playback.plugin);
        return Err(Failure::other("not_conformant", message).hint("each is explained above, with its line"));
    }
    if not_run > 0 {
        let message = format!("{not_run} transcript(s) could not be played to the end");
        return Err(Failure::other("not_run", message).hint("the lines above say why"));
    }
    Ok(())
}

/// The table of all transcripts, and what differs in those that failed.
fn played(playback: &Playback) -> String {
    let rows = playback.transcripts.iter().map(|played| {
        [played.transcript.clone(), played.steps.to_string(), played.outcome.word().to_owned()]
    });
    let mut text = table(["TRANSCRIPT", "STEPS", "RESULT"], rows);
    for explained in playback.transcripts.iter().filter_map(Played::explain) {
        text.push_str("\n\n");
        text.push_str(&plain_lines(&explained));
    }
    text
}

fn step(progress: &Progress) -> String {
    let progress = match progress {
        Progress::Ended(ended) => ended,
        Progress::Waiting(Wait { scene, line, up_to_s }) => {
            return format!("[{scene}] waiting for the {line}, up to {up_to_s} s");
        }
    };
    let failed = if progress.failed == 0 { String::new() } else { format!(": {} failed", progress.failed) };
    format!("[{}/{}] {}{failed}", progress.done, progress.all, progress.scene)
}

fn settings(file: &PathBuf) -> Result<serde_json::Map<String, serde_json::Value>, Failure> {
    let unreadable =
        |why: String| Failure::usage(format!("{} cannot be used as settings: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| unreadable(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| unreadable(format!("it is not a JSON object: {error}")))
}

fn refusal(error: &KitError) -> Failure {
    let message = error.to_string();
    match error {
        KitError::Subject(temps_conformance::SubjectError::Absent { .. }) => {
            Failure::new(Exit::NotFound, "not_found", message)
        }
        KitError::Subject(_)
        | KitError::UnknownClause(_)
        | KitError::Settings(_)
        | KitError::Transcript(_) => Failure::usage(message),
        KitError::Place(_) => Failure::other("place", message),
    }
}

/// The table of all checks, the explanations of those that failed, and the sum.
pub(crate) fn shown(report: &Report) -> String {
    let mut text = table(["CLAUSE", "LEVEL", "RESULT", "CHECK"], report.entries.iter().map(row));
    for entry in report.entries.iter().filter(|entry| matches!(entry.verdict, Verdict::Failed(_))) {
        text.push_str("\n\nFAILED ");
        text.push_str(&plain_lines(&entry.explain().unwrap_or_default()));
    }
    for entry in report.entries.iter().filter(|entry| matches!(entry.verdict, Verdict::Warned(_))) {
        text.push_str("\n\nWARNED ");
        text.push_str(&plain_lines(&entry.explain().unwrap_or_default()));
    }
    let counts = &report.counts;
    let version = report.version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
    text.push_str(&format!(
        "\n\n{}: {} passed, {} failed, {} warned, {} not announced, {} not run, in {:.1} s",
        plain(&format!("{}{version}", report.plugin)),
        counts.passed,
        counts.failed,
        counts.warned,
        counts.not_announced,
        counts.not_run,
        std::time::Duration::from_millis(report.took_ms).as_secs_f64()
    ));
    text
}

fn row(entry: &Entry) -> [String; 4] {
    let note = match &entry.verdict {
        Verdict::NotAnnounced { reason } | Verdict::NotRun { reason } => format!(" ({reason})"),
        _ => String::new(),
    };
    let check = &entry.check;
    [
        check.clause.to_owned(),
        check.level.to_string(),
        entry.verdict.word().to_owned(),
        format!("{}{note}", check.expects),
    ]
}

/// Ends with 1 when a promise is broken, or a check could not be made.
pub(crate) fn verdict(report: &Report, strict: bool) -> Result<(), Failure> {
    let warned = if strict { report.counts.warned } else { 0 };
    let broken = report.counts.failed + warned;
    if broken > 0 {
        let clauses = report.failures().chain(report.warnings().take(warned)).map(|(check, _)| check.clause);
        let mut clauses: Vec<_> = clauses.collect();
        clauses.dedup();
        let message = format!("{} breaks {broken} promise(s), of {}", report.plugin, clauses.join(", "));
        return Err(Failure::other("not_conformant", message)
            .hint("each is explained above; `--clause` checks one of them alone"));
    }
    if !report.conformant {
        let message = format!("{} check(s) could not be made", report.counts.not_run);
        return Err(Failure::other("not_run", message).hint("the table says why"));
    }
    Ok(())
}
