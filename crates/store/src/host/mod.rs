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
    /// Age after which an event goes, with its open deliveries.
    pub journal_age: chrono::Duration,
    /// Bytes of events (as JSON) that are kept. Events that some delivery still retries are kept up to twice that.
    pub journal_bytes: u64,
    /// Age after which an audit record goes, and an attempt of a delivery.
    pub audit_age: chrono::Duration,
    /// Attempts of deliveries that are kept.
    pub attempts: u64,
    /// Bytes of audit details (as JSON) that are kept.
    pub audit_bytes: u64,
}

impl Retention {
    /// The defaults: a week or 1 GiB of events, 30 days or 1 GiB of audit trail, and of attempts.
    #[must_use]
    pub fn standard(now: DateTime<Utc>) -> Self {
        const GIB: u64 = 1 << 30;
        /// Bytes of an attempt with its share of the indexes, as measured with short answers.
        const BYTES_OF_ATTEMPT: u64 = 256;
        Self {
            now,
            journal_age: chrono::Duration::days(7),
            journal_bytes: GIB,
            audit_age: chrono::Duration::days(30),
            attempts: GIB / BYTES_OF_ATTEMPT,
            audit_bytes: GIB,
        }
    }
}

/// What retention dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Events.
    pub events: u64,
    /// Events among them that some plugin that is let run had not settled, or that were being retried: a reason for an alarm.
    pub unsettled: u64,
    /// Attempts of deliveries.
    pub attempts: u64,
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
