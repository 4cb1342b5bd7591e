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
    begun BIGINT;
    new   RECORD;
BEGIN
    SELECT * INTO STRICT head FROM journal_head FOR UPDATE;
    begun := head.seq;
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
    IF head.seq > begun THEN
        UPDATE journal_head SET seq = head.seq, total = head.total;
        PERFORM pg_notify('temps_journal', head.seq::TEXT);
    END IF;
END $$;

-- An attempt that ended is a row that is appended and never changed. Ids count for each node, in the order of its commits.
-- Result: 1 settled, 2 failed, 3 dead. Via: 1 channel, 2 http.
CREATE TABLE attempts (
    node       TEXT        NOT NULL,
    id         BIGINT      NOT NULL,
    plugin     TEXT        NOT NULL,
    seq        BIGINT      NOT NULL,
    event_id   TEXT        NOT NULL,
    event_type TEXT        NOT NULL,
    attempt    BIGINT      NOT NULL,
    via        SMALLINT    NOT NULL,
    result     SMALLINT    NOT NULL,
    answer     TEXT,
    sent_at    TIMESTAMPTZ NOT NULL,
    ended_at   TIMESTAMPTZ NOT NULL,
    latency_ms BIGINT,
    PRIMARY KEY (node, id)
);
CREATE INDEX attempts_by_event ON attempts (node, seq);
CREATE INDEX attempts_by_time ON attempts (node, ended_at, id);

-- Only what is still open. State: 0 sent, 2 retrying, 3 dead, 4 held. What is settled has attempts and no row here.
CREATE TABLE deliveries (
    node            TEXT     NOT NULL,
    plugin          TEXT     NOT NULL,
    seq             BIGINT   NOT NULL,
    event_id        TEXT     NOT NULL,
    event_type      TEXT     NOT NULL,
    project_id      INTEGER,
    state           SMALLINT NOT NULL,
    attempts        BIGINT   NOT NULL,
    failures        BIGINT   NOT NULL,
    crashes         BIGINT   NOT NULL,
    via             SMALLINT,
    outcome         TEXT,
    sent_at         TIMESTAMPTZ,
    ended_at        TIMESTAMPTZ,
    next_attempt_at TIMESTAMPTZ,
    PRIMARY KEY (node, plugin, seq)
);
CREATE INDEX deliveries_due ON deliveries (node, plugin, next_attempt_at) WHERE state = 2;
CREATE INDEX deliveries_by_state ON deliveries (node, plugin, state, seq);
CREATE INDEX deliveries_by_event ON deliveries (seq, node);

-- Nothing is sent to these plugins until somebody resumes them; `paused_by` is `host` when it was for failing too often.
CREATE TABLE pauses (
    node      TEXT        NOT NULL,
    plugin    TEXT        NOT NULL,
    reason    TEXT        NOT NULL,
    paused_by TEXT        NOT NULL,
    since     TIMESTAMPTZ NOT NULL,
    hash      TEXT,
    PRIMARY KEY (node, plugin)
);

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

-- Where each node's audit trail and attempts end: places are never given again, also when retention dropped all.
CREATE TABLE trail_heads (
    node        TEXT   PRIMARY KEY,
    audit_seq   BIGINT NOT NULL,
    audit_total BIGINT NOT NULL,
    attempt_id  BIGINT NOT NULL
);

-- Each node has a trail of its own, with places of its own; `total` as in the journal.
CREATE TABLE audit (
    node   TEXT             NOT NULL,
    seq    BIGINT           NOT NULL,
    at     TIMESTAMPTZ      NOT NULL,
    kind   TEXT COLLATE "C" NOT NULL,
    plugin TEXT,
    actor  TEXT             NOT NULL,
    detail TEXT             NOT NULL,
    total  BIGINT           NOT NULL,
    PRIMARY KEY (node, seq)
);
CREATE INDEX audit_by_plugin ON audit (node, plugin, seq);
CREATE INDEX audit_by_kind ON audit (node, kind, seq);
CREATE INDEX audit_by_time ON audit (node, at);

