-- The platform's door. Everything in it is every host's. Ids are never given twice.

CREATE TABLE projects (
    id                 INTEGER     PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name               TEXT        NOT NULL,
    slug               TEXT        NOT NULL UNIQUE,
    repo_owner         TEXT        NOT NULL,
    repo_name          TEXT        NOT NULL,
    main_branch        TEXT        NOT NULL,
    preset             TEXT        NOT NULL,
    created_at         TIMESTAMPTZ NOT NULL,
    updated_at         TIMESTAMPTZ NOT NULL,
    last_deployment_at TIMESTAMPTZ
);

CREATE TABLE environments (
    id                    INTEGER     PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    project_id            INTEGER     NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name                  TEXT        NOT NULL,
    slug                  TEXT        NOT NULL,
    branch                TEXT,
    is_preview            BOOLEAN     NOT NULL,
    current_deployment_id INTEGER,
    created_at            TIMESTAMPTZ NOT NULL,
    updated_at            TIMESTAMPTZ NOT NULL,
    UNIQUE (project_id, name)
);

-- `state` is the platform's word; the database does not know which may follow which.
CREATE TABLE deployments (
    id             INTEGER     PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    project_id     INTEGER     NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    environment_id INTEGER     NOT NULL REFERENCES environments (id) ON DELETE CASCADE,
    external_id    TEXT,
    state          TEXT        NOT NULL,
    url            TEXT,
    branch         TEXT,
    tag            TEXT,
    commit_sha     TEXT,
    commit_message TEXT,
    commit_author  TEXT,
    error_message  TEXT,
    probe          BOOLEAN     NOT NULL,
    created_at     TIMESTAMPTZ NOT NULL,
    started_at     TIMESTAMPTZ,
    ready_at       TIMESTAMPTZ,
    finished_at    TIMESTAMPTZ,
    updated_at     TIMESTAMPTZ NOT NULL,
    UNIQUE (project_id, external_id)
);
CREATE INDEX deployments_by_project ON deployments (project_id, id);
CREATE INDEX deployments_by_environment ON deployments (environment_id, id);
-- The few that the daemons probe now.
CREATE INDEX deployments_probed ON deployments (id) WHERE probe AND finished_at IS NULL;

-- Only hashes of secrets are kept.
CREATE TABLE tokens (
    id           INTEGER     PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name         TEXT        NOT NULL UNIQUE,
    admin        BOOLEAN     NOT NULL,
    hash         BYTEA       NOT NULL UNIQUE,
    created_at   TIMESTAMPTZ NOT NULL,
    last_used_at TIMESTAMPTZ,
    expires_at   TIMESTAMPTZ
);

CREATE TABLE sessions (
    id         INTEGER     PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    hash       BYTEA       NOT NULL UNIQUE,
    created_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE login_codes (
    hash       BYTEA       PRIMARY KEY,
    expires_at TIMESTAMPTZ NOT NULL
);
