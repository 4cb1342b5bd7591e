//! `temps event`: publish events, look at the journal, watch it grow.

use std::io::Read;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde_json::Value;
use temps_server::api::deliveries::{DeliveryChange, ReplayRequest};
use temps_server::api::events::{Event, EventQuery, NewEvent, PublishedEvent, StreamQuery};

use crate::arguments::Limit;
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::output::{Output, plain, table, time};

/// Largest payload that is read from stdin, in bytes; the daemon takes events of 256 KiB.
const MAX_PAYLOAD: u64 = 1024 * 1024;

/// What can be done with events.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Publish an event; it is durable when this returns
    Publish(Publish),
    /// Watch events as they happen
    Tail {
        /// Only this type, or a pattern like `deployment.*`
        #[arg(long = "type", short = 't', value_name = "TYPE")]
        event_type: Option<String>,
        /// Begin after this place in the journal; with new events when left out
        #[arg(long, value_name = "SEQ")]
        after: Option<i64>,
        /// End after this many
        #[arg(long, short = 'n', value_name = "N")]
        count: Option<u64>,
    },
    /// List events, newest first
    List {
        /// Only this type, or a pattern like `deployment.*`
        #[arg(long = "type", short = 't', value_name = "TYPE")]
        event_type: Option<String>,
        /// Oldest first, from after this place in the journal
        #[arg(long, value_name = "SEQ")]
        after: Option<i64>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Deliver the journal to a plugin again, in order, from a place or a time on
    #[command(group = clap::ArgGroup::new("begin").required(true))]
    Replay {
        /// Name of the plugin
        #[arg(long, short)]
        plugin: String,
        /// Begin with the event at this place in the journal
        #[arg(long, value_name = "SEQ", group = "begin")]
        from_seq: Option<i64>,
        /// Begin with the first event that was published at this time or later (RFC 3339)
        #[arg(long, value_name = "TIME", group = "begin")]
        since: Option<DateTime<Utc>>,
    },
    /// Show one event
    Show {
        /// Id of the event
        id: String,
    },
}

/// An event to be published.
#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// What happened, for example `deployment.succeeded`
    #[arg(value_name = "TYPE")]
    event_type: String,
    /// The payload, a JSON object; `-` reads it from stdin
    #[arg(long, value_name = "JSON")]
    data: Option<String>,
    /// The project that it concerns, by id
    #[arg(long, short, value_name = "ID")]
    project: Option<i32>,
    /// Identity of the event; publishing twice with one id is publishing once
    #[arg(long)]
    id: Option<String>,
    /// When it happened (RFC 3339); now when left out
    #[arg(long, value_name = "TIME")]
    timestamp: Option<DateTime<Utc>>,
}

/// Does what was asked.
pub(crate) async fn run(command: Command, client: &Client, output: Output) -> Result<(), Failure> {
    match command {
        Command::Publish(publish) => {
            let new = NewEvent {
                id: publish.id,
                event_type: publish.event_type,
                timestamp: publish.timestamp,
                project_id: publish.project,
                data: publish.data.as_deref().map(payload).transpose()?,
            };
            let published: PublishedEvent = client.post(&["api", "events"], &new).await?;
            output.data(&published, |published| {
                let again = if published.duplicate { " (was there already)" } else { "" };
                format!("{}  seq {}{again}", published.id, published.seq)
            })
        }
        Command::Tail { event_type, after, count } => {
            tail(client, output, &StreamQuery { after, event_type }, count).await
        }
        Command::List { event_type, after, limit } => {
            let query = EventQuery { after, event_type, ..EventQuery::default() };
            let page = client.list::<Event>(&["api", "events"], &query, limit.limit).await?;
            output.data(&page, |page| events(&page.items))
        }
        Command::Replay { plugin, from_seq, since } => {
            let path = ["api", "plugins", &plugin, "deliveries", "replay"];
            let change: DeliveryChange = client.post(&path, &ReplayRequest { from_seq, since }).await?;
            output.data(&change, |change| {
                let (plugin, count) = (&change.plugin, change.changed);
                plain(&format!(
                    "{count} event(s) of the journal come again to {plugin}, those among them that it wants"
                ))
            })
        }
        Command::Show { id } => {
            let event: Event = client.get(&["api", "events", &id]).await?;
            output.data(&event, line)
        }
    }
}

async fn tail(
    client: &Client,
    output: Output,
    query: &StreamQuery,
    count: Option<u64>,
) -> Result<(), Failure> {
    let mut left = count;
    let mut stream = client.stream(&["api", "events", "stream"], query).await?;
    while left != Some(0) {
        let Some(event) = stream.next::<Event>().await? else {
            return Err(Failure::new(Exit::Unreachable, "stream_ended", "the daemon ended the stream")
                .hint("`temps event tail --after SEQ` goes on after the last event that was shown"));
        };
        output.entry(&event, line)?;
        left = left.map(|left| left - 1);
    }
    Ok(())
}

/// The payload of `--data`.
fn payload(text: &str) -> Result<Value, Failure> {
    let text = if text == "-" {
        let mut read = String::new();
        std::io::stdin()
            .take(MAX_PAYLOAD + 1)
            .read_to_string(&mut read)
            .map_err(|error| Failure::usage(format!("cannot read the payload from stdin: {error}")))?;
        read
    } else {
        text.to_owned()
    };
    match serde_json::from_str(&text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(Failure::usage("the payload must be a JSON object")
            .hint("for example --data '{\"deployment_id\": 1}'")),
        Err(error) => Err(Failure::usage(format!("the payload is not JSON: {error}"))),
    }
}

fn events(events: &[Event]) -> String {
    let rows = events.iter().map(|event| {
        [
            event.seq.to_string(),
            time(event.timestamp),
            event.event_type.clone(),
            event.project_id.map_or_else(|| "-".into(), |id| id.to_string()),
            event.id.clone(),
        ]
    });
    table(["SEQ", "TIME", "TYPE", "PROJECT", "ID"], rows)
}

fn line(event: &Event) -> String {
    plain(&format!(
        "{}  {}  {}  {}  {}",
        event.seq,
        time(event.timestamp),
        event.event_type,
        event.id,
        event.data
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_an_object_or_refused() {
        assert!(payload("{\"a\": 1}").is_ok());
        for wrong in ["[]", "1", "{", ""] {
            assert_eq!(payload(wrong).unwrap_err().exit, Exit::Usage, "{wrong:?}");
        }
    }
}
