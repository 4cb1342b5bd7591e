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
