//! The daemon's own routes: which handler answers what, and what stands around all of them.
//!
//! Handlers translate between the wire ([`crate::api`]) and the rooms behind it; they decide nothing themselves.

mod access;
mod answer;
mod audit;
mod config;
mod deliveries;
mod deployments;
mod events;
mod extract;
mod grants;
mod guard;
mod logs;
mod openapi;
mod pages;
mod paging;
mod plugins;
mod projects;
mod sandbox;
mod status;
mod storage;
mod streams;
mod traffic;

use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::{Router, routing};
use http::{Method, StatusCode, Uri};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use answer::Failure;

pub use openapi::document;

/// Everything that the daemon answers: its own routes, its pages, and the plugins' routes.
pub(crate) fn router(app: &App) -> Router {
    let (own, _) = api().split_for_parts();
    let own = own
        .route("/api/openapi.json", routing::get(openapi::serve))
        .route("/", routing::get(pages::start))
        .route("/login", routing::get(pages::login))
        .route("/assets/{file}", routing::get(pages::asset))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(extract::MAX_BODY_BYTES))
        .layer(from_fn_with_state(app.clone(), guard::signed_in))
        .layer(from_fn_with_state(app.clone(), guard::in_time))
        .layer(from_fn(guard::with_headers))
        .with_state(app.clone());
    app.host().router().merge(own).layer(from_fn_with_state(app.clone(), guard::own_hosts))
}

/// The routes that the OpenAPI document describes.
fn api() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(status::version))
        .routes(routes!(status::health))
        .routes(routes!(status::readiness))
        .routes(routes!(status::metrics))
        .routes(routes!(access::session, access::sign_out))
        .routes(routes!(access::login_link))
        .routes(routes!(access::tokens, access::create_token))
        .routes(routes!(access::revoke_token))
        .routes(routes!(plugins::list))
        .routes(routes!(plugins::get))
        .routes(routes!(plugins::start))
        .routes(routes!(plugins::stop))
        .routes(routes!(plugins::restart))
        .routes(routes!(plugins::enable))
        .routes(routes!(plugins::disable))
        .routes(routes!(plugins::debug))
        .routes(routes!(plugins::adopt))
        .routes(routes!(plugins::drop_database))
        .routes(routes!(sandbox::explain))
        .routes(routes!(grants::list, grants::give, grants::revoke))
        .routes(routes!(config::get, config::change, config::replace))
        .routes(routes!(storage::list, storage::clear))
        .routes(routes!(storage::get))
        .routes(routes!(logs::read))
        .routes(routes!(traffic::watch))
        .routes(routes!(events::list, events::publish))
        .routes(routes!(events::follow))
        .routes(routes!(events::get))
        .routes(routes!(deliveries::list))
        .routes(routes!(deliveries::get))
        .routes(routes!(deliveries::redeliver))
        .routes(routes!(deliveries::discard))
        .routes(routes!(deliveries::attempts))
        .routes(routes!(deliveries::redeliver_all))
        .routes(routes!(deliveries::discard_all))
        .routes(routes!(deliveries::pause))
        .routes(routes!(deliveries::resume))
        .routes(routes!(deliveries::replay))
        .routes(routes!(audit::list))
        .routes(routes!(audit::follow))
        .routes(routes!(audit::export))
        .routes(routes!(audit::verify, audit::checked))
        .routes(routes!(projects::list, projects::create))
        .routes(routes!(projects::get, projects::delete))
        .routes(routes!(projects::list_environments, projects::create_environment))
        .routes(routes!(projects::get_environment, projects::delete_environment))
        .routes(routes!(deployments::list, deployments::report))
        .routes(routes!(deployments::get, deployments::change))
}

async fn no_route(uri: Uri) -> Failure {
    Failure::not_found(format!("there is nothing at {}", uri.path()))
        .hint("/api/openapi.json lists all routes")
}

async fn no_method(method: Method, uri: Uri) -> Failure {
    let detail = format!("{} does not take {method}", uri.path());
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}
