//! The platform's door on PostgreSQL: which statement stands behind each method of [`PlatformStore`].

mod access;
mod deployments;
mod environments;
mod projects;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use temps_protocol::{PluginEvent, ProjectInfo};

use super::PostgresStore;
use super::changes::ChangeTx;
use super::connection::text;
use super::narrowed::Narrowed;
use super::pool::On;
use crate::{
    DeploymentFilter, DeploymentRecord, EnvironmentRecord, NewEnvironmentRecord, NewProjectRecord,
    PlatformStore, PlatformTx, SecretHash, StoreError, TokenRecord, Work,
};

impl PlatformTx for ChangeTx<'_> {
    fn project(&self, id: i32) -> Result<Option<ProjectInfo>, StoreError> {
        self.run(async |on| projects::by_id(on, id).await)
    }

    fn project_by_slug(&self, slug: &str) -> Result<Option<ProjectInfo>, StoreError> {
        self.run(async |on| projects::by_slug(on, slug).await)
    }

    fn insert_project(&self, new: &NewProjectRecord) -> Result<ProjectInfo, StoreError> {
        self.run(async |on| projects::insert(on, new).await)
    }

    fn delete_project(&self, id: i32) -> Result<(), StoreError> {
        self.run(async |on| projects::delete(on, id).await)
    }

    fn environment(&self, id: i32) -> Result<Option<EnvironmentRecord>, StoreError> {
        self.run(async |on| environments::by_id(on, id).await)
    }

    fn environment_by_name(
        &self,
        project_id: i32,
        name: &str,
    ) -> Result<Option<EnvironmentRecord>, StoreError> {
        self.run(async |on| environments::by_name(on, project_id, name).await)
    }

    fn environments_of(&self, project_id: i32) -> Result<Vec<EnvironmentRecord>, StoreError> {
        self.run(async |on| environments::list(on, Some(project_id), 0, u32::MAX).await)
    }

    fn insert_environment(&self, new: &NewEnvironmentRecord) -> Result<EnvironmentRecord, StoreError> {
        self.run(async |on| environments::insert(on, new).await)
    }

    fn delete_environment(&self, id: i32) -> Result<(), StoreError> {
        self.run(async |on| environments::delete(on, id).await)
    }

    fn set_current_deployment(
        &self,
        environment_id: i32,
        deployment_id: i32,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.run(async |on| environments::set_current(on, environment_id, deployment_id, at).await)
    }

    fn deployment(&self, id: i32) -> Result<Option<DeploymentRecord>, StoreError> {
        self.run(async |on| deployments::by_id(on, id).await)
    }

    fn deployment_by_external_id(
        &self,
        project_id: i32,
        external_id: &str,
    ) -> Result<Option<DeploymentRecord>, StoreError> {
        self.run(async |on| deployments::by_external_id(on, project_id, external_id).await)
    }

    fn unfinished_deployments_of(&self, environment_id: i32) -> Result<Vec<DeploymentRecord>, StoreError> {
        self.run(async |on| deployments::unfinished_of(on, environment_id).await)
    }

    fn insert_deployment(&self, record: DeploymentRecord) -> Result<DeploymentRecord, StoreError> {
        self.run(async |on| {
            projects::note_deployment(on, record.info.project_id, record.info.created_at).await
        })?;
        self.run(async |on| deployments::insert(on, record).await)
    }

    fn update_deployment(&self, record: &DeploymentRecord) -> Result<(), StoreError> {
        self.run(async |on| deployments::update(on, record).await)
    }

    fn publish(&self, event: &PluginEvent) -> Result<(), StoreError> {
        ChangeTx::publish(self, event)
    }
}

#[async_trait]
impl PlatformStore for PostgresStore {
    async fn transact(&self, work: Work) -> Result<(), StoreError> {
        self.changes.run(work).await.map_err(|error| error.during("change the platform's data"))
    }

    async fn project(&self, id: i32) -> Result<Option<ProjectInfo>, StoreError> {
        projects::by_id(self.read("look up a project"), id).await
    }

    async fn project_by_slug(&self, slug: &str) -> Result<Option<ProjectInfo>, StoreError> {
        projects::by_slug(self.read("look up a project"), slug).await
    }

    async fn projects(&self, after: i32, limit: u32) -> Result<Vec<ProjectInfo>, StoreError> {
        projects::list(self.read("list projects"), after, limit).await
    }

    async fn environment(&self, id: i32) -> Result<Option<EnvironmentRecord>, StoreError> {
        environments::by_id(self.read("look up an environment"), id).await
    }

    async fn environments(
        &self,
        project_id: Option<i32>,
        after: i32,
        limit: u32,
    ) -> Result<Vec<EnvironmentRecord>, StoreError> {
        environments::list(self.read("list environments"), project_id, after, limit).await
    }

    async fn deployment(&self, id: i32) -> Result<Option<DeploymentRecord>, StoreError> {
        deployments::by_id(self.read("look up a deployment"), id).await
    }

    async fn deployments(&self, filter: DeploymentFilter) -> Result<Vec<DeploymentRecord>, StoreError> {
        deployments::list(self.read("list deployments"), &filter).await
    }

    async fn probed(&self, after: i32, limit: u32) -> Result<Vec<DeploymentRecord>, StoreError> {
        deployments::probed(self.read("list probed deployments"), after, limit).await
    }

    async fn create_token(
        &self,
        name: &str,
        admin: bool,
        hash: SecretHash,
        created_at: DateTime<Utc>,
        expires_at: Option<DateTime<Utc>>,
    ) -> Result<Option<TokenRecord>, StoreError> {
        let new =
            TokenRecord { id: 0, name: name.to_owned(), admin, created_at, last_used_at: None, expires_at };
        access::create_token(self.write("make a token"), &new, hash).await
    }

    async fn tokens(&self, after: i32, limit: u32) -> Result<Vec<TokenRecord>, StoreError> {
        access::tokens(self.read("list tokens"), after, limit).await
    }

    async fn token_by_hash(&self, hash: SecretHash) -> Result<Option<TokenRecord>, StoreError> {
        access::token_by_hash(self.read("look up a token"), hash).await
    }

    async fn touch_token(&self, id: i32, at: DateTime<Utc>) -> Result<(), StoreError> {
        access::touch_token(self.write("note a token's use"), id, at).await
    }

    async fn delete_token(&self, id: i32) -> Result<Option<TokenRecord>, StoreError> {
        access::delete_token(self.write("remove a token"), id).await
    }

    async fn add_login_code(
        &self,
        hash: SecretHash,
        expires_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        access::add_login_code(self.write("keep a sign-in code"), hash, expires_at, now).await
    }

    async fn redeem_login_code(
        &self,
        code: SecretHash,
        session: SecretHash,
        session_expires_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Option<i32>, StoreError> {
        access::redeem(self.write("open a session"), code, session, session_expires_at, now).await
    }

    async fn session(&self, hash: SecretHash, now: DateTime<Utc>) -> Result<Option<i32>, StoreError> {
        access::session(self.read("look up a session"), hash, now).await
    }

    async fn delete_session(&self, hash: SecretHash) -> Result<(), StoreError> {
        access::delete_session(self.write("end a session"), hash).await
    }
}
