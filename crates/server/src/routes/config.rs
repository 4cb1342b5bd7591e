//! Configuration of a plugin: looked at and changed. Values of secrets come in and never go out.

use axum::extract::State;
use axum::{Extension, Json};
use serde_json::Value;
use temps_host::configuration::{ConfigChange, ConfigError, ConfigView};

use super::answer::{Answer, Failure};
use super::extract::{Body, Path, Query};
use crate::api::config::{ConfigProblem, ConfigQuery, PluginConfig, Setting};
use crate::app::App;
use crate::auth::Identity;

/// What is set for a plugin, and what it declares.
#[utoipa::path(get, path = "/api/plugins/{name}/config", tag = "plugins", operation_id = "getPluginConfig",
    params(("name" = String, Path, description = "Name of the plugin")),
    responses((status = 200, description = "The configuration, without values of secrets", body = PluginConfig)))]
pub(super) async fn get(State(app): State<App>, Path(name): Path<String>) -> Answer<Json<PluginConfig>> {
    let view = app.host().plugin_config(&name).await?;
    Ok(Json(config(name, view)))
}

/// Sets the named settings; null unsets one. Whole or not at all, and at once.
#[utoipa::path(patch, path = "/api/plugins/{name}/config", tag = "plugins", operation_id = "changePluginConfig",
    params(("name" = String, Path, description = "Name of the plugin"), ConfigQuery), request_body = Object,
    responses((status = 200, description = "The configuration, without values of secrets", body = PluginConfig)))]
pub(super) async fn change(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(name): Path<String>,
    Query(query): Query<ConfigQuery>,
    Body(values): Body<Value>,
) -> Answer<Json<PluginConfig>> {
    put(&app, &identity, name, query, values, false).await
}

/// Sets the named settings and unsets all others, but for secrets: nobody can read them back, so they stay until they are
/// unset by name.
#[utoipa::path(put, path = "/api/plugins/{name}/config", tag = "plugins", operation_id = "replacePluginConfig",
    params(("name" = String, Path, description = "Name of the plugin"), ConfigQuery), request_body = Object,
    responses((status = 200, description = "The configuration, without values of secrets", body = PluginConfig)))]
pub(super) async fn replace(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(name): Path<String>,
    Query(query): Query<ConfigQuery>,
    Body(values): Body<Value>,
) -> Answer<Json<PluginConfig>> {
    put(&app, &identity, name, query, values, true).await
}

async fn put(
    app: &App,
    identity: &Identity,
    name: String,
    query: ConfigQuery,
    values: Value,
    replace: bool,
) -> Answer<Json<PluginConfig>> {
    // The body is read as any JSON first, so that no message about its form holds a part of it.
    let Value::Object(set) = values else {
        return Err(Failure::invalid("the body must be an object with the settings to change"));
    };
    let (expected, force) = (query.revision, query.force.unwrap_or(false));
    let change = ConfigChange { set, replace, expected, force };
    let view = app.host().configure_plugin(&name, change, &identity.actor()).await?;
    Ok(Json(config(name, view)))
}

fn config(plugin: String, view: ConfigView) -> PluginConfig {
    let setting = |setting: temps_host::configuration::SettingView| Setting {
        name: setting.name,
        description: setting.description,
        secret: setting.secret,
        required: setting.required,
        set: setting.is_set,
        value: setting.value,
        declared: setting.declared,
    };
    let problem = |problem: temps_host::configuration::ConfigProblem| ConfigProblem {
        path: problem.path,
        message: problem.message,
        missing: problem.missing,
    };
    PluginConfig {
        plugin,
        revision: view.revision,
        updated_at: view.updated_at,
        updated_by: view.updated_by,
        settings: view.settings.into_iter().map(setting).collect(),
        problems: view.problems.into_iter().map(problem).collect(),
        schema: view.schema,
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        use http::StatusCode;
        let detail = error.to_string();
        match error {
            ConfigError::Operate(error) => error.into(),
            ConfigError::Invalid(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_config", detail)
                .hint("GET the configuration shows its schema"),
            ConfigError::Needed { .. } => Self::new(StatusCode::CONFLICT, "setting_needed", detail)
                .hint("force=true unsets it nevertheless"),
            ConfigError::Conflict { .. } => Self::new(StatusCode::CONFLICT, "revision_conflict", detail),
            ConfigError::Vault(_) => Self::new(StatusCode::CONFLICT, "key_unusable", detail),
            ConfigError::Store(error) => error.into(),
        }
    }
}