-- The chain over the audit trail: one link for each commit that added rows. `crates/store/src/host/chain.rs` says what
-- a link covers and how it is sealed. The key is not in the database.
CREATE TABLE audit_links (
    node            TEXT        NOT NULL,
    number          BIGINT      NOT NULL,
    at              TIMESTAMPTZ NOT NULL,
    key_id          TEXT        NOT NULL,
    records_last    BIGINT      NOT NULL,
    records_count   BIGINT      NOT NULL,
    records_digest  BYTEA       NOT NULL,
    attempts_last   BIGINT      NOT NULL,
    attempts_count  BIGINT      NOT NULL,
    attempts_digest BYTEA       NOT NULL,
    mac             BYTEA       NOT NULL,
    PRIMARY KEY (node, number)
);
-- Retention looks for the links that end where a row is due.
CREATE INDEX audit_links_by_record ON audit_links (node, records_last);
CREATE INDEX audit_links_by_attempt ON audit_links (node, attempts_last);

-- Where retention cut: one row for each node.
CREATE TABLE audit_cuts (
    node             TEXT        PRIMARY KEY,
    number           BIGINT      NOT NULL,
    link             BYTEA       NOT NULL,
    at               TIMESTAMPTZ NOT NULL,
    key_id           TEXT        NOT NULL,
    records_last     BIGINT      NOT NULL,
    records_removed  BIGINT      NOT NULL,
    attempts_last    BIGINT      NOT NULL,
    attempts_removed BIGINT      NOT NULL,
    mac              BYTEA       NOT NULL
);

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

-- Looks at the oldest events after `after`, at most `most` of them, and drops those that are older than `since` or beyond
-- `keep` bytes, with their open deliveries at all nodes. Those that a delivery still retries stay until they are too old
-- or beyond `keep_retried` bytes. Counts those that some plugin that is let run had not settled, or that were retried.
-- `next` is where the next look begins, if there may be more. While another host does it, nothing is done.
CREATE FUNCTION journal_prune(
    since TIMESTAMPTZ, keep BIGINT, keep_retried BIGINT, after BIGINT, most BIGINT,
    OUT events BIGINT, OUT unsettled BIGINT, OUT next BIGINT
) LANGUAGE plpgsql AS $$
DECLARE
    settled BIGINT;
    looked  RECORD;
    gone    BIGINT[] := '{}';
BEGIN
    events := 0;
    unsettled := 0;
    IF NOT pg_try_advisory_xact_lock(hashtextextended('temps prune', 0)) THEN
        RETURN;
    END IF;
    SELECT coalesce(min(coalesce(cursors.seq, subscribed_from)), 9223372036854775807) INTO settled
    FROM plugins LEFT JOIN cursors ON cursors.node = plugins.node AND plugin = name WHERE enabled;
    FOR looked IN
        SELECT seq, published_at < since AS is_old, before < head - keep AS is_beyond,
               before < head - keep_retried AS is_far_beyond,
               EXISTS (SELECT FROM deliveries WHERE deliveries.seq = oldest.seq AND state IN (2, 4)) AS is_retried
        FROM (SELECT seq, published_at, total - octet_length(json) AS before FROM journal
              WHERE seq > after ORDER BY seq LIMIT most) AS oldest,
             (SELECT total AS head FROM journal_head) AS ends
        ORDER BY seq
    LOOP
        next := NULL;
        EXIT WHEN NOT (looked.is_old OR looked.is_beyond);
        next := looked.seq;
        IF looked.is_old OR looked.is_far_beyond OR NOT looked.is_retried THEN
            gone := gone || looked.seq;
            unsettled := unsettled + (looked.seq > settled OR looked.is_retried)::INTEGER;
        END IF;
    END LOOP;
    DELETE FROM journal WHERE seq = ANY (gone);
    DELETE FROM deliveries WHERE seq = ANY (gone);
    -- What was recorded of an event after it had gone.
    DELETE FROM deliveries WHERE seq < (SELECT min(seq) FROM journal);
    events := cardinality(gone);
END $$;

-- Key-value storage of plugins. `bytes` is what an entry counts for: its key and its value.
CREATE TABLE key_values (
    node       TEXT             NOT NULL,
    plugin     TEXT             NOT NULL,
    key        TEXT COLLATE "C" NOT NULL,
    value      TEXT             NOT NULL,
    revision   BIGINT           NOT NULL,
    updated_at TIMESTAMPTZ      NOT NULL,
    expires_at TIMESTAMPTZ,
    bytes      BIGINT           NOT NULL,
    PRIMARY KEY (node, plugin, key)
);

