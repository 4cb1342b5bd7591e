//! `slack-notifier` as a process, against a stand-in that answers as Slack does.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use temps_plugin_sdk::protocol::PluginEvent;
use temps_plugin_sdk::testing::{PluginProcess, PluginProcessBuilder, TestEvent, TestHost, TestPlatform};
use temps_testkit::slack::{Answer, SlackStandIn};

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_slack-notifier");

/// The plugin, set up to post to a stand-in.
async fn pair() -> (PluginProcess, SlackStandIn) {
    let slack = SlackStandIn::start(0).await.unwrap();
    let platform = TestPlatform::default();
    platform.knows_project(42, "my-app");
    let plugin = PluginProcess::builder(EXECUTABLE).platform(platform).start().await.unwrap();
    let change = json!({"webhook_url": slack.webhook_url(), "allow_custom_host": true});
    assert_eq!(patch(&plugin, &change).await.0, 200);
    (plugin, slack)
}

async fn patch(plugin: &PluginProcess, change: &Value) -> (u16, Value) {
    let answer = plugin.http().send("PATCH", "/settings", Some(change)).await.unwrap();
    (answer.status(), answer.json().unwrap())
}

async fn settings(plugin: &PluginProcess) -> Value {
    plugin.http().get("/settings").await.unwrap().json().unwrap()
}

/// Asks for the settings until their state is `wanted`; the stand-in has answered by then, so this is soon.
async fn state_becomes(plugin: &PluginProcess, wanted: &str) -> Value {
    let asking = async {
        loop {
            let settings = settings(plugin).await;
            if settings["status"]["state"] == wanted {
                return settings;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), asking).await.unwrap()
}

fn success() -> TestEvent {
    let data = json!({"deployment_id": 100, "url": "https://myapp.example.com", "commit_sha": "a1b2c3d"});
    TestHost::event("deployment.succeeded").project(42).data(data)
}

#[tokio::test]
async fn a_deployment_becomes_a_message_with_the_projects_name() {
    let (plugin, slack) = pair().await;
    plugin.send_event(success()).await.unwrap();
    slack.wait_for(1).await.unwrap();
    let message = slack.messages().remove(0);
    assert_eq!(message["text"], "my-app is live");
    let body = message["blocks"][0]["text"]["text"].as_str().unwrap();
    assert!(body.contains("*my-app*") && body.contains("<https://myapp.example.com>"), "{body}");
    assert_eq!(plugin.platform().asked(), [("get_project".to_owned(), json!({"project_id": 42}))]);
}

#[tokio::test]
async fn every_type_of_deployment_event_is_posted_in_order_about_one_a_second() {
    let (plugin, slack) = pair().await;
    let types = ["created", "ready", "succeeded", "failed", "cancelled"];
    for word in types {
        let data =
            json!({"deployment_id": 1, "environment_name": "production", "error_message": "out of <memory>"});
        let event = TestHost::event(&format!("deployment.{word}")).project(42).data(data);
        assert_eq!(plugin.post_event(event).await.unwrap().status(), 200);
    }
    slack.wait_for(types.len()).await.unwrap();
    let words = ["is being deployed", "health checks", "is live", "failed", "cancelled"];
    for (message, word) in slack.messages().iter().zip(words) {
        assert!(message["text"].as_str().unwrap().contains(word), "{message}");
    }
    assert!(slack.messages()[3].to_string().contains("out of &lt;memory&gt;"));
    let times: Vec<u64> = slack.received().iter().map(|received| received.at_ms).collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 900), "{times:?}");
}

#[tokio::test]
async fn a_platform_that_does_not_know_the_project_costs_only_the_name() {
    let (mut plugin, slack) = pair().await;
    let unnamed = json!({"deployment_id": 1});
    plugin.send_event(TestHost::event("deployment.succeeded").project(7).data(unnamed)).await.unwrap();
    slack.wait_for(1).await.unwrap();
    // Without a channel there is nobody to ask; the plugin waits 3 s for one, then posts.
    plugin.cut_channel();
    assert_eq!(plugin.post_event(success()).await.unwrap().status(), 200);
    slack.wait_for(2).await.unwrap();
    let texts: Vec<Value> = slack.messages().iter().map(|message| message["text"].clone()).collect();
    assert_eq!(texts, ["Project 7 is live", "Project 42 is live"]);
}

#[tokio::test]
async fn a_429_is_waited_out_and_a_500_is_tried_again() {
    let (plugin, slack) = pair().await;
    slack.answer_next([Answer::RateLimited(2), Answer::RollupError]);
    plugin.send_event(success()).await.unwrap();
    slack.wait_for(3).await.unwrap();
    let received = slack.received();
    let answers: Vec<Answer> = received.iter().map(|received| received.answer).collect();
    assert_eq!(answers, [Answer::RateLimited(2), Answer::RollupError, Answer::Ok]);
    assert!(received[1].at_ms - received[0].at_ms >= 1900, "Retry-After was not honoured");
    assert_eq!(slack.messages().len(), 1);
    assert_eq!(state_becomes(&plugin, "ok").await["status"]["posted"], 1);
}

