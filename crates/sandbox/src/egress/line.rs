//! What the process in the namespace and the host say to each other: one line each way, then the connection itself.
//!
//! Each connection to the host's socket carries one question. The host alone decides; nothing is granted or refused in here.

use std::fmt;
use std::str::FromStr;

/// Longest line in bytes, with its newline: a name has at most 253 bytes, and refusals are a sentence.
pub const MAX_LINE: usize = 512;

/// Longest name in bytes that is asked for.
const MAX_NAME: usize = 253;

/// Most ports that are served for one name.
const MAX_PORTS: usize = 8;

/// What is asked of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// May this name be reached, and at which ports?
    Ports(String),
    /// Connect to this name or address; after the answer everything is passed on.
    Connect(String, u16),
}

/// What the host answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Yes; for [`Question::Ports`] these are the ports.
    Yes(Vec<u16>),
    /// No, and why, for people.
    No(String),
}

/// A line that is neither a question nor an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no line of this protocol")]
pub struct NotALine;

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Question::Ports(name) => writeln!(f, "ports {name}"),
            Question::Connect(name, port) => writeln!(f, "connect {name} {port}"),
        }
    }
}

impl FromStr for Question {
    type Err = NotALine;

    fn from_str(line: &str) -> Result<Self, NotALine> {
        let words: Vec<&str> = line.strip_suffix('\n').ok_or(NotALine)?.split(' ').collect();
        let name = |name: &str| is_word(name).then(|| name.to_owned()).ok_or(NotALine);
        match words[..] {
            ["ports", host] => Ok(Question::Ports(name(host)?)),
            ["connect", host, port] => {
                Ok(Question::Connect(name(host)?, port.parse().map_err(|_| NotALine)?))
            }
            _ => Err(NotALine),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Yes(ports) => {
                f.write_str("yes")?;
                ports.iter().take(MAX_PORTS).try_for_each(|port| write!(f, " {port}"))?;
                f.write_str("\n")
            }
            Answer::No(why) => {
                let mut words: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
                words.truncate(words.floor_char_boundary(MAX_LINE - 8));
                writeln!(f, "no {words}")
            }
        }
    }
}

impl FromStr for Answer {
    type Err = NotALine;

    fn from_str(line: &str) -> Result<Self, NotALine> {
        let line = line.strip_suffix('\n').ok_or(NotALine)?;
        if let Some(why) = line.strip_prefix("no ") {
            return Ok(Answer::No(why.to_owned()));
        }
        let rest = line.strip_prefix("yes").ok_or(NotALine)?;
        let ports = rest.split(' ').skip(1).map(str::parse).collect::<Result<Vec<u16>, _>>();
        ports.map(Answer::Yes).map_err(|_| NotALine)
    }
}

/// Whether a text may stand as a name in a line. Which names there are is not judged here.
pub(crate) fn is_word(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_NAME && text.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_were_written() {
        for question in
            [Question::Ports("hooks.slack.com".into()), Question::Connect("127.0.0.1".into(), 8080)]
        {
            assert_eq!(question.to_string().parse(), Ok(question));
        }
        for answer in
            [Answer::Yes(vec![]), Answer::Yes(vec![443, 8443]), Answer::No("it was not granted; ask".into())]
        {
            assert_eq!(answer.to_string().parse(), Ok(answer));
        }
    }

    #[test]
    fn what_is_no_line_is_refused_and_a_refusal_stays_one_line() {
        for text in [
            "",
            "\n",
            "ports\n",
            "ports a.b",
            "ports a b\n",
            "ports \n",
            "connect a.b\n",
            "connect a.b 65536\n",
            "connect a.b -1\n",
            "connect a\u{e4}.b 1\n",
            "ports a.b\n\n",
        ] {
            assert_eq!(text.parse::<Question>(), Err(NotALine), "{text:?}");
        }
        assert!(format!("ports {}\n", "a".repeat(254)).parse::<Question>().is_err());
        let long = Answer::No(format!("a\nyes 443\n{}", "ä".repeat(MAX_LINE))).to_string();
        assert!(long.len() <= MAX_LINE && long.matches('\n').count() == 1, "{long:?}");
        assert!(matches!(long.parse(), Ok(Answer::No(_))));
    }
}
