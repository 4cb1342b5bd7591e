//! Plugins without a channel: `POST /_events` over a real socket.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;
use temps_store::{AttemptResult, DeliveryState, DeliveryStore, JournalStore, Via};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use super::rig::{Rig, SHORT, event};
use crate::grants::Grants;
use crate::plugin::Ended;

/// One request that the plugin got, and the way to answer it.
struct Posted {
    headers: HeaderMap,
    event: Value,
    answer: oneshot::Sender<StatusCode>,
}

impl Posted {
    fn id(&self) -> &str {
        self.event["id"].as_str().unwrap()
    }
}

/// A plugin's server, whose answers the test gives.
struct Server {
    socket: PathBuf,
    posts: mpsc::UnboundedReceiver<Posted>,
    task: tokio::task::AbortHandle,
}

impl Server {
    fn start(rig: &Rig, name: &str) -> Self {
        let socket = rig.dir.path().join(format!("{name}.sock"));
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let (tell, posts) = mpsc::unbounded_channel();
        let router = Router::new().route("/_events", post(take)).with_state(Arc::new(Mutex::new(tell)));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }).abort_handle();
        Self { socket, posts, task }
    }

    async fn next(&mut self) -> Posted {
        tokio::time::timeout(std::time::Duration::from_secs(30), self.posts.recv()).await.unwrap().unwrap()
    }

    /// Answers the next post. Returns the event's id.
    async fn answer(&mut self, status: StatusCode) -> String {
        let posted = self.next().await;
        let id = posted.id().to_owned();
        posted.answer.send(status).unwrap();
        id
    }
}

async fn take(
    State(tell): State<Arc<Mutex<mpsc::UnboundedSender<Posted>>>>,
    headers: HeaderMap,
    axum::Json(event): axum::Json<Value>,
) -> (StatusCode, &'static str) {
    let (answer, status) = oneshot::channel();
    tell.lock().unwrap().send(Posted { headers, event, answer }).unwrap();
    match status.await {
        Ok(status) => (status, "said by the plugin"),
        // Breaks the connection, without a word on stderr.
        Err(_) => std::panic::resume_unwind(Box::new("the plugin died")),
    }
}

#[tokio::test]
async fn events_are_posted_one_by_one_in_order_as_the_protocol_says() {
    let rig = Rig::new(SHORT);
    let mut plugin = rig.plugin("p", &["deployment.*"]).await;
    let mut server = Server::start(&rig, "p");
    plugin.start(&server.socket, None);
    let last = rig.publish("deployment.ready", "e", 5).await;
    let first = server.next().await;
    assert_eq!(first.headers["host"], "localhost");
    assert_eq!(first.headers["content-type"], "application/json");
    assert_eq!(first.headers["authorization"], "Bearer of-this-start");
    assert!(first.headers.contains_key("x-temps-request-id"));
    assert_eq!(first.event["event_type"], "deployment.ready");
    assert!(server.posts.try_recv().is_err(), "one at a time");
    first.answer.send(StatusCode::NO_CONTENT).unwrap();
    for n in 1..5 {
        assert_eq!(server.answer(StatusCode::OK).await, format!("e-{n}"));
    }
    rig.until("p", |status| status.settled == 5 && status.cursor == last).await;
    rig.events.shutdown().await;
    let attempts = rig.attempts("p").await;
    assert_eq!(attempts.len(), 5);
    for attempt in &attempts {
        assert_eq!((attempt.result, attempt.attempt, attempt.via), (AttemptResult::Settled, 1, Via::Http));
        assert!(attempt.latency_ms.is_some() && attempt.sent_at <= attempt.ended_at);
    }
    assert_eq!(attempts[0].answer.as_deref(), Some("answered 204"));
    assert_eq!(rig.store.cursor("p").await.unwrap(), Some(last));
}

#[tokio::test]
async fn a_failing_post_is_tried_again_beside_the_line_and_its_attempts_are_recorded() {
    let rig = Rig::new(SHORT);
    let mut plugin = rig.plugin("p", &["*"]).await;
    let mut server = Server::start(&rig, "p");
    plugin.start(&server.socket, None);
    let last = rig.publish("deployment.ready", "e", 2).await;
    assert_eq!(server.answer(StatusCode::INTERNAL_SERVER_ERROR).await, "e-0");
    let failing = rig.until("p", |status| status.failing.is_some()).await;
    assert_eq!(failing.failing.as_deref(), Some("answered 500: said by the plugin"));
    assert_eq!((failing.failed, failing.settled), (1, 0));
    assert_eq!(server.answer(StatusCode::OK).await, "e-1", "later ones go on");
    rig.until("p", |status| status.settled == 1 && status.cursor == last).await;
    // The first wait is a second of real time.
    assert_eq!(server.answer(StatusCode::OK).await, "e-0");
    rig.until("p", |status| status.settled == 2 && status.failing.is_none()).await;
    rig.events.shutdown().await;
    let attempts = rig.attempts("p").await;
    let told: Vec<_> =
        attempts.iter().map(|a| (&*a.event_id, a.attempt, a.result, a.answer.as_deref())).collect();
    assert_eq!(
        told,
        [
            ("e-0", 1, AttemptResult::Failed, Some("answered 500: said by the plugin")),
            ("e-1", 1, AttemptResult::Settled, Some("answered 200")),
            ("e-0", 2, AttemptResult::Settled, Some("answered 200")),
        ]
    );
}