#[tokio::test]
async fn an_answer_that_never_comes_is_given_up_and_the_post_tried_again() {
    let (plugin, slack) = pair().await;
    slack.answer_next([Answer::Silence]);
    plugin.send_event(success()).await.unwrap();
    slack.wait_for(2).await.unwrap();
    assert_eq!(slack.messages().len(), 1);
}

#[tokio::test]
async fn a_webhook_that_is_refused_needs_attention_and_goes_on_once_it_was_changed() {
    let (plugin, slack) = pair().await;
    let refusals = [
        (Answer::InvalidToken, "403 invalid_token"),
        (Answer::ActionProhibited, "403 action_prohibited"),
        (Answer::NoService, "404 no_service"),
        (Answer::ChannelNotFound, "404 channel_not_found"),
        (Answer::ChannelIsArchived, "410 channel_is_archived"),
    ];
    for (count, (answer, word)) in refusals.into_iter().enumerate() {
        slack.answer_next([answer]);
        plugin.send_event(success()).await.unwrap();
        let shown = state_becomes(&plugin, "needs_attention").await;
        assert!(shown["status"]["reason"].as_str().unwrap().contains(word), "{shown}");
        // While it needs attention nothing is posted; the messages wait.
        assert_eq!(shown["status"]["waiting"], 1);
        let so_far = slack.received().len();
        assert_eq!(so_far, 2 * count + 1);
        // The same address again is a change: the operator has mended it in Slack.
        let change = json!({"webhook_url": slack.webhook_url()});
        assert_eq!(patch(&plugin, &change).await.0, 200);
        slack.wait_for(so_far + 1).await.unwrap();
        assert_eq!(slack.messages().len(), count + 1);
    }
}

#[tokio::test]
async fn a_message_that_is_refused_is_dropped_and_needs_attention() {
    let (plugin, slack) = pair().await;
    let refusals = [
        (Answer::InvalidPayload, "400 invalid_payload"),
        (Answer::NoText, "400 no_text"),
        (Answer::InvalidBlocks, "400 invalid_blocks"),
    ];
    for (answer, word) in refusals {
        slack.answer_next([answer]);
        plugin.send_event(success()).await.unwrap();
        let shown = state_becomes(&plugin, "needs_attention").await;
        assert!(shown["status"]["reason"].as_str().unwrap().contains(word), "{shown}");
        assert_eq!(shown["status"]["waiting"], 0);
        let test = plugin.http().send("POST", "/settings/test", None).await.unwrap();
        assert_eq!(test.status(), 200, "{}", test.text());
        assert_eq!(settings(&plugin).await["status"]["state"], "ok");
    }
}

#[tokio::test]
async fn the_test_message_says_what_slack_says() {
    let plugin = PluginProcess::start(EXECUTABLE).await.unwrap();
    let test = async || plugin.http().send("POST", "/settings/test", None).await.unwrap();
    assert_eq!(test().await.status(), 409);

    let slack = SlackStandIn::start(0).await.unwrap();
    let change = json!({"webhook_url": slack.webhook_url(), "allow_custom_host": true});
    patch(&plugin, &change).await;
    assert_eq!(test().await.status(), 200);
    assert!(slack.messages()[0]["text"].as_str().unwrap().contains("Test message"));

    for (answer, status, word) in [
        (Answer::RateLimited(5), 503, "wait 5 s"),
        (Answer::RollupError, 502, "500 rollup_error"),
        (Answer::NoService, 502, "404 no_service"),
    ] {
        slack.answer_next([answer]);
        let answer = test().await;
        assert_eq!(answer.status(), status);
        assert!(answer.text().contains(word), "{}", answer.text());
    }
    assert_eq!(settings(&plugin).await["status"]["state"], "needs_attention");
}

#[tokio::test]
async fn the_secret_is_kept_privately_and_never_shown() {
    let (mut plugin, slack) = pair().await;
    let secret = "standin-token";
    assert!(slack.webhook_url().ends_with(secret));
    slack.answer_next([Answer::RollupError, Answer::NoService]);
    plugin.send_event(success()).await.unwrap();
    let shown = state_becomes(&plugin, "needs_attention").await;
    assert_eq!(
        (&shown["webhook_set"], &shown["webhook"]),
        (&json!(true), &json!(format!("{}/…", slack.base_url())))
    );
    assert!(!shown.to_string().contains(secret));

    let path = plugin.data_dir().join("settings.json");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read_to_string(&path).unwrap().contains(secret));
    drop(slack);
    let unreachable = plugin.http().send("POST", "/settings/test", None).await.unwrap();
    assert_eq!(unreachable.status(), 502);
    assert!(!unreachable.text().contains(secret), "{}", unreachable.text());
    assert!(plugin.terminate().await.unwrap().success());
    assert!(!plugin.log().contains(secret), "{}", plugin.log());
}

