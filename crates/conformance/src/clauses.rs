//! The clauses of `spec/PROTOCOL.md`, read from the page itself, so that a message has the protocol's own words.

use std::sync::OnceLock;

/// The page.
const PAGE: &str = include_str!("../../../spec/PROTOCOL.md");

/// One numbered rule of the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// Its number, for example `H-1`.
    pub id: String,
    /// Its words, on one line.
    pub text: String,
}

/// Clauses in which *must* or *should* binds a plugin and that no check can see from outside, each with the reason.
pub const NOT_TESTABLE: &[(&str, &str)] = &[
    ("S-6", "what a log line means is for its author; that standard input is empty is part of every start"),
    ("H-5", "whether a plugin that says ready:false had to is not visible; one that cannot start fails H-1"),
    ("A-1", "whether a result really lasts when it is acked, only its author knows"),
    ("A-2", "which of its failures a plugin reports, only its author knows"),
    ("R-6", "what a plugin checks on its public paths is its own"),
    ("A-4", "how long a plugin's own work takes is not in the kit's hand; that the ack comes in time is F-3"),
    ("E-11", "the host filters, so a plugin that declares filters has nothing to do"),
    ("E-10", "advice for the author's choice of an ordering"),
    ("C-9", "the plugin decides when it asks; a host answers `busy` to what is too much"),
];

/// All clauses, in the order of the page.
pub fn clauses() -> &'static [Clause] {
    static CLAUSES: OnceLock<Vec<Clause>> = OnceLock::new();
    CLAUSES.get_or_init(|| read(PAGE))
}

/// The clause with this number.
#[must_use]
pub fn clause(id: &str) -> Option<&'static Clause> {
    clauses().iter().find(|clause| clause.id == id)
}

/// A clause begins with `- **X-1** ` and goes on in lines that are indented, up to an empty one.
fn read(page: &str) -> Vec<Clause> {
    let mut found: Vec<Clause> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        if let Some((id, text)) = line.strip_prefix("- **").and_then(|rest| rest.split_once("** ")) {
            found.push(Clause { id: id.to_owned(), text: text.trim().to_owned() });
            inside = true;
        } else if inside
            && line.starts_with("  ")
            && !["|", "```"].iter().any(|mark| line.trim_start().starts_with(mark))
        {
            if let Some(clause) = found.last_mut() {
                clause.text.push(' ');
                clause.text.push_str(line.trim());
            }
        } else {
            inside = false;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clauses_are_read_with_their_words() {
        let page = "# X\n- **H-1** The first line\n  must be `it`.\n- **H-2** Two.\n\n  | a |\nother\n";
        let expected = [
            Clause { id: "H-1".into(), text: "The first line must be `it`.".into() },
            Clause { id: "H-2".into(), text: "Two.".into() },
        ];
        assert_eq!(read(page), expected);
        assert!(clauses().len() > 60, "the page has its clauses");
    }
}
