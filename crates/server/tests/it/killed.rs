//! A daemon that is killed with -9 while it takes reports: what was confirmed is there, with its events, once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::StatusCode;
use rustix::process::Signal;
use serde_json::{Value, json};
use temps_testkit::daemon::{Daemon, empty_home};

use crate::rig::client;

/// Times that the daemon is killed.
const KILLS: usize = 3;

/// Reporters at the same time.
const REPORTERS: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_confirmed_is_lost_when_the_daemon_is_killed() {
    let mut home = empty_home();
    let mut confirmed = Vec::new();
    for round in 0..KILLS {
        let daemon = tokio::task::spawn_blocking(move || Daemon::start_in(home, &[])).await.unwrap();
        let token = std::fs::read_to_string(daemon.home.path().join("state/admin-token")).unwrap();
        let under_way = Arc::new(AtomicUsize::new(0));
        let reporters = (0..REPORTERS).map(|reporter| {
            let (url, token) = (format!("{}/api/deployments", daemon.url), token.trim().to_owned());
            tokio::spawn(report_until_it_is_gone(
                url,
                token,
                format!("{round}-{reporter}"),
                under_way.clone(),
            ))
        });
        let reporters: Vec<_> = reporters.collect();
        // Any moment is as good as another; what counts is that reports are under way.
        while under_way.load(Ordering::Relaxed) <= REPORTERS {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        daemon.signal(Signal::KILL);
        for reporter in reporters {
            confirmed.extend(reporter.await.unwrap());
        }
        home = keep_home(daemon);
    }
    assert!(confirmed.len() > KILLS * REPORTERS, "reports were under way: {}", confirmed.len());
    let daemon = tokio::task::spawn_blocking(move || Daemon::start_in(home, &[])).await.unwrap();
    let token = std::fs::read_to_string(daemon.home.path().join("state/admin-token")).unwrap();
    let told = told(&daemon.url, token.trim()).await;
    for id in &confirmed {
        assert_eq!(told.get(id), Some(&1), "deployment {id} was confirmed");
    }
    tokio::task::spawn_blocking(move || drop(daemon)).await.unwrap();
}

/// Reports one deployment after the other. Returns the ids of those that were confirmed.
async fn report_until_it_is_gone(
    url: String,
    token: String,
    name: String,
    under_way: Arc<AtomicUsize>,
) -> Vec<i64> {
    let client = client();
    let mut confirmed = Vec::new();
    for number in 0.. {
        let body =
            json!({ "project": "shop", "external_id": format!("{name}-{number}"), "state": "succeeded" });
        let Ok(answer) = client.post(&url).bearer_auth(&token).json(&body).send().await else { break };
        assert_eq!(answer.status(), StatusCode::CREATED);
        let Ok(made) = answer.json::<Value>().await else { break };
        confirmed.push(made["id"].as_i64().unwrap());
        under_way.fetch_add(1, Ordering::Relaxed);
    }
    confirmed
}

/// How often `deployment.succeeded` was told, by deployment.
async fn told(url: &str, token: &str) -> HashMap<i64, usize> {
    let client = client();
    let (mut told, mut cursor) = (HashMap::new(), String::new());
    loop {
        let path = format!("{url}/api/events?after=0&limit=500&type=deployment.succeeded{cursor}");
        let page: Value = client.get(path).bearer_auth(token).send().await.unwrap().json().await.unwrap();
        for event in page["items"].as_array().unwrap() {
            *told.entry(event["data"]["deployment_id"].as_i64().unwrap()).or_default() += 1;
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return told,
        }
    }
}

/// The home of a daemon that was killed. It is waited for, so that its lock is free.
fn keep_home(mut daemon: Daemon) -> tempfile::TempDir {
    daemon.process.wait().unwrap();
    let kept = empty_home();
    let from = daemon.home.path();
    for entry in ["state", "plugins"] {
        std::fs::rename(from.join(entry), kept.path().join(entry)).unwrap();
    }
    kept
}
