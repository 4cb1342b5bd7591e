//! The channel: pings, frames that a plugin does not know, and what it sends by itself.

use std::sync::PoisonError;

use futures_util::FutureExt;
use serde_json::json;
use temps_protocol::Feature;
use temps_protocol::limits::MAX_FRAME_BYTES;

use super::{Act, Scene, Stage};
use crate::check::Check;
use crate::events::Events;
use crate::report::{Finding, Sheet};

pub(super) const SCENE: Scene = Scene {
    name: "channel",
    checks: &[
        Check::must("channel.binary", "C-3", "ignores binary messages", "skip messages that are not text"),
        Check::must(
            "channel.largest_frame",
            "C-3",
            "reads a frame of 1 MiB",
            "set the WebSocket library's bound for messages to 1 MiB at least",
        ),
        Check::must(
            "channel.unknown_type",
            "C-11",
            "ignores frames of a type that it does not know",
            "skip what has another type than response, event and config",
        ),
        Check::must(
            "channel.unknown_fields",
            "C-11",
            "ignores fields that it does not know",
            "read only the fields that you need",
        ),
        Check::must(
            "channel.unknown_response",
            "C-11",
            "ignores responses to requests that it does not wait for",
            "look the id up, and skip the response when nobody waits",
        ),
        Check::should(
            "channel.garbage",
            "C-11",
            "survives messages that are no frames at all",
            "skip a message that is not a JSON object",
        ),
        Check::must(
            "channel.frames",
            "C-3",
            "sends nothing but text messages that hold one frame each",
            "send each frame as one text message with one JSON object, at most 1 MiB long",
        ),
        Check::must(
            "channel.requests",
            "C-7",
            "gives each request an id of its own that is not null, and a method",
            "number the requests",
        ),
        Check::must(
            "channel.params",
            "D-1",
            "asks with the parameters that the methods have",
            "look into the table of methods",
        ),
        Check::must(
            "channel.later_answers",
            "D-3",
            "takes answers with further fields, and further words in `state`",
            "read only the fields that you need, and take `state` as a text",
        ),
        Check::must(
            "channel.kv_params",
            "F-8",
            "calls the storage with the parameters that its methods have",
            "look into the table of methods",
        )
        .of(Feature::Kv),
        Check::must(
            "channel.kv_bounds",
            "F-11",
            "keeps the bounds of keys and values",
            "use keys of 1 to 256 bytes without control characters, and values of at most 64 KiB",
        )
        .of(Feature::Kv),
        Check::should(
            "channel.lost",
            "C-6",
            "goes on serving its routes without a channel",
            "do not end when the channel is closed; the host decides what comes next",
        ),
    ],
    play: |stage, sheet| play(stage, sheet).boxed(),
};

async fn play(stage: &Stage, sheet: &mut Sheet) {
    if !stage.profile.channel {
        return sheet.rest_not_announced("it has no channel");
    }
    let mut act = match stage.act(&stage.how("channel")).await {
        Ok(act) => act,
        Err(why) => return sheet.give_up(&why),
    };
    if !asks(stage, sheet, &mut act).await {
        return sheet.give_up("it did not survive what came before");
    }
    if !unknown_frames(sheet, &mut act).await || !odd_messages(sheet, &mut act).await {
        return;
    }
    frames(sheet, &act);
    garbage(sheet, act).await;
    lost(stage, sheet).await;
}

/// Events give a plugin a reason to ask; whatever it asks is answered in words of a later version.
async fn asks(stage: &Stage, sheet: &mut Sheet, act: &mut Act) -> bool {
    let Some(mut events) = Events::for_plugin(&stage.profile.manifest) else {
        sheet.not_announced("channel.later_answers", "it wants no events, and asked nothing");
        return true;
    };
    // A plugin that dies of any event is a matter of the scene about events.
    if act.handles(&[events.next()]).await.is_err() {
        return false;
    }
    let earlier = act.channel.as_ref().map_or(0, |channel| channel.seen().asked.len());
    act.platform.lock().unwrap_or_else(PoisonError::into_inner).later = true;
    let more: Vec<_> = (0..4).map(|_| events.next()).collect();
    let sent = "events, and answers with further fields to what it asked".to_owned();
    let well = act.handles(&more).await.map_err(|came| Finding { sent, came });
    let asked = act.channel.as_ref().map_or(0, |channel| channel.seen().asked.len());
    match well {
        Ok(()) if asked == earlier => {
            sheet.not_announced("channel.later_answers", "it asked nothing while it was watched");
            true
        }
        well => sheet.settle("channel.later_answers", well),
    }
}

