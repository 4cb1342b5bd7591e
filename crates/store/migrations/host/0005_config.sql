-- What operators set for plugins. `settings` is an object; secrets in it are sealed by the host.
CREATE TABLE plugin_config (
    plugin     TEXT    PRIMARY KEY,
    settings   TEXT    NOT NULL,
    revision   INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    updated_by TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
