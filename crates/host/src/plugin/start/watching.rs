//! What is watched of a plugin that runs, each until its start is over: health, usage, disk, its channel, its work.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;

use super::{Progress, StartContext};
use crate::channel::ChannelHandle;
use crate::plugin::health::{self, Judgement, Pulse};
use crate::plugin::link::Link;
use crate::plugin::process::Process;
use crate::usage::{self, Meter, Traffic};

/// How long `GET /ui/` may take when ready did not say that there is a UI.
const UI_TIMEOUT: Duration = Duration::from_secs(2);

/// The waits before each of the questions for a UI.
const UI_WAITS: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(5)];

/// The longest and the shortest time between two looks at how much disk a plugin takes.
const DISK_LOOK_RARELY: Duration = Duration::from_secs(2);
const DISK_LOOK_OFTEN: Duration = Duration::from_millis(100);

/// How fast a plugin may fill its disk, in bytes per second: what the memory of a machine takes before any disk is asked.
const DISK_FILLED_AT: u64 = 1 << 30;

/// How many times longer than the look itself the pause after it is.
const DISK_LOOK_SHARE: u32 = 20;

/// Asks for the plugin's health until the start is over.
pub(crate) async fn watch_health(context: StartContext, process: Arc<Process>, link: Arc<Link>) {
    let mut pulse = Pulse::default();
    loop {
        let policy = context.shared.config().health;
        let judgement = tokio::select! {
            judgement = check(&context, &process, &link, &mut pulse) => judgement,
            () = context.over.cancelled() => return,
        };
        match judgement {
            Judgement::Show(health) => context.report(Progress::Health(health)).await,
            Judgement::Failed(why) => return context.report(Progress::HealthFailed(why)).await,
        }
        tokio::select! {
            () = tokio::time::sleep(policy.interval) => {}
            () = context.over.cancelled() => return,
        }
    }
}

async fn check(context: &StartContext, process: &Process, link: &Arc<Link>, pulse: &mut Pulse) -> Judgement {
    let policy = context.shared.config().health;
    // Questions would queue up at a plugin that stands still, and be answered long after anybody waits.
    if *context.debug.borrow() || process.is_traced() {
        return pulse.suspend();
    }
    let answer = health::ask(link, &link.manifest.health_path, policy.timeout).await;
    // Asked afterwards, so that a debugger which came meanwhile is not taken for a failure.
    let suspended = *context.debug.borrow() || (answer.is_err() && process.is_traced());
    if suspended { pulse.suspend() } else { pulse.judge(answer, &policy) }
}

/// Measures what the plugin uses until the start is over.
pub(crate) async fn watch_usage(context: StartContext, process: Arc<Process>) {
    let counted = || Traffic::counted(&context.shared.metrics, context.name.as_str());
    let mut meter = Meter::begin(Instant::now(), counted());
    let limits = process.confined().limits();
    loop {
        let pause = context.shared.config().usage_every;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = context.over.cancelled() => return,
        }
        let (process, data) = (Arc::clone(&process), context.shared.places.data_path(context.name.as_str()));
        let measure = move || {
            let confined = process.confined();
            let mut resources =
                usage::measure(process.launcher_pid(), confined.processes(), &confined.usage());
            resources.disk_bytes = crate::sandbox::used_by(&data);
            resources
        };
        // Failing means that the runtime ends.
        let Ok(resources) = tokio::task::spawn_blocking(measure).await else { return };
        let usage = meter.read(Instant::now(), Utc::now(), resources, counted()).near(&limits);
        // What was measured of a plugin that is gone would say nothing of it.
        if context.over.is_cancelled() {
            return;
        }
        context.report(Progress::Usage(usage)).await;
    }
}

/// Ends a plugin whose data directory has grown beyond its limit. One file alone the kernel stops before.
pub(crate) async fn watch_disk(context: StartContext, most: u64) {
    let mut pause = DISK_LOOK_OFTEN;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = context.over.cancelled() => return,
        }
        let data = context.shared.places.data_path(context.name.as_str());
        let begin = Instant::now();
        let Ok(used) = tokio::task::spawn_blocking(move || crate::sandbox::used_by(&data)).await else {
            return;
        };
        pause = until_next_look(used.unwrap_or_default(), most, begin.elapsed());
        if let Some(used) = used.filter(|used| *used > most) {
            // Rounded up, or a little too much would read like just enough.
            let (used, most) = (used.div_ceil(1 << 20), most >> 20);
            let why = format!(
                "its data directory has {used} MiB and may have {most} MiB (disk_max); remove some of it, or allow it more"
            );
            return context.report(Progress::HealthFailed(why)).await;
        }
    }
}

/// A plugin is looked at again before it can have filled what is left to it. A directory that takes long to add up is looked at
/// more rarely.
fn until_next_look(used: u64, most: u64, took: Duration) -> Duration {
    let left = Duration::from_millis(most.saturating_sub(used).saturating_mul(1000) / DISK_FILLED_AT);
    left.clamp(DISK_LOOK_OFTEN, DISK_LOOK_RARELY).max(took * DISK_LOOK_SHARE)
}

/// Looks for a UI that ready did not announce. Some plugins serve it a moment after their channel was opened, so one answer
/// proves nothing; the plugin runs meanwhile.
pub(crate) async fn look_for_ui(context: StartContext, link: Arc<Link>) {
    for wait in UI_WAITS {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = context.over.cancelled() => return,
        }
        if health::ask(&link, "/ui/", UI_TIMEOUT).await.is_ok() {
            return context.report(Progress::UiFound).await;
        }
    }
}

/// Tells when the channel of a link is lost, unless the start is over first.
pub(crate) async fn watch_channel(context: StartContext, channel: ChannelHandle) {
    tokio::select! {
        () = channel.closed.cancelled() => {
            let how = channel.end().map_or_else(|| "the channel was lost".to_owned(), ToString::to_string);
            context.report(Progress::ChannelLost(how)).await;
        }
        () = context.over.cancelled() => {}
    }
}

/// Tells when no work with the plugin is in flight any more.
pub(crate) async fn await_drained(context: StartContext) {
    context.work.close();
    context.work.wait().await;
    context.report(Progress::Drained).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_looked_at_before_what_is_left_can_be_full() {
        let at_once = Duration::from_micros(50);
        let pause = |used: u64, most: u64| until_next_look(used << 20, most << 20, at_once);
        assert_eq!(pause(0, 256), Duration::from_millis(250));
        assert_eq!(pause(200, 256), DISK_LOOK_OFTEN);
        assert_eq!(pause(300, 256), DISK_LOOK_OFTEN);
        assert_eq!(pause(0, 1 << 20), DISK_LOOK_RARELY);
        assert_eq!(
            until_next_look(0, 0, Duration::from_secs(1)),
            Duration::from_secs(20),
            "a huge directory"
        );
        assert_eq!(until_next_look(0, u64::MAX, at_once), DISK_LOOK_RARELY);
    }
}
