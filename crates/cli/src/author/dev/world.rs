//! What the simulated platform has: projects with their environments and deployments, and the plugin's settings, from a file
//! that the author edits.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};
use temps_server::api::config::PluginConfig;
use temps_server::api::deployments::{Deployment, DeploymentReport, DeploymentState};
use temps_server::api::projects::{Environment, EnvironmentQuery, NewProject, Project};

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

# Settings of the plugin, by name, as its manifest declares them; also secret ones, so give it none that matter.
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

    /// Makes what is missing, changes what differs, and removes what `before` had and this one has not. What is removed goes
    /// last, so that a file that cannot be taken over removes nothing.
    pub(super) async fn apply(&self, before: &Self, client: &Client) -> Result<(), Failure> {
        let known = client.list::<Project>(&["api", "projects"], &(), u32::MAX).await?.items;
        for project in &self.project {
            match known.iter().find(|known| known.slug == project.slug) {
                Some(known) if known.name == project.name() => {}
                // A platform has no other way to a new name.
                Some(known) => {
                    let _: Value = client.delete(&["api", "projects", &known.slug], &()).await?;
                    project.create(client).await?;
                }
                None => project.create(client).await?,
            }
            project.apply(client).await?;
        }
        for gone in known.iter().filter(|known| self.find(&known.slug).is_none()) {
            let _: Value = client.delete(&["api", "projects", &gone.slug], &()).await?;
        }
        for (old, new) in before.project.iter().filter_map(|old| Some((old, self.find(&old.slug)?))) {
            new.remove_what_is_gone(old, client).await?;
        }
        Ok(())
    }

    fn find(&self, slug: &str) -> Option<&ProjectEntry> {
        self.project.iter().find(|project| project.slug == slug)
    }

    /// Gives the plugin the settings that the file has, and takes back those that were `given` and are not in it any more.
    pub(super) async fn configure(
        &self,
        plugin: &str,
        given: &Map<String, Value>,
        client: &Client,
    ) -> Result<Map<String, Value>, Failure> {
        let gone = given.keys().filter(|name| !self.config.contains_key(*name));
        let mut change: Map<String, Value> = gone.map(|name| (name.clone(), Value::Null)).collect();
        change.extend(self.config.clone());
        let _: PluginConfig = client.patch(&["api", "plugins", plugin, "config"], &change).await?;
        Ok(self.config.clone())
    }

    /// The settings that the file has.
    pub(super) fn config(&self) -> &Map<String, Value> {
        &self.config
    }
}

impl ProjectEntry {
    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.slug)
    }

    async fn create(&self, client: &Client) -> Result<(), Failure> {
        let (name, slug) = (self.name().to_owned(), Some(self.slug.clone()));
        let new = NewProject { name, slug, ..NewProject::default() };
        client.post::<Project>(&["api", "projects"], &new).await.map(drop)
    }

    /// Makes the environments and deployments that are not there yet.
    async fn apply(&self, client: &Client) -> Result<(), Failure> {
        for name in &self.environments {
            let new = serde_json::json!({"project": self.slug, "name": name});
            match client.post::<Value>(&["api", "environments"], &new).await {
                Err(failure) if failure.exit != Exit::Conflict => return Err(failure),
                _ => {}
            }
        }
        for (number, entry) in self.deployment.iter().enumerate() {
            entry.apply(&self.slug, number, client).await?;
        }
        Ok(())
    }

    /// Removes the environments that an earlier file had.
    async fn remove_what_is_gone(&self, before: &Self, client: &Client) -> Result<(), Failure> {
        let is_used = |name: &String| self.deployment.iter().any(|entry| entry.environment() == name);
        let is_gone = |name: &String| {
            before.environments.contains(name) && !self.environments.contains(name) && !is_used(name)
        };
        let query = EnvironmentQuery { project: Some(self.slug.clone()), ..EnvironmentQuery::default() };
        let known = client.list::<Environment>(&["api", "environments"], &query, u32::MAX).await?.items;
        for gone in known.iter().filter(|known| is_gone(&known.name)) {
            let _: Value = client.delete(&["api", "environments", &gone.id.to_string()], &()).await?;
        }
        Ok(())
    }
}

impl DeploymentEntry {
    /// Where a platform puts it.
    fn environment(&self) -> &str {
        self.environment.as_deref().unwrap_or("production")
    }

    /// Reports it under its place in the file, so that the same entry again changes nothing.
    async fn apply(&self, project: &str, number: usize, client: &Client) -> Result<(), Failure> {
        let id = format!("temps-dev-{number}");
        match self.report(project, id.clone(), client).await {
            Ok(known) if self.state.is_none_or(|state| state == known.state) => Ok(()),
            // A deployment does not go back, and does not move: what the entry says now is another one.
            Err(failure) if failure.exit != Exit::Conflict => Err(failure),
            _ => {
                let state = self.state.map_or("pending", DeploymentState::as_str);
                let id = format!("{id}-{}-{state}", self.environment());
                self.report(project, id, client).await.map(drop)
            }
        }
    }

    async fn report(&self, project: &str, id: String, client: &Client) -> Result<Deployment, Failure> {
        let report = DeploymentReport {
            project: project.to_owned(),
            environment: self.environment.clone(),
            external_id: Some(id),
            state: self.state,
            url: self.url.clone(),
            branch: self.branch.clone(),
            commit_sha: self.commit_sha.clone(),
            message: self.message.clone(),
            author: self.author.clone(),
            ..DeploymentReport::default()
        };
        client.post(&["api", "deployments"], &report).await
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