-- Most entries never end; this finds those that did without reading the others.
CREATE INDEX key_values_ending ON key_values (node, expires_at) WHERE expires_at IS NOT NULL;

-- What a plugin keeps, those entries included that have ended and are not removed yet, so that a write need not add it
-- up; and the number of its last write, which outlives its entries. Whoever writes holds this row's lock first.
CREATE TABLE key_value_usage (
    node     TEXT   NOT NULL,
    plugin   TEXT   NOT NULL,
    revision BIGINT NOT NULL,
    entries  BIGINT NOT NULL,
    bytes    BIGINT NOT NULL,
    PRIMARY KEY (node, plugin)
);

-- A plugin's usage, locked until the transaction has ended.
CREATE FUNCTION kv_lock(of_node TEXT, of_plugin TEXT) RETURNS key_value_usage LANGUAGE plpgsql AS $$
DECLARE
    kept key_value_usage%ROWTYPE;
BEGIN
    INSERT INTO key_value_usage VALUES (of_node, of_plugin, 0, 0, 0) ON CONFLICT DO NOTHING;
    SELECT * INTO STRICT kept FROM key_value_usage WHERE node = of_node AND plugin = of_plugin FOR UPDATE;
    RETURN kept;
END $$;

-- Writes one entry. Outcome: 1 written as `revision`; 2 another revision than expected, namely `revision`; 3 more than
-- the quota allows, of which `entries` and `bytes` are kept.
CREATE FUNCTION kv_put(
    of_node TEXT, of_plugin TEXT, new_key TEXT, new_value TEXT, ends TIMESTAMPTZ, expected BIGINT,
    most_entries BIGINT, most_bytes BIGINT, at TIMESTAMPTZ,
    OUT outcome INTEGER, OUT revision BIGINT, OUT entries BIGINT, OUT bytes BIGINT
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    kept      key_value_usage%ROWTYPE := kv_lock(of_node, of_plugin);
    before    key_values%ROWTYPE;
    is_ended  BOOLEAN;
    new_bytes BIGINT := octet_length(new_key) + octet_length(new_value);
BEGIN
    SELECT * INTO before FROM key_values WHERE node = of_node AND plugin = of_plugin AND key = new_key;
    is_ended := coalesce(before.expires_at <= at, FALSE);
    kv_put.revision := CASE WHEN is_ended THEN 0 ELSE coalesce(before.revision, 0) END;
    IF expected <> kv_put.revision THEN
        outcome := 2;
        RETURN;
    END IF;
    kv_put.entries := kept.entries + 1 - (before.key IS NOT NULL)::INTEGER;
    kv_put.bytes := kept.bytes + new_bytes - coalesce(before.bytes, 0);
    IF kv_put.entries > most_entries OR kv_put.bytes > most_bytes THEN
        -- What has ended takes no room from what is to come.
        SELECT kept.entries - count(*), kept.bytes - coalesce(sum(bytes), 0) INTO kept.entries, kept.bytes
        FROM key_values WHERE node = of_node AND plugin = of_plugin AND expires_at <= at;
        IF is_ended THEN
            before := NULL;
        END IF;
        kv_put.entries := kept.entries + 1 - (before.key IS NOT NULL)::INTEGER;
        kv_put.bytes := kept.bytes + new_bytes - coalesce(before.bytes, 0);
        -- Less than before is always let in, also where the quota was lowered.
        IF (kv_put.entries > most_entries OR kv_put.bytes > most_bytes)
            AND (kv_put.entries > kept.entries OR kv_put.bytes > kept.bytes)
        THEN
            outcome := 3;
            kv_put.entries := kept.entries;
            kv_put.bytes := kept.bytes;
            RETURN;
        END IF;
        DELETE FROM key_values WHERE node = of_node AND plugin = of_plugin AND expires_at <= at;
    END IF;
    outcome := 1;
    kv_put.revision := kept.revision + 1;
    INSERT INTO key_values (node, plugin, key, value, revision, updated_at, expires_at, bytes)
    VALUES (of_node, of_plugin, new_key, new_value, kv_put.revision, at, ends, new_bytes)
    ON CONFLICT (node, plugin, key) DO UPDATE SET value = excluded.value, revision = excluded.revision,
        updated_at = excluded.updated_at, expires_at = excluded.expires_at, bytes = excluded.bytes;
    UPDATE key_value_usage SET revision = kv_put.revision, entries = kv_put.entries, bytes = kv_put.bytes
    WHERE node = of_node AND plugin = of_plugin;
END $$;

-- Deletes one entry. The answer is the revision that it has: that of the entry that is gone where `is_gone`, otherwise
-- of the one that stays because another was expected, and 0 where there is none.
CREATE FUNCTION kv_delete(
    of_node TEXT, of_plugin TEXT, old_key TEXT, expected BIGINT, at TIMESTAMPTZ, OUT is_gone BOOLEAN, OUT has BIGINT
) LANGUAGE plpgsql AS $$
DECLARE
    freed BIGINT;
BEGIN
    PERFORM kv_lock(of_node, of_plugin);
    SELECT revision, bytes INTO has, freed FROM key_values
    WHERE node = of_node AND plugin = of_plugin AND key = old_key AND (expires_at IS NULL OR expires_at > at);
    is_gone := FOUND AND (expected IS NULL OR expected = has);
    has := coalesce(has, 0);
    IF is_gone THEN
        DELETE FROM key_values WHERE node = of_node AND plugin = of_plugin AND key = old_key;
        UPDATE key_value_usage SET entries = entries - 1, bytes = bytes - freed
        WHERE node = of_node AND plugin = of_plugin;
    END IF;
END $$;

-- Deletes everything of a plugin.
CREATE FUNCTION kv_clear(of_node TEXT, of_plugin TEXT) RETURNS BIGINT LANGUAGE plpgsql AS $$
DECLARE
    gone BIGINT;
BEGIN
    PERFORM kv_lock(of_node, of_plugin);
    DELETE FROM key_values WHERE node = of_node AND plugin = of_plugin;
    GET DIAGNOSTICS gone = ROW_COUNT;
    UPDATE key_value_usage SET entries = 0, bytes = 0 WHERE node = of_node AND plugin = of_plugin;
    RETURN gone;
END $$;

-- Removes entries that have ended, of all plugins of a node, at most `most`.
CREATE FUNCTION kv_sweep(of_node TEXT, at TIMESTAMPTZ, most BIGINT) RETURNS BIGINT LANGUAGE plpgsql AS $$
DECLARE
    swept BIGINT;
    ended TEXT[];
BEGIN
    SELECT array_agg(DISTINCT plugin ORDER BY plugin) INTO ended FROM (
        SELECT plugin FROM key_values WHERE node = of_node AND expires_at <= at ORDER BY expires_at LIMIT most
    ) AS some_ended;
    PERFORM 1 FROM key_value_usage WHERE node = of_node AND plugin = ANY (ended) ORDER BY plugin FOR UPDATE;
    WITH gone AS (
        DELETE FROM key_values WHERE node = of_node AND (plugin, key) IN (
            SELECT plugin, key FROM key_values
            WHERE node = of_node AND expires_at <= at AND plugin = ANY (ended) ORDER BY expires_at LIMIT most
        ) RETURNING plugin, bytes
    ), sums AS (
        SELECT plugin, count(*) AS entries, sum(bytes)::BIGINT AS bytes FROM gone GROUP BY plugin
    ), written AS (
        UPDATE key_value_usage AS kept SET entries = kept.entries - sums.entries, bytes = kept.bytes - sums.bytes
        FROM sums WHERE kept.node = of_node AND kept.plugin = sums.plugin
    )
    SELECT count(*) INTO swept FROM gone;
    RETURN swept;
END $$;

-- What operators set for plugins. `settings` is an object; secrets in it are sealed by the host.
CREATE TABLE plugin_config (
    node       TEXT        NOT NULL,
    plugin     TEXT        NOT NULL,
    settings   TEXT        NOT NULL,
    revision   BIGINT      NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    updated_by TEXT        NOT NULL,
    PRIMARY KEY (node, plugin)
);
