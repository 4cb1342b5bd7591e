//! Deployments: reported, and moved on.
//!
//! A report is idempotent: said twice it is said once, and what arrives late changes nothing. A change (`PATCH`) is
//! strict: a move that is not allowed is refused.

use temps_protocol::{DeploymentInfo, ProjectInfo};
use temps_store::{DeploymentRecord, EnvironmentRecord, PlatformTx, StoreError};

use super::lifecycle::{self, Notice};
use super::projects::{find_project, id_of, insert_environment, insert_project, project_of_slug};
use super::words::{self, MAX_NAME, MAX_WORD};
use super::{ChangeError, ReferencePlatform, Refusal, notice, now};
use crate::api::deployments::{DeploymentChange, DeploymentReport, DeploymentState};

/// Environment of a report that names none.
const DEFAULT_ENVIRONMENT: &str = "production";

/// What became of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// The deployment as it stands now.
    pub record: DeploymentRecord,
    /// Whether the report was the first of it.
    pub new: bool,
}

impl ReferencePlatform {
    /// Takes a report: makes what is missing, moves the deployment on, and publishes what that means.
    ///
    /// # Errors
    /// A [`Refusal`] when the report cannot be, or what the store says; nothing was written then.
    pub async fn report(&self, report: DeploymentReport) -> Result<Reported, ChangeError> {
        let report = check(report)?;
        Ok(self.store.change(move |tx| take(tx, &report)).await??)
    }

    /// Moves a deployment on.
    ///
    /// # Errors
    /// [`Refusal::NoDeployment`], [`Refusal::IllegalMove`] or [`Refusal::Invalid`], or what the store says.
    pub async fn change_deployment(
        &self,
        id: i32,
        change: DeploymentChange,
    ) -> Result<DeploymentRecord, ChangeError> {
        if let Some(url) = &change.url {
            words::check_url(url)?;
        }
        let done = self.store.change(move |tx| {
            let Some(old) = tx.deployment(id)? else { return Ok(Err(Refusal::NoDeployment(id))) };
            let mut new = old.clone();
            new.info.url = change.url.or(new.info.url);
            new.error_message = change.error_message.as_deref().map(words::cut).or(new.error_message);
            advance(tx, &old, new, change.state)
        });
        Ok(done.await??)
    }
}

fn take(tx: &dyn PlatformTx, report: &DeploymentReport) -> Result<Result<Reported, Refusal>, StoreError> {
    let project = match find_project(tx, &report.project)? {
        Some(project) => project,
        None if id_of(&report.project).is_some() => {
            return Ok(Err(Refusal::NoProject(report.project.clone())));
        }
        None => insert_project(tx, &project_of_slug(&report.project))?,
    };
    let name = report.environment.as_deref().unwrap_or(DEFAULT_ENVIRONMENT);
    let known = match &report.external_id {
        Some(external_id) => tx.deployment_by_external_id(project.id, external_id)?,
        None => None,
    };
    if let Some(old) = known {
        return take_again(tx, report, &old, name);
    }
    let environment = match tx.environment_by_name(project.id, name)? {
        Some(environment) => environment,
        None => insert_environment(tx, project.id, name, None, false)?,
    };
    take_first(tx, report, &project, &environment)
}

/// The first report of a deployment.
fn take_first(
    tx: &dyn PlatformTx,
    report: &DeploymentReport,
    project: &ProjectInfo,
    environment: &EnvironmentRecord,
) -> Result<Result<Reported, Refusal>, StoreError> {
    let probe = report.probe.unwrap_or(false);
    let state =
        report.state.unwrap_or(if probe { DeploymentState::Deploying } else { DeploymentState::Pending });
    if let Err(refusal) = check_probe(probe, report.url.is_some(), state) {
        return Ok(Err(refusal));
    }
    let at = now();
    let mut record = DeploymentRecord {
        info: DeploymentInfo {
            id: 0,
            project_id: project.id,
            environment_id: environment.info.id,
            state: state.as_str().to_owned(),
            url: None,
            branch: None,
            tag: None,
            commit_sha: None,
            commit_message: None,
            commit_author: None,
            created_at: at,
            started_at: None,
            finished_at: None,
            external_id: report.external_id.clone(),
        },
        project_slug: project.slug.clone(),
        environment_name: environment.info.name.clone(),
        error_message: None,
        probe,
        ready_at: None,
        updated_at: at,
    };
    fill(&mut record, report);
    stamp(&mut record, state);
    let record = tx.insert_deployment(record)?;
    tell(tx, &record, &lifecycle::birth(state))?;
    Ok(Ok(Reported { record, new: true }))
}

