//! The feature `reconnect`: a new channel takes the place of the old one.

use std::time::Duration;

use futures_util::FutureExt;
use temps_protocol::Feature;

use super::{Act, EVENT_TIMEOUT, PONG_TIMEOUT, Scene, Stage};
use crate::channel::Channel;
use crate::check::Check;
use crate::events::{Events, id};
use crate::report::{Finding, Sheet};

/// Waits before a plugin that refused a channel is asked for one again.
const AGAIN_AFTER: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(400), Duration::from_secs(1)];

pub(super) const SCENE: Scene = Scene {
    name: "reconnect",
    checks: &[
        Check::must(
            "reconnect.after_a_loss",
            "F-2",
            "accepts a new channel after the old one was lost",
            "answer each upgrade of /_temps/channel, not only the first",
        )
        .of(Feature::Reconnect),
        Check::must(
            "reconnect.in_place",
            "C-5",
            "takes a new channel in place of an old one that it still holds",
            "use the newest channel, and close the old one",
        )
        .of(Feature::Reconnect),
        Check::must(
            "reconnect.acks_come_over_the_new_one",
            "A-6",
            "confirms events on the channel over which they came",
            "send an ack over the channel that is open now",
        )
        .of(Feature::Ack),
    ],
    play: |stage, sheet| play(stage, sheet).boxed(),
};

async fn play(stage: &Stage, sheet: &mut Sheet) {
    if !stage.has(Feature::Reconnect) || !stage.profile.channel {
        return sheet.rest_not_announced("it does not announce `reconnect`");
    }
    let mut act = match stage.act(&stage.how("reconnect")).await {
        Ok(act) => act,
        Err(why) => return sheet.give_up(&why),
    };
    if let Err(why) = act.is_well().await {
        return sheet.give_up(&why);
    }
    let acks = stage.has(Feature::Ack);
    let mut events = Events::for_plugin(&stage.profile.manifest).filter(|_| acks);
    let mut acks_at_all = false;
    if let Some(mut channel) = act.channel.take() {
        if let Some(events) = &mut events {
            acks_at_all = acked(&mut channel, events).await.is_ok();
        }
        // A plugin that dies of its events is a matter of the scene about events.
        if let Err(why) = channel.ping(PONG_TIMEOUT).await {
            return sheet.give_up(&why);
        }
        channel.lose();
    }
    let mut channel = match after_a_loss(&act).await {
        Ok(channel) => channel,
        Err(came) => {
            let sent = "a second channel after the first was lost";
            sheet.settle("reconnect.after_a_loss", Err(Finding { sent: sent.into(), came }));
            return;
        }
    };
    sheet.pass("reconnect.after_a_loss");
    acks_over_it(sheet, &mut channel, events.as_mut(), acks_at_all).await;
    let outcome = async { works(act.open_channel().await?).await }.await;
    let sent = "a third channel while the second was open";
    sheet.settle("reconnect.in_place", outcome.map(drop).map_err(|came| Finding { sent: sent.into(), came }));
}

/// A channel after the first one was lost. The plugin may learn of the loss later than the one who lost it, so it is asked more than
/// once, as a host does.
async fn after_a_loss(act: &Act) -> Result<Channel, String> {
    for wait in AGAIN_AFTER {
        if let Ok(channel) = act.open_channel().await {
            return works(channel).await;
        }
        tokio::time::sleep(wait).await;
    }
    works(act.open_channel().await?).await
}

/// Sends an event, and waits for its ack.
async fn acked(channel: &mut Channel, events: &mut Events) -> Result<(), String> {
    let event = events.next();
    channel.event(&event).await;
    channel.until(EVENT_TIMEOUT, |seen| seen.acks.iter().any(|ack| ack.id == id(&event))).await
}

/// The channel itself when the plugin reads it.
async fn works(mut channel: Channel) -> Result<Channel, String> {
    channel.ping(PONG_TIMEOUT).await?;
    Ok(channel)
}

async fn acks_over_it(
    sheet: &mut Sheet,
    channel: &mut Channel,
    events: Option<&mut Events>,
    acks_at_all: bool,
) {
    let name = "reconnect.acks_come_over_the_new_one";
    let Some(events) = events else {
        return sheet.not_announced(name, "it does not announce `ack`, or wants no events");
    };
    if !acks_at_all {
        return sheet.not_run(name, "not even the first channel brought an ack");
    }
    let acked = acked(channel, events).await;
    let sent = "an event over the second channel".to_owned();
    sheet.settle(name, acked.map_err(|came| Finding { sent, came: format!("no ack over it: {came}") }));
}
