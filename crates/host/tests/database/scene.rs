//! What the tests of databases share: a host with the plugin `keeper`, and what can be asked of that.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use temps_host::plugin::PluginState;
use temps_host::secrets::Secret;
use temps_host::{HostConfig, PluginHost};
use temps_testkit::Postgres;

use crate::rig::{Rig, until, until_state};

/// The plugin's name.
pub(crate) const NAME: &str = "keeper";

/// How long one statement may take in these tests.
pub(crate) const STATEMENT: Duration = Duration::from_secs(1);

/// A host with the plugin.
pub(crate) struct Scene {
    pub(crate) rig: Rig,
    pub(crate) host: PluginHost,
}

/// What a program said that the plugin ran.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) out: String,
    pub(crate) err: String,
    /// The environment that the plugin found at its first instruction.
    pub(crate) env: Value,
}

/// A rig with the plugin; no host runs on it yet.
pub(crate) fn rig(change: impl FnOnce(&mut HostConfig)) -> Rig {
    let mut rig = Rig::new();
    change(&mut rig.config);
    let file = rig.plugins().join(NAME);
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/database/plugin.py"), &file).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    rig
}

/// Sets the server of a test.
pub(crate) fn on(postgres: &Postgres) -> impl FnOnce(&mut HostConfig) {
    let url = Secret::new(postgres.url(""));
    move |config| {
        config.databases.postgres_url = Some(url);
        config.databases.statement_timeout = STATEMENT;
        config.databases.connections = 3;
    }
}

impl Scene {
    /// A host on which the plugin runs with its file.
    pub(crate) async fn new(change: impl FnOnce(&mut HostConfig)) -> Self {
        let rig = rig(change);
        let host = rig.host().await;
        until_state(&host, NAME, PluginState::Running).await;
        Self { rig, host }
    }

    /// A host on which the plugin runs with a database on the server.
    pub(crate) async fn with(postgres: &Postgres) -> Self {
        let scene = Self::new(on(postgres)).await;
        scene.grant("postgres").await;
        scene
    }

    /// Grants a database and waits for the plugin that has it.
    pub(crate) async fn grant(&self, which: &str) {
        let before = self.host.plugin(NAME).unwrap().starts;
        self.host.grant(NAME, vec![("database".into(), which.into())], "ada").await.unwrap();
        until(&self.host, NAME, |seen| seen.state == PluginState::Running && seen.starts > before).await;
    }

    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.rig.config.run_dir.join(NAME).join(name)
    }

    /// Has the plugin run a program, as a process of its own.
    pub(crate) fn run(&self, argv: &[&str]) -> Said {
        let body = json!({"argv": argv}).to_string();
        let mut stream = UnixStream::connect(self.socket("plugin.sock")).unwrap();
        let head = format!("POST /run HTTP/1.0\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, json) = answer.split_once("\r\n\r\n").unwrap();
        let said: Value = serde_json::from_str(json).unwrap();
        let text = |key: &str| said[key].as_str().unwrap().to_owned();
        Said { out: text("out"), err: text("err"), env: said["env"].clone() }
    }

    /// The URL that the plugin was told.
    pub(crate) fn url(&self) -> String {
        let said = self.run(&["true"]);
        said.env["TEMPS_DATABASE_URL"].as_str().unwrap_or_default().to_owned()
    }

    /// Has the plugin run SQL with PostgreSQL's own client.
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.sql_at(&self.url(), sql)
    }

    /// The same at another URL.
    pub(crate) fn sql_at(&self, url: &str, sql: &str) -> String {
        let said = self.run(&["psql", "-X", "-q", "-A", "-t", "-d", url, "-c", sql]);
        format!("{}{}", said.out, said.err)
    }

    /// Has the plugin run a program in Python. `HOST` is where its database's socket is.
    pub(crate) fn python(&self, program: &str) -> String {
        let begin = format!(
            "import socket, struct\n\
             def connect():\n    s = socket.socket(socket.AF_UNIX)\n    s.connect({:?})\n    return s\n\
             def startup(*pairs, version=196608):\n    \
                 body = struct.pack('!I', version) + b''.join(p.encode() + b'\\0' for p in pairs) + b'\\0'\n    \
                 return struct.pack('!I', len(body) + 4) + body\n\
             def read(s):\n    try: kind = s.recv(1)\n    except ConnectionError: kind = b''\n    \
                 return (kind.decode(), s.recv(struct.unpack('!I', s.recv(4))[0] - 4, socket.MSG_WAITALL)) if kind else ('', b'')\n\
             def until(s, end):\n    seen = ''\n    \
                 while True:\n        kind, body = read(s)\n        seen += kind\n        \
                 if kind in ('', end): return seen, body\n",
            self.socket(".s.PGSQL.5432")
        );
        let said = self.run(&["python3", "-c", &(begin + program)]);
        assert_eq!(said.err, "", "{program}");
        said.out
    }

    pub(crate) async fn end(self) {
        self.host.shutdown().await;
    }
}
