//! Where everything that the command says comes out: data on stdout, talk on stderr.
//!
//! Text from plugins and from the daemon is untrusted; before it reaches a terminal, everything in it that could
//! steer the terminal is made visible instead, in JSON by its own escapes.

use std::io::{self, Write};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use crate::exit::{Exit, Failure};

/// How the command talks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// Whether data is JSON (`--json`).
    pub(crate) json: bool,
    /// Whether only data and errors are said (`--quiet`).
    pub(crate) quiet: bool,
}

impl Output {
    /// Writes the data that was asked for: `value` as JSON, or what `text` makes of it.
    pub(crate) fn data<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let mut written = if self.json { pretty(value)? } else { text(value) };
        if !written.is_empty() && !written.ends_with('\n') {
            written.push('\n');
        }
        stdout(&written)
    }

    /// Writes one entry of a stream: `value` as one line of JSON, or what `text` makes of it.
    pub(crate) fn entry<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let mut line = if self.json { compact(value)? } else { text(value) };
        line.push('\n');
        stdout(&line)
    }

    /// Says something beside the data, on stderr, unless the user wants quiet.
    pub(crate) fn say(self, text: &str) {
        if !self.quiet {
            // Nothing better can be done when stderr is gone.
            let _ = writeln!(io::stderr().lock(), "{}", plain(text));
        }
    }

    /// Says why the command failed.
    pub(crate) fn failure(self, failure: &Failure) {
        let mut stderr = io::stderr().lock();
        let _ = if self.json {
            writeln!(stderr, "{}", escaped(&failure.to_json()))
        } else {
            let hint =
                failure.hint.as_deref().map(|hint| format!("\n{}", plain_lines(hint))).unwrap_or_default();
            writeln!(stderr, "temps: {}{hint}", plain_lines(&failure.message))
        };
    }
}

/// Writes to stdout at once, so that a reader at the other end of a pipe sees each entry when it happens.
pub(crate) fn stdout(text: &str) -> Result<(), Failure> {
    stdout_bytes(text.as_bytes())
}

/// Writes data to stdout that is passed on as it is.
pub(crate) fn stdout_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::nobody_reads()),
        Err(error) => Err(Failure::new(Exit::Failure, "output", format!("cannot write the output: {error}"))),
    }
}

fn pretty<T: Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string_pretty(value)
        .map(|json| escaped(&json))
        .map_err(|error| Failure::other("output", error.to_string()))
}

fn compact<T: Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string(value)
        .map(|json| escaped(&json))
        .map_err(|error| Failure::other("output", error.to_string()))
}

/// JSON with what its encoder leaves as it is and a terminal may obey: the second set of control characters, and what turns the
/// direction of text. Neither stands outside of a string, so the value stays the same.
fn escaped(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        // Line breaks and indentation are the encoder's own; those of a value were escaped by it.
        if steers(c) && !c.is_ascii_whitespace() {
            safe.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            safe.push(c);
        }
    }
    safe
}

/// Whether a terminal could be steered by this: control characters, and those that turn the direction of text, with which a
/// name can be disguised.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` on one line, with everything that could steer a terminal made visible.
pub(crate) fn plain(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    safe
}

/// Like [`plain`], with its line breaks kept, and spaces for tabs, which compilers like.
pub(crate) fn plain_lines(text: &str) -> String {
    text.lines().map(|line| plain(&line.replace('\t', "    "))).collect::<Vec<_>>().join("\n")
}

/// A table whose columns are as wide as their content, without frames, so that it can be cut by other programs.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = comfy_table::Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_content_arrangement(comfy_table::ContentArrangement::Disabled);
    table.set_header(head);
    for row in rows {
        table.add_row(row.map(|cell| plain(&cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Lines of `label  value` with the values in one column; entries without a value are left out.
pub(crate) fn record<'a>(entries: impl IntoIterator<Item = (&'a str, Option<String>)>) -> String {
    let entries: Vec<_> =
        entries.into_iter().filter_map(|(label, value)| Some((label, plain(&value?)))).collect();
    let width = entries.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    entries.iter().map(|(label, value)| format!("{label:width$}  {value}")).collect::<Vec<_>>().join("\n")
}

/// A time to the second, in UTC.
pub(crate) fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A time that may not have come yet; `-` then.
pub(crate) fn time_or_dash(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(|| "-".into(), time)
}

/// A text that may be missing; `-` then.
pub(crate) fn or_dash(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_plugin_says_cannot_steer_the_terminal() {
        let shown = plain("\u{1b}]0;owned\u{7} a\nb \u{202e}exe.txt");
        assert!(!shown.chars().any(|c| c.is_control() || c == '\u{202e}'), "{shown:?}");
        assert!(shown.contains("owned"), "the text itself stays readable");
        assert_eq!(plain("grün ✓ 日本"), "grün ✓ 日本");
    }

    #[test]
    fn what_a_plugin_says_cannot_steer_the_terminal_in_json_either() {
        let said = "\u{1b}[2J \u{9b}2J \u{7f} \u{202e}exe.txt\n grün ✓ 日本";
        for json in [compact(&[said]).unwrap(), pretty(&[said]).unwrap()] {
            assert!(!json.chars().any(|c| c != '\n' && steers(c)), "{json:?}");
            assert!(json.contains("grün ✓ 日本"));
            assert_eq!(serde_json::from_str::<[String; 1]>(&json).unwrap(), [said]);
        }
    }

    #[test]
    fn a_table_has_one_line_for_each_row_whatever_is_in_it() {
        let text =
            table(["NAME", "NOTE"], [["a".into(), "x\ny".into()], ["long-name".into(), String::new()]]);
        assert_eq!(text.lines().count(), 3);
        assert_eq!(text.lines().next(), Some("NAME       NOTE"));
        assert_eq!(text.lines().last(), Some("long-name"));
    }

    #[test]
    fn a_record_leaves_out_what_is_not_known() {
        assert_eq!(
            record([("name", Some("a".into())), ("pid", None), ("id", Some("1".into()))]),
            "name  a\nid    1"
        );
    }
}
