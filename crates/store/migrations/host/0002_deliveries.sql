-- An attempt that ended is a row that is appended and never changed. Deliveries holds only what is still open.

-- Result: 1 settled, 2 failed, 3 dead. Via: 1 channel, 2 http. Ids grow in the order in which rows were written.
CREATE TABLE attempts (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    plugin     TEXT    NOT NULL,
    seq        INTEGER NOT NULL,
    event_id   TEXT    NOT NULL,
    event_type TEXT    NOT NULL,
    attempt    INTEGER NOT NULL,
    via        INTEGER NOT NULL,
    result     INTEGER NOT NULL,
    answer     TEXT,
    sent_at    INTEGER NOT NULL,
    ended_at   INTEGER NOT NULL,
    latency_ms INTEGER
) STRICT;

-- What was not settled in the old table failed, or was given up. Events that retention dropped have no type any more.
INSERT INTO attempts (plugin, seq, event_id, event_type, attempt, via, result, answer, sent_at, ended_at, latency_ms)
SELECT d.plugin, d.seq, d.event_id, coalesce(j.event_type, ''), d.attempts,
       CASE d.via WHEN 'http' THEN 2 ELSE 1 END, d.state, d.outcome,
       coalesce(d.sent_at, d.settled_at, j.published_at, 0),
       coalesce(d.settled_at, d.sent_at, j.published_at, 0), d.latency_ms
FROM deliveries d LEFT JOIN journal j ON j.seq = d.seq
WHERE d.state <> 0
ORDER BY d.seq, d.plugin;

-- Both hold integers that grow, so a new row is written at their end.
CREATE INDEX attempts_by_event ON attempts (seq);
CREATE INDEX attempts_by_time ON attempts (ended_at, plugin);

ALTER TABLE deliveries RENAME TO deliveries_before;

-- State: 0 sent, 2 retrying, 3 dead, 4 held. What is settled has attempts and no row here.
CREATE TABLE deliveries (
    plugin          TEXT    NOT NULL,
    seq             INTEGER NOT NULL,
    event_id        TEXT    NOT NULL,
    event_type      TEXT    NOT NULL,
    project_id      INTEGER,
    state           INTEGER NOT NULL,
    attempts        INTEGER NOT NULL,
    failures        INTEGER NOT NULL,
    crashes         INTEGER NOT NULL,
    via             INTEGER,
    outcome         TEXT,
    sent_at         INTEGER,
    ended_at        INTEGER,
    next_attempt_at INTEGER,
    PRIMARY KEY (plugin, seq)
) STRICT, WITHOUT ROWID;

INSERT INTO deliveries
SELECT d.plugin, d.seq, d.event_id, j.event_type, j.project_id, d.state,
       CASE d.state WHEN 0 THEN d.attempts - 1 ELSE d.attempts END,
       CASE d.state WHEN 0 THEN d.attempts - 1 ELSE d.attempts END,
       CASE WHEN d.state <> 0 AND d.outcome = 'plugin_crashed' THEN d.attempts ELSE 0 END,
       CASE d.via WHEN 'http' THEN 2 ELSE 1 END, d.outcome, d.sent_at, coalesce(d.settled_at, d.sent_at),
       CASE d.state WHEN 2 THEN coalesce(d.sent_at, 0) END
FROM deliveries_before d JOIN journal j ON j.seq = d.seq
WHERE d.state <> 1;

DROP TABLE deliveries_before;

CREATE INDEX deliveries_due ON deliveries (plugin, next_attempt_at) WHERE state = 2;
CREATE INDEX deliveries_by_state ON deliveries (plugin, state, seq);
CREATE INDEX deliveries_by_event ON deliveries (seq);

-- Nothing is sent to these plugins until somebody resumes them; `paused_by` is `host` when it was for failing too often.
CREATE TABLE pauses (
    plugin    TEXT PRIMARY KEY,
    reason    TEXT    NOT NULL,
    paused_by TEXT    NOT NULL,
    since     INTEGER NOT NULL,
    hash      TEXT
) STRICT, WITHOUT ROWID;
