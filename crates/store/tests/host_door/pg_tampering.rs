//! Somebody with the server and without the key: whatever is changed with SQL is found by a verification, as in a file.

use std::sync::Arc;

use temps_store::postgres::PostgresStore;
use temps_store::{AuditStore, AuditVerdict, Head, Wrongness};
use temps_testkit::Postgres;

use crate::chain::{attempt, write};
use crate::pg::open;
use crate::seal::{head, seal, verify};

/// The tables of a trail, and the column that is a row's place.
const TABLES: [(&str, &str); 3] = [("audit", "seq"), ("attempts", "id"), ("audit_links", "number")];

/// A trail of twelve links, of which the database keeps a second copy to begin each trial with.
struct Trail {
    server: &'static Postgres,
    database: String,
    store: Arc<PostgresStore>,
    head: Head,
}

impl Trail {
    async fn new(test: &str) -> Option<Self> {
        let server = Postgres::shared(test)?;
        let database = server.fresh_database();
        let store = open(server, &database, "one").await.unwrap();
        store.seal_audit(seal()).await.unwrap();
        write(&*store, 9).await;
        attempt(&*store, 3).await;
        let head = head(&store.audit_link(None).await.unwrap().unwrap());
        let copies = TABLES.map(|(table, _)| format!("CREATE TABLE saved.{table} AS TABLE temps.{table};"));
        server.run_sql(&database, &format!("CREATE SCHEMA saved; {}", copies.concat()));
        Some(Self { server, database, store, head })
    }

    fn ask(&self, sql: &str) -> Vec<String> {
        let said = self.server.run_sql(&self.database, &format!("SET search_path = temps; {sql}"));
        said.lines().map(str::to_owned).collect()
    }

    /// What a verification with the head that was written down says after the trail was as it had been and `sql` was run.
    async fn after(&self, sql: &str) -> AuditVerdict {
        let again = TABLES.map(|(table, _)| {
            format!("TRUNCATE temps.{table}; INSERT INTO temps.{table} TABLE saved.{table};")
        });
        self.ask(&format!("{} {sql}", again.concat()));
        verify(&*self.store, vec![self.head.clone()]).await
    }
}

/// The value of a column with one byte or bit changed, as SQL.
fn changed(column: &str, kind: &str) -> String {
    match kind {
        "bigint" | "integer" | "smallint" => format!("coalesce({column}, 0) # 1::{kind}"),
        "timestamp with time zone" => format!("{column} + INTERVAL '1 microsecond'"),
        "bytea" => format!("set_byte({column}, 0, get_byte({column}, 0) # 1)"),
        "text" => format!(
            "coalesce(left({column}, -1) || CASE right({column}, 1) WHEN '~' THEN '!' ELSE '~' END, 'x')"
        ),
        other => panic!("a column of type {other}: how is one byte of it changed?"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_changed_byte_in_any_column_of_any_row_on_a_server_is_found() {
    let test = "one_changed_byte_in_any_column_of_any_row_on_a_server_is_found";
    let Some(trail) = Trail::new(test).await else { return };
    assert_eq!(trail.after("").await.wrong, None, "an untouched trail is fine");
    let mut tried = 0;
    for (table, key) in TABLES {
        let keys = trail.ask(&format!("SELECT {key} FROM {table} ORDER BY {key}"));
        let columns = trail.ask(&format!(
            "SELECT column_name || '|' || data_type FROM information_schema.columns
             WHERE table_schema = 'temps' AND table_name = '{table}'"
        ));
        for column in &columns {
            let (column, kind) = column.split_once('|').unwrap();
            for row in [&keys[0], &keys[keys.len() / 2], &keys[keys.len() - 1]] {
                // The place that a row is moved to may be another's.
                let free = match column == key {
                    true => format!("DELETE FROM {table} WHERE {key} = {row}::BIGINT # 1;"),
                    false => String::new(),
                };
                let value = changed(column, kind);
                let verdict =
                    trail.after(&format!("{free} UPDATE {table} SET {column} = {value} WHERE {key} = {row}"));
                assert!(verdict.await.wrong.is_some(), "{table}.{column} of {row} was changed unnoticed");
                tried += 1;
            }
        }
    }
    assert_eq!(tried, (8 + 13 + 11) * 3, "columns were added: are they sealed?");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_on_a_server_that_are_missing_added_or_moved_are_found() {
    let Some(trail) = Trail::new("rows_on_a_server_that_are_missing_added_or_moved_are_found").await else {
        return;
    };
    let first = "node, at, kind, plugin, actor, detail, total FROM audit WHERE seq = 1";
    for (sql, expected) in [
        ("DELETE FROM audit WHERE seq = 1", Wrongness::Missing { count: 1 }),
        ("DELETE FROM audit WHERE seq = 9", Wrongness::Missing { count: 1 }),
        ("DELETE FROM attempts WHERE id = 2", Wrongness::Missing { count: 1 }),
        ("DELETE FROM attempts", Wrongness::Missing { count: 1 }),
        ("DELETE FROM audit_links WHERE number = 5", Wrongness::LinksMissing { count: 1 }),
        ("DELETE FROM audit_links WHERE number < 5", Wrongness::LinksMissing { count: 5 }),
        ("UPDATE attempts SET answer = 'handled' WHERE id = 3", Wrongness::Changed),
        (
            "UPDATE audit SET seq = 999 WHERE seq = 5; UPDATE audit SET seq = 5 WHERE seq = 6;
             UPDATE audit SET seq = 6 WHERE seq = 999",
            Wrongness::Changed,
        ),
    ] {
        assert_eq!(trail.after(sql).await.wrong.unwrap().what, expected, "{sql}");
    }
    for place in [-4, 1000] {
        let added = format!(
            "INSERT INTO audit (seq, node, at, kind, plugin, actor, detail, total) SELECT {place}, {first}"
        );
        assert_eq!(trail.after(&added).await.wrong.unwrap().what, Wrongness::Added { count: 1 }, "{place}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_that_was_cut_on_a_server_is_found_by_the_head_that_was_written_down() {
    let test = "a_tail_that_was_cut_on_a_server_is_found_by_the_head_that_was_written_down";
    let Some(trail) = Trail::new(test).await else { return };
    let cut = "DELETE FROM audit WHERE seq > (SELECT records_last FROM audit_links WHERE number = 9);
               DELETE FROM attempts WHERE id > (SELECT attempts_last FROM audit_links WHERE number = 9);
               DELETE FROM audit_links WHERE number > 9";
    let wrong = trail.after(cut).await.wrong.unwrap();
    assert!(matches!(wrong.what, Wrongness::TailMissing { head: 12, .. }), "{wrong}");
    let wrong = trail.after("DELETE FROM audit; DELETE FROM attempts; DELETE FROM audit_links").await.wrong;
    assert!(matches!(wrong.unwrap().what, Wrongness::TailMissing { head: 12, .. }));
}
