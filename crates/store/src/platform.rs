//! The door of the reference platform: projects, environments, deployments, sessions and tokens.
//!
//! The store keeps and finds; what may follow what is the platform's to decide. It decides inside
//! [`PlatformStore::transact`], so that what it read, what it changed and the events of the change are one transaction.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use temps_protocol::{DeploymentInfo, EnvironmentInfo, PluginEvent, ProjectInfo};

use crate::StoreError;

/// A project to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewProjectRecord {
    /// Name for people.
    pub name: String,
    /// Name for URLs, unique.
    pub slug: String,
    /// Owner of the source repository; may be empty.
    pub repo_owner: String,
    /// Name of the source repository; may be empty.
    pub repo_name: String,
    /// Branch that production is built from.
    pub main_branch: String,
    /// How the project is built; may be empty.
    pub preset: String,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
}

/// An environment, and which project it belongs to in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentRecord {
    /// The environment as plugins see it.
    pub info: EnvironmentInfo,
    /// Slug of its project.
    pub project_slug: String,
}

/// An environment to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEnvironmentRecord {
    /// The project that it belongs to.
    pub project_id: i32,
    /// Name for people, unique within the project.
    pub name: String,
    /// Name for URLs.
    pub slug: String,
    /// Branch that is deployed there, if it follows one.
    pub branch: Option<String>,
    /// Whether it is made for a branch or pull request.
    pub is_preview: bool,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// A deployment with everything that the platform keeps of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentRecord {
    /// The deployment as plugins see it. Its `external_id` is the reporter's own id.
    pub info: DeploymentInfo,
    /// Slug of its project.
    pub project_slug: String,
    /// Name of its environment.
    pub environment_name: String,
    /// Why it failed, if it did.
    pub error_message: Option<String>,
    /// Whether the daemon probes its URL.
    pub probe: bool,
    /// When it became ready, if it did.
    pub ready_at: Option<DateTime<Utc>>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

/// Narrows down a list of deployments; whatever is `None` does not narrow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeploymentFilter {
    /// Only this project.
    pub project_id: Option<i32>,
    /// Only this environment.
    pub environment_id: Option<i32>,
    /// Only environments of this name.
    pub environment_name: Option<String>,
    /// Only this state.
    pub state: Option<String>,
    /// Only deployments with a smaller id.
    pub before: Option<i32>,
    /// At most this many.
    pub limit: u32,
}

/// An API token. Its secret is not kept, only the hash of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// The token's id.
    pub id: i32,
    /// Name for people, unique.
    pub name: String,
    /// Whether its bearer may do everything; otherwise only look.
    pub admin: bool,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last used.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it ends.
    pub expires_at: Option<DateTime<Utc>>,
}

/// SHA-256 of a secret.
pub type SecretHash = [u8; 32];

/// One transaction of the platform, from the inside. Reads see what was written before in it.
pub trait PlatformTx {
    /// One project.
    fn project(&self, id: i32) -> Result<Option<ProjectInfo>, StoreError>;

    /// The project with this slug.
    fn project_by_slug(&self, slug: &str) -> Result<Option<ProjectInfo>, StoreError>;

    /// Writes a project; its slug must be free.
    fn insert_project(&self, new: &NewProjectRecord) -> Result<ProjectInfo, StoreError>;

    /// Removes a project with its environments and deployments.
    fn delete_project(&self, id: i32) -> Result<(), StoreError>;

    /// One environment.
    fn environment(&self, id: i32) -> Result<Option<EnvironmentRecord>, StoreError>;

    /// The environment of a project with this name.
    fn environment_by_name(
        &self,
        project_id: i32,
        name: &str,
    ) -> Result<Option<EnvironmentRecord>, StoreError>;

    /// All environments of a project, by id.
    fn environments_of(&self, project_id: i32) -> Result<Vec<EnvironmentRecord>, StoreError>;

    /// Writes an environment; its name must be free within the project.
    fn insert_environment(&self, new: &NewEnvironmentRecord) -> Result<EnvironmentRecord, StoreError>;

    /// Removes an environment with its deployments.
    fn delete_environment(&self, id: i32) -> Result<(), StoreError>;

    /// Says which deployment serves in an environment now.
    fn set_current_deployment(
        &self,
        environment_id: i32,
        deployment_id: i32,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError>;

    /// One deployment.
    fn deployment(&self, id: i32) -> Result<Option<DeploymentRecord>, StoreError>;

    /// The deployment of a project with this reporter's id.
    fn deployment_by_external_id(
        &self,
        project_id: i32,
        external_id: &str,
    ) -> Result<Option<DeploymentRecord>, StoreError>;

    /// Deployments of an environment that have not ended, by id.
    fn unfinished_deployments_of(&self, environment_id: i32) -> Result<Vec<DeploymentRecord>, StoreError>;

    /// Writes a deployment and notes on its project when that was last deployed. The record's own id is not read; the
    /// returned one has the id that was given.
    fn insert_deployment(&self, record: DeploymentRecord) -> Result<DeploymentRecord, StoreError>;

    /// Writes everything of a deployment but its ids, its project and its environment.
    fn update_deployment(&self, record: &DeploymentRecord) -> Result<(), StoreError>;

    /// Puts an event into the journal, as part of this transaction. The event must have passed its check.
    fn publish(&self, event: &PluginEvent) -> Result<(), StoreError>;
}

/// Whether a transaction's changes are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They are kept.
    Commit,
    /// They are undone.
    RollBack,
}

