//! A plugin that is killed a hundred times in a row while requests and events flow.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use temps_host::events::Which;
use temps_host::plugin::PluginState;
use temps_host::protocol::ProjectInfo;
use temps_host::store::HostStore;
use temps_host::store::sqlite::SqliteStore;
use temps_host::{Caller, Platform, PlatformError, PluginHost, Role};
use temps_testkit::Behaviour;

use crate::ALONE;
use crate::flow::{Answers, Over, ask_both, has_received, publish, received, serve};
use crate::gauge::{Gauge, descendants};
use crate::rig::{PATIENCE, Rig, is_alive, send_signal, until, until_state};

/// How often the plugin is killed, and after how many kills everything that grows once has grown.
const KILLS: u32 = 100;
const WARM_AFTER: u32 = 20;

/// Clients that ask at the same time, each over a connection of its own.
const CLIENTS: usize = 4;

/// Descriptors and tasks that may come and go: at either moment each client may hold a connection to the host and one
/// to a plugin, with both ends in this process. One that leaked at each kill would be 80.
const DESCRIPTOR_SLACK: usize = 4 * CLIENTS;
const TASK_SLACK: usize = 4 * CLIENTS;

/// Bytes that the heap may grow by between the two looks: what an allocator keeps for reuse, the store's page cache
/// (2 MiB for each of its connections), and the events that wait for the victim. It is 100 KiB for each kill; a buffer
/// of a channel or a log that leaked at each would be more.
const MEMORY_SLACK: usize = 8 << 20;

/// A platform for which everybody is an administrator.
struct Open;

#[async_trait]
impl Platform for Open {
    async fn get_project(&self, _: i32) -> Result<Option<ProjectInfo>, PlatformError> {
        Ok(None)
    }
    async fn list_projects(&self) -> Result<Vec<ProjectInfo>, PlatformError> {
        Ok(Vec::new())
    }
    async fn authenticate(&self, _: &http::request::Parts) -> Option<Caller> {
        Some(Caller { id: "1".into(), name: "ada".into(), email: None, role: Role::Admin })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_killed_a_hundred_times_is_back_each_time_and_nobody_else_notices() {
    let _alone = ALONE.lock().await;
    let (rig, host) = host_without_quarantine().await;
    let neighbour = until_state(&host, "neighbour", PluginState::Running).await;
    until_state(&host, "victim", PluginState::Running).await;
    let front = serve(&host).await;

    let (over, answers) = (Over::default(), Arc::new(Answers::default()));
    let client = |_| tokio::spawn(ask_both(front, over.clone(), Arc::clone(&answers)));
    let clients: Vec<_> = (0..CLIENTS).map(client).collect();
    let publisher = tokio::spawn(publish(host.clone(), over.clone()));
    let (warm, end) = kill_again_and_again(&rig, &host, &answers).await;
    over.set();
    for client in clients {
        client.await.expect("a client saw what it must not see");
    }
    let published = publisher.await.unwrap();

    report(&warm, &end, &published, &answers, &received(&rig.config.state_dir, "victim"));
    assert!(end.descriptors <= warm.descriptors + DESCRIPTOR_SLACK, "descriptors grew: {warm:?}, {end:?}");
    assert!(end.tasks <= warm.tasks + TASK_SLACK, "tasks grew: {warm:?}, {end:?}");
    assert!(end.private_bytes <= warm.private_bytes + MEMORY_SLACK, "memory grew: {warm:?}, {end:?}");
    assert_eq!(end.processes, warm.processes, "processes were left behind: {warm:?}, {end:?}");

    let now = host.plugin("neighbour").unwrap();
    assert_eq!((now.pid, now.starts, now.crashes), (neighbour.pid, 1, 0), "the neighbour noticed");
    has_received(&rig.config.state_dir, "neighbour", &published).await;
    assert_eq!(received(&rig.config.state_dir, "neighbour"), published, "not each once and in order");
    // Events that were in flight at three deaths in a row are dead letters, whoever caused the deaths; an operator sends
    // them again.
    host.events().redeliver("victim", Which::AllDead, "ada").await.unwrap();
    has_received(&rig.config.state_dir, "victim", &published).await;
    host.shutdown().await;
    assert_eq!(descendants(std::process::id()).len(), 0, "something outlived the host");
}

async fn host_without_quarantine() -> (Rig, PluginHost) {
    let mut rig = Rig::new();
    rig.config.restart.quarantine_after = 0;
    rig.config.restart.backoff_min = Duration::from_millis(20);
    rig.config.restart.backoff_max = Duration::from_millis(100);
    let store: Arc<dyn HostStore> = SqliteStore::open(&rig.home.path().join("temps.db")).unwrap();
    let builder = PluginHost::builder().config(rig.config.clone()).platform(Arc::new(Open));
    let host = builder.store(store).build().await.unwrap();
    rig.put(&Behaviour::honest("victim"));
    rig.put(&Behaviour::honest("neighbour"));
    (rig, host)
}

/// Kills the victim each time that it is back. Returns what this process held after the warm-up and at the end, each
/// time with the victim running.
///
/// Every other time it is killed the moment that it runs. The other times it first gets an event and answers a
/// request: so an event that is suspected and sent alone at three lives in a row has been seen, though the third kill
/// makes it a dead letter.
async fn kill_again_and_again(rig: &Rig, host: &PluginHost, answers: &Answers) -> (Gauge, Gauge) {
    let (mut killed, mut warm) = (None, None);
    for kill in 1..=KILLS {
        let running = until(host, "victim", |s| s.state == PluginState::Running && s.pid != killed).await;
        if kill == WARM_AFTER + 1 {
            warm = Some(Gauge::read());
        }
        if kill % 2 == 0 {
            let got = received(&rig.config.state_dir, "victim").len();
            let answered = answers.victim.load(Ordering::Relaxed);
            let lively = || {
                received(&rig.config.state_dir, "victim").len() > got
                    && answers.victim.load(Ordering::Relaxed) > answered
            };
            patiently("the victim gets an event and answers", lively).await;
        }
        killed = running.pid;
        send_signal(running.pid.unwrap(), rustix::process::Signal::KILL);
        patiently("the victim is gone", || !is_alive(running.pid.unwrap())).await;
    }
    let back = until(host, "victim", |s| s.state == PluginState::Running && s.pid != killed).await;
    assert_eq!((back.starts, back.crashes), (u64::from(KILLS) + 1, u64::from(KILLS)));
    (warm.unwrap(), Gauge::read())
}

async fn patiently(what: &str, mut reached: impl FnMut() -> bool) {
    let look = async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("never happened: {what}"));
}

fn report(warm: &Gauge, end: &Gauge, published: &[String], answers: &Answers, got: &[String]) {
    let different: HashSet<&String> = got.iter().collect();
    eprintln!(
        "{KILLS} kills: {} events published, the victim got {} so far ({} times); the neighbour answered {}, the victim {}, without it {:?}; after {WARM_AFTER} kills {warm:?}, at the end {end:?}",
        published.len(),
        different.len(),
        got.len(),
        answers.neighbour.load(Ordering::Relaxed),
        answers.victim.load(Ordering::Relaxed),
        answers.without.lock().unwrap(),
    );
}
