//! A connection goes to a process of the plugin, or there is none.
#![expect(clippy::unwrap_used, reason = "the helpers of tests panic like the tests themselves")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use temps_host::plugin::process::{Launcher, Process, SpawnSpec};
use temps_host::plugin::socket::{ConnectError, connect};
use temps_host::sandbox::SandboxSpec;
use temps_host::secrets::Secret;
use temps_sandbox::Containment;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::UnixListener;

/// How long a connection may take where it must succeed. Reached only when a promise is broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// A plugin that listens, says so, and greets everybody; with an argument in the environment it never accepts.
const LISTENS: &str = "#!/usr/bin/python3 -I
import os, socket, sys, time
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[2])
s.listen(0)
print('listens', flush=True)
while 'DEAF' in os.environ: time.sleep(600)
while True:
    c, _ = s.accept()
    c.sendall(b'hello')
    c.close()
";

struct Rig {
    directory: tempfile::TempDir,
    process: Process,
}

impl Rig {
    async fn start(containment: Containment, env: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("plugin");
        std::fs::write(&program, LISTENS).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let executable = Path::new(env!("CARGO_BIN_EXE_temps-host-test-launcher"));
        let launcher = Launcher::prepare_as(Some(executable), Some(containment)).await.unwrap();
        let spec = SpawnSpec {
            program,
            name: None,
            socket: directory.path().join("s"),
            secret: Secret::generate().unwrap(),
            data_dir: directory.path().to_owned(),
            tmp_dir: directory.path().to_owned(),
            sandbox: SandboxSpec::processes_only(),
            egress: None,
            env: env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>(),
        };
        let mut process = launcher.spawn(&spec).await.unwrap();
        let mut line = String::new();
        BufReader::new(process.take_stdout().unwrap()).read_line(&mut line).await.unwrap();
        assert_eq!(line, "listens\n");
        Self { directory, process }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn connect(&self, name: &str) -> Result<tokio::net::UnixStream, ConnectError> {
        connect(&self.path(name), self.process.launcher_pid(), PATIENCE).await
    }
}

#[tokio::test]
async fn a_plugin_that_listens_is_reached_whatever_keeps_it_together() {
    for containment in [Containment::PidNamespace, Containment::ProcessGroup] {
        let rig = Rig::start(containment, &[]).await;
        let mut greeting = String::new();
        rig.connect("s").await.unwrap().read_to_string(&mut greeting).await.unwrap();
        assert_eq!(greeting, "hello");
    }
}

#[tokio::test]
async fn a_link_is_not_followed_and_a_file_is_not_taken_for_a_socket() {
    let rig = Rig::start(Containment::PidNamespace, &[]).await;
    std::os::unix::fs::symlink(rig.path("s"), rig.path("link")).unwrap();
    std::fs::create_dir(rig.path("inside")).unwrap();
    std::fs::write(rig.path("file"), "").unwrap();
    for (name, words) in [("link", "is a link"), ("file", "is a file"), ("inside", "is a directory")] {
        let error = rig.connect(name).await.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    // Nor is a directory that is a link.
    std::os::unix::fs::symlink(rig.directory.path(), rig.path("way")).unwrap();
    assert!(matches!(rig.connect("way/s").await, Err(ConnectError::System { .. })));
    assert!(matches!(rig.connect("none").await, Err(ConnectError::Missing(_))));
}

#[tokio::test]
async fn a_socket_of_another_process_is_refused() {
    let rig = Rig::start(Containment::PidNamespace, &[]).await;
    let other = Rig::start(Containment::PidNamespace, &[]).await;
    // This very process, and another plugin whose socket was moved to the place of the first one's.
    let _listener = UnixListener::bind(rig.path("host")).unwrap();
    std::fs::rename(other.path("s"), rig.path("moved")).unwrap();
    for name in ["host", "moved"] {
        assert!(matches!(rig.connect(name).await, Err(ConnectError::Stranger { .. })), "{name}");
    }
}

#[tokio::test]
async fn nobody_listening_and_a_full_queue_are_told_apart() {
    let rig = Rig::start(Containment::PidNamespace, &[("DEAF", "1")]).await;
    drop(UnixListener::bind(rig.path("closed")).unwrap());
    assert!(matches!(rig.connect("closed").await, Err(ConnectError::Refused(_))));
    // The queue of this plugin holds a connection that it never takes.
    let mut held = Vec::new();
    let refused = loop {
        let short = Duration::from_millis(50);
        match connect(&rig.path("s"), rig.process.launcher_pid(), short).await {
            Ok(stream) => held.push(stream),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, ConnectError::Full { .. }), "{refused}");
    assert!(!held.is_empty());
}
