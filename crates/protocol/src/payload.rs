//! What stands in an event's `data`, for every type of the protocol, and typed reading of it.
//!
//! A payload has ids, names, addresses and words that a plugin acts on, and nothing of how a platform works inside. A reader
//! takes fields that it does not know, and payloads of smaller platforms that say only which deployment it was.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::PluginEvent;

/// The deployment that an event is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeploymentSubject {
    /// Id of the deployment.
    pub deployment_id: i32,
    /// Id of its project; the same as the event's own `project_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<i32>,
    /// Id of its environment. A platform that has environments always says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_id: Option<i32>,
    /// Name of its environment, for example `production`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_name: Option<String>,
    /// The id that whoever deploys has given it, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
}

/// `deployment.created`: a deployment was registered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeploymentCreated {
    /// Which deployment.
    #[serde(flatten)]
    pub deployment: DeploymentSubject,
    /// The commit that it builds, if known.
    #[serde(default)]
    pub commit_sha: Option<String>,
    /// The branch that it builds, if known.
    #[serde(default)]
    pub branch: Option<String>,
}

/// `deployment.ready`: it passed its health checks and serves traffic.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeploymentReady {
    /// Which deployment.
    #[serde(flatten)]
    pub deployment: DeploymentSubject,
    /// Where it is served, if known.
    #[serde(default)]
    pub url: Option<String>,
}

/// `deployment.succeeded`: it is live and healthy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeploymentSucceeded {
    /// Which deployment.
    #[serde(flatten)]
    pub deployment: DeploymentSubject,
    /// Where it is served, if known.
    #[serde(default)]
    pub url: Option<String>,
    /// The commit that it was built from, if known.
    #[serde(default)]
    pub commit_sha: Option<String>,
}

/// `deployment.failed`: it ended without success.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeploymentFailed {
    /// Which deployment.
    #[serde(flatten)]
    pub deployment: DeploymentSubject,
    /// Why, in one line for people, if known.
    #[serde(default)]
    pub error_message: Option<String>,
}

/// `deployment.cancelled`: it was called off, or its environment or project was removed before it had ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeploymentCancelled {
    /// Which deployment.
    #[serde(flatten)]
    pub deployment: DeploymentSubject,
}

/// The project that an event is about: `project.created`, `project.deleted`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProjectSubject {
    /// Id of the project.
    pub project_id: i32,
    /// Its name.
    pub project_name: String,
    /// The platform's own id, where that is not an integer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
}

/// The environment that an event is about: `environment.created`, `environment.deleted`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EnvironmentSubject {
    /// Id of the environment.
    pub environment_id: i32,
    /// Id of its project.
    pub project_id: i32,
    /// Its name, for example `production`.
    pub environment_name: String,
    /// The platform's own id, where that is not an integer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
}

/// Why a payload could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the data of {event_type} does not have its form: {reason}")]
pub struct PayloadError {
    /// Type of the event.
    pub event_type: String,
    /// What is wrong.
    pub reason: String,
}

