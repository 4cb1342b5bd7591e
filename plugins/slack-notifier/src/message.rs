//! What a message says: Slack's Block Kit from an event. Pure: it knows neither network nor settings.

use serde_json::{Value, json};
use temps_plugin_sdk::prelude::PluginEvent;

/// The events that become messages.
pub(crate) const EVENT_TYPES: [&str; 5] = [
    "deployment.created",
    "deployment.ready",
    "deployment.succeeded",
    "deployment.failed",
    "deployment.cancelled",
];

/// Most characters of a name from an event. Escaped they are five times as many at worst, and two names, a link and a
/// longer text still fit into a section (3,000 characters).
const MAX_NAME: usize = 80;

/// Most characters of a longer text from an event.
const MAX_TEXT: usize = 200;

/// Longest address that is made a link, in bytes, escaped.
const MAX_LINK: usize = 1000;

/// Characters of a commit's hash that are shown.
const SHORT_SHA: usize = 7;

/// The message for an event, or `None` for a type that makes none. `project` is the project's name, if it is known.
pub(crate) fn of_event(event: &PluginEvent, project: Option<&str>) -> Option<Value> {
    let (icon, words) = match event.event_type.as_str() {
        "deployment.created" => (":rocket:", "is being deployed"),
        "deployment.ready" => (":eyes:", "answers its health checks"),
        "deployment.succeeded" => (":white_check_mark:", "is live"),
        "deployment.failed" => (":x:", "failed to deploy"),
        "deployment.cancelled" => (":no_entry_sign:", "was not deployed: cancelled"),
        _ => return None,
    };
    let text = |name: &str| event.data.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let project = match project.or_else(|| text("project_name")) {
        Some(name) => escape(name, MAX_NAME),
        None => event.project_id.map_or_else(|| "A project".to_owned(), |id| format!("Project {id}")),
    };
    let place =
        text("environment_name").map(|name| format!(" on {}", escape(name, MAX_NAME))).unwrap_or_default();
    let headline = format!("{icon} *{project}*{place} {words}");
    let mut lines = vec![headline];
    if let Some(url) = text("url") {
        lines.push(link(url));
    }
    if let Some(reason) = text("error_message").filter(|_| event.event_type == "deployment.failed") {
        lines.push(format!("> {}", escape(&reason.replace(['\n', '\r'], " "), MAX_TEXT)));
    }
    let mut details = Vec::new();
    if let Some(branch) = text("branch") {
        details.push(format!("Branch {}", escape(branch, MAX_NAME)));
    }
    if let Some(sha) = text("commit_sha").filter(|sha| sha.bytes().all(|b| b.is_ascii_hexdigit())) {
        details.push(format!("Commit {}", &sha[..sha.len().min(SHORT_SHA)]));
    }
    if let Some(id) = event.data.get("deployment_id").and_then(Value::as_i64) {
        details.push(format!("Deployment {id}"));
    }
    // Shown in notifications, where there are no blocks.
    let fallback = format!("{project}{place} {words}");
    Some(message(&fallback, &lines.join("\n"), &details.join(" · ")))
}

/// The message that an operator sends to see whether messages arrive.
pub(crate) fn test() -> Value {
    let text = "Test message: deployments will be shown here";
    message(text, &format!(":wave: {text}"), "")
}

fn message(fallback: &str, body: &str, details: &str) -> Value {
    let mut blocks = vec![json!({"type": "section", "text": {"type": "mrkdwn", "text": body}})];
    if !details.is_empty() {
        blocks.push(json!({"type": "context", "elements": [{"type": "mrkdwn", "text": details}]}));
    }
    json!({"text": fallback, "blocks": blocks})
}

