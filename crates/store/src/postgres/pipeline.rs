//! Several statements that go to the server at once, as one transaction: it costs one exchange however many they are.

use tokio_postgres::types::ToSql;

use super::connection::Conn;
use crate::StoreError;

/// Values of a statement that is sent later.
pub(super) type Values = Vec<Value>;

/// One of them.
pub(super) type Value = Box<dyn ToSql + Sync + Send>;

/// Statements in order.
#[derive(Default)]
pub(super) struct Pipeline {
    statements: Vec<(&'static str, Values)>,
}

impl Pipeline {
    /// Adds a statement.
    pub(super) fn add(&mut self, sql: &'static str, values: Values) {
        self.statements.push((sql, values));
    }

    /// Runs all of it, or nothing when one statement fails.
    pub(super) async fn run(self, conn: &Conn) -> Result<(), StoreError> {
        if self.statements.is_empty() {
            return Ok(());
        }
        conn.transaction(&self.statements).await
    }
}
