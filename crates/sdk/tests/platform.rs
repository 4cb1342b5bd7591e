//! Questions to the platform, through the stand-in host: each way in which one can end.

use std::time::Duration;

use temps_plugin_sdk::prelude::*;
use temps_plugin_sdk::protocol::limits::MAX_REQUESTS_IN_FLIGHT;
use temps_plugin_sdk::testing::TestHost;

/// A plugin whose context the test takes and uses itself.
struct Open(tokio::sync::mpsc::UnboundedSender<PluginContext>);

impl ExternalPlugin for Open {
    fn manifest(&self) -> PluginManifest {
        PluginManifest::builder("open", "1.0.0").build()
    }

    async fn on_start(&self, ctx: &PluginContext) -> Result<(), BoxError> {
        self.0.send(ctx.clone())?;
        Ok(())
    }
}

#[expect(clippy::unwrap_used, reason = "a helper of tests fails as tests do")]
async fn open() -> (TestHost, PlatformClient) {
    let (sender, mut contexts) = tokio::sync::mpsc::unbounded_channel();
    let host = TestHost::start(Open(sender)).await.unwrap();
    let platform = contexts.recv().await.unwrap().platform().clone();
    (host, platform)
}

#[tokio::test]
async fn all_seven_methods_ask_for_what_they_say_and_read_the_answer() {
    let (host, platform) = open().await;
    let time = "2026-06-06T12:00:00Z";
    let project = json!({"id": 1, "name": "n", "slug": "s", "created_at": time, "updated_at": time});
    let environment =
        json!({"id": 2, "project_id": 1, "name": "n", "slug": "s", "created_at": time, "updated_at": time});
    let deployment =
        json!({"id": 3, "project_id": 1, "environment_id": 2, "state": "ready", "created_at": time});
    for (method, answer) in [
        ("get_project", project.clone()),
        ("list_projects", json!([project])),
        ("get_environment", environment.clone()),
        ("list_environments", json!([environment])),
        ("get_deployment", deployment.clone()),
        ("get_last_deployment", deployment.clone()),
        ("list_deployments", json!([deployment])),
    ] {
        host.platform().answer(method, move |_| Some(Ok(answer.clone())));
    }
    assert_eq!(platform.get_project(1).await.unwrap().id, 1);
    assert_eq!(platform.list_projects().await.unwrap().len(), 1);
    assert_eq!(platform.get_environment(2).await.unwrap().id, 2);
    assert_eq!(platform.list_environments(1).await.unwrap().len(), 1);
    assert_eq!(platform.get_deployment(3).await.unwrap().id, 3);
    assert_eq!(platform.get_last_deployment(1, Some(2)).await.unwrap().id, 3);
    assert_eq!(platform.list_deployments(1, None, Some(5)).await.unwrap().len(), 1);
    let asked = [
        ("get_project", json!({"project_id": 1})),
        ("list_projects", json!({})),
        ("get_environment", json!({"environment_id": 2})),
        ("list_environments", json!({"project_id": 1})),
        ("get_deployment", json!({"deployment_id": 3})),
        ("get_last_deployment", json!({"project_id": 1, "environment_id": 2})),
        ("list_deployments", json!({"project_id": 1, "limit": 5})),
    ];
    assert_eq!(host.platform().asked(), asked.map(|(method, params)| (method.to_owned(), params)));
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let (host, platform) = open().await;
    assert!(platform.get_project(1).await.unwrap_err().is_not_found());
    host.platform()
        .answer("get_project", |_| Some(Err(ChannelError::new(ErrorCode::PermissionDenied, "not granted"))));
    let denied = platform.get_project(1).await.unwrap_err();
    assert!(denied.is_permission_denied() && denied.to_string().contains("not granted"), "{denied}");
    for unreadable in [json!(null), json!({"id": "one"}), json!([])] {
        host.platform().answer("get_project", move |_| Some(Ok(unreadable.clone())));
        assert!(matches!(platform.get_project(1).await, Err(PlatformError::BadAnswer { .. })));
    }
    // A null result is an answer of its own where any answer will do.
    host.platform().answer("ping", |_| Some(Ok(serde_json::Value::Null)));
    assert_eq!(platform.call("ping", json!({})).await, Ok(serde_json::Value::Null));
}

#[tokio::test]
async fn no_more_questions_are_on_the_way_than_a_host_takes_and_each_gives_its_place_back() {
    let (host, platform) = open().await;
    let (asked, mut was_asked) = tokio::sync::mpsc::unbounded_channel();
    host.platform().answer("get_project", move |_| {
        let _ = asked.send(());
        None
    });
    let mut questions = tokio::task::JoinSet::new();
    for _ in 0..MAX_REQUESTS_IN_FLIGHT {
        let client = platform.clone().with_timeout(Duration::from_secs(600));
        questions.spawn(async move { client.get_project(1).await });
        was_asked.recv().await.unwrap();
    }
    let late = platform.clone().with_timeout(Duration::from_millis(50)).get_project(1).await;
    assert!(matches!(late, Err(PlatformError::Timeout { .. })), "{late:?}");
    assert!(was_asked.try_recv().is_err());

    // Whoever stops waiting makes room.
    questions.shutdown().await;
    let unanswered = platform.clone().with_timeout(Duration::from_millis(50)).get_project(1).await;
    assert!(matches!(unanswered, Err(PlatformError::Timeout { .. })), "{unanswered:?}");
    host.platform().answer("get_project", |_| Some(Err(ChannelError::new(ErrorCode::NotFound, ""))));
    for _ in 0..=MAX_REQUESTS_IN_FLIGHT {
        assert!(platform.get_project(1).await.unwrap_err().is_not_found());
    }
}

#[tokio::test]
async fn a_question_ends_with_the_channel_it_was_asked_over() {
    let (host, platform) = open().await;
    let (asked, mut was_asked) = tokio::sync::mpsc::unbounded_channel();
    host.platform().answer("get_project", move |_| {
        let _ = asked.send(());
        None
    });
    for replace in [false, true] {
        let client = platform.clone();
        let question = tokio::spawn(async move { client.get_project(1).await });
        was_asked.recv().await.unwrap();
        if replace {
            host.connect_channel().await.unwrap();
        } else {
            host.cut_channel().await;
        }
        assert!(matches!(question.await.unwrap(), Err(PlatformError::ChannelLost { .. })));
        if !replace {
            host.connect_channel().await.unwrap();
        }
    }
    assert!(platform.is_connected());
}

#[tokio::test]
async fn a_question_larger_than_a_frame_is_not_sent() {
    let (host, platform) = open().await;
    let error = platform.call("note", json!({"text": "x".repeat(1024 * 1024)})).await.unwrap_err();
    assert!(matches!(error, PlatformError::TooLarge { .. }), "{error}");
    assert!(host.platform().asked().is_empty());
    assert!(platform.get_project(1).await.unwrap_err().is_not_found());
}
