//! The trail's guard: gives the store its seal, writes heads down, and verifies.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::json;
use temps_store::{AuditVerdict, ChainPage, Head, HostStore, Part, Seal, StoreError, Verifier};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Audit;
use super::heads::{HeadFile, TrailFiles};
use super::key::{KeyError, KeySeal};

/// Time between two heads. What was written since the last one is all that a cut end can hide.
const HEAD_EVERY: Duration = Duration::from_secs(60);

/// Links that are read at once: short enough that other readers of the store wait for milliseconds only.
const PAGE: usize = 64;

/// Why a trail could not be verified.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// There is no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The heads cannot be read.
    #[error("the heads of the audit chain, {path}, cannot be read: {source}")]
    Heads {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A verification, as far as it is.
#[derive(Debug, Clone, Default)]
pub struct Check {
    /// When it began.
    pub began_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Number of the chain's last link when it began: how far it has to go.
    pub newest: i64,
    /// What was found out so far.
    pub verdict: AuditVerdict,
    /// Why it ended before the chain did.
    pub failed: Option<String>,
}

impl Check {
    /// What even a trail without a wrong place does not prove.
    #[must_use]
    pub fn cannot_prove(&self) -> Vec<String> {
        let verdict = &self.verdict;
        let mut limits = vec![
            "whoever can read the key file could have written another trail and sealed it".to_owned(),
            "what was never recorded is not missing: `audit.dropped` says where the host was too busy to record".to_owned(),
        ];
        match (&verdict.last_head, verdict.last_link) {
            (None, _) => limits.push(
                "nothing was written down outside of the database yet, so a cut end would not be found".to_owned(),
            ),
            (Some(head), Some(last)) if last > head.number => limits.push(format!(
                "the last {} links, since {}, are known by the database alone: their end could be cut off unnoticed",
                last - head.number,
                head.at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            )),
            _ => {}
        }
        limits.push("a cut end is found only as long as the file of heads was not cut with it".to_owned());
        for part in Part::ALL {
            let outside = verdict.outside.of(part);
            if outside > 0 {
                limits.push(format!(
                    "{outside} {} are from before the chain and may be anything",
                    part.as_str()
                ));
            }
            let removed = verdict.removed.of(part);
            if removed > 0 {
                limits.push(format!(
                    "{removed} {} are gone; the seal says that retention removed them",
                    part.as_str()
                ));
            }
        }
        limits
    }
}

/// Guards one host's trail. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Trail {
    store: Arc<dyn HostStore>,
    seal: Arc<dyn Seal>,
    heads: HeadFile,
    check: Arc<watch::Sender<Option<Check>>>,
}

impl Trail {
    /// Loads (or makes) the key and gives the store its seal: from now on what is recorded is chained.
    pub(crate) async fn begin(store: Arc<dyn HostStore>, files: TrailFiles) -> Result<Self, CheckError> {
        let seal: Arc<dyn Seal> = Arc::new(KeySeal::load_or_make(&files.key)?);
        store.seal_audit(Arc::clone(&seal)).await?;
        let heads = HeadFile::new(files.heads, store.audit_node());
        Ok(Self { store, seal, heads, check: Arc::new(watch::channel(None).0) })
    }

    /// What is wrong at the end of the chain, as far as the last head tells: the trail was cut, replaced or begun anew, or
    /// the key is another one. A look at one link; the whole is for [`Trail::check`].
    pub(crate) async fn look_at_the_end(&self) -> Result<Option<String>, CheckError> {
        if let Some(link) = self.store.audit_link(None).await?
            && link.key_id != self.seal.key_id()
        {
            return Ok(Some(format!(
                "the key of the audit chain is not the one that sealed it up to link {} ({})",
                link.number, link.key_id
            )));
        }
        let Some(head) = self.heads.last().map_err(|source| unreadable(&self.heads, source))? else {
            return Ok(None);
        };
        let found = self.store.audit_link(Some(head.number)).await?;
        if found.is_some_and(|link| link.mac == head.mac) {
            return Ok(None);
        }
        let page = self.store.audit_chain(Arc::clone(&self.seal), -1, 1).await?;
        if page.cut.is_some_and(|cut| cut.number >= head.number) {
            return Ok(None);
        }
        let Head { number, at, .. } = head;
        let at = at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        Ok(Some(format!("link {number} of the audit chain, which was there at {at}, is not there any more")))
    }

    /// Writes heads down until `stop`: one now, and one each minute.
    pub(crate) async fn write_heads(self, stop: CancellationToken) {
        self.write_head().await;
        while stop.run_until_cancelled(tokio::time::sleep(HEAD_EVERY)).await.is_some() {
            self.write_head().await;
        }
    }

