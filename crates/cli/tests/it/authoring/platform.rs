//! The simulated platform of `temps plugin dev`: it is what its file says, also after an edit, and an edit that does not fit
//! changes nothing.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use temps_testkit::daemon::eventually;

use super::{Desk, Dev, edit};

const WORLD: &str = r#"
[config]
greeting = "first"
token = "a-secret-of-the-author"

[[project]]
slug = "shop"
name = "Shop"
environments = ["production", "staging"]

[[project.deployment]]
environment = "staging"
state = "building"
"#;

/// A plugin with settings, one of them secret, that says the others when they change.
fn greeter(desk: &Desk) -> PathBuf {
    let project = desk.project("greeter", "python", &[]);
    let declared = r#"egress=[],
        config={
            "type": "object",
            "properties": {
                "greeting": {"type": "string", "default": "none"},
                "token": {"type": "string", "writeOnly": True},
            },
        },"#;
    let told = r#"@plugin.on_config
async def configured(ctx: Context) -> None:
    logger.info("greeting=%s token=%s", ctx.config["greeting"], len(ctx.config.get("token", "")))


if __name__ =="#;
    edit(&project.join("plugin.py"), &[("egress=[],", declared), ("if __name__ ==", told)]);
    std::fs::write(project.join("temps-dev.toml"), WORLD).unwrap();
    project
}

fn names(dev: &Dev, noun: &str, field: &str) -> Vec<String> {
    let listed = dev.command(&[noun, "list"]).json();
    let mut names: Vec<_> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one[field].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// Waits until the platform has published an event of this type.
fn published(dev: &mut Dev, event_type: &str) {
    while dev.next("published")["event_type"] != event_type {}
}

fn write(project: &Path, changes: &[(&str, &str)]) {
    edit(&project.join("temps-dev.toml"), changes);
}

#[test]
fn projects_environments_and_deployments_are_what_the_file_says_also_after_an_edit() {
    let desk = Desk::new();
    let project = greeter(&desk);
    let mut dev = Dev::start(&desk, &project, &[]);
    dev.runs("0.1.0");
    assert_eq!(names(&dev, "project", "slug"), ["shop"]);
    assert_eq!(names(&dev, "deployment", "state"), ["building"]);

    write(&project, &[("building", "succeeded"), ("\"staging\"]", "\"preview\"]")]);
    published(&mut dev, "deployment.succeeded");
    eventually("the environments are those of the file", || {
        let names = names(&dev, "environment", "name");
        // The one of the deployment stays.
        (names == ["preview", "production", "staging"]).then_some(())
    });
    write(&project, &[("\"preview\"]", "\"other\"]")]);
    eventually("an environment that is gone from the file is gone", || {
        (names(&dev, "environment", "name") == ["other", "production", "staging"]).then_some(())
    });
    // What has ended stays, and what the entry says now is another deployment.
    write(&project, &[("succeeded", "failed")]);
    published(&mut dev, "deployment.failed");
    assert_eq!(names(&dev, "deployment", "state"), ["failed", "succeeded"]);

    write(
        &project,
        &[("\"Shop\"", "\"The Shop\""), ("[[project]]", "[[project]]\nslug = \"blog\"\n\n[[project]]")],
    );
    published(&mut dev, "project.created");
    eventually("both projects are there, one with its new name", || {
        (names(&dev, "project", "name") == ["The Shop", "blog"]).then_some(())
    });
    write(&project, &[("[[project]]\nslug = \"blog\"\n", "")]);
    published(&mut dev, "project.deleted");
    eventually("one project is gone", || (names(&dev, "project", "slug") == ["shop"]).then_some(()));
    dev.end();
}

#[test]
fn an_edit_that_does_not_fit_is_explained_and_changes_nothing() {
    let desk = Desk::new();
    let project = greeter(&desk);
    let mut dev = Dev::start(&desk, &project, &[]);
    dev.runs("0.1.0");
    let before = std::fs::read_to_string(project.join("temps-dev.toml")).unwrap();
    let cases = [
        // A slip of the pen, a value of the wrong type, and what only the platform knows to be wrong.
        (before.replace("slug", "slg"), "slg"),
        (before.replace("\"building\"", "\"bilding\""), "bilding"),
        (before.replace("[\"production\", \"staging\"]", "5"), "sequence"),
        (before.clone() + "\n[[project]]\nslug = \"Not A Slug\"\n", "slug"),
        (
            before.clone() + "\n[[project]]\nslug = \"fine\"\n[[project.deployment]]\nurl = \"no url\"\n",
            "url",
        ),
    ];
    for (text, word) in cases {
        std::fs::write(project.join("temps-dev.toml"), &text).unwrap();
        let problem = dev.next("problem");
        let said = problem["message"].as_str().unwrap();
        assert!(said.contains("temps-dev.toml") && said.contains(word), "{word}: {said}");
        eventually("the platform is as it was", || {
            (names(&dev, "project", "slug") == ["shop"]).then_some(())
        });
    }
    dev.end();
}

#[test]
fn settings_are_taken_over_and_taken_back_and_secrets_are_shown_nowhere() {
    let desk = Desk::new();
    let project = greeter(&desk);
    let recording = desk.place.path().join("traffic.jsonl");
    let mut dev = Dev::start(&desk, &project, &["--record", recording.to_str().unwrap()]);
    dev.runs("0.1.0");
    write(&project, &[("\"first\"", "\"second\"")]);
    dev.line_with("greeting=second token=22");
    // A setting that is gone from the file has its default again.
    write(&project, &[("greeting = \"second\"\n", "")]);
    dev.line_with("greeting=none token=22");

    // What does not fit is said, and the settings stay.
    write(&project, &[("[config]\n", "[config]\ngreeting = 5\n")]);
    let problem = dev.next("problem");
    assert!(problem.to_string().contains("greeting"), "{problem}");
    write(&project, &[("greeting = 5\n", "later = \"third\"\n")]);
    let problem = dev.next("problem");
    assert!(problem.to_string().contains("later"), "{problem}");
    // A version that declares it gets it.
    edit(&project.join("plugin.py"), &[("0.1.0", "0.2.0"), ("\"greeting\"", "\"later\"")]);
    dev.runs("0.2.0");
    eventually("the setting is there", || {
        dev.asked("/api/plugins/greeter/config").contains("\"third\"").then_some(())
    });
    dev.end();

    let recorded = std::fs::read_to_string(recording).unwrap();
    assert!(recorded.contains("[masked]") && !recorded.contains("a-secret-of-the-author"), "{recorded}");
    let kept: Value = json!(recorded.lines().count());
    assert!(kept.as_u64().unwrap() > 10);
}
