//! `temps plugin`: see and operate plugins.
//!
//! Every state that is shown is the daemon's measured one; nothing is concluded here.

mod config;
mod explain;
mod grants;
mod kv;
mod logs;
mod record;
pub(crate) mod test;
mod usage;

use clap::Subcommand;
use serde_json::json;
use temps_server::api::deliveries::DeliveryProgress;
use temps_server::api::page::PageQuery;
use temps_server::api::plugins::{
    Adoption, Crash, DebugSwitch, Plugin, PluginApiVersion, PluginDatabase, PluginEgress, Usage,
};

use crate::audit::words::bytes;
use crate::author;
use crate::client::Client;
use crate::exit::Failure;
use crate::output::{Output, or_dash, plain, record, table, time, time_or_dash};

/// What can be done with plugins.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List plugins and where they stand
    List,
    /// Show everything about one plugin
    Info(Name),
    /// Show what a plugin's sandbox is made of, and what of it is in force now
    Explain(Name),
    /// Start a plugin that is stopped, crashed or quarantined
    Start(Name),
    /// Stop a plugin until it is started again, or the daemon restarts
    Stop(Name),
    /// Stop a plugin and start it again
    Restart(Name),
    /// Let a plugin run again, now and after each start of the daemon
    Enable(Name),
    /// Stop a plugin and keep it off, also after a restart of the daemon
    Disable(Name),
    /// Let a debugger pause a plugin: no health checks, nothing that would kill it
    Debug {
        #[command(flatten)]
        name: Name,
        /// Go back to ordinary supervision
        #[arg(long)]
        off: bool,
    },
    /// Show what a plugin has logged
    Logs(logs::Arguments),
    /// Keep the traffic between the daemon and a plugin in a file, secrets masked, until Ctrl-C
    Record(record::Arguments),
    /// Show what a plugin has used: processor, memory, tasks, files, traffic
    Usage(usage::Arguments),
    /// Show what a plugin may do, and what it asks for beyond that
    Grants(Name),
    /// Give a plugin permissions; all that it asks for when none are named
    Grant {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        grants: grants::Named,
    },
    /// Take permissions back; this works at once
    Revoke {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        grants: grants::Named,
    },
    /// Show and change a plugin's settings
    #[command(subcommand)]
    Config(config::Command),
    /// See and clear what a plugin keeps in its key-value storage
    #[command(subcommand)]
    Kv(kv::Command),
    /// Remove a plugin's database on the PostgreSQL server with everything in it, for good
    DropDatabase {
        #[command(flatten)]
        name: Name,
        /// Say that it is meant: what is in the database cannot be brought back
        #[arg(long)]
        yes: bool,
    },
    /// Give a plugin's name, data and grants to another file that claims the name
    Adopt {
        #[command(flatten)]
        name: Name,
        /// The file; may be left out when only one claims the name
        file: Option<String>,
    },
    #[command(flatten)]
    Author(author::Command),
    /// Check whether a plugin speaks the protocol, clause by clause; needs no daemon
    Test(test::Arguments),
}

impl Command {
    /// Whether Ctrl-C is its ordinary end, which it looks after itself.
    pub(crate) fn ends_when_interrupted(&self) -> bool {
        matches!(self, Command::Record(_))
    }

    /// Does what needs no daemon; gives the command back when it needs one.
    pub(crate) async fn alone(self, output: Output) -> Result<Option<Self>, Failure> {
        match self {
            Command::Test(arguments) => test::run(arguments, output).await.map(|()| None),
            other => Ok(Some(other)),
        }
    }
}

/// Which plugin.
#[derive(Debug, clap::Args)]
pub(crate) struct Name {
    /// Name of the plugin, as `temps plugin list` shows it
    #[arg(value_name = "PLUGIN")]
    name: String,
}

