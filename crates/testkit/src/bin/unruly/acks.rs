//! How events are confirmed, and what can be done wrong there. It knows nothing of what becomes of an event.

use std::time::Duration;

use futures_util::SinkExt;
use serde_json::{Value, json};
use temps_testkit::Sin;
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::Plugin;
use crate::channel::Outgoing;

/// Acks that were decided on for one event.
#[derive(Default)]
pub(crate) struct Confirmation {
    acks: Vec<String>,
    after: Duration,
    fatal: bool,
}

impl Confirmation {
    /// Whether the plugin dies once the acks are sent.
    pub(crate) fn is_fatal(&self) -> bool {
        self.fatal
    }
}

/// Decides how `event` is confirmed: not at all, unless both sides know acks.
pub(crate) fn decide(plugin: &Plugin, event: &Value) -> Confirmation {
    if !is_agreed(plugin) || plugin.has(&Sin::NeverAcks) {
        return Confirmation::default();
    }
    let id = &event["id"];
    let is_meant = |wanted: &String| *id == wanted.as_str() || event["event_type"] == wanted.as_str();
    let mut ack = json!({"type": "ack", "id": id, "status": "ok"});
    let mut confirmation = Confirmation::default();
    let mut times = 1;
    for sin in &plugin.order.sins {
        match sin {
            Sin::AcksWithError => ack = failed(id),
            Sin::AcksWithErrorFor { event } if is_meant(event) => ack = failed(id),
            Sin::AcksTwice => times = 2,
            Sin::AcksUnknown => {
                let stray = json!({"type": "ack", "id": format!("never-sent-{}", id.as_str().unwrap_or_default()), "status": "ok"});
                confirmation.acks.push(stray.to_string());
            }
            Sin::AcksLate { after_ms } => confirmation.after = Duration::from_millis(*after_ms),
            Sin::AcksThenCrashes { event } if is_meant(event) => confirmation.fatal = true,
            _ => {}
        }
    }
    confirmation.acks.extend(std::iter::repeat_n(ack.to_string(), times));
    confirmation
}

/// Sends what was decided: now, or later over the channel that there is now.
pub(crate) async fn confirm(
    plugin: &Plugin,
    socket: &mut WebSocketStream<UnixStream>,
    confirmation: Confirmation,
) -> Result<(), Error> {
    if confirmation.after > Duration::ZERO {
        let channel = plugin.channel.lock().ok().and_then(|channel| channel.clone());
        tokio::spawn(async move {
            tokio::time::sleep(confirmation.after).await;
            let Some(channel) = channel else { return };
            for ack in confirmation.acks {
                let _ = channel.send(Outgoing::Text(ack)).await;
            }
        });
        return Ok(());
    }
    for ack in confirmation.acks {
        socket.send(Message::text(ack)).await?;
    }
    if confirmation.fatal {
        std::process::abort();
    }
    Ok(())
}

fn failed(id: &Value) -> Value {
    json!({"type": "ack", "id": id, "status": "error", "error": "told to fail"})
}

fn is_agreed(plugin: &Plugin) -> bool {
    let features = plugin.order.ready.get("features").and_then(Value::as_array);
    let announced = features.is_some_and(|features| features.contains(&json!("ack")));
    announced && std::env::var("TEMPS_FEATURES").is_ok_and(|list| list.split(',').any(|word| word == "ack"))
}
