//! Egress: the one way out of a plugin's network, and what is let through.
//!
//! A process in the plugin's namespaces (of the sandbox) hands every wish to the host's socket (`listener`), one connection for each.
//! What was granted and set decides (`policy`); the name is resolved here and every address must be public (`resolve`, `addresses`); the
//! plugin's first bytes must be a TLS hello for the same name (`hello`); then bytes are passed on and counted (`connection`). Each
//! connection is in the audit trail. Nothing here knows how a network namespace is made.

mod addresses;
mod bounds;
mod connection;
mod hello;
mod listener;
mod policy;
mod resolve;
mod settings;
#[cfg(test)]
mod tests;
mod told;

pub use addresses::NotPublic;
pub use policy::Refusal;
pub use resolve::{Resolver, SystemResolver};
pub use settings::{EgressSettings, PluginEgress};

pub(crate) use bounds::Bounds;
pub(crate) use listener::{Context, EGRESS_SOCKET, Listener};

use crate::sandbox::{LayerReport, Policy, State};

/// How a plugin reaches hosts outside, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Through the host, to what was granted.
    Granted,
    /// Not at all: it has no network, and no way out of that.
    None,
    /// As every program of this machine: nobody keeps it from anything.
    Open,
    /// It does not run.
    Unknown,
}

impl Way {
    /// The word in REST and command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Way::Granted => "granted",
            Way::None => "none",
            Way::Open => "open",
            Way::Unknown => "unknown",
        }
    }

    /// What the layer `network` of a running plugin, as it was read back, means for its way out.
    #[must_use]
    pub fn of(network: Option<&LayerReport>) -> Self {
        match network {
            None => Way::Unknown,
            Some(report) if report.policy == Policy::Off => Way::Open,
            Some(report) => match report.state {
                State::InForce => Way::Granted,
                // Something weaker: it can make no socket that leads anywhere.
                State::Partial => Way::None,
                State::NotInForce | State::Off => Way::Open,
                State::Unknown => Way::Unknown,
            },
        }
    }
}

/// What a plugin may reach. Shown to operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressView {
    /// How it gets out.
    pub way: Way,
    /// Granted targets.
    pub targets: Vec<String>,
    /// What is set beside them.
    pub set: PluginEgress,
}
