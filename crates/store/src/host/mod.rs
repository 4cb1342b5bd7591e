//! The door of the plugin host. Each concern has a trait of its own; [`HostStore`] is all of them.

mod audit;
mod chain;
mod config;
mod deliveries;
mod journal;
mod key_value;
mod plugins;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::StoreError;

pub use audit::*;
pub use chain::*;
pub use config::*;
pub use deliveries::*;
pub use journal::*;
pub use key_value::*;
pub use plugins::*;

/// How much is kept, and for how long. What is older or beyond the size goes, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The time that ages are counted from.
    pub now: DateTime<Utc>,
    /// Age after which an event goes, with its deliveries.
    pub journal_age: chrono::Duration,
    /// Bytes of events (as JSON) that are kept.
    pub journal_bytes: u64,
    /// Age after which an audit record goes.
    pub audit_age: chrono::Duration,
    /// Bytes of audit details (as JSON) that are kept.
    pub audit_bytes: u64,
}

impl Retention {
    /// The defaults: a week or 1 GiB of events, 30 days or 1 GiB of audit trail.
    #[must_use]
    pub fn standard(now: DateTime<Utc>) -> Self {
        const GIB: u64 = 1 << 30;
        Self {
            now,
            journal_age: chrono::Duration::days(7),
            journal_bytes: GIB,
            audit_age: chrono::Duration::days(30),
            audit_bytes: GIB,
        }
    }
}

/// What retention dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Events.
    pub events: u64,
    /// Events among them that some plugin that is let run had not settled: a reason for an alarm.
    pub unsettled: u64,
    /// Audit records.
    pub audit: u64,
}

/// What the plugin host keeps.
///
/// Every write is durable when its future resolves.
#[async_trait]
pub trait HostStore:
    JournalStore + DeliveryStore + PluginStore + AuditStore + KeyValueStore + ConfigStore
{
    /// Drops what `retention` no longer keeps. It works in small commits, so publishes go on meanwhile.
    async fn prune(&self, retention: Retention) -> Result<Pruned, StoreError>;
}
