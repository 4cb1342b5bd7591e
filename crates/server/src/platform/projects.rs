//! Projects and environments: made, found and removed.

use temps_protocol::ProjectInfo;
use temps_store::{EnvironmentRecord, NewEnvironmentRecord, NewProjectRecord, PlatformTx, StoreError};

use super::lifecycle::Notice;
use super::words::{self, MAX_NAME, MAX_WORD};
use super::{ChangeError, ReferencePlatform, Refusal, notice, now};
use crate::api::projects::{NewEnvironment, NewProject};

/// Branch of a project that names none.
const DEFAULT_BRANCH: &str = "main";

impl ReferencePlatform {
    /// The project with this slug or id.
    ///
    /// # Errors
    /// [`Refusal::NoProject`], or what the store says.
    pub async fn project(&self, slug_or_id: &str) -> Result<ProjectInfo, ChangeError> {
        let found = match id_of(slug_or_id) {
            Some(id) => self.store.project(id).await?,
            None => self.store.project_by_slug(slug_or_id).await?,
        };
        found.ok_or_else(|| Refusal::NoProject(slug_or_id.to_owned()).into())
    }

    /// Registers a project and publishes `project.created`.
    ///
    /// # Errors
    /// [`Refusal::SlugTaken`] or [`Refusal::Invalid`], or what the store says.
    pub async fn create_project(&self, new: NewProject) -> Result<ProjectInfo, ChangeError> {
        let record = check_project(new)?;
        let made = self
            .store
            .change(move |tx| {
                if tx.project_by_slug(&record.slug)?.is_some() {
                    return Ok(Err(Refusal::SlugTaken(record.slug)));
                }
                Ok(Ok(insert_project(tx, &record)?))
            })
            .await??;
        Ok(made)
    }

    /// Removes a project with everything that belongs to it. Deployments that have not ended are cancelled; that, the end of
    /// each environment and of the project are published, in this order.
    ///
    /// # Errors
    /// [`Refusal::NoProject`], or what the store says.
    pub async fn delete_project(&self, slug_or_id: &str) -> Result<(), ChangeError> {
        let wanted = slug_or_id.to_owned();
        let done = self.store.change(move |tx| {
            let Some(project) = find_project(tx, &wanted)? else {
                return Ok(Err(Refusal::NoProject(wanted)));
            };
            for environment in tx.environments_of(project.id)? {
                remove_environment(tx, &environment)?;
            }
            tx.delete_project(project.id)?;
            tx.publish(&notice::of_deleted_project(&project, now()))?;
            Ok(Ok(()))
        });
        Ok(done.await??)
    }

    /// Makes an environment and publishes `environment.created`.
    ///
    /// # Errors
    /// [`Refusal::NoProject`], [`Refusal::EnvironmentTaken`] or [`Refusal::Invalid`], or what the store says.
    pub async fn create_environment(&self, new: NewEnvironment) -> Result<EnvironmentRecord, ChangeError> {
        words::check_text("name", &new.name, MAX_NAME)?;
        if let Some(branch) = &new.branch {
            words::check_text("branch", branch, MAX_WORD)?;
        }
        let made = self.store.change(move |tx| {
            let Some(project) = find_project(tx, &new.project)? else {
                return Ok(Err(Refusal::NoProject(new.project)));
            };
            if tx.environment_by_name(project.id, &new.name)?.is_some() {
                return Ok(Err(Refusal::EnvironmentTaken(new.name)));
            }
            Ok(Ok(insert_environment(tx, project.id, &new.name, new.branch, new.is_preview)?))
        });
        Ok(made.await??)
    }

    /// Removes an environment with its deployments, of which those that have not ended are cancelled, and publishes that and
    /// `environment.deleted`.
    ///
    /// # Errors
    /// [`Refusal::NoEnvironment`], or what the store says.
    pub async fn delete_environment(&self, id: i32) -> Result<(), ChangeError> {
        let done = self.store.change(move |tx| {
            let Some(environment) = tx.environment(id)? else {
                return Ok(Err(Refusal::NoEnvironment(id.to_string())));
            };
            remove_environment(tx, &environment)?;
            Ok(Ok(()))
        });
        Ok(done.await??)
    }
}

/// A text of digits only is an id; slugs are never that.
pub(super) fn id_of(slug_or_id: &str) -> Option<i32> {
    slug_or_id.bytes().all(|b| b.is_ascii_digit()).then(|| slug_or_id.parse().ok()).flatten()
}

pub(super) fn find_project(tx: &dyn PlatformTx, slug_or_id: &str) -> Result<Option<ProjectInfo>, StoreError> {
    match id_of(slug_or_id) {
        Some(id) => tx.project(id),
        None => tx.project_by_slug(slug_or_id),
    }
}

pub(super) fn insert_project(
    tx: &dyn PlatformTx,
    record: &NewProjectRecord,
) -> Result<ProjectInfo, StoreError> {
    let project = tx.insert_project(record)?;
    tx.publish(&notice::of_new_project(&project, record.created_at))?;
    Ok(project)
}

/// Who follows a deployment learns its end, whatever the end is.
fn remove_environment(tx: &dyn PlatformTx, environment: &EnvironmentRecord) -> Result<(), StoreError> {
    for deployment in tx.unfinished_deployments_of(environment.info.id)? {
        tx.publish(&notice::of_deployment(Notice::Cancelled, &deployment, now()))?;
    }
    tx.delete_environment(environment.info.id)?;
    tx.publish(&notice::of_deleted_environment(environment, now()))
}

pub(super) fn insert_environment(
    tx: &dyn PlatformTx,
    project_id: i32,
    name: &str,
    branch: Option<String>,
    is_preview: bool,
) -> Result<EnvironmentRecord, StoreError> {
    let slug = Some(words::slug_of(name)).filter(|slug| !slug.is_empty()).unwrap_or_else(|| "env".into());
    let created_at = now();
    let new =
        NewEnvironmentRecord { project_id, name: name.to_owned(), slug, branch, is_preview, created_at };
    let environment = tx.insert_environment(&new)?;
    tx.publish(&notice::of_new_environment(&environment, created_at))?;
    Ok(environment)
}

/// A project that is known by its slug only.
pub(super) fn project_of_slug(slug: &str) -> NewProjectRecord {
    NewProjectRecord {
        name: slug.to_owned(),
        slug: slug.to_owned(),
        repo_owner: String::new(),
        repo_name: String::new(),
        main_branch: DEFAULT_BRANCH.to_owned(),
        preset: String::new(),
        created_at: now(),
    }
}

fn check_project(new: NewProject) -> Result<NewProjectRecord, Refusal> {
    words::check_text("name", &new.name, MAX_NAME)?;
    let slug = match new.slug {
        Some(slug) => slug,
        None => words::slug_of(&new.name),
    };
    words::check_slug("slug", &slug)?;
    let texts = [
        ("repo_owner", &new.repo_owner),
        ("repo_name", &new.repo_name),
        ("main_branch", &new.main_branch),
        ("preset", &new.preset),
    ];
    for (field, text) in texts {
        if let Some(text) = text.as_ref().filter(|text| !text.is_empty()) {
            words::check_text(field, text, MAX_WORD)?;
        }
    }
    Ok(NewProjectRecord {
        name: new.name,
        repo_owner: new.repo_owner.unwrap_or_default(),
        repo_name: new.repo_name.unwrap_or_default(),
        main_branch: new
            .main_branch
            .filter(|branch| !branch.is_empty())
            .unwrap_or_else(|| DEFAULT_BRANCH.to_owned()),
        preset: new.preset.unwrap_or_default(),
        ..project_of_slug(&slug)
    })
}
