//! The conformance kit: plays a host's side of the plugin protocol against any executable, and says clause by clause of
//! `spec/PROTOCOL.md` what it saw.
//!
//! It plays transcripts of such conversations as well ([`play`]).
//!
//! It is a black box: it knows a plugin by its process, its output and its socket, and shares no code with the host
//! or an SDK, only the types of the wire. It prints nothing; whoever calls it shows the [`Report`].

mod channel;
mod check;
mod clauses;
mod events;
pub mod hosts;
mod http;
mod junit;
mod life;
mod patience;
mod platform;
mod report;
mod run;
mod scenes;
mod settings;
mod subject;
mod transcript;
mod usage;

pub use check::{Check, Level, Weight, checks};
pub use clauses::{Clause, NOT_TESTABLE, clause, clauses};
pub use patience::Wait;
pub use report::{Entry, Finding, Report, Verdict};
pub use run::{Ended, KitError, Options, Progress, run};
pub use subject::SubjectError;
pub use transcript::{Mismatch, Outcome, PlayOptions, Playback, Played, TranscriptError, play};
