//! `temps audit verify`: has the daemon verify its trail and waits for it, or verifies the files without a daemon.

use std::time::{Duration, Instant};

use serde_json::json;
use temps_server::api::audit::{AuditCheck, AuditCheckState};

use crate::arguments::Global;
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::output::{Output, plain, time_or_dash};
use crate::target;

/// Time between two questions how far the daemon is.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Time between two words about it.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// How the trail is verified.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Read the database, the key and the heads on this machine, without the daemon
    #[arg(long)]
    pub(super) offline: bool,
}

/// Has the daemon verify its trail.
pub(super) async fn run(client: &Client, output: Output) -> Result<(), Failure> {
    let path = ["api", "audit", "verify"];
    let mut check: AuditCheck = client.post(&path, &json!({})).await?;
    let mut told = Instant::now();
    while check.state == AuditCheckState::Running {
        tokio::time::sleep(ASK_EVERY).await;
        check = client.get(&path).await?;
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            let last = check.last_link.unwrap_or_default();
            output.say(&format!("at link {last} of {}", check.newest_link));
        }
    }
    told_of(&check, output)
}

/// Verifies the files, and the database beside them.
pub(crate) async fn offline(global: &Global, output: Output) -> Result<(), Failure> {
    let config = target::settings(global, temps_server::config::Overrides::default())?;
    // It hashes everything that there is; a panic in it is this command's.
    let verified = tokio::task::spawn_blocking(move || temps_server::audit::verify_offline(&config));
    let verified = verified.await.map_err(|error| Failure::other("audit_unreadable", error.to_string()))?;
    let check = verified.map_err(|error| {
        Failure::other("audit_unreadable", format!("the audit trail cannot be verified: {error}"))
            .hint("run it as the user that runs the daemon, with the same --home")
    })?;
    told_of(&check, output)
}

fn told_of(check: &AuditCheck, output: Output) -> Result<(), Failure> {
    output.data(check, words)?;
    match check.state {
        AuditCheckState::Intact | AuditCheckState::Running => Ok(()),
        AuditCheckState::Tampered => {
            let wrong = check.wrong.as_ref().map(|wrong| wrong.message.as_str()).unwrap_or_default();
            let message = format!("the audit trail is not what was written: {wrong}");
            Err(Failure::new(Exit::NotIntact, "audit_tampered", message)
                .hint("keep the database, audit.key and audit.heads as they are; docs/concepts/audit.md says what to do"))
        }
        AuditCheckState::Failed => {
            let why = check.failure.as_deref().unwrap_or("unknown");
            Err(Failure::other("audit_unreadable", format!("the audit trail cannot be verified: {why}")))
        }
    }
}

fn words(check: &AuditCheck) -> String {
    let state = match check.state {
        AuditCheckState::Running => "the audit trail is being verified".to_owned(),
        AuditCheckState::Intact => "the audit trail is intact".to_owned(),
        AuditCheckState::Tampered => match &check.wrong {
            Some(wrong) => format!("the audit trail is NOT intact: {}", wrong.message),
            None => "the audit trail is NOT intact".to_owned(),
        },
        AuditCheckState::Failed => "the audit trail could not be verified".to_owned(),
    };
    let mut lines = vec![
        state,
        format!(
            "{} links with {} audit records and {} delivery attempts are as they were written, from {} to {}",
            check.links,
            check.records,
            check.attempts,
            time_or_dash(check.since),
            time_or_dash(check.until)
        ),
    ];
    if check.heads > 0 {
        let last = time_or_dash(check.last_head_at);
        lines.push(format!(
            "it agrees with {} heads outside of the database, the last of {last}",
            check.heads
        ));
    }
    lines.push("what this does not prove:".to_owned());
    lines.extend(check.cannot_prove.iter().map(|limit| format!("  - {limit}")));
    lines.iter().map(|line| plain(line)).collect::<Vec<_>>().join("\n")
}