/// A further report of a deployment that is known.
fn take_again(
    tx: &dyn PlatformTx,
    report: &DeploymentReport,
    old: &DeploymentRecord,
    environment: &str,
) -> Result<Result<Reported, Refusal>, StoreError> {
    if old.environment_name != environment && report.environment.is_some() {
        return Ok(Err(Refusal::ExternalIdElsewhere {
            external_id: old.info.external_id.clone().unwrap_or_default(),
            environment: old.environment_name.clone(),
        }));
    }
    let state = state_of(old)?;
    let wanted = match report.state {
        Some(reported) if !lifecycle::is_past(state, reported) => reported,
        _ => state,
    };
    let mut new = old.clone();
    fill(&mut new, report);
    new.probe = report.probe.unwrap_or(new.probe);
    if !state.is_final()
        && let Err(refusal) = check_probe(new.probe && report.probe.is_some(), new.info.url.is_some(), wanted)
    {
        return Ok(Err(refusal));
    }
    Ok(advance(tx, old, new, wanted)?.map(|record| Reported { record, new: false }))
}

/// Writes `new`, moved on to `wanted`, over `old`, and tells what that means. Nothing is written when nothing changed.
fn advance(
    tx: &dyn PlatformTx,
    old: &DeploymentRecord,
    mut new: DeploymentRecord,
    wanted: DeploymentState,
) -> Result<Result<DeploymentRecord, Refusal>, StoreError> {
    let from = state_of(old)?;
    let notice = match lifecycle::transition(from, wanted) {
        Ok(notice) => notice,
        Err(illegal) => return Ok(Err(illegal.into())),
    };
    if new == *old && from == wanted {
        return Ok(Ok(new));
    }
    new.updated_at = now();
    if from != wanted {
        new.info.state = wanted.as_str().to_owned();
        stamp(&mut new, wanted);
    }
    tx.update_deployment(&new)?;
    tell(tx, &new, notice.as_slice())?;
    Ok(Ok(new))
}

/// Publishes what happened to a deployment, and notes that it serves when it does.
fn tell(tx: &dyn PlatformTx, record: &DeploymentRecord, notices: &[Notice]) -> Result<(), StoreError> {
    let info = &record.info;
    // A deployment begins to serve once: when it becomes ready, or succeeds without having been seen ready.
    let serves = notices.contains(&Notice::Ready)
        || (notices.contains(&Notice::Succeeded) && record.ready_at == info.finished_at);
    if serves {
        tx.set_current_deployment(info.environment_id, info.id, record.updated_at)?;
    }
    for notice in notices {
        tx.publish(&notice::of_deployment(*notice, record, record.updated_at))?;
    }
    Ok(())
}

/// Notes when a deployment came to where it stands.
fn stamp(record: &mut DeploymentRecord, state: DeploymentState) {
    let at = record.updated_at;
    if state != DeploymentState::Pending {
        record.info.started_at.get_or_insert(at);
    }
    if matches!(state, DeploymentState::Ready | DeploymentState::Succeeded) {
        record.ready_at.get_or_insert(at);
    }
    if state.is_final() {
        record.info.finished_at.get_or_insert(at);
    }
}

/// Puts what a report says into a record; what it does not say stays.
fn fill(record: &mut DeploymentRecord, report: &DeploymentReport) {
    let info = &mut record.info;
    let take = |place: &mut Option<String>, said: Option<String>| *place = said.or(place.take());
    take(&mut info.url, report.url.clone());
    take(&mut info.branch, report.branch.clone());
    take(&mut info.tag, report.tag.clone());
    take(&mut info.commit_sha, report.commit_sha.clone());
    take(&mut info.commit_message, report.message.as_deref().map(words::first_line));
    take(&mut info.commit_author, report.author.clone());
    take(&mut record.error_message, report.error_message.as_deref().map(words::cut));
}

fn state_of(record: &DeploymentRecord) -> Result<DeploymentState, StoreError> {
    DeploymentState::parse(&record.info.state).ok_or_else(|| StoreError::Database {
        action: "read a deployment",
        reason: format!("deployment {} has the unknown state {:?}", record.info.id, record.info.state),
    })
}

fn check(report: DeploymentReport) -> Result<DeploymentReport, Refusal> {
    if id_of(&report.project).is_none() {
        words::check_slug("project", &report.project)?;
    }
    let texts = [
        ("environment", &report.environment, MAX_NAME),
        ("external_id", &report.external_id, MAX_WORD),
        ("branch", &report.branch, MAX_WORD),
        ("tag", &report.tag, MAX_WORD),
        ("commit_sha", &report.commit_sha, MAX_WORD),
        ("author", &report.author, MAX_WORD),
    ];
    for (field, text, max) in texts {
        if let Some(text) = text {
            words::check_text(field, text, max)?;
        }
    }
    if let Some(url) = &report.url {
        words::check_url(url)?;
    }
    Ok(report)
}

fn check_probe(probe: bool, has_url: bool, state: DeploymentState) -> Result<(), Refusal> {
    let message = match (probe, has_url, state.is_final()) {
        (true, false, _) => "needs a url to ask",
        (true, true, true) => "makes no sense for a deployment that has ended",
        _ => return Ok(()),
    };
    Err(Refusal::Invalid { field: "probe", message: message.to_owned() })
}
