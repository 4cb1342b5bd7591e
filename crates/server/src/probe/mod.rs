//! The prober: asks deployments that want it whether they are healthy, and moves them on.
//!
//! The host itself opens the URL, from the place where the daemon runs, loopback included; that is why only admins may
//! report. It follows no redirect, sends no credentials, and reads no body. What it learns becomes a state and nothing
//! else. Which deployments are asked stands in the database, so a restart takes them up again.

mod watch;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use temps_store::DeploymentRecord;
use tokio::sync::Notify;
use tokio::task::{Id, JoinSet};

use crate::api::deployments::{DeploymentChange, DeploymentState};
use crate::app::App;
use crate::platform::ChangeError;
use watch::{Answer, Decision, Watch};

/// Deployments that are asked at the same time; further ones wait for the next look.
const MAX_WATCHED: usize = 256;

/// Deployments that are read from the database at once.
const BATCH: u32 = 100;

/// Time between two looks for deployments to probe, when nobody says that there are new ones.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Says to the prober that there may be new deployments. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Prober {
    wake: Arc<Notify>,
}

impl Prober {
    /// Lets the prober look at once.
    pub(crate) fn look_now(&self) {
        self.wake.notify_one();
    }
}

/// Why nothing can be probed.
#[derive(Debug, thiserror::Error)]
#[error("the client that probes deployments cannot be made: {0}")]
pub struct ProberError(String);

/// The client that asks deployments.
pub(crate) fn client() -> Result<reqwest::Client, ProberError> {
    // Somebody else in this process may have chosen a provider before; that one is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(1)
        .user_agent(concat!("temps-probe/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| ProberError(error.to_string()))
}

/// Probes until the daemon is being stopped.
pub(crate) async fn run(app: App, client: reqwest::Client) {
    let mut tasks = JoinSet::new();
    let mut watched: HashMap<Id, i32> = HashMap::new();
    while !app.closing().is_cancelled() {
        begin(&app, &client, &mut tasks, &mut watched).await;
        app.metrics().probed.set(i64::try_from(watched.len()).unwrap_or(i64::MAX));
        tokio::select! {
            () = app.closing().cancelled() => break,
            () = app.prober().wake.notified() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
            Some(ended) = tasks.join_next_with_id() => {
                let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
                watched.remove(&id);
            }
        }
    }
    tasks.shutdown().await;
}

/// Begins to watch what wants it and is not watched.
async fn begin(app: &App, client: &reqwest::Client, tasks: &mut JoinSet<()>, watched: &mut HashMap<Id, i32>) {
    let mut after = 0;
    loop {
        let page = match app.platform().store().probed(after, BATCH).await {
            Ok(page) => page,
            Err(error) => {
                tracing::warn!(%error, "deployments to probe could not be read; the next look comes by itself");
                return;
            }
        };
        let Some(last) = page.last() else { return };
        after = last.info.id;
        for record in page {
            let id = record.info.id;
            let wanted = wanted(&record).is_some() && !watched.values().any(|watched| *watched == id);
            if wanted && watched.len() < MAX_WATCHED {
                let handle = tasks.spawn(follow(app.clone(), client.clone(), id));
                watched.insert(handle.id(), id);
            }
        }
    }
}

/// State and URL of a deployment that is to be asked now. Before `deploying`, what answers at the URL is the one before.
fn wanted(record: &DeploymentRecord) -> Option<(DeploymentState, &str)> {
    let state = DeploymentState::parse(&record.info.state)?;
    let asked = matches!(state, DeploymentState::Deploying | DeploymentState::Ready);
    let url = record.info.url.as_deref()?;
    (record.probe && asked).then_some((state, url))
}

/// Asks one deployment until it has ended, or wants it no more.
async fn follow(app: App, client: reqwest::Client, id: i32) {
    let mut watch = Watch::new(Instant::now());
    loop {
        let policy = app.config().probe;
        let record = app.platform().deployment(id).await;
        let Ok(record) = record else { return tokio::time::sleep(policy.interval).await };
        let Some((state, url)) = wanted(&record) else { return };
        let answer = ask(&client, url, policy.timeout).await;
        app.metrics().count_probe(answer == Answer::Healthy);
        let (state, error_message) = match watch.step(state, answer, Instant::now(), &policy) {
            Decision::Wait => {
                tokio::time::sleep(policy.interval).await;
                continue;
            }
            Decision::Ready => (DeploymentState::Ready, None),
            Decision::Succeeded => (DeploymentState::Succeeded, None),
            Decision::Failed(reason) => (DeploymentState::Failed, Some(reason)),
        };
        let change = DeploymentChange { state, url: None, error_message };
        match app.platform().change_deployment(id, change).await {
            Ok(_) => {}
            // Somebody else moved it on meanwhile; the next turn sees where it stands.
            Err(ChangeError::Refused(_)) => {}
            Err(error) => {
                tracing::warn!(%error, deployment = id, "a probed deployment could not be moved on")
            }
        }
        tokio::time::sleep(policy.interval).await;
    }
}

async fn ask(client: &reqwest::Client, url: &str, timeout: Duration) -> Answer {
    match client.get(url).timeout(timeout).send().await {
        Ok(response) if response.status().is_success() || response.status().is_redirection() => {
            Answer::Healthy
        }
        Ok(response) => Answer::Unhealthy(format!("it answered {}", response.status())),
        Err(error) if error.is_timeout() => Answer::Unhealthy("it did not answer in time".to_owned()),
        Err(error) if error.is_connect() => Answer::Unhealthy("it could not be connected to".to_owned()),
        Err(error) => Answer::Unhealthy(error.without_url().to_string()),
    }
}
