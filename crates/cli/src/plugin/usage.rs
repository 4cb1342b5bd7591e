//! `temps plugin usage`: what a plugin has used, from the measurements in the audit trail.

use chrono::{DateTime, Utc};
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use temps_server::api::audit::{AuditEntry, AuditQuery};

use crate::arguments::{Limit, moment};
use crate::audit::words::bytes;
use crate::client::Client;
use crate::exit::Failure;
use crate::output::{Output, record, table, time};

/// Which measurements are wanted.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    name: super::Name,
    /// Not before this time: RFC 3339, or how long ago, like 90s, 10m, 2h, 7d
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<DateTime<Utc>>,
    /// Before this time, written in the same ways
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<DateTime<Utc>>,
    #[command(flatten)]
    limit: Limit,
}

/// One measurement. What was not known then is `None`.
#[derive(Debug, Clone, Serialize)]
struct Measured {
    at: DateTime<Utc>,
    over_ms: u64,
    cpu_ms: Option<u64>,
    memory_bytes: Option<u64>,
    processes: Option<u64>,
    tasks: Option<u64>,
    descriptors: Option<u64>,
    frames_in: u64,
    frames_out: u64,
    frame_bytes_in: u64,
    frame_bytes_out: u64,
    requests: u64,
    body_bytes_in: u64,
    body_bytes_out: u64,
}

/// All of them together.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Summary {
    /// Time that was measured.
    over_ms: u64,
    /// Processor time in percent of one processor, over the time in which it was known.
    cpu_percent: Option<f64>,
    /// Most memory that was seen.
    memory_peak_bytes: Option<u64>,
    /// Most tasks that were seen.
    tasks_peak: Option<u64>,
    /// Most descriptors that were seen.
    descriptors_peak: Option<u64>,
    frames_in: u64,
    frames_out: u64,
    requests: u64,
    body_bytes_in: u64,
    body_bytes_out: u64,
}

#[derive(Debug, Serialize)]
struct Used {
    items: Vec<Measured>,
    summary: Summary,
}

/// Shows what was measured, oldest first, and all of it together.
pub(crate) async fn run(arguments: Arguments, client: &Client, output: Output) -> Result<(), Failure> {
    let Arguments { name, since, until, limit } = arguments;
    // A name that nothing has is a mistake, and no plugin that used nothing.
    let _: Value = client.get(&["api", "plugins", &name.name]).await?;
    let query = AuditQuery {
        plugin: Some(name.name),
        kind: Some("plugin.usage".to_owned()),
        since,
        until,
        ..AuditQuery::default()
    };
    let page = client.list::<AuditEntry>(&["api", "audit"], &query, limit.limit).await?;
    let items: Vec<Measured> = page.items.iter().rev().map(measured).collect();
    let used = Used { summary: summary(&items), items };
    output.data(&used, text)
}

fn measured(entry: &AuditEntry) -> Measured {
    let detail = &entry.detail;
    let (channel, routes) = (&detail["channel"], &detail["routes"]);
    let count = |value: &Value| value.as_u64().unwrap_or_default();
    Measured {
        at: entry.at,
        over_ms: count(&detail["over_ms"]),
        cpu_ms: detail["cpu_ms"].as_u64(),
        memory_bytes: detail["memory_bytes"].as_u64(),
        processes: detail["processes"].as_u64(),
        tasks: detail["tasks"].as_u64(),
        descriptors: detail["descriptors"].as_u64(),
        frames_in: count(&channel["frames_in"]),
        frames_out: count(&channel["frames_out"]),
        frame_bytes_in: count(&channel["bytes_in"]),
        frame_bytes_out: count(&channel["bytes_out"]),
        requests: count(&routes["requests"]),
        body_bytes_in: count(&routes["bytes_in"]),
        body_bytes_out: count(&routes["bytes_out"]),
    }
}