/// Does what was asked.
pub(crate) async fn run(command: Command, client: &Client, output: Output) -> Result<(), Failure> {
    let verb = match command {
        Command::List => {
            let page = client.list::<Plugin>(&["api", "plugins"], &PageQuery::default(), u32::MAX).await?;
            return output.data(&page, |page| plugins(&page.items));
        }
        Command::Info(Name { name }) => {
            let plugin: Plugin = client.get(&["api", "plugins", &name]).await?;
            return output.data(&plugin, one);
        }
        Command::Debug { name: Name { name }, off } => {
            let plugin: Plugin =
                client.post(&["api", "plugins", &name, "debug"], &DebugSwitch { on: !off }).await?;
            return output.data(&plugin, stands);
        }
        Command::Adopt { name: Name { name }, file } => {
            let plugin: Plugin = client.post(&["api", "plugins", &name, "adopt"], &Adoption { file }).await?;
            return output.data(&plugin, stands);
        }
        Command::Explain(Name { name }) => return explain::run(&name, client, output).await,
        Command::Usage(arguments) => return usage::run(arguments, client, output).await,
        Command::Config(command) => return config::run(command, client, output).await,
        Command::Kv(command) => return kv::run(command, client, output).await,
        Command::DropDatabase { name: Name { name }, yes: false } => {
            return Err(Failure::usage(format!(
                "this removes everything in the database of {name}, for good"
            ))
            .hint(format!("temps plugin drop-database {name} --yes")));
        }
        Command::DropDatabase { name: Name { name }, .. } => {
            let plugin: Plugin = client.delete(&["api", "plugins", &name, "database"], &json!({})).await?;
            return output.data(&plugin, |plugin| plain(&format!("the database of {} is gone", plugin.name)));
        }
        Command::Record(arguments) => return record::run(arguments, client, output).await,
        Command::Logs(arguments) => return logs::run(arguments, client, output).await,
        Command::Grants(Name { name }) => return grants::show(&name, client, output).await,
        Command::Grant { name, grants } => return grants::grant(&name.name, &grants, client, output).await,
        Command::Revoke { name, grants } => return grants::revoke(&name.name, &grants, client, output).await,
        // Never asks a daemon, so `main` has done it already.
        Command::Author(_) => return Ok(()),
        Command::Start(name) => ("start", name),
        Command::Stop(name) => ("stop", name),
        Command::Restart(name) => ("restart", name),
        Command::Enable(name) => ("enable", name),
        Command::Disable(name) => ("disable", name),
        Command::Test(arguments) => return test::run(arguments, output).await,
    };
    let (verb, Name { name }) = verb;
    let plugin: Plugin = client.post(&["api", "plugins", &name, verb], &json!({})).await?;
    output.data(&plugin, stands)
}

fn plugins(plugins: &[Plugin]) -> String {
    let rows = plugins.iter().map(|plugin| {
        [
            plugin.name.clone(),
            or_dash(plugin.version.as_deref()),
            plugin.state.clone(),
            or_dash(plugin.health.as_deref()),
            or_dash(plugin.channel.as_deref()),
            time_or_dash(plugin.running_since),
            plugin.crashes.to_string(),
            plugin
                .deliveries
                .as_ref()
                .map_or_else(|| "-".into(), |deliveries| deliveries.lag_events.to_string()),
            note(plugin),
        ]
    });
    table(["NAME", "VERSION", "STATE", "HEALTH", "CHANNEL", "RUNNING SINCE", "CRASHES", "LAG", "NOTE"], rows)
}

/// What is not as usual.
fn note(plugin: &Plugin) -> String {
    let deliveries = plugin.deliveries.as_ref();
    let paused = deliveries.and_then(|deliveries| deliveries.paused.as_ref());
    let paused = paused.map(|pause| format!("deliveries paused: {}", pause.reason));
    let dead = deliveries.filter(|deliveries| deliveries.dead > 0);
    let dead = dead.map(|deliveries| format!("{} dead letter(s)", deliveries.dead));
    let near = plugin.usage.iter().flat_map(|usage| usage.near_limits.iter());
    let near = near.map(|limit| format!("near its limit {limit}"));
    plugin.reason.clone().into_iter().chain(near).chain(paused).chain(dead).collect::<Vec<_>>().join("; ")
}

/// One line: where the plugin stands now.
fn stands(plugin: &Plugin) -> String {
    let why = plugin.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    plain(&format!("{} is {}{why}", plugin.name, plugin.state))
}

fn one(plugin: &Plugin) -> String {
    let list = |words: &[String]| (!words.is_empty()).then(|| words.join(", "));
    let events = plugin.manifest.as_ref().and_then(|manifest| {
        let events = manifest["events"].as_array()?;
        list(&events.iter().filter_map(|event| Some(event.as_str()?.to_owned())).collect::<Vec<_>>())
    });
    let mut text = record([
        ("name", Some(plugin.name.clone())),
        ("display name", plugin.display_name.clone()),
        ("description", plugin.description.clone()),
        ("version", plugin.version.clone()),
        ("state", Some(plugin.state.clone())),
        ("why", plugin.reason.clone()),
        ("health", plugin.health.clone()),
        ("channel", plugin.channel.clone()),
        ("api_version", plugin.api_version.as_ref().map(api_version)),
        ("features", list(&plugin.features)),
        ("events", events),
        ("page", plugin.ui_url.clone()),
        ("process", plugin.pid.map(|pid| pid.to_string())),
        ("kept together by", plugin.containment.clone()),
        ("running since", plugin.running_since.map(time)),
        ("uses", plugin.usage.as_ref().map(uses)),
        ("near limits", plugin.usage.as_ref().and_then(|usage| list(&usage.near_limits))),
        ("next try", plugin.next_start_at.map(time)),
        ("starts", Some(plugin.starts.to_string())),
        ("crashes", Some(plugin.crashes.to_string())),
        ("file", Some(plugin.file.clone())),
        ("sha-256", plugin.hash.clone()),
        ("database", plugin.database.as_ref().map(database)),
        ("may reach", plugin.egress.as_ref().map(egress)),
        ("can be done now", list(&plugin.allowed_actions)),
    ]);
    if let Some(deliveries) = &plugin.deliveries {
        text.push_str("\n\n");
        text.push_str(&progress(deliveries));
    }
    if let Some(crash) = &plugin.last_crash {
        text.push_str(&last_crash(crash));
    }
    text
}

