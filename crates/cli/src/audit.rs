//! `temps audit`: the record of everything that happened.

use chrono::{DateTime, Utc};
use clap::Args;
use temps_server::api::audit::{AuditEntry, AuditQuery};

use crate::arguments::Limit;
use crate::client::Client;
use crate::exit::Failure;
use crate::output::{Output, or_dash, table, time};

/// Which entries are wanted, newest first.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only what concerns this plugin
    #[arg(long, short)]
    plugin: Option<String>,
    /// Only this kind, or a pattern like `plugin.*`
    #[arg(long, short)]
    kind: Option<String>,
    /// Not before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    since: Option<DateTime<Utc>>,
    /// Before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    until: Option<DateTime<Utc>>,
    #[command(flatten)]
    limit: Limit,
}

/// Lists the entries that were asked for.
pub(crate) async fn run(arguments: Arguments, client: &Client, output: Output) -> Result<(), Failure> {
    let Arguments { plugin, kind, since, until, limit } = arguments;
    let query = AuditQuery { plugin, kind, since, until, ..AuditQuery::default() };
    let page = client.list::<AuditEntry>(&["api", "audit"], &query, limit.limit).await?;
    output.data(&page, |page| entries(&page.items))
}

fn entries(entries: &[AuditEntry]) -> String {
    let rows = entries.iter().map(|entry| {
        [
            entry.seq.to_string(),
            time(entry.at),
            entry.kind.clone(),
            or_dash(entry.plugin.as_deref()),
            entry.actor.clone(),
            entry.detail.to_string(),
        ]
    });
    table(["SEQ", "TIME", "KIND", "PLUGIN", "ACTOR", "DETAIL"], rows)
}
