//! Plugins in trouble, and what becomes of their events: down for long, always failing, dying of one event.

use std::collections::HashSet;

use serde_json::{Value, json};
use temps_testkit::behaviour::{Behaviour, Sin};
use temps_testkit::binaries::{built_example, built_executable};
use temps_testkit::daemon::{Daemon, empty_home, eventually, put_plugin};
use temps_testkit::faults::ledger::Ledger;
use temps_testkit::faults::publisher::Flow;
use temps_testkit::faults::rest::{Rest, Target};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Events that are published while plugins are down: more than a plugin may have in flight or in a page, by far.
const MISSED: u64 = 3_000;

/// Publishers of these events.
const PUBLISHERS: u64 = 16;

/// A plugin that dies is back soon. Quarantine is as by default: nobody may get there for dying of an event.
const SETTINGS: &str = "[restart]\nbackoff_max = \"1s\"\nreset_after = \"2s\"\n";

/// Failures in a row after which deliveries pause.
const FAILURES: usize = 100;

struct Scene {
    daemon: Daemon,
    runtime: Runtime,
    rest: Rest,
    // Kept, so that the client knows where the daemon is.
    _target: watch::Sender<Option<Target>>,
}

impl Scene {
    /// A daemon with the plugin that acks, `reads` that knows nothing of acks, and `posts` that has no channel, and these.
    fn with(orders: &[Behaviour]) -> Self {
        let home = empty_home();
        std::fs::write(home.path().join("temps.toml"), SETTINGS).unwrap();
        put_plugin(home.path(), "acks", &built_example("temps-plugin-sdk", "ledger"));
        let plain = built_executable("temps-testkit", "plain-ledger");
        let posts = Behaviour::sinful("posts", Sin::ChannelRefused { status: 404 });
        for order in [Behaviour::honest("reads"), posts] {
            temps_testkit::unruly::install(&plain, &home.path().join("plugins"), &order.name, &order)
                .unwrap();
        }
        let unruly = built_executable("temps-testkit", "unruly");
        for order in orders {
            temps_testkit::unruly::install(&unruly, &home.path().join("plugins"), &order.name, order)
                .unwrap();
        }
        let daemon = Daemon::start_in(home, &["--log", "warn"]);
        let token = std::fs::read_to_string(daemon.home.path().join("state/admin-token")).unwrap();
        let target = Target { url: daemon.url.clone(), token: token.trim().to_owned() };
        let target = watch::Sender::new(Some(target));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let rest = Rest::new(target.subscribe());
        let scene = Self { daemon, runtime, rest, _target: target };
        let names = orders.iter().map(|order| order.name.clone());
        for name in ["acks", "reads", "posts"].map(str::to_owned).into_iter().chain(names) {
            scene.daemon.wait_for(&name, "running");
        }
        scene
    }

    fn publish(&self, events: u64) {
        let flow = Flow::new(events, u64::MAX);
        let mut publishers = tokio::task::JoinSet::new();
        for _ in 0..PUBLISHERS {
            publishers.spawn_on(flow.clone().publish(self.rest.clone(), true), self.runtime.handle());
        }
        self.runtime.block_on(publishers.join_all());
    }

    /// Ids of all events, in the journal's order.
    fn journal(&self) -> Vec<String> {
        let events = self.items("/api/events?after=0&limit=500");
        events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
    }

    fn items(&self, path: &str) -> Vec<Value> {
        self.runtime.block_on(self.rest.all(path)).unwrap()
    }

    fn dead(&self, plugin: &str) -> Vec<String> {
        let dead = self.items(&format!("/api/deliveries?plugin={plugin}&state=dead&limit=500"));
        dead.iter().map(|record| record["event_id"].as_str().unwrap().to_owned()).collect()
    }

    /// Ids of the events that a plugin handled, in its order.
    fn handled(&self, plugin: &str) -> Vec<String> {
        let mut ledger = Ledger::new(&self.daemon.home.path().join("state/data").join(plugin));
        ledger.look().unwrap();
        ledger.lines.into_iter().filter_map(|line| line.event).collect()
    }

    /// Waits until a plugin handled so many events, and returns them.
    fn has_handled(&self, plugin: &str, wanted: usize) -> Vec<String> {
        let mut seen = 0;
        loop {
            // However long all of them take on a busy machine, one more comes in time.
            let handled =
                eventually(&format!("{plugin} handled more than {seen} of {wanted} events"), || {
                    let handled = self.handled(plugin);
                    (handled.len() > seen).then_some(handled)
                });
            if handled.iter().collect::<HashSet<_>>().len() >= wanted {
                return handled;
            }
            seen = handled.len();
        }
    }

    /// Waits until an event is settled at a plugin, which shows that the plugin is well.
    fn is_well(&self, plugin: &str, id: &str) {
        self.daemon.json(&["event", "publish", "faults.tick", "--id", id]);
        let path = format!("/api/deliveries/{plugin}/{id}");
        eventually(&format!("{id} is settled at {plugin}"), || {
            let history = self.runtime.block_on(self.rest.get(&path)).ok()?;
            (history["delivery"]["state"] == "settled").then_some(())
        });
    }