/// Text of an event, as Slack wants it: cut to `most` characters, and without anything that could become a link,
/// a mention or a command.
fn escape(text: &str, most: usize) -> String {
    let mut escaped = String::new();
    for (count, character) in text.chars().enumerate() {
        if count == most {
            escaped.push('…');
            break;
        }
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A link, where the address is a web address that Slack reads as one; otherwise plain text.
fn link(url: &str) -> String {
    let is_web = ["https://", "http://"].iter().any(|scheme| url.starts_with(scheme));
    let is_plain =
        url.chars().all(|c| !c.is_whitespace() && !c.is_control() && !matches!(c, '<' | '>' | '|' | '"'));
    let escaped = url.replace('&', "&amp;");
    if is_web && is_plain && escaped.len() <= MAX_LINK {
        format!("<{escaped}>")
    } else {
        escape(url, MAX_TEXT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(event_type: &str, data: &Value) -> PluginEvent {
        let event = json!({
            "id": "e", "event_type": event_type, "timestamp": "2026-06-06T12:00:00Z", "project_id": 42, "data": data,
        });
        serde_json::from_value(event).unwrap()
    }

    fn body(message: &Value) -> &str {
        message["blocks"][0]["text"]["text"].as_str().unwrap()
    }

    #[test]
    fn the_articles_event_becomes_a_message_with_its_link() {
        let data =
            json!({"deployment_id": 100, "url": "https://myapp.example.com", "commit_sha": "a1b2c3d4e5"});
        let message = of_event(&event("deployment.succeeded", &data), Some("my-app")).unwrap();
        assert_eq!(message["text"], "my-app is live");
        assert_eq!(body(&message), ":white_check_mark: *my-app* is live\n<https://myapp.example.com>");
        assert_eq!(message["blocks"][1]["elements"][0]["text"], "Commit a1b2c3d · Deployment 100");
    }

    #[test]
    fn each_type_says_something_else_and_others_say_nothing() {
        let texts: std::collections::HashSet<String> = EVENT_TYPES
            .iter()
            .map(|event_type| of_event(&event(event_type, &json!({})), None).unwrap()["text"].to_string())
            .collect();
        assert_eq!(texts.len(), EVENT_TYPES.len());
        assert!(of_event(&event("project.created", &json!({})), None).is_none());
    }

    #[test]
    fn without_a_name_the_project_is_known_by_what_the_event_has() {
        let named =
            event("deployment.ready", &json!({"project_name": "shop", "environment_name": "production"}));
        assert_eq!(of_event(&named, None).unwrap()["text"], "shop on production answers its health checks");
        let unnamed = event("deployment.ready", &json!({}));
        assert_eq!(of_event(&unnamed, None).unwrap()["text"], "Project 42 answers its health checks");
    }

    #[test]
    fn nothing_from_an_event_becomes_a_mention_or_a_link() {
        let data = json!({
            "environment_name": "<!channel> & <@U1>", "url": "https://a.example/|<!here>", "branch": "<http://evil|main>",
            "commit_sha": "<!everyone>", "error_message": "line one\nline <two>",
        });
        let message = of_event(&event("deployment.failed", &data), Some("<b>")).unwrap();
        let texts = message.to_string();
        assert!(!texts.contains("<!") && !texts.contains("<@") && !texts.contains("<http"), "{texts}");
        assert!(body(&message).contains("*&lt;b&gt;* on &lt;!channel&gt; &amp; &lt;@U1&gt;"));
        assert!(body(&message).ends_with("> line one line &lt;two&gt;"));
    }

    #[test]
    fn the_longest_event_still_fits_into_slacks_bounds() {
        let long = "&".repeat(100_000);
        for url in
            [long.clone(), format!("https://{}", "&".repeat(197)), format!("https://{}", "x".repeat(992))]
        {
            let data = json!({"environment_name": long, "url": url, "error_message": long, "branch": long});
            let message = of_event(&event("deployment.failed", &data), Some(&long)).unwrap();
            assert!(body(&message).chars().count() > 2000);
            for text in [body(&message), message["blocks"][1]["elements"][0]["text"].as_str().unwrap()] {
                assert!(text.chars().count() <= 3000, "{}", text.chars().count());
            }
        }
    }
}
