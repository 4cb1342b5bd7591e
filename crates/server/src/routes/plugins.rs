//! Plugins: looked at, started, stopped, turned off, debugged, adopted.

use axum::extract::State;
use axum::{Extension, Json};
use temps_host::plugin::snapshot::CrashReport;
use temps_host::{PluginSnapshot, Role};

use super::answer::{Answer, Failure};
use super::deliveries;
use super::extract::{Body, OptionalBody, Path};
use crate::api::deliveries::DeliveryProgress;
use crate::api::page::Page;
use crate::api::plugins::{
    Adoption, Crash, DebugSwitch, Plugin, PluginApiVersion, PluginDatabase, PluginEgress, Usage,
};
use crate::app::App;
use crate::auth::Identity;

/// All plugins.
#[utoipa::path(get, path = "/api/plugins", tag = "plugins", operation_id = "listPlugins",
    responses((status = 200, description = "All plugins, by name, in one page", body = Page<Plugin>)))]
pub(super) async fn list(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
) -> Json<Page<Plugin>> {
    let mut items = Vec::new();
    for snapshot in app.host().plugins() {
        items.push(plugin(&app, &snapshot, identity.role, deliveries::progress(&app, &snapshot.name).await));
    }
    Json(Page { items, next_cursor: None })
}

/// One plugin.
#[utoipa::path(get, path = "/api/plugins/{name}", tag = "plugins", operation_id = "getPlugin",
    params(("name" = String, Path, description = "Name of the plugin")),
    responses((status = 200, description = "The plugin as it was last measured", body = Plugin)))]
pub(super) async fn get(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(name): Path<String>,
) -> Answer<Json<Plugin>> {
    look(&app, &name, identity.role).await
}

/// Starts a plugin that is stopped, in backoff or quarantined.
#[utoipa::path(post, path = "/api/plugins/{name}/start", tag = "plugins", operation_id = "startPlugin",
    params(("name" = String, Path, description = "Name of the plugin")),
    responses((status = 200, description = "The start was begun", body = Plugin)))]
pub(super) async fn start(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(name): Path<String>,
) -> Answer<Json<Plugin>> {
    app.host().start_plugin(&name, &identity.actor()).await?;
    look(&app, &name, identity.role).await
}

/// Stops a plugin until it is started again or the daemon restarts.
#[utoipa::path(post, path = "/api/plugins/{name}/stop", tag = "plugins", operation_id = "stopPlugin",
    params(("name" = String, Path, description = "Name of the plugin")),
    responses((status = 200, description = "It is stopped", body = Plugin)))]
pub(super) async fn stop(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(name): Path<String>,
) -> Answer<Json<Plugin>> {
    app.host().stop_plugin(&name, &identity.actor()).await?;
    look(&app, &name, identity.role).await
}

/// Stops and starts a plugin.
#[utoipa::path(post, path = "/api/plugins/{name}/restart", tag = "plugins", operation_id = "restartPlugin",
    params(("name" = String, Path, description = "Name of the plugin")),
    responses((status = 200, description = "The new start was begun", body = Plugin)))]
pub(super) async fn restart(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(name): Path<String>,
) -> Answer<Json<Plugin>> {
    app.host().restart_plugin(&name, &identity.actor()).await?;
    look(&app, &name, identity.role).await
}

/// Lets a plugin run again, now and after each start of the daemon.
#[utoipa::path(post, path = "/api/plugins/{name}/enable", tag = "plugins", operation_id = "enablePlugin",
    params(("name" = String, Path, description = "Name of the plugin")),
    responses((status = 200, description = "It may run", body = Plugin)))]
pub(super) async fn enable(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(name): Path<String>,
) -> Answer<Json<Plugin>> {
    app.host().enable_plugin(&name, &identity.actor()).await?;
    look(&app, &name, identity.role).await
}

/// Stops a plugin and keeps it off, also after a restart of the daemon.
#[utoipa::path(post, path = "/api/plugins/{name}/disable", tag = "plugins", operation_id = "disablePlugin",
    params(("name" = String, Path, description = "Name of the plugin")),
    responses((status = 200, description = "It is off", body = Plugin)))]
pub(super) async fn disable(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(name): Path<String>,
) -> Answer<Json<Plugin>> {
    app.host().disable_plugin(&name, &identity.actor()).await?;
    look(&app, &name, identity.role).await
}

/// Turns debugging on or off: while it is on, nothing kills a paused process.
#[utoipa::path(post, path = "/api/plugins/{name}/debug", tag = "plugins", operation_id = "debugPlugin",
    params(("name" = String, Path, description = "Name of the plugin")), request_body = DebugSwitch,
    responses((status = 200, description = "It is as wanted", body = Plugin)))]
pub(super) async fn debug(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(name): Path<String>,
    Body(switch): Body<DebugSwitch>,
) -> Answer<Json<Plugin>> {
    app.host().debug_plugin(&name, switch.on, &identity.actor()).await?;
    look(&app, &name, identity.role).await
}

/// Gives a plugin's name, data and grants to another file that claims the name.
#[utoipa::path(post, path = "/api/plugins/{name}/adopt", tag = "plugins", operation_id = "adoptPlugin",
    params(("name" = String, Path, description = "Name of the plugin")), request_body = Option<Adoption>,
    responses((status = 200, description = "The file has the name", body = Plugin)))]
