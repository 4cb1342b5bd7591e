//! Events as a platform has them: of unknown types, with unknown fields, large, bare, and more than once.

use bytes::Bytes;
use futures_util::FutureExt;
use http::Method;
use serde_json::Value;
use temps_protocol::{AckStatus, Feature};

use super::{Act, EVENT_TIMEOUT, Scene, Stage};
use crate::check::Check;
use crate::events::{Events, id};
use crate::http::{Shown, ask};
use crate::report::{Finding, Sheet};

pub(super) const SCENE: Scene = Scene {
    name: "events",
    checks: &[
        Check::must(
            "events.ordinary",
            "E-6",
            "lives on after an event that it asked for",
            "look into the log for the reason",
        ),
        Check::must(
            "events.posted",
            "E-7",
            "answers POST /_events with a status from 200 to 299 within 30 s, when it has no channel",
            "serve POST /_events, and answer when the event was handled",
        ),
        Check::must(
            "events.unknown_type",
            "E-4",
            "takes events of types that it does not know",
            "skip events of other types without an error; `deployment.*` takes in later ones",
        ),
        Check::must(
            "events.unknown_fields",
            "E-4",
            "takes events with fields that it does not know",
            "read only the fields that you need",
        ),
        Check::must(
            "events.bare",
            "E-13",
            "takes events with null where nothing is known",
            "take everything in `data` but the ids as something that may be absent",
        ),
        Check::must(
            "events.no_project",
            "E-1",
            "takes events of no project",
            "take `project_id` as something that may be absent",
        ),
        Check::must(
            "events.largest",
            "E-1",
            "takes an event of 256 KiB",
            "do not bound bodies and frames below 256 KiB",
        ),
        Check::must(
            "events.twice",
            "E-5",
            "takes the same event twice",
            "remember the ids of events that must not act twice",
        ),
    ],
    play: |stage, sheet| play(stage, sheet).boxed(),
};

async fn play(stage: &Stage, sheet: &mut Sheet) {
    let Some(mut events) = Events::for_plugin(&stage.profile.manifest) else {
        return sheet.rest_not_announced("it wants no events");
    };
    let mut act = match stage.act(&stage.how("events")).await {
        Ok(act) => act,
        Err(why) => return sheet.give_up(&why),
    };
    let first = events.next();
    let mut waits = stage.has(Feature::Ack);
    let ordinary = deliver(&mut act, &first, &mut waits, false).await;
    let (name, other) = if stage.profile.channel {
        sheet.not_announced("events.posted", "its events come over the channel");
        ("events.ordinary", "an ordinary event was too much")
    } else {
        sheet.not_announced("events.ordinary", "its events come by POST /_events");
        ("events.posted", "an ordinary event was not taken")
    };
    if !sheet.settle(name, ordinary) {
        return sheet.give_up(other);
    }
    // Only a plugin that handles an ordinary event well can be asked to handle the others as well.
    let strictly = acked_well(&act, id(&first));
    let unknown = events.of_unknown_type();
    if unknown.is_none() {
        sheet.not_announced("events.unknown_type", "it lists every type that it wants by its full name");
    }
    let of_none = events.of_no_project();
    if of_none.is_none() {
        sheet.not_announced("events.no_project", "it wants only events that have a project");
    }
    let rest = [
        ("events.unknown_type", unknown),
        ("events.unknown_fields", Some(events.with_unknown_fields())),
        ("events.bare", Some(events.bare())),
        ("events.no_project", of_none),
        ("events.twice", Some(first)),
        ("events.largest", Some(events.largest())),
    ];
    for (name, event) in rest {
        let Some(event) = event else { continue };
        let outcome = deliver(&mut act, &event, &mut waits, strictly).await;
        let lives = act.life.runs();
        sheet.settle(name, outcome);
        if !lives {
            return;
        }
    }
}

/// Whether an event was acked with `ok`.
fn acked_well(act: &Act, id: &str) -> bool {
    act.channel.as_ref().is_some_and(|channel| {
        channel.seen().acks.iter().any(|ack| ack.id == id && ack.status == AckStatus::Ok)
    })
}

/// Delivers one event on the plugin's way. `waits` is turned off once an ack did not come; that has a check elsewhere. With `strictly`, an ack with an error counts as not taken.
async fn deliver(act: &mut Act, event: &Value, waits: &mut bool, strictly: bool) -> Result<(), Finding> {
    let text = event.to_string();
    let sent: String = text.chars().take(400).collect();
    let found = |came: String| Finding { sent: sent.clone(), came };
    let Some(channel) = &mut act.channel else {
        let shown = Shown::Secret(&act.life.secret);
        let answer =
            ask(&act.life.socket, Method::POST, "/_events", shown, Some(Bytes::from(text)), EVENT_TIMEOUT)
                .await;
        return match answer {
            Ok(answer) if answer.status.is_success() => act.is_healthy().await.map_err(found),
            Ok(answer) => Err(found(format!("the status {}{}", answer.status, act.life.last_words()))),
            Err(why) => Err(found(format!("{why}{}", act.life.last_words()))),
        };
    };
    let before = channel.seen().acks.len();
    channel.event(event).await;
    if *waits {
        *waits = channel.until(EVENT_TIMEOUT, |seen| seen.acks.len() > before).await.is_ok();
        let seen = channel.seen();
        let refused =
            seen.acks[before..].iter().find(|ack| ack.id == id(event) && ack.status == AckStatus::Error);
        if let Some(ack) = refused.filter(|_| strictly) {
            return Err(found(format!("an ack with an error: {:?}", ack.error.clone().unwrap_or_default())));
        }
    }
    act.is_well().await.map_err(found)
}
