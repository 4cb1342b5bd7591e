//! The play: what happens to each scripted plugin, in order. The plugins do not know of each other, so they are played
//! with at the same time.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::super::script::Script;
use super::{Placed, Stage, outside, result};

/// How long a host has at least to take in a plugin that it must refuse.
const REFUSAL_TIME: Duration = Duration::from_secs(8);

/// More events than may be unacked.
const MANY: usize = 70;

/// Plays everything.
pub(super) async fn all(stage: &Stage, placed: &Placed<'_>, progress: &impl Fn(&str)) {
    let plays = |script| stage.scripts().any(|other| other == script);
    let acks = async {
        if plays(Script::Acks) {
            acks(stage, progress).await;
            progress("kit-acks is through");
        }
    };
    let plain = async {
        if plays(Script::Plain) {
            plain(stage).await;
            progress("kit-plain is through");
        }
    };
    let post = async {
        if plays(Script::Post) {
            post(stage, placed).await;
            progress("kit-post is through");
        }
    };
    let starts = async {
        if plays(Script::Starts) {
            stage.settled(Script::Starts, "starts.channel_hangs").await;
            progress("kit-starts is through");
        }
    };
    let slow = async {
        // Twice as long as everything else: 30 s until ready is late, and 30 s until three requests for health failed.
        if plays(Script::Slow) && !stage.settled(Script::Slow, "slow.unwell").await {
            stage.settled(Script::Slow, "slow.unwell").await;
        }
    };
    let others = async {
        if plays(Script::Long) {
            stage.until(Script::Long, |_| true).await;
        }
        // A host has had its time for those that it must refuse.
        sleep(REFUSAL_TIME).await;
    };
    tokio::join!(acks, plain, post, starts, slow, others);
}

async fn acks(stage: &Stage, progress: &impl Fn(&str)) {
    let me = Script::Acks;
    if stage.until(me, |report| report["asked"] == true).await.is_none() {
        return;
    }
    progress("kit-acks has asked its questions");
    // Long before anything that would send it again for another reason.
    if !stage.options.quick {
        stage.publish(me, "never_once").await;
    }
    for number in 1..=MANY {
        let data = json!({"to": me.name(), "order": "hold", "last": number == MANY});
        stage.publish_as("kit.step", data).await;
    }
    stage.settled(me, "acks.any_order").await;
    stage.publish(me, "error_once").await;
    // What comes behind it was published when it had failed.
    stage.until(me, |report| !["open", ""].contains(&result(report, "acks.error"))).await;
    stage.publish_as("kit.other", json!({"to": me.name()})).await;
    stage.publish(me, "twice").await;
    outside::all(stage).await;
    stage.settled(me, "acks.error").await;
    if !stage.options.quick {
        stage.settled(me, "acks.timeout").await;
    }
    stage.publish(me, "lose").await;
    stage.settled(me, "acks.lost_channel").await;
    progress("kit-acks has lost its channel");
    stage.publish(me, "crash_once").await;
    for _ in 0..3 {
        stage.publish(me, "ok").await;
    }
    stage.settled(me, "crash.alone").await;
    progress("kit-acks has crashed");
    change(stage).await;
    stop(stage).await;
}

/// A change of settings.
async fn change(stage: &Stage) {
    let me = Script::Acks;
    stage.remember(me, "times", &json!(7)).await;
    let outcome =
        stage.options.hooks.configure.configure(&stage.caller, me.name(), &json!({"times": 7})).await;
    if outcome.is_ok() {
        stage.remember(me, "expected/config.change", &json!("a change of the setting times")).await;
        stage.settled(me, "config.change").await;
    }
    stage.note("configure", outcome);
}

/// A stop with an event that is not acked, three that come meanwhile, and a start.
async fn stop(stage: &Stage) {
    let me = Script::Acks;
    stage.publish(me, "until_stop").await;
    let Some(before) = stage.until(me, |report| result(report, "acks.stop") == "waits").await else { return };
    stage.remember(me, "stopping", &json!(true)).await;
    let outcome = stage.options.hooks.stop.stop(&stage.caller, me.name()).await;
    let stopped = outcome.is_ok();
    stage.note("stop", outcome);
    if !stopped {
        return;
    }
    outside::stopped(stage).await;
    for last in [false, false, true] {
        let data = json!({"to": me.name(), "order": "kept", "last": last});
        stage.publish_as("kit.step", data).await;
    }
    let outcome = stage.options.hooks.start.start(&stage.caller, me.name()).await;
    stage.note("start", outcome);
    let after = stage.until(me, |_| true).await;
    stage.remember(me, "expected/events.kept", &json!("3 events while the plugin was stopped")).await;
    stage.settled(me, "events.kept").await;
    stage.settled(me, "acks.stop").await;
    let (before, after) = (before["life"].as_u64(), after.and_then(|report| report["life"].as_u64()));
    stage.ledger.judge("data_directory.kept", after > before, "a stop and a start", || {
        format!("life {after:?} after life {before:?}, by a file in the data directory")
    });
}

async fn plain(stage: &Stage) {
    let me = Script::Plain;
    if stage.until(me, |_| true).await.is_none() {
        return;
    }
    stage.publish(me, "ok").await;
    stage.publish_as("kit.step", json!({"to": "nobody"})).await;
    stage.settled(me, "plain.settled").await;
    stage.publish(me, "lose_restart").await;
    stage.settled(me, "plain.restart").await;
    // A plugin that is not started again could no more say what it waits for.
    stage.remember(me, "expected/crash.restart", &json!("a crash")).await;
    stage.until(me, |report| result(report, "crash.restart") != "open").await;
    stage.publish(me, "poison").await;
    stage.until(me, |report| report["crashes"] == 3).await;
    stage.publish(me, "after_poison").await;
    stage.settled(me, "crash.dead_letter").await;
    if stage.until(me, |_| true).await.is_none() {
        return;
    }
    stage.remember(me, "stopping", &json!(true)).await;
    let outcome = stage.options.hooks.stop.stop(&stage.caller, me.name()).await;
    if outcome.is_ok() {
        let outcome = stage.options.hooks.start.start(&stage.caller, me.name()).await;
        stage.note("start", outcome);
        stage.settled(me, "stop.nothing_left").await;
    }
    stage.note("stop", outcome);
}

async fn post(stage: &Stage, placed: &Placed<'_>) {
    let me = Script::Post;
    if stage.until(me, |_| true).await.is_none() {
        return;
    }
    // The name has an owner now.
    if stage.scripts().any(|script| script == Script::SameName)
        && let Err(error) = placed.place(Script::SameName)
    {
        stage.ledger.remember("hook/place", error.to_string());
    }
    stage.publish(me, "ok").await;
    stage.publish(me, "error_once").await;
    // What comes behind it was published when it had failed.
    stage.until(me, |report| !["open", ""].contains(&result(report, "acks.error"))).await;
    stage.publish_as("kit.other", json!({"to": me.name()})).await;
    stage.remember(me, "expected/post.all", &json!("an event of the type kit.other")).await;
    stage.settled(me, "post.again").await;
    stage.settled(me, "post.all").await;
}