fn summary(items: &[Measured]) -> Summary {
    let sum = |of: fn(&Measured) -> u64| items.iter().map(of).sum();
    let peak = |of: fn(&Measured) -> Option<u64>| items.iter().filter_map(of).max();
    let known: Vec<_> = items.iter().filter_map(|item| Some((item.cpu_ms?, item.over_ms))).collect();
    let over: u64 = known.iter().map(|(_, over)| over).sum();
    let cpu: u64 = known.iter().map(|(cpu, _)| cpu).sum();
    Summary {
        over_ms: sum(|item| item.over_ms),
        cpu_percent: percent(cpu, over),
        memory_peak_bytes: peak(|item| item.memory_bytes),
        tasks_peak: peak(|item| item.tasks),
        descriptors_peak: peak(|item| item.descriptors),
        frames_in: sum(|item| item.frames_in),
        frames_out: sum(|item| item.frames_out),
        requests: sum(|item| item.requests),
        body_bytes_in: sum(|item| item.body_bytes_in),
        body_bytes_out: sum(|item| item.body_bytes_out),
    }
}

fn percent(cpu_ms: u64, over_ms: u64) -> Option<f64> {
    (over_ms > 0).then(|| (cpu_ms as f64 / over_ms as f64 * 1000.0).round() / 10.0)
}

fn text(used: &Used) -> String {
    if used.items.is_empty() {
        return "nothing was measured in that time".to_owned();
    }
    let shown = |value: Option<u64>| value.map_or_else(|| "?".to_owned(), |value| value.to_string());
    let shown_bytes = |value: Option<u64>| value.map_or_else(|| "?".to_owned(), bytes);
    let shown_percent =
        |value: Option<f64>| value.map_or_else(|| "?".to_owned(), |value| format!("{value:.1} %"));
    let rows = used.items.iter().map(|item| {
        [
            time(item.at),
            shown_percent(item.cpu_ms.and_then(|cpu| percent(cpu, item.over_ms))),
            shown_bytes(item.memory_bytes),
            shown(item.tasks),
            shown(item.descriptors),
            format!("{} / {}", item.frames_in, item.frames_out),
            item.requests.to_string(),
            format!("{} / {}", bytes(item.body_bytes_in), bytes(item.body_bytes_out)),
        ]
    });
    let head = ["TIME", "CPU", "MEMORY", "TASKS", "FILES", "FRAMES IN / OUT", "REQUESTS", "BODIES IN / OUT"];
    let all = &used.summary;
    let together = record([
        ("measured", Some(format!("{} s", all.over_ms / 1000))),
        ("cpu", Some(shown_percent(all.cpu_percent))),
        ("memory at most", Some(shown_bytes(all.memory_peak_bytes))),
        ("tasks at most", Some(shown(all.tasks_peak))),
        ("files at most", Some(shown(all.descriptors_peak))),
        ("frames in / out", Some(format!("{} / {}", all.frames_in, all.frames_out))),
        ("requests", Some(all.requests.to_string())),
        ("bodies in / out", Some(format!("{} / {}", bytes(all.body_bytes_in), bytes(all.body_bytes_out)))),
    ]);
    format!("{}\n\n{together}", table(head, rows))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(detail: Value) -> AuditEntry {
        let (kind, actor) = ("plugin.usage".to_owned(), "host".to_owned());
        AuditEntry { seq: 1, at: Utc::now(), kind, plugin: Some("a".into()), actor, detail }
    }

    #[test]
    fn a_summary_leaves_out_what_was_not_known_instead_of_counting_it_as_nothing() {
        let items = [
            measured(&entry(json!({"over_ms": 30_000, "cpu_ms": 3_000, "memory_bytes": 100, "tasks": 3,
                "channel": {"frames_in": 2, "frames_out": 1}, "routes": {"requests": 4}}))),
            measured(&entry(json!({"over_ms": 30_000, "cpu_ms": null, "memory_bytes": 500, "tasks": null}))),
        ];
        let all = summary(&items);
        assert_eq!((all.cpu_percent, all.over_ms), (Some(10.0), 60_000));
        assert_eq!((all.memory_peak_bytes, all.tasks_peak, all.descriptors_peak), (Some(500), Some(3), None));
        assert_eq!((all.frames_in, all.requests), (2, 4));
        let shown = text(&Used { summary: summary(&items[1..]), items: items[1..].to_vec() });
        assert!(shown.contains('?') && !shown.contains("0.0 %"), "{shown}");
        assert_eq!(summary(&[]), Summary::default());
    }
}
