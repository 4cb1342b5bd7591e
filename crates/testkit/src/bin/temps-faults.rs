//! `temps-faults NAME=VALUE…`: one run of faults, with what was found. `make faults` starts it.
//!
//! The seed comes first, so that a run that never ends can be made again, too. Exit code 0: every promise held; 1: one was
//! broken; 2: the words were not understood; 3: this machine cannot do it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use temps_testkit::faults::plan::Settings;
use temps_testkit::faults::stage::{SETTINGS, SMALL_DISK, Stage, on_a_small_disk};
use temps_testkit::faults::{Outcome, run};

/// Megabytes of the disk for a run without events: programs, logs, an empty database and its write-ahead log.
const DISK_MB: u64 = 256;

/// Bytes on that disk for each event: its place in the journal with an index, and three plugins' attempts.
const DISK_PER_EVENT: u64 = 4 * 1024;

const BROKEN: u8 = 1;
const USAGE: u8 = 2;
const IMPOSSIBLE: u8 = 3;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let settings = match Settings::parse(&words) {
        Ok(settings) => settings,
        Err(error) => {
            complain(&error);
            return ExitCode::from(USAGE);
        }
    };
    match std::env::var_os(SMALL_DISK) {
        Some(home) => ExitCode::from(run_in(Path::new(&home), &settings)),
        None => ExitCode::from(begin(&settings)),
    }
}

/// Says what is going to happen, makes the place, and goes on there.
fn begin(settings: &Settings) -> u8 {
    say(&format!("seed {}", settings.seed));
    say(&format!("the same run again: make faults {}", settings.words()));
    say(
        "quarantine is off and a plugin's backoff is 1 s at most; the daemon's other settings are its defaults:",
    );
    SETTINGS.lines().for_each(|line| say(&format!("    {line}")));
    let home = tempfile::Builder::new().prefix("temps-").tempdir_in("/tmp");
    let home = match home {
        Ok(home) => home.keep(),
        Err(error) => {
            complain(&format!("no directory can be made: {error}"));
            return IMPOSSIBLE;
        }
    };
    let code =
        if settings.full_disks == 0 { run_in(&home, settings) } else { on_small_disk(&home, settings) };
    if code == 0 || code == IMPOSSIBLE {
        let _ = std::fs::remove_dir_all(&home);
    } else {
        complain(&format!("what the plugins and the daemons wrote is kept in {}", home.display()));
    }
    code
}

fn on_small_disk(home: &Path, settings: &Settings) -> u8 {
    let megabytes = DISK_MB + (settings.events * DISK_PER_EVENT).div_ceil(1 << 20);
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("temps-faults"));
    let Some(mut command) = on_a_small_disk(home, megabytes, &program) else {
        complain("this user cannot mount, so no disk can be filled; FULL_DISKS=0 leaves that out");
        return IMPOSSIBLE;
    };
    say(&format!("the state is on a file system of its own with {megabytes} MB"));
    command.args(settings.words().replace('\'', "").split_whitespace());
    match command.status() {
        Ok(status) => status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(BROKEN),
        Err(error) => {
            complain(&format!("the run cannot be started: {error}"));
            IMPOSSIBLE
        }
    }
}

fn run_in(home: &Path, settings: &Settings) -> u8 {
    let mut stage = match Stage::prepare(home.to_owned(), settings) {
        Ok(stage) => stage,
        Err(error) => {
            complain(&error);
            return IMPOSSIBLE;
        }
    };
    match run(&mut stage, settings, &mut |line| say(line)) {
        Ok(outcome) => report(&outcome, settings),
        Err(error) => {
            complain(&error);
            complain(&format!("the same run again: make faults {}", settings.words()));
            BROKEN
        }
    }
}

fn report(outcome: &Outcome, settings: &Settings) -> u8 {
    let verdict = &outcome.verdict;
    say("");
    let list = |counts: Vec<(String, u64)>| {
        let parts: Vec<_> = counts.iter().map(|(what, count)| format!("{count} × {what}")).collect();
        if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
    };
    let struck = outcome.struck.iter().map(|(what, count)| ((*what).to_owned(), *count)).collect();
    say(&format!("faults:           {}", list(struck)));
    say(&format!("not confirmed:    {}", list(outcome.refusals.clone().into_iter().collect())));
    say(&format!("confirmed:        {} publishes", verdict.confirmed));
    say(&format!("given up by their publishers and in the journal all the same: {}", verdict.appeared));
    say(&format!("dead letters sent again at the end: {}", outcome.redelivered));
    say(&format!("audit trail:      {}", outcome.audit));
    say(&format!("ledger lines cut short by a kill: {}", outcome.torn));
    say(&format!("took:             {} s on {}", outcome.took.as_secs(), settings.store));
    say("");
    say(
        "| plugin | takes events by | lives | deaths seen | events handled | again | read < 5 s before a death, came again | retried, came later |",
    );
    say("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for row in &verdict.rows {
        say(&format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            row.name,
            row.kind,
            row.lives,
            row.deaths,
            row.handled,
            row.duplicates,
            row.resends,
            row.retried_late
        ));
    }
    say("");
    say(
        "checked: every confirmed publish is in the journal once, reports whole; every event of the journal was handled by",
    );
    say(
        "every plugin; what a plugin without acks read less than 5 s before it died came again; first attempts in the",
    );
    say(
        "journal's order; nothing was handled that is not in the journal; no dead letter is left; no daemon ended by itself",
    );
    say("or panicked; the audit chain verifies.");
    if verdict.breaches.is_empty() {
        say("all of it holds");
        return 0;
    }
    for breach in &verdict.breaches {
        say(&format!("BROKEN: {breach}"));
    }
    say(&format!("the same run again: make faults {}", settings.words()));
    BROKEN
}

/// Nobody may listen any more; the run goes on.
fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn complain(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "temps-faults: {line}");
}
