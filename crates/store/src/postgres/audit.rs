//! The audit trail of this node: append in groups, and look.

use async_trait::async_trait;
use tokio_postgres::Row;

use super::connection::{Conn, text};
use super::lane::{Batch, Waiting};
use super::narrowed::Narrowed;
use super::pool::On;
use super::{PostgresStore, json_of, limit_of};
use crate::{AuditFilter, AuditRecord, AuditStore, StoreError};

#[async_trait]
impl AuditStore for PostgresStore {
    async fn append_audit(&self, records: Vec<AuditRecord>) -> Result<(), StoreError> {
        self.audit.write(records).await.map_err(|error| error.during("append to the audit trail"))
    }

    async fn audit(&self, filter: AuditFilter) -> Result<Vec<AuditRecord>, StoreError> {
        find(self.read("look into the audit trail"), self.node(), &filter).await
    }
}

/// Records of the trail, in groups. Only this node writes its trail, and in this lane alone, so places follow the order
/// of the commits.
pub(super) struct Records {
    node: String,
}

impl Records {
    pub(super) fn new(node: &str) -> Self {
        Self { node: node.to_owned() }
    }
}

impl Batch for Records {
    type Item = Vec<AuditRecord>;
    type Output = ();
    const REPEATABLE: bool = false;

    fn bytes(item: &Vec<AuditRecord>) -> usize {
        // The details are not encoded yet; most are this small.
        item.len() * 512
    }

    async fn write(&self, conn: &Conn, items: &[Waiting<Self>]) -> Result<Vec<()>, StoreError> {
        let records: Vec<&AuditRecord> = items.iter().flat_map(|waiting| &waiting.item).collect();
        let at: Vec<_> = records.iter().map(|record| record.at).collect();
        let kinds: Vec<String> = records.iter().map(|record| text(&record.kind)).collect();
        let plugins: Vec<Option<String>> =
            records.iter().map(|record| record.plugin.as_deref().map(text)).collect();
        let actors: Vec<String> = records.iter().map(|record| text(&record.actor)).collect();
        let details: Vec<String> = records.iter().map(|record| record.detail.to_string()).collect();
        let sql = "WITH new AS (
                SELECT *, sum(octet_length(detail)) OVER (ORDER BY nth) AS upto, count(*) OVER () AS rows,
                       sum(octet_length(detail)) OVER () AS bytes
                FROM unnest($2::TIMESTAMPTZ[], $3::TEXT[], $4::TEXT[], $5::TEXT[], $6::TEXT[])
                         WITH ORDINALITY AS records (at, kind, plugin, actor, detail, nth)
            ), head AS (
                INSERT INTO audit_heads AS head (node, seq, total) SELECT $1, rows, bytes FROM new LIMIT 1
                ON CONFLICT (node) DO UPDATE SET seq = head.seq + excluded.seq, total = head.total + excluded.total
                RETURNING seq, total
            )
            INSERT INTO audit (node, seq, at, kind, plugin, actor, detail, total)
            SELECT $1, head.seq - rows + nth, at, kind, plugin, actor, detail, head.total - bytes + upto FROM new, head";
        conn.execute(sql, &[&self.node, &at, &kinds, &plugins, &actors, &details]).await?;
        Ok(vec![(); items.len()])
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
            narrowed.by("kind COLLATE \"C\" >= ", text(&format!("{prefix}.")));
            narrowed.by("kind COLLATE \"C\" < ", text(&format!("{prefix}/")));
        }
        Some((kind, None)) => narrowed.by("kind COLLATE \"C\" = ", text(kind)),
        None => {}
    }
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
