//! The OpenAPI document: what is checked in is what the handlers say, and what is served.

use std::path::Path;

use reqwest::Method;
use serde_json::Value;
use temps_testkit::daemon;

use crate::rig::{PATIENCE, Rig};

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

#[tokio::test(flavor = "multi_thread")]
async fn the_document_holds_a_plugins_routes_while_it_runs() {
    // The plugin of the guide, which here announces a document too.
    let plain = include_str!("../../../../examples/plain-python/minimal.py");
    let (ready, described) = (
        r#""has_ui":false}"#,
        r#""has_ui":false,"openapi":{"openapi":"3.1.0","info":{"title":"p","version":"1"},"paths":{"/events":{"get":{"responses":{"200":{"description":"ok"}}}}}}}"#,
    );
    assert!(plain.contains(ready));
    let home = daemon::empty_home();
    let program = home.path().join("program");
    std::fs::write(&program, plain.replace(ready, described)).unwrap();
    daemon::put_plugin(home.path(), "described", &program);
    let rig = Rig::start_in(home, |_| {}).await;
    let route = "/api/x/plain-python/events";
    wait_for_route(&rig, route, true).await;
    let stop = rig.request(Method::POST, "/api/plugins/plain-python/stop").send().await.unwrap();
    assert_eq!(stop.status(), 200);
    wait_for_route(&rig, route, false).await;
    rig.stop().await;
}

/// Waits until a route is in the served document, or is not.
async fn wait_for_route(rig: &Rig, route: &str, there: bool) {
    let waiting = async {
        loop {
            let document: Value = rig.get("/api/openapi.json").await;
            assert!(document["paths"]["/api/plugins"].is_object(), "our own routes stay");
            if document["paths"].get(route).is_some() == there {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    if waited.is_err() {
        panic!("{route} there: {}; {}", !there, rig.get("/api/plugins").await);
    }
}
