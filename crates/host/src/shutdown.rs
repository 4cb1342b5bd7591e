//! The end of a host: tell everybody, and know when everybody has left.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Tells tasks to end, and knows when they have. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    told: CancellationToken,
    here: TaskTracker,
    broken: Arc<AtomicBool>,
}

impl Shutdown {
    /// Starts a task that the end of the host waits for. It has to end soon after [`Shutdown::told`] is cancelled.
    pub fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let broken = Broken(Arc::clone(&self.broken));
        self.here.spawn(async move {
            let _told_on_panic = broken;
            task.await;
        });
    }

    /// Whether no task has ended by a panic. One that has is a bug of the host: what it did is not done any more.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.broken.load(Ordering::Relaxed)
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

/// Notes a panic of the task that holds it.
struct Broken(Arc<AtomicBool>);

impl Drop for Broken {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
            tracing::error!(
                "a task of the plugin host ended by a bug; restart the host, and report the panic in its log"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_not_overlooked() {
        let shutdown = Shutdown::default();
        shutdown.spawn(async {});
        shutdown.here.close();
        shutdown.here.wait().await;
        assert!(shutdown.is_whole());
        let shutdown = Shutdown::default();
        shutdown.spawn(async { panic!("on purpose") });
        shutdown.here.close();
        shutdown.here.wait().await;
        assert!(!shutdown.is_whole());
    }

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
