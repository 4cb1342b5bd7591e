//! The filters of a manifest: conditions on what is in an event, beside the types that it subscribes to.
//!
//! A pure function of the event. An event is parsed only for plugins that have filters.

use serde::Deserialize;
use serde_json::Value;
use temps_protocol::EventFilter;

use super::journal::Entry;

/// What is looked at of an event.
#[derive(Deserialize)]
struct Content {
    #[serde(default)]
    data: Value,
}

/// Whether an event passes all filters. What is not there passes none.
pub(super) fn passes(filters: &[EventFilter], entry: &Entry) -> bool {
    if filters.is_empty() {
        return true;
    }
    let (of_project, of_content): (Vec<_>, Vec<_>) =
        filters.iter().partition(|filter| filter.path == "project_id");
    let project = entry.project_id.map(Value::from);
    if !of_project.iter().all(|filter| matches(filter, project.as_ref())) {
        return false;
    }
    if of_content.is_empty() {
        return true;
    }
    let data = serde_json::from_str::<Content>(&entry.json).map(|content| content.data).unwrap_or_default();
    of_content.iter().all(|filter| matches(filter, lookup(&data, &filter.path)))
}

/// `environment_id` stands in the data; `data.a.b` leads through objects.
fn lookup<'a>(data: &'a Value, path: &str) -> Option<&'a Value> {
    let path = path.strip_prefix("data.").unwrap_or(path);
    path.split('.').try_fold(data, |value, name| value.get(name))
}

fn matches(filter: &EventFilter, value: Option<&Value>) -> bool {
    value.is_some_and(|value| filter.any_of.iter().any(|wanted| equal(wanted, value)))
}

/// Numbers are equal by what they mean: `1` is `1.0`.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) if a.is_f64() != b.is_f64() => a.as_f64() == b.as_f64(),
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use temps_store::JournalEntry;

    use super::super::tests::rig::event;
    use super::*;

    fn entry(project_id: Option<i32>, data: Value) -> Entry {
        let event = temps_protocol::PluginEvent { project_id, data, ..event("deployment.ready", "e") };
        let json = serde_json::to_string(&event).unwrap().into();
        JournalEntry { seq: 1, event, json, published_at: chrono::Utc::now() }.into()
    }

    #[expect(clippy::needless_pass_by_value, reason = "reads best beside json!")]
    fn filter(path: &str, any_of: Value) -> EventFilter {
        EventFilter { path: path.into(), any_of: any_of.as_array().unwrap().clone() }
    }

    #[test]
    fn an_event_passes_when_each_path_has_one_of_its_values() {
        let event = entry(
            Some(7),
            json!({"environment_id": 3, "branch": "main", "commit": {"author": "ada", "n": 1.0}}),
        );
        for (path, any_of, expected) in [
            ("project_id", json!([1, 7]), true),
            ("project_id", json!([1]), false),
            ("project_id", json!(["7"]), false),
            ("project_id", json!([]), false),
            ("environment_id", json!([3]), true),
            ("environment_id", json!([4]), false),
            ("data.branch", json!(["main", "release"]), true),
            ("data.branch", json!(["mai"]), false),
            ("data.commit.author", json!(["ada"]), true),
            ("data.commit.n", json!([1]), true),
            ("data.commit", json!(["ada"]), false),
            ("data.commit.author.x", json!(["ada"]), false),
            ("data.nothing", json!([null]), false),
        ] {
            assert_eq!(passes(&[filter(path, any_of.clone())], &event), expected, "{path} in {any_of}");
        }
        let both =
            |author: &str| [filter("project_id", json!([7])), filter("data.commit.author", json!([author]))];
        assert!(passes(&both("ada"), &event));
        assert!(!passes(&both("bob"), &event), "all filters count");
        assert!(!passes(&[filter("project_id", json!([7]))], &entry(None, json!({}))));
        assert!(passes(&[], &entry(None, json!({}))));
    }

    fn scalar() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-3_i64..3).prop_map(Value::from),
            "[a-c]{0,2}".prop_map(Value::from),
        ]
    }

    proptest! {
        #[test]
        fn a_filter_lets_pass_exactly_what_its_list_has(
            value in scalar(), any_of in prop::collection::vec(scalar(), 0..5), names in prop::collection::vec("[a-z]{1,3}", 1..4)
        ) {
            let data = names.iter().rev().fold(value.clone(), |inner, name| json!({ name: inner }));
            let path = format!("data.{}", names.join("."));
            let filter = EventFilter { path, any_of: any_of.clone() };
            prop_assert_eq!(passes(&[filter], &entry(None, data)), any_of.contains(&value));
        }

        #[test]
        fn whatever_is_in_an_event_and_a_filter_one_more_filter_lets_no_more_pass(
            text in ".{0,40}", path in ".{0,20}", any_of in prop::collection::vec(scalar(), 0..3)
        ) {
            let event = entry(Some(1), json!({ "x": text }));
            let first = filter("data.x", json!([text]));
            let second = EventFilter { path, any_of };
            prop_assert!(passes(std::slice::from_ref(&first), &event));
            let both = passes(&[first, second.clone()], &event);
            prop_assert_eq!(both, passes(&[second], &event));
        }
    }
}
