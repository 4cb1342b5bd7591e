//! What the simulated platform has: projects with their environments and deployments, and the plugin's settings, from a file
//! that the author edits.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};
use temps_server::api::config::PluginConfig;
use temps_server::api::deployments::{Deployment, DeploymentReport, DeploymentState};
use temps_server::api::projects::{NewProject, Project};

use crate::author::build::cannot;
use crate::author::project::read;
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// Name of the file in a plugin's project.
pub(super) const FILE: &str = "temps-dev.toml";

/// The file that is made where there is none.
const SAMPLE: &str = "\
# What the platform of `temps plugin dev` has. Edit it while it runs; changes are taken over.

# Settings of the plugin, by name, as its manifest declares them.
[config]

[[project]]
slug = \"my-app\"
name = \"My App\"
environments = [\"production\", \"staging\"]

# Deployments that were there before the plugin.
[[project.deployment]]
environment = \"production\"
state = \"succeeded\"
branch = \"main\"
commit_sha = \"a1b2c3d\"
url = \"https://my-app.example.com\"
";

/// What the file says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct World {
    #[serde(default)]
    config: Map<String, Value>,
    #[serde(default)]
    project: Vec<ProjectEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProjectEntry {
    slug: String,
    name: Option<String>,
    #[serde(default)]
    environments: Vec<String>,
    #[serde(default)]
    deployment: Vec<DeploymentEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeploymentEntry {
    environment: Option<String>,
    state: Option<DeploymentState>,
    branch: Option<String>,
    commit_sha: Option<String>,
    message: Option<String>,
    author: Option<String>,
    url: Option<String>,
}

/// Makes the file where there is none.
pub(super) fn ensure(directory: &Path, output: Output) -> Result<(), Failure> {
    let path = directory.join(FILE);
    if path.exists() {
        return Ok(());
    }
    std::fs::write(&path, SAMPLE).map_err(|error| cannot(&path, &error))?;
    output.say(&format!("made {}: what the simulated platform has", path.display()));
    Ok(())
}

impl World {
    /// Reads the file of a project.
    pub(super) fn read(directory: &Path) -> Result<Self, Failure> {
        let path: PathBuf = directory.join(FILE);
        toml::from_str(&read(&path)?).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
    }

    /// The project that events are sent for.
    pub(super) fn first_project(&self) -> Option<&str> {
        self.project.first().map(|project| project.slug.as_str())
    }

    /// Makes what is missing, changes what differs, and removes what the file no longer has.
    pub(super) async fn apply(&self, client: &Client) -> Result<(), Failure> {
        let known = client.list::<Project>(&["api", "projects"], &(), u32::MAX).await?.items;
        for gone in known.iter().filter(|known| !self.project.iter().any(|one| one.slug == known.slug)) {
            let _: Value = client.delete(&["api", "projects", &gone.slug], &()).await?;
        }
        for project in &self.project {
            if !known.iter().any(|known| known.slug == project.slug) {
                let name = project.name.clone().unwrap_or_else(|| project.slug.clone());
                let new = NewProject { name, slug: Some(project.slug.clone()), ..NewProject::default() };
                let _: Project = client.post(&["api", "projects"], &new).await?;
            }
            project.apply(client).await?;
        }
        Ok(())
    }

    /// Gives the plugin the settings that the file has.
    pub(super) async fn configure(&self, plugin: &str, client: &Client) -> Result<(), Failure> {
        if self.config.is_empty() {
            return Ok(());
        }
        let _: PluginConfig = client.patch(&["api", "plugins", plugin, "config"], &self.config).await?;
        Ok(())
    }
}

impl ProjectEntry {
    async fn apply(&self, client: &Client) -> Result<(), Failure> {
        for name in &self.environments {
            let new = serde_json::json!({"project": self.slug, "name": name});
            match client.post::<Value>(&["api", "environments"], &new).await {
                Err(failure) if failure.exit != Exit::Conflict => return Err(failure),
                _ => {}
            }
        }
        for (number, entry) in self.deployment.iter().enumerate() {
            let report = DeploymentReport {
                project: self.slug.clone(),
                environment: entry.environment.clone(),
                // By its place in the file, so that the same entry again changes nothing.
                external_id: Some(format!("temps-dev-{number}")),
                state: entry.state,
                url: entry.url.clone(),
                branch: entry.branch.clone(),
                commit_sha: entry.commit_sha.clone(),
                message: entry.message.clone(),
                author: entry.author.clone(),
                ..DeploymentReport::default()
            };
            match client.post::<Deployment>(&["api", "deployments"], &report).await {
                // A deployment that has ended stays as it was.
                Err(failure) if failure.exit != Exit::Conflict => return Err(failure),
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_valid_and_a_slip_is_named() {
        let world: World = toml::from_str(SAMPLE).unwrap();
        assert_eq!(world.first_project(), Some("my-app"));
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(FILE), "[[project]]\nslug = \"a\"\nenvironment = []\n").unwrap();
        let failure = World::read(directory.path()).unwrap_err();
        assert!(
            failure.message.contains("temps-dev.toml") && failure.message.contains("environment"),
            "{failure}"
        );
    }
}
