//! What only a server can suffer: several hosts on one database, lost connections, a killed server.

use std::sync::Arc;

use temps_store::postgres::PostgresStore;
use temps_store::{DatabaseAddress, StoreError};
use temps_testkit::postgres::Postgres;

/// Opens a store on a database of a server.
pub(crate) async fn open(
    server: &Postgres,
    database: &str,
    node: &str,
) -> Result<Arc<PostgresStore>, StoreError> {
    match server.url(database).parse().unwrap() {
        DatabaseAddress::Postgres(url) => PostgresStore::open(&url, node).await,
        DatabaseAddress::Sqlite(_) => unreachable!(),
    }
}
