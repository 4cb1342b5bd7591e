//! What counts as the same, and what does not.

use super::*;

const A: &str = "0197a5c8-7d3e-7c1a-9f55-0d2c6a1b3e01";
const B: &str = "0197a5c8-7d3e-7c1a-9f55-0d2c6a1b3e02";
const C: &str = "0197a5c8-7d3e-7c1a-9f55-0d2c6a1b3e03";

fn asks(id: &str, key: &str) -> String {
    format!(r#"{{"type":"request","id":{id},"method":"kv_get","params":{{"key":"{key}"}}}}"#)
}

#[test]
fn ids_of_requests_are_mapped_into_the_answers_and_never_used_twice() {
    let mut shapes = Shapes::default();
    shapes.frame(&asks("1", "a"), &asks("\"x-7\"", "a")).unwrap();
    let answer = |id: &str| format!(r#"{{"type":"response","id":{id},"result":null}}"#);
    assert_eq!(shapes.send_frame(&answer("1")), r#"{"id":"x-7","result":null,"type":"response"}"#);
    assert_eq!(shapes.send_frame(&answer("9")), answer("9"));
    let twice = shapes.frame(&asks("2", "b"), &asks("\"x-7\"", "b")).unwrap_err();
    assert_eq!(twice.field, "text.id");
    assert_eq!(shapes.frame(&asks("2", "b"), &asks("null", "b")).unwrap_err().field, "text.id");
}

#[test]
fn a_field_that_is_otherwise_is_named() {
    let mut shapes = Shapes::default();
    let wrong = shapes.frame(&asks("1", "a"), &asks("1", "b")).unwrap_err();
    assert_eq!(
        (wrong.field.as_str(), wrong.expected.as_str(), wrong.got.as_str()),
        ("text.params.key", "\"a\"", "\"b\"")
    );
    let more = shapes.value("body", &json!({"a": [1]}), &json!({"a": [1], "b": 2})).unwrap_err();
    assert_eq!((more.field.as_str(), more.got.as_str()), ("body.b", "2"));
    assert_eq!(shapes.value("body", &json!([{"a": 1}]), &json!([{"a": 2}])).unwrap_err().field, "body[0].a");
    // Nothing that was tried in vain is remembered.
    shapes.frame(&asks("1", "a"), &asks("1", "a")).unwrap();
}

#[test]
fn what_the_plugin_chooses_is_matched_by_kind_and_what_the_host_said_as_it_was() {
    let mut shapes = Shapes::default();
    shapes.send_text(&format!("event {A} at 2026-06-06T12:00:00Z"));
    assert!(shapes.text("t", A, A).is_ok());
    assert!(shapes.text("t", A, B).is_err(), "the host said it");
    assert!(shapes.text("t", "2026-06-06T12:00:00Z", "2026-06-07T12:00:00Z").is_err());
    assert!(shapes.text("t", "at 2026-01-06T12:00:00Z", "at 2026-06-07T12:00:00.123+02:00").is_ok());
    assert!(shapes.text("t", "at 2026-01-06T12:00:00Z", "at noon").is_err());
    assert!(shapes.text("t", &format!("/notes/{B}"), &format!("/notes/{C}")).is_ok());
    assert!(shapes.text("t", B, C).is_ok(), "the same again");
    assert!(shapes.text("t", B, A).is_err(), "another one");
    assert_eq!(shapes.send_text(&format!("/notes/{B}?all")), format!("/notes/{C}?all"));
    assert!(shapes.value("m", &json!({"version": "1.0.0"}), &json!({"version": "1.0.1-rc.1"})).is_ok());
    assert!(shapes.value("m", &json!({"version": "1.0.0"}), &json!({"version": 1})).is_err());
}

#[test]
fn paths_and_secrets_are_those_of_this_life() {
    let mut shapes = Shapes::with_fresh("new".into());
    shapes.place("/run/old", "/tmp/new");
    shapes.place("/run/old.sock", "/tmp/s");
    shapes.place(MASK, "never");
    assert_eq!(shapes.send_text("/run/old.sock /run/old/a [masked]"), "/tmp/s /tmp/new/a new");
    assert!(shapes.text("t", "in /run/old", "in /tmp/new").is_ok());
    assert!(shapes.text("t", "a [masked] b [masked]", "a x b y").is_ok());
    assert!(shapes.text("t", "a [masked] b", "a x c").is_err());
}

#[test]
fn parameters_that_say_nothing_and_a_type_that_goes_without_saying_make_no_difference() {
    let mut shapes = Shapes::default();
    let bare = r#"{"id":1,"method":"list_projects"}"#;
    let full = r#"{"type":"request","id":1,"method":"list_projects","params":{}}"#;
    assert!(shapes.clone().frame(bare, full).is_ok());
    assert!(shapes.frame(full, bare).is_ok());
}
