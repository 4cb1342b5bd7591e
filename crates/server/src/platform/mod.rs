//! The reference platform: projects, environments and deployments, small and real.
//!
//! Each change is one transaction with the events that it causes. What may follow what is decided purely
//! ([`lifecycle`]); this room knows nothing of HTTP.

mod data;
pub mod lifecycle;
mod notice;
mod projects;
mod refusal;
mod report;
mod words;

use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use temps_store::{DeploymentFilter, DeploymentRecord, EnvironmentRecord, PlatformStore};

pub use refusal::{ChangeError, Refusal};
pub use words::MAX_NAME;

use crate::auth::Access;

/// The daemon's own platform. Cheap to clone.
#[derive(Clone)]
pub struct ReferencePlatform {
    store: Arc<dyn PlatformStore>,
    access: Access,
}

impl ReferencePlatform {
    /// A platform on a store; `access` tells who is calling.
    #[must_use]
    pub fn new(store: Arc<dyn PlatformStore>, access: Access) -> Self {
        Self { store, access }
    }

    /// Where the platform's data is, for looking.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn PlatformStore> {
        &self.store
    }

    /// One environment.
    ///
    /// # Errors
    /// [`Refusal::NoEnvironment`], or what the store says.
    pub async fn environment(&self, id: i32) -> Result<EnvironmentRecord, ChangeError> {
        let found = self.store.environment(id).await?;
        found.ok_or_else(|| Refusal::NoEnvironment(id.to_string()).into())
    }

    /// One deployment.
    ///
    /// # Errors
    /// [`Refusal::NoDeployment`], or what the store says.
    pub async fn deployment(&self, id: i32) -> Result<DeploymentRecord, ChangeError> {
        self.store.deployment(id).await?.ok_or_else(|| Refusal::NoDeployment(id).into())
    }

    /// Deployments, newest first.
    ///
    /// # Errors
    /// What the store says.
    pub async fn deployments(&self, filter: DeploymentFilter) -> Result<Vec<DeploymentRecord>, ChangeError> {
        Ok(self.store.deployments(filter).await?)
    }
}

/// The time now, as the database keeps it, so that what is returned is what will be read.
fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}
