//! What this node records: deliveries and the audit trail, in groups, each commit sealed by a link of the chain.
//!
//! Nobody else writes these rows, because the node's name is held. So places, totals and the link are known before a
//! group is sent, it goes over in one exchange, and when the connection breaks before the answer comes, a look at where
//! the trail ends tells whether the group was written: it is then never written twice.

use chrono::Utc;
use tokio::sync::Mutex;

use super::chain::{self, Chain, micros};
use super::connection::{Conn, text};
use super::deliveries;
use super::lane::{Batch, Waiting};
use super::pipeline::Pipeline;
use crate::host::{Cell, Link, Part, Parts, Rows, RowsDigest, Seal, first_link, next_link};
use crate::{AuditRecord, Seq, StoreError};

/// What one caller records.
pub(super) enum Entry {
    /// Audit records.
    Audit(Vec<AuditRecord>),
    /// What became of a plugin's deliveries.
    Deliveries(deliveries::News),
}

/// The trail of one node.
pub(super) struct Trail {
    node: String,
    chain: Chain,
    ends: Mutex<Ends>,
}

/// Where the trail ends, as far as it is known.
#[derive(Default)]
struct Ends {
    known: Option<End>,
    /// Where it ends if the group that was sent last was written.
    expected: Option<End>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct End {
    records: Seq,
    total: i64,
    attempts: i64,
    link: Option<Link>,
}

impl Trail {
    pub(super) fn new(node: &str, chain: Chain) -> Self {
        Self { node: node.to_owned(), chain, ends: Mutex::default() }
    }

    async fn end(&self, conn: &Conn) -> Result<End, StoreError> {
        let sql = "SELECT audit_seq, audit_total, attempt_id FROM trail_heads WHERE node = $1";
        let (records, total, attempts) = match conn.maybe(sql, &[&self.node]).await? {
            Some(row) => (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?),
            None => (0, 0, 0),
        };
        Ok(End { records, total, attempts, link: chain::last_link(conn, &self.node).await? })
    }

    /// Adds the link over the rows that a group adds, and before the first link the one that begins the chain.
    async fn link(
        &self,
        conn: &Conn,
        pipeline: &mut Pipeline,
        seal: &dyn Seal,
        begun: &End,
        added: Parts<Rows>,
    ) -> Result<Link, StoreError> {
        let at = micros(Utc::now());
        let last = Parts { records: begun.records, attempts: begun.attempts };
        let before = match &begun.link {
            Some(link) => link.clone(),
            None => {
                let there = Parts {
                    records: chain::count(conn, &self.node, Part::Records, last.records).await?,
                    attempts: chain::count(conn, &self.node, Part::Attempts, last.attempts).await?,
                };
                let first = first_link(seal, &self.node, at, last, there);
                chain::insert(pipeline, &self.node, &first);
                first
            }
        };
        let last = Parts {
            records: last.records + added.records.count,
            attempts: last.attempts + added.attempts.count,
        };
        let link = next_link(seal, &self.node, &before, at, last, added);
        chain::insert(pipeline, &self.node, &link);
        Ok(link)
    }

    async fn plan(
        &self,
        conn: &Conn,
        begun: &End,
        items: &[Waiting<Self>],
    ) -> Result<(Pipeline, End), StoreError> {
        let mut pipeline = Pipeline::default();
        let mut end = begun.clone();
        let records = items.iter().filter_map(|waiting| match &waiting.item {
            Entry::Audit(records) => Some(records),
            Entry::Deliveries(_) => None,
        });
        let rows = AuditRows::new(begun, records.flatten());
        let news = items.iter().filter_map(|waiting| match &waiting.item {
            Entry::Deliveries(news) => Some(news),
            Entry::Audit(_) => None,
        });
        let attempts = deliveries::write(&mut pipeline, &self.node, begun.attempts, news);
        end.records = rows.seqs.last().copied().unwrap_or(begun.records);
        end.total = rows.totals.last().copied().unwrap_or(begun.total);
        end.attempts = attempts.last().unwrap_or(begun.attempts);
        if end == *begun {
            return Ok((pipeline, end));
        }
        if let Some(seal) = self.chain.seal() {
            let added =
                Parts { records: rows.sealed(seal, &self.node), attempts: attempts.sealed(seal, &self.node) };
            end.link = Some(self.link(conn, &mut pipeline, seal, begun, added).await?);
        }
        rows.insert(&mut pipeline, &self.node);
        attempts.insert(&mut pipeline, &self.node);
        pipeline.add(
            "INSERT INTO trail_heads (node, audit_seq, audit_total, attempt_id) VALUES ($1, $2, $3, $4)
             ON CONFLICT (node) DO UPDATE SET audit_seq = excluded.audit_seq, audit_total = excluded.audit_total,
                 attempt_id = excluded.attempt_id",
            vec![
                Box::new(self.node.clone()),
                Box::new(end.records),
                Box::new(end.total),
                Box::new(end.attempts),
            ],
        );
        Ok((pipeline, end))
    }
}

impl Batch for Trail {
    type Item = Entry;
    type Output = ();
    const REPEATABLE: bool = true;

