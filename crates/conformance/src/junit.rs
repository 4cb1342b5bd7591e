//! A report in the JUnit format, which CI systems show as a list of tests.

use std::fmt::Write;

use crate::report::{Report, Verdict};
use crate::transcript::{Outcome, Playback};

pub(crate) fn write(report: &Report) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let counts = report.counts;
    let name = escape(&report.plugin);
    let seconds = Seconds(report.took_ms);
    let tests = report.entries.len();
    let (failed, skipped) = (counts.failed, counts.not_announced);
    let _ = writeln!(
        xml,
        "<testsuites tests=\"{tests}\" failures=\"{failed}\" errors=\"{}\" time=\"{seconds}\">",
        counts.not_run
    );
    let _ = writeln!(
        xml,
        "  <testsuite name=\"{name}\" tests=\"{tests}\" failures=\"{failed}\" errors=\"{}\" skipped=\"{skipped}\" time=\"{seconds}\">",
        counts.not_run
    );
    for entry in &report.entries {
        let check = &entry.check;
        let _ = write!(
            xml,
            "    <testcase classname=\"{name}.{}\" name=\"{} {}\"",
            check.level, check.clause, check.name
        );
        let explained = entry.explain().map(|text| escape(&text)).unwrap_or_default();
        let _ = match &entry.verdict {
            Verdict::Passed => writeln!(xml, "/>"),
            Verdict::Failed(finding) => writeln!(
                xml,
                "><failure message=\"{}\">{explained}</failure></testcase>",
                escape(&finding.came)
            ),
            Verdict::Warned(_) => writeln!(xml, "><system-out>{explained}</system-out></testcase>"),
            Verdict::NotAnnounced { reason } => {
                writeln!(xml, "><skipped message=\"{}\"/></testcase>", escape(reason))
            }
            Verdict::NotRun { reason } => {
                writeln!(xml, "><error message=\"{}\"/></testcase>", escape(reason))
            }
        };
    }
    xml.push_str("  </testsuite>\n</testsuites>\n");
    xml
}

/// The same for transcripts: one test case for each.
pub(crate) fn of_transcripts(playback: &Playback) -> String {
    let count =
        |word: &str| playback.transcripts.iter().filter(|played| played.outcome.word() == word).count();
    let (name, seconds) = (escape(&playback.plugin), Seconds(playback.took_ms));
    let sums = format!(
        "tests=\"{}\" failures=\"{}\" errors=\"{}\"",
        playback.transcripts.len(),
        count("failed"),
        count("not run")
    );
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(xml, "<testsuites {sums} time=\"{seconds}\">");
    let _ = writeln!(xml, "  <testsuite name=\"{name}\" {sums} skipped=\"0\" time=\"{seconds}\">");
    for played in &playback.transcripts {
        let (case, took) = (escape(&played.transcript), Seconds(played.took_ms));
        let _ = write!(xml, "    <testcase classname=\"{name}.transcript\" name=\"{case}\" time=\"{took}\"");
        let explained = played.explain().map(|text| escape(&text)).unwrap_or_default();
        let _ = match &played.outcome {
            Outcome::Passed => writeln!(xml, "/>"),
            Outcome::Failed(mismatch) => writeln!(
                xml,
                "><failure message=\"{}\">{explained}</failure></testcase>",
                escape(&mismatch.got)
            ),
            Outcome::NotRun { reason, .. } => {
                writeln!(xml, "><error message=\"{}\">{explained}</error></testcase>", escape(reason))
            }
        };
    }
    xml.push_str("  </testsuite>\n</testsuites>\n");
    xml
}

/// Milliseconds, written as seconds.
struct Seconds(u64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// Text for XML. Characters that XML 1.0 cannot hold at all are shown as what they are.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.extend(c.escape_default()),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_plugin_said_cannot_break_the_document() {
        assert_eq!(escape("<a b=\"&\">\u{1b}[0m\n"), "&lt;a b=&quot;&amp;&quot;&gt;\\u{1b}[0m&#10;");
    }
}
