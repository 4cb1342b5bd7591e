//! `temps deployment`: what a CI reports, and what became of it.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use temps_server::api::deployments::{
    Deployment, DeploymentChange, DeploymentQuery, DeploymentReport, DeploymentState,
};

use crate::arguments::Limit;
use crate::client::Client;
use crate::exit::Failure;
use crate::output::{Output, or_dash, record, table, time, time_or_dash};

/// Time between two looks while `--wait` waits.
const WAIT_INTERVAL: Duration = Duration::from_millis(500);

/// What can be done with deployments.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Report a deployment; project and environment are made when they do not exist
    ///
    /// With --external-id the same deployment can be reported as often as one likes: the same report again changes
    /// nothing, and a later state moves it on.
    Report(Report),
    /// List deployments, newest first
    List {
        /// Only of this project, by slug or id
        #[arg(long, short)]
        project: Option<String>,
        /// Only of environments of this name
        #[arg(long, short)]
        environment: Option<String>,
        /// Only in this state
        #[arg(long, short)]
        state: Option<State>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Show one deployment
    Show {
        /// Id of the deployment
        id: i32,
    },
    /// Move a deployment on
    Update {
        /// Id of the deployment
        id: i32,
        /// Where it stands now
        #[arg(long, short)]
        state: State,
        /// The URL that it serves
        #[arg(long, value_name = "URL")]
        site: Option<String>,
        /// Why it failed, with --state failed
        #[arg(long, value_name = "TEXT")]
        error: Option<String>,
    },
}

/// What a CI says of a deployment.
#[derive(Debug, Args)]
pub(crate) struct Report {
    /// Slug of the project
    #[arg(long, short)]
    project: String,
    /// Name of the environment; `production` when left out
    #[arg(long, short)]
    environment: Option<String>,
    /// The reporter's own id, unique within the project
    #[arg(long, value_name = "ID")]
    external_id: Option<String>,
    /// Where it stands; `deploying` with --probe, otherwise `pending`
    #[arg(long, short)]
    state: Option<State>,
    /// The URL that it serves
    // A name of its own, because --url is the daemon's address everywhere.
    #[arg(long, value_name = "URL")]
    site: Option<String>,
    /// Let the daemon ask the site: ready once it answers, succeeded once it has stayed healthy
    #[arg(long, requires = "site")]
    probe: bool,
    /// Branch that was deployed
    #[arg(long)]
    branch: Option<String>,
    /// Tag that was deployed
    #[arg(long)]
    tag: Option<String>,
    /// Commit that was deployed
    #[arg(long, value_name = "SHA")]
    commit: Option<String>,
    /// The commit's message
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
    /// Who wrote the commit
    #[arg(long, value_name = "NAME")]
    author: Option<String>,
    /// Why it failed, with --state failed
    #[arg(long, value_name = "TEXT")]
    error: Option<String>,
    /// Wait until it has succeeded; fail when it has failed or was cancelled
    #[arg(long)]
    wait: bool,
}

/// Where a deployment stands.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum State {
    /// Known, and nothing done yet
    Pending,
    /// Being built
    Building,
    /// Built, and being brought up
    Deploying,
    /// Passed its health check and serves traffic
    Ready,
    /// Live and healthy
    Succeeded,
    /// Did not get there
    Failed,
    /// Given up by somebody
    Cancelled,
}

impl From<State> for DeploymentState {
    fn from(state: State) -> Self {
        match state {
            State::Pending => Self::Pending,
            State::Building => Self::Building,
            State::Deploying => Self::Deploying,
            State::Ready => Self::Ready,
            State::Succeeded => Self::Succeeded,
            State::Failed => Self::Failed,
            State::Cancelled => Self::Cancelled,
        }
    }
}

/// Does what was asked.
pub(crate) async fn run(command: Command, client: &Client, output: Output) -> Result<(), Failure> {
    match command {
        Command::Report(report) => {
            let wait = report.wait;
            let deployment: Deployment = client.post(&["api", "deployments"], &body(report)).await?;
            let deployment = if wait { end(client, output, deployment).await? } else { deployment };
            output.data(&deployment, one)?;
            if wait { succeeded(&deployment) } else { Ok(()) }
        }
        Command::List { project, environment, state, limit } => {
            let query = DeploymentQuery {
                project,
                environment,
                state: state.map(Into::into),
                ..DeploymentQuery::default()
            };
            let page = client.list::<Deployment>(&["api", "deployments"], &query, limit.limit).await?;
            output.data(&page, |page| deployments(&page.items))
        }
        Command::Show { id } => {
            let deployment: Deployment = client.get(&["api", "deployments", &id.to_string()]).await?;
            output.data(&deployment, one)
        }
        Command::Update { id, state, site, error } => {
            let change = DeploymentChange { state: state.into(), url: site, error_message: error };
            let deployment: Deployment =
                client.patch(&["api", "deployments", &id.to_string()], &change).await?;
            output.data(&deployment, one)
        }
    }
}

fn body(report: Report) -> DeploymentReport {
    DeploymentReport {
        project: report.project,
        environment: report.environment,
        external_id: report.external_id,
        state: report.state.map(Into::into),
        url: report.site,
        branch: report.branch,
        tag: report.tag,
        commit_sha: report.commit,
        message: report.message,
        author: report.author,
        error_message: report.error,
        probe: report.probe.then_some(true),
    }
}

/// The deployment once it is in a state that it keeps. `--timeout` bounds the wait; without a probe, somebody else has
/// to report the end.
async fn end(client: &Client, output: Output, mut deployment: Deployment) -> Result<Deployment, Failure> {
    let id = deployment.id.to_string();
    while !deployment.state.is_final() {
        tokio::time::sleep(WAIT_INTERVAL).await;
        let before = deployment.state;
        deployment = client.get(&["api", "deployments", &id]).await?;
        if deployment.state != before {
            output.say(&format!("deployment {id} is {}", deployment.state));
        }
    }
    Ok(deployment)
}

fn succeeded(deployment: &Deployment) -> Result<(), Failure> {
    if deployment.state == DeploymentState::Succeeded {
        return Ok(());
    }
    let why = deployment.error_message.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    let message = format!("deployment {} is {}{why}", deployment.id, deployment.state);
    Err(Failure::other("deployment_not_succeeded", message))
}

fn deployments(deployments: &[Deployment]) -> String {
    let rows = deployments.iter().map(|deployment| {
        [
            deployment.id.to_string(),
            deployment.project.clone(),
            deployment.environment.clone(),
            deployment.state.to_string(),
            or_dash(deployment.url.as_deref()),
            time(deployment.created_at),
        ]
    });
    table(["ID", "PROJECT", "ENVIRONMENT", "STATE", "URL", "REPORTED"], rows)
}

fn one(deployment: &Deployment) -> String {
    record([
        ("id", Some(deployment.id.to_string())),
        ("project", Some(deployment.project.clone())),
        ("environment", Some(deployment.environment.clone())),
        ("state", Some(deployment.state.to_string())),
        ("error", deployment.error_message.clone()),
        ("url", deployment.url.clone()),
        ("probed", deployment.probe.then(|| "yes".into())),
        ("external id", deployment.external_id.clone()),
        ("branch", deployment.branch.clone()),
        ("tag", deployment.tag.clone()),
        ("commit", deployment.commit_sha.clone()),
        ("message", deployment.commit_message.clone()),
        ("author", deployment.commit_author.clone()),
        ("reported", Some(time(deployment.created_at))),
        ("ready", Some(time_or_dash(deployment.ready_at))),
        ("finished", Some(time_or_dash(deployment.finished_at))),
    ])
}
