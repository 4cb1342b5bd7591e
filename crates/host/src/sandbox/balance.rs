//! Plugins that always use their processor time up are served after all others.

use temps_sandbox::{Groups, LOOK_EVERY};
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
        // One short file of the kernel per plugin: less than handing it to another thread takes.
        for (plugin, background) in groups.balance() {
            if background {
                tracing::info!(
                    plugin,
                    "the plugin always uses its processor time up; it is served after all others"
                );
            } else {
                tracing::info!(
                    plugin,
                    "the plugin is content with its processor time; it is served like others again"
                );
            }
        }
    }
}
