//! The OpenAPI document: what is checked in is what the handlers say, and what is served.

use std::path::Path;

use crate::rig::Rig;

/// Set it to write the document instead of comparing it.
const WRITE: &str = "TEMPS_WRITE_OPENAPI";

#[test]
fn the_document_that_is_checked_in_is_what_the_handlers_say() {
    let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/openapi.json"));
    let mut generated = serde_json::to_string_pretty(&temps_server::openapi_document()).unwrap();
    generated.push('\n');
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(file, &generated).unwrap();
    }
    let kept = std::fs::read_to_string(file).unwrap_or_default();
    assert!(
        kept == generated,
        "spec/openapi.json is out of date; {WRITE}=1 cargo test -p temps-server openapi writes it"
    );
}

#[tokio::test]
async fn the_document_is_served_and_names_every_failure() {
    let rig = Rig::start().await;
    let document = rig.get("/api/openapi.json").await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let failure = &operation["responses"]["default"]["content"]["application/problem+json"];
            assert!(failure.is_object(), "{method} {path}");
            assert!(operation["operationId"].is_string(), "{method} {path}");
        }
    }
    rig.stop().await;
}
