//! What the lifecycle tests share: a real host with real plugins in a directory of its own, and waits for what is to be seen.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use temps_host::plugin::PluginState;
use temps_host::protocol::ProjectInfo;
use temps_host::store::sqlite::SqliteStore;
use temps_host::store::{AuditFilter, HostStore};
use temps_host::{ApiVersions, HostConfig, Platform, PlatformError, PluginHost, PluginSnapshot};
use temps_testkit::Behaviour;
use temps_testkit::binaries::built_executable;

/// The longest that a test waits for anything; only a failing test ever does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A platform without any data.
pub(crate) struct EmptyPlatform;

#[async_trait]
impl Platform for EmptyPlatform {
    async fn get_project(&self, _: i32) -> Result<Option<ProjectInfo>, PlatformError> {
        Ok(None)
    }
    async fn list_projects(&self) -> Result<Vec<ProjectInfo>, PlatformError> {
        Ok(Vec::new())
    }
}

/// The directories of one host, and what it is to be started with.
pub(crate) struct Rig {
    pub(crate) home: Home,
    pub(crate) config: HostConfig,
    pub(crate) versions: ApiVersions,
}

/// Where a rig's files are.
pub(crate) enum Home {
    /// In a directory that ends with the test.
    Own(tempfile::TempDir),
    /// In another test's directory.
    Lent(PathBuf),
}

impl Home {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Home::Own(directory) => directory.path(),
            Home::Lent(path) => path,
        }
    }
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::in_home(Home::Own(tempfile::tempdir().unwrap()))
    }

    /// The rig of another test.
    pub(crate) fn at(home: &Path) -> Self {
        Self::in_home(Home::Lent(home.to_owned()))
    }

    fn in_home(home: Home) -> Self {
        let at = |name: &str| home.path().join(name);
        let mut config = HostConfig::for_places(at("plugins"), at("state"), at("run"));
        config.launcher = Some(env!("CARGO_BIN_EXE_temps-host-test-launcher").into());
        config.restart.backoff_min = Duration::from_millis(50);
        config.restart.backoff_max = Duration::from_millis(500);
        std::fs::create_dir_all(at("plugins")).unwrap();
        Self { home, config, versions: ApiVersions::default() }
    }

    /// Puts a plugin into the plugins directory, under its own name.
    pub(crate) fn put(&self, order: &Behaviour) -> PathBuf {
        self.put_as(&order.name, order)
    }

    pub(crate) fn put_as(&self, file: &str, order: &Behaviour) -> PathBuf {
        let program = built_executable("temps-testkit", "unruly");
        temps_testkit::unruly::install(&program, &self.plugins(), file, order).unwrap()
    }

    pub(crate) fn plugins(&self) -> PathBuf {
        self.config.plugins_dirs[0].clone()
    }

    /// Starts a host on the rig's directories.
    pub(crate) async fn host(&self) -> PluginHost {
        let store = SqliteStore::open(&self.home.path().join("temps.db")).unwrap();
        self.host_on(store).await
    }

    pub(crate) async fn host_on(&self, store: Arc<SqliteStore>) -> PluginHost {
        let store: Arc<dyn HostStore> = store;
        let builder = PluginHost::builder().config(self.config.clone()).platform(Arc::new(EmptyPlatform));
        builder.store(store).api_versions(self.versions.clone()).build().await.unwrap()
    }
}

/// Waits until a plugin's snapshot is as `reached` wants it, also for a plugin that is not there yet.
pub(crate) async fn until(
    host: &PluginHost,
    name: &str,
    reached: impl Fn(&PluginSnapshot) -> bool,
) -> Arc<PluginSnapshot> {
    let look = async {
        loop {
            if let Some(mut view) = host.watch_plugin(name) {
                // The line of a file ends when its name is known; the plugin's own then follows.
                if let Ok(seen) = view.wait_for(|snapshot| reached(snapshot)).await {
                    return seen.clone();
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| {
        let log = host.logs(name, 50).map(|(lines, _)| lines).unwrap_or_default();
        panic!("{name} never came to what was expected; it is {:#?}\nlog: {log:#?}", host.plugin(name))
    })
}

/// Waits until a plugin is in a state.
pub(crate) async fn until_state(host: &PluginHost, name: &str, state: PluginState) -> Arc<PluginSnapshot> {
    until(host, name, |snapshot| snapshot.state == state).await
}

/// The kinds of the audit trail that concern a plugin, oldest first.
pub(crate) async fn trail(host: &PluginHost, name: &str) -> Vec<String> {
    let filter = AuditFilter { plugin: Some(name.to_owned()), limit: 1_000, ..AuditFilter::default() };
    host.audit(filter).await.unwrap().into_iter().map(|record| record.kind).collect()
}

/// Whether a process is there.
pub(crate) fn is_alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Sends a signal to a process that a test's plugin or host is.
pub(crate) fn send_signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}