/// Writes the types and their shapes down once.
macro_rules! payloads {
    ($($(#[$doc:meta])* $variant:ident($shape:ty) = $event_type:literal,)*) => {
        /// What an event says, by its type.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
        #[serde(untagged)]
        #[non_exhaustive]
        pub enum Payload {
            $($(#[$doc])* $variant($shape),)*
        }

        impl Payload {
            /// Every event type of the protocol.
            pub const EVENT_TYPES: &[&str] = &[$($event_type),*];

            /// The event type that this is the payload of.
            #[must_use]
            pub fn event_type(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $event_type,)*
                }
            }

            /// Reads the `data` of an event; `None` when the protocol does not know the type.
            ///
            /// # Errors
            /// [`PayloadError`] when the type is known and the data is not of its form.
            pub fn read(event_type: &str, data: &Value) -> Result<Option<Self>, PayloadError> {
                match event_type {
                    $($event_type => shape(event_type, data).map(|it| Some(Self::$variant(it))),)*
                    _ => Ok(None),
                }
            }
        }
    };
}

payloads! {
    /// A deployment was registered.
    DeploymentCreated(DeploymentCreated) = "deployment.created",
    /// It passed its health checks and serves traffic.
    DeploymentReady(DeploymentReady) = "deployment.ready",
    /// It is live and healthy.
    DeploymentSucceeded(DeploymentSucceeded) = "deployment.succeeded",
    /// It ended without success.
    DeploymentFailed(DeploymentFailed) = "deployment.failed",
    /// It was called off.
    DeploymentCancelled(DeploymentCancelled) = "deployment.cancelled",
    /// A project was registered.
    ProjectCreated(ProjectSubject) = "project.created",
    /// A project was removed.
    ProjectDeleted(ProjectSubject) = "project.deleted",
    /// An environment was made.
    EnvironmentCreated(EnvironmentSubject) = "environment.created",
    /// An environment was removed.
    EnvironmentDeleted(EnvironmentSubject) = "environment.deleted",
}

impl Payload {
    /// The payload as an event's `data`.
    #[must_use]
    pub fn to_data(&self) -> Value {
        // Structs of numbers and texts always become an object.
        serde_json::to_value(self).unwrap_or_default()
    }

    /// The deployment that it is about, if it is about one: what most handlers ask first, whatever happened to it.
    #[must_use]
    pub fn deployment(&self) -> Option<&DeploymentSubject> {
        match self {
            Self::DeploymentCreated(it) => Some(&it.deployment),
            Self::DeploymentReady(it) => Some(&it.deployment),
            Self::DeploymentSucceeded(it) => Some(&it.deployment),
            Self::DeploymentFailed(it) => Some(&it.deployment),
            Self::DeploymentCancelled(it) => Some(&it.deployment),
            _ => None,
        }
    }
}

impl PluginEvent {
    /// The event's payload, typed; `None` when the type is not one of this version of the protocol: a later one's, or the
    /// platform's own. [`data`](Self::data) has it in any case.
    ///
    /// # Errors
    /// [`PayloadError`] when the type is known and the data is not of its form.
    pub fn payload(&self) -> Result<Option<Payload>, PayloadError> {
        Payload::read(&self.event_type, &self.data)
    }
}

fn shape<T: DeserializeOwned>(event_type: &str, data: &Value) -> Result<T, PayloadError> {
    T::deserialize(data)
        .map_err(|e| PayloadError { event_type: event_type.to_owned(), reason: e.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_articles_payload_is_read() {
        let data = json!({"deployment_id": 100, "url": "https://myapp.example.com", "commit_sha": "a1b2c3d"});
        let Some(Payload::DeploymentSucceeded(payload)) =
            Payload::read("deployment.succeeded", &data).unwrap()
        else {
            panic!("another type")
        };
        assert_eq!(payload.deployment.deployment_id, 100);
        assert_eq!(payload.url.as_deref(), Some("https://myapp.example.com"));
    }

    #[test]
    fn every_type_reads_back_what_it_wrote_and_passes_over_fields_of_later_versions() {
        let data = json!({
            "deployment_id": 1, "project_id": 2, "environment_id": 3, "environment_name": "production",
            "project_name": "my-app", "external_id": "x", "news": {"of": "tomorrow"},
        });
        for event_type in Payload::EVENT_TYPES {
            let payload = Payload::read(event_type, &data).unwrap().unwrap();
            assert_eq!(payload.event_type(), *event_type);
            assert_eq!(Payload::read(event_type, &payload.to_data()), Ok(Some(payload)));
            assert!(Payload::read(event_type, &json!({})).unwrap_err().to_string().contains(event_type));
        }
    }

    #[test]
    fn a_type_of_somebody_else_is_no_error() {
        assert_eq!(Payload::read("invoice.paid", &json!({})), Ok(None));
        assert_eq!(Payload::read("deployment.paused", &json!({})), Ok(None));
    }
}
