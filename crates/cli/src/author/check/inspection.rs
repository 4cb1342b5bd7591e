//! Inspection by a real host, in a home that is gone afterwards. The host holds what it inspected, so nothing is started.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use temps_host::config::GrantsDefault;
use temps_host::plugin::PluginState;
use temps_host::protocol::PluginManifest;
use temps_host::tap::{Tap, Told};
use temps_server::Server;
use temps_server::config::{Config, Places};

use crate::author::build::{DIRECTORY_PROGRAM, cannot, close_to_others, copy_tree};
use crate::exit::{Exit, Failure};

/// How long it may take altogether: a second of stillness, thirty for the manifest, and a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// Lines of output that are kept; one is wanted.
const LINES: usize = 8;

/// What a host found out.
pub(super) enum Inspection {
    /// It does not take the plugin up, for this reason; what was printed instead of a manifest.
    Refused { reason: String, printed: Vec<String> },
    /// Its manifest keeps the rules; the line as it was printed.
    Read { manifest: Arc<PluginManifest>, line: String },
}

/// Has a host inspect the plugin.
pub(super) fn inspect(path: &Path) -> Result<Inspection, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::other("runtime", format!("cannot start: {error}")))?;
    runtime.block_on(async {
        // In /tmp by name, because a socket's path has at most 107 bytes and TMPDIR may be long.
        let home = tempfile::Builder::new().prefix("temps-check-").tempdir_in("/tmp");
        let home = home.map_err(|error| cannot(Path::new("/tmp"), &error))?;
        tokio::select! {
            inspection = in_home(path, home.path()) => inspection,
            _ = tokio::signal::ctrl_c() => Err(Failure::new(Exit::Interrupted, "interrupted", "interrupted")),
        }
    })
}

async fn in_home(path: &Path, home: &Path) -> Result<Inspection, Failure> {
    let mut config = Config::defaults(Places::below(home));
    config.listen = ([127, 0, 0, 1], 0).into();
    config.grants_default = GrantsDefault::Hold;
    let tap = Tap::open();
    let mut traffic = tap.watch().ok_or_else(|| Failure::other("tap", "the output cannot be watched"))?;
    let server = Server::start_watched(config, tap).await.map_err(|error| {
        Failure::other("not_started", format!("the inspecting host cannot start: {error}"))
    })?;
    let host = server.host().clone();
    let mut audit = host.audit_changes();
    let (stop, stopping) = tokio::sync::oneshot::channel::<()>();
    let daemon = tokio::spawn(server.run(async { drop(stopping.await) }));
    let name = path.file_name().unwrap_or_default();
    let placed = place(path, &home.join("plugins").join(name), &home.join("draft"));
    let waiting = async {
        loop {
            let plugins = host.plugins();
            if let Some(plugin) = plugins.first() {
                match (plugin.state, &plugin.manifest) {
                    (PluginState::Refused, _) => return (plugin.reason.clone().unwrap_or_default(), None),
                    (PluginState::Held, Some(manifest)) => return (String::new(), Some(manifest.clone())),
                    // Everything is held, so this is a name that is not to be had.
                    (PluginState::Held, None) => return (plugin.reason.clone().unwrap_or_default(), None),
                    _ => {}
                }
            }
            // State changes are recorded; the pause is for those that are not.
            let _ = tokio::time::timeout(Duration::from_millis(250), audit.changed()).await;
        }
    };
    let ended = match placed {
        Ok(()) => tokio::time::timeout(PATIENCE, waiting).await.map_err(|_| {
            Failure::new(
                Exit::Timeout,
                "timeout",
                format!("it was not inspected within {} s", PATIENCE.as_secs()),
            )
        }),
        Err(failure) => Err(failure),
    };
    // The receiver is gone only when the daemon is.
    let _ = stop.send(());
    let _ = daemon.await;
    let (reason, manifest) = ended?;
    let mut printed = Vec::new();
    while let Some(told) = traffic.try_next() {
        if let Told::Step(observed) = told
            && let Some(line) = observed.step["line"].as_str()
            && printed.len() < LINES
        {
            printed.push(line.to_owned());
        }
    }
    Ok(match manifest {
        Some(manifest) => Inspection::Read { manifest, line: printed.into_iter().next().unwrap_or_default() },
        None => Inspection::Refused { reason: in_authors_words(&reason, home, path), printed },
    })
}

/// A reason with the author's path in the place of the copy that was run.
fn in_authors_words(reason: &str, home: &Path, path: &Path) -> String {
    let artifacts = format!("{}/state/artifacts/", home.display());
    let mut parts = reason.split(&artifacts);
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let copy = part.trim_start_matches(|c: char| c.is_ascii_hexdigit());
        // A file is kept under the name of a directory's program.
        let program = format!("/{DIRECTORY_PROGRAM}");
        let rest = if path.is_dir() { copy } else { copy.strip_prefix(&program).unwrap_or(copy) };
        text.push_str(&path.display().to_string());
        text.push_str(rest);
    }
    text
}

/// Copies the plugin whole into the plugins directory. What is wrong with its mode was said already.
fn place(path: &Path, to: &Path, draft: &Path) -> Result<(), Failure> {
    copy_tree(path, draft)?;
    close_to_others(draft)?;
    std::fs::rename(draft, to).map_err(|error| cannot(to, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_names_the_authors_file_and_not_the_copy_of_it() {
        let said = "cannot execute /tmp/h/state/artifacts/0af3/plugin: File \"/tmp/h/state/artifacts/0af3/plugin\", line 2";
        let (home, path) = (Path::new("/tmp/h"), Path::new("/no/such/it"));
        let told = in_authors_words(said, home, path);
        assert_eq!(told, "cannot execute /no/such/it: File \"/no/such/it\", line 2");
        assert_eq!(in_authors_words("exited", home, path), "exited");
        let directory = tempfile::tempdir().unwrap();
        let told = in_authors_words("/tmp/h/state/artifacts/0af3/lib/a.py", home, directory.path());
        assert_eq!(told, format!("{}/lib/a.py", directory.path().display()));
    }
}
