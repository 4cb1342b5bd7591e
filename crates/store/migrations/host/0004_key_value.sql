-- Key-value storage of plugins. `bytes` is what an entry counts for: its key and its value.
CREATE TABLE key_values (
    plugin     TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    value      TEXT    NOT NULL,
    revision   INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    expires_at INTEGER,
    bytes      INTEGER NOT NULL,
    PRIMARY KEY (plugin, key)
) STRICT;

-- Most entries never end; this finds those that did without reading the others.
CREATE INDEX key_values_ending ON key_values (expires_at) WHERE expires_at IS NOT NULL;

-- What a plugin keeps, those entries included that have ended and are not removed yet, so that a write need not add it
-- up; and the number of its last write, which outlives its entries.
CREATE TABLE key_value_usage (
    plugin   TEXT    PRIMARY KEY,
    revision INTEGER NOT NULL,
    entries  INTEGER NOT NULL,
    bytes    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
