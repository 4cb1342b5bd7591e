//! The last events, and everybody who waits for the next one. It knows nothing of HTTP.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use temps_plugin_sdk::prelude::PluginEvent;
use tokio::sync::broadcast;

/// Events that are kept. A page shows no more, and a megabyte or so is what they take at worst in practice.
pub(crate) const KEPT: usize = 50;

/// Events that a slow page may be behind before it misses some.
const BEHIND: usize = 64;

pub(crate) struct Recent {
    events: Mutex<VecDeque<Arc<PluginEvent>>>,
    news: broadcast::Sender<Arc<PluginEvent>>,
}

impl Default for Recent {
    fn default() -> Self {
        Self { events: Mutex::default(), news: broadcast::Sender::new(BEHIND) }
    }
}

impl Recent {
    /// Remembers an event. One that came before (a host may send an event again) is not shown twice.
    pub(crate) fn add(&self, event: PluginEvent) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.iter().any(|known| known.id == event.id) {
            return;
        }
        let event = Arc::new(event);
        if events.len() == KEPT {
            events.pop_front();
        }
        events.push_back(Arc::clone(&event));
        // Sent under the lock, so that a new subscriber gets each event exactly once. Nobody listening is no error.
        let _ = self.news.send(event);
    }

    pub(crate) fn newest_first(&self) -> Vec<Arc<PluginEvent>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }

    /// What is known, oldest first, and everything after it.
    pub(crate) fn subscribe(&self) -> (Vec<Arc<PluginEvent>>, broadcast::Receiver<Arc<PluginEvent>>) {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        (events.iter().cloned().collect(), self.news.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: usize) -> PluginEvent {
        let text = format!(r#"{{"id":"{id}","event_type":"a.b","timestamp":"2026-06-06T12:00:00Z"}}"#);
        temps_plugin_sdk::prelude::serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn the_last_fifty_are_kept_once_each() {
        let recent = Recent::default();
        for id in 0..KEPT + 5 {
            recent.add(event(id));
            recent.add(event(id));
        }
        let ids: Vec<String> = recent.newest_first().iter().map(|event| event.id.clone()).collect();
        assert_eq!(ids.len(), KEPT);
        assert_eq!((ids[0].as_str(), ids[KEPT - 1].as_str()), ("54", "5"));
    }

    #[test]
    fn a_subscriber_gets_each_event_exactly_once() {
        let recent = Recent::default();
        recent.add(event(1));
        let (known, mut news) = recent.subscribe();
        recent.add(event(2));
        assert_eq!(known.len(), 1);
        assert_eq!(news.try_recv().unwrap().id, "2");
        assert!(news.try_recv().is_err());
    }
}