    /// How many events of one kind the unruly plugins wrote.
    fn seen_by(&self, plugin: &str, id: &str) -> usize {
        let path = self.daemon.home.path().join("state/data").join(plugin).join("events.jsonl");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().filter(|line| line.contains(id)).count()
    }
}

#[test]
fn plugins_that_were_down_for_thousands_of_events_catch_up_in_order_and_get_each_once() {
    let scene = Scene::with(&[]);
    for plugin in ["acks", "reads", "posts"] {
        scene.daemon.json(&["plugin", "stop", plugin]);
    }
    scene.publish(MISSED);
    let journal = scene.journal();
    assert!(journal.len() as u64 >= MISSED);
    for plugin in ["acks", "reads", "posts"] {
        assert!(scene.handled(plugin).is_empty(), "{plugin} is down");
        scene.daemon.json(&["plugin", "start", plugin]);
    }
    for plugin in ["acks", "reads", "posts"] {
        assert_eq!(scene.has_handled(plugin, journal.len()), journal, "{plugin}");
    }
}

#[test]
fn a_plugin_that_always_fails_is_paused_with_the_reason_and_the_others_get_everything() {
    let failing = Behaviour::sinful("failing", Sin::AcksWithError).ready_field("features", json!(["ack"]));
    let scene = Scene::with(&[failing]);
    scene.publish(FAILURES as u64 + 50);
    let journal = scene.journal();
    for plugin in ["acks", "reads", "posts"] {
        assert_eq!(scene.has_handled(plugin, journal.len()), journal, "{plugin}");
    }
    let paused = eventually("its deliveries are paused", || {
        let info = scene.daemon.json(&["plugin", "info", "failing"]);
        info["deliveries"]["paused"]["paused_by"].is_string().then_some(info)
    });
    assert_eq!(paused["deliveries"]["paused"]["paused_by"], "host");
    assert_eq!(paused["state"], "running", "failing at events is no crash");
    let failed = scene.items("/api/attempts?plugin=failing&result=failed&limit=500");
    assert!(failed.len() >= FAILURES, "{}", failed.len());
    assert_eq!(failed[0]["answer"], "told to fail");
    for plugin in ["acks", "reads", "posts"] {
        let info = scene.daemon.json(&["plugin", "info", plugin]);
        assert!(info["deliveries"]["paused"].is_null() && scene.dead(plugin).is_empty(), "{plugin}: {info}");
    }
    // What it failed at is not lost: it is retried, and waits.
    let open = scene.items("/api/deliveries?plugin=failing&state=retrying&limit=500").len();
    let behind = paused["deliveries"]["lag_events"].as_u64().unwrap() as usize;
    assert!(
        open > 0 && open + behind >= journal.len(),
        "{open} retried, {behind} behind, of {}",
        journal.len()
    );
}

#[test]
fn an_event_that_kills_its_plugin_is_a_dead_letter_and_is_sent_again_by_command_and_by_rest() {
    let sin = Sin::CrashOnEvent { event_type: "faults.poison".into() };
    let scene = Scene::with(&[Behaviour::sinful("dies", sin)]);
    scene.daemon.json(&["event", "publish", "faults.poison", "--id", "poison"]);
    scene.publish(20);
    let buried =
        || eventually("the poison is a dead letter", || (scene.dead("dies") == ["poison"]).then_some(()));
    buried();
    let journal = scene.journal();
    for plugin in ["acks", "reads", "posts"] {
        assert_eq!(scene.has_handled(plugin, journal.len()), journal, "{plugin}");
    }
    for id in journal.iter().filter(|id| *id != "poison") {
        eventually(&format!("{id} came to the plugin behind the poison"), || {
            (scene.seen_by("dies", id) > 0).then_some(())
        });
    }
    let info = scene.daemon.json(&["plugin", "info", "dies"]);
    assert_ne!(info["state"], "quarantined", "{info}");

    // Letters that die one after the other, with nothing that goes well between, would be the plugin's own fault.
    scene.is_well("dies", "well-once");
    let before = scene.seen_by("dies", "\"poison\"");
    scene.daemon.json(&["delivery", "redeliver", "dies", "poison"]);
    eventually("the poison came again by command", || {
        (scene.seen_by("dies", "\"poison\"") > before).then_some(())
    });
    buried();
    scene.is_well("dies", "well-again");
    let before = scene.seen_by("dies", "\"poison\"");
    let path = "/api/plugins/dies/deliveries/redeliver";
    let (status, said) = scene.runtime.block_on(scene.rest.ask(http::Method::POST, path, None)).unwrap();
    assert!(status.is_success() && said["changed"] == 1, "{status} {said}");
    eventually("the poison came again by REST", || {
        (scene.seen_by("dies", "\"poison\"") > before).then_some(())
    });
    buried();
    assert_ne!(scene.daemon.json(&["plugin", "info", "dies"])["state"], "quarantined");
}
