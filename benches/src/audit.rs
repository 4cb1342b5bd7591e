//! What the audit trail costs: records with and without the chain that makes them tamper-evident, in the same run.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use temps_store::sqlite::SqliteStore;
use temps_store::{AuditFilter, AuditRecord, AuditStore, JournalStore, Verifier};

use crate::Outcome;
use crate::stats::Figure;

/// Records in one commit of a busy host.
const BATCH: usize = 256;

/// Commits of one round with full batches, and with a single record each.
const COMMITS: [(usize, usize); 2] = [(BATCH, 40), (1, 1_000)];

/// Rounds of each measurement, with and without in turn, so that what else the machine does falls on both. The best counts.
const ROUNDS: usize = 5;

/// Events of one round that are published alone: what the chain costs those who record nothing.
const EVENTS: usize = 1_000;

pub(crate) async fn measure() -> Outcome<Vec<Figure>> {
    let mut figures = Vec::new();
    for (batch, commits) in COMMITS {
        let name = format!("audit records written, {batch} to a commit, chained");
        figures.push(compare(&name, "records/s", async |store| append(store, batch, commits).await).await?);
    }
    let name = "durable publishes, one after the other, beside a chain";
    figures.push(compare(name, "events/s", async |store| publish(store).await).await?);
    figures.push(verify().await?);
    Ok(figures)
}

/// The same work on a store with a chain and on one without.
async fn compare(
    name: &str,
    unit: &str,
    work: impl AsyncFn(&SqliteStore) -> Outcome<f64>,
) -> Outcome<Figure> {
    let directory = tempfile::Builder::new().prefix("tb").tempdir()?;
    let chained = chained(directory.path(), "chained.db").await?;
    let plain = SqliteStore::open(&directory.path().join("plain.db"))?;
    let (mut with, mut without) = (0.0_f64, 0.0_f64);
    for _ in 0..ROUNDS {
        with = with.max(work(&chained).await?);
        without = without.max(work(&plain).await?);
    }
    Ok(Figure::new(name, unit, with, "the same without the chain", without))
}

async fn chained(directory: &Path, file: &str) -> Outcome<Arc<SqliteStore>> {
    let store = SqliteStore::open(&directory.join(file))?;
    store.seal_audit(temps_host::audit::seal(&directory.join("audit.key"))?).await?;
    Ok(store)
}

async fn append(store: &SqliteStore, batch: usize, commits: usize) -> Outcome<f64> {
    let begin = Instant::now();
    for _ in 0..commits {
        store.append_audit(vec![record(); batch]).await?;
    }
    Ok((batch * commits) as f64 / begin.elapsed().as_secs_f64())
}

async fn publish(store: &SqliteStore) -> Outcome<f64> {
    let begin = Instant::now();
    for _ in 0..EVENTS {
        store.publish(vec![crate::events::sample_event()]).await?;
    }
    Ok(EVENTS as f64 / begin.elapsed().as_secs_f64())
}

/// A verification of a trail, against reading the same records without checking anything.
async fn verify() -> Outcome<Figure> {
    let directory = tempfile::Builder::new().prefix("tb").tempdir()?;
    let store = chained(directory.path(), "verified.db").await?;
    append(&store, BATCH, 80).await?;
    let seal = temps_host::audit::seal(&directory.path().join("audit.key"))?;
    let (mut checked, mut read) = (0.0_f64, 0.0_f64);
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        let mut verifier = Verifier::new(seal.clone(), store.audit_node(), Box::new(std::iter::empty()));
        while !verifier.take(&store.audit_chain(seal.clone(), verifier.place(), 64).await?) {}
        if let Some(wrong) = &verifier.verdict().wrong {
            return Err(format!("the trail does not verify: {wrong}").into());
        }
        let records = verifier.verdict().rows.records as f64;
        checked = checked.max(records / begin.elapsed().as_secs_f64());
        read = read.max(records / read_all(&store).await?);
    }
    let floor = "reading the same records";
    Ok(Figure::new("audit records verified", "records/s", checked, floor, read))
}

async fn read_all(store: &SqliteStore) -> Outcome<f64> {
    let begin = Instant::now();
    let mut place = None;
    loop {
        let filter = AuditFilter { after_seq: place, limit: 1_000, ..AuditFilter::default() };
        match store.audit(filter).await?.last() {
            Some(last) => place = Some(last.seq),
            None => return Ok(begin.elapsed().as_secs_f64()),
        }
    }
}

fn record() -> AuditRecord {
    AuditRecord {
        seq: 0,
        at: chrono::Utc::now(),
        kind: "plugin.started".into(),
        plugin: Some("slack-notifier".into()),
        actor: "host".into(),
        detail: serde_json::json!({"start": 3, "pid": 4711, "containment": "pid_namespace", "hash": "a".repeat(64)}),
    }
}
