-- The platform's door. Times are microseconds since 1970 in UTC. Ids are never given twice.

CREATE TABLE projects (
    id                 INTEGER PRIMARY KEY AUTOINCREMENT,
    name               TEXT    NOT NULL,
    slug               TEXT    NOT NULL UNIQUE,
    repo_owner         TEXT    NOT NULL,
    repo_name          TEXT    NOT NULL,
    main_branch        TEXT    NOT NULL,
    preset             TEXT    NOT NULL,
    created_at         INTEGER NOT NULL,
    updated_at         INTEGER NOT NULL,
    last_deployment_at INTEGER
) STRICT;

CREATE TABLE environments (
    id                    INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id            INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name                  TEXT    NOT NULL,
    slug                  TEXT    NOT NULL,
    branch                TEXT,
    is_preview            INTEGER NOT NULL,
    current_deployment_id INTEGER,
    created_at            INTEGER NOT NULL,
    updated_at            INTEGER NOT NULL,
    UNIQUE (project_id, name)
) STRICT;

-- `state` is the platform's word; the database does not know which may follow which.
CREATE TABLE deployments (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id     INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    environment_id INTEGER NOT NULL REFERENCES environments (id) ON DELETE CASCADE,
    external_id    TEXT,
    state          TEXT    NOT NULL,
    url            TEXT,
    branch         TEXT,
    tag            TEXT,
    commit_sha     TEXT,
    commit_message TEXT,
    commit_author  TEXT,
    error_message  TEXT,
    probe          INTEGER NOT NULL,
    created_at     INTEGER NOT NULL,
    started_at     INTEGER,
    ready_at       INTEGER,
    finished_at    INTEGER,
    updated_at     INTEGER NOT NULL,
    UNIQUE (project_id, external_id)
) STRICT;
CREATE INDEX deployments_by_project ON deployments (project_id, id);
CREATE INDEX deployments_by_environment ON deployments (environment_id, id);
-- The few that the daemon probes now.
CREATE INDEX deployments_probed ON deployments (id) WHERE probe = 1 AND finished_at IS NULL;

-- Only hashes of secrets are kept.
CREATE TABLE tokens (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    name         TEXT    NOT NULL UNIQUE,
    admin        INTEGER NOT NULL,
    hash         BLOB    NOT NULL UNIQUE,
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER,
    expires_at   INTEGER
) STRICT;

CREATE TABLE sessions (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    hash       BLOB    NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

CREATE TABLE login_codes (
    hash       BLOB    PRIMARY KEY,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
