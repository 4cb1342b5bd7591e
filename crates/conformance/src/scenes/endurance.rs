//! Many events and requests: what a plugin holds must not grow with them.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::Method;
use temps_protocol::Feature;
use tokio::time::{Instant, sleep};

use super::{Act, EVENT_TIMEOUT, HEALTH_TIMEOUT, Scene, Stage};
use crate::channel::Notebook;
use crate::check::Check;
use crate::events::{Events, id};
use crate::http::{Shown, ask};
use crate::report::{Finding, Sheet};
use crate::usage::Usage;

/// Events and requests before the first look. By then caches and pools have their size.
const WARM_UP: usize = 60;

/// Events and requests between the two looks.
const ROUNDS: usize = 240;

/// Events that are sent before the plugin is waited for. A plugin that acks may have twice as many in hand.
const BATCH: usize = 32;

/// Open files, and threads, that may have been added. A leak of one in eight rounds is more.
const SLACK: usize = 20;

/// Memory that may have been added, in KiB. 24 MiB in 240 rounds are 100 KiB for each.
const MEMORY_SLACK_KIB: u64 = 24 * 1024;

/// How long connections and threads have to wind down after the last round.
const SETTLE: Duration = Duration::from_secs(4);

/// How long the acks of a batch are waited for.
const ACK_TIMEOUT: Duration = Duration::from_secs(10);

/// The host's ordinary bounds: processes and threads, and memory in KiB.
const MAX_TASKS: usize = 64;
const MAX_MEMORY_KIB: u64 = 256 * 1024;

pub(super) const SCENE: Scene = Scene {
    name: "endurance",
    checks: &[
        Check::must(
            "endurance.limits",
            "L-6",
            "stays within the host's ordinary limits of memory, processes and threads",
            "use less, or ask for more with `resources` in the manifest",
        ),
        Check::must(
            "endurance.files",
            "L-6",
            "holds no more open files after some hundred events and requests than before",
            "close connections and files when you are done with them",
        ),
        Check::must(
            "endurance.tasks",
            "L-6",
            "has no more threads and processes after some hundred events and requests than before",
            "end what you start for an event or a request",
        ),
        Check::must(
            "endurance.memory",
            "L-6",
            "has not grown by more than 24 MiB after some hundred events and requests",
            "bound what you remember",
        ),
        Check::must(
            "endurance.well",
            "L-2",
            "is well after some hundred events and requests",
            "look into the log for the reason",
        ),
    ],
    play: |stage, sheet| play(stage, sheet).boxed(),
};

async fn play(stage: &Stage, sheet: &mut Sheet) {
    let mut act = match stage.act(&stage.how("endurance")).await {
        Ok(act) => act,
        Err(why) => return sheet.give_up(&why),
    };
    let mut events = Events::for_plugin(&stage.profile.manifest);
    let sent = format!("{} events, and as many requests", WARM_UP + ROUNDS);
    let mut waits = stage.has(Feature::Ack);
    // A plugin that dies of its first event is a matter of the scene about events.
    if let Err(why) = burden(stage, &mut act, events.as_mut(), &mut waits, 1).await {
        return sheet.give_up(&why);
    }
    if let Err(came) = burden(stage, &mut act, events.as_mut(), &mut waits, WARM_UP).await {
        return sheet.fail("endurance.well", sent, came);
    }
    let Some(before) = act.life.pid().and_then(Usage::of) else {
        return sheet.give_up("what its processes hold cannot be read");
    };
    if let Err(came) = burden(stage, &mut act, events.as_mut(), &mut waits, ROUNDS).await {
        return sheet.fail("endurance.well", sent, came);
    }
    let well = act.survives(&sent).await;
    if !sheet.settle("endurance.well", well) {
        return;
    }
    let Some(after) = settled(&act, before).await else {
        return sheet.give_up("what its processes hold cannot be read");
    };
    judge(stage, sheet, before, after);
}

fn judge(stage: &Stage, sheet: &mut Sheet, before: Usage, after: Usage) {
    let sent = || format!("{ROUNDS} events, and as many requests");
    let grown = |is: bool, from: String, to: String, what: &str| {
        if is {
            Err(Finding { sent: sent(), came: format!("{to} {what} instead of {from}") })
        } else {
            Ok(())
        }
    };
    let (from, to) = (before.files.to_string(), after.files.to_string());
    sheet.settle("endurance.files", grown(after.files > before.files + SLACK, from, to, "open files"));
    let (from, to) = (before.tasks.to_string(), after.tasks.to_string());
    sheet.settle("endurance.tasks", grown(after.tasks > before.tasks + SLACK, from, to, "threads"));
    let more = after.memory_kib > before.memory_kib + MEMORY_SLACK_KIB;
    let (from, to) = (before.memory_kib.to_string(), after.memory_kib.to_string());
    sheet.settle("endurance.memory", grown(more, from, to, "KiB of memory"));
    let resources = stage.profile.manifest.resources.clone().unwrap_or_default();
    let tasks = resources.tasks_max.and_then(|tasks| usize::try_from(tasks).ok()).unwrap_or(MAX_TASKS);
    // What leaks is named as that, so the look before the load counts.
    let within =
        before.tasks <= tasks && (resources.memory_max.is_some() || before.memory_kib <= MAX_MEMORY_KIB);
    let came = format!("{} threads and {} KiB of memory", before.tasks, before.memory_kib);
    let finding = Finding { sent: format!("{WARM_UP} events, and as many requests"), came };
    sheet.settle("endurance.limits", if within { Ok(()) } else { Err(finding) });
}

/// Sends so many events and requests.
async fn burden(
    stage: &Stage,
    act: &mut Act,
    mut events: Option<&mut Events>,
    waits: &mut bool,
    rounds: usize,
) -> Result<(), String> {
    for round in 1..=rounds {
        let path = &stage.profile.manifest.health_path;
        ask(&act.life.socket, Method::GET, path, Shown::Secret(&act.life.secret), None, HEALTH_TIMEOUT * 3)
            .await?;
        let Some(events) = events.as_deref_mut() else { continue };
        let event = events.next();
        let Some(channel) = &mut act.channel else {
            let body = Some(Bytes::from(event.to_string()));
            let shown = Shown::Secret(&act.life.secret);
            ask(&act.life.socket, Method::POST, "/_events", shown, body, EVENT_TIMEOUT).await?;
            continue;
        };
        channel.event(&event).await;
        if round % BATCH == 0 || round == rounds {
            // Whether acks come at all has a check elsewhere; without one there is nothing to wait for.
            if *waits {
                let acked = |seen: &Notebook| seen.acks.iter().any(|ack| ack.id == id(&event));
                *waits = channel.until(ACK_TIMEOUT, acked).await.is_ok();
            }
            channel.ping(super::PONG_TIMEOUT).await?;
        }
    }
    Ok(())
}

/// What it holds once it has wound down, or after some seconds.
async fn settled(act: &Act, before: Usage) -> Option<Usage> {
    let deadline = Instant::now() + SETTLE;
    loop {
        let now = Usage::of(act.life.pid()?)?;
        let calm = now.files <= before.files + SLACK
            && now.tasks <= before.tasks + SLACK
            && now.memory_kib <= before.memory_kib + MEMORY_SLACK_KIB;
        if calm || Instant::now() >= deadline {
            return Some(now);
        }
        sleep(Duration::from_millis(100)).await;
    }
}