#[tokio::test]
async fn settings_outlive_the_process_and_bad_ones_change_nothing() {
    let (mut plugin, slack) = pair().await;
    for (change, word) in [
        (json!({"webhook_url": "https://example.com/x", "allow_custom_host": false}), "allow_custom_host"),
        (json!({"webhook_url": "http://example.com/x"}), "https://"),
        (json!({"webhook_url": 5}), "webhook_url"),
        (json!({"webhook": "https://hooks.slack.com/services/x"}), "webhook_url"),
        (json!([]), "object"),
    ] {
        let (status, problem) = patch(&plugin, &change).await;
        assert_eq!(status, 422, "{change}");
        assert!(problem["detail"].as_str().unwrap().contains(word), "{problem}");
    }
    assert!(plugin.terminate().await.unwrap().success());

    let next = plugin.successor(EXECUTABLE).start().await.unwrap();
    next.send_event(success()).await.unwrap();
    slack.wait_for(1).await.unwrap();
    let (_, shown) = patch(&next, &json!({"webhook_url": null})).await;
    assert_eq!((&shown["webhook_set"], &shown["status"]["state"]), (&json!(false), &json!("not_configured")));
    assert_eq!(next.post_event(success()).await.unwrap().status(), 200);
    assert_eq!(settings(&next).await["status"]["passed_over"], 1);
}

#[tokio::test]
async fn a_broken_settings_file_is_pointed_out_and_mended_by_setting_anew() {
    let (mut plugin, slack) = pair().await;
    plugin.terminate().await.unwrap();
    std::fs::write(plugin.data_dir().join("settings.json"), "{ half").unwrap();
    let next = plugin.successor(EXECUTABLE).start().await.unwrap();
    let shown = settings(&next).await;
    assert_eq!(shown["status"]["state"], "needs_attention");
    assert!(shown["status"]["reason"].as_str().unwrap().contains("set the webhook again"));
    let change = json!({"webhook_url": slack.webhook_url(), "allow_custom_host": true});
    assert_eq!(patch(&next, &change).await.1["status"]["state"], "ok");
}

#[tokio::test]
async fn messages_that_wait_are_posted_before_the_end_when_there_is_time() {
    let (mut plugin, slack) = pair().await;
    plugin.post_event(success()).await.unwrap();
    plugin.post_event(success()).await.unwrap();
    assert!(plugin.terminate().await.unwrap().success());
    assert_eq!(slack.messages().len(), 2);
}

#[tokio::test]
async fn an_event_that_was_acked_becomes_a_message_although_the_plugin_is_killed() {
    let slack = SlackStandIn::start(0).await.unwrap();
    let start =
        |builder: PluginProcessBuilder| builder.environment("TEMPS_FEATURES", "ack,reconnect").start();
    let mut plugin = start(PluginProcess::builder(EXECUTABLE)).await.unwrap();
    // Nothing can be posted while the webhook needs attention.
    let change = json!({"webhook_url": slack.webhook_url(), "allow_custom_host": true});
    assert_eq!(patch(&plugin, &change).await.0, 200);
    slack.answer_next([Answer::NoService]);
    let (first, second) = (PluginEvent::from(success()), PluginEvent::from(success()));
    for event in [&first, &second] {
        plugin.send_event(event.clone()).await.unwrap();
        let ack = plugin.ack().await.unwrap();
        assert_eq!((&ack.id, ack.error), (&event.id, None));
    }
    state_becomes(&plugin, "needs_attention").await;
    plugin.kill().await.unwrap();
    assert_eq!(slack.messages().len(), 0);

    let next = start(plugin.successor(EXECUTABLE)).await.unwrap();
    slack.wait_for(3).await.unwrap();
    assert_eq!(slack.messages().len(), 2);
    let left = state_becomes(&next, "ok").await["status"]["waiting"].clone();
    assert!(left == 0 || left == 1, "{left}");
}

#[tokio::test]
async fn an_event_whose_payload_cannot_be_read_is_refused_with_the_reason() {
    let (plugin, _slack) = pair().await;
    let event = TestHost::event("deployment.failed").project(42).data(json!({"deployment_id": "many"}));
    let answer = plugin.post_event(event).await.unwrap();
    assert_eq!(answer.status(), 500);
    assert!(
        answer.text().contains("the data of deployment.failed does not have its form"),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn the_manifest_asks_for_what_it_needs_and_no_more() {
    let plugin = PluginProcess::start(EXECUTABLE).await.unwrap();
    let manifest = plugin.manifest();
    assert_eq!(manifest.egress.as_deref(), Some(&["hooks.slack.com".to_owned()][..]));
    assert_eq!(manifest.permissions.as_ref().unwrap().methods, ["get_project"]);
    assert_eq!(manifest.nav[0].path, "/slack");
    assert!(plugin.ready().has_ui);
    // The page behind the navigation entry, and its files beside it.
    let page = plugin.http().get("/ui/slack").await.unwrap();
    assert!(page.text().contains("\"page.js\"") && page.text().contains("\"style.css\""));
    for name in ["page.js", "style.css"] {
        assert_eq!(plugin.http().get(&format!("/ui/{name}")).await.unwrap().status(), 200);
    }
}
