//! Major versions of events: which of them a host speaks, and how an event of one becomes an event of the one before.
//!
//! A platform publishes each event in its newest form, which the journal keeps. A plugin says in `api_version` for which major
//! version it was written. Where a type's payload changed with a major version, an adapter leads back over that change;
//! adapters follow each other until the plugin's version is reached. Without adapters nothing is looked at and nothing
//! is copied. The protocol itself has one major version; a platform may have later ones for its own event types.
//!
//! Everything here is a pure function of an event's data. It knows nothing of deliveries, stores or processes.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde_json::{Map, Value};
use temps_protocol::PluginManifest;
use temps_protocol::event::is_event_type;
use temps_protocol::limits::MAX_EVENT_BYTES;
use temps_protocol::manifest::parse_api_version;

/// The `data` of an event.
pub type Data = Map<String, Value>;

type Adapt = Arc<dyn Fn(Data) -> Result<Data, AdaptError> + Send + Sync>;

/// Why an event has no form in an older major version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AdaptError(String);

impl AdaptError {
    /// An error that operators read beside the delivery that failed.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// A plugin was written for a version that this host does not speak.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "api_version: the plugin needs version {wanted}, this host speaks {spoken}; \
     update the host, or use a version of the plugin for it"
)]
pub struct Unsupported {
    wanted: String,
    spoken: String,
}

/// The version that a plugin was written for, as a host sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiVersionView {
    /// Its major version.
    pub major: u64,
    /// The newest one that the host speaks.
    pub newest: u64,
    /// When its end comes and what to do, if it is deprecated.
    pub deprecated: Option<String>,
}

/// The major versions that a host speaks. Cheap to clone.
#[derive(Clone)]
pub struct ApiVersions {
    newest: u64,
    /// By event type and the major version that an adapter leads away from.
    adapters: BTreeMap<(String, u64), Adapt>,
    deprecated: BTreeMap<u64, String>,
}

impl Default for ApiVersions {
    /// The protocol's own: major version 1.
    fn default() -> Self {
        Self {
            newest: temps_protocol::API_VERSION.major,
            adapters: BTreeMap::new(),
            deprecated: BTreeMap::new(),
        }
    }
}

impl std::fmt::Debug for ApiVersions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let adapters: Vec<_> = self.adapters.keys().collect();
        f.debug_struct("ApiVersions")
            .field("newest", &self.newest)
            .field("adapters", &adapters)
            .field("deprecated", &self.deprecated)
            .finish()
    }
}

impl ApiVersions {
    /// Speaks all major versions up to this one.
    #[must_use]
    pub fn up_to(mut self, major: u64) -> Self {
        self.newest = self.newest.max(major);
        self
    }

    /// With major version `from`, the data of `event_type` changed: `adapt` makes of it what it was in the version before. It must
    /// be a function of the data alone, because its result is kept. The envelope of an event never changes.
    ///
    /// Types without an adapter are the same in both versions. A second adapter for the same step takes the first one's
    /// place.
    #[must_use]
    pub fn adapter(
        mut self,
        from: u64,
        event_type: impl Into<String>,
        adapt: impl Fn(Data) -> Result<Data, AdaptError> + Send + Sync + 'static,
    ) -> Self {
        self.adapters.insert((event_type.into(), from), Arc::new(adapt));
        self.up_to(from)
    }

    /// Marks a major version whose end is near; `advice` says when, and what to do. Its plugins go on working, and operators
    /// are told.
    #[must_use]
    pub fn deprecate(mut self, major: u64, advice: impl Into<String>) -> Self {
        self.deprecated.insert(major, advice.into());
        self
    }

    /// The newest major version, in which events are published.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// What is said of a deprecated major version.
    #[must_use]
    pub fn deprecation(&self, major: u64) -> Option<&str> {
        self.deprecated.get(&major).map(String::as_str)
    }

    /// What cannot be meant, in words for the platform's author.
    pub(crate) fn check(&self) -> Result<(), String> {
        let first = temps_protocol::API_VERSION.major;
        for (event_type, from) in self.adapters.keys() {
            if !is_event_type(event_type) {
                return Err(format!("an adapter is for {event_type:?}, which is no event type"));
            }
            if *from <= first {
                return Err(format!(
                    "the adapter for {event_type} leads away from version {from}, but there is none before {first}"
                ));
            }
        }
        match self.deprecated.keys().find(|major| **major < first || **major >= self.newest) {
            None => Ok(()),
            Some(major) => Err(format!(
                "version {major} is deprecated, but there is no newer one to move to (newest: {})",
                self.newest
            )),
        }
    }

    /// Whether the host speaks the version that a plugin was written for.
    pub(crate) fn accept(&self, manifest: &PluginManifest) -> Result<(), Unsupported> {
        let first = temps_protocol::API_VERSION.major;
        if (first..=self.newest).contains(&major_of(manifest)) {
            return Ok(());
        }
        let spoken =
            if self.newest == first { first.to_string() } else { format!("{first} to {}", self.newest) };
        let wanted = manifest.api_version.clone().unwrap_or_default();
        Err(Unsupported { wanted: wanted.chars().take(40).collect(), spoken })
    }

    /// Whether events of this type have another form in this major version than in the newest.
    pub(crate) fn differ(&self, event_type: &str, major: u64) -> bool {
        !self.adapters.is_empty() && self.steps(event_type, major).next().is_some()
    }

