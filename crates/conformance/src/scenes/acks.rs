//! The feature `ack`: each event is confirmed once, and again when it comes again.

use std::collections::HashSet;

use futures_util::FutureExt;
use temps_protocol::Feature;
use temps_protocol::limits::MAX_UNACKED_EVENTS;

use super::{EVENT_TIMEOUT, Scene, Stage};
use crate::channel::{Channel, Notebook};
use crate::check::Check;
use crate::events::{Events, id};
use crate::report::Sheet;

pub(super) const SCENE: Scene = Scene {
    name: "acks",
    checks: &[
        Check::must(
            "acks.each_event",
            "F-3",
            "confirms each event within 30 s",
            "send an ack with the event's id when its handling has ended, well or not",
        )
        .of(Feature::Ack),
        Check::must(
            "acks.again",
            "A-6",
            "confirms an event again that came again",
            "send the ack also for an event that you remember and skip",
        )
        .of(Feature::Ack),
        Check::must(
            "acks.full_window",
            "A-3",
            "confirms all of 64 events that came at once",
            "keep the events that wait in a line of 64 at least",
        )
        .of(Feature::Ack),
        Check::should(
            "acks.no_others",
            "A-6",
            "confirms nothing that was not sent, and nothing twice",
            "send one ack for each event that came",
        )
        .of(Feature::Ack),
    ],
    play: |stage, sheet| play(stage, sheet).boxed(),
};

async fn play(stage: &Stage, sheet: &mut Sheet) {
    let events = Events::for_plugin(&stage.profile.manifest);
    let (true, true, Some(mut events)) = (stage.has(Feature::Ack), stage.profile.channel, events) else {
        return sheet.rest_not_announced("it does not announce `ack`, or wants no events");
    };
    let mut act = match stage.act(&stage.how("acks")).await {
        Ok(act) => act,
        Err(why) => return sheet.give_up(&why),
    };
    let Some(channel) = &mut act.channel else { return };
    let first = events.next();
    channel.event(&first).await;
    let sent = format!("the event {}", id(&first));
    if let Err(why) = acked(channel, id(&first), 1).await {
        // A plugin that dies of its events is a matter of the scene about events.
        if channel.seen().closed.is_some() {
            return sheet.give_up(&why);
        }
        return sheet.fail("acks.each_event", sent, format!("no ack with its id: {why}; {}", came(channel)));
    }
    sheet.pass("acks.each_event");
    channel.event(&first).await;
    match acked(channel, id(&first), 2).await {
        Ok(()) => sheet.pass("acks.again"),
        Err(why) if channel.seen().closed.is_some() => return sheet.give_up(&why),
        Err(why) => {
            return sheet.fail("acks.again", format!("{sent} again"), format!("no second ack: {why}"));
        }
    }
    let window: Vec<_> = (0..MAX_UNACKED_EVENTS).map(|_| events.next()).collect();
    for event in &window {
        channel.event(event).await;
    }
    let ids: Vec<String> = window.iter().map(|event| id(event).to_owned()).collect();
    let all = |seen: &Notebook| ids.iter().all(|id| count(seen, id) > 0);
    if let Err(why) = channel.until(EVENT_TIMEOUT, all).await {
        let seen = channel.seen();
        let missing = ids.iter().filter(|id| count(&seen, id) == 0).count();
        let sent = format!("{MAX_UNACKED_EVENTS} events at once");
        return sheet.fail("acks.full_window", sent, format!("{missing} without an ack: {why}"));
    }
    sheet.pass("acks.full_window");
    // A pong behind all acks: whatever the plugin sent with them has come by now.
    let _ = channel.ping(super::PONG_TIMEOUT).await;
    others(sheet, &channel.seen(), id(&first), &ids);
}

fn others(sheet: &mut Sheet, seen: &Notebook, first: &str, ids: &[String]) {
    let known: HashSet<&str> = ids.iter().map(String::as_str).chain([first]).collect();
    let sent = format!("{} events, one of them twice", ids.len() + 1);
    if let Some(ack) = seen.acks.iter().find(|ack| !known.contains(ack.id.as_str())) {
        return sheet.fail("acks.no_others", sent, format!("an ack of {:?}, which was never sent", ack.id));
    }
    let twice = ids.iter().find(|id| count(seen, id) > 1);
    match twice {
        Some(id) => sheet.fail(
            "acks.no_others",
            sent,
            format!("{} acks of {id}, which was sent once", count(seen, id)),
        ),
        None => sheet.pass("acks.no_others"),
    }
}

fn count(seen: &Notebook, id: &str) -> usize {
    seen.acks.iter().filter(|ack| ack.id == id).count()
}

/// Waits until an event was acked so often.
async fn acked(channel: &mut Channel, id: &str, times: usize) -> Result<(), String> {
    channel.until(EVENT_TIMEOUT, |seen| count(seen, id) >= times).await
}

fn came(channel: &Channel) -> String {
    let seen = channel.seen();
    let ids: Vec<_> = seen.acks.iter().map(|ack| ack.id.as_str()).collect();
    format!("acks that came: {ids:?}")
}
