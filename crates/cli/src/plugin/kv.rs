//! `temps plugin kv`: what a plugin keeps in its key-value storage.

use clap::Subcommand;
use temps_server::api::storage::{Cleared, Storage, StorageEntry, StorageKey, StorageQuery};

use super::Name;
use crate::client::Client;
use crate::exit::Failure;
use crate::output::{Output, plain, table, time, time_or_dash};
use crate::project::confirmed;

/// Longest value in a table, in characters.
const SHOWN: usize = 60;

/// What can be done with a plugin's storage.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List entries, and how much there is
    List {
        #[command(flatten)]
        name: Name,
        /// Only keys that begin with this
        #[arg(long)]
        prefix: Option<String>,
        /// With their values
        #[arg(long)]
        values: bool,
        /// Most entries
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
        limit: u32,
        /// Where the list before ended
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Show one entry
    Get {
        #[command(flatten)]
        name: Name,
        /// Its key
        key: String,
    },
    /// Delete everything that the plugin keeps there
    Clear {
        #[command(flatten)]
        name: Name,
        /// It is meant
        #[arg(long)]
        yes: bool,
    },
}

/// Does what was asked.
pub(crate) async fn run(command: Command, client: &Client, output: Output) -> Result<(), Failure> {
    match command {
        Command::List { name: Name { name }, prefix, values, limit, cursor } => {
            let query = StorageQuery { prefix, values: Some(values), limit: Some(limit), cursor };
            let storage: Storage = client.get_with(&["api", "plugins", &name, "storage"], &query).await?;
            output.data(&storage, text)
        }
        Command::Get { name: Name { name }, key } => {
            let path = ["api", "plugins", &name, "storage", "entry"];
            let entry: StorageEntry = client.get_with(&path, &StorageKey { key }).await?;
            output
                .data(&entry, |entry| entry.value.as_ref().map(|v| plain(&v.to_string())).unwrap_or_default())
        }
        Command::Clear { name: Name { name }, yes } => {
            confirmed(yes, &format!("everything that {name} keeps in its storage"))?;
            let cleared: Cleared = client.delete(&["api", "plugins", &name, "storage"], &()).await?;
            output.data(&cleared, |cleared| format!("{} entries are gone", cleared.entries))
        }
    }
}

fn text(storage: &Storage) -> String {
    let rows = storage.items.iter().map(|entry| {
        let value = entry.value.as_ref().map(|value| value.to_string()).unwrap_or_default();
        let value = value.chars().take(SHOWN).collect();
        let (at, end) = (time(entry.updated_at), time_or_dash(entry.expires_at));
        [entry.key.clone(), entry.revision.to_string(), at, end, value]
    });
    let listed = table(["KEY", "REVISION", "WRITTEN", "ENDS", "VALUE"], rows);
    let (entries, bytes) = (storage.entries, storage.bytes);
    let more = storage.next_cursor.as_ref().map(|cursor| format!("\nmore: --cursor {}", plain(cursor)));
    format!(
        "{listed}\n{entries} of {} entries, {bytes} of {} bytes{}",
        storage.max_entries,
        storage.max_bytes,
        more.unwrap_or_default()
    )
}