#[tokio::test]
async fn what_was_published_while_a_plugin_was_down_is_delivered_when_it_is_up_again() {
    let rig = Rig::new(SHORT);
    rig.publish("deployment.ready", "before-it-was-there", 3).await;
    let mut plugin = rig.plugin("p", &["deployment.*"]).await;
    rig.publish("deployment.ready", "early", 1).await;
    let mut server = Server::start(&rig, "p");
    let run = plugin.start(&server.socket, None);
    assert_eq!(server.answer(StatusCode::OK).await, "early-0");
    rig.until("p", |status| status.settled == 1).await;
    plugin.end(&run, Ended::Stopped);
    rig.publish("deployment.ready", "while-down", 2).await;
    // Also when the host itself was away.
    drop(plugin);
    rig.events.shutdown().await;
    let rig = rig.restart(SHORT).await;
    rig.publish("deployment.ready", "after", 1).await;
    let mut plugin = rig.plugin("p", &["deployment.*"]).await;
    server = Server::start(&rig, "p");
    plugin.start(&server.socket, None);
    for expected in ["while-down-0", "while-down-1", "after-0"] {
        assert_eq!(server.answer(StatusCode::OK).await, expected);
    }
}

#[tokio::test]
async fn only_what_the_plugin_asked_for_and_was_granted_is_delivered() {
    let rig = Rig::new(SHORT);
    let mut plugin = rig.plugin("p", &["deployment.*", "project.created"]).await;
    let mut server = Server::start(&rig, "p");
    plugin.start(&server.socket, None);
    plugin.grants.send_replace(Arc::new(Grants {
        events: vec!["deployment.*".into()],
        projects: Some(vec![42]),
        ..Grants::default()
    }));
    let mut foreign = event("deployment.ready", "foreign-project");
    foreign.project_id = Some(7);
    let mut published = vec![foreign];
    for (event_type, id) in [
        ("project.created", "asked-and-not-granted"),
        ("deployment.ready", "good"),
        ("deployments.ready", "another-noun"),
        ("environment.created", "not-asked"),
    ] {
        published.push(event(event_type, id));
    }
    let last = rig.store.publish(published).await.unwrap().last().unwrap().seq;
    assert_eq!(server.answer(StatusCode::OK).await, "good");
    rig.until("p", |status| status.cursor == last).await;
    plugin.grants.send_replace(Arc::new(Grants::default()));
    let last = rig.publish("deployment.ready", "revoked", 1).await;
    rig.until("p", |status| status.cursor == last).await;
    assert!(server.posts.try_recv().is_err());
}

#[tokio::test]
async fn a_crash_during_a_post_is_counted_and_the_third_makes_a_dead_letter() {
    let rig = Rig::new(SHORT);
    let mut plugin = rig.plugin("p", &["*"]).await;
    rig.publish("deployment.ready", "poison", 1).await;
    rig.publish("deployment.ready", "fine", 1).await;
    let mut crashes = 0;
    let mut fine = false;
    while crashes < 3 || !fine {
        let mut server = Server::start(&rig, "p");
        let run = plugin.start(&server.socket, None);
        loop {
            let posted = server.next().await;
            if posted.id() == "fine-0" {
                posted.answer.send(StatusCode::OK).unwrap();
                rig.until("p", |status| status.settled == 1).await;
                fine = true;
                if crashes == 3 {
                    break;
                }
                continue;
            }
            assert_eq!(posted.id(), "poison-0");
            crashes += 1;
            drop(posted);
            server.task.abort();
            // The moment between the break of the connection and the exit is what is tested, and nothing tells of its middle.
            tokio::time::sleep(SHORT).await;
            plugin.end(&run, Ended::Crashed);
            rig.until("p", |status| status.failed + status.dead == crashes).await;
            break;
        }
    }
    rig.until("p", |status| status.settled == 1).await;
    rig.events.shutdown().await;
    let dead = rig.deliveries("p", DeliveryState::Dead).await;
    assert_eq!(dead.len(), 1);
    assert_eq!((&*dead[0].event_id, dead[0].outcome.as_deref()), ("poison-0", Some("plugin_crashed")));
}

#[tokio::test]
async fn a_stop_waits_for_the_answer_that_is_under_way() {
    let rig = Rig::new(SHORT);
    let mut plugin = rig.plugin("p", &["*"]).await;
    let mut server = Server::start(&rig, "p");
    let run = plugin.start(&server.socket, None);
    let last = rig.publish("deployment.ready", "e", 2).await;
    let posted = server.next().await;
    run.link.closed.cancel();
    run.link.work.close();
    let drained = tokio::spawn({
        let link = run.link.clone();
        async move { link.work.wait().await }
    });
    tokio::task::yield_now().await;
    assert!(!drained.is_finished());
    posted.answer.send(StatusCode::OK).unwrap();
    drained.await.unwrap();
    let status = rig.until("p", |status| status.settled == 1).await;
    assert_eq!(status.cursor, last - 1, "the second waits for the next run");
    assert!(server.posts.try_recv().is_err());
}

#[tokio::test]
async fn a_plugin_that_never_answers_holds_up_neither_publisher_nor_another_plugin() {
    let rig = Rig::new(SHORT);
    let mut stuck = rig.plugin("stuck", &["*"]).await;
    let mut well = rig.plugin("well", &["*"]).await;
    let mut stuck_server = Server::start(&rig, "stuck");
    let mut well_server = Server::start(&rig, "well");
    stuck.start(&stuck_server.socket, None);
    well.start(&well_server.socket, None);
    let _unanswered = {
        rig.publish("deployment.ready", "first", 1).await;
        stuck_server.next().await
    };
    assert_eq!(well_server.answer(StatusCode::OK).await, "first-0");
    rig.publish("deployment.ready", "more", 30).await;
    for n in 0..30 {
        assert_eq!(well_server.answer(StatusCode::OK).await, format!("more-{n}"));
    }
    assert_eq!(rig.events.status("stuck").unwrap().settled, 0);
    assert!(rig.metrics.encode().contains("temps_deliveries_total{plugin=\"well\",kind=\"settled\"}"));
}
