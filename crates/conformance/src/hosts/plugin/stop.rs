//! The end: SIGTERM, and what is left of a plugin that does not heed it.

use std::io::{self, Write};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

use tokio::signal::unix::{SignalKind, signal};

use super::Plugin;
use crate::hosts::script::Script;

/// Set for the child that a plugin leaves behind; the value is the file in which it counts.
const CHILD: &str = "TEMPS_KIT_CHILD";

/// How long the close of the channel may be on its way when SIGTERM has come.
const ON_ITS_WAY: Duration = Duration::from_millis(300);

/// Shortest and longest time between SIGTERM and the kill, in milliseconds; a host gives 10 s.
const GRACE_MS: (u64, u64) = (8_500, 20_000);

/// Time between two notes of a life that is to end.
const TICK: Duration = Duration::from_millis(100);

/// Waits for SIGTERM in a thread, and judges what the end before this life was like.
pub(super) fn watch(plugin: &Arc<Plugin>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut terminations = runtime.block_on(async { signal(SignalKind::terminate()) })?;
    let shared = Arc::clone(plugin);
    thread::spawn(move || {
        runtime.block_on(terminations.recv());
        end(&shared);
    });
    judge_the_last(plugin);
    Ok(())
}

fn end(plugin: &Plugin) {
    let stopping = plugin.ledger.fact("stopping") == true;
    if plugin.script() == Script::Acks && stopping {
        let begin = Instant::now();
        while plugin.channel().is_some() && begin.elapsed() < ON_ITS_WAY {
            thread::sleep(Duration::from_millis(10));
        }
        let closed = plugin.channel().is_none();
        plugin.ledger.judge("stop.order", closed, "a stop", || "SIGTERM while the channel was open".into());
    }
    if plugin.script() != Script::Plain || !stopping {
        std::process::exit(0);
    }
    plugin.ledger.expect("stop.grace", "SIGTERM, which the plugin did not heed");
    plugin.ledger.expect("stop.nothing_left", "a child of the plugin");
    let child = plugin.start.data.join("child");
    let mut command = Command::new("/proc/self/exe");
    command.env(CHILD, &child).args(&plugin.start.arguments);
    // Without a child the check finds nothing that was left.
    let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    plugin.ledger.remember("deaf", true);
    let begin = Instant::now();
    loop {
        let lasted = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        plugin.ledger.remember("grace", lasted);
        thread::sleep(TICK);
    }
}

/// Whether this process is what a plugin has left behind.
pub(super) fn is_child() -> bool {
    env::var_os(CHILD).is_some()
}

/// Counts in its file until it is ended.
pub(super) fn live_as_child() -> ExitCode {
    let Some(file) = env::var_os(CHILD) else { return ExitCode::FAILURE };
    let Ok(mut file) = fs::OpenOptions::new().create(true).append(true).open(file) else {
        return ExitCode::FAILURE;
    };
    for _ in 0..600 {
        let _ = file.write_all(b".");
        thread::sleep(TICK);
    }
    ExitCode::SUCCESS
}

fn judge_the_last(plugin: &Arc<Plugin>) {
    let ledger = &plugin.ledger;
    if ledger.fact("deaf") != true {
        return;
    }
    ledger.remember("deaf", false);
    ledger.remember("stopping", false);
    let lasted = ledger.number("grace");
    ledger.judge(
        "stop.grace",
        lasted >= GRACE_MS.0 && lasted <= GRACE_MS.1,
        "SIGTERM, which the plugin did not heed",
        || format!("the end after {lasted} ms"),
    );
    let (plugin, file) = (Arc::clone(plugin), plugin.start.data.join("child"));
    let count = move || fs::metadata(&file).map_or(0, |meta| meta.len());
    let before = count();
    thread::spawn(move || {
        thread::sleep(TICK * 10);
        let after = count();
        plugin.ledger.judge(
            "stop.nothing_left",
            before == after && before > 0,
            "a child of the plugin",
            || format!("it has counted from {before} to {after} since the plugin was killed"),
        );
    });
}
