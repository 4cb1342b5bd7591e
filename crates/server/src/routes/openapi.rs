//! The OpenAPI document: generated from the handlers, with the running plugins' own documents merged in when served.

use axum::Json;
use axum::extract::State;
use serde_json::Value;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, ResponseBuilder,
    SecurityRequirement,
};
use utoipa::{PartialSchema, ToSchema};

use super::api;
use crate::api::problem::{PROBLEM_JSON, Problem};
use crate::app::App;
use crate::auth::SESSION_COOKIE;

/// What the document says about itself.
const DESCRIPTION: &str = "Plugins, events, and the reference platform's projects and deployments. \
    Every error is an application/problem+json document. Lists are pages: give next_cursor as cursor for the next.";

/// The daemon's own document.
#[must_use]
pub fn document() -> OpenApi {
    let (_, routes) = api().split_for_parts();
    let info = InfoBuilder::new()
        .title("temps")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .license(Some(utoipa::openapi::LicenseBuilder::new().name("Apache-2.0").build()))
        .build();
    let components = ComponentsBuilder::new()
        .schema(Problem::name(), Problem::schema())
        .security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)))
        .security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new(SESSION_COOKIE))))
        .build();
    let open = [
        SecurityRequirement::new::<_, [String; 0], String>("token", []),
        SecurityRequirement::new::<_, [String; 0], String>("session", []),
    ];
    let mut document =
        OpenApiBuilder::new().info(info).components(Some(components)).security(Some(open)).build();
    document.merge(routes);
    add_problems(&mut document);
    document
}

/// Says of every operation how it fails.
fn add_problems(document: &mut OpenApi) {
    let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name(Problem::name()))).build();
    let failure =
        ResponseBuilder::new().description("Why it was not done").content(PROBLEM_JSON, problem).build();
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            operation.responses.responses.insert("default".to_owned(), failure.clone().into());
        }
    }
}

/// The document with the running plugins' routes.
pub(super) async fn serve(State(app): State<App>) -> Json<Value> {
    let own = serde_json::to_value(document()).unwrap_or_default();
    Json(temps_host::proxy::openapi::merge(own, app.host().openapi_documents()))
}
