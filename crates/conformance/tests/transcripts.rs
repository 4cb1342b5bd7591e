//! Every transcript of the specification is played: against a plugin that does what stands in it, which passes, and against
//! plugins that do one step of it wrong, each of which is found at that step's line.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may stop it")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use temps_conformance::{Outcome, PlayOptions, Played, play};
use temps_testkit::vectors::spec_dir;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Plugins that are played with at a time.
const AT_A_TIME: usize = 4;

fn transcripts() -> Vec<PathBuf> {
    let files = std::fs::read_dir(spec_dir().join("transcripts")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "jsonl")).collect();
    files.sort();
    files
}

fn steps(transcript: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(transcript).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The scripted plugin for a transcript, wrong at one line (0: nowhere), in a directory of its own.
fn scripted(transcript: &Path, fault_line: usize, place: &Path) -> PathBuf {
    let text = include_str!("scripted_plugin.py")
        .replacen(
            "TRANSCRIPT = \"set by the test\"",
            &format!("TRANSCRIPT = {:?}", transcript.canonicalize().unwrap()),
            1,
        )
        .replacen("FAULT_LINE = 0", &format!("FAULT_LINE = {fault_line}"), 1);
    let path = place.join("scripted");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Plays `played` against the plugin of `transcript`.
async fn played(played: &Path, transcript: &Path, fault_line: usize) -> Played {
    let place = tempfile::tempdir().unwrap();
    let options = PlayOptions {
        plugin: scripted(transcript, fault_line, place.path()),
        transcripts: vec![played.to_owned()],
        ..PlayOptions::default()
    };
    play(&options, |_| {}).await.unwrap().transcripts.remove(0)
}

async fn side_by_side<T: Send + 'static>(jobs: Vec<impl Future<Output = T> + Send + 'static>) -> Vec<T> {
    let places = Arc::new(Semaphore::new(AT_A_TIME));
    let mut set = JoinSet::new();
    for job in jobs {
        let places = Arc::clone(&places);
        set.spawn(async move {
            let _turn = places.acquire_owned().await;
            job.await
        });
    }
    set.join_all().await
}

#[tokio::test]
async fn every_transcript_is_played_to_its_end_by_a_plugin_that_fits_it() {
    let jobs = transcripts().into_iter().map(|file| async move { played(&file, &file, 0).await });
    let ended = side_by_side(jobs.collect()).await;
    assert!(ended.len() >= 16);
    let wrong: Vec<String> = ended.iter().filter_map(Played::explain).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether a plugin can do this step wrong, and be seen to.
fn can_be_wrong(step: &Value) -> bool {
    let closes = step["kind"] == "channel_closed";
    // Whoever is killed has no say in how it ends.
    step["from"] == "plugin" && !closes && step["signal"] != "SIGKILL"
}

#[tokio::test]
async fn each_step_that_a_plugin_does_wrong_is_found_at_its_line() {
    let mut jobs = Vec::new();
    for file in transcripts() {
        for (line, step) in (1..).zip(steps(&file)).filter(|(_, step)| can_be_wrong(step)) {
            let file = file.clone();
            jobs.push(async move {
                let ended = played(&file, &file, line).await;
                let found = match &ended.outcome {
                    // A pong that answers nothing belongs to no line.
                    Outcome::Failed(mismatch) if step["kind"] == "pong" => mismatch.step == "pong",
                    Outcome::Failed(mismatch) => mismatch.line == Some(line) && mismatch.step == step["kind"],
                    _ => false,
                };
                (!found).then(|| format!("line {line}, {step}: {ended:?}"))
            });
        }
    }
    assert!(jobs.len() > 60, "{} steps", jobs.len());
    let missed: Vec<String> = side_by_side(jobs).await.into_iter().flatten().collect();
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[tokio::test]
async fn the_minimal_example_with_the_rust_sdk_does_what_stands_in_its_transcript() {
    let options = PlayOptions {
        plugin: temps_testkit::binaries::built_example("temps-plugin-sdk", "minimal"),
        transcripts: vec![spec_dir().join("transcripts/minimal-example.jsonl")],
        ..PlayOptions::default()
    };
    let ended = play(&options, |_| {}).await.unwrap().transcripts.remove(0);
    assert_eq!(ended.outcome, Outcome::Passed, "{}", ended.explain().unwrap_or_default());
}

#[tokio::test]
async fn the_plugin_of_another_transcript_does_not_fit() {
    let file = |name: &str| spec_dir().join("transcripts").join(name);
    let ended = played(&file("negative-ack.jsonl"), &file("channel-data-and-event.jsonl"), 0).await;
    let Outcome::Failed(mismatch) = &ended.outcome else { panic!("{ended:?}") };
    assert_eq!((mismatch.line, mismatch.field.as_deref()), (Some(2), Some("line.name")));
    assert_eq!((mismatch.expected.as_str(), mismatch.got.as_str()), ("\"hello\"", "\"slack-notifier\""));
}

#[tokio::test]
async fn what_cannot_be_done_again_is_said_with_its_line_and_what_cannot_be_read_is_refused() {
    let inspection = spec_dir().join("transcripts/inspection.jsonl");
    let text = std::fs::read_to_string(&inspection).unwrap();
    let begin = text.lines().take(2).collect::<Vec<_>>().join("\n");
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("cut.jsonl");
    let request =
        r#"{"from":"host","kind":"http_request","method":"POST","path":"/a","body":"x","body_bytes":70000}"#;
    for line in [r#"{"from":"host","kind":"lost","steps":3}"#, request] {
        std::fs::write(&file, format!("{begin}\n{line}\n")).unwrap();
        let ended = played(&file, &inspection, 0).await;
        assert!(matches!(ended.outcome, Outcome::NotRun { line: 3, .. }), "{ended:?}");
    }
    std::fs::write(&file, text.lines().skip(1).collect::<Vec<_>>().join("\n")).unwrap();
    let options = PlayOptions {
        plugin: scripted(&inspection, 0, place.path()),
        transcripts: vec![file],
        ..PlayOptions::default()
    };
    let refused = play(&options, |_| {}).await.unwrap_err().to_string();
    assert!(refused.contains("line 1") && refused.contains("in the middle of a life"), "{refused}");
}

#[tokio::test]
async fn a_mismatch_stands_in_json_and_junit_with_its_line_and_field() {
    let place = tempfile::tempdir().unwrap();
    let negative = spec_dir().join("transcripts/negative-ack.jsonl");
    let options = PlayOptions {
        plugin: scripted(&negative, 8, place.path()),
        transcripts: vec![negative.clone(), spec_dir().join("transcripts/inspection.jsonl")],
        ..PlayOptions::default()
    };
    let playback = play(&options, |_| {}).await.unwrap();
    let json = serde_json::to_value(&playback).unwrap();
    assert_eq!(json["conformant"], false);
    let first = &json["transcripts"][0];
    assert_eq!(
        (&first["result"], &first["line"], &first["field"]),
        (&"failed".into(), &8.into(), &"text.status".into())
    );
    let junit = playback.to_junit();
    assert!(
        junit.contains("tests=\"2\" failures=\"1\"") && junit.contains("negative-ack.jsonl:8 frame"),
        "{junit}"
    );
}
