//! An entry of the audit trail in one line: the words that matter, in the order in which one would say them.

use serde_json::Value;

/// Lines of a plugin's log that are shown in one line; `temps plugin info` and `--json` have all.
const LAST_LINES: usize = 3;

/// What happened, from the detail of an entry.
pub(crate) fn essential(kind: &str, detail: &Value) -> String {
    match kind {
        "plugin.crashed" => crashed(detail),
        "plugin.stopped" => stopped(detail),
        "plugin.usage" => used(detail),
        _ => pairs(detail),
    }
}

fn crashed(detail: &Value) -> String {
    let mut words = vec![text(&detail["cause"])];
    let cause = words[0].clone();
    if let Some(ended) = ended(detail).filter(|ended| !cause.contains(ended)) {
        words.push(ended);
    }
    if !cause.contains(" while ") {
        words.push(format!("while {}", text(&detail["state"])));
    }
    words.push(match detail["out_of_memory"].as_bool() {
        Some(true) => "out of memory".to_owned(),
        Some(false) => "not out of memory".to_owned(),
        None => "out of memory or not is not known".to_owned(),
    });
    let lines = detail["last_lines"].as_array().map(Vec::as_slice).unwrap_or_default();
    if lines.is_empty() {
        words.push("it wrote nothing".to_owned());
    } else {
        let last: Vec<_> = lines[lines.len().saturating_sub(LAST_LINES)..].iter().map(text).collect();
        words.push(format!("last lines: {}", last.join(" | ")));
    }
    words.join("; ")
}

fn stopped(detail: &Value) -> String {
    let killed = if detail["killed"] == true { " (the host killed it)" } else { "" };
    let ended = ended(detail).unwrap_or_else(|| "how it ended is not known".to_owned());
    format!("{ended}{killed}")
}

fn ended(detail: &Value) -> Option<String> {
    let code = detail["exit_code"].as_i64().map(|code| format!("exited with status {code}"));
    code.or_else(|| detail["signal"].as_i64().map(|signal| format!("was killed by signal {signal}")))
}

fn used(detail: &Value) -> String {
    let over_ms = detail["over_ms"].as_f64().unwrap_or_default();
    let cpu = detail["cpu_ms"].as_f64().filter(|_| over_ms > 0.0).map(|cpu| cpu / over_ms * 100.0);
    let number = |value: &Value| value.as_u64().map_or_else(|| "?".to_owned(), |number| number.to_string());
    let (channel, routes) = (&detail["channel"], &detail["routes"]);
    format!(
        "cpu {}, memory {}, tasks {}, descriptors {}, frames {} in {} out, requests {}",
        cpu.map_or_else(|| "?".to_owned(), |cpu| format!("{cpu:.1} %")),
        detail["memory_bytes"].as_u64().map_or_else(|| "?".to_owned(), bytes),
        number(&detail["tasks"]),
        number(&detail["descriptors"]),
        number(&channel["frames_in"]),
        number(&channel["frames_out"]),
        number(&routes["requests"]),
    )
}

/// A number of bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// Everything that is there, without the punctuation of JSON.
fn pairs(detail: &Value) -> String {
    let Some(object) = detail.as_object() else { return text(detail) };
    let shown = object.iter().filter(|(_, value)| !value.is_null());
    shown.map(|(key, value)| format!("{key}={}", text(value))).collect::<Vec<_>>().join(" ")
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_crash_says_how_while_doing_what_and_with_which_last_words() {
        let detail = json!({
            "start": 3, "cause": "was killed by signal 9 while it was running", "exit_code": null, "signal": 9,
            "out_of_memory": null, "state": "running", "last_lines": ["one", "two", "three", "panicked"]
        });
        assert_eq!(
            essential("plugin.crashed", &detail),
            "was killed by signal 9 while it was running; out of memory or not is not known; \
             last lines: two | three | panicked"
        );
        let detail = json!({
            "cause": "health failed 3 times", "exit_code": 1, "out_of_memory": true, "state": "running", "last_lines": []
        });
        assert_eq!(
            essential("plugin.crashed", &detail),
            "health failed 3 times; exited with status 1; while running; out of memory; it wrote nothing"
        );
    }

    #[test]
    fn usage_that_is_not_known_is_no_zero() {
        let detail = json!({"over_ms": 30000, "cpu_ms": 1500, "memory_bytes": 13_000_000, "tasks": null,
            "descriptors": 11, "channel": {"frames_in": 4, "frames_out": 5}, "routes": {"requests": 2}});
        assert_eq!(
            essential("plugin.usage", &detail),
            "cpu 5.0 %, memory 12.4 MiB, tasks ?, descriptors 11, frames 4 in 5 out, requests 2"
        );
    }

    #[test]
    fn what_has_no_words_of_its_own_is_shown_in_pairs() {
        let detail = json!({"kind": "event", "value": "deployment.*", "nothing": null, "list": ["a", "b"]});
        assert_eq!(essential("grant.added", &detail), "kind=event list=a,b value=deployment.*");
    }
}
