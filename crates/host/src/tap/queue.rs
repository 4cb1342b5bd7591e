//! What waits for a watcher: bounded by bytes, never waited for. What does not fit is lost, and counted at its place.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde_json::Value;
use tokio::sync::Notify;

use super::Observed;

/// Bytes of steps that wait for one watcher. A step is mostly some hundred bytes, and at most about a MiB.
const KEPT_BYTES: usize = 8 * 1024 * 1024;

/// What a step weighs beside its texts, in bytes.
const STEP_BYTES: usize = 256;

/// What a watcher is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// A step.
    Step(Arc<Observed>),
    /// So many steps were lost here, because the watcher was too slow.
    Lost(u64),
}

/// Watches until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    queue: Arc<Queue>,
    all: Arc<Watchers>,
}

#[derive(Debug, Default)]
struct Queue {
    /// The plugin whose steps are wanted; those of all without one.
    only: Option<String>,
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    told: VecDeque<(Told, usize)>,
    bytes: usize,
}

/// Everybody who watches.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    queues: Mutex<Vec<Weak<Queue>>>,
    count: AtomicUsize,
    requests: AtomicU64,
}

impl Watchers {
    pub(super) fn watch(self: &Arc<Self>, only: Option<String>) -> Watcher {
        let queue = Arc::new(Queue { only, ..Queue::default() });
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&queue));
        self.count.fetch_add(1, Relaxed);
        Watcher { queue, all: Arc::clone(self) }
    }

    /// Whether somebody wants to know of this plugin. Without a watcher this costs next to nothing.
    pub(super) fn want(&self, plugin: &str) -> bool {
        self.count.load(Relaxed) > 0 && self.queues().any(|queue| queue.wants(plugin))
    }

    pub(super) fn tell(&self, observed: Observed) {
        let size = STEP_BYTES + weight(&observed.step);
        let observed = Arc::new(observed);
        for queue in self.queues().filter(|queue| queue.wants(&observed.plugin)) {
            queue.push(Arc::clone(&observed), size);
        }
    }

    /// A number for a request that no other request has.
    pub(super) fn next_request(&self) -> u64 {
        self.requests.fetch_add(1, Relaxed) + 1
    }

    fn queues(&self) -> impl Iterator<Item = Arc<Queue>> {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.iter().filter_map(Weak::upgrade).collect::<Vec<_>>().into_iter()
    }
}

impl Queue {
    fn wants(&self, plugin: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == plugin)
    }

    fn push(&self, observed: Arc<Observed>, size: usize) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.bytes + size <= KEPT_BYTES {
            waiting.bytes += size;
            waiting.told.push_back((Told::Step(observed), size));
        } else if let Some((Told::Lost(steps), _)) = waiting.told.back_mut() {
            *steps += 1;
        } else {
            waiting.told.push_back((Told::Lost(1), 0));
        }
        drop(waiting);
        self.changed.notify_one();
    }
}

impl Watcher {
    /// Waits for the next step. May be dropped while it waits.
    pub async fn next(&mut self) -> Told {
        loop {
            if let Some(told) = self.try_next() {
                return told;
            }
            self.queue.changed.notified().await;
        }
    }

    /// The next step, when there is one.
    pub fn try_next(&mut self) -> Option<Told> {
        let mut waiting = self.queue.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (told, size) = waiting.told.pop_front()?;
        waiting.bytes -= size;
        Some(told)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.all.count.fetch_sub(1, Relaxed);
        let mut queues = self.all.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|queue| queue.as_ptr() != Arc::as_ptr(&self.queue));
    }
}

/// About how many bytes the texts of a value have.
fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(|value| 8 + weight(value)).sum(),
        Value::Object(values) => values.iter().map(|(name, value)| 8 + name.len() + weight(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(plugin: &str, text: &str) -> Observed {
        let step = serde_json::json!({"text": text});
        Observed { plugin: plugin.into(), inspection: false, at: chrono::Utc::now(), step }
    }

    #[tokio::test]
    async fn a_watcher_that_is_too_slow_loses_steps_is_told_how_many_and_holds_up_nobody() {
        let all = Arc::new(Watchers::default());
        let mut slow = all.watch(None);
        let large = "x".repeat(KEPT_BYTES / 4);
        for _ in 0..10 {
            all.tell(step("a", &large));
        }
        for _ in 0..3 {
            assert!(matches!(slow.next().await, Told::Step(_)));
        }
        assert_eq!(slow.next().await, Told::Lost(7));
        all.tell(step("a", "small"));
        assert!(matches!(slow.next().await, Told::Step(step) if step.step["text"] == "small"));
        assert_eq!(slow.try_next(), None);
    }

    #[test]
    fn a_watcher_of_one_plugin_sees_no_other_and_one_that_is_gone_costs_nothing() {
        let all = Arc::new(Watchers::default());
        let mut one = all.watch(Some("a".into()));
        assert!(all.want("a") && !all.want("b"));
        all.tell(step("b", ""));
        all.tell(step("a", "mine"));
        assert!(matches!(one.try_next(), Some(Told::Step(step)) if step.plugin == "a"));
        drop(one);
        assert!(!all.want("a") && all.queues().next().is_none());
    }
}
