//! Planted faults: plugins that break one rule each. The kit must name that rule, and no other one.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may stop it")]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use temps_conformance::{Options, Progress, Report, Verdict, checks, run};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Kits that run at a time. Most faults are seen by waiting.
const AT_A_TIME: usize = 4;

/// Each fault, and the checks that must find it.
const FAULTS: &[(&str, &[&str])] = &[
    ("needs_file_beside", &["handshake.from_a_copy"]),
    ("needs_name", &["handshake.inspection"]),
    ("log_first", &["handshake.manifest_first"]),
    ("ready_first", &["handshake.manifest_first"]),
    ("never_ready", &["handshake.bounds"]),
    ("long_manifest", &["handshake.bounds"]),
    ("log_between", &["handshake.ready_second"]),
    ("bad_name", &["handshake.name"]),
    ("kept_name", &["handshake.name"]),
    ("nav_lacks_a_field", &["handshake.nav"]),
    ("too_many_events", &["handshake.fields"]),
    ("relative_health_path", &["handshake.fields"]),
    ("wrong_type", &["handshake.fields"]),
    ("later_api_version", &["handshake.api_version"]),
    ("schema_of_no_object", &["handshake.config_schema"]),
    ("changing_manifest", &["handshake.same_manifest"]),
    ("ready_false", &["handshake.ready"]),
    ("ends_before_ready", &["handshake.ready"]),
    ("ready_too_early", &["handshake.listens"]),
    ("unwell", &["handshake.health"]),
    ("slow_health", &["handshake.health"]),
    ("channel_answers_500", &["handshake.channel"]),
    ("channel_hangs", &["handshake.channel"]),
    ("no_pong", &["handshake.pong"]),
    ("keeps_stale_socket", &["stale_socket.removed"]),
    ("short_paths_only", &["long_path.bound"]),
    ("breaks_on_old_data", &["restart.same_data"]),
    ("needs_features", &["old_host.starts"]),
    ("acks_unasked", &["old_host.no_acks"]),
    ("refuses_unknown_features", &["later_host.starts"]),
    ("takes_any_argument", &["unknown_argument.refused"]),
    ("demands_secret_for_health", &["routes.health_is_open"]),
    ("open_routes", &["routes.own_are_closed"]),
    ("open_events", &["routes.events_are_closed"]),
    ("open_channel", &["routes.channel_is_closed"]),
    ("hangs_up_silently", &["routes.connection_is_kept"]),
    ("hangs_up_on_chunks", &["routes.chunked_body"]),
    ("six_connections", &["routes.many_at_a_time"]),
    ("no_page", &["pages.are_there"]),
    ("absolute_link", &["pages.links"]),
    ("no_script", &["pages.parts"]),
    ("secret_in_page", &["pages.no_secret"]),
    ("dies_of_binary", &["channel.binary"]),
    ("dies_of_large_frames", &["channel.largest_frame"]),
    ("dies_of_unknown_frames", &["channel.unknown_type"]),
    ("dies_of_unknown_fields", &["channel.unknown_fields"]),
    ("dies_of_unknown_responses", &["channel.unknown_response"]),
    ("dies_of_garbage", &["channel.garbage"]),
    ("sends_binary", &["channel.frames"]),
    ("sends_no_json", &["channel.frames"]),
    ("null_ids", &["channel.requests"]),
    ("same_ids", &["channel.requests"]),
    ("wrong_params", &["channel.params"]),
    ("dies_of_later_answers", &["channel.later_answers"]),
    ("put_without_value", &["channel.kv_params"]),
    ("long_key", &["channel.kv_bounds"]),
    ("ends_without_channel", &["channel.lost"]),
    ("post_answers_500", &["events.posted"]),
    ("dies_of_events", &["events.ordinary"]),
    ("dies_of_unknown_event_types", &["events.unknown_type"]),
    ("dies_of_unknown_event_fields", &["events.unknown_fields"]),
    ("dies_of_nulls", &["events.bare"]),
    ("dies_without_project", &["events.no_project"]),
    ("dies_of_large_events", &["events.largest"]),
    ("dies_of_repeated_events", &["events.twice"]),
    ("never_acks", &["acks.each_event"]),
    ("acks_with_a_wrong_id", &["acks.each_event"]),
    ("acks_only_once", &["acks.again"]),
    ("acks_only_some", &["acks.full_window"]),
    ("acks_twice", &["acks.no_others"]),
    ("acks_what_never_came", &["acks.no_others"]),
    ("one_channel_ever", &["reconnect.after_a_loss"]),
    ("one_channel_at_a_time", &["reconnect.in_place"]),
    ("acks_over_the_old_channel", &["reconnect.acks_come_over_the_new_one"]),
    ("dies_of_config", &["config.taken"]),
    ("dies_of_config_changes", &["config.change"]),
    ("dies_of_empty_config", &["config.empty"]),
    ("too_many_threads", &["endurance.limits"]),
    ("leaks_files", &["endurance.files"]),
    ("leaks_threads", &["endurance.tasks"]),
    ("leaks_memory", &["endurance.memory"]),
    ("ignores_sigterm", &["shutdown.in_time"]),
    ("ends_with_3", &["shutdown.clean"]),
    ("leaves_a_child", &["shutdown.nothing_left"]),
];

