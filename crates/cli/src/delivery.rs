//! `temps delivery`: what became of each event at each plugin, and what to do about it.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use temps_server::api::deliveries::{
    Attempt, AttemptQuery, AttemptResult, Delivery, DeliveryChange, DeliveryHistory, DeliveryQuery,
    DeliveryStatus, PauseRequest,
};
use temps_server::api::page::Page;
use temps_server::api::plugins::Plugin;

use crate::arguments::{Limit, moment};
use crate::client::Client;
use crate::exit::Failure;
use crate::output::{Output, or_dash, plain, record, table, time, time_or_dash};

/// What can be done with deliveries.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List deliveries, oldest first; with --since or --until, each attempt in that time and what the plugin answered
    List(List),
    /// Show what became of an event at each plugin, with every attempt
    Show {
        /// Id of the event, or its seq
        event: String,
        /// Only at this plugin
        #[arg(long, short)]
        plugin: Option<String>,
    },
    /// Send an event to a plugin again, whatever became of it before, or all dead letters
    Redeliver(Which),
    /// Give up a delivery for good that is retried or dead, or all dead letters; its attempts stay on record
    Discard(Which),
    /// Send a plugin nothing more until it is resumed; its events collect
    Pause {
        /// Name of the plugin
        plugin: String,
        /// Why, for those who wonder
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Go on with a plugin's deliveries, whoever paused them
    Resume {
        /// Name of the plugin
        plugin: String,
    },
}

/// Which deliveries are wanted.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only to this plugin
    #[arg(long, short)]
    plugin: Option<String>,
    /// Only in this state
    #[arg(long, short, conflicts_with_all = ["since", "until"])]
    state: Option<State>,
    /// Only of this event: its id, or its seq
    #[arg(long, short, value_name = "EVENT")]
    event: Option<String>,
    /// Attempts that ended not before this time: RFC 3339, or how long ago, like 90s, 10m, 2h, 7d
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<DateTime<Utc>>,
    /// Attempts that ended before this time, written in the same ways
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<DateTime<Utc>>,
    #[command(flatten)]
    limit: Limit,
}

/// One delivery, or all dead letters of a plugin.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Name of the plugin
    plugin: String,
    /// Id of the event, or its seq
    #[arg(required_unless_present = "all_dead")]
    event: Option<String>,
    /// All dead letters of the plugin
    #[arg(long, conflicts_with = "event")]
    all_dead: bool,
}

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum State {
    /// Sent, and not yet known to be handled
    Sent,
    /// Handled
    Settled,
    /// Failed, and waiting for the next attempt
    Retrying,
    /// Given up
    Dead,
    /// Waiting behind a failing event of its project
    Held,
}

impl From<State> for DeliveryStatus {
    fn from(state: State) -> Self {
        match state {
            State::Sent => Self::Sent,
            State::Settled => Self::Settled,
            State::Retrying => Self::Retrying,
            State::Dead => Self::Dead,
            State::Held => Self::Held,
        }
    }
}

/// Does what was asked.
pub(crate) async fn run(command: Command, client: &Client, output: Output) -> Result<(), Failure> {
    match command {
        Command::List(list) if list.since.is_some() || list.until.is_some() => {
            let List { plugin, event, since, until, limit, .. } = list;
            let query = AttemptQuery { plugin, event, since, until, ..AttemptQuery::default() };
            let page = client.list::<Attempt>(&["api", "attempts"], &query, limit.limit).await?;
            output.data(&page, |page| attempts(&page.items))
        }
        Command::List(List { plugin, state, event, limit, .. }) => {
            let query =
                DeliveryQuery { plugin, state: state.map(Into::into), event, ..DeliveryQuery::default() };
            let page = client.list::<Delivery>(&["api", "deliveries"], &query, limit.limit).await?;
            output.data(&page, |page| deliveries(&page.items))
        }
        Command::Show { event, plugin: Some(plugin) } => {
            let history: DeliveryHistory = client.get(&["api", "deliveries", &plugin, &event]).await?;
            output.data(&history, one)
        }
        Command::Show { event, plugin: None } => {
            let query = DeliveryQuery { event: Some(event), ..DeliveryQuery::default() };
            let found = client.list::<Delivery>(&["api", "deliveries"], &query, 500).await?;
            let mut items: Vec<DeliveryHistory> = Vec::new();
            for delivery in found.items {
                let seq = delivery.seq.to_string();
                items.push(client.get(&["api", "deliveries", &delivery.plugin, &seq]).await?);
            }
            let page = Page { items, next_cursor: None };
            output.data(&page, |page| page.items.iter().map(one).collect::<Vec<_>>().join("\n\n"))
        }
        Command::Redeliver(which) => change(which, "redeliver", client, output).await,
        Command::Discard(which) => change(which, "discard", client, output).await,
        Command::Pause { plugin, reason } => {
            let path = ["api", "plugins", &plugin, "deliveries", "pause"];
            let plugin: Plugin = client.post(&path, &PauseRequest { reason }).await?;
            output.data(&plugin, stands)
        }
        Command::Resume { plugin } => {
            let path = ["api", "plugins", &plugin, "deliveries", "resume"];
            let plugin: Plugin = client.post(&path, &json!({})).await?;
            output.data(&plugin, stands)
        }
    }
}

