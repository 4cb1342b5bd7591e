//! What a message says: Slack's Block Kit from an event's payload. Pure: it knows neither network nor settings.

use serde_json::{Value, json};
use temps_plugin_sdk::prelude::Payload;

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
pub(crate) fn of_payload(payload: &Payload, project_id: Option<i32>, project: Option<&str>) -> Option<Value> {
    let told = tell(payload)?;
    let deployment = payload.deployment()?;
    let project = match project {
        Some(name) => escape(name, MAX_NAME),
        None => project_id.map_or_else(|| "A project".to_owned(), |id| format!("Project {id}")),
    };
    let place = said(deployment.environment_name.as_deref())
        .map(|name| format!(" on {}", escape(name, MAX_NAME)))
        .unwrap_or_default();
    let (icon, words) = (told.icon, told.words);
    let mut lines = vec![format!("{icon} *{project}*{place} {words}")];
    lines.extend(told.url.map(link));
    lines.extend(told.reason.map(|why| format!("> {}", escape(&why.replace(['\n', '\r'], " "), MAX_TEXT))));
    let mut details = Vec::new();
    details.extend(told.branch.map(|branch| format!("Branch {}", escape(branch, MAX_NAME))));
    let sha = told.commit_sha.filter(|sha| sha.bytes().all(|b| b.is_ascii_hexdigit()));
    details.extend(sha.map(|sha| format!("Commit {}", &sha[..sha.len().min(SHORT_SHA)])));
    details.push(format!("Deployment {}", deployment.deployment_id));
    // Shown in notifications, where there are no blocks.
    let fallback = format!("{project}{place} {words}");
    Some(message(&fallback, &lines.join("\n"), &details.join(" · ")))
}

/// What a deployment's event has to say.
#[derive(Default)]
struct Told<'a> {
    icon: &'static str,
    words: &'static str,
    url: Option<&'a str>,
    branch: Option<&'a str>,
    commit_sha: Option<&'a str>,
    reason: Option<&'a str>,
}

fn tell(payload: &Payload) -> Option<Told<'_>> {
    let with = |icon, words| Told { icon, words, ..Told::default() };
    Some(match payload {
        Payload::DeploymentCreated(it) => Told {
            branch: said(it.branch.as_deref()),
            commit_sha: said(it.commit_sha.as_deref()),
            ..with(":rocket:", "is being deployed")
        },
        Payload::DeploymentReady(it) => {
            Told { url: said(it.url.as_deref()), ..with(":eyes:", "answers its health checks") }
        }
        Payload::DeploymentSucceeded(it) => Told {
            url: said(it.url.as_deref()),
            commit_sha: said(it.commit_sha.as_deref()),
            ..with(":white_check_mark:", "is live")
        },
        Payload::DeploymentFailed(it) => {
            Told { reason: said(it.error_message.as_deref()), ..with(":x:", "failed to deploy") }
        }
        Payload::DeploymentCancelled(_) => with(":no_entry_sign:", "was not deployed: cancelled"),
        _ => return None,
    })
}

/// An empty text says nothing.
fn said(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
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

    fn of(event_type: &str, data: &Value, project: Option<&str>) -> Option<Value> {
        let payload = Payload::read(event_type, data).unwrap()?;
        of_payload(&payload, Some(42), project)
    }

    fn body(message: &Value) -> &str {
        message["blocks"][0]["text"]["text"].as_str().unwrap()
    }

    #[test]
    fn the_articles_event_becomes_a_message_with_its_link() {
        let data =
            json!({"deployment_id": 100, "url": "https://myapp.example.com", "commit_sha": "a1b2c3d4e5"});
        let message = of("deployment.succeeded", &data, Some("my-app")).unwrap();
        assert_eq!(message["text"], "my-app is live");
        assert_eq!(body(&message), ":white_check_mark: *my-app* is live\n<https://myapp.example.com>");
        assert_eq!(message["blocks"][1]["elements"][0]["text"], "Commit a1b2c3d · Deployment 100");
    }

    #[test]
    fn each_type_says_something_else_and_others_say_nothing() {
        let texts: std::collections::HashSet<String> = EVENT_TYPES
            .iter()
            .map(|event_type| of(event_type, &json!({"deployment_id": 1}), None).unwrap()["text"].to_string())
            .collect();
        assert_eq!(texts.len(), EVENT_TYPES.len());
        assert!(of("project.created", &json!({"project_id": 42, "project_name": "a"}), None).is_none());
    }

    #[test]
    fn without_a_name_the_project_is_known_by_its_number() {
        let data = json!({"deployment_id": 1, "environment_name": "production"});
        let text = of("deployment.ready", &data, None).unwrap()["text"].clone();
        assert_eq!(text, "Project 42 on production answers its health checks");
    }

    #[test]
    fn nothing_from_an_event_becomes_a_mention_or_a_link() {
        let data = json!({
            "deployment_id": 1, "environment_name": "<!channel> & <@U1>", "url": "https://a.example/|<!here>",
            "branch": "<http://evil|main>", "commit_sha": "<!everyone>", "error_message": "line one\nline <two>",
        });
        for event_type in EVENT_TYPES {
            let message = of(event_type, &data, Some("<b>")).unwrap();
            let texts = message.to_string();
            assert!(!texts.contains("<!") && !texts.contains("<@") && !texts.contains("<http"), "{texts}");
            assert!(body(&message).contains("*&lt;b&gt;* on &lt;!channel&gt; &amp; &lt;@U1&gt;"));
        }
        let failed = of("deployment.failed", &data, None).unwrap();
        assert!(body(&failed).ends_with("> line one line &lt;two&gt;"));
    }

    #[test]
    fn the_longest_event_still_fits_into_slacks_bounds() {
        let long = "&".repeat(100_000);
        for url in
            [long.clone(), format!("https://{}", "&".repeat(197)), format!("https://{}", "x".repeat(992))]
        {
            let data = json!({
                "deployment_id": 1, "environment_name": long, "url": url, "error_message": long, "branch": long,
            });
            for event_type in EVENT_TYPES {
                let message = of(event_type, &data, Some(&long)).unwrap();
                for text in [body(&message), message["blocks"][1]["elements"][0]["text"].as_str().unwrap()] {
                    assert!(text.chars().count() <= 3000, "{}", text.chars().count());
                }
            }
        }
    }
}