    /// The event in the form of an older major version, as JSON.
    pub(crate) fn adapt(&self, event_type: &str, event: &str, major: u64) -> Result<String, AdaptError> {
        let unreadable = |_| AdaptError::new("the event in the journal cannot be read");
        let mut event: Map<String, Value> = serde_json::from_str(event).map_err(unreadable)?;
        let mut data = match event.remove("data") {
            Some(Value::Object(data)) => data,
            _ => Map::new(),
        };
        for (from, adapt) in self.steps(event_type, major) {
            // An adapter that panics fails its event, and nothing else.
            let adapted = catch_unwind(AssertUnwindSafe(|| adapt(data)))
                .unwrap_or_else(|_| Err(AdaptError::new("the adapter panicked")));
            data = adapted.map_err(|error| {
                AdaptError(format!(
                    "{event_type} of version {from} has no form in version {}: {error}",
                    from - 1
                ))
            })?;
        }
        event.insert("data".to_owned(), Value::Object(data));
        let text = Value::Object(event).to_string();
        if text.len() > MAX_EVENT_BYTES {
            let bytes = text.len();
            return Err(AdaptError(format!(
                "in version {major} it has {bytes} bytes; {MAX_EVENT_BYTES} are allowed"
            )));
        }
        Ok(text)
    }

    /// Adapters from the newest major version down to this one, the newest first.
    fn steps<'a>(&'a self, event_type: &str, major: u64) -> impl Iterator<Item = (u64, &'a Adapt)> {
        let first = (event_type.to_owned(), major.saturating_add(1));
        let last = (event_type.to_owned(), u64::MAX);
        // A version that was refused never gets here; one without any difference has an empty range.
        self.adapters.range(first..=last).rev().map(|((_, from), adapt)| (*from, adapt))
    }
}

/// The major version that a plugin was written for; 1 when it says none.
pub(crate) fn major_of(manifest: &PluginManifest) -> u64 {
    let said = manifest.api_version.as_deref().and_then(parse_api_version);
    said.map_or(temps_protocol::API_VERSION.major, |(major, _)| major)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rename(old: &'static str, new: &'static str) -> impl Fn(Data) -> Result<Data, AdaptError> {
        move |mut data| {
            let value = data.remove(new).ok_or_else(|| AdaptError::new(format!("there is no {new}")))?;
            data.insert(old.to_owned(), value);
            Ok(data)
        }
    }

    fn three() -> ApiVersions {
        ApiVersions::default()
            .adapter(3, "invoice.paid", rename("cents", "amount"))
            .adapter(2, "invoice.paid", rename("price", "cents"))
            .adapter(2, "invoice.sent", |_| panic!("as ordered"))
    }

    #[expect(clippy::needless_pass_by_value, reason = "reads best beside json!")]
    fn event(data: Value) -> String {
        json!({"id": "e", "event_type": "invoice.paid", "timestamp": "2026-06-06T12:00:00Z", "data": data})
            .to_string()
    }

    fn data_in(versions: &ApiVersions, major: u64) -> Value {
        let text = versions.adapt("invoice.paid", &event(json!({"amount": 7, "kept": true})), major).unwrap();
        let event: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(event["id"], "e");
        event["data"].clone()
    }

    #[test]
    fn adapters_follow_each_other_down_to_the_plugins_version() {
        let versions = three();
        assert_eq!(versions.newest(), 3);
        assert_eq!(data_in(&versions, 3), json!({"amount": 7, "kept": true}));
        assert_eq!(data_in(&versions, 2), json!({"cents": 7, "kept": true}));
        assert_eq!(data_in(&versions, 1), json!({"price": 7, "kept": true}));
        assert!(versions.differ("invoice.paid", 1) && versions.differ("invoice.paid", 2));
        assert!(!versions.differ("invoice.paid", 3) && !versions.differ("deployment.ready", 1));
    }

    #[test]
    fn an_event_without_an_older_form_says_why_and_a_panic_stays_where_it_is() {
        let versions = three();
        let why = versions.adapt("invoice.paid", &event(json!({})), 2).unwrap_err().to_string();
        assert_eq!(why, "invoice.paid of version 3 has no form in version 2: there is no amount");
        let why = versions.adapt("invoice.sent", &event(json!({})), 1).unwrap_err().to_string();
        assert!(why.contains("panicked"), "{why}");
        let large = ApiVersions::default().adapter(2, "a.b", |mut data| {
            data.insert("x".into(), "x".repeat(MAX_EVENT_BYTES).into());
            Ok(data)
        });
        assert!(large.adapt("a.b", &event(json!({})), 1).unwrap_err().to_string().contains("bytes"));
    }

    #[test]
    fn a_plugin_of_a_version_that_is_not_spoken_is_refused_with_what_is() {
        let of = |version: Option<&str>| {
            let mut manifest = PluginManifest::builder("a", "1.0.0").build();
            manifest.api_version = version.map(str::to_owned);
            manifest
        };
        let versions = ApiVersions::default();
        for taken in [None, Some("1"), Some("1.9"), Some("1.0.3")] {
            assert_eq!(versions.accept(&of(taken)), Ok(()), "{taken:?}");
        }
        for refused in ["0.9", "2.0"] {
            let why = versions.accept(&of(Some(refused))).unwrap_err().to_string();
            assert!(why.contains(refused) && why.contains("speaks 1;"), "{why}");
        }
        assert_eq!(three().accept(&of(Some("3"))), Ok(()));
        assert!(three().accept(&of(Some("4"))).unwrap_err().to_string().contains("speaks 1 to 3;"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_when_the_host_is_built() {
        assert_eq!(three().deprecate(1, "until 2027").check(), Ok(()));
        assert!(ApiVersions::default().deprecate(1, "until 2027").check().is_err());
        assert!(ApiVersions::default().adapter(1, "a.b", Ok).check().is_err());
        assert!(ApiVersions::default().adapter(2, "a.*", Ok).check().is_err());
    }
}
