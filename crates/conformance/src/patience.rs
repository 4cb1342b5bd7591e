//! Long waits for a line of the handshake: whoever waits at the terminal is told, and other scenes go on meanwhile, so that all
//! such waits of a run are one.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use temps_protocol::limits::HANDSHAKE_TIMEOUT;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

/// How long a line may take before the wait counts as a long one. Most plugins need a fraction of it.
const SHORT: Duration = Duration::from_secs(2);

/// A line that is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// The scene in which the plugin was started.
    pub scene: String,
    /// Which line.
    pub line: &'static str,
    /// How long it may take, in seconds from the start.
    pub up_to_s: u64,
}

/// How lines are waited for. Cheap to clone; the default one tells nobody.
#[derive(Debug, Clone, Default)]
pub(crate) struct Patience {
    scene: String,
    tell: Option<mpsc::UnboundedSender<Wait>>,
    /// The places for scenes. A scene that only waits lends its own.
    places: Option<Arc<Semaphore>>,
}

impl Patience {
    pub(crate) fn telling(tell: mpsc::UnboundedSender<Wait>, places: Arc<Semaphore>) -> Self {
        Self { scene: "handshake".into(), tell: Some(tell), places: Some(places) }
    }

    pub(crate) fn of_scene(&self, scene: &str) -> Self {
        Self { scene: scene.to_owned(), ..self.clone() }
    }

    /// Waits for a line as long as the protocol has it; `None` when it did not come.
    pub(crate) async fn wait<T>(&self, line: &'static str, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        if let Ok(done) = timeout(SHORT, &mut work).await {
            return Some(done);
        }
        if let Some(tell) = &self.tell {
            let wait = Wait { scene: self.scene.clone(), line, up_to_s: HANDSHAKE_TIMEOUT.as_secs() };
            // Nobody listens any more, otherwise.
            let _ = tell.send(wait);
        }
        if let Some(places) = &self.places {
            places.add_permits(1);
        }
        let done = timeout(HANDSHAKE_TIMEOUT.saturating_sub(SHORT), work).await.ok();
        if let Some(places) = &self.places
            && let Ok(place) = places.acquire().await
        {
            place.forget();
        }
        done
    }
}
