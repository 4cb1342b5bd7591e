//! A query that is put together from the conditions of a filter. Only fixed text goes into the statement; values do not.

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::pool::On;
use crate::StoreError;

/// Conditions with their values, in order.
#[derive(Default)]
pub(super) struct Narrowed {
    conditions: Vec<String>,
    values: Vec<Box<dyn ToSql + Sync + Send>>,
}

impl Narrowed {
    /// Adds a condition; its value comes behind `condition`.
    pub(super) fn by(&mut self, condition: &'static str, value: impl ToSql + Sync + Send + 'static) {
        self.values.push(Box::new(value));
        self.conditions.push(format!("{condition}${}", self.values.len()));
    }

    /// Adds a condition if there is a value for it.
    pub(super) fn by_some(
        &mut self,
        condition: &'static str,
        value: Option<impl ToSql + Sync + Send + 'static>,
    ) {
        if let Some(value) = value {
            self.by(condition, value);
        }
    }

    /// Adds a condition on a pair of values.
    pub(super) fn by_pair(
        &mut self,
        condition: &'static str,
        first: impl ToSql + Sync + Send + 'static,
        second: impl ToSql + Sync + Send + 'static,
    ) {
        self.values.push(Box::new(first));
        self.values.push(Box::new(second));
        self.conditions.push(format!("{condition}(${}, ${})", self.values.len() - 1, self.values.len()));
    }

    /// Runs `select` with all conditions, and at most `limit` rows.
    pub(super) async fn query(
        mut self,
        on: On<'_>,
        select: &str,
        order: &str,
        limit: i64,
    ) -> Result<Vec<Row>, StoreError> {
        let narrowed = if self.conditions.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", self.conditions.join(" AND "))
        };
        self.values.push(Box::new(limit));
        let sql = format!("{select}{narrowed} {order} LIMIT ${}", self.values.len());
        let values: Vec<&(dyn ToSql + Sync)> = self.values.iter().map(|value| &**value as _).collect();
        on.query(&sql, &values).await
    }
}
