-- The chain over the audit trail: one link for each commit that added rows. `crates/store/src/host/chain.rs` says what
-- a link covers and how it is sealed. The key is not in the database.
CREATE TABLE audit_links (
    node            TEXT    NOT NULL,
    number          INTEGER NOT NULL,
    at              INTEGER NOT NULL,
    key_id          TEXT    NOT NULL,
    records_last    INTEGER NOT NULL,
    records_count   INTEGER NOT NULL,
    records_digest  BLOB    NOT NULL,
    attempts_last   INTEGER NOT NULL,
    attempts_count  INTEGER NOT NULL,
    attempts_digest BLOB    NOT NULL,
    mac             BLOB    NOT NULL,
    PRIMARY KEY (node, number)
) STRICT, WITHOUT ROWID;

-- Where retention cut: one row for each node.
CREATE TABLE audit_cuts (
    node             TEXT    PRIMARY KEY,
    number           INTEGER NOT NULL,
    link             BLOB    NOT NULL,
    at               INTEGER NOT NULL,
    key_id           TEXT    NOT NULL,
    records_last     INTEGER NOT NULL,
    records_removed  INTEGER NOT NULL,
    attempts_last    INTEGER NOT NULL,
    attempts_removed INTEGER NOT NULL,
    mac              BLOB    NOT NULL
) STRICT, WITHOUT ROWID;