async fn change(which: Which, verb: &str, client: &Client, output: Output) -> Result<(), Failure> {
    let Which { plugin, event, .. } = which;
    match event {
        Some(event) => {
            let path = ["api", "deliveries", &plugin, &event, verb];
            let history: DeliveryHistory = client.post(&path, &json!({})).await?;
            output.data(&history, one)
        }
        None => {
            let path = ["api", "plugins", &plugin, "deliveries", verb];
            let change: DeliveryChange = client.post(&path, &json!({})).await?;
            let done = if verb == "discard" { "discarded" } else { "due again" };
            output.data(&change, |change| {
                plain(&format!("{}: {} dead letter(s) {done}", change.plugin, change.changed))
            })
        }
    }
}

fn deliveries(deliveries: &[Delivery]) -> String {
    let rows = deliveries.iter().map(|delivery| {
        [
            delivery.seq.to_string(),
            delivery.plugin.clone(),
            delivery.event_type.clone(),
            word(delivery.state).to_owned(),
            delivery.attempts.to_string(),
            or_dash(delivery.via.as_deref()),
            time_or_dash(delivery.sent_at),
            took(delivery.latency_ms),
            time_or_dash(delivery.next_attempt_at),
            or_dash(delivery.outcome.as_deref()),
        ]
    });
    table(["SEQ", "PLUGIN", "TYPE", "STATE", "ATTEMPTS", "VIA", "SENT", "TOOK", "NEXT", "OUTCOME"], rows)
}

fn attempts(attempts: &[Attempt]) -> String {
    let rows = attempts.iter().map(|attempt| {
        [
            time(attempt.ended_at),
            attempt.plugin.clone(),
            attempt.seq.to_string(),
            attempt.event_type.clone(),
            attempt.event_id.clone(),
            attempt.attempt.to_string(),
            attempt.via.clone(),
            result(attempt.result).to_owned(),
            took(attempt.latency_ms),
            or_dash(attempt.answer.as_deref()),
        ]
    });
    table(["ENDED", "PLUGIN", "SEQ", "TYPE", "EVENT", "ATTEMPT", "VIA", "RESULT", "TOOK", "ANSWER"], rows)
}

/// One delivery and its attempts.
fn one(history: &DeliveryHistory) -> String {
    let mut text = match (&history.delivery, history.attempts.first()) {
        (Some(delivery), _) => record([
            ("event", Some(delivery.event_id.clone())),
            ("seq", Some(delivery.seq.to_string())),
            ("type", Some(delivery.event_type.clone())),
            ("plugin", Some(delivery.plugin.clone())),
            ("state", Some(word(delivery.state).to_owned())),
            ("why", delivery.outcome.clone()),
            ("next attempt", delivery.next_attempt_at.map(time)),
        ]),
        (None, Some(first)) => record([
            ("event", Some(first.event_id.clone())),
            ("seq", Some(first.seq.to_string())),
            ("type", Some(first.event_type.clone())),
            ("plugin", Some(first.plugin.clone())),
            ("state", Some("discarded".to_owned())),
        ]),
        (None, None) => "it is not open any more, and was never attempted".to_owned(),
    };
    if !history.attempts.is_empty() {
        let rows = history.attempts.iter().map(|attempt| {
            [
                attempt.attempt.to_string(),
                time(attempt.sent_at),
                attempt.via.clone(),
                result(attempt.result).to_owned(),
                took(attempt.latency_ms),
                or_dash(attempt.answer.as_deref()),
            ]
        });
        text.push('\n');
        text.push_str(&table(["ATTEMPT", "SENT", "VIA", "RESULT", "TOOK", "ANSWER"], rows));
    }
    text
}

/// One line: whether deliveries go on.
fn stands(plugin: &Plugin) -> String {
    let paused = plugin.deliveries.as_ref().and_then(|deliveries| deliveries.paused.as_ref());
    plain(&match paused {
        Some(pause) => format!("deliveries to {} are paused: {}", plugin.name, pause.reason),
        None => format!("deliveries to {} go on", plugin.name),
    })
}

fn took(latency_ms: Option<i64>) -> String {
    latency_ms.map_or_else(|| "-".into(), |ms| format!("{ms} ms"))
}

fn word(state: DeliveryStatus) -> &'static str {
    match state {
        DeliveryStatus::Sent => "sent",
        DeliveryStatus::Settled => "settled",
        DeliveryStatus::Retrying => "retrying",
        DeliveryStatus::Dead => "dead",
        DeliveryStatus::Held => "held",
    }
}

fn result(result: AttemptResult) -> &'static str {
    match result {
        AttemptResult::Settled => "settled",
        AttemptResult::Failed => "failed",
        AttemptResult::Dead => "dead",
    }
}
