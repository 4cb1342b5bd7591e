//! The end of a run: what each plugin has found, and which of them should not be there.

use std::sync::PoisonError;
use std::time::Instant;

use serde_json::Value;
use tokio::time::sleep;

use super::super::checks::{DRIVE, checks_of, host_checks};
use super::super::script::Script;
use super::{LOOK, Stage};
use crate::check::Check;
use crate::report::{Entry, Finding, Verdict};

/// All entries that were asked for, in the order of the checks.
pub(super) async fn entries(stage: &Stage) -> Vec<Entry> {
    let mut entries = Vec::new();
    for script in Script::RUN {
        let quick = stage.options.quick && script == Script::Slow;
        if quick || stage.scripts().any(|other| other == script) {
            entries.extend(of_plugin(stage, script).await);
        }
    }
    refusals(stage).await;
    let verdicts = stage.ledger.verdicts();
    entries.extend(DRIVE.iter().map(|check| {
        let verdict = match verdicts.get(check.name) {
            Some(None) => Verdict::Passed,
            Some(Some(finding)) => Verdict::Failed(finding.clone()),
            None => undone(stage, check),
        };
        Entry { check: *check, verdict }
    }));
    let wanted = &stage.options.clauses;
    entries.retain(|entry| wanted.is_empty() || wanted.iter().any(|clause| clause == entry.check.clause));
    let order: Vec<&str> = host_checks().map(|check| check.name).collect();
    entries.sort_by_key(|entry| order.iter().position(|name| *name == entry.check.name));
    entries
}

/// What a plugin has found, once nothing is open that it waits for, or that has taken too long.
async fn of_plugin(stage: &Stage, script: Script) -> Vec<Entry> {
    let checks = checks_of(script);
    if stage.options.quick && script == Script::Slow {
        let reason = "it takes more than half a minute".to_owned();
        let verdict = Verdict::NotAnnounced { reason };
        return checks.iter().map(|check| Entry { check: *check, verdict: verdict.clone() }).collect();
    }
    let begin = Instant::now();
    let known = stage.reports.lock().unwrap_or_else(PoisonError::into_inner).get(&script).cloned();
    let mut last = known;
    loop {
        last = stage.report(script).await.or(last);
        let waits =
            last.as_ref().is_none_or(|report| results(report).any(|entry| entry["result"] == "waits"));
        if !waits || begin.elapsed() > stage.options.patience / 4 {
            break;
        }
        sleep(LOOK).await;
    }
    let verdict = |(place, check): (usize, &Check)| match &last {
        Some(report) => read(stage, report, check),
        // The plugin's first own check stands for all that it needs to be reached.
        None if place == 0 => {
            failed(&format!("the plugin {}", script.name()), "it could never be reached at its route")
        }
        None => Verdict::NotRun { reason: format!("{} could never be reached", script.name()) },
    };
    checks.iter().enumerate().map(|it| Entry { check: *it.1, verdict: verdict(it) }).collect()
}

fn results(report: &Value) -> impl Iterator<Item = &Value> {
    report["entries"].as_array().into_iter().flatten()
}

fn failed(sent: &str, came: &str) -> Verdict {
    Verdict::Failed(Finding { sent: sent.to_owned(), came: came.to_owned() })
}

fn read(stage: &Stage, report: &Value, check: &Check) -> Verdict {
    let Some(entry) = results(report).find(|entry| entry["name"] == check.name) else {
        return undone(stage, check);
    };
    let text = |key: &str| entry[key].as_str().unwrap_or_default();
    match text("result") {
        "passed" => Verdict::Passed,
        "failed" => failed(text("sent"), text("came")),
        "waits" => failed(text("sent"), "nothing that shows it"),
        _ => undone(stage, check),
    }
}

/// Why a check was not made.
fn undone(stage: &Stage, check: &Check) -> Verdict {
    if stage.options.quick && check.name == "acks.timeout" {
        return Verdict::NotAnnounced { reason: "it takes more than half a minute".to_owned() };
    }
    if check.name == "events.payload" {
        return Verdict::NotAnnounced {
            reason: "nothing happened to a deployment during the run".to_owned(),
        };
    }
    if check.name == "routes.signed_in" && stage.caller.token.is_none() {
        return Verdict::NotAnnounced { reason: "no token was given".to_owned() };
    }
    let broken = stage.ledger.facts("hook/");
    let reason = match broken.first() {
        Some((hook, why)) => format!("{hook} did not work: {}", why.as_str().unwrap_or_default()),
        None => "it did not come to that".to_owned(),
    };
    Verdict::NotRun { reason }
}

/// Plugins that must not run are not to be reached.
async fn refusals(stage: &Stage) {
    for script in Script::REFUSED {
        if !stage.scripts().any(|other| other == script) {
            continue;
        }
        let report = stage.report(script).await;
        let runs = report.as_ref().is_some_and(|report| report["file"] == script.file());
        stage.ledger.judge(&script.refusal(), !runs, &format!("the plugin {}", script.file()), || {
            format!("it runs, and answers at /api/x/{}/", script.name())
        });
    }
}
