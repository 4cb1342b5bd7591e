//! Taking connections at a socket that the host opened for one plugin: only processes of that plugin are served.

use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, sleep, sleep_until};

/// Pause after a connection could not be accepted: the process has no free descriptors, and gets some soon or not at all.
const PAUSE: Duration = Duration::from_millis(100);

/// Connections that are taken in one second. Finding out whose one is costs the host more than connecting costs a plugin, so
/// those beyond wait in the kernel's queue, which is short.
const A_SECOND: u32 = 500;

/// What connections are counted in.
const SECOND: Duration = Duration::from_secs(1);

/// A socket of the host's, for the processes below one launcher.
pub(crate) struct OwnSocket<'a> {
    listener: &'a UnixListener,
    plugin: &'a str,
    launcher: u32,
    /// What strangers are refused, for the log.
    wanted: &'static str,
    since: Instant,
    taken: u32,
    strangers: u32,
}

impl<'a> OwnSocket<'a> {
    pub(crate) fn new(
        listener: &'a UnixListener,
        plugin: &'a str,
        launcher: u32,
        wanted: &'static str,
    ) -> Self {
        Self { listener, plugin, launcher, wanted, since: Instant::now(), taken: 0, strangers: 0 }
    }

    /// Waits for the next connection of the plugin. Nothing is lost when this is given up while it waits.
    pub(crate) async fn accept(&mut self) -> UnixStream {
        loop {
            if self.taken >= A_SECOND {
                sleep_until(self.since + SECOND).await;
            }
            let Ok((stream, _)) = self.listener.accept().await else {
                sleep(PAUSE).await;
                continue;
            };
            if self.since.elapsed() >= SECOND {
                (self.since, self.taken, self.strangers) = (Instant::now(), 0, 0);
            }
            self.taken += 1;
            if is_own(&stream, self.launcher) {
                return stream;
            }
            self.strangers += 1;
            if self.strangers == 1 {
                let Self { plugin, wanted, .. } = self;
                tracing::warn!(plugin, "a process that is not the plugin's wanted {wanted}");
            }
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
                let mut stream = OwnSocket::new(&listener, "own", launcher, "what is its own").accept().await;
                stream.write_all(b"served").await.unwrap();
            });
            plugins[other].connect(&path);
            assert_eq!(plugins[other].got(), "nothing");
            plugins[own].connect(&path);
            assert_eq!(plugins[own].got(), "served");
            served.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_connections_waits_for_the_next_second() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let mut socket = OwnSocket::new(&listener, "own", std::process::id(), "what is its own");
        let begin = Instant::now();
        for _ in 0..A_SECOND {
            let _client = UnixStream::connect(&path).await.unwrap();
            socket.accept().await;
        }
        // The clock stands still but for those who wait for it.
        assert_eq!(begin.elapsed(), Duration::ZERO);
        let _client = UnixStream::connect(&path).await.unwrap();
        socket.accept().await;
        assert!(begin.elapsed() >= SECOND);
    }
}