    fn bytes(item: &Entry) -> usize {
        match item {
            // The details are not encoded yet; most are this small.
            Entry::Audit(records) => records.len() * 512,
            Entry::Deliveries(news) => news.bytes(),
        }
    }

    async fn write(&self, conn: &Conn, items: &[Waiting<Self>], again: bool) -> Result<Vec<()>, StoreError> {
        let _turn = self.chain.turn().await;
        let mut ends = self.ends.lock().await;
        let begun = match ends.known.take() {
            Some(known) => known,
            None => self.end(conn).await?,
        };
        if again && ends.expected.as_ref().is_some_and(|expected| *expected == begun) {
            ends.known = Some(begun);
            return Ok(vec![(); items.len()]);
        }
        let (pipeline, end) = self.plan(conn, &begun, items).await?;
        // What leaves the end where it is may be written twice.
        ends.expected = (end != begun).then(|| end.clone());
        pipeline.run(conn).await?;
        ends.known = Some(end);
        Ok(vec![(); items.len()])
    }
}

/// Audit records as columns.
#[derive(Default)]
struct AuditRows {
    seqs: Vec<Seq>,
    at: Vec<chrono::DateTime<Utc>>,
    kinds: Vec<String>,
    plugins: Vec<Option<String>>,
    actors: Vec<String>,
    details: Vec<String>,
    totals: Vec<i64>,
}

impl AuditRows {
    fn new<'a>(begun: &End, records: impl Iterator<Item = &'a AuditRecord>) -> Self {
        let mut rows = Self::default();
        let (mut seq, mut total) = (begun.records, begun.total);
        for record in records {
            let detail = record.detail.to_string();
            seq += 1;
            total += i64::try_from(detail.len()).unwrap_or(i64::MAX);
            rows.seqs.push(seq);
            rows.at.push(micros(record.at));
            rows.kinds.push(text(&record.kind));
            rows.plugins.push(record.plugin.as_deref().map(text));
            rows.actors.push(text(&record.actor));
            rows.details.push(detail);
            rows.totals.push(total);
        }
        rows
    }

    /// The digest of the rows, with the columns in the order in which [`chain`] reads them.
    fn sealed(&self, seal: &dyn Seal, node: &str) -> Rows {
        let mut digest = RowsDigest::begin(seal, Part::Records);
        for row in 0..self.seqs.len() {
            digest.row([
                Cell::Integer(self.seqs[row]),
                Cell::Bytes(node.as_bytes()),
                Cell::Integer(self.at[row].timestamp_micros()),
                Cell::Bytes(self.kinds[row].as_bytes()),
                self.plugins[row].as_ref().map_or(Cell::Null, |plugin| Cell::Bytes(plugin.as_bytes())),
                Cell::Bytes(self.actors[row].as_bytes()),
                Cell::Bytes(self.details[row].as_bytes()),
                Cell::Integer(self.totals[row]),
            ]);
        }
        digest.finish()
    }

    fn insert(self, pipeline: &mut Pipeline, node: &str) {
        if self.seqs.is_empty() {
            return;
        }
        let Self { seqs, at, kinds, plugins, actors, details, totals } = self;
        pipeline.add(
            "INSERT INTO audit (node, seq, at, kind, plugin, actor, detail, total)
             SELECT $1, * FROM unnest($2::BIGINT[], $3::TIMESTAMPTZ[], $4::TEXT[], $5::TEXT[], $6::TEXT[], $7::TEXT[],
                                      $8::BIGINT[])",
            vec![
                Box::new(node.to_owned()),
                Box::new(seqs),
                Box::new(at),
                Box::new(kinds),
                Box::new(plugins),
                Box::new(actors),
                Box::new(details),
                Box::new(totals),
            ],
        );
    }
}
