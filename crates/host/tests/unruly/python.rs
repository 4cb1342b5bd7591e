//! Not a sin: the two plugins in plain Python, dropped into the directory of a host that runs, work at once.

use temps_host::plugin::PluginState;
use temps_host::store::{DeliveryFilter, DeliveryState};

use crate::rig::{PATIENCE, until};
use crate::scene::Scene;

async fn works(file: &str, name: &str, channel: &'static str, via: &str) {
    let scene = Scene::new().await;
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/plain-python/");
    std::fs::copy(format!("{example}{file}"), scene.rig.plugins().join(file)).unwrap();
    let running = until(&scene.host, name, |seen| seen.state == PluginState::Running).await;
    assert_eq!((running.channel, running.starts, running.crashes), (Some(channel), 1, 0));
    until(&scene.host, name, |seen| seen.health == Some("ok")).await;
    let id = scene.publish("deployment.succeeded").await;
    let settled = async {
        loop {
            let filter = DeliveryFilter {
                plugin: Some(name.into()),
                state: Some(DeliveryState::Settled),
                limit: 10,
                ..DeliveryFilter::default()
            };
            let done = scene.host.store().deliveries(filter).await.unwrap();
            if let Some(delivery) = done.into_iter().find(|delivery| delivery.event_id == id) {
                return delivery;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let delivery = tokio::time::timeout(PATIENCE, settled).await.unwrap();
    assert_eq!((delivery.via.map(|via| via.as_str()), delivery.attempts), (Some(via), 1));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_one_of_25_lines_gets_events_by_post() {
    works("minimal.py", "plain-python", "none", "http").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_one_of_80_lines_gets_them_over_its_channel() {
    works("with-channel.py", "plain-python-channel", "open", "channel").await;
}
