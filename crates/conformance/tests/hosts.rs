//! Hosts with one planted fault each. The scripted plugins must find it under its clause.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may stop it")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use temps_conformance::hosts::{Hooks, HostOptions, host_checks, run};
use temps_conformance::{Entry, Report, Verdict, clause, clauses};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

mod faulty_hosts;

use faulty_hosts::{FAULTS, SLOW_FAULTS, WITHOUT_A_FAULT};

/// Hosts that run at a time. Most faults are seen by waiting.
const AT_A_TIME: usize = 8;

/// How long a thing may take that a host without a fault does within two seconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// A host in Python, in a home of its own. It is ended when it is dropped, with its plugins.
struct FaultyHost {
    home: tempfile::TempDir,
    process: Child,
    url: String,
}

impl FaultyHost {
    fn start(fault: &str) -> Self {
        // In /tmp by name, because a socket's path has at most 107 bytes and TMPDIR may be long.
        let home = tempfile::Builder::new().prefix("kit-").tempdir_in("/tmp").unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faulty_host");
        let mut command = Command::new("python3");
        command.arg(script).arg(home.path()).arg(fault).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut url = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Self { home, process, url: url.trim().to_owned() }
    }

    fn options(&self, clauses: &[&str], quick: bool) -> HostOptions {
        HostOptions {
            program: env!("CARGO_BIN_EXE_temps-scripted-plugin").into(),
            plugins: self.home.path().join("plugins"),
            url: self.url.clone(),
            token: Some("kit-token".into()),
            hooks: Hooks::rest(),
            added: Vec::new(),
            clauses: clauses.iter().map(|&clause| clause.to_owned()).collect(),
            quick,
            patience: PATIENCE,
        }
    }
}

impl Drop for FaultyHost {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.process.wait();
    }
}

fn failed(report: &Report) -> BTreeSet<&'static str> {
    report.failures().map(|(check, _)| check.name).collect()
}

fn told(report: &Report) -> String {
    report.entries.iter().filter_map(Entry::explain).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn the_host_without_a_fault_passes_whole() {
    let host = FaultyHost::start("none");
    let report = run(host.options(&[], true), |_| {}).await.unwrap();
    let left: Vec<_> =
        report.entries.iter().filter(|entry| matches!(entry.verdict, Verdict::NotRun { .. })).collect();
    assert!(report.conformant, "{}\n{left:?}", told(&report));
}

/// Runs hosts with a fault, and says of which the wrong thing was found.
async fn wrong(faults: &'static [(&'static str, &'static [&'static str])], quick: bool) -> Vec<String> {
    let places = Arc::new(Semaphore::new(AT_A_TIME));
    let only = std::env::var("TEMPS_FAULT").ok();
    let mut runs = JoinSet::new();
    for (fault, expected) in
        faults.iter().filter(|(fault, _)| only.as_deref().is_none_or(|only| only == *fault))
    {
        let places = Arc::clone(&places);
        runs.spawn(async move {
            let _turn = places.acquire_owned().await;
            let host = FaultyHost::start(fault);
            // Plugins that do not look at these clauses are left out, so that a run is short.
            let asked =
                host_checks().filter(|check| expected.contains(&check.name)).map(|check| check.clause);
            let report = run(host.options(&asked.collect::<Vec<_>>(), quick), |_| {}).await.unwrap();
            let expected: BTreeSet<&str> = expected.iter().copied().collect();
            (failed(&report) != expected)
                .then(|| format!("{fault}: {:?} instead of {expected:?}\n{}", failed(&report), told(&report)))
        });
    }
    runs.join_all().await.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_of_a_host_is_found_under_its_clause() {
    let wrong = wrong(FAULTS, true).await;
    assert!(wrong.is_empty(), "{} of {} faults:\n{}", wrong.len(), FAULTS.len(), wrong.join("\n\n"));
}

#[tokio::test]
async fn what_a_host_waits_too_long_for_is_found() {
    let wrong = wrong(SLOW_FAULTS, false).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn every_check_of_a_host_has_a_planted_fault_or_a_reason_for_having_none() {
    let planted: BTreeSet<&str> =
        FAULTS.iter().chain(SLOW_FAULTS).flat_map(|(_, checks)| checks.iter().copied()).collect();
    let excused: BTreeSet<&str> = WITHOUT_A_FAULT.iter().map(|(check, _)| *check).collect();
    let all: BTreeSet<&str> = host_checks().map(|check| check.name).collect();
    assert_eq!(&planted | &excused, all);
    assert_eq!(host_checks().count(), all.len(), "two checks have one name");
}

#[test]
fn every_clause_is_checked_of_a_host_or_has_a_reason_for_not_being() {
    let checked: BTreeSet<&str> = host_checks().map(|check| check.clause).collect();
    for check in host_checks() {
        assert!(clause(check.clause).is_some(), "{} is about {}", check.name, check.clause);
    }
    let excused = temps_conformance::hosts::NOT_CHECKED;
    let excused: BTreeSet<&str> = excused.iter().map(|(clause, _)| *clause).collect();
    let all: BTreeSet<&str> = clauses().iter().map(|clause| clause.id.as_str()).collect();
    assert_eq!(&checked | &excused, all, "checked or excused, and all that there is");
    let both: Vec<_> = checked.intersection(&excused).collect();
    assert!(both.is_empty(), "checked and excused: {both:?}");
}
