//! Plugins that always use their processor time up are served after all others.

use temps_sandbox::{BalanceChange, Groups, LOOK_EVERY};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Sees to it until the host ends.
pub(crate) async fn balance(groups: Groups, end: CancellationToken) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = end.cancelled() => return,
        }
        // Two short files of the kernel per plugin: less than handing them to another thread takes.
        for (plugin, change) in groups.balance() {
            tracing::info!(plugin, "{}", words(change));
        }
    }
}

fn words(change: BalanceChange) -> &'static str {
    match change {
        BalanceChange::Background(true) => {
            "the plugin always uses its processor time up; it is served after all others"
        }
        BalanceChange::Background(false) => {
            "the plugin is content with its processor time; it is served like others again"
        }
        BalanceChange::Part(true) => {
            "the plugin uses its processor time up on processes that tasks_max refuses; it has a fifth of it until it stops"
        }
        BalanceChange::Part(false) => {
            "the plugin tries no more to start processes that tasks_max refuses; it has all of its processor time again"
        }
    }
}