/// What runs inside a transaction.
pub type Work = Box<dyn FnOnce(&dyn PlatformTx) -> Result<Verdict, StoreError> + Send>;

/// What the reference platform keeps. Each change and its event are one transaction.
///
/// Every write is durable when its future resolves.
#[async_trait]
pub trait PlatformStore: Send + Sync + 'static {
    /// Runs `work` in one transaction and returns once that is durable, or undone.
    async fn transact(&self, work: Work) -> Result<(), StoreError>;

    /// One project.
    async fn project(&self, id: i32) -> Result<Option<ProjectInfo>, StoreError>;

    /// The project with this slug.
    async fn project_by_slug(&self, slug: &str) -> Result<Option<ProjectInfo>, StoreError>;

    /// Projects with a larger id than `after`, by id, at most `limit`.
    async fn projects(&self, after: i32, limit: u32) -> Result<Vec<ProjectInfo>, StoreError>;

    /// One environment.
    async fn environment(&self, id: i32) -> Result<Option<EnvironmentRecord>, StoreError>;

    /// Environments (of one project, or of all) with a larger id than `after`, by id, at most `limit`.
    async fn environments(
        &self,
        project_id: Option<i32>,
        after: i32,
        limit: u32,
    ) -> Result<Vec<EnvironmentRecord>, StoreError>;

    /// One deployment.
    async fn deployment(&self, id: i32) -> Result<Option<DeploymentRecord>, StoreError>;

    /// Deployments that pass the filter, newest first.
    async fn deployments(&self, filter: DeploymentFilter) -> Result<Vec<DeploymentRecord>, StoreError>;

    /// Deployments that are probed and have not ended, with a larger id than `after`, by id, at most `limit`.
    async fn probed(&self, after: i32, limit: u32) -> Result<Vec<DeploymentRecord>, StoreError>;

    /// Makes a token. `None` when the name is taken.
    async fn create_token(
        &self,
        name: &str,
        admin: bool,
        hash: SecretHash,
        created_at: DateTime<Utc>,
        expires_at: Option<DateTime<Utc>>,
    ) -> Result<Option<TokenRecord>, StoreError>;

    /// Tokens with a larger id than `after`, by id, at most `limit`.
    async fn tokens(&self, after: i32, limit: u32) -> Result<Vec<TokenRecord>, StoreError>;

    /// The token whose secret has this hash.
    async fn token_by_hash(&self, hash: SecretHash) -> Result<Option<TokenRecord>, StoreError>;

    /// Notes that a token was used.
    async fn touch_token(&self, id: i32, at: DateTime<Utc>) -> Result<(), StoreError>;

    /// Removes a token and returns it, if it was there.
    async fn delete_token(&self, id: i32) -> Result<Option<TokenRecord>, StoreError>;

    /// Keeps a code that signs in once, and forgets those that expired.
    async fn add_login_code(
        &self,
        hash: SecretHash,
        expires_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError>;

    /// Uses up a code and opens a session for it, in one transaction. `None` when the code is unknown, used or expired;
    /// otherwise the session's id. Sessions that expired are forgotten.
    async fn redeem_login_code(
        &self,
        code: SecretHash,
        session: SecretHash,
        session_expires_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Option<i32>, StoreError>;

    /// The id of the session whose secret has this hash, while it has not expired.
    async fn session(&self, hash: SecretHash, now: DateTime<Utc>) -> Result<Option<i32>, StoreError>;

    /// Ends a session.
    async fn delete_session(&self, hash: SecretHash) -> Result<(), StoreError>;
}

impl dyn PlatformStore {
    /// Runs `work` in one transaction and gives back what it returned. Its changes are kept when it returned `Ok(Ok(_))`.
    ///
    /// # Errors
    /// The outer error is the store's: nothing was written then. The inner one is the platform's own refusal.
    pub async fn change<T, E, F>(&self, work: F) -> Result<Result<T, E>, StoreError>
    where
        T: Send + 'static,
        E: Send + 'static,
        F: FnOnce(&dyn PlatformTx) -> Result<Result<T, E>, StoreError> + Send + 'static,
    {
        let answer = Arc::new(Mutex::new(None));
        let inside = answer.clone();
        self.transact(Box::new(move |tx| {
            let outcome = work(tx)?;
            let verdict = if outcome.is_ok() { Verdict::Commit } else { Verdict::RollBack };
            *inside.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
            Ok(verdict)
        }))
        .await?;
        let outcome = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        outcome.ok_or(StoreError::Closed)
    }
}
