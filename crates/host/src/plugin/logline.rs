//! One line of a plugin's log: read from bytes that nobody vouches for, and from the host's own log files.

use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::logfile::CURRENT;
use crate::host::LogLine;
use crate::secrets::Secret;

/// Bytes read from the end of a file when a log is opened; enough for a thousand ordinary lines, and read in milliseconds.
const TAIL_BYTES: u64 = 512 * 1024;

/// Levels as they are kept.
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// Makes a log line of what a plugin wrote: JSON when it is an object, plain otherwise.
pub(super) fn parse(bytes: &[u8], left_out: usize, stream: &'static str, secret: &Secret) -> LogLine {
    let mut text = secret.mask(&String::from_utf8_lossy(bytes), left_out > 0);
    text.truncate(text.trim_end().len());
    let object = if left_out == 0 && text.starts_with('{') { serde_json::from_str(&text).ok() } else { None };
    let mut line = match object {
        Some(Value::Object(object)) => structured(object, stream),
        _ => plain(&text, stream),
    };
    if left_out > 0 {
        line.message.push_str(&format!(" … ({left_out} more bytes left out)"));
    }
    line
}

fn plain(text: &str, stream: &'static str) -> LogLine {
    let message = printable(text);
    let level = leading_level(&message).unwrap_or("info");
    LogLine { at: Utc::now(), level, stream, message, fields: Value::Null }
}

/// Level and message under the names that common loggers use; everything else stays as fields.
fn structured(mut object: Map<String, Value>, stream: &'static str) -> LogLine {
    let level = take_first(&mut object, &["level", "levelname", "severity", "lvl", "levelno"])
        .and_then(|value| level_of(&value))
        .unwrap_or("info");
    take_first(&mut object, &["timestamp", "time", "ts", "asctime"]);
    // tracing keeps the message among its fields.
    if let Some(Value::Object(inner)) = object.remove("fields") {
        object.extend(inner);
    }
    let message = match take_first(&mut object, &["message", "msg", "event"]) {
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let fields = object.into_iter().map(|(key, value)| (printable(&key), printable_value(value))).collect();
    LogLine { at: Utc::now(), level, stream, message: printable(&message), fields: Value::Object(fields) }
}

fn take_first(object: &mut Map<String, Value>, names: &[&str]) -> Option<Value> {
    let name = names.iter().find(|name| object.contains_key(**name))?;
    object.remove(*name)
}

/// The level behind a word, or behind a number of pino (10 to 60) or of Python's logging (10 to 50).
fn level_of(value: &Value) -> Option<&'static str> {
    match value {
        Value::String(word) => level_of_word(word),
        Value::Number(number) => Some(match number.as_i64()? {
            ..=19 => "debug",
            20..=30 => "info",
            31..=40 => "warn",
            _ => "error",
        }),
        _ => None,
    }
}

fn level_of_word(word: &str) -> Option<&'static str> {
    match word.to_ascii_lowercase().as_str() {
        "error" | "err" | "critical" | "crit" | "fatal" | "panic" | "alert" | "emergency" => Some("error"),
        "warn" | "warning" => Some("warn"),
        "info" | "notice" | "log" => Some("info"),
        "debug" => Some("debug"),
        "trace" | "verbose" | "silly" => Some("trace"),
        _ => None,
    }
}

/// The level of a plain line whose first words hold one in capitals, as `[WARN] ...`, `ERROR: ...` or after a time.
fn leading_level(message: &str) -> Option<&'static str> {
    message
        .split_whitespace()
        .take(3)
        .map(|word| word.split(':').next().unwrap_or(word).trim_matches(['[', ']', '(', ')', '<', '>']))
        .filter(|word| word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_uppercase()))
        .find_map(level_of_word)
}

fn printable_value(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(printable(&text)),
        Value::Array(items) => Value::Array(items.into_iter().map(printable_value).collect()),
        Value::Object(object) => {
            Value::Object(object.into_iter().map(|(k, v)| (printable(&k), printable_value(v))).collect())
        }
        other => other,
    }
}

/// Takes out what a terminal would obey: colours and other escape sequences, and control characters except tab.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' if rest.peek() == Some(&'[') => {
                rest.next();
                while rest.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
            }
            '\t' => out.push('\t'),
            '\r' | '\n' => out.push(' '),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A line as it stands in a file.
