//! How a test says that this machine cannot run it: loudly, and counted by `make test`.
//!
//! The test runner knows only passed and failed; a test that returns early would count as passed and nobody would
//! know. Each skip is therefore written to the file that `TEMPS_TEST_SKIPS` names, which `make test` shows at its end.

use std::io::Write;

/// Records that `test` did not run, and why. The test returns right after it.
///
/// `reason` says what the machine lacks, for example `no pid namespaces for this user`.
pub fn skip(test: &str, reason: &str) {
    let line = format!("{test}: {reason}\n");
    // Shown by `cargo test -- --nocapture`; there is nothing better to do when even that fails.
    let _ = std::io::stderr().write_all(format!("SKIPPED {line}").as_bytes());
    let Some(file) = std::env::var_os("TEMPS_TEST_SKIPS") else { return };
    if let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(file) {
        // One write per line, so that tests in parallel do not mix theirs.
        let _ = file.write_all(line.as_bytes());
    }
}
