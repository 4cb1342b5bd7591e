-- The host's door. Times are microseconds since 1970 in UTC; JSON stands as text.

-- `total` is the sum of the bytes of all events up to and including this one, since the database was made. The
-- difference of two totals is the size of what lies between, so that retention need not add up the journal.
CREATE TABLE journal (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    id           TEXT    NOT NULL UNIQUE,
    event_type   TEXT    NOT NULL,
    project_id   INTEGER,
    published_at INTEGER NOT NULL,
    total        INTEGER NOT NULL,
    json         TEXT    NOT NULL
) STRICT;

-- State: 0 sent, 1 settled, 2 retrying, 3 dead.
CREATE TABLE deliveries (
    plugin     TEXT    NOT NULL,
    seq        INTEGER NOT NULL,
    event_id   TEXT    NOT NULL,
    state      INTEGER NOT NULL,
    attempts   INTEGER NOT NULL,
    via        TEXT    NOT NULL,
    outcome    TEXT,
    sent_at    INTEGER,
    settled_at INTEGER,
    latency_ms INTEGER,
    PRIMARY KEY (plugin, seq)
) STRICT, WITHOUT ROWID;

-- Few deliveries are not settled; this finds them without reading the others.
CREATE INDEX deliveries_open ON deliveries (plugin, state, seq) WHERE state <> 1;

CREATE TABLE cursors (
    plugin TEXT    PRIMARY KEY,
    seq    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE plugins (
    name            TEXT    PRIMARY KEY,
    file            TEXT    NOT NULL,
    hash            TEXT,
    manifest        TEXT,
    enabled         INTEGER NOT NULL,
    first_seen_at   INTEGER NOT NULL,
    subscribed_from INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE grants (
    plugin     TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    value      TEXT    NOT NULL,
    granted_by TEXT    NOT NULL,
    granted_at INTEGER NOT NULL,
    PRIMARY KEY (plugin, kind, value)
) STRICT, WITHOUT ROWID;

CREATE TABLE inspections (
    hash         TEXT    PRIMARY KEY,
    manifest     TEXT    NOT NULL,
    inspected_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- `node` is the host that wrote the record; `total` as in the journal.
CREATE TABLE audit (
    seq    INTEGER PRIMARY KEY AUTOINCREMENT,
    node   TEXT    NOT NULL,
    at     INTEGER NOT NULL,
    kind   TEXT    NOT NULL,
    plugin TEXT,
    actor  TEXT    NOT NULL,
    detail TEXT    NOT NULL,
    total  INTEGER NOT NULL
) STRICT;
CREATE INDEX audit_by_plugin ON audit (plugin, seq);
CREATE INDEX audit_by_kind ON audit (kind, seq);
CREATE INDEX audit_by_time ON audit (at);

CREATE TABLE wire_ids (
    kind        TEXT    NOT NULL,
    wire_id     INTEGER NOT NULL,
    external_id TEXT    NOT NULL,
    PRIMARY KEY (kind, wire_id),
    UNIQUE (kind, external_id)
) STRICT, WITHOUT ROWID;
