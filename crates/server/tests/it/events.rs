//! Events over REST: published, followed, picked up again.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::rig::{PATIENCE, Rig};

/// Reads a stream until it has given so many events.
async fn read(mut stream: Response, count: usize) -> Vec<Value> {
    let reading = async {
        let mut text = String::new();
        loop {
            let found: Vec<Value> = text
                .lines()
                .filter_map(|line| line.strip_prefix("data: ").or_else(|| line.strip_prefix("data:")))
                .filter_map(|data| serde_json::from_str(data).ok())
                .collect();
            if found.len() >= count {
                return found;
            }
            let chunk = stream.chunk().await.unwrap().expect("the stream goes on");
            text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the events must come")
}

#[tokio::test]
async fn publishing_twice_with_one_id_is_publishing_once() {
    let rig = Rig::start().await;
    let body = json!({ "id": "order-1", "event_type": "order.placed", "data": { "amount": 3 } });
    let (first_status, first) = rig.post("/api/events", &body).await;
    let (second_status, second) = rig.post("/api/events", &body).await;
    assert_eq!((first_status.as_u16(), second_status.as_u16()), (201, 200));
    assert_eq!((first["duplicate"].clone(), second["duplicate"].clone()), (json!(false), json!(true)));
    assert_eq!(first["seq"], second["seq"]);
    let found = rig.get("/api/events/order-1").await;
    assert_eq!(found["data"], json!({ "amount": 3 }));
    assert_eq!(rig.event_types().await, ["order.placed"]);
    rig.stop().await;
}

#[tokio::test]
async fn a_stream_gives_new_events_and_one_that_comes_back_misses_none() {
    let rig = Rig::start().await;
    let publish = async |name: &str| rig.post("/api/events", &json!({ "event_type": name })).await;
    publish("before.all").await;
    let stream = rig.request(Method::GET, "/api/events/stream?type=order.*").send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    for name in ["order.placed", "other.thing", "order.paid"] {
        publish(name).await;
    }
    let seen = read(stream, 2).await;
    assert_eq!(
        (seen[0]["event_type"].as_str(), seen[1]["event_type"].as_str()),
        (Some("order.placed"), Some("order.paid"))
    );
    publish("order.sent").await;
    let back =
        rig.request(Method::GET, "/api/events/stream").header("last-event-id", seen[0]["seq"].to_string());
    let missed = read(back.send().await.unwrap(), 3).await;
    let types: Vec<_> = missed.iter().map(|event| event["event_type"].as_str().unwrap()).collect();
    assert_eq!(types, ["other.thing", "order.paid", "order.sent"]);
    rig.stop().await;
}

#[tokio::test]
async fn an_open_stream_does_not_keep_the_daemon_from_ending() {
    let rig = Rig::start().await;
    let stream = rig.request(Method::GET, "/api/events/stream").send().await.unwrap();
    rig.stop().await;
    drop(stream);
}
