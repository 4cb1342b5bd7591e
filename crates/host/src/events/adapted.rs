//! Events in the form of an older major version, made once for all plugins that want them so.
//!
//! The journal's entry is shared by all deliveries, and its older forms hang on it. A plugin that lags behind the journal's
//! window, and a retry, read entries of their own and make the form again. Where nothing changed between the
//! versions the entry itself is sent, and nothing is made.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::journal::Entry;
use crate::versions::{AdaptError, ApiVersions};

/// The older forms of one event, by major version.
#[derive(Debug, Default)]
pub(super) struct Forms(Mutex<BTreeMap<u64, Result<Arc<Entry>, AdaptError>>>);

/// The event as plugins of this major version get it.
pub(super) fn adapted(
    versions: &ApiVersions,
    entry: &Arc<Entry>,
    major: u64,
) -> Result<Arc<Entry>, AdaptError> {
    if !versions.differ(&entry.event_type, major) {
        return Ok(entry.clone());
    }
    let mut forms = entry.forms.0.lock().unwrap_or_else(PoisonError::into_inner);
    forms.entry(major).or_insert_with(|| make(versions, entry, major)).clone()
}

fn make(versions: &ApiVersions, entry: &Entry, major: u64) -> Result<Arc<Entry>, AdaptError> {
    let json = versions.adapt(&entry.event_type, &entry.json, major)?;
    Ok(Arc::new(Entry {
        seq: entry.seq,
        id: entry.id.clone(),
        event_type: entry.event_type.clone(),
        project_id: entry.project_id,
        published_at: entry.published_at,
        json: json.into(),
        forms: Forms::default(),
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use temps_store::JournalEntry;

    use super::super::tests::rig::event;
    use super::*;

    fn entry(event_type: &str) -> Arc<Entry> {
        let event = event(event_type, "e");
        let json = serde_json::to_string(&event).unwrap().into();
        Arc::new(JournalEntry { seq: 1, event, json, published_at: chrono::Utc::now() }.into())
    }

    #[test]
    fn a_form_is_made_once_and_an_event_without_a_change_is_sent_as_it_is() {
        let made = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&made);
        let versions = ApiVersions::default().adapter(2, "invoice.paid", move |data| {
            counted.fetch_add(1, Ordering::Relaxed);
            if data.is_empty() { Err(AdaptError::new("it is empty")) } else { Ok(data) }
        });
        let changed = entry("invoice.paid");
        let first = adapted(&versions, &changed, 1).map(|entry| entry.json.clone());
        let second = adapted(&versions, &changed, 1).map(|entry| entry.json.clone());
        assert_eq!((first, made.load(Ordering::Relaxed)), (second, 1));
        let same = entry("deployment.ready");
        assert!(Arc::ptr_eq(&adapted(&versions, &same, 1).unwrap(), &same));
        assert!(Arc::ptr_eq(&adapted(&versions, &changed, 2).unwrap(), &changed));
    }
}
