//! The platform's door on SQLite: which statement stands behind each method of [`PlatformStore`].

mod access;
mod deployments;
mod environments;
mod projects;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use temps_protocol::{PluginEvent, ProjectInfo};

use super::journal;
use super::{SqliteStore, WriteTx};
use crate::{
    DeploymentFilter, DeploymentRecord, EnvironmentRecord, NewEnvironmentRecord, NewProjectRecord,
    PlatformStore, PlatformTx, SecretHash, StoreError, TokenRecord, Verdict, Work,
};

impl PlatformTx for WriteTx<'_> {
    fn project(&self, id: i32) -> Result<Option<ProjectInfo>, StoreError> {
        projects::by_id(self, id)
    }

    fn project_by_slug(&self, slug: &str) -> Result<Option<ProjectInfo>, StoreError> {
        projects::by_slug(self, slug)
    }

    fn insert_project(&self, new: &NewProjectRecord) -> Result<ProjectInfo, StoreError> {
        projects::insert(self, new)
    }

    fn delete_project(&self, id: i32) -> Result<(), StoreError> {
        projects::delete(self, id)
    }

    fn environment(&self, id: i32) -> Result<Option<EnvironmentRecord>, StoreError> {
        environments::by_id(self, id)
    }

    fn environment_by_name(
        &self,
        project_id: i32,
        name: &str,
    ) -> Result<Option<EnvironmentRecord>, StoreError> {
        environments::by_name(self, project_id, name)
    }

    fn environments_of(&self, project_id: i32) -> Result<Vec<EnvironmentRecord>, StoreError> {
        environments::list(self, Some(project_id), 0, u32::MAX)
    }

    fn insert_environment(&self, new: &NewEnvironmentRecord) -> Result<EnvironmentRecord, StoreError> {
        environments::insert(self, new)
    }

    fn delete_environment(&self, id: i32) -> Result<(), StoreError> {
        environments::delete(self, id)
    }

    fn set_current_deployment(
        &self,
        environment_id: i32,
        deployment_id: i32,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        environments::set_current(self, environment_id, deployment_id, at)
    }

    fn deployment(&self, id: i32) -> Result<Option<DeploymentRecord>, StoreError> {
        deployments::by_id(self, id)
    }

    fn deployment_by_external_id(
        &self,
        project_id: i32,
        external_id: &str,
    ) -> Result<Option<DeploymentRecord>, StoreError> {
        deployments::by_external_id(self, project_id, external_id)
    }

    fn unfinished_deployments_of(&self, environment_id: i32) -> Result<Vec<DeploymentRecord>, StoreError> {
        deployments::unfinished_of(self, environment_id)
    }

    fn insert_deployment(&self, record: DeploymentRecord) -> Result<DeploymentRecord, StoreError> {
        projects::note_deployment(self, record.info.project_id, record.info.created_at)?;
        deployments::insert(self, record)
    }

    fn update_deployment(&self, record: &DeploymentRecord) -> Result<(), StoreError> {
        deployments::update(self, record)
    }

    fn publish(&self, event: &PluginEvent) -> Result<(), StoreError> {
        journal::insert(self, event).map(|_| ())
    }
}

#[async_trait]
impl PlatformStore for SqliteStore {
    async fn transact(&self, work: Work) -> Result<(), StoreError> {
        self.write("change the platform's data", move |tx| {
            if work(tx)? == Verdict::RollBack {
                tx.roll_back();
            }
            Ok(())
        })
        .await
    }

    async fn project(&self, id: i32) -> Result<Option<ProjectInfo>, StoreError> {
        self.read("look up a project", move |conn| projects::by_id(conn, id)).await
    }

    async fn project_by_slug(&self, slug: &str) -> Result<Option<ProjectInfo>, StoreError> {
        let slug = slug.to_owned();
        self.read("look up a project", move |conn| projects::by_slug(conn, &slug)).await
    }

    async fn projects(&self, after: i32, limit: u32) -> Result<Vec<ProjectInfo>, StoreError> {
        self.read("list projects", move |conn| projects::list(conn, after, limit)).await
    }

    async fn environment(&self, id: i32) -> Result<Option<EnvironmentRecord>, StoreError> {
        self.read("look up an environment", move |conn| environments::by_id(conn, id)).await
    }

    async fn environments(
        &self,
        project_id: Option<i32>,
        after: i32,
        limit: u32,
    ) -> Result<Vec<EnvironmentRecord>, StoreError> {
        self.read("list environments", move |conn| environments::list(conn, project_id, after, limit)).await
    }

    async fn deployment(&self, id: i32) -> Result<Option<DeploymentRecord>, StoreError> {
        self.read("look up a deployment", move |conn| deployments::by_id(conn, id)).await
    }

    async fn deployments(&self, filter: DeploymentFilter) -> Result<Vec<DeploymentRecord>, StoreError> {
        self.read("list deployments", move |conn| deployments::list(conn, &filter)).await
    }

    async fn probed(&self, after: i32, limit: u32) -> Result<Vec<DeploymentRecord>, StoreError> {
        self.read("list probed deployments", move |conn| deployments::probed(conn, after, limit)).await
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
        self.write("make a token", move |tx| access::create_token(tx, new, hash)).await
    }

    async fn tokens(&self, after: i32, limit: u32) -> Result<Vec<TokenRecord>, StoreError> {
        self.read("list tokens", move |conn| access::tokens(conn, after, limit)).await
    }

    async fn token_by_hash(&self, hash: SecretHash) -> Result<Option<TokenRecord>, StoreError> {
        self.read("look up a token", move |conn| access::token_by_hash(conn, hash)).await
    }

    async fn touch_token(&self, id: i32, at: DateTime<Utc>) -> Result<(), StoreError> {
        self.write("note a token's use", move |tx| access::touch_token(tx, id, at)).await
    }

    async fn delete_token(&self, id: i32) -> Result<Option<TokenRecord>, StoreError> {
        self.write("remove a token", move |tx| access::delete_token(tx, id)).await
    }

    async fn add_login_code(
        &self,
        hash: SecretHash,
        expires_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.write("keep a sign-in code", move |tx| access::add_login_code(tx, hash, expires_at, now)).await
    }

    async fn redeem_login_code(
        &self,
        code: SecretHash,
        session: SecretHash,
        session_expires_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Option<i32>, StoreError> {
        self.write("open a session", move |tx| access::redeem(tx, code, session, session_expires_at, now))
            .await
    }

    async fn session(&self, hash: SecretHash, now: DateTime<Utc>) -> Result<Option<i32>, StoreError> {
        self.read("look up a session", move |conn| access::session(conn, hash, now)).await
    }

    async fn delete_session(&self, hash: SecretHash) -> Result<(), StoreError> {
        self.write("end a session", move |tx| access::delete_session(tx, hash)).await
    }
}
