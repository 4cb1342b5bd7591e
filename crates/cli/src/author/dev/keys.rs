//! What can be typed at `temps plugin dev`: a digit or a type for an event, a letter for everything else.

use temps_server::api::deployments::{Deployment, DeploymentReport, DeploymentState};
use temps_server::api::events::{NewEvent, PublishedEvent};
use temps_server::api::projects::Project as PlatformProject;

use super::scene::Line;
use super::stage::Stage;
use crate::exit::Failure;

/// Most events in the menu: one for each digit.
const MENU: usize = 9;

/// Events of the platform that are offered when the manifest names none of them exactly.
const COMMON: &[&str] = &[
    "deployment.succeeded",
    "deployment.failed",
    "deployment.created",
    "deployment.ready",
    "deployment.cancelled",
    "project.created",
    "project.deleted",
    "environment.created",
    "environment.deleted",
];

impl Stage {
    /// Does what was typed, without spaces around it.
    pub(super) async fn press(&mut self, typed: &str) -> Result<(), Failure> {
        match typed {
            "" => Ok(()),
            "h" | "?" | "help" => self.tell_menu(),
            "r" => self.build(),
            "g" => self.compare().await,
            digit if digit.len() == 1 && digit.as_bytes()[0].is_ascii_digit() => {
                let number = usize::from(digit.as_bytes()[0] - b'0');
                let event = number.checked_sub(1).and_then(|index| self.menu().get(index).cloned());
                match event {
                    Some(event) => self.send(&event, None).await,
                    None => self.tell_menu(),
                }
            }
            _ => {
                let (event, data) = typed.split_once(char::is_whitespace).unwrap_or((typed, ""));
                self.send(event, Some(data).filter(|data| !data.trim().is_empty())).await
            }
        }
    }

    /// The events that a digit sends: those that the manifest names, then those that it takes.
    fn menu(&self) -> Vec<String> {
        let Some(manifest) = self.manifest() else {
            return Vec::new();
        };
        let exact = manifest.events.iter().filter(|pattern| !pattern.contains('*')).cloned();
        let taken = COMMON.iter().filter(|event| manifest.wants(event)).map(|event| (*event).to_owned());
        let mut menu: Vec<String> = Vec::new();
        for event in exact.chain(taken) {
            if menu.len() < MENU && !menu.contains(&event) {
                menu.push(event);
            }
        }
        menu
    }

    /// Shows what can be typed.
    pub(super) fn tell_menu(&self) -> Result<(), Failure> {
        self.tell(&Line::Menu { events: self.menu() })
    }

    /// Lets an event happen: a deployment is really reported, anything else is published.
    async fn send(&self, event: &str, data: Option<&str>) -> Result<(), Failure> {
        let sent = match (deployment_state(event), data) {
            (Some(state), None) => self.deploy(state).await,
            _ => self.publish(event, data).await,
        };
        sent.or_else(|failure| self.problem(failure))
    }

    async fn deploy(&self, state: DeploymentState) -> Result<(), Failure> {
        let report = DeploymentReport {
            project: self.world.first_project().unwrap_or("my-app").to_owned(),
            state: Some(state),
            branch: Some("main".into()),
            commit_sha: Some("a1b2c3d".into()),
            url: Some("https://my-app.example.com".into()),
            error_message: (state == DeploymentState::Failed).then(|| "it was made to fail".into()),
            ..DeploymentReport::default()
        };
        self.client.post::<Deployment>(&["api", "deployments"], &report).await.map(drop)
    }

    async fn publish(&self, event: &str, data: Option<&str>) -> Result<(), Failure> {
        let data = data.map(serde_json::from_str).transpose();
        let data =
            data.map_err(|error| Failure::usage(format!("what follows the type is not JSON: {error}")))?;
        let project_id = match self.world.first_project() {
            Some(slug) => {
                self.client.get::<PlatformProject>(&["api", "projects", slug]).await.ok().map(|one| one.id)
            }
            None => None,
        };
        let new = NewEvent { id: None, event_type: event.to_owned(), timestamp: None, project_id, data };
        self.client.post::<PublishedEvent>(&["api", "events"], &new).await.map(drop)
    }
}

/// The state whose report leads to this event.
fn deployment_state(event: &str) -> Option<DeploymentState> {
    match event.strip_prefix("deployment.")? {
        "created" => Some(DeploymentState::Pending),
        word => DeploymentState::parse(word).filter(|state| {
            matches!(
                state,
                DeploymentState::Ready
                    | DeploymentState::Succeeded
                    | DeploymentState::Failed
                    | DeploymentState::Cancelled
            )
        }),
    }
}
