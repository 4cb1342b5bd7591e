//! Opening a channel: what the plugin is sent, and what its answers mean.

use std::time::Duration;

use temps_host::channel::{OpenError, Opened, open, open_over};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::rig::{Mood, Rig, SECRET, in_time};

async fn read_head(plugin: &mut UnixStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(in_time(plugin.read_u8()).await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn answered_with(bytes: &[u8]) -> Result<Opened, OpenError> {
    let rig = Rig::new(Mood::Honest);
    let (host, mut plugin) = UnixStream::pair().unwrap();
    let answer = async {
        read_head(&mut plugin).await;
        plugin.write_all(bytes).await.unwrap();
    };
    tokio::join!(open_over(rig.spec.clone(), host), answer).0
}

#[tokio::test]
async fn the_upgrade_carries_the_secret_as_a_bearer_and_asks_localhost() {
    let rig = Rig::new(Mood::Honest);
    let (host, mut plugin) = UnixStream::pair().unwrap();
    let opening = tokio::spawn(open_over(rig.spec.clone(), host));
    let head = read_head(&mut plugin).await;
    drop(plugin);
    assert!(matches!(opening.await.unwrap(), Err(OpenError::NotUnderstood(_))));
    assert!(head.starts_with("GET /_temps/channel HTTP/1.1\r\n"), "{head}");
    let mut lines: Vec<String> = head.lines().skip(1).map(str::to_ascii_lowercase).collect();
    lines.retain(|line| !line.is_empty() && !line.starts_with("sec-websocket-key: "));
    lines.sort_unstable();
    let bearer = format!("authorization: bearer {SECRET}");
    assert_eq!(
        lines,
        [
            &bearer,
            "connection: upgrade",
            "host: localhost",
            "sec-websocket-version: 13",
            "upgrade: websocket"
        ]
    );
}

#[tokio::test]
async fn four_answers_mean_that_there_is_no_channel_and_all_others_that_the_start_failed() {
    for status in [404, 400, 426, 501] {
        let answer = format!("HTTP/1.1 {status} No\r\nContent-Length: 2\r\n\r\nno");
        match answered_with(answer.as_bytes()).await {
            Ok(Opened::Unsupported { status: found }) => assert_eq!(found, status),
            other => panic!("{status}: {other:?}"),
        }
    }
    for status in [200, 204, 302, 401, 403, 409, 500, 503] {
        let answer = format!("HTTP/1.1 {status} Hm\r\nContent-Length: 2\r\n\r\nno");
        match answered_with(answer.as_bytes()).await {
            Err(OpenError::Refused { status: found }) => assert_eq!(found, status),
            other => panic!("{status}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_no_http_is_told() {
    for answer in [&b"SSH-2.0-OpenSSH_9\r\n\r\n"[..], &[0xff; 100], b"HTTP/1.1 101 Switching\r\n\r\n"] {
        let result = answered_with(answer).await;
        assert!(matches!(result, Err(OpenError::NotUnderstood(_))), "{result:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_never_answers_the_upgrade_is_given_up() {
    let rig = Rig::new(Mood::Honest);
    let (host, _plugin) = UnixStream::pair().unwrap();
    let result = in_time(open_over(rig.spec.clone(), host)).await;
    assert!(matches!(result, Err(OpenError::NoAnswer)), "{result:?}");
}

#[tokio::test]
async fn a_plugin_that_says_ready_before_it_listens_is_waited_for() {
    let rig = Rig::new(Mood::Honest);
    let path = rig.directory.path().join("s");
    // This process plays the plugin's part, so it is the launcher's, too.
    let opening = tokio::spawn({
        let (spec, path) = (rig.spec.clone(), path.clone());
        async move { open(spec, &path, std::process::id()).await }
    });
    tokio::time::sleep(Duration::from_millis(60)).await;
    let listener = UnixListener::bind(&path).unwrap();
    let (plugin, _) = in_time(listener.accept()).await.unwrap();
    let _plugin = tokio_tungstenite::accept_async(plugin).await.unwrap();
    assert!(matches!(opening.await.unwrap(), Ok(Opened::Channel(_))));
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_never_listens_is_given_up() {
    let rig = Rig::new(Mood::Honest);
    let path = rig.directory.path().join("none");
    let result = in_time(open(rig.spec.clone(), &path, std::process::id())).await;
    assert!(matches!(result, Err(OpenError::Connect(_))), "{result:?}");
}
