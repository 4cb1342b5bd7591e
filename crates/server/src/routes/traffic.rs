//! The traffic between the host and one plugin, as server-sent events. Who watches is recorded.

use std::convert::Infallible;

use axum::Extension;
use axum::extract::State;
use axum::response::sse::Sse;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::json;
use temps_host::tap::{Told, Watcher};

use super::answer::Answer;
use super::extract::Path;
use super::streams::{self, Ending};
use crate::app::App;
use crate::auth::Identity;

/// The steps between the host and a plugin from now on, through all its starts, as server-sent events `step`: each is a line of a
/// transcript, with secrets masked. A step of the kind `lost` says how many were lost to a reader that was too slow.
#[utoipa::path(get, path = "/api/plugins/{name}/traffic", tag = "plugins", operation_id = "watchTraffic",
    params(("name" = String, Path, description = "Name of the plugin")),
    responses((status = 200, description = "Steps of a transcript", content_type = "text/event-stream", body = Object)))]
pub(super) async fn watch(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(name): Path<String>,
) -> Answer<Response> {
    let watcher = app.host().watch_traffic(&name)?;
    app.host().record_audit("recording.started", Some(&name), &identity.actor(), json!({}));
    let ending = Ending::new(&app);
    let watching = Watching { watcher, app, name, actor: identity.actor(), steps: 0, lost: 0 };
    let events = stream::unfold((watching, ending), |(mut watching, ending)| async move {
        let told = ending.unless_over(watching.watcher.next()).await?;
        let event = match told {
            Told::Step(observed) => {
                watching.steps += 1;
                streams::json_event("step", &observed.step)
            }
            Told::Lost(steps) => {
                watching.lost += steps;
                streams::json_event("step", &json!({"from": "host", "kind": "lost", "steps": steps}))
            }
        };
        Some((Ok::<_, Infallible>(event), (watching, ending)))
    });
    Ok(Sse::new(events).keep_alive(streams::keep_alive()).into_response())
}

/// One watcher of the traffic; its end is recorded, however it comes.
struct Watching {
    watcher: Watcher,
    app: App,
    name: String,
    actor: String,
    steps: u64,
    lost: u64,
}

impl Drop for Watching {
    fn drop(&mut self) {
        let detail = json!({ "steps": self.steps, "lost": self.lost });
        self.app.host().record_audit("recording.ended", Some(&self.name), &self.actor, detail);
    }
}