fn uses(usage: &Usage) -> String {
    let shown = |value: Option<u32>| value.map_or_else(|| "?".to_owned(), |value| value.to_string());
    format!(
        "cpu {}, memory {}, {} tasks, {} files (at {})",
        usage.cpu_percent.map_or_else(|| "?".to_owned(), |percent| format!("{percent:.1} %")),
        usage.memory_bytes.map_or_else(|| "?".to_owned(), bytes),
        shown(usage.tasks),
        shown(usage.descriptors),
        time(usage.at)
    )
}

fn api_version(version: &PluginApiVersion) -> String {
    match &version.deprecated {
        None => version.major.to_string(),
        Some(advice) => plain(&format!("{} (deprecated: {advice})", version.major)),
    }
}

fn database(database: &PluginDatabase) -> String {
    let state = match (database.reachable, &database.reason) {
        (Some(true), _) => "can be reached".to_owned(),
        (Some(false), Some(reason)) => format!("cannot be reached: {reason}"),
        (Some(false), None) => "cannot be reached".to_owned(),
        (None, _) => "not tried yet".to_owned(),
    };
    plain(&format!("{}, {}; {state}", database.engine, database.place))
}

/// What it may reach outside, the exceptions of the operator among it.
fn egress(egress: &PluginEgress) -> String {
    let targets = if egress.targets.is_empty() { "no host".to_owned() } else { egress.targets.join(", ") };
    let mut text = match egress.way.as_str() {
        "open" => format!("whatever this machine reaches (its grants, {targets}, are not in force)"),
        "none" => format!("nothing, because it has no way out of its network (granted: {targets})"),
        _ => targets,
    };
    if !egress.allow_loopback.is_empty() {
        text.push_str(&format!("; for development {} of this machine", egress.allow_loopback.join(", ")));
    }
    if !egress.without_tls.is_empty() {
        text.push_str(&format!("; without TLS {}", egress.without_tls.join(", ")));
    }
    plain(&text)
}

/// How far it is with its events.
fn progress(deliveries: &DeliveryProgress) -> String {
    let some = |count: u64| (count > 0).then(|| count.to_string());
    let paused = deliveries
        .paused
        .as_ref()
        .map(|pause| format!("{}, by {} since {}", pause.reason, pause.paused_by, time(pause.since)));
    record([
        ("deliveries paused", paused),
        ("events behind", Some(deliveries.lag_events.to_string())),
        ("seconds behind", Some(deliveries.lag_seconds.to_string())),
        ("sent, not settled", some(deliveries.unsettled)),
        ("retrying", some(deliveries.retrying)),
        ("held", some(deliveries.held)),
        ("dead letters", some(deliveries.dead)),
        ("last delivered", deliveries.last_delivered_at.map(time)),
        ("last attempt failed", deliveries.failing.clone()),
    ])
}

fn last_crash(crash: &Crash) -> String {
    let memory = if crash.out_of_memory == Some(true) { ", out of memory" } else { "" };
    let cause = format!("{} while {}{memory}", crash.cause, crash.state);
    let mut text = format!("\n\nlast crash at {}: {}", time(crash.at), plain(&cause));
    for line in &crash.last_lines {
        text.push_str("\n  ");
        text.push_str(&plain(line));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deprecated_version_says_what_to_do() {
        let version = |deprecated: Option<&str>| PluginApiVersion {
            major: 1,
            newest: 2,
            deprecated: deprecated.map(str::to_owned),
        };
        assert_eq!(api_version(&version(None)), "1");
        let shown = api_version(&version(Some("it ends on 2027-06-01")));
        assert_eq!(shown, "1 (deprecated: it ends on 2027-06-01)");
    }
}
