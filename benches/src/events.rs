//! Events from publish to the plugins' handlers, against bare sockets that carry and parse the same bytes.

use std::time::Instant;

use temps_protocol::PluginEvent;

use crate::Outcome;
use crate::floor;
use crate::rig::Rig;
use crate::stats::Figure;

/// Events of one burst. A plugin that does not confirm events may have 10,000 unsettled ones, each for five seconds after it was
/// read: longer runs would measure that rule and not the host.
const BURST: usize = 9_000;

/// Events published at the same time by the rig's publishers, so that group commit has something to group.
pub(crate) const PUBLISHERS: usize = 64;

pub(crate) async fn measure() -> Outcome<Vec<Figure>> {
    let mut figures = Vec::new();
    for (plugins, events) in [(1, BURST), (10, BURST), (100, 3_000)] {
        for name in ["bench", "plain"] {
            figures.push(push(name, plugins, events).await?);
        }
    }
    Ok(figures)
}

async fn push(name: &str, plugins: usize, events: usize) -> Outcome<Figure> {
    let rig = Rig::start().await?;
    rig.drop_plugins_named(name, plugins)?;
    rig.running(plugins).await?;
    let begin = Instant::now();
    let waiting: Vec<_> = (0..plugins)
        .map(|index| {
            let path = format!("/wait?count={events}");
            let rig = &rig;
            async move { rig.get(&format!("{name}-{index}"), &path).await }
        })
        .collect();
    let (published, received) = tokio::join!(publish(&rig, PUBLISHERS, events), all(waiting));
    published?;
    received?;
    let value = (events * plugins) as f64 / begin.elapsed().as_secs_f64();
    let mut line = serde_json::json!({"type": "event", "event": sample_event()}).to_string().into_bytes();
    line.push(b'\n');
    let floor = floor::fan_out(rig.directory.path(), plugins, &line, events).await?;
    rig.host.shutdown().await;
    let acks = if name == "plain" { "without acks" } else { "with acks" };
    let name = format!("events journalled and delivered to {plugins} plugin(s) {acks}");
    Ok(Figure::new(
        &name,
        "deliveries/s",
        value,
        "same bytes over bare sockets, parsed, not journalled",
        floor,
    ))
}

async fn all<F: Future<Output = Outcome<Vec<u8>>>>(waiting: Vec<F>) -> Outcome<()> {
    let mut waiting: Vec<_> = waiting.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|context| {
        let mut failure = None;
        waiting.retain_mut(|future| match future.as_mut().poll(context) {
            std::task::Poll::Ready(Ok(_)) => false,
            std::task::Poll::Ready(Err(error)) => {
                failure = Some(error);
                false
            }
            std::task::Poll::Pending => true,
        });
        match failure {
            Some(error) => std::task::Poll::Ready(Err(error)),
            None if waiting.is_empty() => std::task::Poll::Ready(Ok(())),
            None => std::task::Poll::Pending,
        }
    })
    .await
}

/// Publishes `events` events by so many publishers at once.
pub(crate) async fn publish(rig: &Rig, publishers: usize, events: usize) -> Outcome<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for publisher in 0..publishers {
        let host = rig.host.clone();
        let share = events / publishers + usize::from(publisher < events % publishers);
        tasks.spawn(async move {
            for _ in 0..share {
                host.publish(sample_event()).await.map_err(|error| error.to_string())?;
            }
            Ok::<_, String>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// An event like those of a real platform.
pub(crate) fn sample_event() -> PluginEvent {
    PluginEvent {
        id: uuid::Uuid::now_v7().to_string(),
        event_type: "deployment.succeeded".into(),
        timestamp: chrono::Utc::now(),
        project_id: Some(42),
        data: serde_json::json!({
            "deployment_id": 100, "project_id": 42, "environment_id": 7, "environment_name": "production",
            "url": "https://myapp.example.com", "commit_sha": "a1b2c3d"
        }),
    }
}
