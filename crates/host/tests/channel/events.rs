//! Events, pings and the end of a channel, as other rooms of the host use them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use serde_json::json;
use temps_host::channel::{ChannelClosed, ChannelEnd};
use tokio::io::AsyncReadExt;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::rig::{Mood, Rig, event, in_time};

#[tokio::test]
async fn events_arrive_in_order_as_they_stand_in_the_journal() {
    let rig = Rig::new(Mood::Honest);
    let (channel, mut plugin) = rig.open().await;
    channel.send_events((0..200).map(event).collect()).await.unwrap();
    channel.send_events(vec![event(200)]).await.unwrap();
    for number in 0..=200 {
        assert_eq!(plugin.text().await, format!(r#"{{"type":"event","event":{}}}"#, event(number)));
    }
    assert_eq!(rig.metric("temps_channel_frames_total{plugin=\"tried\",kind=\"out\"}"), 201);
}

#[tokio::test]
async fn events_get_the_flat_shape_once_an_untyped_request_was_seen() {
    let rig = Rig::new(Mood::Honest);
    let (channel, mut plugin) = rig.open().await;
    channel.send_events(vec![event(1)]).await.unwrap();
    assert!(plugin.frame().await.get("event_type").is_none());
    plugin.send(json!({"id": "a", "method": "list_projects"})).await;
    plugin.frame().await;
    channel.send_events(vec![event(2)]).await.unwrap();
    let frame = plugin.frame().await;
    assert_eq!((&frame["type"], &frame["event_type"]), (&json!("event"), &json!("deployment.ready")));
    assert_eq!(frame["event"]["data"], frame["data"]);
}

#[tokio::test]
async fn a_pong_proves_that_everything_before_was_read() {
    let rig = Rig::new(Mood::Honest);
    let (channel, mut plugin) = rig.open().await;
    channel.send_events(vec![event(1)]).await.unwrap();
    let mut ping = Box::pin(channel.ping());
    assert!(ping.as_mut().now_or_never().is_none());
    plugin.text().await;
    // Pongs that nobody asked for prove nothing.
    for payload in [&[0u8; 8][..], &[255; 8], b"", b"hello"] {
        plugin.0.send(Message::Pong(payload.to_vec().into())).await.unwrap();
    }
    plugin.send("not understood, and counted").await;
    in_time(async {
        while rig.metric("temps_channel_frames_total{plugin=\"tried\",kind=\"refused\"}") == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(ping.as_mut().now_or_never().is_none(), "an unasked pong was taken for the answer");
    let reading = tokio::spawn(async move { while plugin.0.next().await.is_some() {} });
    in_time(ping).await.unwrap();
    reading.abort();
}

#[tokio::test]
async fn a_late_pong_answers_for_all_pings_before_it() {
    let rig = Rig::new(Mood::Honest);
    let (channel, mut plugin) = rig.open().await;
    let pings: Vec<_> = (0..5)
        .map(|_| {
            let channel = channel.clone();
            tokio::spawn(async move { channel.ping().await })
        })
        .collect();
    let mut last = None;
    for _ in 0..5 {
        // The raw socket is not read by the library here, so that it answers only once.
        if let Message::Ping(payload) = plugin.message().await {
            last = Some(payload);
        }
    }
    plugin.0.send(Message::Pong(last.unwrap())).await.unwrap();
    for ping in pings {
        assert_eq!(in_time(ping).await.unwrap(), Ok(()));
    }
}

#[tokio::test]
async fn pings_of_the_plugin_are_answered() {
    let rig = Rig::new(Mood::Honest);
    let (_channel, mut plugin) = rig.open().await;
    plugin.0.send(Message::Ping(b"are you there"[..].into())).await.unwrap();
    assert_eq!(plugin.message().await, Message::Pong(b"are you there"[..].into()));
}

#[tokio::test]
async fn closing_sends_what_is_queued_and_says_goodbye() {
    let rig = Rig::new(Mood::Honest);
    let (channel, mut plugin) = rig.open().await;
    channel.send_events((0..100).map(event).collect()).await.unwrap();
    let closing = tokio::spawn({
        let channel = channel.clone();
        async move { channel.close().await }
    });
    for _ in 0..100 {
        plugin.text().await;
    }
    match plugin.message().await {
        Message::Close(Some(frame)) => assert_eq!(frame.code, CloseCode::Normal),
        other => panic!("{other:?}"),
    }
    while plugin.0.next().await.is_some() {}
    in_time(closing).await.unwrap();
    assert_eq!(channel.end(), Some(&ChannelEnd::ByHost));
    assert_eq!(channel.send_events(vec![event(1)]).await, Err(ChannelClosed));
    assert_eq!(channel.ping().await, Err(ChannelClosed));
}

#[tokio::test]
async fn a_channel_that_nobody_holds_any_more_is_closed() {
    let rig = Rig::new(Mood::Honest);
    let (channel, mut plugin) = rig.open().await;
    let closed = channel.closed.clone();
    drop(channel);
    assert!(matches!(plugin.message().await, Message::Close(_)));
    while plugin.0.next().await.is_some() {}
    in_time(closed.cancelled()).await;
}

#[tokio::test]
async fn a_plugin_that_goes_away_ends_the_channel_and_everybody_is_told() {
    let rig = Rig::new(Mood::Honest);
    let (channel, plugin) = rig.open().await;
    let ping = tokio::spawn({
        let channel = channel.clone();
        async move { channel.ping().await }
    });
    drop(plugin);
    in_time(channel.closed.cancelled()).await;
    assert_eq!(channel.end(), Some(&ChannelEnd::ByPlugin(None)));
    assert_eq!(in_time(ping).await.unwrap(), Err(ChannelClosed));

    let (channel, mut plugin) = rig.open().await;
    plugin.0.close(None).await.unwrap();
    in_time(channel.closed.cancelled()).await;
    assert!(matches!(channel.end(), Some(ChannelEnd::ByPlugin(_))));
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_never_reads_loses_its_channel_and_the_queue_stays_bounded() {
    let rig = Rig::new(Mood::Honest);
    let (channel, plugin) = rig.open().await;
    let kilobyte: Arc<str> = format!(r#"{{"id":"{}"}}"#, "x".repeat(1000)).into();
    let mut taken = 0;
    while in_time(channel.send_events(vec![kilobyte.clone()])).await.is_ok() {
        taken += 1;
        assert!(taken < 3000, "{taken} kB are queued for a plugin that reads nothing");
    }
    assert_eq!(channel.end(), Some(&ChannelEnd::SlowReader(30)));
    drop(plugin);
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_reads_little_by_little_keeps_its_channel() {
    let rig = Rig::new(Mood::Honest);
    let (channel, plugin) = rig.open().await;
    let backlog = tokio::spawn({
        let channel = channel.clone();
        async move { channel.send_events((0..20_000).map(event).collect()).await }
    });
    let mut socket = plugin.0.into_inner();
    // Some three events a second, for half an hour.
    for _ in 0..1800 {
        let mut piece = [0; 400];
        in_time(socket.read_exact(&mut piece)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(channel.end(), None);
    }
    backlog.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn closing_does_not_wait_for_a_plugin_that_does_not_read() {
    let rig = Rig::new(Mood::Honest);
    let (channel, _plugin) = rig.open().await;
    channel.send_events((0..20_000).map(event).collect()).await.unwrap();
    let begun = tokio::time::Instant::now();
    in_time(channel.close()).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}
