//! The demonstration: a small local site that is deployed again and again, so that a newcomer sees events, data and
//! routes flow. It runs only when it was asked for, and everything it makes up says that it is a demonstration.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::Html;
use axum::routing::get;
use temps_store::DeploymentFilter;
use tokio::net::TcpListener;

use crate::api::deployments::{DeploymentChange, DeploymentReport, DeploymentState};
use crate::app::App;
use crate::platform::{ChangeError, Refusal};

/// The demonstrated project.
const PROJECT: &str = "demo-shop";

/// Unfinished deployments of each state that are cancelled at the start; one demonstration leaves one or two.
const LEFTOVERS: u32 = 100;

/// Time between two commits of the demonstration.
const COMMIT_EVERY: Duration = Duration::from_secs(20);

/// How long a demonstrated build takes.
const BUILD: Duration = Duration::from_secs(2);

/// Every so many commits, one does not build.
const FAILING: u32 = 4;

/// What the demonstrated commits say, and who wrote them.
const COMMITS: [(&str, &str); 6] = [
    ("Show prices with tax", "Ada"),
    ("Load pictures when they are seen", "Grace"),
    ("Remember the basket for a week", "Linus"),
    ("Say what went wrong at checkout", "Barbara"),
    ("Speak Portuguese", "Edsger"),
    ("Sort reviews by date", "Margaret"),
];

/// Serves the site and deploys it until the daemon is being stopped.
pub(crate) async fn run(app: App) {
    let version = Arc::new(AtomicU32::new(0));
    let (listener, url) = match open().await {
        Ok(opened) => opened,
        Err(error) => {
            tracing::warn!(%error, "the demonstration's site cannot be served; there is no demonstration");
            return;
        }
    };
    let site = Router::new().route("/", get(page)).with_state(version.clone());
    let closing = app.closing().clone();
    let serving = axum::serve(listener, site).with_graceful_shutdown(closing.clone().cancelled_owned());
    let deploying = async {
        if let Err(error) = cancel_leftovers(&app).await {
            tracing::warn!(%error, "what an earlier demonstration left unfinished stays as it is");
        }
        for number in 1.. {
            if let Err(error) = commit(&app, &url, number, &version).await {
                tracing::warn!(%error, "a deployment of the demonstration was not taken");
            }
            tokio::select! {
                () = closing.cancelled() => return,
                () = tokio::time::sleep(COMMIT_EVERY) => {}
            }
        }
    };
    let (served, ()) = tokio::join!(serving.into_future(), deploying);
    if let Err(error) = served {
        tracing::warn!(%error, "the demonstration's site ended");
    }
}

async fn open() -> std::io::Result<(TcpListener, String)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    Ok((listener, url))
}

/// Cancels what an earlier demonstration left unfinished: its site is gone.
async fn cancel_leftovers(app: &App) -> Result<(), ChangeError> {
    let project = match app.platform().project(PROJECT).await {
        Err(ChangeError::Refused(Refusal::NoProject(_))) => return Ok(()),
        found => found?,
    };
    for state in DeploymentState::ALL.into_iter().filter(|state| !state.is_final()) {
        let filter = DeploymentFilter {
            project_id: Some(project.id),
            state: Some(state.as_str().to_owned()),
            limit: LEFTOVERS,
            ..DeploymentFilter::default()
        };
        for left in app.platform().deployments(filter).await? {
            let change =
                DeploymentChange { state: DeploymentState::Cancelled, url: None, error_message: None };
            app.platform().change_deployment(left.info.id, change).await?;
        }
    }
    Ok(())
}

/// Reports one commit as a CI would: building first, then brought up and probed, or failed.
async fn commit(app: &App, url: &str, number: u32, version: &AtomicU32) -> Result<(), ChangeError> {
    let (message, author) = COMMITS[number as usize % COMMITS.len()];
    let report = DeploymentReport {
        project: PROJECT.into(),
        environment: Some("production".into()),
        state: Some(DeploymentState::Building),
        url: Some(url.to_owned()),
        branch: Some("main".into()),
        commit_sha: Some(sha(number)),
        message: Some(message.into()),
        author: Some(author.into()),
        probe: Some(true),
        ..DeploymentReport::default()
    };
    let id = app.platform().report(report).await?.record.info.id;
    tokio::time::sleep(BUILD).await;
    let change = if number.is_multiple_of(FAILING) {
        let error_message = Some("2 of 118 tests failed (demonstration)".to_owned());
        DeploymentChange { state: DeploymentState::Failed, url: None, error_message }
    } else {
        version.store(number, Ordering::Relaxed);
        DeploymentChange { state: DeploymentState::Deploying, url: None, error_message: None }
    };
    app.platform().change_deployment(id, change).await?;
    app.prober().look_now();
    Ok(())
}

/// Something that looks like a commit's hash.
fn sha(number: u32) -> String {
    let random = uuid::Uuid::new_v4().simple().to_string();
    format!("{random}{number:08x}")
}

async fn page(State(version): State<Arc<AtomicU32>>) -> Html<String> {
    let number = version.load(Ordering::Relaxed);
    Html(format!(
        "<!doctype html><meta charset=utf-8><title>Demo shop</title><h1>Demo shop</h1><p>Version {number}. \
         This page belongs to the demonstration of temps.</p>"
    ))
}
