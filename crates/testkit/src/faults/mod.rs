//! Proof by fault injection: a run publishes numbered events through a real daemon with real plugins, and meanwhile kills
//! the daemon, plugins and database, and fills the disk, at moments drawn from a seed. Then it judges what is left.
//!
//! [`plan`] and [`verdict`] are pure; [`mod@run`] carries out, with [`stage`] as the place where everything happens and
//! [`publisher`] as what flows. It knows `temps` as a program only. The program `temps-faults` is its command line.

pub mod chance;
pub mod ledger;
pub mod plan;
pub mod publisher;
pub mod rest;
mod run;
pub mod stage;
pub mod verdict;

pub use plan::{Engine, Settings};
pub use run::{Outcome, run};
