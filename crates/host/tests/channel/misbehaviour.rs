//! Plugins that do what no plugin should: the host goes on, and says what it saw.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use proptest::prelude::*;
use serde_json::json;
use temps_host::channel::ChannelEnd;
use temps_host::protocol::limits::MAX_FRAME_BYTES;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::rig::{Mood, Plugin, Rig, in_time};

const REFUSED: &str = "temps_channel_frames_total{plugin=\"tried\",kind=\"refused\"}";

#[tokio::test]
async fn frames_that_are_none_are_counted_and_not_answered() {
    let rig = Rig::new(Mood::Honest);
    let (_channel, mut plugin) = rig.open().await;
    let garbage =
        ["", "null", "{", "[1,2", "{\"type\":\"hello\"}", "{\"type\":\"request\",\"id\":1}", "\u{0}\u{fffd}"];
    for frame in garbage {
        plugin.send(frame).await;
    }
    plugin.0.send(Message::binary(vec![0; 100])).await.unwrap();
    plugin.send(r#"{"type":"ack","id":"e","status":"ok"}"#).await;
    // The first answer is that of the first request.
    assert_eq!(plugin.ask("get_project", json!({"project_id": 1})).await["id"], 1);
    assert_eq!(rig.metric(REFUSED), garbage.len() as u64 + 2);
}

#[tokio::test]
async fn a_frame_beyond_the_bound_closes_the_channel_with_1009() {
    let rig = Rig::new(Mood::Honest);
    let (channel, plugin) = rig.open().await;
    let (mut sink, mut stream) = plugin.0.split();
    // A request of the largest size is read; its answer is an error, since no project has this id.
    let pad = "x".repeat(MAX_FRAME_BYTES - 57);
    let largest = format!(r#"{{"type":"request","id":1,"method":"nothing","pad":"{pad}"}}"#);
    assert!((MAX_FRAME_BYTES - 10..=MAX_FRAME_BYTES).contains(&largest.len()), "{}", largest.len());
    sink.send(Message::text(largest)).await.unwrap();
    assert!(in_time(stream.next()).await.unwrap().unwrap().is_text());
    let sending =
        tokio::spawn(async move { sink.send(Message::text("x".repeat(4 * MAX_FRAME_BYTES))).await });
    loop {
        match in_time(stream.next()).await {
            Some(Ok(Message::Close(Some(frame)))) => break assert_eq!(frame.code, CloseCode::Size),
            Some(Ok(_)) => {}
            other => panic!("no goodbye: {other:?}"),
        }
    }
    in_time(channel.closed.cancelled()).await;
    assert_eq!(channel.end(), Some(&ChannelEnd::FrameTooLong));
    // Whether the plugin's own sending failed or not is its business; it does not hang.
    let _ = in_time(sending).await;
}

#[tokio::test]
async fn a_flood_of_requests_gets_an_answer_each_and_other_channels_go_on() {
    const FLOOD: usize = 5_000;
    let rig = Rig::new(Mood::Honest);
    let (_channel, plugin) = rig.open().await;
    let (_other_channel, mut other) = rig.open().await;
    let (mut sink, mut stream) = plugin.0.split();
    let flood = tokio::spawn(async move {
        for id in 0..FLOOD {
            let frame =
                json!({"type": "request", "id": id, "method": "get_project", "params": {"project_id": 1}});
            sink.feed(Message::text(frame.to_string())).await.unwrap();
        }
        sink.flush().await.unwrap();
        sink
    });
    let mut seen = vec![false; FLOOD];
    for answered in 0..FLOOD {
        if answered % 1000 == 0 {
            assert_eq!(other.ask("get_project", json!({"project_id": 2})).await["id"], 2);
        }
        let text = in_time(stream.next()).await.unwrap().unwrap().into_text().unwrap();
        let answer: serde_json::Value = serde_json::from_str(text.as_str()).unwrap();
        let id = usize::try_from(answer["id"].as_u64().unwrap()).unwrap();
        assert!(!std::mem::replace(&mut seen[id], true), "{id} was answered twice");
        assert!(answer["result"]["id"] == 1 || answer["error"]["code"] == "busy", "{answer}");
    }
    drop(flood.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_garbage_is_slowed_down() {
    let rig = Rig::new(Mood::Honest);
    let (_channel, mut plugin) = rig.open().await;
    let begun = tokio::time::Instant::now();
    for _ in 0..20_000 {
        plugin.0.feed(Message::text("garbage")).await.unwrap();
    }
    assert_eq!(plugin.ask("get_project", json!({"project_id": 1})).await["id"], 1);
    assert!(begun.elapsed() > Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(rig.metric(REFUSED), 20_000);
}

#[tokio::test]
async fn a_plugin_that_asks_and_never_reads_is_not_read_from_any_more() {
    let rig = Rig::new(Mood::Honest);
    let (channel, mut plugin) = rig.open().await;
    let request =
        json!({"type": "request", "id": 1, "method": "get_project", "params": {"project_id": 1}}).to_string();
    // Its own sending comes to a stand, since the host takes no more than it can answer.
    let stands = async {
        let mut sent = 0;
        while let Ok(result) =
            tokio::time::timeout(Duration::from_millis(500), plugin.0.send(Message::text(request.clone())))
                .await
        {
            result.unwrap();
            sent += 1;
            assert!(sent < 200_000, "the host took {sent} requests without an answer read");
        }
    };
    in_time(stands).await;
    assert_eq!(channel.end(), None);
}

#[tokio::test]
async fn bytes_that_are_no_websocket_end_the_channel() {
    let rig = Rig::new(Mood::Honest);
    let (channel, plugin) = rig.open().await;
    let mut socket = plugin.0.into_inner();
    // Reserved bits and an unknown operation.
    socket.write_all(&[0xff; 64]).await.unwrap();
    in_time(channel.closed.cancelled()).await;
    assert!(matches!(channel.end(), Some(ChannelEnd::Broken(_))), "{:?}", channel.end());
}

#[tokio::test]
async fn half_a_frame_and_silence_keep_nobody_from_closing() {
    let rig = Rig::new(Mood::Honest);
    let (channel, plugin) = rig.open().await;
    let mut socket = plugin.0.into_inner();
    socket.write_all(&[0x81, 126, 0x10]).await.unwrap();
    in_time(channel.close()).await;
    assert_eq!(channel.end(), Some(&ChannelEnd::ByHost));
}

/// What a plugin may put on the wire, from bytes to almost right frames.
fn wire() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![
        "\\PC{0,60}",
        Just(r#"{"type":"request","id":1,"method":"get_project","params":{"project_id":1}}"#.to_owned()),
        "\\{\"(type|id|method|params)\":(1|null|\"request\"|\\{\\}|\\[\\])\\}",
    ];
    let frame = (0u8..=15, any::<bool>(), text).prop_map(|(operation, last, text)| {
        let payload = &text.as_bytes()[..text.len().min(125)];
        let length = u8::try_from(payload.len()).unwrap();
        [&[u8::from(last) << 7 | operation, length], payload].concat()
    });
    let piece = prop_oneof![proptest::collection::vec(any::<u8>(), 0..40), frame];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

#[test]
fn whatever_bytes_come_the_channel_ends_with_a_reason_and_the_host_goes_on() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rig = runtime.block_on(async { Rig::new(Mood::Honest) });
    proptest!(ProptestConfig::with_cases(300), |(bytes in wire())| {
        runtime.block_on(async {
            let (channel, Plugin(socket)) = rig.open().await;
            let mut socket = socket.into_inner();
            // The host may have closed already.
            let _ = socket.write_all(&bytes).await;
            let _ = socket.shutdown().await;
            let mut rest = Vec::new();
            let _ = in_time(socket.read_to_end(&mut rest)).await;
            in_time(channel.closed.cancelled()).await;
            assert!(matches!(
                channel.end(),
                Some(ChannelEnd::ByPlugin(_) | ChannelEnd::Broken(_) | ChannelEnd::FrameTooLong)
            ), "{:?}", channel.end());
            let (_channel, mut next) = rig.open().await;
            assert_eq!(next.ask("get_project", json!({"project_id": 1})).await["id"], 1);
        });
    });
}
