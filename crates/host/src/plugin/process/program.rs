//! What the launcher is to execute for a plugin: its arguments, and an environment that holds nothing of the host's.

use std::path::Path;

use temps_protocol::Feature;
use temps_sandbox::{Arg, Decision, Program};

use super::{HOST_FEATURES, SpawnError, SpawnSpec, confined};

/// Where a plugin finds programs and interpreters.
pub const PLUGIN_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Longest path of a socket in bytes; the kernel's address has 108 and a final zero.
pub const MAX_SOCKET_PATH: usize = 107;

/// What the launcher is to execute: the arguments of protocol version 1 and an environment that holds nothing of the host's.
pub(super) fn of(spec: &SpawnSpec, decision: &Decision) -> Result<Program, SpawnError> {
    let tmp_dir = confined::tmp_dir(decision, spec);
    let length = spec.socket.as_os_str().len();
    if length > MAX_SOCKET_PATH {
        return Err(SpawnError::SocketPathTooLong { path: spec.socket.clone(), length });
    }
    let (socket, data_dir) = (text(&spec.socket)?, text(&spec.data_dir)?);
    let mut env = spec.env.clone();
    if confined::has_way_out(decision) {
        env.extend(proxy_variables());
    }
    env.extend([
        ("TEMPS_API_VERSION".to_owned(), temps_protocol::API_VERSION.to_string()),
        ("TEMPS_FEATURES".to_owned(), Feature::format_list(HOST_FEATURES)),
        ("PATH".to_owned(), search_path(spec)?),
        ("HOME".to_owned(), data_dir.clone()),
        ("TMPDIR".to_owned(), text(tmp_dir)?),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
    ]);
    if let Some(name) = &spec.name {
        env.insert("TEMPS_PLUGIN_NAME".to_owned(), name.to_string());
    }
    let args = vec![
        Arg::plain(text(&spec.program)?),
        Arg::plain("--socket-path"),
        Arg::plain(socket),
        Arg::plain("--auth-secret"),
        Arg::secret(spec.secret.expose()),
        Arg::plain("--data-dir"),
        Arg::plain(data_dir),
    ];
    Ok(Program { path: spec.program.clone(), args, env, directory: spec.data_dir.clone() })
}

/// What tells programs that know proxies about the one in their network. Other programs find the same hosts by their names.
fn proxy_variables() -> impl Iterator<Item = (String, String)> {
    let proxy = format!("http://{}", temps_sandbox::EGRESS_PROXY);
    let around = "localhost,127.0.0.1,::1".to_owned();
    let both = [
        ("https_proxy", proxy.clone()),
        ("HTTPS_PROXY", proxy),
        ("no_proxy", around.clone()),
        ("NO_PROXY", around),
    ];
    both.into_iter().map(|(name, value)| (name.to_owned(), value))
}

fn text(path: &Path) -> Result<String, SpawnError> {
    path.to_str().map(str::to_owned).ok_or_else(|| SpawnError::NotText(path.to_owned()))
}

/// Where the plugin finds programs: where every system has them, then where operators say.
fn search_path(spec: &SpawnSpec) -> Result<String, SpawnError> {
    let more = confined::search_path(spec);
    more.iter().try_fold(PLUGIN_PATH.to_owned(), |path, directory| Ok(format!("{path}:{}", text(directory)?)))
}
