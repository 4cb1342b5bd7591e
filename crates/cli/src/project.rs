//! `temps project`: projects of the platform.

use clap::Subcommand;
use serde_json::{Value, json};
use temps_server::api::page::PageQuery;
use temps_server::api::projects::{NewProject, Project};

use crate::arguments::Limit;
use crate::client::Client;
use crate::exit::Failure;
use crate::output::{Output, or_dash, record, table, time, time_or_dash};

/// What can be done with projects.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List projects
    List(Limit),
    /// Show one project
    Show {
        /// Slug or id
        project: String,
    },
    /// Register a project
    Create {
        /// Name for people
        name: String,
        /// Name for URLs; made from the name when left out
        #[arg(long)]
        slug: Option<String>,
        /// Source repository, as OWNER/NAME
        #[arg(long, value_name = "OWNER/NAME")]
        repo: Option<String>,
        /// Branch that production is built from; `main` when left out
        #[arg(long, value_name = "BRANCH")]
        main_branch: Option<String>,
        /// How the project is built, for example `nextjs`
        #[arg(long)]
        preset: Option<String>,
    },
    /// Delete a project with its environments and deployments
    Delete {
        /// Slug or id
        project: String,
        /// Really delete it
        #[arg(long)]
        yes: bool,
    },
}

/// Does what was asked.
pub(crate) async fn run(command: Command, client: &Client, output: Output) -> Result<(), Failure> {
    match command {
        Command::List(Limit { limit }) => {
            let page = client.list::<Project>(&["api", "projects"], &PageQuery::default(), limit).await?;
            output.data(&page, |page| projects(&page.items))
        }
        Command::Show { project } => {
            let project: Project = client.get(&["api", "projects", &project]).await?;
            output.data(&project, one)
        }
        Command::Create { name, slug, repo, main_branch, preset } => {
            let (repo_owner, repo_name) = split_repo(repo)?;
            let new = NewProject { name, slug, repo_owner, repo_name, main_branch, preset };
            let project: Project = client.post(&["api", "projects"], &new).await?;
            output.data(&project, one)
        }
        Command::Delete { project, yes } => {
            confirmed(yes, &format!("the project {project} with its environments and deployments"))?;
            let _: Value = client.delete(&["api", "projects", &project], &()).await?;
            output.data(&json!({ "deleted": project }), |_| format!("deleted {project}"))
        }
    }
}

/// Refuses to delete without `--yes`. Asking would hang scripts, and deleting at once would surprise people.
pub(crate) fn confirmed(yes: bool, what: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    Err(Failure::usage(format!("this would delete {what}")).hint("say --yes when that is meant"))
}

fn split_repo(repo: Option<String>) -> Result<(Option<String>, Option<String>), Failure> {
    let Some(repo) = repo else { return Ok((None, None)) };
    match repo.split_once('/') {
        Some((owner, name)) if !owner.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok((Some(owner.to_owned()), Some(name.to_owned())))
        }
        _ => Err(Failure::usage(format!("{repo:?} is not a repository")).hint("write it as OWNER/NAME")),
    }
}

fn projects(projects: &[Project]) -> String {
    let rows = projects.iter().map(|project| {
        [
            project.id.to_string(),
            project.slug.clone(),
            project.name.clone(),
            time_or_dash(project.last_deployment),
        ]
    });
    table(["ID", "SLUG", "NAME", "LAST DEPLOYMENT"], rows)
}

fn one(project: &Project) -> String {
    let repo =
        (!project.repo_name.is_empty()).then(|| format!("{}/{}", project.repo_owner, project.repo_name));
    record([
        ("id", Some(project.id.to_string())),
        ("slug", Some(project.slug.clone())),
        ("name", Some(project.name.clone())),
        ("repository", Some(or_dash(repo.as_deref()))),
        ("main branch", Some(project.main_branch.clone())),
        ("preset", Some(project.preset.clone()).filter(|preset| !preset.is_empty())),
        ("created", Some(time(project.created_at))),
        ("last deployment", Some(time_or_dash(project.last_deployment))),
    ])
}
