//! The end of a host: tell everybody, and know when everybody has left.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Tells tasks to end, and knows when they have. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    told: CancellationToken,
    here: TaskTracker,
}

impl Shutdown {
    /// Starts a task that the end of the host waits for. It has to end soon after [`Shutdown::told`] is cancelled.
    pub fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.here.spawn(task);
    }

    /// Cancelled when the host ends.
    #[must_use]
    pub fn told(&self) -> CancellationToken {
        self.told.clone()
    }

    /// Tells everybody, and waits until all have left, for `patience` at most. Returns whether they have.
    pub async fn finish(&self, patience: Duration) -> bool {
        self.told.cancel();
        self.here.close();
        tokio::time::timeout(patience, self.here.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_everybody_but_not_for_ever() {
        let shutdown = Shutdown::default();
        let told = shutdown.told();
        shutdown.spawn(async move {
            told.cancelled().await;
            tokio::time::sleep(Duration::from_secs(3)).await;
        });
        let started = tokio::time::Instant::now();
        assert!(shutdown.finish(Duration::from_secs(10)).await);
        assert_eq!(started.elapsed(), Duration::from_secs(3));
        let shutdown = Shutdown::default();
        shutdown.spawn(std::future::pending());
        assert!(!shutdown.finish(Duration::from_secs(10)).await);
    }
}
