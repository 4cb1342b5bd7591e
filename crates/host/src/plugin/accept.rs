//! Taking connections at a socket that the host opened for one plugin: only processes of that plugin are served.

use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};

/// Pause after a connection could not be accepted: the process has no free descriptors, and gets some soon or not at all.
const PAUSE: Duration = Duration::from_millis(100);

/// Waits for the next connection of a process below `launcher`. `wanted` says, for the log, what strangers were refused.
///
/// Nothing is lost when this is given up while it waits.
pub(crate) async fn accept_own(
    listener: &UnixListener,
    plugin: &str,
    launcher: u32,
    wanted: &str,
) -> UnixStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) if is_own(&stream, launcher) => return stream,
            Ok(_) => tracing::warn!(plugin, "a process that is not the plugin's wanted {wanted}"),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Whether the process at the other end is one of the plugin's.
fn is_own(stream: &UnixStream, launcher: u32) -> bool {
    let pid = stream.peer_cred().ok().and_then(|peer| peer.pid()).and_then(|pid| u32::try_from(pid).ok());
    pid.is_some_and(|pid| pid != 0 && temps_sandbox::contains(launcher, pid))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::path::Path;
    use std::process::{Child, ChildStdout, Command, Stdio};

    use tokio::io::AsyncWriteExt;

    use super::*;

    /// A process that connects to each socket that it is told of, and says what it got.
    const CLIENT: &str = "
import socket, sys
for path in sys.stdin:
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path.strip())
        print(s.recv(100).decode() or 'nothing', flush=True)
";

    struct Client {
        process: Child,
        output: BufReader<ChildStdout>,
    }

    impl Client {
        fn start() -> Self {
            let mut command = Command::new("/usr/bin/python3");
            command.args(["-I", "-c", CLIENT]).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut process = command.spawn().unwrap();
            let output = BufReader::new(process.stdout.take().unwrap());
            Self { process, output }
        }

        fn connect(&mut self, path: &Path) {
            writeln!(self.process.stdin.as_mut().unwrap(), "{}", path.display()).unwrap();
        }

        fn got(&mut self) -> String {
            let mut line = String::new();
            self.output.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        }
    }

    impl Drop for Client {
        fn drop(&mut self) {
            drop(self.process.stdin.take());
            let _ = self.process.wait();
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_plugin_is_not_served_at_the_socket_of_another() {
        let directory = tempfile::tempdir().unwrap();
        let mut plugins = [Client::start(), Client::start()];
        // Nothing but the kernel's word for who connects tells them apart: both run as the same user and reach both sockets.
        for (own, other) in [(0, 1), (1, 0)] {
            let path = directory.path().join(format!("{own}.sock"));
            let listener = UnixListener::bind(&path).unwrap();
            let launcher = plugins[own].process.id();
            let served = tokio::spawn(async move {
                let mut stream = accept_own(&listener, "own", launcher, "what is its own").await;
                stream.write_all(b"served").await.unwrap();
            });
            plugins[other].connect(&path);
            assert_eq!(plugins[other].got(), "nothing");
            plugins[own].connect(&path);
            assert_eq!(plugins[own].got(), "served");
            served.await.unwrap();
        }
    }
}
