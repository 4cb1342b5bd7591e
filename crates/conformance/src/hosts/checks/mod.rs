//! What is checked of a host: a list of promises for each plugin that looks at them, and those that only the outside can see.

mod acks;
mod others;
mod outside;

use acks::ACKS;
use others::{LONG, PLAIN, POST, SLOW, STARTS};
pub(crate) use outside::DRIVE;

use super::script::Script;
use crate::check::Check;

/// Every check of a host, in the order of the report.
pub fn host_checks() -> impl Iterator<Item = &'static Check> {
    Script::RUN.into_iter().flat_map(checks_of).chain(DRIVE)
}

/// What a scripted plugin looks at.
pub(crate) fn checks_of(script: Script) -> &'static [Check] {
    match script {
        Script::Acks => ACKS,
        Script::Plain => PLAIN,
        Script::Post => POST,
        Script::Starts => STARTS,
        Script::Long => LONG,
        Script::Slow => SLOW,
        _ => &[],
    }
}

/// Clauses that are not checked of a host, each with the reason.
pub const NOT_CHECKED: &[(&str, &str)] = &[
    ("H-6", "it binds plugins"),
    ("H-9", "how navigation looks is the host's"),
    ("H-11", "how an operator grants something is the host's; that what was not granted is refused is D-2"),
    ("C-4", "it binds plugins; that the host sends pings is E-6"),
    ("C-6", "it binds plugins"),
    ("C-11", "it binds plugins"),
    ("D-3", "it binds readers of what the host answers"),
    ("E-3", "which types a platform publishes is its own"),
    ("E-4", "it binds plugins; what the types promise is E-13"),
    ("E-10", "which events of a project are held back is seen only in an hour"),
    ("E-14", "how much a payload holds is advice"),
    ("A-7", "it binds plugins"),
    ("R-6", "a path is open only once an operator has granted it, and how that is done is the host's"),
    ("U-2", "what a page may do is seen in a browser only"),
    ("U-3", "it binds pages"),
    ("L-6", "what the limits are is the operator's"),
    ("F-2", "it says what the word means; what the host does is C-5"),
    ("F-3", "it says what the word means; what the host does is in A"),
    ("F-4", "how settings are shown and kept is the host's; that they reach the plugin is F-6"),
    ("V-1", "it binds versions of the protocol"),
    ("V-3", "there is one major version"),
    ("V-4", "there is one major version"),
];
