-- The host's door. Rows that belong to one host carry its node; the journal and the ids of the wire are everybody's.
-- JSON stands as text, byte for byte as it was written.

-- The journal's end. Whoever publishes holds this row's lock until its commit is durable, so that places follow the
-- order of the commits also when several hosts publish: who began second and commits first has the smaller place.
CREATE TABLE journal_head (
    only_one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (only_one),
    seq      BIGINT NOT NULL,
    total    BIGINT NOT NULL
);
INSERT INTO journal_head (seq, total) VALUES (0, 0);

-- `total` is the sum of the bytes of all events up to and including this one, since the database was made. The
-- difference of two totals is the size of what lies between, so that retention need not add up the journal.
CREATE TABLE journal (
    seq          BIGINT      PRIMARY KEY,
    id           TEXT        NOT NULL UNIQUE,
    event_type   TEXT        NOT NULL,
    project_id   INTEGER,
    node         TEXT        NOT NULL,
    published_at TIMESTAMPTZ NOT NULL,
    total        BIGINT      NOT NULL,
    json         TEXT        NOT NULL
);

-- Appends events in order and says where each one is. It must be the last statement of its transaction, so that the
-- journal's end is held for no longer than the commit takes. Each statement in it sees what was committed before it.
CREATE FUNCTION journal_append(
    by_node TEXT, new_ids TEXT[], new_types TEXT[], new_projects INTEGER[], new_json TEXT[]
) RETURNS TABLE (place BIGINT, is_duplicate BOOLEAN) LANGUAGE plpgsql AS $$
DECLARE
    head  journal_head%ROWTYPE;
    begin BIGINT;
    new   RECORD;
BEGIN
    SELECT * INTO STRICT head FROM journal_head FOR UPDATE;
    begin := head.seq;
    FOR new IN
        SELECT * FROM unnest(new_ids, new_types, new_projects, new_json)
            WITH ORDINALITY AS events (id, event_type, project_id, json, nth) ORDER BY nth
    LOOP
        SELECT seq INTO place FROM journal WHERE id = new.id;
        is_duplicate := FOUND;
        IF NOT FOUND THEN
            head.seq := head.seq + 1;
            head.total := head.total + octet_length(new.json);
            place := head.seq;
            INSERT INTO journal (seq, id, event_type, project_id, node, published_at, total, json) VALUES
                (head.seq, new.id, new.event_type, new.project_id, by_node, clock_timestamp(), head.total, new.json);
        END IF;
        RETURN NEXT;
    END LOOP;
    IF head.seq > begin THEN
        UPDATE journal_head SET seq = head.seq, total = head.total;
        PERFORM pg_notify('temps_journal', head.seq::TEXT);
    END IF;
END $$;

-- State: 0 sent, 1 settled, 2 retrying, 3 dead.
CREATE TABLE deliveries (
    node       TEXT     NOT NULL,
    plugin     TEXT     NOT NULL,
    seq        BIGINT   NOT NULL,
    event_id   TEXT     NOT NULL,
    state      SMALLINT NOT NULL,
    attempts   BIGINT   NOT NULL,
    via        TEXT     NOT NULL,
    outcome    TEXT,
    sent_at    TIMESTAMPTZ,
    settled_at TIMESTAMPTZ,
    latency_ms BIGINT,
    PRIMARY KEY (node, plugin, seq)
);
CREATE INDEX deliveries_by_event ON deliveries (seq, node);

-- Few deliveries are not settled; this finds them without reading the others.
CREATE INDEX deliveries_open ON deliveries (node, plugin, state, seq) WHERE state <> 1;

CREATE TABLE cursors (
    node   TEXT   NOT NULL,
    plugin TEXT   NOT NULL,
    seq    BIGINT NOT NULL,
    PRIMARY KEY (node, plugin)
);

CREATE TABLE plugins (
    node            TEXT        NOT NULL,
    name            TEXT        NOT NULL,
    file            TEXT        NOT NULL,
    hash            TEXT,
    manifest        TEXT,
    enabled         BOOLEAN     NOT NULL,
    first_seen_at   TIMESTAMPTZ NOT NULL,
    subscribed_from BIGINT      NOT NULL,
    PRIMARY KEY (node, name)
);

CREATE TABLE grants (
    node       TEXT        NOT NULL,
    plugin     TEXT        NOT NULL,
    kind       TEXT        NOT NULL,
    value      TEXT        NOT NULL,
    granted_by TEXT        NOT NULL,
    granted_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (node, plugin, kind, value)
);

