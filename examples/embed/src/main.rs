//! A platform on axum that gains plugins: `embed HOME ADDRESS`, with executables in `HOME/plugins`.

use std::{net::SocketAddr, path::Path, sync::Arc};

use axum::{Router, extract::State, routing::post};
use temps_host::protocol::{PluginEvent, ProjectInfo};
use temps_host::store::sqlite::SqliteStore;
use temps_host::{Caller, HostConfig, Platform, PlatformError, PluginHost, Role};

struct Shop;

#[async_trait::async_trait]
impl Platform for Shop {
    async fn get_project(&self, id: i32) -> Result<Option<ProjectInfo>, PlatformError> {
        Ok(self.list_projects().await?.into_iter().find(|project| project.id == id))
    }

    async fn list_projects(&self) -> Result<Vec<ProjectInfo>, PlatformError> {
        Ok(vec![ProjectInfo { id: 1, name: "Shop".into(), slug: "shop".into(), ..ProjectInfo::default() }])
    }

    // Your own sign-in goes here; this one knows a single word.
    async fn authenticate(&self, request: &http::request::Parts) -> Option<Caller> {
        let known = request.headers.get("authorization")? == "Bearer open-sesame";
        known.then(|| Caller { id: "1".into(), name: "Ali".into(), email: None, role: Role::Admin })
    }
}

/// A route of the platform that tells its plugins what happened.
async fn create_project(State(host): State<PluginHost>) -> String {
    let event = PluginEvent {
        id: uuid::Uuid::now_v7().to_string(),
        event_type: "project.created".into(),
        timestamp: chrono::Utc::now(),
        project_id: Some(1),
        data: serde_json::json!({ "project_id": 1, "project_name": "Shop" }),
    };
    host.publish(event).await.map_or_else(|error| error.to_string(), |published| published.seq.to_string())
}

async fn serve(home: &Path, address: &str) -> Result<(), Box<dyn std::error::Error>> {
    std::fs::create_dir_all(home.join("plugins"))?;
    let config = HostConfig::for_places(home.join("plugins"), home.join("state"), home.join("run"));
    let store = SqliteStore::open(&home.join("platform.db"))?;
    let host = PluginHost::builder().config(config).platform(Arc::new(Shop)).store(store).build().await?;
    let own = Router::new().route("/projects", post(create_project)).with_state(host.clone());
    let app = host.router().merge(own).into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(tokio::net::TcpListener::bind(address).await?, app).await?;
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    temps_host::launcher(); // First of all: the host starts this program again to launch plugins.
    let arguments: Vec<String> = std::env::args().collect();
    let [_, home, address] = arguments.as_slice() else { return Err("usage: embed HOME ADDRESS".into()) };
    tokio::runtime::Runtime::new()?.block_on(serve(home.as_ref(), address))
}