async fn unknown_frames(sheet: &mut Sheet, act: &mut Act) -> bool {
    let kinds = [
        (
            "channel.unknown_type",
            vec![
                json!({"type": "of_a_later_version", "id": 1, "event": {"id": 5}}),
                json!({"type": "hello", "method": "x"}),
            ],
        ),
        (
            "channel.unknown_fields",
            vec![json!({"type": "response", "id": "nobody-asked", "result": {}, "trace": {"a": [1, 2]}})],
        ),
        (
            "channel.unknown_response",
            vec![
                json!({"type": "response", "id": u64::MAX, "result": null}),
                json!({"type": "response", "id": -1, "error": {"code": "of_a_later_version", "message": "?"}}),
                json!({"type": "response", "id": "x".repeat(10_000), "result": {}}),
            ],
        ),
    ];
    for (name, frames) in kinds {
        let mut sent = String::new();
        for frame in frames {
            if let Some(channel) = &act.channel {
                channel.send(&frame).await;
            }
            sent = frame.to_string().chars().take(120).collect();
        }
        let well = act.survives(&sent).await;
        if !sheet.settle(name, well) {
            return false;
        }
    }
    true
}

async fn odd_messages(sheet: &mut Sheet, act: &mut Act) -> bool {
    if let Some(channel) = &act.channel {
        channel.send_bytes(b"{\"type\":\"event\"}\x00\xff".to_vec()).await;
    }
    let well = act.survives("a binary message").await;
    if !sheet.settle("channel.binary", well) {
        return false;
    }
    if let Some(channel) = &act.channel {
        let begin = "{\"type\":\"of_a_later_version\",\"padding\":\"";
        let padding = "x".repeat(MAX_FRAME_BYTES - begin.len() - 2);
        channel.send_text(format!("{begin}{padding}\"}}")).await;
    }
    let well = act.survives("a frame of 1 MiB").await;
    sheet.settle("channel.largest_frame", well)
}

/// What the plugin sent by itself up to here.
fn frames(sheet: &mut Sheet, act: &Act) {
    let Some(channel) = &act.channel else { return };
    let seen = channel.seen();
    let asked_kv = seen.asked.iter().any(|(method, _)| method.starts_with("kv_"));
    let asked_data = seen.asked.iter().any(|(method, _)| !method.starts_with("kv_"));
    for (name, clause, was_tried, otherwise) in [
        ("channel.frames", "C-3", true, ""),
        (
            "channel.requests",
            "C-7",
            !seen.asked.is_empty() || seen.broken.iter().any(|(c, _)| *c == "C-7"),
            "it asked nothing while it was watched",
        ),
        ("channel.params", "D-1", asked_data, "it asked for no data while it was watched"),
        ("channel.kv_params", "F-8", asked_kv, "it kept nothing while it was watched"),
        ("channel.kv_bounds", "F-11", asked_kv, "it kept nothing while it was watched"),
    ] {
        match seen.broken.iter().find(|(broken, _)| *broken == clause) {
            Some((_, came)) => sheet.fail(name, "events", came.clone()),
            None if was_tried => sheet.pass(name),
            None => sheet.not_announced(name, otherwise),
        }
    }
}

async fn garbage(sheet: &mut Sheet, mut act: Act) {
    for message in [
        "this is no JSON",
        "[]",
        "7",
        "\"event\"",
        "{}",
        "{\"type\":3}",
        "{\"type\":\"event\"}",
        "{\"type\":\"event\",\"event\":7}",
        "{\"type\":\"response\",\"id\":null,\"result\":{}}",
        "{\"type\":\"response\",\"id\":{\"a\":[1]},\"result\":{}}",
        "{\"type\":\"response\"}",
    ] {
        if let Some(channel) = &act.channel {
            channel.send_text(message.to_owned()).await;
        }
        let well = act.survives(message).await;
        if well.is_err() {
            sheet.settle("channel.garbage", well);
            return;
        }
    }
    sheet.pass("channel.garbage");
}

/// The channel is closed in order in one life, and lost in another.
async fn lost(stage: &Stage, sheet: &mut Sheet) {
    let mut act = match stage.act(&stage.how("lost")).await {
        Ok(act) => act,
        Err(why) => return sheet.give_up(&why),
    };
    if let Err(why) = act.is_well().await {
        return sheet.give_up(&why);
    }
    if let Some(mut channel) = act.channel.take() {
        channel.close().await;
        // The plugin answers a close with a close, or by hanging up; if it does neither, the connection goes here.
        let _ = channel.until(std::time::Duration::from_secs(1), |seen| seen.closed.is_some()).await;
        channel.lose();
    }
    // A plugin that ends for want of a channel does it at once.
    let ended = act.life.ended(std::time::Duration::from_millis(300)).await;
    let found = match ended {
        Some(status) => Err(format!("the plugin ended with {status}{}", act.life.last_words())),
        None => act.is_healthy().await,
    };
    let sent = "a close of the channel, then GET health_path".to_owned();
    sheet.settle("channel.lost", found.map_err(|came| Finding { sent, came }));
}
