//! Probed deployments, with a real site that comes up late, breaks, or never answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http::StatusCode;
use reqwest::Method;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::rig::Rig;

/// A site that is healthy or not, as it is told.
#[derive(Clone, Default)]
struct Site {
    healthy: Arc<AtomicBool>,
    asked: Arc<AtomicU32>,
    was_asked: Arc<Notify>,
}

impl Site {
    async fn serve(&self, listener: TcpListener) {
        let site = self.clone();
        let answer = move || {
            let site = site.clone();
            async move {
                site.asked.fetch_add(1, Ordering::SeqCst);
                site.was_asked.notify_one();
                let healthy = site.healthy.load(Ordering::SeqCst);
                if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
            }
        };
        let router = Router::new().route("/", get(answer));
        tokio::spawn(async move { axum::serve(listener, router).await });
    }

    async fn open(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        self.serve(listener).await;
        address
    }

    async fn until_asked(&self) {
        tokio::time::timeout(crate::rig::PATIENCE, self.was_asked.notified())
            .await
            .expect("it must be asked");
    }
}

fn report(address: SocketAddr) -> serde_json::Value {
    json!({ "project": "shop", "external_id": "run-1", "url": format!("http://{address}/"), "probe": true })
}

#[tokio::test]
async fn a_site_that_comes_up_late_becomes_ready_and_then_succeeds() {
    let rig = Rig::start().await;
    // Bound and closed again, so that nobody answers there yet.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let made = rig.report(&report(address)).await;
    assert_eq!(made["state"], "deploying");
    let id = made["id"].as_i64().unwrap();
    let site = Site::default();
    site.serve(TcpListener::bind(address).await.unwrap()).await;
    site.until_asked().await;
    assert_eq!(rig.get(&format!("/api/deployments/{id}")).await["state"], "deploying", "503 is not healthy");
    site.healthy.store(true, Ordering::SeqCst);
    let done = rig.wait_for(id, "succeeded").await;
    assert!(done["ready_at"].is_string());
    assert_eq!(
        rig.event_types().await[2..],
        ["deployment.created", "deployment.ready", "deployment.succeeded"]
    );
    let again = rig.report(&report(address)).await;
    assert_eq!(again, done, "the report again changes nothing");
    rig.stop().await;
}

#[tokio::test]
async fn a_site_that_never_answers_fails_with_the_reason() {
    let rig = Rig::start_with(|config| {
        config.probe.give_up_after = Duration::from_millis(400);
        config.probe.healthy_for = Duration::from_millis(200);
    })
    .await;
    let site = Site::default();
    let made = rig.report(&report(site.open().await)).await;
    let failed = rig.wait_for(made["id"].as_i64().unwrap(), "failed").await;
    let why = failed["error_message"].as_str().unwrap();
    assert!(why.contains("503") && why.contains("400 ms"), "{why}");
    assert_eq!(rig.event_types().await[2..], ["deployment.created", "deployment.failed"]);
    rig.stop().await;
}

#[tokio::test]
async fn probing_goes_on_after_a_restart_of_the_daemon() {
    let rig = Rig::start().await;
    let site = Site::default();
    let made = rig.report(&report(site.open().await)).await;
    site.until_asked().await;
    let home = rig.stop().await;
    site.healthy.store(true, Ordering::SeqCst);
    let rig = Rig::start_in(home, |_| {}).await;
    rig.wait_for(made["id"].as_i64().unwrap(), "succeeded").await;
    assert_eq!(
        rig.event_types().await[2..],
        ["deployment.created", "deployment.ready", "deployment.succeeded"]
    );
    rig.stop().await;
}

#[tokio::test]
async fn nobody_asks_before_the_deployment_is_being_brought_up_or_after_it_ended() {
    let rig = Rig::start().await;
    let site = Site::default();
    site.healthy.store(true, Ordering::SeqCst);
    let mut body = report(site.open().await);
    body["state"] = json!("building");
    let made = rig.report(&body).await;
    let other = Site::default();
    other.healthy.store(true, Ordering::SeqCst);
    let second =
        json!({ "project": "blog", "url": format!("http://{}/", other.open().await), "probe": true });
    let second = rig.report(&second).await;
    rig.wait_for(second["id"].as_i64().unwrap(), "succeeded").await;
    assert_eq!(site.asked.load(Ordering::SeqCst), 0, "while the other one was asked often, this one was not");
    let path = format!("/api/deployments/{}", made["id"]);
    let cancelled =
        rig.request(Method::PATCH, &path).json(&json!({ "state": "cancelled" })).send().await.unwrap();
    assert_eq!(cancelled.status(), 200);
    rig.stop().await;
    assert_eq!(site.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let rig = Rig::start().await;
    let elsewhere = Site::default();
    let target = format!("http://{}/", elsewhere.open().await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/", get(move || async move { axum::response::Redirect::to(&target) }));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let made = rig.report(&report(address)).await;
    rig.wait_for(made["id"].as_i64().unwrap(), "succeeded").await;
    assert_eq!(elsewhere.asked.load(Ordering::SeqCst), 0);
    rig.stop().await;
}
