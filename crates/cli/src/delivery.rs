//! `temps delivery`: what became of each event at each plugin.

use clap::{Subcommand, ValueEnum};
use temps_server::api::events::{Delivery, DeliveryQuery, DeliveryStatus};

use crate::arguments::Limit;
use crate::client::Client;
use crate::exit::Failure;
use crate::output::{Output, or_dash, table, time_or_dash};

/// What can be done with deliveries.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List deliveries, oldest first
    List {
        /// Only to this plugin
        #[arg(long, short)]
        plugin: Option<String>,
        /// Only in this state
        #[arg(long, short)]
        state: Option<State>,
        #[command(flatten)]
        limit: Limit,
    },
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
}

impl From<State> for DeliveryStatus {
    fn from(state: State) -> Self {
        match state {
            State::Sent => Self::Sent,
            State::Settled => Self::Settled,
            State::Retrying => Self::Retrying,
            State::Dead => Self::Dead,
        }
    }
}

/// Does what was asked.
pub(crate) async fn run(command: Command, client: &Client, output: Output) -> Result<(), Failure> {
    let Command::List { plugin, state, limit } = command;
    let query = DeliveryQuery { plugin, state: state.map(Into::into), ..DeliveryQuery::default() };
    let page = client.list::<Delivery>(&["api", "deliveries"], &query, limit.limit).await?;
    output.data(&page, |page| deliveries(&page.items))
}

fn deliveries(deliveries: &[Delivery]) -> String {
    let rows = deliveries.iter().map(|delivery| {
        [
            delivery.seq.to_string(),
            delivery.plugin.clone(),
            word(delivery.state).to_owned(),
            delivery.attempts.to_string(),
            delivery.via.clone(),
            time_or_dash(delivery.sent_at),
            delivery.latency_ms.map_or_else(|| "-".into(), |ms| format!("{ms} ms")),
            or_dash(delivery.outcome.as_deref()),
        ]
    });
    table(["SEQ", "PLUGIN", "STATE", "ATTEMPTS", "VIA", "SENT", "TOOK", "OUTCOME"], rows)
}

fn word(state: DeliveryStatus) -> &'static str {
    match state {
        DeliveryStatus::Sent => "sent",
        DeliveryStatus::Settled => "settled",
        DeliveryStatus::Retrying => "retrying",
        DeliveryStatus::Dead => "dead",
    }
}