/// Checks that no fault of its own is planted for, with the reason.
const WITHOUT_A_FAULT: &[(&str, &str)] = &[(
    "endurance.well",
    "what makes a plugin unwell after many events is one of the other faults, only later",
)];

/// The faulty plugin with one fault, in a directory of its own.
fn plant(fault: &str, place: &Path) -> PathBuf {
    let text = include_str!("faulty_plugin.py");
    let planted = text.replacen("FAULT = \"none\"", &format!("FAULT = \"{fault}\""), 1);
    let path = place.join("faulty");
    std::fs::write(&path, planted).unwrap();
    std::fs::write(place.join("beside.txt"), "what lies beside the plugin").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

async fn tested(fault: &str) -> Report {
    let place = tempfile::tempdir().unwrap();
    let options = Options { plugin: plant(fault, place.path()), ..Options::default() };
    run(&options, |_| {}).await.unwrap()
}

/// The checks that found something.
fn found(report: &Report) -> BTreeSet<&'static str> {
    report.failures().chain(report.warnings()).map(|(check, _)| check.name).collect()
}

fn told(report: &Report) -> String {
    report.entries.iter().filter_map(temps_conformance::Entry::explain).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn the_plugin_without_a_fault_passes_whole() {
    let report = tested("none").await;
    assert!(report.conformant && found(&report).is_empty(), "{}", told(&report));
    let skipped: Vec<_> = report
        .entries
        .iter()
        .filter(|entry| !matches!(entry.verdict, Verdict::Passed))
        .map(|entry| entry.check.name)
        .collect();
    assert_eq!(skipped, ["events.posted"], "everything that it claims was checked");
    let posted = tested("posted_well").await;
    assert!(posted.conformant && found(&posted).is_empty(), "{}", told(&posted));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_planted_fault_is_found_under_its_clause_and_under_no_other() {
    let places = Arc::new(Semaphore::new(AT_A_TIME));
    let only = std::env::var("TEMPS_FAULT").ok();
    let mut runs = JoinSet::new();
    for (fault, expected) in
        FAULTS.iter().filter(|(fault, _)| only.as_deref().is_none_or(|only| only == *fault))
    {
        let places = Arc::clone(&places);
        runs.spawn(async move {
            let _turn = places.acquire_owned().await;
            let report = tested(fault).await;
            let expected: BTreeSet<&str> = expected.iter().copied().collect();
            let found = found(&report);
            (found != expected)
                .then(|| format!("{fault}: {found:?} instead of {expected:?}\n{}", told(&report)))
        });
    }
    let wrong: Vec<String> = runs.join_all().await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{} of {} faults:\n{}", wrong.len(), FAULTS.len(), wrong.join("\n\n"));
}

#[tokio::test]
async fn a_plugin_that_gets_ready_no_more_is_waited_for_once_and_whoever_waits_is_told() {
    let place = tempfile::tempdir().unwrap();
    let clauses = ["S-2", "S-4", "F-1", "L-4"].map(str::to_owned).into();
    let options = Options { plugin: plant("ready_once", place.path()), clauses, ..Options::default() };
    let mut told = Vec::new();
    let report = run(&options, |progress| told.push(progress)).await.unwrap();
    assert!(!report.conformant);
    let waits =
        |progress: &Progress| matches!(progress, Progress::Waiting(wait) if wait.line == "ready line");
    let scenes = ["long_path", "later_host", "old_host", "restart", "shutdown", "stale_socket"];
    let ended =
        |progress: &Progress| matches!(progress, Progress::Ended(ended) if scenes.contains(&ended.scene));
    assert!(told.iter().filter(|progress| waits(progress)).count() >= scenes.len(), "{told:?}");
    // All of them began to wait before the first one had waited to the end, so their waits are one.
    let first_end = told.iter().position(ended).unwrap();
    assert!(!told[first_end..].iter().any(waits), "{told:?}");
}

#[test]
fn every_check_has_a_planted_fault_that_only_it_finds() {
    let planted: BTreeSet<&str> = FAULTS.iter().flat_map(|(_, checks)| checks.iter().copied()).collect();
    let excused: BTreeSet<&str> = WITHOUT_A_FAULT.iter().map(|(check, _)| *check).collect();
    let all: BTreeSet<&str> = checks().map(|check| check.name).collect();
    assert_eq!(&planted | &excused, all);
}
