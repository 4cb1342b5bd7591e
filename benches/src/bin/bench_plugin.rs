//! The plugin that the load rig measures with: it asks the platform, counts events, and answers pings.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::extract::Query;
use temps_plugin_sdk::prelude::*;
use tokio::sync::Notify;

#[derive(Clone, Default)]
struct Counter {
    received: Arc<AtomicU64>,
    changed: Arc<Notify>,
}

struct BenchPlugin {
    name: String,
    counter: Counter,
}

#[derive(Clone)]
struct Context {
    plugin: PluginContext,
    counter: Counter,
}

#[derive(serde::Deserialize)]
struct Rounds {
    n: usize,
    #[serde(default)]
    width: usize,
}

#[derive(serde::Deserialize)]
struct Wait {
    count: u64,
}

impl ExternalPlugin for BenchPlugin {
    fn manifest(&self) -> PluginManifest {
        PluginManifest::builder(self.name.as_str(), "1.0.0").event("deployment.*").build()
    }

    fn router(&self, ctx: PluginContext) -> axum::Router {
        axum::Router::new()
            .route("/ping", get(|| async { "pong" }))
            .route("/rtt", get(round_trips))
            .route("/pipelined", get(pipelined))
            .route("/wait", get(wait))
            .with_state(Context { plugin: ctx, counter: self.counter.clone() })
    }

    fn on_event(&self, _ctx: &PluginContext, _event: PluginEvent) {
        self.counter.received.fetch_add(1, Ordering::Relaxed);
        self.counter.changed.notify_waiters();
    }
}

/// Asks for a project `n` times, one after the other; answers with the nanoseconds of each.
async fn round_trips(
    State(context): State<Context>,
    Query(rounds): Query<Rounds>,
) -> Result<Json<Vec<u64>>, String> {
    let mut nanos = Vec::with_capacity(rounds.n);
    for _ in 0..rounds.n {
        let begin = Instant::now();
        context.plugin.platform().get_project(1).await.map_err(|error| error.to_string())?;
        nanos.push(begin.elapsed().as_nanos() as u64);
    }
    Ok(Json(nanos))
}

/// Asks for a project `n` times, `width` at once; answers with requests per second.
async fn pipelined(
    State(context): State<Context>,
    Query(rounds): Query<Rounds>,
) -> Result<Json<f64>, String> {
    let begin = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..rounds.width {
        let plugin = context.plugin.clone();
        let share = rounds.n / rounds.width;
        tasks.spawn(async move {
            for _ in 0..share {
                plugin.platform().get_project(1).await.map_err(|error| error.to_string())?;
            }
            Ok::<_, String>(share)
        });
    }
    let mut done = 0;
    while let Some(task) = tasks.join_next().await {
        done += task.map_err(|error| error.to_string())??;
    }
    Ok(Json(done as f64 / begin.elapsed().as_secs_f64()))
}

/// Answers once `count` events have been handled.
async fn wait(State(context): State<Context>, Query(wait): Query<Wait>) -> String {
    loop {
        let changed = context.counter.changed.notified();
        let received = context.counter.received.load(Ordering::Relaxed);
        if received >= wait.count {
            return received.to_string();
        }
        changed.await;
    }
}

/// The name that the rig wrote behind the executable's last byte.
fn own_name() -> String {
    let tail = read_tail().unwrap_or_default();
    tail.rsplit_once("BENCH-NAME:").map_or_else(|| "bench".to_owned(), |(_, name)| name.trim().to_owned())
}

fn read_tail() -> std::io::Result<String> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = std::fs::File::open("/proc/self/exe")?;
    file.seek(SeekFrom::End(-128))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    Ok(String::from_utf8_lossy(&tail).into_owned())
}

/// A plugin named `plain-…` is one that knows nothing of acks: it starts itself again without being told of them.
fn main() -> std::process::ExitCode {
    let offered = std::env::var_os("TEMPS_FEATURES").is_some_and(|features| !features.is_empty());
    if offered && own_name().starts_with("plain") {
        use std::os::unix::process::CommandExt;
        let mut again = std::process::Command::new("/proc/self/exe");
        let error = again.args(std::env::args_os().skip(1)).env_remove("TEMPS_FEATURES").exec();
        tracing::error!(%error, "the plugin cannot start itself again");
        return std::process::ExitCode::FAILURE;
    }
    temps_plugin_sdk::run_plugin(BenchPlugin { name: own_name(), counter: Counter::default() })
}
