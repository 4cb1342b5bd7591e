//! Somebody with the database and without the key: whatever is changed with SQL is found by a verification.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::types::Value;
use temps_store::sqlite::SqliteStore;
use temps_store::{AuditStore, AuditVerdict, Head, Wrongness};

use crate::chain::{attempt, write};
use crate::seal::{head, seal, verify};

/// A trail of twelve links in a closed database.
struct Trail {
    dir: tempfile::TempDir,
    head: Head,
}

async fn trail() -> Trail {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("temps.db")).unwrap();
    store.seal_audit(seal()).await.unwrap();
    write(&*store, 9).await;
    attempt(&*store, 3).await;
    let head = head(&store.audit_link(None).await.unwrap().unwrap());
    store.close().await;
    Trail { dir, head }
}

impl Trail {
    fn path(&self) -> PathBuf {
        self.dir.path().join("temps.db")
    }

    /// A copy of the trail with something done to it, verified with the head that was written down.
    async fn after(&self, tamper: impl FnOnce(&Connection)) -> AuditVerdict {
        let copy = tempfile::tempdir().unwrap();
        let path = copy.path().join("temps.db");
        Connection::open(self.path()).unwrap().execute("VACUUM INTO ?1", [path.to_str().unwrap()]).unwrap();
        {
            let conn = Connection::open(&path).unwrap();
            tamper(&conn);
        }
        verified(&path, vec![self.head.clone()]).await
    }

    async fn after_sql(&self, sql: &str) -> AuditVerdict {
        self.after(|conn| assert!(conn.execute(sql, []).unwrap() > 0, "{sql} changed nothing")).await
    }
}

async fn verified(path: &Path, heads: Vec<Head>) -> AuditVerdict {
    let store = SqliteStore::open(path).unwrap();
    let verdict = verify(&*store, heads).await;
    store.close().await;
    verdict
}