pub(super) fn to_json(line: &LogLine) -> String {
    let mut object = Map::new();
    object.insert("at".into(), line.at.to_rfc3339().into());
    object.insert("level".into(), line.level.into());
    object.insert("stream".into(), line.stream.into());
    object.insert("message".into(), line.message.as_str().into());
    if !line.fields.is_null() {
        object.insert("fields".into(), line.fields.clone());
    }
    Value::Object(object).to_string()
}

/// The last `count` lines of the newest file; nothing when there is none, and without lines that cannot be read.
pub(super) fn read_tail(directory: &Path, count: usize) -> Vec<LogLine> {
    let Ok(mut file) = std::fs::File::open(directory.join(CURRENT)) else { return Vec::new() };
    // The line that this lands in is cut, and left out like any other that cannot be read.
    let too_early = file.metadata().map_or(0, |meta| meta.len().saturating_sub(TAIL_BYTES));
    if file.seek(SeekFrom::Start(too_early)).is_err() {
        return Vec::new();
    }
    let mut lines = std::collections::VecDeque::new();
    for text in BufReader::new(file).split(b'\n').map_while(Result::ok) {
        let Ok(text) = String::from_utf8(text) else { continue };
        if let Some(line) = from_json(&text) {
            if lines.len() == count {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    }
    lines.into()
}

fn from_json(text: &str) -> Option<LogLine> {
    let Value::Object(mut object) = serde_json::from_str(text).ok()? else { return None };
    let word = |key: &str, known: &[&'static str]| {
        let word = object.get(key)?.as_str()?;
        known.iter().find(|known| **known == word).copied()
    };
    Some(LogLine {
        at: object.get("at")?.as_str()?.parse::<DateTime<Utc>>().ok()?,
        level: word("level", &LEVELS)?,
        stream: word("stream", &["stderr", "stdout", "host"])?,
        message: object.get("message")?.as_str()?.to_owned(),
        fields: object.remove("fields").unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(text: &str) -> LogLine {
        parse(text.as_bytes(), 0, "stderr", &Secret::new("s3cret-s3cret".into()))
    }

    #[test]
    fn levels_of_common_loggers_are_kept() {
        for (text, level, message) in [
            (
                r#"{"timestamp":"t","level":"WARN","fields":{"message":"slow","n":1},"target":"x"}"#,
                "warn",
                "slow",
            ),
            (r#"{"level":50,"time":1,"pid":7,"msg":"broke"}"#, "error", "broke"),
            (r#"{"level":30,"msg":"fine"}"#, "info", "fine"),
            (r#"{"levelname":"CRITICAL","message":"down"}"#, "error", "down"),
            (r#"{"severity":"debug","message":"detail"}"#, "debug", "detail"),
            ("ERROR:root:no such file", "error", "ERROR:root:no such file"),
            ("2026-01-01T00:00:00Z [WARN] low", "warn", "2026-01-01T00:00:00Z [WARN] low"),
            ("just text", "info", "just text"),
            ("{not json", "info", "{not json"),
        ] {
            let read = line(text);
            assert_eq!((read.level, read.message.as_str()), (level, message), "{text}");
        }
        assert_eq!(line(r#"{"level":"INFO","fields":{"message":"m","n":1}}"#).fields["n"], 1);
    }

    #[test]
    fn the_secret_is_masked_wherever_it_stands_also_where_a_long_line_was_cut() {
        let read =
            line(r#"{"level":"info","message":"--auth-secret s3cret-s3cret","args":["s3cret-s3cret"]}"#);
        assert!(!format!("{read:?}").contains("s3cret"), "{read:?}");
        let cut = parse(b"args: s3cret-s3c", 5, "stderr", &Secret::new("s3cret-s3cret".into()));
        assert!(!cut.message.contains("s3cret"), "{cut:?}");
    }

    #[test]
    fn a_terminal_finds_nothing_to_obey() {
        assert_eq!(
            line("\u{1b}[31mred\u{1b}[0m\u{7} \u{1b}]0;title").message,
            "red\u{fffd} \u{fffd}]0;title"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_make_a_line_that_survives_its_file(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let line = parse(&bytes, 0, "stdout", &Secret::new("s3cret".into()));
            prop_assert!(line.message.chars().all(|c| c == '\t' || !c.is_control()));
            let back = from_json(&to_json(&line));
            prop_assert_eq!(back.map(|l| (l.level, l.message)), Some((line.level, line.message)));
        }
    }
}
