//! The journal: appended by [`append`], which both doors use, and read in both directions.

use async_trait::async_trait;
use temps_protocol::PluginEvent;
use tokio::sync::watch;
use tokio_postgres::Row;

use super::connection::{Conn, raise, text};
use super::lane::{Batch, Waiting};
use super::pool::On;
use super::{PostgresStore, limit_of};
use crate::host::Encoded;
use crate::{JournalEntry, JournalStore, MAX_PAGE_BYTES, Published, Seq, StoreError, failpoint};

#[async_trait]
impl JournalStore for PostgresStore {
    async fn publish(&self, events: Vec<PluginEvent>) -> Result<Vec<Published>, StoreError> {
        let encoded = events.iter().map(Encoded::new).collect::<Result<Vec<_>, _>>()?;
        self.publishes.write(encoded).await.map_err(|error| error.during("publish an event"))
    }

    fn head(&self) -> watch::Receiver<Seq> {
        self.head.clone()
    }

    async fn events_after(&self, after: Seq, limit: usize) -> Result<Vec<JournalEntry>, StoreError> {
        page(self.read("read the journal"), Direction::Later, after, limit).await
    }

    async fn events_before(&self, before: Seq, limit: usize) -> Result<Vec<JournalEntry>, StoreError> {
        page(self.read("read the journal"), Direction::Earlier, before, limit).await
    }

    async fn event(&self, id: &str) -> Result<Option<JournalEntry>, StoreError> {
        let sql = "SELECT seq, json, published_at FROM journal WHERE id = $1";
        self.read("look up an event").maybe(sql, &[&text(id)]).await?.as_ref().map(entry).transpose()
    }
}

/// What is published, in groups. It is not repeated by itself: the second try could not tell the first one's events from
/// those that somebody else had published before. The publisher may, because the id stays the same.
pub(super) struct Publishes {
    node: String,
    head: watch::Sender<Seq>,
}

impl Publishes {
    pub(super) fn new(node: &str, head: watch::Sender<Seq>) -> Self {
        Self { node: node.to_owned(), head }
    }
}

impl Batch for Publishes {
    type Item = Vec<Encoded>;
    type Output = Vec<Published>;
    const REPEATABLE: bool = false;

    fn bytes(item: &Vec<Encoded>) -> usize {
        item.iter().map(|event| event.json.len()).sum()
    }

    async fn write(
        &self,
        conn: &Conn,
        items: &[Waiting<Self>],
        _again: bool,
    ) -> Result<Vec<Vec<Published>>, StoreError> {
        let events: Vec<&Encoded> = items.iter().flat_map(|waiting| &waiting.item).collect();
        failpoint!("journal.insert");
        let mut published = append(conn, &self.node, &events).await?.into_iter();
        failpoint!("journal.committed");
        let outputs = items.iter().map(|waiting| published.by_ref().take(waiting.item.len()).collect());
        let outputs: Vec<Vec<Published>> = outputs.collect();
        if let Some(last) = outputs.iter().flatten().map(|one| one.seq).max() {
            raise(&self.head, last);
        }
        failpoint!("journal.announced");
        Ok(outputs)
    }
}

/// Appends events in one statement, which holds the journal's end until its transaction has ended.
pub(super) async fn append(
    conn: &Conn,
    node: &str,
    events: &[&Encoded],
) -> Result<Vec<Published>, StoreError> {
    let ids: Vec<&str> = events.iter().map(|event| event.id.as_str()).collect();
    let types: Vec<&str> = events.iter().map(|event| event.event_type.as_str()).collect();
    let projects: Vec<Option<i32>> = events.iter().map(|event| event.project_id).collect();
    let json: Vec<&str> = events.iter().map(|event| event.json.as_str()).collect();
    let sql = "SELECT place, is_duplicate FROM journal_append($1, $2, $3, $4, $5)";
    let rows = conn.query(sql, &[&node, &ids, &types, &projects, &json]).await?;
    rows.iter().map(|row| Ok(Published { seq: row.try_get(0)?, duplicate: row.try_get(1)? })).collect()
}

/// One page of the journal, in one direction. The server leaves off what is too much, so that it is not sent.
async fn page(
    on: On<'_>,
    direction: Direction,
    from: Seq,
    limit: usize,
) -> Result<Vec<JournalEntry>, StoreError> {
    let (beyond, order) = match direction {
        Direction::Later => (">", "ASC"),
        Direction::Earlier => ("<", "DESC"),
    };
    let sql = format!(
        "SELECT seq, j.json, published_at
         FROM (SELECT seq, row_number() OVER so_far AS nth, sum(octet_length(json)) OVER so_far AS bytes
               FROM (SELECT seq, json FROM journal WHERE seq {beyond} $1 ORDER BY seq {order} LIMIT $2) AS candidates
               WINDOW so_far AS (ORDER BY seq {order} ROWS UNBOUNDED PRECEDING)) AS sizes
         JOIN journal AS j USING (seq) WHERE nth = 1 OR bytes <= {MAX_PAGE_BYTES} ORDER BY seq {order}"
    );
    let rows = on.query(&sql, &[&from, &limit_of(limit)]).await?;
    rows.iter().map(entry).collect()
}

#[derive(Clone, Copy)]
enum Direction {
    Later,
    Earlier,
}

fn entry(row: &Row) -> Result<JournalEntry, StoreError> {
    JournalEntry::decode(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)
}