/// The columns of a table.
fn columns(conn: &Connection, table: &str) -> Vec<String> {
    let mut statement = conn.prepare(&format!("SELECT name FROM pragma_table_info('{table}')")).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// `value` with one byte changed.
fn changed(value: &Value) -> Value {
    match value {
        Value::Null => Value::Text("x".into()),
        Value::Integer(number) => Value::Integer(number ^ 1),
        Value::Text(text) => {
            let mut bytes = text.clone().into_bytes();
            let last = bytes.len() - 1;
            bytes[last] = if bytes[last] == b'~' { b'!' } else { b'~' };
            Value::Text(String::from_utf8(bytes).unwrap())
        }
        Value::Blob(bytes) => {
            let mut bytes = bytes.clone();
            bytes[0] ^= 1;
            Value::Blob(bytes)
        }
        Value::Real(_) => panic!("no column is a float"),
    }
}

#[tokio::test]
async fn one_changed_byte_in_any_column_of_any_row_is_found() {
    let trail = trail().await;
    assert_eq!(trail.after(|_| ()).await.wrong, None, "an untouched copy is fine");
    let conn = Connection::open(trail.path()).unwrap();
    let mut tried = 0;
    for (table, key) in [("audit", "seq"), ("attempts", "id"), ("audit_links", "number")] {
        let keys: Vec<i64> = {
            let mut statement = conn.prepare(&format!("SELECT {key} FROM {table}")).unwrap();
            statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
        };
        // Every column of the first rows, a middle one and the last one.
        let rows = [keys[0], keys[1], keys[keys.len() / 2], keys[keys.len() - 1]];
        for column in columns(&conn, table) {
            for row in rows {
                let sql = format!("SELECT {column} FROM {table} WHERE {key} = ?1");
                let value: Value = conn.query_row(&sql, [row], |row| row.get(0)).unwrap();
                let verdict = trail
                    .after(|copy| {
                        let sql = format!("UPDATE OR REPLACE {table} SET {column} = ?1 WHERE {key} = ?2");
                        assert_eq!(copy.execute(&sql, (changed(&value), row)).unwrap(), 1);
                    })
                    .await;
                assert!(verdict.wrong.is_some(), "{table}.{column} of {row} was changed unnoticed");
                tried += 1;
            }
        }
    }
    assert_eq!(tried, (8 + 12 + 11) * 4, "columns were added: are they sealed?");
}

#[tokio::test]
async fn the_first_wrong_place_is_named() {
    let trail = trail().await;
    let wrong =
        trail.after_sql("UPDATE audit SET actor = 'nobody' WHERE seq IN (9, 15)").await.wrong.unwrap();
    assert_eq!(wrong.what, Wrongness::Changed);
    let (_, first, last) = wrong.rows.unwrap();
    assert!((first..=last).contains(&9) && last < 15, "{wrong}");
    assert!(wrong.to_string().contains("audit records were changed"), "{wrong}");
    assert!(wrong.link.is_some() && wrong.at.is_some());
}

#[tokio::test]
async fn rows_that_are_missing_added_or_moved_are_found() {
    let trail = trail().await;
    for (sql, expected) in [
        ("DELETE FROM audit WHERE seq = 1", Wrongness::Missing { count: 1 }),
        ("DELETE FROM audit WHERE seq = 9", Wrongness::Missing { count: 1 }),
        ("DELETE FROM audit WHERE seq <= 12", Wrongness::Missing { count: 1 }),
        ("DELETE FROM attempts", Wrongness::Missing { count: 1 }),
        (
            "INSERT INTO audit SELECT -4, node, at, kind, plugin, actor, detail, total FROM audit WHERE seq = 1",
            Wrongness::Added { count: 1 },
        ),
        (
            "INSERT INTO audit SELECT 1000, node, at, kind, plugin, actor, detail, total FROM audit WHERE seq = 1",
            Wrongness::Added { count: 1 },
        ),
        ("DELETE FROM attempts WHERE id = 2", Wrongness::Missing { count: 1 }),
        ("UPDATE attempts SET answer = 'handled' WHERE id = 3", Wrongness::Changed),
        ("DELETE FROM audit_links WHERE number = 5", Wrongness::LinksMissing { count: 1 }),
        ("DELETE FROM audit_links WHERE number < 5", Wrongness::LinksMissing { count: 5 }),
    ] {
        assert_eq!(trail.after_sql(sql).await.wrong.unwrap().what, expected, "{sql}");
    }
    let swapped = trail.after(|conn| {
        conn.execute_batch(
            "UPDATE audit SET seq = 999 WHERE seq = 5; UPDATE audit SET seq = 5 WHERE seq = 6;
             UPDATE audit SET seq = 6 WHERE seq = 999;",
        )
        .unwrap();
    });
    assert_eq!(swapped.await.wrong.unwrap().what, Wrongness::Changed);
}

#[tokio::test]
async fn a_cut_tail_is_found_by_the_head_that_was_written_down() {
    let trail = trail().await;
    let cut = trail
        .after(|conn| {
            conn.execute_batch(
                "DELETE FROM audit WHERE seq > (SELECT records_last FROM audit_links WHERE number = 9);
                 DELETE FROM attempts WHERE id > (SELECT attempts_last FROM audit_links WHERE number = 9);
                 DELETE FROM audit_links WHERE number > 9;",
            )
            .unwrap();
        })
        .await;
    let wrong = cut.wrong.unwrap();
    assert!(matches!(wrong.what, Wrongness::TailMissing { head: 12, .. }), "{wrong}");

    let fresh = tempfile::tempdir().unwrap();
    let path = fresh.path().join("temps.db");
    let wrong = verified(&path, vec![trail.head.clone()]).await.wrong.unwrap();
    assert!(matches!(wrong.what, Wrongness::TailMissing { head: 12, .. }), "{wrong}");
    let store = SqliteStore::open(&path).unwrap();
    store.seal_audit(seal()).await.unwrap();
    write(&*store, 20).await;
    let wrong = verify(&*store, vec![trail.head.clone()]).await.wrong.unwrap();
    assert!(matches!(wrong.what, Wrongness::NotTheHead { .. }), "a chain that grew past the head: {wrong}");
}

#[tokio::test]
async fn a_cut_that_retention_did_not_make_is_found() {
    let trail = trail().await;
    let store = SqliteStore::open(&trail.path()).unwrap();
    store.seal_audit(seal()).await.unwrap();
    let keep =
        temps_store::Retention { audit_bytes: 250, ..temps_store::Retention::standard(chrono::Utc::now()) };
    let pruned = temps_store::HostStore::prune(&*store, keep).await.unwrap();
    assert!(pruned.audit > 3);
    store.close().await;
    assert_eq!(trail.after(|_| ()).await.wrong, None);
    let further = trail.after(|conn| {
        conn.execute_batch(
            "DELETE FROM audit WHERE seq <= (SELECT min(records_last) FROM audit_links);
             UPDATE audit_cuts SET number = number + 1, link = (SELECT mac FROM audit_links ORDER BY number LIMIT 1),
                                   records_last = (SELECT min(records_last) FROM audit_links);
             DELETE FROM audit_links WHERE number = (SELECT min(number) FROM audit_links);",
        )
        .unwrap();
    });
    assert_eq!(further.await.wrong.unwrap().what, Wrongness::CutChanged);
    let conn = Connection::open(trail.path()).unwrap();
    for column in columns(&conn, "audit_cuts") {
        let value: Value =
            conn.query_row(&format!("SELECT {column} FROM audit_cuts"), [], |row| row.get(0)).unwrap();
        let verdict = trail
            .after(|copy| {
                copy.execute(&format!("UPDATE audit_cuts SET {column} = ?1"), [changed(&value)]).unwrap();
            })
            .await;
        assert!(verdict.wrong.is_some(), "audit_cuts.{column} was changed unnoticed");
    }
    assert!(trail.after_sql("DELETE FROM audit_cuts").await.wrong.is_some());
}

#[tokio::test]
async fn retention_does_not_cover_up_what_a_stranger_removed() {
    let trail = trail().await;
    Connection::open(trail.path()).unwrap().execute("DELETE FROM audit WHERE seq = 17", []).unwrap();
    let store = SqliteStore::open(&trail.path()).unwrap();
    store.seal_audit(seal()).await.unwrap();
    let keep =
        temps_store::Retention { audit_bytes: 400, ..temps_store::Retention::standard(chrono::Utc::now()) };
    temps_store::HostStore::prune(&*store, keep).await.unwrap();
    write(&*store, 3).await;
    let wrong = verify(&*store, vec![trail.head.clone()]).await.wrong.unwrap();
    assert_eq!(wrong.what, Wrongness::Missing { count: 1 });
}
