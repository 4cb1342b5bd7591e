//! The audit trail's statements: append, and look.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, params_from_iter};

use super::chain::{self, NODE};
use super::journal::{limit_of, time};
use super::json_of;
use super::{SqliteStore, WriteTx};
use crate::{AuditFilter, AuditRecord, AuditStore, ChainPage, Link, Seal, StoreError};

#[async_trait]
impl AuditStore for SqliteStore {
    async fn append_audit(&self, records: Vec<AuditRecord>) -> Result<(), StoreError> {
        self.write("append to the audit trail", move |tx| append(tx, &records)).await
    }

    async fn audit(&self, filter: AuditFilter) -> Result<Vec<AuditRecord>, StoreError> {
        self.read("look into the audit trail", move |conn| find(conn, &filter)).await
    }

    async fn seal_audit(&self, seal: Arc<dyn Seal>) -> Result<(), StoreError> {
        self.chain.start(seal);
        Ok(())
    }

    fn audit_node(&self) -> &str {
        NODE
    }

    async fn audit_link(&self, number: Option<i64>) -> Result<Option<Link>, StoreError> {
        self.read("look up a link of the audit chain", move |conn| match number {
            Some(number) => chain::link_at(conn, number),
            None => chain::last_link(conn),
        })
        .await
    }

    async fn audit_chain(
        &self,
        seal: Arc<dyn Seal>,
        after: i64,
        limit: usize,
    ) -> Result<ChainPage, StoreError> {
        self.read("read the audit chain", move |conn| chain::page(conn, &*seal, after, limit)).await
    }
}

/// Appends records in order.
pub(super) fn append(tx: &WriteTx<'_>, records: &[AuditRecord]) -> Result<(), StoreError> {
    let mut statement = tx.prepare_cached(
        "INSERT INTO audit (node, at, kind, plugin, actor, detail, total)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6,
                 coalesce((SELECT total FROM audit ORDER BY seq DESC LIMIT 1), 0) + octet_length(?6))",
    )?;
    for record in records {
        let at = record.at.timestamp_micros();
        statement.execute((
            NODE,
            at,
            &record.kind,
            &record.plugin,
            &record.actor,
            record.detail.to_string(),
        ))?;
    }
    Ok(())
}

/// Records that pass the filter.
pub(super) fn find(conn: &Connection, filter: &AuditFilter) -> Result<Vec<AuditRecord>, StoreError> {
    let (sql, values) = query(filter);
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(values), |row| {
        let record = AuditRecord {
            seq: row.get(0)?,
            at: time(row.get(1)?),
            kind: row.get(2)?,
            plugin: row.get(3)?,
            actor: row.get(4)?,
            detail: serde_json::Value::Null,
        };
        Ok((record, row.get::<_, String>(5)?))
    })?;
    rows.map(|row| {
        let (mut record, detail) = row?;
        record.detail = json_of(&detail)?;
        Ok(record)
    })
    .collect()
}

/// The statement for a filter, with its values in order. Only fixed text goes into the statement.
fn query(filter: &AuditFilter) -> (String, Vec<Sql>) {
    let mut conditions: Vec<&str> = Vec::new();
    let mut values: Vec<Sql> = Vec::new();
    let mut narrow = |condition, value: Sql| {
        conditions.push(condition);
        values.push(value);
    };
    if let Some(plugin) = &filter.plugin {
        narrow("plugin = ?", plugin.clone().into());
    }
    match filter.kind.as_deref().map(|kind| (kind, kind.strip_suffix(".*"))) {
        // Everything from `prefix.` to just before `prefix/`, the character after the dot.
        Some((_, Some(prefix))) => {
            narrow("kind >= ?", format!("{prefix}.").into());
            narrow("kind < ?", format!("{prefix}/").into());
        }
        Some((kind, None)) => narrow("kind = ?", kind.to_owned().into()),
        None => {}
    }
    if let Some(actor) = &filter.actor {
        narrow("actor = ?", actor.clone().into());
    }
    if let Some(event) = &filter.event_id {
        narrow("detail ->> '$.event_id' = ?", event.clone().into());
    }
    if let Some(since) = filter.since {
        narrow("at >= ?", since.timestamp_micros().into());
    }
    if let Some(until) = filter.until {
        narrow("at < ?", until.timestamp_micros().into());
    }
    if let Some(after) = filter.after_seq {
        narrow("seq > ?", after.into());
    }
    if let Some(before) = filter.before_seq {
        narrow("seq < ?", before.into());
    }
    let narrowed =
        if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    let order = if filter.newest_first { "DESC" } else { "ASC" };
    values.push(limit_of(filter.limit).into());
    (
        format!(
            "SELECT seq, at, kind, plugin, actor, detail FROM audit{narrowed} ORDER BY seq {order} LIMIT ?"
        ),
        values,
    )
}
