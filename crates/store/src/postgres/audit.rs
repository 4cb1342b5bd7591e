//! The audit trail of this node: append, look, and read its chain.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_postgres::Row;

use super::connection::text;
use super::narrowed::Narrowed;
use super::pool::On;
use super::trail::Entry;
use super::{PostgresStore, chain, json_of, limit_of};
use crate::{AuditFilter, AuditRecord, AuditStore, ChainPage, Link, Seal, StoreError};

#[async_trait]
impl AuditStore for PostgresStore {
    async fn append_audit(&self, records: Vec<AuditRecord>) -> Result<(), StoreError> {
        let written = self.trail.write(Entry::Audit(records)).await;
        written.map_err(|error| error.during("append to the audit trail"))
    }

    async fn audit(&self, filter: AuditFilter) -> Result<Vec<AuditRecord>, StoreError> {
        find(self.read("look into the audit trail"), self.node(), &filter).await
    }

    async fn seal_audit(&self, seal: Arc<dyn Seal>) -> Result<(), StoreError> {
        self.chain.start(seal);
        Ok(())
    }

    fn audit_node(&self) -> &str {
        self.node()
    }

    async fn audit_link(&self, number: Option<i64>) -> Result<Option<Link>, StoreError> {
        let action = "look up a link of the audit chain";
        let lease = self.pool.lease().await?;
        let found = match number {
            Some(number) => chain::link_at(lease.conn(), self.node(), number).await,
            None => chain::last_link(lease.conn(), self.node()).await,
        };
        lease.end(&found);
        found.map_err(|error| error.during(action))
    }

    async fn audit_chain(
        &self,
        seal: Arc<dyn Seal>,
        after: i64,
        limit: usize,
    ) -> Result<ChainPage, StoreError> {
        let lease = self.pool.lease().await?;
        let page = chain::snapshot(lease.conn(), self.node(), &*seal, after, limit).await;
        lease.end_transaction(&page);
        page
    }
}

/// Records that pass the filter.
async fn find(on: On<'_>, node: &str, filter: &AuditFilter) -> Result<Vec<AuditRecord>, StoreError> {
    let mut narrowed = Narrowed::default();
    narrowed.by("node = ", node.to_owned());
    narrowed.by_some("plugin = ", filter.plugin.as_deref().map(text));
    match filter.kind.as_deref().map(|kind| (kind, kind.strip_suffix(".*"))) {
        // Everything from `prefix.` to just before `prefix/`, the character after the dot.
        Some((_, Some(prefix))) => {
            narrowed.by("kind >= ", text(&format!("{prefix}.")));
            narrowed.by("kind < ", text(&format!("{prefix}/")));
        }
        Some((kind, None)) => narrowed.by("kind = ", text(kind)),
        None => {}
    }
    narrowed.by_some("actor = ", filter.actor.as_deref().map(text));
    narrowed.by_some("detail::JSON ->> 'event_id' = ", filter.event_id.as_deref().map(text));
    narrowed.by_some("at >= ", filter.since);
    narrowed.by_some("at < ", filter.until);
    narrowed.by_some("seq > ", filter.after_seq);
    narrowed.by_some("seq < ", filter.before_seq);
    let order = if filter.newest_first { "DESC" } else { "ASC" };
    let select = "SELECT seq, at, kind, plugin, actor, detail FROM audit";
    let rows = narrowed.query(on, select, &format!("ORDER BY seq {order}"), limit_of(filter.limit)).await?;
    rows.iter().map(record).collect()
}

fn record(row: &Row) -> Result<AuditRecord, StoreError> {
    Ok(AuditRecord {
        seq: row.try_get(0)?,
        at: row.try_get(1)?,
        kind: row.try_get(2)?,
        plugin: row.try_get(3)?,
        actor: row.try_get(4)?,
        detail: json_of(row.try_get(5)?)?,
    })
}
