//! A real host for measuring: a store on disk, a small platform, plugins that answer the rig's questions.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use axum::serve::ListenerExt;
use http_body_util::BodyExt;
use temps_host::{Caller, HostConfig, Platform, PlatformError, PluginHost, PluginState, Role};
use temps_protocol::ProjectInfo;
use tower::ServiceExt;

use crate::Outcome;

/// How long the rig waits for anything before it gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A host with its directories. The directories go with the last host over them.
pub(crate) struct Rig {
    pub(crate) host: PluginHost,
    pub(crate) store: Arc<temps_store::sqlite::SqliteStore>,
    pub(crate) directory: Arc<tempfile::TempDir>,
}

impl Rig {
    /// Starts a host without plugins.
    pub(crate) async fn start() -> Outcome<Self> {
        Self::start_with(|_| {}).await
    }

    /// Starts a host without plugins, whose configuration is changed before.
    pub(crate) async fn start_with(change: impl FnOnce(&mut HostConfig)) -> Outcome<Self> {
        let directory = Arc::new(tempfile::Builder::new().prefix("tb").tempdir()?);
        for name in ["plugins", "state", "run"] {
            std::fs::create_dir(directory.path().join(name))?;
        }
        Self::start_in(directory, change).await
    }

    /// Starts another host over the same directories, after the first was shut down.
    pub(crate) async fn restart(&self) -> Outcome<Self> {
        Self::start_in(Arc::clone(&self.directory), |_| {}).await
    }

    async fn start_in(
        directory: Arc<tempfile::TempDir>,
        change: impl FnOnce(&mut HostConfig),
    ) -> Outcome<Self> {
        let root = directory.path();
        let store = temps_store::sqlite::SqliteStore::open(&root.join("state/temps.db"))?;
        let mut config = HostConfig::for_places(root.join("plugins"), root.join("state"), root.join("run"));
        config.restart.quarantine_after = 0;
        change(&mut config);
        let host = PluginHost::builder()
            .config(config)
            .platform(Arc::new(BenchPlatform))
            .store(store.clone())
            .build()
            .await?;
        Ok(Self { host, store, directory })
    }

    /// Drops `count` copies of the bench plugin into the plugins directory, named `bench-0` and so on.
    pub(crate) fn drop_plugins(&self, count: usize) -> Outcome<()> {
        self.drop_plugins_named("bench", count)
    }

    /// The same with other names. Those that begin with `plain` know nothing of acks.
    pub(crate) fn drop_plugins_named(&self, name: &str, count: usize) -> Outcome<()> {
        let plugins = self.plugins();
        for index in 0..count {
            let hidden = plugins.join(format!(".{name}-{index}"));
            copy_named(&bench_plugin()?, &hidden, &format!("{name}-{index}"))?;
            std::fs::rename(&hidden, plugins.join(format!("{name}-{index}")))?;
        }
        Ok(())
    }

    /// Where the host finds its plugins.
    pub(crate) fn plugins(&self) -> PathBuf {
        self.directory.path().join("plugins")
    }

    /// Waits until `count` plugins run.
    pub(crate) async fn running(&self, count: usize) -> Outcome<()> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let plugins = self.host.plugins();
            if plugins.iter().filter(|plugin| plugin.state == PluginState::Running).count() >= count {
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                let states: Vec<_> = plugins
                    .iter()
                    .map(|p| format!("{} {} {:?}", p.name, p.state.as_str(), p.reason))
                    .collect();
                return Err(format!("the plugins did not start: {states:?}").into());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Serves the host's routes at a port of this machine, and sends what it has at once, as the daemon does.
    pub(crate) async fn serve(&self) -> Outcome<SocketAddr> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        let router = self.host.router();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(address)
    }

    /// Asks a plugin's route through the host, without a network between.
    pub(crate) async fn get(&self, plugin: &str, path: &str) -> Outcome<Vec<u8>> {
        let request = axum::http::Request::get(format!("/api/x/{plugin}{path}"))
            .header("host", "localhost")
            .body(Body::empty())?;
        let response = self.host.router().oneshot(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            return Err(
                format!("{plugin}{path} answered {status}: {}", String::from_utf8_lossy(&body)).into()
            );
        }
        Ok(body.to_vec())
    }
}

/// The bench plugin.
pub(crate) fn bench_plugin() -> Outcome<PathBuf> {
    beside("bench-plugin")
}

/// A program that was built beside the rig.
pub(crate) fn beside(name: &str) -> Outcome<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!("{} is missing; build it with `make bench`", path.display()).into())
    }
}

/// Copies the bench plugin and writes the name that it shall declare behind the executable's last byte.
pub(crate) fn copy_named(from: &Path, to: &Path, name: &str) -> Outcome<()> {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    std::fs::copy(from, to)?;
    let mut file = std::fs::OpenOptions::new().append(true).open(to)?;
    write!(file, "\nBENCH-NAME:{name}\n")?;
    file.set_permissions(std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// A platform with one project, and a caller who may do everything.
struct BenchPlatform;

#[async_trait]
impl Platform for BenchPlatform {
    async fn get_project(&self, project_id: i32) -> Result<Option<ProjectInfo>, PlatformError> {
        let now = chrono::DateTime::UNIX_EPOCH;
        Ok(Some(ProjectInfo {
            id: project_id,
            name: "my-app".into(),
            slug: "my-app".into(),
            repo_name: "my-app".into(),
            repo_owner: "acme".into(),
            main_branch: "main".into(),
            preset: "nextjs".into(),
            source_type: "git".into(),
            created_at: now,
            updated_at: now,
            last_deployment: Some(now),
            enable_preview_environments: false,
            external_id: None,
        }))
    }

    async fn list_projects(&self) -> Result<Vec<ProjectInfo>, PlatformError> {
        Ok(Vec::new())
    }

    async fn authenticate(&self, _: &axum::http::request::Parts) -> Option<Caller> {
        Some(Caller { id: "bench".into(), name: "bench".into(), email: None, role: Role::Admin })
    }
}
