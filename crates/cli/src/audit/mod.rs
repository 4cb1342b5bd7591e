//! `temps audit`: the record of everything that happened, asked, watched, exported and verified.

mod export;
mod verify;
pub(crate) mod words;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use temps_server::api::audit::{AuditEntry, AuditQuery, AuditStreamQuery};

use crate::arguments::{Limit, moment};
use crate::client::Client;
use crate::exit::Failure;
use crate::output::{Output, or_dash, plain, table, time};

pub(crate) use verify::offline as verify_offline;

/// The trail, listed when nothing else is said.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: List,
}

/// What can be done with the trail.
#[derive(Debug, Subcommand)]
enum Command {
    /// List entries, newest first
    List(List),
    /// Watch entries as they are written
    Tail(Tail),
    /// Write entries to stdout as JSON lines, oldest first, with everything that is in them
    Export(Filter),
    /// Check that nothing in the trail was changed, removed or added
    Verify(verify::Arguments),
}

/// Which entries are meant.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Filter {
    /// Only what concerns this plugin
    #[arg(long, short)]
    plugin: Option<String>,
    /// Only this kind, or a pattern like `plugin.*`
    #[arg(long, short)]
    kind: Option<String>,
    /// Only what this actor did, as the list shows it
    #[arg(long, short)]
    actor: Option<String>,
    /// Only what is about this event
    #[arg(long, short, value_name = "ID")]
    event: Option<String>,
    /// Not before this time: RFC 3339, or how long ago, like 90s, 10m, 2h, 7d
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<DateTime<Utc>>,
    /// Before this time, written in the same ways
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<DateTime<Utc>>,
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    limit: Limit,
}

#[derive(Debug, Args)]
struct Tail {
    #[command(flatten)]
    filter: Filter,
    /// Begin after this place in the trail; with new entries when neither this nor --since is given
    #[arg(long, value_name = "SEQ")]
    after: Option<i64>,
    /// End after this many
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
}

impl Arguments {
    /// Whether the daemon is not to be asked.
    pub(crate) fn is_offline(&self) -> bool {
        matches!(&self.command, Some(Command::Verify(arguments)) if arguments.offline)
    }
}

/// Does what was asked.
pub(crate) async fn run(arguments: Arguments, client: &Client, output: Output) -> Result<(), Failure> {
    match arguments.command {
        None => list(arguments.list, client, output).await,
        Some(Command::List(arguments)) => list(arguments, client, output).await,
        Some(Command::Tail(arguments)) => tail(arguments, client, output).await,
        Some(Command::Export(filter)) => export::run(&stream_query(filter, None), client).await,
        Some(Command::Verify(_)) => verify::run(client, output).await,
    }
}

async fn list(List { filter, limit }: List, client: &Client, output: Output) -> Result<(), Failure> {
    let Filter { plugin, kind, actor, event, since, until } = filter;
    let query = AuditQuery { plugin, kind, actor, event_id: event, since, until, ..AuditQuery::default() };
    let page = client.list::<AuditEntry>(&["api", "audit"], &query, limit.limit).await?;
    output.data(&page, |page| entries(&page.items))
}

/// Watches until enough was seen. The daemon ends a stream now and then; it goes on behind the last entry.
async fn tail(arguments: Tail, client: &Client, output: Output) -> Result<(), Failure> {
    let mut left = arguments.count;
    let mut query = stream_query(arguments.filter, arguments.after);
    while left != Some(0) {
        let mut stream = client.stream(&["api", "audit", "stream"], &query).await?;
        while left != Some(0) {
            let Some(entry) = stream.next::<AuditEntry>().await? else { break };
            query.after = Some(entry.seq);
            output.entry(&entry, line)?;
            left = left.map(|left| left - 1);
        }
    }
    Ok(())
}

fn stream_query(filter: Filter, after: Option<i64>) -> AuditStreamQuery {
    let Filter { plugin, kind, actor, event, since, until } = filter;
    AuditStreamQuery { plugin, kind, actor, event_id: event, since, until, after }
}

fn entries(entries: &[AuditEntry]) -> String {
    let rows = entries.iter().map(|entry| {
        [
            entry.seq.to_string(),
            time(entry.at),
            entry.kind.clone(),
            or_dash(entry.plugin.as_deref()),
            entry.actor.clone(),
            words::essential(&entry.kind, &entry.detail),
        ]
    });
    table(["SEQ", "TIME", "KIND", "PLUGIN", "ACTOR", "WHAT"], rows)
}

fn line(entry: &AuditEntry) -> String {
    let what = words::essential(&entry.kind, &entry.detail);
    let plugin = or_dash(entry.plugin.as_deref());
    plain(&format!("{}  {}  {}  {plugin}  {}  {what}", entry.seq, time(entry.at), entry.kind, entry.actor))
}