    /// Writes down where the chain stands, unless it stands where it stood.
    pub(crate) async fn write_head(&self) {
        let written = async {
            let Some(link) = self.store.audit_link(None).await? else { return Ok(()) };
            let heads = self.heads.clone();
            let append = move || match heads.last()? {
                Some(last) if last.number == link.number && last.mac == link.mac => Ok(()),
                _ => heads.append(&link, Utc::now()),
            };
            // Failing means that the runtime ends.
            let appended = tokio::task::spawn_blocking(append).await.unwrap_or(Ok(()));
            appended.map_err(|source| unreadable(&self.heads, source))
        };
        if let Err(error) = written.await {
            tracing::error!(%error, "the head of the audit chain cannot be written down; trying again in a minute");
        }
    }

    /// Begins a verification for an operator, or joins the one that is under way. What it finds is recorded.
    pub(crate) fn check(&self, audit: &Audit, actor: &str) -> Check {
        let begun = self.check.send_if_modified(|check| {
            let is_under_way = check.as_ref().is_some_and(|check| check.ended_at.is_none());
            if !is_under_way {
                *check = Some(Check { began_at: Utc::now(), ..Check::default() });
            }
            !is_under_way
        });
        if begun {
            let (this, audit, actor) = (self.clone(), audit.clone(), actor.to_owned());
            let runtime = tokio::runtime::Handle::current();
            tokio::task::spawn_blocking(move || {
                let pages =
                    |place| runtime.block_on(this.store.audit_chain(Arc::clone(&this.seal), place, PAGE));
                let newest = runtime.block_on(this.store.audit_link(None));
                let newest = newest.ok().flatten().map_or(0, |link| link.number);
                let show = |verdict: &AuditVerdict| {
                    this.check.send_modify(|check| {
                        if let Some(check) = check {
                            check.newest = newest;
                            check.verdict = verdict.clone();
                        }
                    });
                };
                let ended = run(Arc::clone(&this.seal), &this.heads, this.store.audit_node(), pages, show);
                this.check.send_modify(|check| {
                    if let Some(check) = check {
                        check.failed = ended.err().map(|error| error.to_string());
                        check.ended_at = Some(Utc::now());
                    }
                });
                if let Some(check) = this.last_check() {
                    audit.record("audit.verified", None, &actor, detail(&check));
                }
            });
        }
        self.last_check().unwrap_or_default()
    }

    /// The last verification, or the one under way.
    pub(crate) fn last_check(&self) -> Option<Check> {
        self.check.borrow().clone()
    }
}

fn detail(check: &Check) -> serde_json::Value {
    let verdict = &check.verdict;
    let wrong = verdict.wrong.as_ref().map(ToString::to_string);
    json!({
        "intact": wrong.is_none() && check.failed.is_none(),
        "wrong": wrong,
        "failed": check.failed,
        "links": verdict.links,
    })
}

/// Verifies a trail without a host: `pages` gives its chain, `files` are those of the host that wrote it.
///
/// # Errors
/// [`CheckError`] when there is no key, or something cannot be read.
pub fn check_offline(
    files: &TrailFiles,
    node: &str,
    pages: impl FnMut(&Arc<dyn Seal>, i64, usize) -> Result<ChainPage, StoreError>,
) -> Result<Check, CheckError> {
    let seal: Arc<dyn Seal> = Arc::new(KeySeal::load(&files.key)?);
    let heads = HeadFile::new(files.heads.clone(), node);
    let mut check = Check { began_at: Utc::now(), ..Check::default() };
    let (keyed, mut pages) = (Arc::clone(&seal), pages);
    let verdict = |verdict: &AuditVerdict| check.verdict = verdict.clone();
    run(seal, &heads, node, |place| pages(&keyed, place, PAGE), verdict)?;
    check.newest = check.verdict.last_link.unwrap_or_default();
    check.ended_at = Some(Utc::now());
    Ok(check)
}

/// Verifies page after page and shows each step.
fn run(
    seal: Arc<dyn Seal>,
    heads: &HeadFile,
    node: &str,
    mut page: impl FnMut(i64) -> Result<ChainPage, StoreError>,
    mut show: impl FnMut(&AuditVerdict),
) -> Result<(), CheckError> {
    // Before the first page: what is appended later may know of links that the page does not have yet.
    let read = heads.read().map_err(|source| unreadable(heads, source))?;
    let mut verifier = Verifier::new(seal, node, read);
    loop {
        let over = verifier.take(&page(verifier.place())?);
        show(verifier.verdict());
        if over {
            return Ok(());
        }
    }
}

fn unreadable(heads: &HeadFile, source: io::Error) -> CheckError {
    CheckError::Heads { path: heads.path().to_owned(), source }
}