CREATE TABLE inspections (
    node         TEXT        NOT NULL,
    hash         TEXT        NOT NULL,
    manifest     TEXT        NOT NULL,
    inspected_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (node, hash)
);

-- The end of each node's audit trail, as the journal's: places are never given again, also when retention dropped all.
CREATE TABLE audit_heads (
    node  TEXT   PRIMARY KEY,
    seq   BIGINT NOT NULL,
    total BIGINT NOT NULL
);

-- Each node has a trail of its own, with places of its own; `total` as in the journal.
CREATE TABLE audit (
    node   TEXT        NOT NULL,
    seq    BIGINT      NOT NULL,
    at     TIMESTAMPTZ NOT NULL,
    kind   TEXT        NOT NULL,
    plugin TEXT,
    actor  TEXT        NOT NULL,
    detail TEXT        NOT NULL,
    total  BIGINT      NOT NULL,
    PRIMARY KEY (node, seq)
);
CREATE INDEX audit_by_plugin ON audit (node, plugin, seq);
CREATE INDEX audit_by_kind ON audit (node, kind COLLATE "C", seq);
CREATE INDEX audit_by_time ON audit (node, at);

CREATE TABLE wire_ids (
    kind        TEXT    NOT NULL,
    wire_id     INTEGER NOT NULL,
    external_id TEXT    NOT NULL,
    PRIMARY KEY (kind, wire_id),
    UNIQUE (kind, external_id)
);

-- The integer for a platform's own id. Hosts that ask at the same time wait for each other and get the same answer.
CREATE FUNCTION wire_id_for(asked_kind TEXT, asked_id TEXT) RETURNS INTEGER LANGUAGE plpgsql AS $$
DECLARE
    given INTEGER;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('temps wire ids ' || asked_kind, 0));
    SELECT wire_id INTO given FROM wire_ids WHERE kind = asked_kind AND external_id = asked_id;
    IF NOT FOUND THEN
        SELECT coalesce(max(wire_id), 0) + 1 INTO given FROM wire_ids WHERE kind = asked_kind;
        INSERT INTO wire_ids (kind, wire_id, external_id) VALUES (asked_kind, given, asked_id);
    END IF;
    RETURN given;
END $$;

-- Drops the oldest events that are older than `since` or beyond `keep` bytes, at most `most` of them, with their
-- deliveries at all nodes, and counts those that some plugin that is let run had not settled. While another host does
-- it, nothing is done.
CREATE FUNCTION journal_prune(since TIMESTAMPTZ, keep BIGINT, most BIGINT, OUT events BIGINT, OUT unsettled BIGINT)
LANGUAGE plpgsql AS $$
DECLARE
    last    BIGINT;
    settled BIGINT;
BEGIN
    events := 0;
    unsettled := 0;
    IF NOT pg_try_advisory_xact_lock(hashtextextended('temps prune', 0)) THEN
        RETURN;
    END IF;
    SELECT max(seq) INTO last
    FROM (SELECT seq, published_at, total - octet_length(json) AS before FROM journal ORDER BY seq LIMIT most) AS oldest
    WHERE published_at < since OR before < (SELECT total FROM journal_head) - keep;
    IF last IS NULL THEN
        RETURN;
    END IF;
    SELECT coalesce(min(coalesce(cursors.seq, subscribed_from)), 9223372036854775807) INTO settled
    FROM plugins LEFT JOIN cursors ON cursors.node = plugins.node AND plugin = name WHERE enabled;
    SELECT count(*) INTO unsettled FROM journal WHERE seq <= last AND seq > settled;
    DELETE FROM journal WHERE seq <= last;
    GET DIAGNOSTICS events = ROW_COUNT;
    DELETE FROM deliveries WHERE seq <= last;
END $$;

-- The same for one node's audit trail.
CREATE FUNCTION audit_prune(of_node TEXT, since TIMESTAMPTZ, keep BIGINT, most BIGINT) RETURNS BIGINT
LANGUAGE plpgsql AS $$
DECLARE
    last    BIGINT;
    dropped BIGINT;
BEGIN
    SELECT max(seq) INTO last
    FROM (SELECT seq, at, total - octet_length(detail) AS before FROM audit WHERE node = of_node ORDER BY seq LIMIT most)
        AS oldest
    WHERE at < since
       OR before < (SELECT total FROM audit WHERE node = of_node ORDER BY seq DESC LIMIT 1) - keep;
    DELETE FROM audit WHERE node = of_node AND seq <= last;
    GET DIAGNOSTICS dropped = ROW_COUNT;
    RETURN dropped;
END $$;
