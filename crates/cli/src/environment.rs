//! `temps environment`: environments of projects.

use clap::Subcommand;
use serde_json::{Value, json};
use temps_server::api::projects::{Environment, EnvironmentQuery, NewEnvironment};

use crate::arguments::Limit;
use crate::client::Client;
use crate::exit::Failure;
use crate::output::{Output, or_dash, record, table, time};
use crate::project::confirmed;

/// What can be done with environments.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List environments
    List {
        /// Only of this project, by slug or id
        #[arg(long, short)]
        project: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Show one environment
    Show {
        /// Id of the environment
        id: i32,
    },
    /// Make an environment
    Create {
        /// The project, by slug or id
        project: String,
        /// Name for people, for example `staging`
        name: String,
        /// Branch that is deployed there
        #[arg(long)]
        branch: Option<String>,
        /// It is for a branch or pull request
        #[arg(long)]
        preview: bool,
    },
    /// Delete an environment
    Delete {
        /// Id of the environment
        id: i32,
        /// Really delete it
        #[arg(long)]
        yes: bool,
    },
}

/// Does what was asked.
pub(crate) async fn run(command: Command, client: &Client, output: Output) -> Result<(), Failure> {
    match command {
        Command::List { project, limit } => {
            let query = EnvironmentQuery { project, ..EnvironmentQuery::default() };
            let page = client.list::<Environment>(&["api", "environments"], &query, limit.limit).await?;
            output.data(&page, |page| environments(&page.items))
        }
        Command::Show { id } => {
            let environment: Environment = client.get(&["api", "environments", &id.to_string()]).await?;
            output.data(&environment, one)
        }
        Command::Create { project, name, branch, preview } => {
            let new = NewEnvironment { project, name, branch, is_preview: preview };
            let environment: Environment = client.post(&["api", "environments"], &new).await?;
            output.data(&environment, one)
        }
        Command::Delete { id, yes } => {
            confirmed(yes, &format!("the environment {id} with its deployments"))?;
            let _: Value = client.delete(&["api", "environments", &id.to_string()], &()).await?;
            output.data(&json!({ "deleted": id }), |_| format!("deleted {id}"))
        }
    }
}

fn environments(environments: &[Environment]) -> String {
    let rows = environments.iter().map(|environment| {
        [
            environment.id.to_string(),
            environment.project.clone(),
            environment.name.clone(),
            or_dash(environment.branch.as_deref()),
            environment.current_deployment_id.map_or_else(|| "-".into(), |id| id.to_string()),
        ]
    });
    table(["ID", "PROJECT", "NAME", "BRANCH", "DEPLOYMENT"], rows)
}

fn one(environment: &Environment) -> String {
    record([
        ("id", Some(environment.id.to_string())),
        ("project", Some(environment.project.clone())),
        ("name", Some(environment.name.clone())),
        ("slug", Some(environment.slug.clone())),
        ("branch", environment.branch.clone()),
        ("preview", environment.is_preview.then(|| "yes".into())),
        ("deployment", environment.current_deployment_id.map(|id| id.to_string())),
        ("created", Some(time(environment.created_at))),
    ])
}