pub(super) async fn adopt(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(name): Path<String>,
    OptionalBody(adoption): OptionalBody<Adoption>,
) -> Answer<Json<Plugin>> {
    app.host().adopt(&name, adoption.file.as_deref(), &identity.actor()).await?;
    look(&app, &name, identity.role).await
}

/// Removes the plugin's database on the PostgreSQL server with everything in it, for good. Nothing else ever does. Refused while
/// the plugin has the grant `database=postgres`.
#[utoipa::path(delete, path = "/api/plugins/{name}/database", tag = "plugins", operation_id = "dropPluginDatabase",
    params(("name" = String, Path, description = "Name of the plugin")),
    responses((status = 200, description = "The database is gone", body = Plugin)))]
pub(super) async fn drop_database(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(name): Path<String>,
) -> Answer<Json<Plugin>> {
    app.host().drop_database(&name, &identity.actor()).await?;
    look(&app, &name, identity.role).await
}

/// A plugin as it is now.
pub(super) async fn look(app: &App, name: &str, role: Role) -> Answer<Json<Plugin>> {
    let snapshot = app.host().plugin(name);
    let snapshot = snapshot.ok_or_else(|| {
        Failure::not_found(format!("there is no plugin named {name:?}")).hint("GET /api/plugins lists all")
    })?;
    Ok(Json(plugin(app, &snapshot, role, deliveries::progress(app, name).await)))
}

fn plugin(app: &App, snapshot: &PluginSnapshot, role: Role, deliveries: Option<DeliveryProgress>) -> Plugin {
    let manifest = snapshot.manifest.as_deref();
    Plugin {
        name: snapshot.name.clone(),
        display_name: manifest.and_then(|manifest| manifest.display_name.clone()),
        description: manifest.and_then(|manifest| manifest.description.clone()),
        version: manifest.map(|manifest| manifest.version.clone()),
        state: snapshot.state.as_str().to_owned(),
        reason: snapshot.reason.clone(),
        file: snapshot.file.display().to_string(),
        hash: snapshot.hash.clone(),
        manifest: manifest.and_then(|manifest| serde_json::to_value(manifest).ok()),
        has_ui: snapshot.has_ui,
        ui_url: snapshot.has_ui.then(|| format!("/api/x/{}/ui/", snapshot.name)),
        channel: snapshot.channel.map(str::to_owned),
        features: snapshot.features.iter().map(|feature| (*feature).to_owned()).collect(),
        health: snapshot.health.map(str::to_owned),
        pid: snapshot.pid,
        containment: snapshot.containment.map(str::to_owned),
        running_since: snapshot.running_since,
        usage: snapshot.usage.as_ref().map(usage),
        next_start_at: snapshot.next_start_at,
        starts: snapshot.starts,
        crashes: snapshot.crashes,
        last_crash: snapshot.last_crash.as_ref().map(|report| crash(report, role)),
        api_version: app.host().api_version(&snapshot.name).map(|seen| PluginApiVersion {
            major: seen.major,
            newest: seen.newest,
            deprecated: seen.deprecated,
        }),
        database: app.host().database(&snapshot.name).map(|seen| PluginDatabase {
            engine: seen.engine.to_owned(),
            place: seen.place,
            reachable: seen.reachable,
            reason: seen.reason.filter(|_| role == Role::Admin),
        }),
        egress: app.host().egress(&snapshot.name).filter(|_| snapshot.manifest.is_some()).map(|seen| {
            PluginEgress {
                way: seen.way.as_str().to_owned(),
                targets: seen.targets,
                allow_loopback: seen.set.allow_loopback.iter().map(ToString::to_string).collect(),
                without_tls: seen.set.without_tls,
            }
        }),
        deliveries,
        allowed_actions: snapshot.allowed_actions.iter().map(|action| (*action).to_owned()).collect(),
    }
}

fn usage(from: &temps_host::usage::Usage) -> Usage {
    let traffic = &from.traffic;
    Usage {
        at: from.at,
        over_ms: u64::try_from(from.over.as_millis()).unwrap_or(u64::MAX),
        cpu_percent: from.cpu_percent(),
        memory_bytes: from.memory_bytes,
        processes: from.processes,
        tasks: from.tasks,
        descriptors: from.descriptors,
        disk_bytes: from.disk_bytes,
        near_limits: from.near_limits.clone(),
        frames_in: traffic.frames_in,
        frames_out: traffic.frames_out,
        frame_bytes_in: traffic.frame_bytes_in,
        frame_bytes_out: traffic.frame_bytes_out,
        requests: traffic.requests,
        body_bytes_in: traffic.body_bytes_in,
        body_bytes_out: traffic.body_bytes_out,
    }
}

/// A viewer sees that and how a plugin crashed; what it wrote is a log, and logs are for admins.
fn crash(report: &CrashReport, role: Role) -> Crash {
    Crash {
        at: report.at,
        cause: report.cause.clone(),
        exit_code: report.exit_code,
        signal: report.signal,
        out_of_memory: report.out_of_memory,
        state: report.state.as_str().to_owned(),
        last_lines: if role == Role::Admin { report.last_lines.clone() } else { Vec::new() },
    }
}
