//! Verifications of the audit trail: as they are told, and without a daemon.

use temps_host::audit::{Check, CheckError, TrailFiles, check_offline};
use temps_store::DatabaseAddress;
#[cfg(feature = "postgres")]
use temps_store::postgres::ChainReader;
use temps_store::sqlite::ChainFile;

use crate::api::audit::{AuditCheck, AuditCheckState, AuditWrong};
use crate::config::Config;

/// Verifies the trail without a daemon: from the database, the key and the heads. Nothing is written, so it works beside a
/// daemon and after one. It blocks, and a database on a server is asked on the tokio runtime that this thread belongs to.
///
/// # Errors
/// [`CheckError`] when one of them cannot be read.
pub fn verify_offline(config: &Config) -> Result<AuditCheck, CheckError> {
    let files = TrailFiles::of(&config.places.state_dir);
    let check = match config.database() {
        DatabaseAddress::Sqlite(file) => {
            let chain = ChainFile::open(&file)?;
            check_offline(&files, chain.node(), |seal, after, limit| chain.page(&**seal, after, limit))?
        }
        #[cfg(feature = "postgres")]
        DatabaseAddress::Postgres(url) => {
            let runtime = tokio::runtime::Handle::current();
            let chain = runtime.block_on(ChainReader::open(&url, &config.node))?;
            check_offline(&files, &config.node, |seal, after, limit| {
                runtime.block_on(chain.page(&**seal, after, limit))
            })?
        }
        #[cfg(not(feature = "postgres"))]
        DatabaseAddress::Postgres(_) => return Err(temps_store::without_postgres().into()),
    };
    Ok(report(&check))
}

/// A verification as REST tells it.
pub(crate) fn report(check: &Check) -> AuditCheck {
    let verdict = &check.verdict;
    let state = match (check.ended_at, &verdict.wrong, &check.failed) {
        (None, ..) => AuditCheckState::Running,
        (_, Some(_), _) => AuditCheckState::Tampered,
        (_, None, Some(_)) => AuditCheckState::Failed,
        (_, None, None) => AuditCheckState::Intact,
    };
    AuditCheck {
        state,
        began_at: check.began_at,
        ended_at: check.ended_at,
        links: verdict.links,
        last_link: verdict.last_link,
        newest_link: check.newest,
        records: verdict.rows.records,
        attempts: verdict.rows.attempts,
        since: verdict.since,
        until: verdict.until,
        heads: verdict.heads,
        last_head_at: verdict.last_head.as_ref().map(|head| head.at),
        wrong: verdict.wrong.as_ref().map(|wrong| AuditWrong {
            message: wrong.to_string(),
            link: wrong.link,
            at: wrong.at,
            rows: wrong.rows.map(|(part, ..)| part.as_str().to_owned()),
            first_seq: wrong.rows.map(|(_, first, _)| first),
            last_seq: wrong.rows.map(|(_, _, last)| last),
        }),
        failure: check.failed.clone(),
        cannot_prove: check.cannot_prove(),
    }
}
