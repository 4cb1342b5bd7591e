//! A plugin that is killed a hundred times in a row, while requests and events flow. A process of its own, because it counts the
//! descriptors and the memory of the whole process.
#![expect(clippy::unwrap_used, reason = "the helpers of a test may stop it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use temps_host::plugin::PluginState;
use temps_host::protocol::{DeploymentInfo, EnvironmentInfo, PluginEvent, ProjectInfo};
use temps_host::store::HostStore;
use temps_host::store::sqlite::SqliteStore;
use temps_host::{Caller, Platform, PlatformError, PluginHost, Role};
use temps_testkit::Behaviour;
use tower::ServiceExt;

#[expect(dead_code, reason = "the tests of the lifecycle use the rest of it")]
#[path = "../lifecycle/rig.rs"]
mod rig;

use rig::{PATIENCE, Rig, send_signal, until, until_state};

/// How often the plugin is killed, and after how many kills everything that grows once has grown.
const KILLS: u32 = 100;
const SETTLED_AFTER: u32 = 30;

/// Descriptors and bytes that may come and go with a connection here and a thread there.
const DESCRIPTOR_SLACK: usize = 12;
const MEMORY_SLACK: usize = 24 << 20;

/// A platform for which everybody is an administrator.
struct Open;

#[async_trait]
impl Platform for Open {
    async fn get_project(&self, _: i32) -> Result<Option<ProjectInfo>, PlatformError> {
        Ok(None)
    }
    async fn list_projects(&self) -> Result<Vec<ProjectInfo>, PlatformError> {
        Ok(Vec::new())
    }
    async fn get_environment(&self, _: i32) -> Result<Option<EnvironmentInfo>, PlatformError> {
        Ok(None)
    }
    async fn list_environments(&self, _: i32) -> Result<Vec<EnvironmentInfo>, PlatformError> {
        Ok(Vec::new())
    }
    async fn get_deployment(&self, _: i32) -> Result<Option<DeploymentInfo>, PlatformError> {
        Ok(None)
    }
    async fn list_deployments(
        &self,
        _: i32,
        _: Option<i32>,
        _: u32,
    ) -> Result<Vec<DeploymentInfo>, PlatformError> {
        Ok(Vec::new())
    }
    async fn authenticate(&self, _: &http::request::Parts) -> Option<Caller> {
        Some(Caller { id: "1".into(), name: "ada".into(), email: None, role: Role::Admin })
    }
}

async fn get(router: &axum::Router, path: &str) -> (StatusCode, String) {
    let request = Request::get(path).header("host", "localhost").body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    (status, String::from_utf8_lossy(&body).into_owned())
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_killed_a_hundred_times_is_back_each_time_and_nobody_else_notices() {
    let mut rig = Rig::new();
    rig.config.restart.quarantine_after = 0;
    rig.config.restart.backoff_min = Duration::from_millis(10);
    rig.config.restart.backoff_max = Duration::from_millis(50);
    let store: Arc<dyn HostStore> = SqliteStore::open(&rig.home.path().join("temps.db")).unwrap();
    let builder = PluginHost::builder().config(rig.config.clone()).platform(Arc::new(Open));
    let host = builder.store(store).build().await.unwrap();
    rig.put(&Behaviour::honest("victim"));
    rig.put(&Behaviour::honest("neighbour"));
    let neighbour = until_state(&host, "neighbour", PluginState::Running).await;
    until_state(&host, "victim", PluginState::Running).await;

    let over = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU64::new(0));
    let asking = tokio::spawn(ask_both(host.router(), Arc::clone(&over), Arc::clone(&answered)));
    let publishing = tokio::spawn(publish(host.clone(), Arc::clone(&over)));
    let (mut last_pid, mut settled) = (None, (0, 0));
    for kill in 1..=KILLS {
        let running = until(&host, "victim", |s| s.state == PluginState::Running && s.pid != last_pid).await;
        last_pid = running.pid;
        send_signal(running.pid.unwrap(), rustix::process::Signal::KILL);
        if kill == SETTLED_AFTER {
            settled = (descriptors(), resident_bytes());
        }
    }
    let back = until(&host, "victim", |s| s.state == PluginState::Running && s.pid != last_pid).await;
    let grown = (descriptors(), resident_bytes());
    assert_eq!((back.starts, back.crashes), (u64::from(KILLS) + 1, u64::from(KILLS)));
    assert!(grown.0 <= settled.0 + DESCRIPTOR_SLACK, "descriptors: {} after {}", grown.0, settled.0);
    assert!(grown.1 <= settled.1 + MEMORY_SLACK, "memory: {} after {}", grown.1, settled.1);

    over.store(true, Ordering::Relaxed);
    asking.await.unwrap();
    let published = publishing.await.unwrap();
    assert!(answered.load(Ordering::Relaxed) > 0, "the victim never answered in between");
    let now = host.plugin("neighbour").unwrap();
    assert_eq!((now.pid, now.starts, now.crashes), (neighbour.pid, 1, 0));
    received(&host, "neighbour", &published).await;
    host.shutdown().await;
}

/// Asks both plugins for their process ids, again and again. The neighbour must answer each time.
async fn ask_both(router: axum::Router, over: Arc<AtomicBool>, answered: Arc<AtomicU64>) {
    while !over.load(Ordering::Relaxed) {
        let (status, body) = get(&router, "/api/x/neighbour/pid").await;
        assert_eq!(status, StatusCode::OK, "the neighbour noticed: {body}");
        let (status, _) = get(&router, "/api/x/victim/pid").await;
        if status == StatusCode::OK {
            answered.fetch_add(1, Ordering::Relaxed);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Publishes events until it is over, and says which.
async fn publish(host: PluginHost, over: Arc<AtomicBool>) -> Vec<String> {
    let mut ids = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let id = format!("event-{}", ids.len());
        let event = PluginEvent {
            id: id.clone(),
            event_type: "deployment.succeeded".into(),
            timestamp: chrono::Utc::now(),
            project_id: Some(1),
            data: serde_json::json!({}),
        };
        host.publish(event).await.unwrap();
        ids.push(id);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ids
}

/// Waits until a plugin got all of these events, and checks their order.
async fn received(host: &PluginHost, plugin: &str, published: &[String]) {
    let router = host.router();
    let all = async {
        loop {
            let (_, body) = get(&router, &format!("/api/x/{plugin}/events")).await;
            let events: Vec<PluginEvent> = serde_json::from_str(&body).unwrap();
            let ids: Vec<String> = events.into_iter().map(|event| event.id).collect();
            if ids.len() >= published.len() {
                return ids;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let ids = tokio::time::timeout(PATIENCE, all).await.expect("some events never came");
    assert_eq!(ids, published);
}
