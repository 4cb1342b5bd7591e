//! How a command ends: its exit code, and what is said when it did not do what was asked.
//!
//! The codes are a contract with scripts: a code never changes its meaning. Nothing here prints or ends the process;
//! `main` does both, once.

use std::fmt;

use serde::Serialize;

/// Exit codes. `temps help` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Ok = 0,
    /// Not done, for a reason that no other code names.
    Failure = 1,
    /// The command or a value in it makes no sense.
    Usage = 2,
    /// There is no such thing.
    NotFound = 3,
    /// Not signed in: no token, or one that the daemon does not take.
    Auth = 4,
    /// The daemon could not be reached.
    Unreachable = 5,
    /// A verification found something that is not as it was written.
    NotIntact = 6,
    /// The daemon, or a rule of this command, does not allow it.
    Refused = 7,
    /// It does not fit what is there: the name is taken, or the state does not allow it.
    Conflict = 8,
    /// It took too long.
    Timeout = 124,
    /// Interrupted with Ctrl-C.
    Interrupted = 130,
}

/// The table of exit codes for `temps help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    not done, for a reason that no other code names
  2    the command, or a value in it, makes no sense
  3    there is no such thing
  4    not signed in: no token, or one that the daemon does not take
  5    the daemon cannot be reached
  6    a verification found something that is not as it was written
  7    not allowed
  8    it does not fit what is there: a name that is taken, a state that does not allow it
  124  it took too long
  130  interrupted";

/// Why a command did not do what was asked: what, why, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) struct Failure {
    /// The exit code that it leads to.
    pub(crate) exit: Exit,
    /// Short stable name for programs.
    pub(crate) code: String,
    /// What failed, and why.
    pub(crate) message: String,
    /// What to do next, if there is something.
    pub(crate) hint: Option<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Failure {
    /// A failure with this code and message.
    pub(crate) fn new(exit: Exit, code: &str, message: impl Into<String>) -> Self {
        Self { exit, code: code.to_owned(), message: message.into(), hint: None }
    }

    /// A value on the command line that makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// Something that no other exit code names.
    pub(crate) fn other(code: &str, message: impl Into<String>) -> Self {
        Self::new(Exit::Failure, code, message)
    }

    /// Nobody reads the output any more (`temps event list | head`). That is the reader's wish, not a failure.
    pub(crate) fn nobody_reads() -> Self {
        Self::new(Exit::Ok, "nobody_reads", "")
    }

    /// The same failure with what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What is shown on stderr with `--json`: one line, an object with `error`.
    pub(crate) fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Shape<'a> {
            code: &'a str,
            message: &'a str,
            hint: Option<&'a str>,
            exit_code: u8,
        }
        let shape = Shape {
            code: &self.code,
            message: &self.message,
            hint: self.hint.as_deref(),
            exit_code: self.exit as u8,
        };
        serde_json::json!({ "error": shape }).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_in_the_help_names_every_code() {
        let codes = [
            Exit::Ok,
            Exit::Failure,
            Exit::Usage,
            Exit::NotFound,
            Exit::Auth,
            Exit::Unreachable,
            Exit::NotIntact,
            Exit::Refused,
            Exit::Conflict,
            Exit::Timeout,
            Exit::Interrupted,
        ];
        let listed: Vec<u8> = EXIT_CODES
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().next()?.parse().ok())
            .collect();
        assert_eq!(listed, codes.map(|code| code as u8));
    }

    #[test]
    fn a_failure_is_one_line_of_json_for_programs() {
        let failure =
            Failure::new(Exit::NotFound, "not_found", "there is no plugin named \"x\"").hint("look");
        let line = failure.to_json();
        assert!(!line.contains('\n'));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["error"]["exit_code"], 3);
        assert_eq!(value["error"]["hint"], "look");
    }
}
